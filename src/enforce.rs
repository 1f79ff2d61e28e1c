//! One user → [`Outcome`]: attaches the policy, or returns why not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{Change, Facts, IgnoreReason};
use crate::iam::{Iam, IamError, IamErrorKind};
use crate::identifiers::{GroupName, PolicyArn, UserName};
use crate::outcome::Outcome;
use crate::settings::{Mode, Scope, Settings};

/// How long to wait before each new try when IAM does not show the user yet: five seconds together.
pub const VISIBILITY_WAITS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(1500),
    Duration::from_millis(1750),
];

/// IAM shows a new user within about 30 seconds. A user that is not there when its event is this old is gone.
const GONE_AFTER: TimeDelta = TimeDelta::minutes(2);

/// How long a `CreateLoginProfile` proves that its user has a password. An older event was redriven or tried again for
/// hours: by then the password may be deleted, and the name may be another user's.
const PASSWORD_PROVEN_FOR: TimeDelta = TimeDelta::minutes(15);

/// The longest time for one event. All calls and waits of an ordinary event need much less.
pub const TIME_LIMIT: Duration = Duration::from_secs(25);

/// Why a user who should be covered is not. The messages say what failed; what to do depends on who reads them, and is
/// [`Failure`](crate::handler::Failure)'s.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnforceError {
    /// IAM does not show the user of a recent event.
    #[error("user {user}: IAM does not show the user yet ({call} answered NoSuchEntity for five seconds)")]
    UserNotVisible {
        /// The user.
        user: UserName,
        /// The call that did not find the user.
        call: &'static str,
    },
    /// The policy does not exist.
    #[error(
        "user {user}: AttachUserPolicy answered NoSuchEntity although the user exists, so the policy {policy} is missing"
    )]
    PolicyMissing {
        /// The user left without the policy.
        user: UserName,
        /// The policy.
        policy: PolicyArn,
    },
    /// The user's quota of managed policies is full, and the overflow group cannot take the user.
    #[error(
        "user {user}: AttachUserPolicy answered LimitExceeded, since the user's quota of managed policies is full, and {no_group}"
    )]
    QuotaExhausted {
        /// The user left without the policy.
        user: UserName,
        /// Why the overflow group cannot take the user.
        no_group: NoGroup,
    },
    /// An IAM call failed.
    #[error("user {user}: {error}")]
    Iam {
        /// The user left without the policy.
        user: UserName,
        /// The call and what it failed with.
        #[source]
        error: IamError,
    },
    /// The calls for one event took longer than [`TIME_LIMIT`].
    #[error("user {user}: IAM did not answer all calls within {} s", TIME_LIMIT.as_secs())]
    OutOfTime {
        /// The user left without the policy.
        user: UserName,
    },
}

/// Why the overflow group cannot take a user whose quota is full.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGroup {
    /// No group is configured.
    #[error("no overflow group is set")]
    NotSet,
    /// The user is in as many groups as IAM allows.
    #[error("the user is in too many groups to be added to {0} (AddUserToGroup answered LimitExceeded)")]
    UserFull(GroupName),
    /// The group does not exist.
    #[error("the overflow group {0} does not exist (AddUserToGroup answered NoSuchEntity)")]
    Missing(GroupName),
    /// The group exists without the policy, so that adding the user would protect nobody.
    #[error("the overflow group {0} does not have the policy")]
    WithoutPolicy(GroupName),
}

/// How one attempt to cover a user ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The user has the policy, or does not need it.
    Done(Outcome),
    /// IAM does not show something that is needed.
    Missing(Missing),
}

/// What IAM does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The user, by the call named.
    User(&'static str),
    /// The policy does not exist.
    Policy,
}

/// Covers single users.
#[derive(Clone, Debug)]
pub struct Enforcer {
    /// The policy, who is exempt, and whether to write.
    pub settings: Settings,
    /// The IAM of the policy's account.
    pub iam: Iam,
    /// How long to wait before each new try when IAM does not show a user: [`VISIBILITY_WAITS`].
    pub waits: Vec<Duration>,
}

impl Enforcer {
    /// Attaches the policy to the user, if the user has a password and is not exempt. Safe to repeat.
    ///
    /// # Errors
    /// If a user who should be covered is left without the policy.
    pub async fn enforce(&self, user: &UserName, change: Change, facts: &Facts) -> Result<Outcome, EnforceError> {
        match tokio::time::timeout(TIME_LIMIT, self.enforce_without_timeout(user, change, facts)).await {
            Ok(result) => result,
            Err(_) => Err(EnforceError::OutOfTime { user: user.clone() }),
        }
    }

    async fn enforce_without_timeout(
        &self,
        user: &UserName,
        change: Change,
        facts: &Facts,
    ) -> Result<Outcome, EnforceError> {
        if let Some(exemption) = self.settings.exemptions.by_name(user) {
            return Ok(Outcome::Exempt(exemption));
        }
        let needs_proof = match (self.settings.scope, change) {
            (Scope::AllUsers, _) => false,
            (Scope::ConsoleUsers, Change::LoginProfileCreated) => !proves_password(facts.time, Utc::now()),
            (Scope::ConsoleUsers, Change::UserCreated | Change::PolicyRemoved) => true,
        };
        if needs_proof && self.iam.login_profile_created_at(user).await.map_err(for_user(user))?.is_none() {
            // A user that IAM does not show yet is no console user either: a password has an event of its own. A user whose
            // policy was removed existed, so a missing one was deleted.
            let gone = change == Change::PolicyRemoved && self.iam.user(user).await.map_err(for_user(user))?.is_none();
            let reason = if gone { IgnoreReason::UserGone } else { IgnoreReason::NotAConsoleUser };
            return Ok(Outcome::Ignored(reason));
        }
        // A user is shown late after its creation. One whose policy was removed existed before, so it is gone: to delete a
        // user, one detaches its policies first.
        let existed = change == Change::PolicyRemoved;
        match self.repeat_while_missing(existed, || self.attempt(user)).await? {
            Attempt::Done(Outcome::AddedToGroup(group)) => {
                self.require_policy_of(&group, user).await?;
                Ok(Outcome::AddedToGroup(group))
            }
            Attempt::Done(outcome) => Ok(outcome),
            Attempt::Missing(Missing::User(_)) if existed => Ok(Outcome::Ignored(IgnoreReason::UserGone)),
            Attempt::Missing(missing) => self.give_up(user, missing, is_young(facts.time, Utc::now())),
        }
    }

    /// Repeats an attempt after each of the waits, as long as IAM does not show something that is needed: IAM may show it
    /// late. `existed`: a missing user existed before, so that it is not waited for. Whether it is the user or the policy
    /// that is missing is found by a second call, which may see what the first did not: so the policy is not taken for
    /// missing at the first look.
    pub(crate) async fn repeat_while_missing<F>(
        &self,
        existed: bool,
        attempt: impl Fn() -> F,
    ) -> Result<Attempt, EnforceError>
    where
        F: Future<Output = Result<Attempt, EnforceError>>,
    {
        let mut waits = self.waits.iter();
        loop {
            let end = attempt().await?;
            let is_awaited = match &end {
                Attempt::Done(_) => false,
                Attempt::Missing(Missing::User(_)) => !existed,
                Attempt::Missing(Missing::Policy) => true,
            };
            match waits.next() {
                Some(wait) if is_awaited => tokio::time::sleep(*wait).await,
                Some(_) | None => return Ok(end),
            }
        }
    }

    /// The result if IAM still does not show the user or the policy after all waits.
    fn give_up(&self, user: &UserName, missing: Missing, young: bool) -> Result<Outcome, EnforceError> {
        match missing {
            Missing::User(call) if young => Err(EnforceError::UserNotVisible { user: user.clone(), call }),
            Missing::User(_) => Ok(Outcome::Ignored(IgnoreReason::UserGone)),
            Missing::Policy => Err(self.policy_missing(user)),
        }
    }

    /// One attempt to cover a console user. Looks up path and tags if they may exempt the user.
    pub(crate) async fn attempt(&self, user: &UserName) -> Result<Attempt, EnforceError> {
        if self.settings.exemptions.require_user_lookup()
            && let Some(end) = self.exempt_or_missing(user).await?
        {
            return Ok(end);
        }
        self.cover_unless_reporting(user).await
    }

    /// Looks up path and tags; `None` if they do not exempt.
    pub(crate) async fn exempt_or_missing(&self, user: &UserName) -> Result<Option<Attempt>, EnforceError> {
        let Some(attributes) = self.iam.user(user).await.map_err(for_user(user))? else {
            return Ok(Some(Attempt::Missing(Missing::User("GetUser"))));
        };
        let exemption = self.settings.exemptions.by_attributes(&attributes.path, &attributes.tags);
        Ok(exemption.map(|exemption| Attempt::Done(Outcome::Exempt(exemption))))
    }

    /// Covers a user who is known not to be exempt. In report mode, writes nothing and returns [`Outcome::WouldAttach`].
    pub(crate) async fn cover_unless_reporting(&self, user: &UserName) -> Result<Attempt, EnforceError> {
        match self.settings.mode {
            Mode::Report => Ok(Attempt::Done(Outcome::WouldAttach)),
            Mode::Enforce => self.cover(user).await,
        }
    }

    /// Attaches the policy, or adds the user to the overflow group if the user's quota is full.
    ///
    /// # Errors
    /// If the user is left without the policy. A missing user or policy is no error yet: IAM may show it later.
    pub(crate) async fn cover(&self, user: &UserName) -> Result<Attempt, EnforceError> {
        let Err(error) = self.iam.attach_user_policy(user, &self.settings.policy).await else {
            return Ok(Attempt::Done(Outcome::Attached));
        };
        match error.kind {
            // IAM answers the same for a missing user and a missing policy. GetUser shows which one it is.
            IamErrorKind::NoSuchEntity => {
                Ok(Attempt::Missing(match self.iam.user(user).await.map_err(for_user(user))? {
                    Some(_) => Missing::Policy,
                    None => Missing::User(error.call),
                }))
            }
            IamErrorKind::LimitExceeded => match &self.settings.overflow_group {
                Some(group) => self.add_to_group(user, group).await,
                None => Err(EnforceError::QuotaExhausted { user: user.clone(), no_group: NoGroup::NotSet }),
            },
            IamErrorKind::AccessDenied | IamErrorKind::Throttled | IamErrorKind::Unavailable | IamErrorKind::Other => {
                Err(for_user(user)(error))
            }
        }
    }

    async fn add_to_group(&self, user: &UserName, group: &GroupName) -> Result<Attempt, EnforceError> {
        let exhausted = |no_group| EnforceError::QuotaExhausted { user: user.clone(), no_group };
        let Err(error) = self.iam.add_user_to_group(user, group).await else {
            return Ok(Attempt::Done(Outcome::AddedToGroup(group.clone())));
        };
        match error.kind {
            IamErrorKind::NoSuchEntity => match self.iam.user(user).await.map_err(for_user(user))? {
                Some(_) => Err(exhausted(NoGroup::Missing(group.clone()))),
                None => Ok(Attempt::Missing(Missing::User(error.call))),
            },
            IamErrorKind::LimitExceeded => Err(exhausted(NoGroup::UserFull(group.clone()))),
            IamErrorKind::AccessDenied | IamErrorKind::Throttled | IamErrorKind::Unavailable | IamErrorKind::Other => {
                Err(for_user(user)(error))
            }
        }
    }

    /// Somebody may have detached the policy from the overflow group: its members are then not covered. A sweep knows this
    /// from the account that it has read; an event looks it up in the rare case that a quota is full.
    async fn require_policy_of(&self, group: &GroupName, user: &UserName) -> Result<(), EnforceError> {
        let (_, groups) = self.iam.entities_for_policy(&self.settings.policy).await.map_err(for_user(user))?;
        if groups.contains(group) {
            return Ok(());
        }
        let no_group = NoGroup::WithoutPolicy(group.clone());
        Err(EnforceError::QuotaExhausted { user: user.clone(), no_group })
    }

    pub(crate) fn policy_missing(&self, user: &UserName) -> EnforceError {
        EnforceError::PolicyMissing { user: user.clone(), policy: self.settings.policy.clone() }
    }
}

/// Adds to a failed call the user whom it was about.
pub(crate) fn for_user(user: &UserName) -> impl Fn(IamError) -> EnforceError + '_ {
    |error| EnforceError::Iam { user: user.clone(), error }
}

/// Whether a `CreateLoginProfile` proves by itself that its user has a password. One without a time does: one attachment
/// too many is better than a user who slipped through.
fn proves_password(event_time: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    event_time.is_none_or(|time| now - time < PASSWORD_PROVEN_FOR)
}

/// Whether a user whom IAM does not show may yet appear. An event without a time counts as young: another
/// attempt is better than a lost event.
fn is_young(event_time: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    event_time.is_none_or(|time| now - time < GONE_AFTER)
}

impl EnforceError {
    /// The `errorType` of the failed invocation.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::UserNotVisible { .. } => "user_not_visible",
            Self::PolicyMissing { .. } => "policy_missing",
            Self::QuotaExhausted { .. } => "quota_exhausted",
            Self::OutOfTime { .. } => "iam_unavailable",
            Self::Iam { error, .. } => error.kind.error_type(),
        }
    }

    /// The user left without the policy.
    #[must_use]
    pub fn user(&self) -> &UserName {
        match self {
            Self::UserNotVisible { user, .. }
            | Self::PolicyMissing { user, .. }
            | Self::QuotaExhausted { user, .. }
            | Self::OutOfTime { user }
            | Self::Iam { user, .. } => user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_user_is_given_two_minutes_from_the_event() {
        let now = Utc::now();
        for (seconds_ago, young) in [(-3600, true), (0, true), (119, true), (120, false), (86_400, false)] {
            assert_eq!(is_young(Some(now - TimeDelta::seconds(seconds_ago)), now), young, "{seconds_ago} s ago");
        }
        assert!(is_young(None, now), "an event without a time must not be taken for an old one");
    }

    #[test]
    fn a_login_profile_is_proven_for_fifteen_minutes() {
        let now = Utc::now();
        for (seconds_ago, proven) in [(-3600, true), (0, true), (899, true), (900, false), (864_000, false)] {
            assert_eq!(
                proves_password(Some(now - TimeDelta::seconds(seconds_ago)), now),
                proven,
                "{seconds_ago} s ago"
            );
        }
        assert!(proves_password(None, now), "an event without a time must not cost its user the policy");
    }
}
