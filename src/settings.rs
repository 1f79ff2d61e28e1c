//! Environment → [`Settings`]. Read once, at the start; all problems are reported in one error.

use std::fmt;

use crate::exemption::{ExemptTag, Exemptions, NamePattern};
use crate::identifiers::{GroupName, PolicyArn};

/// The settings of the function and of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `FORCE_MFA_POLICY_ARN`: the managed policy to attach.
    pub policy: PolicyArn,
    /// `FORCE_MFA_MODE`: whether anything is written.
    pub mode: Mode,
    /// `FORCE_MFA_SCOPE`: whether users without a password are covered too.
    pub scope: Scope,
    /// `FORCE_MFA_EXISTING_USERS`: what a sweep does with console users whose password is older than the policy.
    pub existing_users: Mode,
    /// `FORCE_MFA_EXEMPT_USERS`, `FORCE_MFA_EXEMPT_PATHS`, `FORCE_MFA_EXEMPT_TAG`: the users who never get the policy.
    pub exemptions: Exemptions,
    /// `FORCE_MFA_OVERFLOW_GROUP`: the group that has the policy, for users whose quota is full.
    pub overflow_group: Option<GroupName>,
}

/// Whether to write to IAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decide, log, and write to IAM.
    #[default]
    Enforce,
    /// Decide and log, write nothing.
    Report,
}

/// Which users the policy is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Users with a console password.
    #[default]
    ConsoleUsers,
    /// Every user, from its creation on.
    AllUsers,
}

/// One setting, in each of the places where it has a name.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable of the function and of the operator's command.
    pub variable: &'static str,
    /// The command's flag, without its dashes.
    pub flag: &'static str,
    /// What it decides, for the command's help.
    pub meaning: &'static str,
    /// The values that it takes.
    pub takes: &'static str,
    /// What holds if it is not set, as text.
    pub default: &'static str,
    /// Where a stack of `infra/template.yaml` has it.
    pub in_stack: InStack,
}

/// Where a stack has a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InStack {
    /// The parameter of this name.
    Parameter(&'static str),
    /// The output of this name.
    Output(&'static str),
}

impl Setting {
    /// The name in words, such as `exempt users`.
    #[must_use]
    pub fn label(&self) -> String {
        self.flag.replace('-', " ")
    }
}

/// `FORCE_MFA_POLICY_ARN`.
pub const POLICY_ARN: Setting = Setting {
    variable: "FORCE_MFA_POLICY_ARN",
    flag: "policy-arn",
    meaning: "The managed policy to attach",
    takes: "the ARN of a customer managed policy in this account, such as arn:aws:iam::123456789012:policy/force-mfa",
    default: "the policy of the stack",
    in_stack: InStack::Output("PolicyArn"),
};

const MODE: Setting = Setting {
    variable: "FORCE_MFA_MODE",
    flag: "mode",
    meaning: "Whether IAM is changed",
    takes: "enforce or report",
    default: "enforce",
    in_stack: InStack::Parameter("Mode"),
};

const SCOPE: Setting = Setting {
    variable: "FORCE_MFA_SCOPE",
    flag: "scope",
    meaning: "Which users get the policy",
    takes: "console-users or all-users",
    default: "console-users",
    in_stack: InStack::Parameter("Scope"),
};

const EXISTING_USERS: Setting = Setting {
    variable: "FORCE_MFA_EXISTING_USERS",
    flag: "existing-users",
    meaning: "What a sweep does with console users whose password is older than the policy",
    takes: "report or enforce",
    default: "report",
    in_stack: InStack::Parameter("ExistingUsers"),
};

const EXEMPT_USERS: Setting = Setting {
    variable: "FORCE_MFA_EXEMPT_USERS",
    flag: "exempt-users",
    meaning: "Users to exempt, by name",
    takes: "user names separated by commas, with * for any run of characters, such as break-glass-*,ci; write * for a \
            comma in a name",
    default: "none",
    in_stack: InStack::Parameter("ExemptUsers"),
};

const EXEMPT_PATHS: Setting = Setting {
    variable: "FORCE_MFA_EXEMPT_PATHS",
    flag: "exempt-paths",
    meaning: "Users to exempt, by IAM path",
    takes: "IAM paths separated by commas, each beginning and ending with /, such as /service/",
    default: "none",
    in_stack: InStack::Parameter("ExemptPaths"),
};

const EXEMPT_TAG: Setting = Setting {
    variable: "FORCE_MFA_EXEMPT_TAG",
    flag: "exempt-tag",
    meaning: "Users to exempt, by tag",
    takes: "key or key=value, such as mfa-exempt=true",
    default: "none",
    in_stack: InStack::Parameter("ExemptTag"),
};

const OVERFLOW_GROUP: Setting = Setting {
    variable: "FORCE_MFA_OVERFLOW_GROUP",
    flag: "overflow-group",
    meaning: "The group that has the policy too, for users whose quota of managed policies is full",
    takes: "the name of an IAM group (no path), such as force-mfa-overflow",
    default: "none",
    in_stack: InStack::Output("OverflowGroupName"),
};

/// Every setting. Flags, help and what the command reads from a stack follow from this table.
pub const SETTINGS: [Setting; 8] =
    [POLICY_ARN, MODE, SCOPE, EXISTING_USERS, EXEMPT_USERS, EXEMPT_PATHS, EXEMPT_TAG, OVERFLOW_GROUP];

/// A variable whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the environment variable.
    pub variable: &'static str,
    /// Its value; `None` if it is not set.
    pub value: Option<String>,
    /// The values that it takes.
    pub takes: &'static str,
}

/// All that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadSettings(pub Vec<Problem>);

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings cannot be used; correct these environment variables:")?;
        for Problem { variable, value, takes } in &self.0 {
            match value {
                Some(value) => write!(f, "\n  {variable} is {value:?}; it takes {takes}")?,
                None => write!(f, "\n  {variable} is not set; it takes {takes}")?,
            }
        }
        Ok(())
    }
}

impl Settings {
    /// Reads the settings from the process's environment.
    ///
    /// # Errors
    /// [`BadSettings`] lists every variable that cannot be used.
    pub fn from_env() -> Result<Self, BadSettings> {
        // A value that is not UTF-8 is shown with replacement characters and refused by its own rule.
        Self::read(|variable| std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads the settings from `get`, which gives a variable's value. An empty value counts as not set, since that is
    /// how CloudFormation passes an empty parameter.
    ///
    /// # Errors
    /// [`BadSettings`] lists every variable that cannot be used.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadSettings> {
        let mut reader = Reader { get, problems: Vec::new() };
        let policy = reader.required(&POLICY_ARN, PolicyArn::new);
        let mode = reader.optional(&MODE, mode);
        let scope = reader.optional(&SCOPE, |text| match text {
            "console-users" => Some(Scope::ConsoleUsers),
            "all-users" => Some(Scope::AllUsers),
            _ => None,
        });
        let existing_users = reader.optional(&EXISTING_USERS, mode_of_existing);
        let users = reader.optional(&EXEMPT_USERS, |text| list(text, NamePattern::new));
        let paths = reader.optional(&EXEMPT_PATHS, |text| list(text, path));
        let tag = reader.optional(&EXEMPT_TAG, |text| tag(text).map(Some));
        let overflow_group = reader.optional(&OVERFLOW_GROUP, |text| GroupName::new(text).map(Some));
        match policy {
            Some(policy) if reader.problems.is_empty() => Ok(Self {
                policy,
                mode,
                scope,
                existing_users: existing_users.0,
                exemptions: Exemptions { users, paths, tag },
                overflow_group,
            }),
            _ => Err(BadSettings(reader.problems)),
        }
    }
}

/// `FORCE_MFA_EXISTING_USERS`, whose default is not that of [`Mode`]: a first deployment locks nobody out.
struct ExistingUsers(Mode);

impl Default for ExistingUsers {
    fn default() -> Self {
        Self(Mode::Report)
    }
}

fn mode_of_existing(text: &str) -> Option<ExistingUsers> {
    mode(text).map(ExistingUsers)
}

fn mode(text: &str) -> Option<Mode> {
    match text {
        "enforce" => Some(Mode::Enforce),
        "report" => Some(Mode::Report),
        _ => None,
    }
}

/// Parses a comma-separated list. Skips empty items; rejects a list that has no others.
fn list<T>(text: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let items: Vec<T> =
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(item).collect::<Option<_>>()?;
    (!items.is_empty()).then_some(items)
}

/// An IAM path: begins and ends with `/`, printable ASCII, at most 512 characters.
fn path(text: &str) -> Option<String> {
    (text.starts_with('/') && text.ends_with('/') && text.len() <= 512 && text.bytes().all(|b| b.is_ascii_graphic()))
        .then(|| text.to_owned())
}

fn tag(text: &str) -> Option<ExemptTag> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key.trim(), Some(value.trim().to_owned())),
        None => (text, None),
    };
    (!key.is_empty()).then(|| ExemptTag { key: key.to_owned(), value })
}

struct Reader<G> {
    get: G,
    problems: Vec<Problem>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    fn value(&self, variable: &str) -> Option<String> {
        (self.get)(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn required<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let Setting { variable, takes, .. } = *setting;
        let value = self.value(variable);
        let parsed = value.as_deref().and_then(parse);
        if parsed.is_none() {
            self.problems.push(Problem { variable, value, takes });
        }
        parsed
    }

    fn optional<T: Default>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Option<T>) -> T {
        match self.value(setting.variable) {
            None => T::default(),
            Some(_) => self.required(setting, parse).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: (&str, &str) = ("FORCE_MFA_POLICY_ARN", "arn:aws:iam::123456789012:policy/force-mfa");

    fn read(variables: &[(&str, &str)]) -> Result<Settings, BadSettings> {
        Settings::read(|wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_policy_is_all_that_must_be_set() {
        let settings = read(&[POLICY]).unwrap();
        assert_eq!(settings.mode, Mode::Enforce);
        assert_eq!(settings.scope, Scope::ConsoleUsers);
        assert_eq!(settings.existing_users, Mode::Report);
        assert_eq!(settings.exemptions, Exemptions::default());
        assert_eq!(settings.overflow_group, None);
    }

    #[test]
    fn empty_values_count_as_not_set() {
        let empty = [
            "FORCE_MFA_MODE",
            "FORCE_MFA_SCOPE",
            "FORCE_MFA_EXISTING_USERS",
            "FORCE_MFA_EXEMPT_USERS",
            "FORCE_MFA_EXEMPT_PATHS",
            "FORCE_MFA_EXEMPT_TAG",
            "FORCE_MFA_OVERFLOW_GROUP",
        ];
        let variables: Vec<_> = empty.map(|name| (name, " ")).into_iter().chain([POLICY]).collect();
        assert_eq!(read(&variables), read(&[POLICY]));
    }

    #[test]
    fn every_variable_is_read() {
        let settings = read(&[
            POLICY,
            ("FORCE_MFA_MODE", "report"),
            ("FORCE_MFA_SCOPE", "all-users"),
            ("FORCE_MFA_EXISTING_USERS", "enforce"),
            ("FORCE_MFA_EXEMPT_USERS", "break-glass-*, ci,"),
            ("FORCE_MFA_EXEMPT_PATHS", "/service/,/bots/"),
            ("FORCE_MFA_EXEMPT_TAG", "mfa-exempt=a=b"),
            ("FORCE_MFA_OVERFLOW_GROUP", "force-mfa-overflow"),
        ])
        .unwrap();
        assert_eq!(settings.mode, Mode::Report);
        assert_eq!(settings.scope, Scope::AllUsers);
        assert_eq!(settings.existing_users, Mode::Enforce);
        assert_eq!(settings.exemptions.users, ["break-glass-*", "ci"].map(|text| NamePattern::new(text).unwrap()));
        assert_eq!(settings.exemptions.paths, ["/service/", "/bots/"]);
        assert_eq!(settings.exemptions.tag, Some(ExemptTag { key: "mfa-exempt".into(), value: Some("a=b".into()) }));
        assert_eq!(settings.overflow_group, GroupName::new("force-mfa-overflow"));
    }

    #[test]
    fn all_problems_are_reported_in_one_error() {
        let bad = [
            ("FORCE_MFA_POLICY_ARN", "force-mfa"),
            ("FORCE_MFA_MODE", "Report"),
            ("FORCE_MFA_SCOPE", "everyone"),
            ("FORCE_MFA_EXISTING_USERS", "lock"),
            ("FORCE_MFA_EXEMPT_USERS", "alice;bob"),
            ("FORCE_MFA_EXEMPT_PATHS", "/service/,service"),
            ("FORCE_MFA_EXEMPT_TAG", "=true"),
            ("FORCE_MFA_OVERFLOW_GROUP", "path/group"),
        ];
        let error = read(&bad).unwrap_err();
        assert_eq!(error.0.len(), bad.len());
        let message = error.to_string();
        for (variable, value) in bad {
            assert!(message.contains(&format!("{variable} is {value:?}; it takes ")), "{message}");
        }
    }

    #[test]
    fn a_missing_policy_is_not_set() {
        assert!(read(&[]).unwrap_err().to_string().contains("FORCE_MFA_POLICY_ARN is not set; it takes the ARN"));
    }

    #[test]
    fn a_list_of_nothing_is_refused() {
        assert!(read(&[POLICY, ("FORCE_MFA_EXEMPT_USERS", ", ,")]).is_err());
    }
}
