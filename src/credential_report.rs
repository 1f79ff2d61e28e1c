//! Reads IAM's credential report: who has a console password, and who has MFA.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html>

use chrono::{DateTime, TimeDelta, Utc};

use crate::identifiers::UserName;

/// One user in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The user's name.
    pub user: UserName,
    /// The user's ARN, with its path.
    pub arn: String,
    /// When the user was created.
    pub created: Option<DateTime<Utc>>,
    /// Whether it has a console password.
    pub has_password: bool,
    /// When the password was last set; missing where the report does not know.
    pub password_last_changed: Option<DateTime<Utc>>,
    /// Whether it has an MFA device.
    pub has_mfa: bool,
    /// Use of password and access keys.
    pub activity: Activity,
}

/// An access key that was used within this time is in use. If the policy denies access keys, attaching it stops the key.
pub const KEY_IN_USE: TimeDelta = TimeDelta::days(90);

/// Whether a key that was last used at this time is in use.
#[must_use]
pub fn is_key_in_use(last_used: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    last_used.is_some_and(|used| now - used < KEY_IN_USE)
}

/// How a user's credentials are used. The report shows the use of a key some hours late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// When the password was last used to sign in; missing if it never was, or not since October 2014.
    pub password_last_used: Option<DateTime<Utc>>,
    /// Number of active access keys, at most 2.
    pub access_keys: u8,
    /// When an active access key was last used; missing if none was, or not since April 2015.
    pub access_key_last_used: Option<DateTime<Utc>>,
}

/// The text is not a credential report: it lacks this column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential report has no column {0}")]
pub struct MissingColumn(&'static str);

/// Reads a report. The row of the root user is left out: it is no IAM user.
///
/// A row that cannot be read is left out too. A sweep looks up each user who is missing from the report, so that no
/// user is lost by that.
///
/// # Errors
/// [`MissingColumn`] if the header is not that of a credential report.
pub fn read(report: &[u8]) -> Result<Vec<Row>, MissingColumn> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(report);
    let header = reader.byte_headers().cloned().unwrap_or_default();
    let column = |name: &'static str| {
        header.iter().position(|title| title.trim_ascii() == name.as_bytes()).ok_or(MissingColumn(name))
    };
    let [user, arn, created, has_password, password_last_changed, has_mfa] = [
        column("user")?,
        column("arn")?,
        column("user_creation_time")?,
        column("password_enabled")?,
        column("password_last_changed")?,
        column("mfa_active")?,
    ];
    // These columns decide nothing: without them a sweep works as well.
    let optional = |name: &'static str| column(name).ok();
    let password_last_used = optional("password_last_used");
    let keys = [
        (optional("access_key_1_active"), optional("access_key_1_last_used_date")),
        (optional("access_key_2_active"), optional("access_key_2_last_used_date")),
    ];
    let mut rows = Vec::new();
    for record in reader.byte_records().filter_map(Result::ok).filter(|record| record.len() == header.len()) {
        let text = |column: usize| record.get(column).and_then(|field| str::from_utf8(field).ok()).unwrap_or_default();
        let Some(name) = UserName::new(text(user)) else { continue };
        let Some(has_password) = flag(text(has_password)) else { continue };
        let active = keys.iter().filter(|(active, _)| active.is_some_and(|column| flag(text(column)) == Some(true)));
        let active = active.map(|(_, last_used)| *last_used);
        rows.push(Row {
            user: name,
            arn: text(arn).to_owned(),
            created: time(text(created)),
            has_password,
            password_last_changed: time(text(password_last_changed)),
            has_mfa: flag(text(has_mfa)) == Some(true),
            activity: Activity {
                password_last_used: password_last_used.and_then(|column| time(text(column))),
                access_keys: active.clone().map(|_| 1).sum(),
                access_key_last_used: active.filter_map(|used| time(text(used?))).max(),
            },
        });
    }
    Ok(rows)
}

impl Row {
    /// The user's path, from its ARN; `/` if it has none.
    #[must_use]
    pub fn path(&self) -> &str {
        let with_slashes = self.arn.split_once(":user").map_or("/", |(_, rest)| rest);
        with_slashes.rfind('/').map_or("/", |end| &with_slashes[..=end])
    }

    /// Takes another path for the user's, one that is known to be newer.
    pub(crate) fn move_to(&mut self, path: &str) {
        if self.path() != path
            && let Some((account, _)) = self.arn.split_once(":user")
        {
            self.arn = format!("{account}:user{path}{}", self.user);
        }
    }
}

/// `true`, `false`, or a word such as `no_information`.
fn flag(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A time, or a word such as `N/A`, `no_information`, `not_supported`.
fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,\
                          password_next_rotation,mfa_active,access_key_1_active";

    fn report(rows: &[&str]) -> Vec<Row> {
        read([&[HEADER], rows].concat().join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_row_tells_password_and_mfa() {
        let rows = report(&[
            "<root_account>,arn:aws:iam::123456789012:root,2020-01-01T00:00:00+00:00,not_supported,no_information,not_supported,not_supported,true,false",
            "alice,arn:aws:iam::123456789012:user/eng/eu/alice,2026-01-01T00:00:00+00:00,true,no_information,2026-02-01T00:00:00+00:00,N/A,false,false",
            "ci,arn:aws:iam::123456789012:user/ci,2026-01-01T00:00:00+00:00,false,N/A,N/A,N/A,false,true",
        ]);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].user.as_str(), rows[0].path()), ("alice", "/eng/eu/"));
        assert!(rows[0].has_password && !rows[0].has_mfa);
        assert_eq!(rows[0].password_last_changed.unwrap().to_rfc3339(), "2026-02-01T00:00:00+00:00");
        assert_eq!((rows[1].user.as_str(), rows[1].path(), rows[1].has_password), ("ci", "/", false));
        assert_eq!(rows[1].password_last_changed, None);
    }

    #[test]
    fn columns_are_found_by_name() {
        let rows = read(b"mfa_active,password_last_changed,password_enabled,user_creation_time,arn,user,new_column\nTRUE,N/A,TRUE,x,,bob,1").unwrap();
        assert!(rows[0].has_password && rows[0].has_mfa && rows[0].created.is_none());
        assert_eq!(rows[0].path(), "/");
    }

    #[test]
    fn a_name_with_a_comma_is_read_if_quoted_and_its_row_left_out_if_not() {
        let rest = "2026-01-01T00:00:00+00:00,true,N/A,N/A,N/A,false,false";
        let rows = report(&[
            &format!("\"a,b\",\"arn:aws:iam::123456789012:user/a,b\",{rest}"),
            &format!("c,d,arn:aws:iam::123456789012:user/c,d,{rest}"),
        ]);
        assert_eq!(rows.iter().map(|row| row.user.as_str()).collect::<Vec<_>>(), ["a,b"]);
    }

    #[test]
    fn an_arn_that_is_none_has_no_path() {
        for arn in ["", "x", "arn:aws:iam::123456789012:user", "arn:aws:iam::123456789012:user\u{e9}", ":user/"] {
            let rows = report(&[&format!("alice,{arn},2026-01-01T00:00:00+00:00,true,N/A,N/A,N/A,false,false")]);
            assert_eq!(rows[0].path(), "/", "{arn}");
        }
    }

    #[test]
    fn what_is_no_credential_report_is_refused() {
        for bad in [&b""[..], b"<html>", b"user,arn\nalice,x", &[0xff, 0xfe, 0x00]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_active_keys_count() {
        const HEADER: &str = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,\
                              mfa_active,access_key_1_active,access_key_1_last_used_date,access_key_2_active,\
                              access_key_2_last_used_date";
        let begin = "alice,arn:aws:iam::123456789012:user/alice,2026-01-01T00:00:00+00:00,true";
        let used = |day: u8| format!("2026-03-0{day}T00:00:00+00:00");
        let at = |day: u8| Some(used(day).parse().unwrap());
        for (rest, expected) in [
            ("no_information,N/A,false,false,N/A,false,N/A".to_owned(), Activity::default()),
            (
                format!("{},N/A,false,true,{},true,{}", used(1), used(3), used(2)),
                Activity { password_last_used: at(1), access_keys: 2, access_key_last_used: at(3) },
            ),
            (
                format!("no_information,N/A,false,false,{},true,{}", used(3), used(2)),
                Activity { password_last_used: None, access_keys: 1, access_key_last_used: at(2) },
            ),
            (
                "no_information,N/A,false,true,N/A,false,N/A".to_owned(),
                Activity { password_last_used: None, access_keys: 1, access_key_last_used: None },
            ),
        ] {
            let rows = read(format!("{HEADER}\n{begin},{rest}").as_bytes()).unwrap();
            assert_eq!(rows[0].activity, expected, "{rest}");
        }
    }
}
