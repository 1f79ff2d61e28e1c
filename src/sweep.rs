//! A whole account → [`SweepReport`]: covers every user who should have the policy, also if an event was lost.

mod report;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

pub use self::report::{FailedUser, SweepError, SweepReport};
use crate::account::{Account, AccountUser, Standing};
use crate::credential_report::is_key_in_use;
use crate::enforce::{Attempt, EnforceError, Enforcer, Missing, NoGroup, for_user};
use crate::iam::{IamError, IamErrorKind};
use crate::identifiers::{GroupName, UserName};
use crate::outcome::Outcome;
use crate::pace;
use crate::policy_state::PolicyState;
use crate::settings::{Mode, Scope, Settings};

/// An event comes within minutes, and Lambda tries it again for three more. A new user who is without the policy after
/// that is one whose event was lost.
const EVENT_OVERDUE: TimeDelta = TimeDelta::minutes(15);

/// How long reading the policy's text may take. It changes nothing about who is covered, so it must not use up the
/// sweep's time.
const POLICY_TEXT_LIMIT: Duration = Duration::from_secs(20);

/// How often a sweep looks again before it reports that the policy is missing. The policy was there when the account was
/// read, so it is more likely that IAM does not show the user to each call.
const LOOKS_AGAIN: usize = 2;

/// A user without the policy.
#[derive(Clone, Debug)]
struct Candidate {
    user: UserName,
    created: Option<DateTime<Utc>>,
    /// Whether it is an existing user; `None` if only its login profile decides that.
    existing: Option<bool>,
    /// Whether an access key is in use, by the report.
    key_in_use: bool,
}

/// What came of one candidate.
struct Processed {
    result: Result<Decision, EnforceError>,
    /// Whether the user should have had the policy already, by its event.
    lost: bool,
    key_in_use: bool,
}

/// What was decided about one candidate.
enum Decision {
    /// It has no password, or does not exist any more.
    NotInScope,
    /// An existing user, whom the settings leave as is.
    Existing,
    /// It was exempt, or was covered, or would be.
    Decided(Outcome),
}

/// Checks every user of the account and covers those who should have the policy and do not. Ends by `until`. What
/// depends on the time of day takes `now` for it. Calls `progress` after each user that costs a call of its own, with how
/// many are done, and of how many.
///
/// # Errors
/// If the account could not be read (then nothing was written), or some users were not looked at or could not be covered
/// (all others were).
pub async fn sweep(
    enforcer: &Enforcer,
    now: DateTime<Utc>,
    until: Instant,
    progress: impl Fn(usize, usize),
) -> Result<SweepReport, SweepError> {
    let mut enforcer = Enforcer { iam: enforcer.iam.paced(until, || false), ..enforcer.clone() };
    enforcer.waits.truncate(LOOKS_AGAIN);
    let account = Account::read(&enforcer.iam, &enforcer.settings.policy, now, until).await?;
    for name in &account.unusable_names {
        tracing::warn!(user = name, "the sweep leaves out a user whose name is none of IAM's");
    }
    let soon = (Instant::now() + POLICY_TEXT_LIMIT).min(until);
    let policy = PolicyState::read(&enforcer.iam.paced(soon, || false), &enforcer.settings.policy).await;
    let (mut report, candidates) = plan(&account, policy, &enforcer.settings, now);
    let group_without_policy =
        enforcer.settings.overflow_group.clone().filter(|group| !account.group_has_policy(group));
    let all = candidates.len();
    let mut done = 0;
    let work = pace::for_each(
        candidates,
        || false,
        |candidate| {
            let (enforcer, group_without_policy) = (enforcer.clone(), group_without_policy.clone());
            let policy_created = account.policy_created;
            async move { process_candidate(&enforcer, &candidate, policy_created, now, group_without_policy).await }
        },
        |processed| {
            if processed.result.as_ref().is_err_and(is_out_of_time) {
                return;
            }
            done += 1;
            report.count(processed);
            progress(done, all);
        },
    );
    // A call that is cut off here is repeated by the next sweep. It may be: every call is idempotent.
    let _ = tokio::time::timeout_at(until, work).await;
    report.remaining = all - done;
    if report.remaining + report.failures == 0 { Ok(report) } else { Err(SweepError::Incomplete(Box::new(report))) }
}

/// A throttled call of a paced client is repeated until the time is over.
fn is_out_of_time(error: &EnforceError) -> bool {
    matches!(error, EnforceError::Iam { error: IamError { kind: IamErrorKind::Throttled, .. }, .. })
}

/// Counts what the reads decide, and lists the users who need a call, in order: those missing from the report, then the
/// others from a place that differs in each sweep. If a sweep always began at the same place, users who need a look-up
/// in each sweep could use up its time, and those behind them would never be reached.
fn plan(
    account: &Account,
    policy: PolicyState,
    settings: &Settings,
    now: DateTime<Utc>,
) -> (SweepReport, Vec<Candidate>) {
    let mut report = SweepReport {
        mode: settings.mode,
        console_users: account.console_users.len(),
        without_mfa: account.console_users.iter().filter(|row| !row.has_mfa).count(),
        covered: 0,
        attached: 0,
        added_to_group: 0,
        would_attach: 0,
        exempt: 0,
        existing: 0,
        report_age_s: (now - account.reported_at).num_seconds().max(0),
        policy_warning: policy.warning(&settings.policy, unread_policy_message),
        policy,
        remaining: 0,
        failures: 0,
        failed: Vec::new(),
        lost: 0,
        keys_in_use: 0,
    };
    let (mut newest, mut others) = (Vec::new(), Vec::new());
    for user in account.users() {
        let existing = match (account.standing(user, settings), user) {
            (Standing::Covered(_), AccountUser::Reported(row)) => {
                report.covered += usize::from(row.has_password);
                continue;
            }
            (Standing::Exempt(_), AccountUser::Reported(_)) => {
                report.exempt += 1;
                continue;
            }
            (Standing::Existing, _) if settings.existing_users == Mode::Report => {
                report.existing += 1;
                continue;
            }
            (Standing::OutOfScope | Standing::Covered(_) | Standing::Exempt(_), _) => continue,
            (Standing::Existing, _) => Some(true),
            (Standing::Open { is_new }, _) => is_new.then_some(false),
        };
        let key_in_use = match user {
            AccountUser::Reported(row) => is_key_in_use(row.activity.access_key_last_used, now),
            AccountUser::Unreported(_) => false,
        };
        let candidate = Candidate { user: user.name().clone(), created: user.created(), existing, key_in_use };
        match user {
            AccountUser::Unreported(_) => newest.push(candidate),
            AccountUser::Reported(_) => others.push(candidate),
        }
    }
    let start = starting_place(now, others.len());
    others.rotate_left(start);
    newest.append(&mut others);
    (report, newest)
}

/// Why the policy's text could not be read, and what to do.
fn unread_policy_message(error: &IamError) -> String {
    let remedy = match error.kind {
        IamErrorKind::AccessDenied => {
            "Update the stack: infra/template.yaml allows this call to the function's role. If it does already, see \
             whether a permissions boundary or an SCP denies it"
        }
        IamErrorKind::NoSuchEntity
        | IamErrorKind::LimitExceeded
        | IamErrorKind::Throttled
        | IamErrorKind::Unavailable
        | IamErrorKind::Other => "The next sweep tries again",
    };
    format!("{error}. {remedy}")
}

/// The place among `count` at which a sweep at that time begins.
fn starting_place(now: DateTime<Utc>, count: usize) -> usize {
    /// How far the place moves in a millisecond, in parts of the whole. In six hours that is the golden ratio (beside
    /// whole rounds), whose multiples spread the most evenly. The whole rounds were searched for so that sweeps a second,
    /// a minute, an hour or a day apart also begin more than a fifth of the way from each other.
    const TURN: f64 = (14_326_288.0 + 0.618_033_988_749_894_9) / 21_600_000.0;
    #[expect(clippy::cast_precision_loss, reason = "a double holds the milliseconds of centuries exactly")]
    let place = (now.timestamp_millis() as f64 * TURN).rem_euclid(1.0) * count as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to `count`")]
    let place = place as usize;
    place.min(count.saturating_sub(1))
}

/// Asks IAM whether the report still holds for one candidate, and covers the user unless the settings say otherwise.
async fn process_candidate(
    enforcer: &Enforcer,
    candidate: &Candidate,
    policy_created: DateTime<Utc>,
    now: DateTime<Utc>,
    group_without_policy: Option<GroupName>,
) -> Processed {
    let user = &candidate.user;
    let Settings { existing_users, exemptions, .. } = &enforcer.settings;
    let mut lost = false;
    let result = async {
        let Some((since, existing)) = due_since(enforcer, candidate, policy_created).await? else {
            return Ok(Decision::NotInScope);
        };
        if existing && *existing_users == Mode::Report {
            return Ok(Decision::Existing);
        }
        // The plan knows name and path; the tags only GetUser shows.
        let exempt_or_missing = match exemptions.tag {
            Some(_) => enforcer.exempt_or_missing(user).await?,
            None => None,
        };
        let end = if let Some(end) = exempt_or_missing {
            end
        } else {
            lost = !existing && now - since > EVENT_OVERDUE;
            // A listed user that IAM does not show any more is gone.
            enforcer.repeat_while_missing(true, || enforcer.cover_unless_reporting(user)).await?
        };
        match (end, group_without_policy) {
            (Attempt::Done(Outcome::AddedToGroup(_)), Some(group)) => {
                Err(EnforceError::QuotaExhausted { user: user.clone(), no_group: NoGroup::WithoutPolicy(group) })
            }
            (Attempt::Done(outcome), _) => Ok(Decision::Decided(outcome)),
            (Attempt::Missing(Missing::User(_)), _) => Ok(Decision::NotInScope),
            (Attempt::Missing(Missing::Policy), _) => Err(enforcer.policy_missing(user)),
        }
    }
    .await;
    Processed { result, lost, key_in_use: candidate.key_in_use }
}

/// Since when the user should have the policy, and whether that is before the policy; `None` if it need not have it.
async fn due_since(
    enforcer: &Enforcer,
    candidate: &Candidate,
    policy_created: DateTime<Utc>,
) -> Result<Option<(DateTime<Utc>, bool)>, EnforceError> {
    let Candidate { user, created, existing, .. } = candidate;
    let all_users = enforcer.settings.scope == Scope::AllUsers;
    // No password is needed, so that there is nothing to ask.
    if let (true, Some(created), Some(existing)) = (all_users, created, existing) {
        return Ok(Some((*created, *existing)));
    }
    let password_created = enforcer.iam.login_profile_created_at(user).await.map_err(for_user(user))?;
    let since = password_created.or(created.filter(|_| all_users));
    Ok(since.map(|since| (since, existing.unwrap_or(since < policy_created))))
}

impl SweepReport {
    fn count(&mut self, processed: Processed) {
        // No event is due for a user who is gone.
        self.lost += usize::from(processed.lost && !matches!(processed.result, Ok(Decision::NotInScope)));
        let covers =
            |outcome: &Outcome| matches!(outcome, Outcome::Attached | Outcome::AddedToGroup(_) | Outcome::WouldAttach);
        let is_covered = matches!(&processed.result, Ok(Decision::Decided(outcome)) if covers(outcome));
        self.keys_in_use += usize::from(processed.key_in_use && is_covered);
        match processed.result {
            Ok(Decision::NotInScope) => {}
            Ok(Decision::Existing) => self.existing += 1,
            Ok(Decision::Decided(outcome)) => match outcome {
                Outcome::Attached => self.attached += 1,
                Outcome::AddedToGroup(_) => self.added_to_group += 1,
                Outcome::WouldAttach => self.would_attach += 1,
                Outcome::Exempt(_) => self.exempt += 1,
                Outcome::Ignored(_) => {}
            },
            Err(error) => self.count_failure(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_begin_far_from_each_other() {
        let first = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        for seconds in [1, 60, 120, 3600, 6 * 3600, 12 * 3600, 24 * 3600] {
            let from = starting_place(first, 1000);
            let to = starting_place(first + TimeDelta::seconds(seconds), 1000);
            let apart = from.abs_diff(to).min(1000 - from.abs_diff(to));
            assert!(apart >= 220, "{seconds} s: {from} {to}");
        }
    }

    #[test]
    fn sweeps_six_hours_apart_begin_everywhere_before_long() {
        let first = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let mut places: Vec<usize> = (0..20).map(|n| starting_place(first + TimeDelta::hours(6 * n), 1000)).collect();
        places.sort_unstable();
        places.push(places[0] + 1000);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= 100), "{places:?}");
        assert_eq!((starting_place(first, 0), starting_place(first, 1)), (0, 0));
    }
}
