//! A payload's whole way: read, decided, done, and what came of it. What the Lambda and the command's `replay` and
//! `redrive` share.

mod failure;

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

pub use self::failure::{Failure, RESTORE, user_message};
use crate::enforce::{Enforcer, VISIBILITY_WAITS};
use crate::event::{self, Event, Facts, IgnoreReason, Trigger};
use crate::iam::Iam;
use crate::identifiers::UserName;
use crate::outcome::Outcome;
use crate::settings::{Mode, Settings};
use crate::sweep::{SweepReport, sweep};

/// Handles payloads, one after another or several at a time.
#[derive(Clone, Debug)]
pub struct Handler {
    enforcer: Enforcer,
}

impl Handler {
    /// A handler with these settings, for this account.
    #[must_use]
    pub fn new(settings: Settings, iam: Iam) -> Self {
        Self { enforcer: Enforcer { settings, iam, waits: VISIBILITY_WAITS.to_vec() } }
    }

    /// The same, with other waits for a user whom IAM does not show yet.
    #[must_use]
    pub fn with_waits(mut self, waits: Vec<Duration>) -> Self {
        self.enforcer.waits = waits;
        self
    }

    /// Handles one payload. A sweep ends by `until`; an event has a limit of its own,
    /// [`TIME_LIMIT`](crate::enforce::TIME_LIMIT).
    pub async fn handle(&self, payload: &[u8], until: Instant) -> Handled {
        self.handle_at(payload, SystemTime::now().into(), until).await
    }

    /// The same at another time than that of the clock: what a sweep takes for now.
    pub async fn handle_at(&self, payload: &[u8], now: DateTime<Utc>, until: Instant) -> Handled {
        let Event { facts, trigger } = event::read(payload, &self.enforcer.settings);
        let result = match trigger {
            Ok(Trigger::Ignore(reason)) => Ok(PayloadOutcome::Ignored(reason)),
            Ok(Trigger::User { user, change }) => match self.enforcer.enforce(&user, change, &facts).await {
                Ok(outcome) => Ok(PayloadOutcome::User { user, outcome }),
                Err(error) => Err(error.into()),
            },
            Ok(Trigger::Sweep { mode }) => self.sweep(mode, now, until).await,
            Err(error) => Err(error.into()),
        };
        Handled::now(facts, result)
    }

    async fn sweep(&self, mode: Mode, now: DateTime<Utc>, until: Instant) -> Result<PayloadOutcome, Failure> {
        let mut enforcer = self.enforcer.clone();
        if mode == Mode::Report {
            enforcer.settings.mode = Mode::Report;
        }
        let report = sweep(&enforcer, now, until, |_, _| {}).await?;
        Ok(PayloadOutcome::Swept(Box::new(report)))
    }
}

/// A payload that has been handled.
#[derive(Debug)]
pub struct Handled {
    /// What identifies the payload.
    pub facts: Facts,
    /// What came of it, or why it failed.
    pub result: Result<PayloadOutcome, Failure>,
    /// When the handling ended.
    pub at: DateTime<Utc>,
}

impl Handled {
    /// A payload that has just been handled.
    #[must_use]
    pub fn now(facts: Facts, result: Result<PayloadOutcome, Failure>) -> Self {
        Self { facts, result, at: SystemTime::now().into() }
    }
}

/// How a payload ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadOutcome {
    /// It was about one user.
    User {
        /// The user whom the payload is about.
        user: UserName,
        /// What came of the user.
        outcome: Outcome,
    },
    /// It asks for nothing.
    Ignored(IgnoreReason),
    /// It asked for a sweep, which finished.
    Swept(Box<SweepReport>),
}

impl PayloadOutcome {
    /// The outcome as the reply spells it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::User { outcome, .. } => outcome.as_str(),
            Self::Ignored(_) => "ignored",
            Self::Swept(_) => "swept",
        }
    }

    /// The user it is about.
    #[must_use]
    pub const fn user(&self) -> Option<&UserName> {
        match self {
            Self::User { user, .. } => Some(user),
            Self::Ignored(_) | Self::Swept(_) => None,
        }
    }

    /// What explains it, as [`Outcome::reason`] does.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::User { outcome, .. } => outcome.reason(),
            Self::Ignored(reason) => Some(reason.as_str()),
            Self::Swept(_) => None,
        }
    }
}
