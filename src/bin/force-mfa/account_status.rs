//! Reads one account and returns its [`Status`]: every console user, and how the user gets the policy. Prints nothing.

use chrono::{DateTime, Utc};
use force_mfa::account::{Account, CoveredBy, exempt_by_report};
use force_mfa::exemption::Exemption;
use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::{PolicyArn, UserName};
use force_mfa::pace;
use force_mfa::settings::Settings;
use serde::Serialize;
use tokio::time::Instant;

use crate::error::CliError;
use crate::session::{Session, TIME_LIMIT};
use crate::terminal::Interrupt;

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
}

/// Counts of the console users of an account.
#[derive(Debug, Default, Serialize)]
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
}

/// One console user.
#[derive(Clone, Debug, Serialize)]
pub struct ConsoleUser {
    /// The user name.
    pub user: String,
    /// The ARN of the user.
    pub arn: String,
    /// Whether the user has an MFA device.
    pub mfa: bool,
    /// How the user gets the policy.
    pub coverage: Coverage,
    /// The group, the setting that exempts, or `existing` or `new`; empty if the policy is attached to the user.
    pub detail: String,
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
    let account = Account::read(&iam, &settings.policy, until).await?;
    let (settled, open): (Vec<Candidate>, Vec<Candidate>) =
        candidates(&account, settings).into_iter().partition(|candidate| is_settled(candidate, settings));
    let mut users: Vec<ConsoleUser> = settled
        .into_iter()
        .map(|candidate| {
            let known = Answer {
                mfa: candidate.mfa == Some(true),
                existing: candidate.existing == Some(true),
                exempt: candidate.exempt,
            };
            user(candidate, &known)
        })
        .collect();
    let mut failed = None;
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
                Err(error) => failed = Some(error),
            }
        },
    )
    .await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    users.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(Status {
        account: settings.policy.account().to_owned(),
        release: session.release().map(str::to_owned),
        policy_arn: settings.policy.to_string(),
        report_age_s: (Utc::now() - account.reported_at).num_seconds().max(0),
        totals: totals(&users),
        users,
        reported_at: account.reported_at,
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
}

/// What had to be asked about a user.
#[derive(Clone, Debug)]
struct Answer {
    mfa: bool,
    existing: bool,
    exempt: Option<Exemption>,
}

fn totals(users: &[ConsoleUser]) -> Totals {
    let mut totals = Totals { console_users: users.len(), ..Totals::default() };
    for user in users {
        totals.without_mfa += usize::from(!user.mfa);
        match user.coverage {
            Coverage::Direct | Coverage::Group => totals.covered += 1,
            Coverage::Exempt => totals.exempt += 1,
            Coverage::None => {
                totals.uncovered += 1;
                totals.existing += usize::from(user.detail == EXISTING);
            }
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
    });
    let unreported = account.unreported.iter().map(|user| Candidate {
        name: user.name.clone(),
        arn: arn(&settings.policy, &user.path, &user.name),
        path: user.path.clone(),
        mfa: None,
        existing: (user.created >= account.policy_created).then_some(false),
        covered_by: account.covered_by(&user.name),
        exempt: settings.exemptions.by_name(&user.name).or_else(|| settings.exemptions.by_path(&user.path)),
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
    Ok(Some(Answer { mfa, existing: candidate.existing.unwrap_or(password_created < policy_created), exempt }))
}

fn user(candidate: Candidate, answer: &Answer) -> ConsoleUser {
    let (coverage, detail) = match (candidate.covered_by, answer.exempt) {
        (Some(CoveredBy::Attachment), _) => (Coverage::Direct, String::new()),
        (Some(CoveredBy::Group(group)), _) => (Coverage::Group, group.to_string()),
        (None, Some(exemption)) => (Coverage::Exempt, exemption.setting().to_owned()),
        (None, None) => (Coverage::None, if answer.existing { EXISTING } else { NEW }.to_owned()),
    };
    ConsoleUser { user: candidate.name.to_string(), arn: candidate.arn, mfa: answer.mfa, coverage, detail }
}
