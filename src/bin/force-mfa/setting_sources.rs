//! The settings of a run. Each one comes from its flag, else its variable, else the stack, else its default.

use std::collections::HashMap;
use std::fmt;

use clap::{Arg, ArgMatches, Command};
use force_mfa::identifiers::PolicyArn;
use force_mfa::settings::{BadSettings, POLICY_ARN, SETTINGS, Setting, Settings};

use crate::error::CliError;

/// Values by variable.
pub type Values = HashMap<&'static str, String>;

/// The flags of the settings, made from the table [`SETTINGS`].
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(Values);

impl SettingFlags {
    /// The flags that are given, as the operator writes them.
    pub fn flags(&self) -> Vec<String> {
        let given = SETTINGS.iter().filter(|setting| self.0.contains_key(setting.variable));
        given.map(|setting| format!("--{}", setting.flag)).collect()
    }

    /// The variables that are set.
    pub fn variables() -> Vec<&'static str> {
        let is_set = |variable: &&str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        SETTINGS.iter().map(|setting| setting.variable).filter(is_set).collect()
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| {
            let Setting { variable, flag, meaning, takes, default, .. } = setting;
            let arg = Arg::new(variable).long(flag).value_name("VALUE").help_heading("Settings").global(true);
            command.arg(arg.help(format!("{meaning}: {takes} [{variable}] [default: {default}]")))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flag = |setting: &Setting| {
            let value = matches.get_one::<String>(setting.variable)?;
            Some((setting.variable, value.clone()))
        };
        Ok(Self(SETTINGS.iter().filter_map(flag).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Variable,
    /// The stack of this name.
    Stack(String),
    /// The policy that has the default name, or the name that the operator gives for the stack.
    ByName,
    Default,
}

/// The settings that the operator gives, by flag or by variable.
#[derive(Clone, Debug, Default)]
pub struct GivenSettings(HashMap<&'static str, (String, Source)>);

impl GivenSettings {
    /// The flags, and the variables of this process. An empty value counts as not given.
    ///
    /// # Errors
    /// [`CliError::Usage`] names every value that cannot be used.
    pub fn new(SettingFlags(flags): &SettingFlags) -> Result<Self, CliError> {
        let given = SETTINGS.iter().filter_map(|setting| {
            let flag = flags.get(setting.variable).cloned().filter(|value| !value.trim().is_empty());
            let value = match flag {
                Some(value) => (value, Source::Flag),
                None => (std::env::var_os(setting.variable)?.to_string_lossy().into_owned(), Source::Variable),
            };
            (!value.0.trim().is_empty()).then_some((setting.variable, value))
        });
        let given = Self(given.collect());
        // We check the values before AWS is called. The policy may still come from the stack.
        let any_policy = "arn:aws:iam::123456789012:policy/force-mfa".to_owned();
        Settings::read(|variable| {
            let value = given.0.get(variable).map(|(value, _)| value.clone());
            if variable == POLICY_ARN.variable { value.or(Some(any_policy.clone())) } else { value }
        })
        .map_err(|error| unusable(&error))?;
        Ok(given)
    }

    /// The policy, if the operator names it.
    pub fn policy(&self) -> Option<PolicyArn> {
        self.0.get(POLICY_ARN.variable).and_then(|(value, _)| PolicyArn::new(value.trim()))
    }

    /// Adds what the stack says to what the operator gives, each setting for itself.
    ///
    /// # Errors
    /// If a value of the stack cannot be used.
    pub fn resolve(mut self, stack: Option<(&str, Values)>) -> Result<ResolvedSettings, CliError> {
        if let Some((name, values)) = stack {
            for (variable, value) in values {
                if !value.trim().is_empty() {
                    self.0.entry(variable).or_insert((value, Source::Stack(name.to_owned())));
                }
            }
        }
        ResolvedSettings::read(self.0)
    }

    /// Adds the policy that was found by its name.
    pub fn or_policy_by_name(mut self, policy: &PolicyArn) -> Self {
        self.0.entry(POLICY_ARN.variable).or_insert((policy.to_string(), Source::ByName));
        self
    }
}

fn unusable(error: &BadSettings) -> CliError {
    CliError::Usage(format!("{error}\nor the flags of the same names (FORCE_MFA_MODE is --mode)"))
}

/// The settings of a run, and where each one comes from.
#[derive(Clone, Debug)]
pub struct ResolvedSettings {
    /// The settings.
    pub settings: Settings,
    values: HashMap<&'static str, (String, Source)>,
}

impl ResolvedSettings {
    fn read(values: HashMap<&'static str, (String, Source)>) -> Result<Self, CliError> {
        let settings = Settings::read(|variable| values.get(variable).map(|(value, _)| value.clone()));
        Ok(Self { settings: settings.map_err(|error| unusable(&error))?, values })
    }
}

/// One line a setting: name, value, and where it comes from.
impl fmt::Display for ResolvedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, setting) in SETTINGS.iter().enumerate() {
            let default = (setting.default.to_owned(), Source::Default);
            let (value, source) = self.values.get(setting.variable).unwrap_or(&default);
            let source = match source {
                Source::Flag => format!("--{}", setting.flag),
                Source::Variable => setting.variable.to_owned(),
                Source::Stack(name) => format!("stack {name}"),
                Source::ByName => "found by its name".to_owned(),
                Source::Default => "default".to_owned(),
            };
            let newline = if place == 0 { "" } else { "\n" };
            write!(f, "{newline}  {:<14}  {} ({source})", setting.label(), value.trim())?;
        }
        Ok(())
    }
}
