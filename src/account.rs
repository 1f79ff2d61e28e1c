//! Reads a whole account in a handful of pages: who has a password, who has MFA, who has the policy. Decides what the
//! reads alone decide about a user; writes nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::credential_report::{self, MissingColumn, Row};
use crate::exemption::Exemption;
use crate::iam::{Iam, IamError, IamErrorKind, ListedUser};
use crate::identifiers::{GroupName, PolicyArn, UserName};
use crate::settings::{Scope, Settings};

/// IAM makes a report within seconds; how often to ask.
const REPORT_PAUSE: Duration = Duration::from_secs(2);

/// IAM shows a new user within about 30 seconds. One that is older and not in the list is gone.
const LISTED_AFTER: TimeDelta = TimeDelta::minutes(5);

/// Times in a listing and in the report may differ by their rounding.
const ROUNDING: TimeDelta = TimeDelta::seconds(1);

/// Why an account could not be read. The messages say what failed; what to do depends on who reads them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// A list or the credential report could not be read.
    #[error("{error}")]
    Unreadable {
        /// The call and what it failed with.
        #[from]
        error: IamError,
    },
    /// IAM's answer is not a credential report.
    #[error(transparent)]
    BadReport(#[from] MissingColumn),
    /// The policy does not exist.
    #[error("the policy {0} does not exist (GetPolicy answered NoSuchEntity)")]
    PolicyMissing(PolicyArn),
    /// IAM had no credential report until the time was over; with its last refusal, if it refused to make one.
    #[error(
        "IAM had no credential report ready in time{}",
        .0.as_ref().map(|refusal| format!(" ({refusal})")).unwrap_or_default()
    )]
    NoReport(Option<IamError>),
}

impl AccountError {
    /// The `errorType` of the failed invocation.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Unreadable { error } => error.kind.error_type(),
            Self::BadReport(_) => "iam_error",
            Self::PolicyMissing(_) => "policy_missing",
            Self::NoReport(_) => "sweep_incomplete",
        }
    }
}

/// An account at the time of its credential report, and what has come since.
#[derive(Debug)]
pub struct Account {
    /// The users of the report that have a password.
    pub console_users: Vec<Row>,
    /// The users of the report that have none.
    pub other_users: Vec<Row>,
    /// Users who are missing from the report: created, renamed, or created again after IAM generated it.
    pub unreported: Vec<ListedUser>,
    /// Names of listed users that no IAM call takes. These users cannot be looked up.
    pub unusable_names: Vec<String>,
    /// When IAM generated the report.
    pub reported_at: DateTime<Utc>,
    /// When the policy was created: the day of installation.
    pub policy_created: DateTime<Utc>,
    coverage: Coverage,
}

/// A user of the account as the reads show it.
#[derive(Clone, Copy, Debug)]
pub enum AccountUser<'a> {
    /// A row of the credential report. Whether it has a password is known.
    Reported(&'a Row),
    /// A user who is missing from the report. Only a look-up of the login profile shows whether it has a password.
    Unreported(&'a ListedUser),
}

impl<'a> AccountUser<'a> {
    /// The user's name.
    #[must_use]
    pub const fn name(self) -> &'a UserName {
        match self {
            Self::Reported(row) => &row.user,
            Self::Unreported(user) => &user.name,
        }
    }

    /// The path, `/` if it has none. It is the listed one, which is newer than the report.
    #[must_use]
    pub fn path(self) -> &'a str {
        match self {
            Self::Reported(row) => row.path(),
            Self::Unreported(user) => &user.path,
        }
    }

    /// When the user was created; `None` if the report has no such date.
    #[must_use]
    pub const fn created(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Reported(row) => row.created,
            Self::Unreported(user) => Some(user.created),
        }
    }
}

/// What the reads alone decide about a user. An existing or open user may still be exempt by a tag: no list shows tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has no password, and the scope is console users.
    OutOfScope,
    /// It has the policy. If the user is missing from the report, its password is still unknown.
    Covered(CoveredBy),
    /// A name or a path exempts it. If the user is missing from the report, its password is still unknown.
    Exempt(Exemption),
    /// It is an existing user, and not covered.
    Existing,
    /// It is not covered, and its login profile must be looked up.
    Open {
        /// Whether it is known to be newer than the policy. If not, the age of its login profile decides.
        is_new: bool,
    },
}

/// How a user comes by the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoveredBy {
    /// It is attached to the user.
    Attachment,
    /// It is attached to a group that the user is in.
    Group(GroupName),
}

#[derive(Debug, Default)]
struct Coverage {
    /// Folded names of users to whom the policy is attached.
    users: HashSet<String>,
    /// Groups to which it is attached.
    groups: Vec<GroupName>,
    /// Folded names of their members, with the place of the group in `groups`.
    members: HashMap<String, usize>,
}

impl Account {
    /// Reads the account with a client that is [paced](Iam::paced), in pages; returns an error rather than partial data.
    /// By `now` it decides which users of the report are too young to be missed in a list.
    ///
    /// # Errors
    /// If a list or the report cannot be had, or not by `until`.
    pub async fn read(iam: &Iam, policy: &PolicyArn, now: DateTime<Utc>, until: Instant) -> Result<Self, AccountError> {
        // IAM makes the report while the lists are read.
        let asked = ask_for_report(iam).await?;
        let policy_created =
            iam.policy_created(policy).await?.ok_or_else(|| AccountError::PolicyMissing(policy.clone()))?;
        let coverage = Coverage::read(iam, policy).await?;
        Self::read_users(iam, asked, now, until, policy_created, coverage).await
    }

    /// The same for an account that has no policy: nobody is covered, and everybody is an existing user.
    ///
    /// # Errors
    /// As [`Account::read`].
    pub async fn read_without_policy(iam: &Iam, now: DateTime<Utc>, until: Instant) -> Result<Self, AccountError> {
        let asked = ask_for_report(iam).await?;
        Self::read_users(iam, asked, now, until, DateTime::<Utc>::MAX_UTC, Coverage::default()).await
    }

    async fn read_users(
        iam: &Iam,
        asked: Result<bool, IamError>,
        now: DateTime<Utc>,
        until: Instant,
        policy_created: DateTime<Utc>,
        coverage: Coverage,
    ) -> Result<Self, AccountError> {
        let (report, reported_at) = credential_report(iam, asked, until).await?;
        let rows = credential_report::read(&report)?;
        // Read after the report, so that a user who is in neither did not exist when the sweep began.
        let (listed, unusable_names) = iam.users().await?;
        let (rows, unreported) = compare(rows, listed, now);
        let (console_users, other_users) = rows.into_iter().partition(|row| row.has_password);
        Ok(Self { console_users, other_users, unreported, unusable_names, reported_at, policy_created, coverage })
    }

    /// All users, first those who are missing from the report: they are the newest.
    pub fn users(&self) -> impl Iterator<Item = AccountUser<'_>> {
        let reported = self.console_users.iter().chain(&self.other_users).map(AccountUser::Reported);
        self.unreported.iter().map(AccountUser::Unreported).chain(reported)
    }

    /// What the reads decide about the user. The sweep and the command's `status` both rest on this one decision.
    #[must_use]
    pub fn standing(&self, user: AccountUser<'_>, settings: &Settings) -> Standing {
        let Settings { exemptions, scope, .. } = settings;
        let is_new = match (user, scope) {
            (AccountUser::Reported(row), _) if row.has_password => self.is_existing(row).map(|existing| !existing),
            (AccountUser::Reported(_), Scope::ConsoleUsers) => return Standing::OutOfScope,
            // Without a password, the age of the user decides.
            (AccountUser::Reported(row), Scope::AllUsers) => row.created.map(|created| created >= self.policy_created),
            // An older user may have got a password since: only its login profile has the date.
            (AccountUser::Unreported(user), _) => (user.created >= self.policy_created).then_some(true),
        };
        if let Some(by) = self.covered_by(user.name()) {
            return Standing::Covered(by);
        }
        if let Some(exemption) = exemptions.by_name(user.name()).or_else(|| exemptions.by_path(user.path())) {
            return Standing::Exempt(exemption);
        }
        match is_new {
            Some(false) => Standing::Existing,
            Some(true) => Standing::Open { is_new: true },
            None => Standing::Open { is_new: false },
        }
    }

    /// How the user comes by the policy, if it does.
    fn covered_by(&self, user: &UserName) -> Option<CoveredBy> {
        let name = user.folded();
        if self.coverage.users.contains(&name) {
            return Some(CoveredBy::Attachment);
        }
        self.coverage.members.get(&name).map(|group| CoveredBy::Group(self.coverage.groups[*group].clone()))
    }

    /// Whether the policy is attached to the group.
    #[must_use]
    pub(crate) fn group_has_policy(&self, group: &GroupName) -> bool {
        self.coverage.groups.contains(group)
    }

    /// Whether a console user is an existing user. `None` if only its login profile decides that: the report has the
    /// date on which the password was last set, which may be long after the user got it.
    fn is_existing(&self, row: &Row) -> Option<bool> {
        let before = |time: DateTime<Utc>| time < self.policy_created;
        if row.password_last_changed.is_some_and(before) {
            return Some(true);
        }
        row.created.is_some_and(|created| !before(created)).then_some(false)
    }
}

/// Asks IAM to generate a credential report. Returns whether one is complete, or a refusal that passes.
///
/// # Errors
/// If the call fails for another reason.
async fn ask_for_report(iam: &Iam) -> Result<Result<bool, IamError>, IamError> {
    match iam.generate_credential_report().await {
        Ok(complete) => Ok(Ok(complete)),
        Err(error) => Ok(Err(only_if_it_passes(error)?)),
    }
}

/// The credential report and when it was generated. `asked` is IAM's answer to the request to generate one.
///
/// IAM may refuse to make a report for minutes, at no fault of the account (`LimitExceeded`: no more capacity). One that
/// it made within the last four hours can be had meanwhile, so that a refusal does not stop a sweep. Without such a
/// report both calls are tried until `until`.
async fn credential_report(
    iam: &Iam,
    mut asked: Result<bool, IamError>,
    until: Instant,
) -> Result<(Vec<u8>, DateTime<Utc>), AccountError> {
    loop {
        let (may_be_there, mut refusal) = match asked {
            Ok(complete) => (complete, None),
            Err(refusal) => (true, Some(refusal)),
        };
        if may_be_there {
            match iam.credential_report().await {
                Ok(Some(report)) => return Ok(report),
                Ok(None) => {}
                Err(error) => refusal = Some(only_if_it_passes(error)?),
            }
        }
        if Instant::now() + REPORT_PAUSE >= until {
            return Err(match refusal {
                Some(error) if error.kind != IamErrorKind::LimitExceeded => error.into(),
                refusal => AccountError::NoReport(refusal),
            });
        }
        tokio::time::sleep(REPORT_PAUSE).await;
        asked = ask_for_report(iam).await?;
    }
}

/// A refusal that passes.
///
/// # Errors
/// Any failure that does not pass by itself.
fn only_if_it_passes(error: IamError) -> Result<IamError, IamError> {
    match error.kind {
        IamErrorKind::LimitExceeded | IamErrorKind::Throttled | IamErrorKind::Unavailable => Ok(error),
        IamErrorKind::NoSuchEntity | IamErrorKind::AccessDenied | IamErrorKind::Other => Err(error),
    }
}

/// Separates the listed users who are missing from the report, and drops the rows whose user is not listed: the user may
/// have been deleted after the report was generated, and another one created with the same name. A row stays if its user
/// is so young that the list may not show it yet.
fn compare(mut rows: Vec<Row>, listed: Vec<ListedUser>, now: DateTime<Utc>) -> (Vec<Row>, Vec<ListedUser>) {
    // A path may have changed since the report, and with it an exemption.
    let paths: HashMap<String, &str> = listed.iter().map(|user| (user.name.folded(), user.path.as_str())).collect();
    rows.retain_mut(|row| match paths.get(&row.user.folded()) {
        Some(path) => {
            row.move_to(path);
            true
        }
        None => row.created.is_some_and(|created| now - created < LISTED_AFTER),
    });
    let reported: HashMap<String, Option<DateTime<Utc>>> =
        rows.iter().map(|row| (row.user.folded(), row.created)).collect();
    let unreported: Vec<_> = listed
        .into_iter()
        .filter(|user| match reported.get(&user.name.folded()) {
            // Older is another user too: one that was there already and has taken the name since.
            Some(created) => created.is_some_and(|created| (user.created - created).abs() > ROUNDING),
            None => true,
        })
        .collect();
    let created_again: HashSet<String> = unreported.iter().map(|user| user.name.folded()).collect();
    rows.retain(|row| !created_again.contains(&row.user.folded()));
    (rows, unreported)
}

impl Coverage {
    async fn read(iam: &Iam, policy: &PolicyArn) -> Result<Self, IamError> {
        let (users, groups) = iam.entities_for_policy(policy).await?;
        let users = users.iter().map(UserName::folded).collect();
        let mut coverage = Self { users, groups, members: HashMap::new() };
        for (place, group) in coverage.groups.iter().enumerate() {
            for member in iam.group_members(group).await? {
                coverage.members.entry(member.folded()).or_insert(place);
            }
        }
        Ok(coverage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential_report::Activity;

    /// Times of creation, in seconds: by the report, by the listing → whether the report's row is the listed user's.
    #[test]
    fn a_recreated_user_does_not_match_the_old_report_row() {
        let user = UserName::new("alice").unwrap();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        for (reported, listed, same) in [(1000, 1000, true), (1000, 1001, true), (1000, 2000, false), (1000, 10, false)]
        {
            let row = Row {
                user: user.clone(),
                arn: String::new(),
                created: Some(at(reported)),
                has_password: true,
                password_last_changed: None,
                has_mfa: false,
                activity: Activity::default(),
            };
            let listing = ListedUser { name: user.clone(), path: "/".into(), created: at(listed) };
            let (rows, unreported) = compare(vec![row], vec![listing], at(100_000));
            assert_eq!((rows.len(), unreported.len()), if same { (1, 0) } else { (0, 1) }, "{reported} {listed}");
        }
    }

    #[test]
    fn a_path_that_has_changed_since_the_report_is_the_listed_one() {
        let user = UserName::new("alice").unwrap();
        let row = Row {
            user: user.clone(),
            arn: "arn:aws:iam::123456789012:user/service/alice".to_owned(),
            created: None,
            has_password: true,
            password_last_changed: None,
            has_mfa: false,
            activity: Activity::default(),
        };
        let listing = ListedUser { name: user, path: "/eng/eu/".into(), created: DateTime::default() };
        // A row without a time of creation is no other user's.
        let (rows, _) = compare(vec![row], vec![listing], Utc::now());
        assert_eq!(rows[0].arn, "arn:aws:iam::123456789012:user/eng/eu/alice");
        assert_eq!(rows[0].path(), "/eng/eu/");
    }

    /// Seconds since the user's creation → whether a row stays whose user is not in the list.
    #[test]
    fn a_row_without_a_listed_user_stays_for_five_minutes() {
        let now = Utc::now();
        for (age, stays) in [(0, true), (299, true), (300, false), (86_400, false)] {
            let row = Row {
                user: UserName::new("alice").unwrap(),
                arn: String::new(),
                created: Some(now - TimeDelta::seconds(age)),
                has_password: true,
                password_last_changed: None,
                has_mfa: false,
                activity: Activity::default(),
            };
            let (rows, _) = compare(vec![row], Vec::new(), now);
            assert_eq!(rows.len() == 1, stays, "{age} s");
        }
    }
}
