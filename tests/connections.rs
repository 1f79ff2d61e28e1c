//! The connections of the function's binary: which one a try uses, which are kept, and whom they trust.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use support::event;
use support::fake_iam::{Answer, FakeIam, User};
use support::http::{self, HttpServer};
use support::lambda::{Run, run_function_at};

const UNAVAILABLE: &str = "<ErrorResponse><Error><Code>ServiceUnavailable</Code></Error></ErrorResponse>";

fn login_profile(user: &str) -> Vec<u8> {
    event("CreateLoginProfile", user, 30).to_string().into_bytes()
}

/// An IAM of which `is_bad` connections answer 503; with the connections that API calls came over.
async fn iam(account: &FakeIam, is_bad: fn(usize) -> bool) -> (HttpServer, Arc<Mutex<Vec<usize>>>) {
    let calls = Arc::<Mutex<Vec<usize>>>::default();
    let (account, log) = (account.clone(), calls.clone());
    let server = http::start(Arc::default(), move |connection, body| {
        let answer = if body.is_empty() {
            // The request that opens the connection at the start.
            (200, String::new())
        } else {
            log.lock().unwrap().push(connection);
            match (is_bad(connection), account.answer(&body)) {
                (false, Answer::Http(status, text)) => (status, text),
                (true, _) | (false, Answer::Never | Answer::Reset) => (503, UNAVAILABLE.to_owned()),
            }
        };
        std::future::ready(answer)
    });
    (server.await, calls)
}

/// One line for the event and one for its metrics; nothing of the SDK's or the runtime's beside them.
fn is_told_once(run: &Run) {
    assert_eq!((run.logs().len(), run.metrics().len()), (1, 1), "{run:#?}");
    assert_eq!((run.stdout.len(), run.stderr.as_str()), (2, ""), "{run:#?}");
}

#[tokio::test]
async fn after_a_503_the_next_try_uses_another_connection() {
    let account = FakeIam::default().with_console_user("alice");
    let (iam, calls) = iam(&account, |connection| connection == 0).await;
    let run = run_function_at(&iam.url, &[], vec![login_profile("alice")]).await;
    assert_eq!(run.answers[0].body["outcome"], "attached", "{run:#?}");
    assert_eq!(*calls.lock().unwrap(), [0, 1]);
    is_told_once(&run);
    assert_eq!(run.logs()[0]["level"], "INFO");
}

#[tokio::test]
async fn a_503_that_stays_is_told_once() {
    let (iam, calls) = iam(&FakeIam::default(), |_| true).await;
    let run = run_function_at(&iam.url, &[], vec![login_profile("alice")]).await;
    assert_eq!(run.answers[0].body["errorType"], "iam_unavailable", "{run:#?}");
    assert_eq!(*calls.lock().unwrap(), [0, 1, 2, 3, 4], "each try has a connection of its own");
    is_told_once(&run);
    assert_eq!(run.metrics()[0]["Failed"], 1);
}

#[tokio::test]
async fn a_refused_connection_is_told_once() {
    // Nobody listens there any more.
    let (iam, _) = iam(&FakeIam::default(), |_| true).await;
    let url = iam.url.clone();
    drop(iam);
    let run = run_function_at(&url, &[], vec![login_profile("alice")]).await;
    assert_eq!(run.answers[0].body["errorType"], "iam_unavailable", "{run:#?}");
    is_told_once(&run);
}

/// Connections of a sweep that are idle until the next event may be dead by then, and use up its tries.
#[tokio::test]
async fn a_sweep_leaves_at_most_two_connections() {
    // The sweep leaves this user alone, and the event is about it.
    let existing = |user: &mut User| {
        user.created -= TimeDelta::days(400);
        user.set_password(user.created);
    };
    let account = (0..60).fold(FakeIam::default(), |account, n| account.with_console_user(&format!("user-{n}")));
    let account = account.with_user("late", existing);
    let open = Arc::<AtomicUsize>::default();
    let [most, left] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
    let seen = (account.clone(), open.clone(), most.clone(), left.clone());
    let iam = http::start(open, move |_, body| {
        let (account, open, most, left) = seen.clone();
        async move {
            if body.is_empty() {
                return (200, String::new());
            }
            most.fetch_max(open.load(Ordering::SeqCst), Ordering::SeqCst);
            if String::from_utf8_lossy(&body).contains("UserName=late&") {
                // A connection that was closed a moment ago is given time to be seen closed.
                for _ in 0..300 {
                    if open.load(Ordering::SeqCst) <= 2 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                left.store(open.load(Ordering::SeqCst), Ordering::SeqCst);
            } else {
                // Long enough for calls to be under way side by side.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            match account.answer(&body) {
                Answer::Http(status, text) => (status, text),
                Answer::Never | Answer::Reset => unreachable!("no such fault"),
            }
        }
    })
    .await;
    let payloads = vec![br#"{"sweep": {}}"#.to_vec(), login_profile("late")];
    let run = run_function_at(&iam.url, &[], payloads).await;
    assert_eq!((&run.answers[0].body["attached"], &run.answers[1].body["outcome"]), (&json!(60), &json!("attached")));
    assert!(most.load(Ordering::SeqCst) > 2, "the sweep works on several users at a time");
    assert!((1..=2).contains(&left.load(Ordering::SeqCst)), "{left:?} connections are left");
}

/// Without a trust store no server can be told from an impostor: that is the function's trouble, not IAM's.
#[tokio::test]
async fn an_unreadable_trust_store_is_an_iam_error() {
    let (iam, calls) = iam(&FakeIam::default(), |_| false).await;
    let url = iam.url.replace("http:", "https:");
    for path in ["/nonexistent/authorities.pem", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
        let run = run_function_at(&url, &[("SSL_CERT_FILE", path)], vec![login_profile("alice")]).await;
        assert_eq!(run.answers[0].body["errorType"], "iam_error", "{run:#?}");
        let message = run.answers[0].body["errorMessage"].as_str().unwrap();
        for part in ["alice", "AttachUserPolicy", "certificate authority", "SSL_CERT_FILE"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("Health"), "{message}");
        is_told_once(&run);
    }
    assert!(calls.lock().unwrap().is_empty());
}
