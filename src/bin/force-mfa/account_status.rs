//! Reads one account and returns its [`Status`]: every console user, and how the user gets the policy. Prints nothing.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use force_mfa::account::{Account, CoveredBy, exempt_by_report};
use force_mfa::credential_report::Activity;
use force_mfa::exemption::Exemption;
use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::{PolicyArn, UserName};
use force_mfa::pace;
use force_mfa::settings::Settings;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::error::CliError;
use crate::session::{Session, TIME_LIMIT};
use crate::terminal::{Interrupt, one_line};

/// An access key that was used within this time is in use: the policy would stop it.
pub const IN_USE: TimeDelta = TimeDelta::days(90);

/// One account. Serialized, it is the object that `status --format json` prints.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The number of the account.
    pub account: String,
    /// The installed release; null if there is no stack, or the stack does not say it.
    pub release: Option<String>,
    /// The managed policy whose coverage is shown.
    pub policy_arn: String,
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
    /// The uncovered ones whose password is older than the policy.
    pub existing: usize,
    /// Those for whom a look-up failed.
    pub unknown: usize,
    /// The uncovered ones with an active access key that was used within [`IN_USE`].
    pub uncovered_with_keys: usize,
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
    /// Whether the policy would stop an access key that is in use at this time: the user is uncovered, and has one.
    pub fn has_key_to_lose(&self, now: DateTime<Utc>) -> bool {
        self.coverage == Coverage::None && self.access_key_last_used.is_some_and(|used| now - used < IN_USE)
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
    mut progress: impl FnMut(usize, usize),
) -> Result<Status, CliError> {
    let Session { iam, settings, .. } = session;
    let until = Instant::now() + TIME_LIMIT;
    let iam = iam.paced(until, || false);
    let account = Account::read(&iam, &settings.policy, Utc::now(), until).await?;
    let (settled, open): (Vec<Candidate>, Vec<Candidate>) =
        candidates(&account, settings).into_iter().partition(|candidate| is_settled(candidate, settings));
    let mut users: Vec<ConsoleUser> = settled
        .into_iter()
        .map(|candidate| {
            let known =
                Answer { mfa: candidate.mfa, existing: candidate.existing == Some(true), exempt: candidate.exempt };
            user(candidate, &known)
        })
        .collect();
    let mut failure = None;
    let (mut done, all) = (0, open.len());
    let call = |candidate: Candidate| {
        let answer = ask(iam.clone(), settings.clone(), account.policy_created, candidate.clone());
        async move { (candidate, answer.await) }
    };
    pace::for_each(
        open,
        || interrupt.stopped(),
        call,
        |(candidate, answer)| {
            done += 1;
            progress(done, all);
            match answer {
                Ok(Some(answer)) => users.push(user(candidate, &answer)),
                Ok(None) => {}
                Err(error) => {
                    users.push(unknown(candidate, &error));
                    failure = Some(error.into());
                }
            }
        },
    )
    .await;
    users.sort_by(|one, other| one.user.cmp(&other.user));
    let now = Utc::now();
    Ok(Status {
        account: settings.policy.account().to_owned(),
        release: session.release().map(str::to_owned),
        policy_arn: settings.policy.to_string(),
        report_age_s: (now - account.reported_at).num_seconds().max(0),
        totals: totals(&users, now),
        users,
        reported_at: account.reported_at,
        failure,
    })
}

/// A console user, or one who may be: what is known of it without a further call.
#[derive(Clone, Debug)]
struct Candidate {
    name: UserName,
    arn: String,
    path: String,
    /// By the report; unknown if the user is newer.
    mfa: Option<bool>,
    /// Whether it is from before the policy, where the report settles it.
    existing: Option<bool>,
    covered_by: Option<CoveredBy>,
    exempt: Option<Exemption>,
    /// By the report; unknown if the user is newer.
    activity: Option<Activity>,
}

/// What had to be asked about a user.
#[derive(Clone, Debug)]
struct Answer {
    mfa: Option<bool>,
    existing: bool,
    exempt: Option<Exemption>,
}

fn totals(users: &[ConsoleUser], now: DateTime<Utc>) -> Totals {
    let mut totals = Totals { console_users: users.len(), ..Totals::default() };
    for user in users {
        totals.uncovered_with_keys += usize::from(user.has_key_to_lose(now));
        totals.without_mfa += usize::from(user.mfa == Some(false));
        match user.coverage {
            Coverage::Direct | Coverage::Group => totals.covered += 1,
            Coverage::Exempt => totals.exempt += 1,
            Coverage::None => {
                totals.uncovered += 1;
                totals.existing += usize::from(user.detail == EXISTING);
            }
            Coverage::Unknown => totals.unknown += 1,
        }
    }
    totals
}

const EXISTING: &str = "existing";
const NEW: &str = "new";

/// The console users of the report, and everyone of whom it does not tell.
fn candidates(account: &Account, settings: &Settings) -> Vec<Candidate> {
    let reported = account.console_users.iter().map(|row| Candidate {
        name: row.user.clone(),
        arn: row.arn.clone(),
        path: row.path().to_owned(),
        mfa: Some(row.has_mfa),
        existing: account.is_existing(row),
        covered_by: account.covered_by(&row.user),
        exempt: exempt_by_report(&settings.exemptions, row),
        activity: Some(row.activity.clone()),
    });
    let unreported = account.unreported.iter().map(|user| Candidate {
        name: user.name.clone(),
        arn: arn(&settings.policy, &user.path, &user.name),
        path: user.path.clone(),
        mfa: None,
        existing: (user.created >= account.policy_created).then_some(false),
        covered_by: account.covered_by(&user.name),
        exempt: settings.exemptions.by_name(&user.name).or_else(|| settings.exemptions.by_path(&user.path)),
        activity: None,
    });
    reported.chain(unreported).collect()
}

/// A listing shows no more than name and path; the rest is that of the account.
fn arn(policy: &PolicyArn, path: &str, name: &UserName) -> String {
    let partition = policy.as_str().split(':').nth(1).unwrap_or("aws");
    format!("arn:{partition}:iam::{}:user{path}{name}", policy.account())
}

/// Whether no call could tell more: the report has the user, and it is covered, exempt, or known to be from before the
/// policy, with no tag that could exempt it.
fn is_settled(candidate: &Candidate, settings: &Settings) -> bool {
    candidate.mfa.is_some()
        && (candidate.covered_by.is_some()
            || candidate.exempt.is_some()
            || candidate.existing == Some(true) && settings.exemptions.tag.is_none())
}

/// Asks IAM what the report does not tell; `None` if the user has no password, or does not exist any more.
async fn ask(
    iam: Iam,
    settings: Settings,
    policy_created: DateTime<Utc>,
    candidate: Candidate,
) -> Result<Option<Answer>, IamError> {
    let Some(password_created) = iam.login_profile(&candidate.name).await? else { return Ok(None) };
    let mfa = match candidate.mfa {
        Some(mfa) => mfa,
        None => iam.has_mfa_device(&candidate.name).await?,
    };
    let mut exempt = candidate.exempt;
    if exempt.is_none() && candidate.covered_by.is_none() && settings.exemptions.tag.is_some() {
        let Some(attributes) = iam.user(&candidate.name).await? else { return Ok(None) };
        exempt = settings.exemptions.by_attributes(&candidate.path, &attributes.tags);
    }
    Ok(Some(Answer {
        mfa: Some(mfa),
        existing: candidate.existing.unwrap_or(password_created < policy_created),
        exempt,
    }))
}

fn user(candidate: Candidate, answer: &Answer) -> ConsoleUser {
    let (coverage, detail) = match (candidate.covered_by, answer.exempt) {
        (Some(CoveredBy::Attachment), _) => (Coverage::Direct, String::new()),
        (Some(CoveredBy::Group(group)), _) => (Coverage::Group, group.to_string()),
        (None, Some(exemption)) => (Coverage::Exempt, exemption.setting().to_owned()),
        (None, None) => (Coverage::None, if answer.existing { EXISTING } else { NEW }.to_owned()),
    };
    console_user(&candidate.name, candidate.arn, answer.mfa, coverage, detail, candidate.activity)
}

fn unknown(candidate: Candidate, error: &IamError) -> ConsoleUser {
    let detail = one_line(&error.to_string());
    console_user(&candidate.name, candidate.arn, candidate.mfa, Coverage::Unknown, detail, candidate.activity)
}

fn console_user(
    name: &UserName,
    arn: String,
    mfa: Option<bool>,
    coverage: Coverage,
    detail: String,
    activity: Option<Activity>,
) -> ConsoleUser {
    let access_keys = activity.as_ref().map(|activity| activity.access_keys);
    let Activity { password_last_used, access_key_last_used, .. } = activity.unwrap_or_default();
    let user = name.to_string();
    ConsoleUser { user, arn, mfa, coverage, detail, password_last_used, access_keys, access_key_last_used }
}
