//! The names that IAM gives to things, each a type that cannot hold a wrong one; other text from outside is made
//! [`sanitize`].
//!
//! Rules: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html> ("IAM name requirements").

use std::fmt;

/// Whether `text` is 1 to `longest` characters of the alphabet that IAM allows in names.
fn is_friendly_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

/// Foreign text, cut at so many characters, and without those that end a line, steer a terminal, or have what follows
/// read backwards: JSON escapes only some of them.
pub(crate) fn sanitize(text: &str, longest: usize) -> String {
    let excerpt = match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let unfit = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    excerpt.replace(unfit, "\u{fffd}")
}

/// The friendly name of an IAM user, without its path.
///
/// Spelled as it came, since IAM shows it so, but equal without regard to case: IAM names are unique that way.
#[derive(Clone, Debug)]
pub struct UserName(String);

impl UserName {
    /// Takes 1 to 128 characters of `A-Z a-z 0-9 _ + = , . @ -`, and nothing else. IAM creates names of up to 64
    /// characters and takes 128 in its other calls (`existingUserNameType`):
    /// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetUser.html>
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_friendly_name(text, 128).then(|| Self(text.to_owned()))
    }

    /// The name as IAM spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form under which two spellings of one user are the same.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for UserName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for UserName {}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The friendly name of an IAM group, equal without regard to case.
#[derive(Clone, Debug)]
pub struct GroupName(String);

impl GroupName {
    /// Takes 1 to 128 characters of the same alphabet as user names.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_friendly_name(text, 128).then(|| Self(text.to_owned()))
    }

    /// The name as IAM spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for GroupName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for GroupName {}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ARN of a customer managed policy: `arn:PARTITION:iam::ACCOUNT:policy/PATH/NAME`.
///
/// An AWS managed policy (account `aws`) is refused: none of them forces MFA, and a customer managed policy can be
/// attached only inside its own account, so that [`PolicyArn::account`] is the account of the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyArn(String);

impl PolicyArn {
    /// Takes the ARN of a customer managed policy in any partition.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let &["arn", partition, "iam", "", account, resource] = parts.as_slice() else {
            return None;
        };
        let (path, name) = resource.strip_prefix("policy/")?.rsplit_once('/').unwrap_or(("", resource.get(7..)?));
        (partition.starts_with("aws")
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
            && is_friendly_name(name, 128))
        .then(|| Self(text.to_owned()))
    }

    /// The ARN as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, without its path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The AWS partition: `aws`, `aws-us-gov` or `aws-cn`.
    #[must_use]
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// The ID of the account that the policy belongs to, twelve digits.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

impl fmt::Display for PolicyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_hold_iams_alphabet_and_nothing_else() {
        for good in ["alice", "Alice", "a", "_+=,.@-", "alice@example.com", "007", &"a".repeat(128)] {
            assert!(UserName::new(good).is_some(), "{good}");
        }
        for bad in
            ["", " ", "alice ", "eng/alice", "al\nice", "al*ce", "älice", "a\0", "<root_account>", &"a".repeat(129)]
        {
            assert!(UserName::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_equal_without_regard_to_case() {
        assert_eq!(UserName::new("Alice"), UserName::new("aLICE"));
        assert_ne!(UserName::new("alice"), UserName::new("malice"));
        assert_eq!(GroupName::new("Force-MFA"), GroupName::new("force-mfa"));
    }

    #[test]
    fn policy_arns_are_those_of_customer_managed_policies() {
        for good in [
            "arn:aws:iam::123456789012:policy/force-mfa",
            "arn:aws-us-gov:iam::123456789012:policy/security/force-mfa",
            "arn:aws-cn:iam::000000000012:policy/a/b/c",
        ] {
            assert!(PolicyArn::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "force-mfa",
            "arn:aws:iam::aws:policy/AdministratorAccess",
            "arn:aws:iam::12345678901:policy/force-mfa",
            "arn:aws:iam::123456789012:role/force-mfa",
            "arn:aws:iam::123456789012:policy/",
            "arn:aws:iam::123456789012:policy/*",
            "arn:aws:iam:us-east-1:123456789012:policy/force-mfa",
            "arn:aws:sts::123456789012:policy/force-mfa",
        ] {
            assert!(PolicyArn::new(bad).is_none(), "{bad}");
        }
        let policy = PolicyArn::new("arn:aws-cn:iam::000000000012:policy/a/b").unwrap();
        assert_eq!((policy.account(), policy.name()), ("000000000012", "b"));
    }
}
