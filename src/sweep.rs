//! The whole account → [`SweepReport`]: makes good every event that was lost, and tells what is there.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;

use crate::account::{Account, exempt_by_report};
use crate::credential_report::MissingColumn;
use crate::enforce::{EnforceError, Enforcer, Missing, NoGroup, RESTORE, Try, advice, failed};
use crate::iam::IamError;
use crate::identifiers::{GroupName, PolicyArn, UserName};
use crate::outcome::Outcome;
use crate::pace;
use crate::settings::{Mode, Settings};

/// Failures told one by one; the rest are only counted.
const FAILURES_TOLD: usize = 100;

/// What a sweep found and did. The reply and the metrics are this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SweepReport {
    /// Whether it wrote.
    pub mode: Mode,
    /// Whether it came to its end; if not, the next sweep does the rest.
    pub complete: bool,
    /// Users with a password, by the credential report.
    pub console_users: usize,
    /// Those of them without MFA.
    pub without_mfa: usize,
    /// Console users that had the policy before, directly or through a group.
    pub covered: usize,
    /// Users to whom the policy was attached.
    pub attached: usize,
    /// Users who were added to the overflow group.
    pub added_to_group: usize,
    /// Users to whom the policy would be attached, in report mode.
    pub would_attach: usize,
    /// Uncovered console users that the settings exempt.
    pub exempt: usize,
    /// Uncovered console users from before the policy, left alone as such.
    pub existing: usize,
    /// Users that could not be covered: the first hundred.
    pub failed: Vec<FailedUser>,
    /// How old the credential report was.
    pub report_age_s: i64,
    /// All users that could not be covered.
    #[serde(skip)]
    pub failures: usize,
    /// New users who were found without the policy: each one an event that was lost.
    #[serde(skip)]
    pub uncovered: usize,
}

/// A user whom a sweep could not cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedUser {
    /// The user.
    pub user: String,
    /// The `errorType`.
    pub error: &'static str,
    /// What happened.
    #[serde(skip)]
    pub cause: EnforceError,
}

/// Why a sweep did not do all that it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// A list or the credential report could not be had; nothing was written.
    #[error("the sweep could not read the account and changed nothing. {error}. {}", advice(error))]
    Unreadable {
        /// The call and what it failed with.
        #[from]
        error: IamError,
    },
    /// The credential report is none; nothing was written.
    #[error("the sweep could not read the account and changed nothing: {0}")]
    BadReport(#[from] MissingColumn),
    /// The policy does not exist; nothing was written.
    #[error("the policy {0} does not exist (GetPolicy answered NoSuchEntity). Correct FORCE_MFA_POLICY_ARN; {RESTORE}")]
    PolicyMissing(PolicyArn),
    /// The account could not be read in the time given; nothing was written.
    #[error(
        "the sweep could not read the account in its time and changed nothing: IAM was slow, or had no credential report \
         ready. The next sweep tries again; if this stays, give the function a longer timeout"
    )]
    OutOfTime,
    /// Some users could not be covered; all others were.
    #[error("{}", incomplete(.0))]
    Incomplete(Box<SweepReport>),
}

impl SweepError {
    /// The `errorType` of the failed invocation.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Unreadable { error } => error.kind.error_type(),
            Self::BadReport(_) => "iam_error",
            Self::PolicyMissing(_) => "policy_missing",
            Self::OutOfTime | Self::Incomplete(_) => "sweep_incomplete",
        }
    }
}

fn incomplete(report: &SweepReport) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> =
        report.failed.iter().take(NAMED).map(|FailedUser { error, cause, .. }| format!("{error}: {cause}")).collect();
    let more = match report.failures.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "{} of {} uncovered users could not be put under the policy, the others were: {}{more}",
        report.failures,
        report.failures + report.attached + report.added_to_group,
        named.join("; ")
    )
}

/// A console user without the policy.
#[derive(Clone, Debug)]
struct Candidate {
    user: UserName,
    /// Whether it is from before the policy, where the report settles it.
    existing: Option<bool>,
}

/// What came of one candidate.
enum Verdict {
    /// It has no password, or does not exist any more.
    NoConsoleUser,
    /// It is from before the policy and left alone.
    Existing,
    /// It was decided; `existing` tells a lost event from a user of before.
    Decided { outcome: Outcome, existing: bool },
}

/// Looks through the account and covers whoever should be and is not. Ends by `until`; `progress` is told after each
/// user how many are done, and of how many.
///
/// # Errors
/// If the account could not be read (then nothing was written), or any user could not be covered (all others were).
pub async fn sweep(
    enforcer: &Enforcer,
    until: Instant,
    progress: impl Fn(usize, usize),
) -> Result<SweepReport, SweepError> {
    let enforcer = Enforcer { waits: Vec::new(), iam: enforcer.iam.paced(until, || false), ..enforcer.clone() };
    let account = Account::read(&enforcer.iam, &enforcer.settings.policy, until).await?;
    let (mut report, queue) = plan(&account, &enforcer.settings);
    let unarmed = enforcer.settings.overflow_group.clone().filter(|group| !account.carries_policy(group));
    let all = queue.len();
    let mut done = 0;
    let work = pace::for_each(
        queue,
        || false,
        |candidate| {
            let (enforcer, unarmed, policy_created) = (enforcer.clone(), unarmed.clone(), account.policy_created);
            async move {
                let result = settle(&enforcer, &candidate, policy_created, unarmed).await;
                (candidate, result)
            }
        },
        |(candidate, result)| {
            done += 1;
            report.count(&candidate, result);
            progress(done, all);
        },
    );
    // What is cut off here is done again by the next sweep: every call can be repeated.
    let _ = tokio::time::timeout_at(until, work).await;
    report.complete = done == all;
    if report.failures == 0 { Ok(report) } else { Err(SweepError::Incomplete(Box::new(report))) }
}

/// What can be said of the account without a further call, and who remains to be looked at.
fn plan(account: &Account, settings: &Settings) -> (SweepReport, Vec<Candidate>) {
    let mut report = SweepReport {
        mode: settings.mode,
        complete: true,
        console_users: account.console_users.len(),
        without_mfa: account.console_users.iter().filter(|row| !row.has_mfa).count(),
        covered: 0,
        attached: 0,
        added_to_group: 0,
        would_attach: 0,
        exempt: 0,
        existing: 0,
        failed: Vec::new(),
        report_age_s: (DateTime::<Utc>::from(std::time::SystemTime::now()) - account.reported_at).num_seconds().max(0),
        failures: 0,
        uncovered: 0,
    };
    let mut queue = Vec::new();
    for row in &account.console_users {
        let existing = account.is_existing(row);
        if account.covered_by(&row.user).is_some() {
            report.covered += 1;
        } else if exempt_by_report(&settings.exemptions, row).is_some() {
            report.exempt += 1;
        } else if existing == Some(true) && settings.existing_users == Mode::Report {
            report.existing += 1;
        } else {
            queue.push(Candidate { user: row.user.clone(), existing });
        }
    }
    for user in &account.unreported {
        let exemptions = &settings.exemptions;
        let exempt = exemptions.by_name(&user.name).or_else(|| exemptions.by_path(&user.path)).is_some();
        if account.covered_by(&user.name).is_none() && !exempt {
            let existing = (user.created >= account.policy_created).then_some(false);
            queue.push(Candidate { user: user.name.clone(), existing });
        }
    }
    (report, queue)
}

/// Decides on one candidate, having asked IAM whether the report still holds.
async fn settle(
    enforcer: &Enforcer,
    candidate: &Candidate,
    policy_created: DateTime<Utc>,
    unarmed: Option<GroupName>,
) -> Result<Verdict, EnforceError> {
    let user = &candidate.user;
    let Some(password_created) = enforcer.iam.login_profile(user).await.map_err(failed(user))? else {
        return Ok(Verdict::NoConsoleUser);
    };
    let existing = candidate.existing.unwrap_or(password_created < policy_created);
    if existing && enforcer.settings.existing_users == Mode::Report {
        return Ok(Verdict::Existing);
    }
    match (enforcer.attempt(user).await?, unarmed) {
        (Try::Done(Outcome::AddedToGroup { .. }), Some(group)) => {
            Err(EnforceError::QuotaExhausted { user: user.clone(), no_group: NoGroup::Unarmed(group) })
        }
        (Try::Done(outcome), _) => Ok(Verdict::Decided { outcome, existing }),
        (Try::Missing(Missing::User(_)), _) => Ok(Verdict::NoConsoleUser),
        (Try::Missing(Missing::Policy), _) => Err(enforcer.policy_missing(user)),
    }
}

impl SweepReport {
    fn count(&mut self, candidate: &Candidate, result: Result<Verdict, EnforceError>) {
        match result {
            Ok(Verdict::NoConsoleUser) => {}
            Ok(Verdict::Existing) => self.existing += 1,
            Ok(Verdict::Decided { outcome, existing }) => {
                let covers = match outcome {
                    Outcome::Attached { .. } => &mut self.attached,
                    Outcome::AddedToGroup { .. } => &mut self.added_to_group,
                    Outcome::WouldAttach { .. } => &mut self.would_attach,
                    Outcome::Exempt { .. } => {
                        self.exempt += 1;
                        return;
                    }
                    Outcome::Ignored { .. } | Outcome::Swept(_) => return,
                };
                *covers += 1;
                self.uncovered += usize::from(!existing);
            }
            Err(error) => {
                self.failures += 1;
                self.uncovered += usize::from(candidate.existing != Some(true));
                if self.failed.len() < FAILURES_TOLD {
                    self.failed.push(FailedUser {
                        user: candidate.user.to_string(),
                        error: error.error_type(),
                        cause: error,
                    });
                }
            }
        }
    }
}
