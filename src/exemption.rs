//! Decides whether a user is exempt, and by which setting. Pure: makes no calls and reads no clock.

use crate::identifiers::UserName;

/// A user name that may hold `*` for any run of characters, matched without regard to case as IAM's names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Takes the characters of user names and `*`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let letters = text.replace('*', "");
        let legal = letters.is_empty() && !text.is_empty() || UserName::new(&letters).is_some();
        legal.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Whether the pattern means this user.
    #[must_use]
    pub fn matches(&self, user: &UserName) -> bool {
        let name = user.folded();
        let Some((head, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut between) = name.strip_prefix(head).and_then(|after| after.strip_suffix(tail)) else {
            return false;
        };
        // The earliest match of each piece leaves the most room for those after it.
        middle.split('*').all(|piece| match between.find(piece) {
            Some(at) => {
                between = &between[at + piece.len()..];
                true
            }
            None => false,
        })
    }
}

/// An IAM tag that exempts: its key alone, or with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExemptTag {
    /// Compared without regard to case, as IAM compares tag keys.
    pub key: String,
    /// Compared exactly; without one, any value exempts.
    pub value: Option<String>,
}

/// The settings that exempt users from the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemptions {
    /// `FORCE_MFA_EXEMPT_USERS`: patterns of user names.
    pub users: Vec<NamePattern>,
    /// `FORCE_MFA_EXEMPT_PATHS`: each begins and ends with `/`.
    pub paths: Vec<String>,
    /// `FORCE_MFA_EXEMPT_TAG`: one tag, with or without a value.
    pub tag: Option<ExemptTag>,
}

/// Why a user is exempt: the setting that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemption {
    /// The name matches a pattern.
    UserName,
    /// The path begins with a prefix.
    Path,
    /// The user has the tag.
    Tag,
}

impl Exemption {
    /// The settings variable behind the exemption.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::UserName => "FORCE_MFA_EXEMPT_USERS",
            Self::Path => "FORCE_MFA_EXEMPT_PATHS",
            Self::Tag => "FORCE_MFA_EXEMPT_TAG",
        }
    }
}

impl Exemptions {
    /// Whether `GetUser` is needed to decide, since a path or a tag may exempt.
    #[must_use]
    pub fn require_user_lookup(&self) -> bool {
        !self.paths.is_empty() || self.tag.is_some()
    }

    /// The exemption that the name alone gives.
    #[must_use]
    pub fn by_name(&self, user: &UserName) -> Option<Exemption> {
        self.users.iter().any(|pattern| pattern.matches(user)).then_some(Exemption::UserName)
    }

    /// The exemption that the user's path gives. Paths are compared exactly: they are not case-insensitive.
    #[must_use]
    pub fn by_path(&self, path: &str) -> Option<Exemption> {
        self.paths.iter().any(|prefix| path.starts_with(prefix.as_str())).then_some(Exemption::Path)
    }

    /// The exemption that the user's tags, keys and values, give.
    #[must_use]
    pub fn by_tags(&self, tags: &[(String, String)]) -> Option<Exemption> {
        let exempt = self.tag.as_ref()?;
        tags.iter()
            .any(|(key, value)| {
                key.eq_ignore_ascii_case(&exempt.key) && exempt.value.as_ref().is_none_or(|wanted| wanted == value)
            })
            .then_some(Exemption::Tag)
    }

    /// The exemption that the user's path or tags give.
    #[must_use]
    pub fn by_attributes(&self, path: &str, tags: &[(String, String)]) -> Option<Exemption> {
        self.by_path(path).or_else(|| self.by_tags(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_without_regard_to_case() {
        let rows = [
            ("alice", "alice", true),
            ("alice", "ALICE", true),
            ("alice", "alice2", false),
            ("alice", "malice", false),
            ("break-glass-*", "break-glass-", true),
            ("break-glass-*", "Break-Glass-1", true),
            ("break-glass-*", "xbreak-glass-1", false),
            ("*-svc", "ci-svc", true),
            ("*-svc", "ci-svc-2", false),
            ("*", "anyone", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a*bc*c", "abc", false),
            ("a**c", "abc", true),
            ("*ab*ab*", "xabyab", true),
            ("*ab*ab*", "xaby", false),
            // Sixty stars against a name that almost matches must not take long.
            (&"*a".repeat(60), &("a".repeat(59) + "b"), false),
        ];
        for (pattern, name, expected) in rows {
            let matched = NamePattern::new(pattern).unwrap().matches(&UserName::new(name).unwrap());
            assert_eq!(matched, expected, "{pattern} against {name}");
        }
    }

    #[test]
    fn patterns_of_other_characters_are_refused() {
        for bad in ["", "alice bob", "eng/alice", "al?ce", "älice"] {
            assert_eq!(NamePattern::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_path_exempts_what_lies_below_it() {
        let exemptions = Exemptions { paths: vec!["/service/".into()], ..Exemptions::default() };
        for (path, expected) in [
            ("/service/", Some(Exemption::Path)),
            ("/service/ci/", Some(Exemption::Path)),
            ("/", None),
            ("/service-desk/", None),
            ("/eng/service/", None),
            ("/Service/", None),
        ] {
            assert_eq!(exemptions.by_path(path), expected, "{path}");
        }
    }

    #[test]
    fn a_tag_exempts_by_key_or_by_key_and_value() {
        let with = |value: Option<&str>| Exemptions {
            tag: Some(ExemptTag { key: "mfa-exempt".into(), value: value.map(str::to_owned) }),
            ..Exemptions::default()
        };
        let tags = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(with(None).by_tags(&tags(&[("MFA-Exempt", "anything")])), Some(Exemption::Tag));
        assert_eq!(with(Some("true")).by_tags(&tags(&[("team", "x"), ("mfa-exempt", "true")])), Some(Exemption::Tag));
        assert_eq!(with(Some("true")).by_tags(&tags(&[("mfa-exempt", "TRUE")])), None);
        assert_eq!(with(None).by_tags(&tags(&[("mfa", "true")])), None);
        assert_eq!(Exemptions::default().by_tags(&tags(&[("mfa-exempt", "true")])), None);
    }
}
