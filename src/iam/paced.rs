//! The client for work on a whole account: its calls follow a [`Pace`], and it retries by itself what passes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_iam::Client;
use aws_sdk_iam::config::retry::RetryConfig;
use aws_sdk_iam::config::timeout::TimeoutConfig;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;

use super::error::{iam_error, unanswered};
use super::{ATTEMPT_TIMEOUT, ATTEMPTS, CONNECT_TIMEOUT, INITIAL_BACKOFF, Iam, IamError, IamErrorKind, MAX_BACKOFF};
use crate::pace::Pace;

/// One attempt of a call that reads the whole account: a credential report of 5,000 users takes several seconds to send.
const LONG_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a client for work on a whole account has beside: it retries by itself, so that each refusal reaches the pace.
pub(super) struct Paced {
    pace: Pace,
    /// No attempt is made or goes on after this.
    until: Instant,
    /// Once it is true, nothing is tried again.
    stopped: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Paced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paced").field("pace", &self.pace).field("until", &self.until).finish_non_exhaustive()
    }
}

/// How long a paced call goes on, if IAM refuses it or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// About one user: a throttled call is repeated until the end, any other failure that passes a few times, so that
    /// one user does not hold up the others.
    OneUser,
    /// About the whole account: until the end, since without it nothing can be done.
    WholeAccount,
    /// One attempt, where the caller has another way.
    Once,
}

impl Iam {
    /// The same IAM for work on a whole account: all calls of this client and its clones share one [`Pace`], and what
    /// IAM throttles or fails to answer is tried again until `until`, unless `stopped` has become true. The SDK retries
    /// nothing, or it would hide throttles from the pace.
    #[must_use]
    pub fn paced(&self, until: Instant, stopped: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        // A builder keeps the timeouts that it had unless they are disabled by name.
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
        let timeouts = timeouts.disable_operation_attempt_timeout().disable_operation_timeout().build();
        let config = self.client.config().to_builder();
        let config = config.retry_config(RetryConfig::disabled()).timeout_config(timeouts).build();
        let paced = Paced { pace: Pace::default(), until, stopped: Box::new(stopped) };
        Self { client: Client::from_conf(config), paced: Some(Arc::new(paced)), ..self.clone() }
    }

    /// Makes one call: for an event as the SDK does it, with its retries; for a whole account at the pace.
    pub(super) async fn send<T, E, F>(
        &self,
        call: &'static str,
        patience: Patience,
        attempt: impl Fn() -> F,
    ) -> Result<T, IamError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let Some(Paced { pace, until, stopped }) = self.paced.as_deref() else {
            return attempt().await.map_err(|error| iam_error(call, &error));
        };
        let limit = match patience {
            Patience::OneUser => ATTEMPT_TIMEOUT,
            Patience::WholeAccount | Patience::Once => LONG_ATTEMPT_TIMEOUT,
        };
        let mut last = unanswered(call, "the time was over before it could be asked");
        let mut failed_attempts: u32 = 0;
        loop {
            let Ok(turn) = tokio::time::timeout_at(*until, pace.turn()).await else { return Err(last) };
            let end = (Instant::now() + limit).min(*until);
            last = match tokio::time::timeout_at(end, attempt()).await {
                Ok(Ok(answer)) => {
                    pace.accepted(&turn);
                    return Ok(answer);
                }
                Ok(Err(error)) => iam_error(call, &error),
                Err(_) => unanswered(call, "it was waited for too long"),
            };
            let pause = match last.kind {
                IamErrorKind::Throttled => {
                    pace.refused(&turn);
                    Duration::ZERO
                }
                IamErrorKind::Unavailable => {
                    failed_attempts += 1;
                    INITIAL_BACKOFF.saturating_mul(1 << (failed_attempts - 1).min(4)).min(MAX_BACKOFF)
                }
                IamErrorKind::NoSuchEntity
                | IamErrorKind::LimitExceeded
                | IamErrorKind::AccessDenied
                | IamErrorKind::Other => {
                    pace.accepted(&turn);
                    return Err(last);
                }
            };
            let given_up = match patience {
                Patience::OneUser => failed_attempts >= ATTEMPTS,
                Patience::WholeAccount => false,
                Patience::Once => true,
            };
            if given_up || stopped() || Instant::now() + pause >= *until {
                return Err(last);
            }
            tokio::time::sleep(pause).await;
        }
    }
}
