//! The pace at which IAM takes calls, and the work on many users at that pace. Knows neither IAM nor users.
//!
//! AWS publishes no rate limit of IAM, and other callers in the account share it. So [`Pace`] finds the rate out: it
//! rises until IAM refuses a call, falls at a refusal, and rises again.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// Calls a second at the start. A small account is then read without waiting.
const FIRST_RATE: f64 = 20.0;
/// Calls a second that are always tried. At a lower rate a sweep would find out too late that IAM answers again.
const LOWEST_RATE: f64 = 2.0;
/// What is left of the rate after a refusal. The AWS SDKs' adaptive mode keeps 0.7; IAM's limit is a steady one, so
/// that less has to be given up.
const AFTER_REFUSAL: f64 = 0.8;
/// The first rise after a refusal, in parts of the rate. Each second without a refusal the rate rises, and each time by
/// [`FASTER`] more: the limit is found slowly where it was a moment ago, and soon if it has moved.
const FIRST_RISE: f64 = 0.05;
const FASTER: f64 = 1.25;
/// How far a call that starts late (timers count in milliseconds) lets the next ones catch up.
const CATCH_UP: Duration = Duration::from_millis(10);

/// Spaces calls out, at a rate that follows IAM's answers down and up.
#[derive(Debug)]
pub struct Pace {
    /// When the next call may start. Whoever holds the lock waits for that moment, the others in order behind.
    next: tokio::sync::Mutex<Instant>,
    rate: Mutex<Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: f64,
    /// What the next second without a refusal adds; `None` before the first refusal.
    rise: Option<f64>,
    /// When the rate last fell or rose.
    changed: Instant,
}

/// The permission to make one call; [`Pace::accepted`] or [`Pace::refused`] takes it back.
#[derive(Debug)]
pub struct Turn {
    started: Instant,
    /// Whether the pace, and not the caller, was what the call waited for.
    held_up: bool,
}

impl Default for Pace {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            next: tokio::sync::Mutex::new(now),
            rate: Mutex::new(Rate { per_second: FIRST_RATE, rise: None, changed: now }),
        }
    }
}

impl Pace {
    /// Waits until the next call may be made.
    pub async fn turn(&self) -> Turn {
        let mut next = self.next.lock().await;
        let held_up = *next > Instant::now();
        if held_up {
            tokio::time::sleep_until(*next).await;
        }
        let started = Instant::now();
        let earliest = started.checked_sub(CATCH_UP).unwrap_or(started);
        *next = (*next).max(earliest) + Duration::from_secs_f64(1.0 / self.rate().per_second);
        Turn { started, held_up }
    }

    /// IAM took the call, whatever it answered.
    pub fn accepted(&self, turn: &Turn) {
        // Calls below the rate show nothing about how many IAM would take.
        if !turn.held_up {
            return;
        }
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        match rate.rise {
            // Doubles within a second, until the first refusal.
            None => rate.per_second += 1.0,
            Some(rise) if turn.started >= rate.changed + Duration::from_secs(1) => {
                rate.per_second += rise;
                rate.rise = Some(rise * FASTER);
                rate.changed = turn.started;
            }
            Some(_) => {}
        }
    }

    /// IAM refused the call as one too many.
    pub fn refused(&self, turn: &Turn) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        // Calls that were under way when the rate fell do not make it fall again.
        if rate.rise.is_some() && turn.started <= rate.changed {
            return;
        }
        rate.per_second = (rate.per_second * AFTER_REFUSAL).max(LOWEST_RATE);
        rate.rise = Some(rate.per_second * FIRST_RISE);
        rate.changed = Instant::now();
    }

    fn rate(&self) -> Rate {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Items being worked on at the same time: enough to use up what IAM allows when each call takes a tenth of a second.
/// How often IAM is called is up to the [`Pace`] of the calls.
pub const AT_ONCE: usize = 16;

/// Works on each item, on [`AT_ONCE`] of them at the same time, and passes each result to `done` as it comes. Once
/// `stopped` is true no further item is begun; those under way are waited for.
pub async fn for_each<T, R, F>(
    items: impl IntoIterator<Item = T>,
    stopped: impl Fn() -> bool,
    work: impl Fn(T) -> F,
    mut done: impl FnMut(R),
) where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut items = items.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && !stopped()
            && let Some(item) = items.next()
        {
            running.spawn(work(item));
        }
        match running.join_next().await {
            Some(Ok(result)) => done(result),
            // Nothing cancels the task, so that it panicked: its item is not done, which the caller can count.
            Some(Err(_)) => {}
            None => return,
        }
    }
}
