//! `force-mfa doctor --canary`: proves the whole way of an event with a user of its own.
//!
//! The user is deleted again whatever happens. Only users that have both this name and this tag are ever deleted, and
//! none is created that could not be deleted.

mod user;

use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use force_mfa::identifiers::UserName;
use force_mfa::settings::{Mode, Scope, Settings};

use super::checks::{Check, CheckName, State};
use super::inventory::Inventory;
use crate::error::{CliError, FailedCall};
use crate::terminal::{Interrupt, can_ask, confirm, note, spinner};
use user::{CanaryUsers, OtherCanaries, random_password, random_suffix};

/// Between two looks at the user. The delivery of the event takes seconds to minutes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A canary that may be let out.
#[derive(Debug)]
pub struct Canary {
    users: CanaryUsers,
    user: String,
    account: String,
    policy_arn: String,
    scope: Scope,
}

impl Canary {
    /// Prepares a canary for this installation.
    ///
    /// # Errors
    /// If the function would not attach the policy to it: in report mode, to an exempt user, or without a function.
    pub fn new(config: &SdkConfig, inventory: &Inventory) -> Result<Self, CliError> {
        let function = match &inventory.function {
            Ok(Some(function)) => function,
            Ok(None) => {
                return Err(CliError::Failed("no canary: there is no function. Run this without --canary".to_owned()));
            }
            Err(unread) => {
                let why =
                    format!("no canary: the function's settings are not known ({}: {})", unread.action, unread.answer);
                return Err(if unread.denied { CliError::NotAllowed(why) } else { CliError::Failed(why) });
            }
        };
        let settings = Settings::read(|variable| function.variables.get(variable).cloned())
            .map_err(|error| CliError::Failed(format!("no canary: the function cannot start: {error}")))?;
        let user = format!("{}{}", user::PREFIX, random_suffix()?);
        refuse(&settings, &user)?;
        Ok(Self {
            users: CanaryUsers::new(config),
            user,
            account: inventory.account.clone(),
            policy_arn: inventory.policy_arn.clone(),
            scope: settings.scope,
        })
    }

    /// Creates the user, waits for the policy, and deletes the user.
    ///
    /// # Errors
    /// If nobody agrees, a call is denied, or a signal ends it. The user is deleted in each of these cases, or the error
    /// says how to delete it.
    pub async fn run(self, yes: bool, timeout: Duration, interrupt: &Interrupt) -> Result<Check, CliError> {
        let Self { users, user, account, policy_arn, .. } = &self;
        let mut signals = Signals::listen(interrupt)?;
        let OtherCanaries { left_behind, in_use } = interrupt
            .unless_stopped(async {
                users.require_deletion_rights(user, policy_arn).await?;
                users.others().await
            })
            .await?;
        for (other, ends_by) in &in_use {
            note(&format!(
                "Left {other} alone: another run may use it until {}. If it is still there after that, the next run \
                 deletes it.",
                ends_by.format("%Y-%m-%d %H:%M UTC")
            ));
        }
        let also = match left_behind.len() {
            0 => String::new(),
            _ => format!(" It deletes first what an earlier run left behind: {}.", left_behind.join(", ")),
        };
        let question = format!(
            "Account {account}: this creates the IAM user {user} with a password that nobody learns and without \
             permissions, waits until {policy_arn} is attached to it, and deletes the user.{also} Go on?"
        );
        if !yes && !can_ask() {
            let why = "--canary creates a user, and there is no terminal to ask on: give --yes. Nothing was done";
            return Err(CliError::Usage(why.to_owned()));
        }
        confirm(yes, &question, interrupt).await?;
        for left in &left_behind {
            users.delete(left).await?;
            note(&format!("Deleted {left}, which an earlier run left behind."));
        }
        // From here on the user may exist.
        interrupt.protect();
        let result = self.prove(timeout, &mut signals).await;
        if let Err(End::NothingCreated(error)) = result {
            return Err(error);
        }
        let deleted = users.delete(user).await;
        match (result, deleted) {
            (Ok(check), Ok(())) => Ok(check),
            (Ok(check), Err(error)) => Ok(Check {
                state: State::Fail,
                detail: format!("{}; the user {user} could not be deleted: {error}", check.detail),
                fix: Some(user::how_to_delete(user)),
                ..check
            }),
            (Err(end), Ok(())) => Err(end.told(&format!("the user {user} was deleted"))),
            (Err(end), Err(error)) => Err(end.told(&format!(
                "the user {user} could not be deleted: {error}. Delete it: {}",
                user::how_to_delete(user)
            ))),
        }
    }

    async fn prove(&self, timeout: Duration, signals: &mut Signals<'_>) -> Result<Check, End> {
        let Self { users, user, policy_arn, .. } = self;
        let begun = self.create(timeout, signals).await?;
        note(&format!("Created the user {user}. It is deleted at the end; if not: {}", user::how_to_delete(user)));
        let bar = spinner("waiting for the policy");
        let (state, detail, fix) = loop {
            let waited = begun.elapsed();
            match users.is_covered(user, policy_arn).await {
                Ok(true) => {
                    break (
                        State::Ok,
                        format!("{user} got the policy {} s after the IAM call", waited.as_secs()),
                        None,
                    );
                }
                Ok(false) if waited >= timeout => {
                    let fix =
                        "Fix what is not ok above, then run this again; docs/runbook.md says how to find the event";
                    let detail = format!("{user} did not get the policy within {} s", timeout.as_secs());
                    break (State::Fail, detail, Some(fix.to_owned()));
                }
                Err(call) if call.is_denied() => return Err(End::MayExist(call.into())),
                // A lost connection may come back.
                Err(call) if waited >= timeout => {
                    let detail = format!("{}: {}", call.action(), call.answer());
                    break (State::Unknown, detail, Some("Look at the network, then run this again".to_owned()));
                }
                Ok(false) | Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY.min(timeout.saturating_sub(waited))) => {}
                () = signals.any() => return Err(End::stopped()),
            }
        };
        bar.finish_and_clear();
        Ok(Check { name: CheckName::Canary, state, detail, fix })
    }

    /// Creates the user with its password. Returns when the call was made that the function acts on.
    async fn create(&self, timeout: Duration, signals: &Signals<'_>) -> Result<Instant, End> {
        let password = random_password().map_err(End::NothingCreated)?;
        let created = Instant::now();
        if let Err(call) = self.users.create(&self.user, timeout).await {
            return Err(not_created(call));
        }
        if signals.interrupt.stopped() {
            return Err(End::stopped());
        }
        let begun = Instant::now();
        self.users.create_password(&self.user, &password).await.map_err(|call| End::MayExist(call.into()))?;
        // With this scope the function does not wait for a password.
        Ok(if self.scope == Scope::AllUsers { created } else { begun })
    }
}

/// The function would leave the canary alone, and the canary would prove nothing.
fn refuse(settings: &Settings, user: &str) -> Result<(), CliError> {
    if settings.mode == Mode::Report {
        return Err(CliError::Usage(
            "no canary in report mode: the function attaches the policy to nobody. Update the stack with Mode=enforce first"
                .to_owned(),
        ));
    }
    let name = UserName::new(user).ok_or_else(|| CliError::Failed(format!("{user} is no user name")))?;
    let tags = [(user::TAG_KEY.to_owned(), user::TAG_VALUE.to_owned())];
    let exempt = settings.exemptions.by_name(&name).or_else(|| settings.exemptions.by_attributes("/", &tags));
    match exempt {
        None => Ok(()),
        Some(exemption) => Err(CliError::Usage(format!(
            "no canary: {} exempts the user {user}, so the function would leave it alone",
            exemption.setting()
        ))),
    }
}

/// Why the proof ended early.
#[derive(Debug)]
enum End {
    /// The user does not exist.
    NothingCreated(CliError),
    /// The user may exist.
    MayExist(CliError),
}

impl End {
    fn stopped() -> Self {
        Self::MayExist(CliError::Interrupted("stopped".to_owned()))
    }

    fn told(self, more: &str) -> CliError {
        let (Self::NothingCreated(error) | Self::MayExist(error)) = self;
        match error {
            CliError::Usage(text) => CliError::Usage(format!("{text}; {more}")),
            CliError::NotAllowed(text) => CliError::NotAllowed(format!("{text}; {more}")),
            CliError::Throttled(text) => CliError::Throttled(format!("{text}; {more}")),
            CliError::Failed(text) => CliError::Failed(format!("{text}; {more}")),
            CliError::Interrupted(text) => CliError::Interrupted(format!("{text}; {more}")),
            CliError::Output(error) => CliError::Failed(format!("{error}; {more}")),
        }
    }
}

/// What a failed `CreateUser` leaves. Without an answer, or after a retry, the user may exist all the same.
fn not_created(call: FailedCall) -> End {
    let refused = call.is_denied() || call.code().is_some_and(|code| REFUSED.contains(&code));
    if !refused {
        return End::MayExist(call.into());
    }
    let by_scp = call.answer().contains("service control policy");
    let error = CliError::from(call);
    End::NothingCreated(match error {
        CliError::NotAllowed(text) if by_scp => CliError::NotAllowed(format!(
            "{text}. An SCP of the organization denies new users here, so the canary cannot be tried in this account"
        )),
        error => error,
    })
}

/// Answers of `CreateUser` that leave nothing behind
/// (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateUser.html>, Errors). `EntityAlreadyExists` and
/// `Throttling` are not among them: they may be the answer to a later try, and the first one may have succeeded, and its
/// answer been lost.
const REFUSED: [&str; 3] = ["InvalidInput", "LimitExceeded", "NoSuchEntity"];

/// Ctrl-C, and what ends a program from outside. Without listening to the latter, a closed terminal would leave the user
/// behind.
struct Signals<'a> {
    interrupt: &'a Interrupt,
    #[cfg(unix)]
    others: [tokio::signal::unix::Signal; 2],
}

impl<'a> Signals<'a> {
    fn listen(interrupt: &'a Interrupt) -> Result<Self, CliError> {
        #[cfg(unix)]
        let others = {
            use tokio::signal::unix::{SignalKind, signal};
            [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]
        };
        Ok(Self {
            interrupt,
            #[cfg(unix)]
            others,
        })
    }

    async fn any(&mut self) {
        #[cfg(unix)]
        {
            let [terminate, hangup] = &mut self.others;
            tokio::select! {
                () = self.interrupt.wait() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
        #[cfg(not(unix))]
        self.interrupt.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_that_would_be_left_alone_is_refused() {
        let settings = |variable: &'static str, value: &'static str| {
            Settings::read(|wanted| match wanted {
                "FORCE_MFA_POLICY_ARN" => Some("arn:aws:iam::123456789012:policy/force-mfa".to_owned()),
                _ if wanted == variable => Some(value.to_owned()),
                _ => None,
            })
            .unwrap()
        };
        let user = "force-mfa-canary-abcdefgh";
        for (variable, value, word) in [
            ("FORCE_MFA_MODE", "report", "report mode"),
            ("FORCE_MFA_EXEMPT_USERS", "force-mfa-*", "FORCE_MFA_EXEMPT_USERS"),
            ("FORCE_MFA_EXEMPT_TAG", user::TAG_KEY, "FORCE_MFA_EXEMPT_TAG"),
        ] {
            let error = refuse(&settings(variable, value), user).unwrap_err();
            assert!(matches!(error, CliError::Usage(_)) && error.to_string().contains(word), "{variable}: {error}");
        }
        for (variable, value) in [("FORCE_MFA_MODE", "enforce"), ("FORCE_MFA_EXEMPT_USERS", "break-glass-*")] {
            assert!(refuse(&settings(variable, value), user).is_ok(), "{variable}={value}");
        }
    }
}
