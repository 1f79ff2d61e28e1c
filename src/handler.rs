//! A payload's whole way: read, decided, done. What the Lambda and the command's `replay` and `redrive` share.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::enforce::{Enforcer, VISIBILITY_WAITS};
use crate::event::{self, Event, Trigger};
use crate::iam::Iam;
use crate::outcome::{Failure, Handled, Outcome};
use crate::settings::{Mode, Settings};
use crate::sweep::sweep;

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
            Ok(Trigger::Ignore(reason)) => Ok(Outcome::Ignored { reason, user: None }),
            Ok(Trigger::User { user, change }) => {
                self.enforcer.enforce(&user, change, &facts).await.map_err(Failure::from)
            }
            Ok(Trigger::Sweep { mode }) => self.sweep(mode, now, until).await,
            Err(error) => Err(error.into()),
        };
        Handled::now(facts, result)
    }

    async fn sweep(&self, mode: Mode, now: DateTime<Utc>, until: Instant) -> Result<Outcome, Failure> {
        let mut enforcer = self.enforcer.clone();
        if mode == Mode::Report {
            enforcer.settings.mode = Mode::Report;
        }
        let report = sweep(&enforcer, now, until, |_, _| {}).await?;
        Ok(Outcome::Swept(Box::new(report)))
    }
}
