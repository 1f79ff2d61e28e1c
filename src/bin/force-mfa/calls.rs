//! One IAM call for each of many users, several at a time, at a pace that IAM bears.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use force_mfa::iam::{IamError, IamErrorKind};
use tokio::task::JoinSet;

use crate::terminal::Interrupt;

/// Calls under way at the same time, until IAM throttles.
const AT_ONCE: usize = 8;
/// How often an item is tried again that IAM throttled or did not answer. Each try has the SDK's retries inside.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// Calls `call` for each item and tells `told` each result as it comes. After Ctrl-C no new call is begun; those under
/// way are waited for.
pub async fn for_each<T, R, F>(
    items: impl IntoIterator<Item = T>,
    interrupt: &Interrupt,
    call: impl Fn(T) -> F,
    mut told: impl FnMut(T, Result<R, IamError>),
) where
    T: Clone + Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, IamError>> + Send + 'static,
{
    let mut queue: VecDeque<(T, u32)> = items.into_iter().map(|item| (item, 0)).collect();
    let mut at_once = AT_ONCE;
    let mut running = JoinSet::new();
    loop {
        while running.len() < at_once
            && !interrupt.stopped()
            && let Some((item, tries)) = queue.pop_front()
        {
            let answer = call(item.clone());
            running.spawn(async move { (item, tries, answer.await) });
        }
        let Some(ended) = running.join_next().await else { return };
        let (item, tries, result) = ended.expect("a call is not cancelled, and does not panic");
        match result {
            Err(error) if passes(&error) && tries < TRIES && !interrupt.stopped() => {
                at_once = (at_once / 2).max(1);
                queue.push_back((item, tries + 1));
                tokio::time::sleep(PAUSE).await;
            }
            result => told(item, result),
        }
    }
}

fn passes(error: &IamError) -> bool {
    matches!(error.kind, IamErrorKind::Throttled | IamErrorKind::Unavailable)
}
