//! What is known to go wrong around the function, tried without AWS. These tests play Lambda's two retries, its failure
//! queue and the redrive; IAM is the fake one in memory, or a socket that does not answer.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use chrono::{SecondsFormat, TimeDelta, Utc};
use force_mfa::enforce::TIME_LIMIT;
use force_mfa::handler::Handler;
use force_mfa::iam::Iam;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::fake_iam::{FakeIam, Fault, POLICY, sdk_config};
use support::lambda::{Run, run_function_at};
use support::{Done, done, event, settings};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Lambda's waits before its second and its third try.
const RETRIES: [Duration; 2] = [Duration::from_mins(1), Duration::from_mins(2)];

/// One execution environment: a process with a client of its own.
async fn environment(account: &FakeIam, number: usize) -> Handler {
    // The SDK counts its retries by region, for all clients of a process.
    let region = aws_config::Region::new(format!("environment-{number}"));
    let config = sdk_config(None).to_builder().region(region).build();
    let iam = Iam::with_connector(&config, SharedHttpConnector::new(account.clone())).await;
    Handler::new(settings(&[("FORCE_MFA_EXEMPT_USERS", "break-glass-*")]), iam)
}

async fn invoke(handler: &Handler, payload: &Value) -> Done {
    done(handler.handle(payload.to_string().as_bytes(), Instant::now() + Duration::from_mins(9)).await)
}

/// Invokes as Lambda does for EventBridge; what fails three times comes back as the message of the failure queue.
async fn deliver(handler: &Handler, payload: &Value) -> Result<Done, Value> {
    let mut waits = RETRIES.iter();
    loop {
        let done = invoke(handler, payload).await;
        if done.error_type.is_empty() {
            return Ok(done);
        }
        match waits.next() {
            Some(wait) => tokio::time::sleep(*wait).await,
            None => return Err(on_failure(payload, "RetriesExhausted", Some(&done))),
        }
    }
}

/// The message that Lambda puts into the failure queue.
fn on_failure(payload: &Value, condition: &str, done: Option<&Done>) -> Value {
    let mut message = json!({
        "version": "1.0", "timestamp": "2026-11-24T00:00:00.000Z",
        "requestContext": { "requestId": "8476a536-e9f4-11e8-9739-2dfe598c3fcd", "condition": condition,
                            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:force-mfa:$LATEST",
                            "approximateInvokeCount": if done.is_some() { 3 } else { 0 } },
        "requestPayload": payload,
    });
    if let Some(done) = done {
        message["responsePayload"] = json!({ "errorType": done.error_type, "errorMessage": done.message });
    }
    message
}

// One failure each.

#[tokio::test(start_paused = true)]
async fn a_rules_dead_letter_is_the_event_and_is_redriven_as_it_is() {
    let account = FakeIam::default().with_console_user("alice");
    // Two weeks is as long as the queue keeps it.
    let dead_letter = event("CreateLoginProfile", "alice", 14 * 86_400);
    assert_eq!(invoke(&environment(&account, 0).await, &dead_letter).await.summary(), "attached");
}

/// The rule has no constant input, since its dead letter would not have it.
#[tokio::test(start_paused = true)]
async fn a_schedules_dead_letter_is_redriven_as_a_sweep() {
    let account = FakeIam::default().with_console_user("alice");
    let scheduled: Value = serde_json::from_str(include_str!("../events/swept/a_scheduled_event.json")).unwrap();
    assert_eq!(invoke(&environment(&account, 0).await, &scheduled).await.summary(), "swept");
    assert!(account.is_covered("alice"));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_lambda_could_not_deliver_is_redriven() {
    let account = FakeIam::default().with_console_user("alice");
    let handler = environment(&account, 0).await;
    // Throttled for six hours, or a reserved concurrency of 0.
    for condition in ["EventAgeExceeded", "ZeroReservedConcurrency"] {
        let message = on_failure(&event("CreateLoginProfile", "alice", 6 * 3600), condition, None);
        assert_eq!(invoke(&handler, &message).await.summary(), "attached", "{condition}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_sweep_finds_the_user_of_a_lost_event() {
    let account = FakeIam::default().with_console_user("alice");
    let done = invoke(&environment(&account, 0).await, &json!({ "sweep": {} })).await;
    assert!(account.is_covered("alice"));
    assert_eq!(done.handled.metrics("force-mfa", "INFO").unwrap()["Uncovered"], 1, "which is an alarm");
}

/// What goes wrong between the function and IAM, the error that comes of it, and that nobody is lost.
#[tokio::test(start_paused = true)]
async fn every_iam_failure_keeps_the_event_for_redrive() {
    let rows = [
        ("a throttle storm", Fault::Error(400, "Throttling"), "throttled"),
        ("a server error", Fault::Error(500, "ServiceFailure"), "iam_unavailable"),
        ("no service", Fault::Error(503, "ServiceUnavailable"), "iam_unavailable"),
        ("connections that hang", Fault::Hang, "iam_unavailable"),
        ("connections that are reset", Fault::Reset, "iam_unavailable"),
        ("a change under way", Fault::Error(409, "ConcurrentModification"), "iam_unavailable"),
        ("an expired token", Fault::Error(403, "ExpiredToken"), "access_denied"),
        ("a token that is none", Fault::Error(403, "InvalidClientTokenId"), "access_denied"),
        ("a clock that is ahead", Fault::Error(403, "SignatureDoesNotMatch"), "access_denied"),
        ("a clock that is behind", Fault::Error(400, "RequestExpired"), "iam_error"),
        ("a right that is missing", Fault::Error(403, "AccessDenied"), "access_denied"),
    ];
    for (number, (what, fault, error_type)) in rows.into_iter().enumerate() {
        let account = FakeIam::default().with_console_user("alice").with_faults(move |_, _| Some(fault.clone()));
        let handler = environment(&account, number).await;
        let started = Instant::now();
        let message = deliver(&handler, &event("CreateLoginProfile", "alice", 30)).await.err().expect(what);
        assert_eq!(message["responsePayload"]["errorType"], error_type, "{what}");
        assert!(message["responsePayload"]["errorMessage"].as_str().unwrap().contains("alice"), "{what}");
        let longest = RETRIES.iter().sum::<Duration>() + 3 * (TIME_LIMIT + Duration::from_secs(1));
        assert!(started.elapsed() < longest, "{what}: three tries took {:?}", started.elapsed());

        let account = account.with_faults(|_, _| None);
        assert!(!account.is_covered("alice"), "{what}");
        assert_eq!(invoke(&handler, &message).await.summary(), "attached", "{what}");
        assert!(account.is_covered("alice"), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_passes_ends_before_the_queue() {
    for (number, fault) in [
        Fault::Error(400, "Throttling"),
        Fault::Error(503, "ServiceUnavailable"),
        Fault::Error(403, "ExpiredToken"),
        Fault::Hang,
        Fault::Reset,
        Fault::LoseAnswer,
    ]
    .into_iter()
    .enumerate()
    {
        // For a minute and a half.
        let until = Instant::now() + Duration::from_secs(90);
        let account = FakeIam::default().with_console_user("alice");
        let account = account.with_faults({
            let fault = fault.clone();
            move |_, _| (Instant::now() < until).then(|| fault.clone())
        });
        let handler = environment(&account, 100 + number).await;
        let done = deliver(&handler, &event("CreateLoginProfile", "alice", 30)).await;
        assert_eq!(done.map(|done| done.summary()).ok().as_deref(), Some("attached"), "{fault:?}");
        assert!(account.is_covered("alice"));
    }
}

// Many failures at once.

const USERS: usize = 4591;
const WITH_PASSWORD: usize = 4500;
const DUPLICATES: usize = 909;
const AT_ONCE: usize = 50;
/// Events come so far apart.
const APART: Duration = Duration::from_millis(20);

/// 10,000 deliveries: `CreateUser` and `CreateLoginProfile`, out of order, one in ten of them twice. One call in ten
/// fails. IAM also throttles every call for ten seconds, and fails for one user in ten, for some of them so long that
/// three tries are not enough. Each user ends covered or in the failure queue, and after a redrive covered.
#[tokio::test(start_paused = true)]
async fn ten_thousand_events_with_faults_and_duplicates_leave_nobody_out() {
    let mut runner = TestRunner::deterministic();
    let started = Instant::now();
    let failing = failing_users(&mut runner);
    let account = FakeIam::default().with_faults(faults(started, failing));
    for number in 0..USERS {
        account.world().users.extend(FakeIam::default().with_user(&name(number), |_| {}).world().users.clone());
        if number % 29 == 0 {
            account.world().users.get_mut(&name(number)).unwrap().other_policies = 10;
        }
    }
    let deliveries = deliveries(&mut runner);
    assert_eq!(deliveries.len(), 10_000);

    let mut idle = Vec::new();
    for number in 0..AT_ONCE {
        idle.push(environment(&account, 200 + number).await);
    }
    let (idle, permits) = (Arc::new(Mutex::new(idle)), Arc::new(Semaphore::new(AT_ONCE)));
    let mut invocations = JoinSet::new();
    for (place, (call, number)) in deliveries.into_iter().enumerate() {
        let (idle, permits, account) = (idle.clone(), permits.clone(), account.clone());
        invocations.spawn(async move {
            tokio::time::sleep(APART * u32::try_from(place).unwrap()).await;
            if call == "CreateLoginProfile" {
                let mut world = account.world();
                let now = world.now;
                let user = world.users.get_mut(&name(number)).unwrap();
                if user.password.is_none() {
                    user.set_password(now);
                }
            }
            let payload = event(call, &name(number), 30);
            let mut waits = RETRIES.iter();
            loop {
                let permit = permits.acquire().await.unwrap();
                let handler = idle.lock().unwrap().pop().unwrap();
                let done = invoke(&handler, &payload).await;
                idle.lock().unwrap().push(handler);
                drop(permit);
                match (done.error_type, waits.next()) {
                    ("", _) => return (done.summary(), None),
                    (_, Some(wait)) => tokio::time::sleep(*wait).await,
                    (_, None) => return (done.summary(), Some(on_failure(&payload, "RetriesExhausted", Some(&done)))),
                }
            }
        });
    }
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let mut queue = Vec::new();
    while let Some(end) = invocations.join_next().await {
        let (end, message) = end.unwrap();
        *ends.entry(end).or_default() += 1;
        queue.extend(message);
    }

    let queued: BTreeSet<String> = queue.iter().map(user_of).collect();
    let neither: Vec<String> =
        should_be_covered().filter(|user| !account.is_covered(user) && !queued.contains(user)).collect();
    println!(
        "10,000 deliveries, {} calls: {ends:?}; {} messages of {} users in the failure queue; {} users covered, {} in neither",
        account.calls().len(),
        queue.len(),
        queued.len(),
        should_be_covered().filter(|user| account.is_covered(user)).count(),
        neither.len()
    );
    assert!(neither.is_empty(), "{neither:?}");
    let uncovered = should_be_covered().filter(|user| !account.is_covered(user)).count();
    assert!(uncovered > 20, "the queue is put to the test by {uncovered} users");

    let account = account.with_faults(|_, _| None);
    let handler = environment(&account, 300).await;
    for message in &queue {
        let done = invoke(&handler, message).await;
        assert_eq!(done.error_type, "", "{}", done.message);
    }
    let left: Vec<String> = should_be_covered().filter(|user| !account.is_covered(user)).collect();
    println!("after the redrive: {} users uncovered", left.len());
    assert!(left.is_empty(), "{left:?}");
    let unwanted = (0..USERS).map(name).filter(|user| account.is_covered(user)).count() - should_be_covered().count();
    assert_eq!(unwanted, 0, "nobody else is covered");
    let sweep = invoke(&handler, &json!({ "sweep": {} })).await;
    assert_eq!((&sweep.reply["attached"], &sweep.reply["added_to_group"]), (&json!(0), &json!(0)), "{}", sweep.reply);
}

/// The name of every hundredth user is exempt.
fn name(number: usize) -> String {
    if number.is_multiple_of(100) { format!("break-glass-{number}") } else { format!("user-{number}") }
}

/// The users who must be covered at the end.
fn should_be_covered() -> impl Iterator<Item = String> {
    (0..WITH_PASSWORD).map(name).filter(|name| name.starts_with("user-"))
}

fn user_of(message: &Value) -> String {
    message["requestPayload"]["detail"]["requestParameters"]["userName"].as_str().unwrap().to_owned()
}

/// Calls and users in the order of their delivery.
fn deliveries(runner: &mut TestRunner) -> Vec<(&'static str, usize)> {
    let mut all: Vec<_> = (0..USERS).map(|number| ("CreateUser", number)).collect();
    all.extend((0..WITH_PASSWORD).map(|number| ("CreateLoginProfile", number)));
    let twice = subsequence(all.clone(), DUPLICATES).new_tree(runner).unwrap().current();
    all.extend(twice);
    Just(all).prop_shuffle().new_tree(runner).unwrap().current()
}

/// One user in ten, with the number of calls that fail for them, and how they fail.
fn failing_users(runner: &mut TestRunner) -> BTreeMap<String, (u32, Fault)> {
    let chosen = subsequence((0..USERS).collect::<Vec<_>>(), USERS / 10).new_tree(runner).unwrap().current();
    let faults = vec![
        Fault::Error(400, "Throttling"),
        Fault::Error(503, "ServiceUnavailable"),
        Fault::Error(403, "ExpiredToken"),
        Fault::Error(403, "SignatureDoesNotMatch"),
        Fault::Error(409, "EntityTemporarilyUnmodifiable"),
        Fault::Hang,
        Fault::Reset,
    ];
    let failure = (1..40_u32, select(faults));
    chosen.into_iter().map(|number| (name(number), failure.new_tree(runner).unwrap().current())).collect()
}

fn faults(
    started: Instant,
    mut failing: BTreeMap<String, (u32, Fault)>,
) -> impl FnMut(&str, &str) -> Option<Fault> + Send + 'static {
    let passing = [
        Fault::Error(400, "Throttling"),
        Fault::Error(503, "ServiceUnavailable"),
        Fault::Error(500, "ServiceFailure"),
        Fault::Error(409, "ConcurrentModification"),
        Fault::Reset,
        Fault::LoseAnswer,
        Fault::Hang,
    ];
    let mut calls = 0_usize;
    move |_, user| {
        calls += 1;
        // A storm of ten seconds, a minute after the start.
        let since = started.elapsed();
        if (Duration::from_mins(1)..Duration::from_secs(70)).contains(&since) {
            return Some(Fault::Error(400, "Throttling"));
        }
        if let Some((left, fault)) = failing.get_mut(user)
            && *left > 0
        {
            *left -= 1;
            return Some(fault.clone());
        }
        (calls.is_multiple_of(10)).then(|| passing[calls / 10 % passing.len()].clone())
    }
}

// Real sockets, real time.

/// The function's binary against an IAM whose first `bad` connections are dealt with by `misbehave`.
async fn run_against(scheme: &str, bad: usize, account: &FakeIam) -> Run {
    let iam = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::method("POST")).respond_with(account.clone()).mount(&iam).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("{scheme}://{}", listener.local_addr().unwrap());
    let upstream = *iam.address();
    let server = tokio::spawn(async move {
        let mut held = Vec::new();
        for connection in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if connection < bad {
                // Accepted, and never answered: neither a request nor the handshake.
                held.push(client);
                continue;
            }
            let mut server = TcpStream::connect(upstream).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let now = Utc::now() - TimeDelta::seconds(30);
    let mut payload = event("CreateLoginProfile", "alice", 30);
    payload["detail"]["eventTime"] = json!(now.to_rfc3339_opts(SecondsFormat::Secs, true));
    payload["detail"]["requestParameters"]["policyArn"] = json!(POLICY);
    let run = run_function_at(&address, &[], vec![payload.to_string().into_bytes()]).await;
    server.abort();
    run
}

#[tokio::test]
async fn a_connection_that_hangs_is_replaced_by_another() {
    let account = FakeIam::default().with_console_user("alice");
    // The one that is opened at the start, and the first call's.
    let run = run_against("http", 2, &account).await;
    assert_eq!(run.answers[0].body["outcome"], "attached", "{run:?}");
    assert!(account.is_covered("alice"));
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_fails_in_time() {
    let account = FakeIam::default().with_console_user("alice");
    let started = std::time::Instant::now();
    let run = run_against("https", usize::MAX, &account).await;
    assert_eq!(run.answers[0].body["errorType"], "iam_unavailable", "{run:?}");
    assert!(run.answers[0].body["errorMessage"].as_str().unwrap().contains("alice"));
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
}
