//! Reads one account and returns its [`Status`]: every console user, and how the user gets the policy. Prints nothing.

mod candidate;

use chrono::{DateTime, SecondsFormat, Utc};
use force_mfa::account::Account;
use force_mfa::credential_report::is_key_in_use;
use force_mfa::iam::Iam;
use force_mfa::pace;
use force_mfa::policy_state::PolicyState;
use force_mfa::settings::Settings;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::error::CliError;
use crate::session::{Session, TIME_LIMIT};
use crate::terminal::Interrupt;
use candidate::Candidate;

/// One account. Serialized, it is the object that `status --format json` prints.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The number of the account.
    pub account: String,
    /// The installed release; null if there is no stack, or the stack does not say it.
    pub release: Option<String>,
    /// The managed policy whose coverage is shown; null if there is none.
    pub policy_arn: Option<String>,
    /// What the text of the policy does; null if there is none.
    pub policy: Option<&'static str>,
    /// Age of the credential report in seconds.
    pub report_age_s: i64,
    /// Counts of `users`.
    pub totals: Totals,
    /// Every console user, sorted by name.
    pub users: Vec<ConsoleUser>,
    /// When IAM generated the credential report.
    #[serde(skip)]
    pub reported_at: DateTime<Utc>,
    /// Why a user is unknown, and what to do about it; of the last one.
    #[serde(skip)]
    pub failure: Option<CliError>,
    /// What is wrong with the text of the policy, and what to do about it.
    #[serde(skip)]
    pub policy_warning: Option<String>,
    /// Whether the policy does not force MFA, or locks users out.
    #[serde(skip)]
    pub policy_is_broken: bool,
}

/// Counts of the console users of an account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// All.
    pub console_users: usize,
    /// Those without an MFA device.
    pub without_mfa: usize,
    /// Those that have the policy, directly or through a group.
    pub covered: usize,
    /// Those without the policy that a setting exempts.
    pub exempt: usize,
    /// Those with neither the policy nor an exemption.
    pub uncovered: usize,
    /// The uncovered ones whose password is older than the policy; null if there is no policy.
    pub existing: Option<usize>,
    /// Those for whom a look-up failed.
    pub unknown: usize,
    /// The uncovered ones with an active access key that was used within [`KEY_IN_USE`](force_mfa::credential_report::KEY_IN_USE).
    pub uncovered_with_keys: usize,
}

impl Totals {
    /// Adds the counts of another account. What is not known there counts as none.
    pub fn add(&mut self, other: &Self) {
        self.console_users += other.console_users;
        self.without_mfa += other.without_mfa;
        self.covered += other.covered;
        self.exempt += other.exempt;
        self.uncovered += other.uncovered;
        self.existing = Some(self.existing.unwrap_or_default() + other.existing.unwrap_or_default());
        self.unknown += other.unknown;
        self.uncovered_with_keys += other.uncovered_with_keys;
    }
}

/// One console user.
#[derive(Clone, Debug, Serialize)]
pub struct ConsoleUser {
    /// The user name.
    pub user: String,
    /// The ARN of the user.
    pub arn: String,
    /// Whether the user has an MFA device; `None` if a look-up failed.
    pub mfa: Option<bool>,
    /// How the user gets the policy.
    pub coverage: Coverage,
    /// The group, the setting that exempts, `existing` or `new`, or the error of the look-up; empty if
    /// the policy is attached to the user.
    pub detail: String,
    /// When the password was last used, by the credential report.
    #[serde(serialize_with = "rfc3339")]
    pub password_last_used: Option<DateTime<Utc>>,
    /// Number of active access keys; `None` if the user is newer than the credential report.
    pub access_keys: Option<u8>,
    /// When an active access key was last used, by the credential report.
    #[serde(serialize_with = "rfc3339")]
    pub access_key_last_used: Option<DateTime<Utc>>,
}

/// How a console user gets the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Coverage {
    /// The policy is attached to the user.
    Direct,
    /// The policy is attached to a group of the user.
    Group,
    /// The user does not have the policy, and a setting exempts the user.
    Exempt,
    /// The user has neither the policy nor an exemption.
    None,
    /// A look-up failed.
    Unknown,
}

impl ConsoleUser {
    /// Whether the user is uncovered, or may be: a look-up failed.
    pub const fn is_open(&self) -> bool {
        match self.coverage {
            Coverage::Direct | Coverage::Group | Coverage::Exempt => false,
            Coverage::None | Coverage::Unknown => true,
        }
    }

    /// Whether the policy would stop an access key that is in use at this time: the user is uncovered, and has one.
    pub fn has_key_to_lose(&self, now: DateTime<Utc>) -> bool {
        self.coverage == Coverage::None && is_key_in_use(self.access_key_last_used, now)
    }
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn rfc3339<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).serialize(serializer)
}

/// Reads the account of the session. Calls `progress` after each user that costs a call of its own, with how many are
/// done and of how many.
///
/// # Errors
/// If the account cannot be read.
pub async fn read(
    session: &Session,
    interrupt: &Interrupt,
    progress: impl FnMut(usize, usize),
) -> Result<Status, CliError> {
    let Session { iam, settings, .. } = session;
    let until = Instant::now() + TIME_LIMIT;
    let iam = iam.paced(until, || false);
    let account = Account::read(&iam, &settings.policy, Utc::now(), until).await?;
    let policy = PolicyState::read(&iam, &settings.policy).await;
    let status = describe(&iam, settings, &account, interrupt, progress).await;
    Ok(Status {
        release: session.release().map(str::to_owned),
        policy: Some(policy.as_str()),
        policy_warning: policy.warning(&settings.policy, |error| CliError::from(error.clone()).to_string()),
        policy_is_broken: policy.is_broken(),
        ..status
    })
}

/// Reads an account in which force-mfa is not installed and has left no policy. `settings` are the defaults.
///
/// # Errors
/// If the account cannot be read.
pub async fn read_without_policy(iam: &Iam, settings: &Settings, interrupt: &Interrupt) -> Result<Status, CliError> {
    let until = Instant::now() + TIME_LIMIT;
    let iam = iam.paced(until, || false);
    let account = Account::read_without_policy(&iam, Utc::now(), until).await?;
    let mut status = describe(&iam, settings, &account, interrupt, |_, _| {}).await;
    for user in status.users.iter_mut().filter(|user| user.coverage == Coverage::None) {
        // Whether a user is an existing one is known only once there is a policy.
        user.detail.clear();
    }
    status.totals.existing = None;
    Ok(Status { policy_arn: None, policy: None, ..status })
}

/// Looks up what the reads leave open.
async fn describe(
    iam: &Iam,
    settings: &Settings,
    account: &Account,
    interrupt: &Interrupt,
    mut progress: impl FnMut(usize, usize),
) -> Status {
    let mut users: Vec<ConsoleUser> =
        account.unusable_names.iter().map(|name| ConsoleUser::with_unusable_name(name)).collect();
    let mut open = Vec::new();
    for candidate in Candidate::all(account, settings) {
        match candidate.settled(settings) {
            Some(user) => users.push(user),
            None => open.push(candidate),
        }
    }
    let mut failure = None;
    let (mut done, all) = (0, open.len());
    let look_up = |candidate: Candidate| {
        let (iam, settings, policy_created) = (iam.clone(), settings.clone(), account.policy_created);
        async move {
            let user = candidate.look_up(&iam, &settings, policy_created).await;
            (candidate, user)
        }
    };
    pace::for_each(
        open,
        || interrupt.stopped(),
        look_up,
        |(candidate, user)| {
            done += 1;
            progress(done, all);
            match user {
                Ok(user) => users.extend(user),
                Err(error) => {
                    users.push(candidate.unknown(&error));
                    failure = Some(error.into());
                }
            }
        },
    )
    .await;
    users.sort_by(|one, other| one.user.cmp(&other.user));
    let now = Utc::now();
    Status {
        account: settings.policy.account().to_owned(),
        release: None,
        policy_arn: Some(settings.policy.to_string()),
        policy: None,
        report_age_s: (now - account.reported_at).num_seconds().max(0),
        totals: totals(&users, now),
        users,
        reported_at: account.reported_at,
        failure,
        policy_warning: None,
        policy_is_broken: false,
    }
}

impl Status {
    /// Whether somebody is uncovered or unknown, or the policy does not do what it is for.
    pub fn is_incomplete(&self) -> bool {
        self.totals.uncovered + self.totals.unknown > 0 || self.policy_is_broken
    }
}

fn totals(users: &[ConsoleUser], now: DateTime<Utc>) -> Totals {
    let mut totals = Totals { console_users: users.len(), ..Totals::default() };
    let mut existing = 0;
    for user in users {
        totals.uncovered_with_keys += usize::from(user.has_key_to_lose(now));
        totals.without_mfa += usize::from(user.mfa == Some(false));
        match user.coverage {
            Coverage::Direct | Coverage::Group => totals.covered += 1,
            Coverage::Exempt => totals.exempt += 1,
            Coverage::None => {
                totals.uncovered += 1;
                existing += usize::from(user.detail == candidate::EXISTING);
            }
            Coverage::Unknown => totals.unknown += 1,
        }
    }
    Totals { existing: Some(existing), ..totals }
}
