//! How a sweep finds the pace at which IAM takes calls.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use force_mfa::enforce::Enforcer;
use force_mfa::sweep::sweep;
use support::fake_iam::{FakeIam, Fault};
use support::settings;
use tokio::time::Instant;

/// An IAM that takes `per_second` calls a second, with so many to spare after a pause, and refuses the others.
struct Bucket {
    per_second: f64,
    size: f64,
    tokens: f64,
    filled: Instant,
    taken: usize,
    refused: usize,
}

impl Bucket {
    fn new(per_second: f64, size: f64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { per_second, size, tokens: size, filled: Instant::now(), taken: 0, refused: 0 }))
    }

    fn takes_a_call(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.filled).as_secs_f64() * self.per_second).min(self.size);
        self.filled = now;
        let takes = self.tokens >= 1.0;
        if takes {
            self.tokens -= 1.0;
            self.taken += 1;
        } else {
            self.refused += 1;
        }
        takes
    }
}

/// 2,000 users to cover; each takes two calls.
const USERS: usize = 2000;
const NEEDED: f64 = 2.0 * 2000.0;

/// Sweeps once; the seconds that it took, and the calls that IAM refused, in parts of all.
async fn sweep_at(bucket: Arc<Mutex<Bucket>>, then: impl Fn(&mut Bucket) + Send + 'static) -> (f64, f64) {
    let mut account = FakeIam::default();
    for n in 0..USERS {
        account = account.with_console_user(&format!("user-{n}"));
    }
    account.world().latency = Duration::from_millis(20);
    let counted = bucket.clone();
    let account = account.with_faults(move |_, _| {
        let mut bucket = counted.lock().unwrap();
        then(&mut bucket);
        (!bucket.takes_a_call()).then_some(Fault::Error(400, "Throttling"))
    });
    let enforcer = Enforcer { settings: settings(&[]), iam: account.iam().await, waits: vec![] };
    let started = Instant::now();
    let report = sweep(&enforcer, Utc::now(), started + Duration::from_mins(30), |_, _| {}).await.unwrap();
    assert_eq!(report.attached, USERS);
    let bucket = bucket.lock().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let refused = bucket.refused as f64 / (bucket.refused + bucket.taken) as f64;
    (started.elapsed().as_secs_f64(), refused)
}

#[tokio::test(start_paused = true)]
async fn a_sweep_uses_up_the_rate_that_iam_allows() {
    for (per_second, size) in [(20.0, 1.0), (20.0, 100.0)] {
        let (seconds, refused) = sweep_at(Bucket::new(per_second, size), |_| {}).await;
        let limit = 1.35 * NEEDED / per_second;
        assert!(seconds <= limit, "{per_second}/s, {size} spare: {seconds} s, and {limit} s allowed");
        assert!(refused <= 0.25, "{per_second}/s, {size} spare: {refused} refused");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_follows_a_rate_that_rises_or_falls_halfway() {
    for (first, second, size) in [(20.0, 100.0, 20.0), (100.0, 20.0, 20.0)] {
        let halfway = move |bucket: &mut Bucket| {
            if bucket.taken >= USERS {
                bucket.per_second = second;
            }
        };
        let (seconds, refused) = sweep_at(Bucket::new(first, size), halfway).await;
        let limit = 1.35 * (NEEDED / 2.0 / first + NEEDED / 2.0 / second);
        assert!(seconds <= limit, "{first}/s → {second}/s: {seconds} s, and {limit} s allowed");
        assert!(refused <= 0.25, "{first}/s → {second}/s: {refused} refused");
    }
}
