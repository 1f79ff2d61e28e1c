//! What a sweep reads, writes and tells.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use force_mfa::handler::Handler;
use serde_json::{Value, json};
use support::fake_iam::{FakeIam, Fault, GROUP, POLICY};
use support::{Done, done, feed, settings};
use tokio::time::Instant;

const ENFORCE_EXISTING: [(&str, &str); 1] = [("FORCE_MFA_EXISTING_USERS", "enforce")];

async fn sweep(account: &FakeIam, variables: &[(&str, &str)]) -> Done {
    feed(account, &settings(variables), &json!({ "sweep": {} })).await
}

/// The counts that are not zero.
fn counts(reply: &Value) -> Vec<(String, u64)> {
    let object = reply.as_object().unwrap();
    let counts = object.iter().filter(|(key, _)| *key != "report_age_s");
    let mut counts: Vec<_> =
        counts.filter_map(|(key, value)| Some((key.clone(), value.as_u64().filter(|n| *n > 0)?))).collect();
    counts.sort();
    counts
}

fn expect(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

/// An account with one user of each kind, all but `old` with passwords from after the policy.
fn mixed() -> FakeIam {
    let account = FakeIam::default()
        .with_console_user("covered")
        .with_console_user("grouped")
        .with_console_user("lost")
        .with_console_user("break-glass-1")
        .with_user("pathed", |user| {
            user.set_password(user.created);
            user.path = "/service/ci/".into();
        })
        .with_user("tagged", |user| {
            user.set_password(user.created);
            user.tags.insert("mfa-exempt".into(), "true".into());
        })
        .with_user("full", |user| {
            user.set_password(user.created);
            user.other_policies = 10;
        })
        .with_user("old", |user| {
            user.created -= TimeDelta::days(400);
            user.set_password(user.created);
            user.mfa = true;
        })
        .with_user("ci", |_| {});
    {
        let mut world = account.world();
        world.users.get_mut("covered").unwrap().policies.insert(POLICY.into());
        world.groups.get_mut(GROUP).unwrap().members.insert("grouped".into());
    }
    account
}

const EXEMPTIONS: [(&str, &str); 3] = [
    ("FORCE_MFA_EXEMPT_USERS", "break-glass-*"),
    ("FORCE_MFA_EXEMPT_PATHS", "/service/"),
    ("FORCE_MFA_EXEMPT_TAG", "mfa-exempt=true"),
];

#[tokio::test(start_paused = true)]
async fn a_sweep_covers_whom_an_event_should_have_and_counts_everybody() {
    let account = mixed();
    let done = sweep(&account, &EXEMPTIONS).await;
    assert_eq!(done.reply["outcome"], "swept", "{}", done.message);
    assert_eq!(done.reply["complete"], true);
    assert_eq!(done.reply["mode"], "enforce");
    assert_eq!(done.reply["failed"], json!([]));
    assert!(done.reply["report_age_s"].is_u64());
    let expected = [
        ("added_to_group", 1),
        ("attached", 1),
        ("console_users", 8),
        ("covered", 2),
        ("exempt", 3),
        ("existing", 1),
        ("without_mfa", 7),
    ];
    assert_eq!(counts(&done.reply), expect(&expected));
    let mut writes = account.writes();
    writes.sort();
    assert_eq!(writes, ["AddUserToGroup full", "AttachUserPolicy full", "AttachUserPolicy lost"]);
    let metrics = done.handled.metrics("force-mfa", "INFO").unwrap();
    for (name, count) in
        [("Uncovered", 2), ("ExistingUncovered", 1), ("ConsoleUsers", 8), ("ConsoleUsersWithoutMfa", 7)]
    {
        assert_eq!(metrics[name], count, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_sweep_finds_nothing_to_do() {
    let account = mixed();
    sweep(&account, &EXEMPTIONS).await;
    let writes = account.writes();
    let done = sweep(&account, &EXEMPTIONS).await;
    assert_eq!(account.writes(), writes);
    assert_eq!(done.reply["covered"], 4);
    assert_eq!(done.handled.metrics("force-mfa", "INFO").unwrap()["Uncovered"], 0);
}

#[tokio::test(start_paused = true)]
async fn the_payload_can_only_soften_the_mode() {
    for (configured, payload, outcome) in [
        ("enforce", json!({ "mode": "report" }), "would_attach"),
        ("report", json!({}), "would_attach"),
        ("report", json!({ "mode": "enforce" }), "would_attach"),
        ("enforce", json!({ "mode": "enforce" }), "attached"),
    ] {
        let account = FakeIam::default().with_console_user("alice");
        let done = feed(&account, &settings(&[("FORCE_MFA_MODE", configured)]), &json!({ "sweep": payload })).await;
        assert_eq!(done.reply[outcome], 1, "{configured} {payload}");
        assert_eq!(account.writes().is_empty(), outcome == "would_attach");
    }
    for typo in [json!({ "mod": "report" }), json!({ "mode": "Report" }), json!(null), json!([])] {
        let account = FakeIam::default().with_console_user("alice");
        let done = feed(&account, &settings(&[]), &json!({ "sweep": typo })).await;
        assert_eq!((done.error_type, account.calls().len()), ("malformed_event", 0), "{typo}");
    }
}

/// Who counts as existing: the login profile is older than the policy.
#[tokio::test(start_paused = true)]
async fn existing_users_are_those_whose_login_profile_is_older_than_the_policy() {
    let account = || {
        FakeIam::default()
            .with_user("old-password", |user| {
                user.created -= TimeDelta::days(400);
                user.set_password(user.created);
            })
            .with_user("old-profile-new-password", |user| {
                let now = user.created;
                user.created -= TimeDelta::days(400);
                user.set_password(user.created);
                user.password_changed = Some(now);
            })
            .with_user("old-user-new-profile", |user| {
                user.set_password(user.created);
                user.created -= TimeDelta::days(400);
            })
    };
    let reported = account();
    let done = sweep(&reported, &[]).await;
    assert_eq!((done.reply["existing"].as_u64(), done.reply["attached"].as_u64()), (Some(2), Some(1)));
    assert_eq!(reported.writes(), ["AttachUserPolicy old-user-new-profile"]);
    assert!(!reported.calls().contains(&"GetLoginProfile old-password".to_owned()), "the report settles it");

    let enforced = account();
    let done = sweep(&enforced, &ENFORCE_EXISTING).await;
    assert_eq!((done.reply["existing"].as_u64(), done.reply["attached"].as_u64()), (Some(0), Some(3)));
    assert_eq!(done.handled.metrics("force-mfa", "INFO").unwrap()["Uncovered"], 1, "existing users are no lost events");
}

#[tokio::test(start_paused = true)]
async fn users_newer_than_the_report_are_looked_up() {
    let account = FakeIam::default().with_console_user("alice");
    {
        let mut world = account.world();
        let csv = world.credential_report();
        world.report = Some((world.now - TimeDelta::hours(3), csv));
    }
    let account = account.with_console_user("newer").with_user("newer-without-password", |_| {});
    let done = sweep(&account, &[]).await;
    assert_eq!(done.reply["attached"], 2);
    assert_eq!(done.reply["console_users"], 1, "the report is what is counted");
    assert!((10_790..10_810).contains(&done.reply["report_age_s"].as_i64().unwrap()));
    assert!(
        account.is_covered("alice") && account.is_covered("newer") && !account.is_covered("newer-without-password")
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_behind_harms_nobody() {
    let account = FakeIam::default()
        .with_console_user("password-removed")
        .with_console_user("deleted")
        .with_console_user("renamed")
        .with_user("made-anew", |user| {
            user.created -= TimeDelta::days(400);
            user.set_password(user.created);
        });
    {
        let mut world = account.world();
        let csv = world.credential_report();
        let (now, reported) = (world.now, world.now - TimeDelta::hours(3));
        world.report = Some((reported, csv));
        world.users.get_mut("password-removed").unwrap().password = None;
        world.users.remove("deleted");
        let mut renamed = world.users.remove("renamed").unwrap();
        renamed.name = "new-name".into();
        world.users.insert("new-name".into(), renamed);
        let anew = world.users.get_mut("made-anew").unwrap();
        anew.created = now;
        anew.set_password(now);
    }
    let done = sweep(&account, &[]).await;
    assert_eq!(done.error_type, "", "a user that is gone is no failure: {}", done.message);
    let mut writes = account.writes();
    writes.sort();
    assert_eq!(writes, ["AttachUserPolicy made-anew", "AttachUserPolicy new-name"]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_not_ready_is_waited_for() {
    let account = FakeIam::default().with_console_user("alice");
    account.world().report_takes = 5;
    assert_eq!(sweep(&account, &[]).await.reply["attached"], 1);

    // An expired one is made anew.
    let account = FakeIam::default().with_console_user("alice");
    let expired = account.world().now - TimeDelta::hours(5);
    account.world().report = Some((expired, "user\n".into()));
    assert_eq!(sweep(&account, &[]).await.reply["attached"], 1);

    // One that is never ready ends the sweep in time, with nothing written.
    let account = FakeIam::default().with_console_user("alice");
    account.world().report_takes = u32::MAX;
    let started = Instant::now();
    let done = sweep(&account, &[]).await;
    assert_eq!(done.error_type, "sweep_incomplete");
    assert!(account.writes().is_empty() && started.elapsed() <= Duration::from_secs(241));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_or_breaks_off_ends_the_sweep_without_a_write() {
    let lists = [
        "GenerateCredentialReport",
        "GetCredentialReport",
        "ListEntitiesForPolicy",
        "GetGroup",
        "ListUsers",
        "GetPolicy",
    ];
    for action in lists {
        for (fault, error_type) in [
            (Fault::Error(403, "AccessDenied"), "access_denied"),
            (Fault::Error(400, "Throttling"), "throttled"),
            (Fault::Error(503, "ServiceUnavailable"), "iam_unavailable"),
            (Fault::TruncateWithoutMarker, "iam_error"),
        ] {
            if matches!(fault, Fault::TruncateWithoutMarker)
                && !["ListEntitiesForPolicy", "GetGroup", "ListUsers"].contains(&action)
            {
                continue;
            }
            let account = mixed().with_faults(move |called, _| (called == action).then(|| fault.clone()));
            let done = sweep(&account, &ENFORCE_EXISTING).await;
            assert_eq!(done.error_type, error_type, "{action}: {}", done.message);
            assert!(done.message.contains(action), "{}", done.message);
            assert_eq!(account.writes(), Vec::<String>::new(), "{action}");
            assert_eq!(done.handled.metrics("force-mfa", "INFO").unwrap()["Failed"], 1);
        }
    }
}

/// Every page says that there is another, at a place that was read before.
#[tokio::test(start_paused = true)]
async fn a_list_that_goes_round_in_circles_is_an_error_at_once() {
    for action in ["ListEntitiesForPolicy", "GetGroup", "ListUsers"] {
        let mut pages = 0;
        let account = mixed().with_faults(move |called, _| {
            pages += usize::from(called == action);
            (called == action).then_some(Fault::Say(
                200,
                match pages % 2 {
                    0 => "<IsTruncated>true</IsTruncated><Marker>even</Marker>",
                    _ => "<IsTruncated>true</IsTruncated><Marker>odd</Marker>",
                },
            ))
        });
        let done = sweep(&account, &ENFORCE_EXISTING).await;
        assert_eq!((done.error_type, account.writes().len()), ("iam_error", 0), "{action}: {}", done.message);
        let read = account.calls().iter().filter(|call| call.starts_with(action)).count();
        assert_eq!(read, 3, "{action}");
    }
}

/// A policy without a date would be older than everybody, and so lock everybody out; a user without a path would be in
/// no exempt one.
#[tokio::test(start_paused = true)]
async fn an_answer_that_lacks_what_decides_leads_to_no_write() {
    for (action, lacks, error_type) in [
        ("GetPolicy", "no date of creation", "iam_error"),
        ("GetLoginProfile", "no date of creation", "sweep_incomplete"),
        ("GetUser", "no path", "sweep_incomplete"),
    ] {
        let account = mixed().with_faults(move |called, _| (called == action).then_some(Fault::Say(200, "")));
        let done = sweep(&account, &EXEMPTIONS).await;
        assert_eq!((done.error_type, account.writes().len()), (error_type, 0), "{action}");
        assert!(done.message.contains(action) && done.message.contains(lacks), "{}", done.message);
    }
}

/// The second page fails, the first did not.
#[tokio::test(start_paused = true)]
async fn a_list_that_fails_on_its_second_page_is_no_shorter_list() {
    for action in ["ListEntitiesForPolicy", "ListUsers"] {
        let mut pages = 0;
        let account = mixed().with_faults(move |called, _| {
            pages += usize::from(called == action);
            (called == action && pages > 1).then_some(Fault::Error(403, "AccessDenied"))
        });
        account.world().page = 1;
        let done = sweep(&account, &ENFORCE_EXISTING).await;
        assert_eq!((done.error_type, account.writes().len()), ("access_denied", 0), "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_any_size_give_the_same() {
    let whole = sweep(&mixed(), &EXEMPTIONS).await;
    for page in [1, 2, 3] {
        let account = mixed();
        account.world().page = page;
        let done = sweep(&account, &EXEMPTIONS).await;
        assert_eq!(counts(&done.reply), counts(&whole.reply), "pages of {page}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_policy_ends_the_sweep() {
    let account = mixed();
    account.world().policy_created = None;
    let done = sweep(&account, &[]).await;
    assert_eq!(done.error_type, "policy_missing");
    assert!(done.message.contains("a drift-aware change set brings it back"), "{}", done.message);
    assert!(account.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_users_failure_stops_nobody_else_and_fails_the_invocation() {
    let mut account = FakeIam::default();
    for n in 0..300 {
        account = account.with_console_user(&format!("user-{n:03}"));
    }
    let account = account.with_faults(|action, user| {
        let unlucky = user.strip_prefix("user-").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 150);
        (action == "AttachUserPolicy" && unlucky).then_some(Fault::Error(403, "AccessDenied"))
    });
    let done = sweep(&account, &[]).await;
    assert_eq!(done.error_type, "sweep_incomplete");
    assert!(done.message.starts_with("150 of 300 uncovered users"), "{}", done.message);
    assert!(
        done.message.contains("access_denied: user user-") && done.message.contains("and 145 more"),
        "{}",
        done.message
    );
    assert!((0..150).all(|n| account.is_covered(&format!("user-{n:03}"))));
    let metrics = done.handled.metrics("force-mfa", "INFO").unwrap();
    assert_eq!(
        (metrics["Attached"].as_u64(), metrics["Failed"].as_u64(), metrics["Uncovered"].as_u64()),
        (Some(150), Some(150), Some(300))
    );
}

#[tokio::test(start_paused = true)]
async fn an_overflow_group_without_the_policy_is_no_cover() {
    let account = FakeIam::default().with_user("full", |user| {
        user.set_password(user.created);
        user.other_policies = 10;
    });
    account.world().groups.get_mut(GROUP).unwrap().policies.clear();
    let done = sweep(&account, &[]).await;
    assert_eq!(done.error_type, "sweep_incomplete");
    assert!(
        done.message.contains("quota_exhausted")
            && done.message.contains("does not carry the policy. Attach the policy to it")
            && !done.message.contains("deploy"),
        "{}",
        done.message
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttling_iam_slows_the_sweep_down_and_loses_nobody() {
    let mut account = FakeIam::default();
    for n in 0..100 {
        account = account.with_console_user(&format!("user-{n}"));
    }
    let mut calls = 0;
    let account = account.with_faults(move |action, _| {
        calls += usize::from(action == "AttachUserPolicy");
        // IAM refuses three in four for a while.
        (action == "AttachUserPolicy" && calls < 300 && calls % 4 != 0).then_some(Fault::Error(400, "Throttling"))
    });
    let done = sweep(&account, &[]).await;
    assert_eq!(done.reply["attached"], 100, "{}", done.message);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_ends_before_its_deadline_and_the_next_goes_on() {
    let mut account = FakeIam::default();
    for n in 0..400 {
        account = account.with_console_user(&format!("user-{n}"));
    }
    account.world().latency = Duration::from_millis(500);
    let handler = Handler::new(settings(&[]), account.iam().await);
    let mut attached = 0;
    for round in 0.. {
        assert!(round < 20, "the sweeps make no headway");
        let started = Instant::now();
        let done = done(handler.handle(br#"{"sweep": {}}"#, started + Duration::from_secs(10)).await);
        assert!(started.elapsed() <= Duration::from_secs(10));
        assert_eq!(done.error_type, "");
        attached += done.reply["attached"].as_u64().unwrap();
        if done.reply["complete"] == true {
            break;
        }
    }
    assert!((0..400).all(|n| account.is_covered(&format!("user-{n}"))));
    assert!(attached <= 400);
}

#[tokio::test(start_paused = true)]
async fn a_full_account_is_read_in_pages_not_user_by_user() {
    let mut account = FakeIam::default();
    for n in 0..5000 {
        account = account.with_user(&format!("user-{n}"), |user| {
            if n < 3000 {
                user.set_password(user.created);
            }
            if (10..3000).contains(&n) {
                user.policies.insert(POLICY.into());
            }
        });
    }
    let done = sweep(&account, &[]).await;
    assert_eq!((done.reply["attached"].as_u64(), done.reply["covered"].as_u64()), (Some(10), Some(2990)));
    let calls = account.calls();
    let count =
        |prefixes: &[&str]| calls.iter().filter(|call| prefixes.iter().any(|prefix| call.starts_with(prefix))).count();
    let looks = count(&["GetLoginProfile", "GetUser"]);
    assert!(looks <= 20, "{looks} look-ups");
    assert!(calls.len() - looks - 10 <= 25, "{} list calls", calls.len() - looks - 10);
}

#[tokio::test(start_paused = true)]
async fn three_thousand_existing_users_cost_no_look_up() {
    let mut account = FakeIam::default();
    for n in 0..3000 {
        account = account.with_user(&format!("user-{n}"), |user| {
            user.created -= TimeDelta::days(400);
            user.set_password(user.created);
        });
    }
    let done = sweep(&account, &[("FORCE_MFA_EXEMPT_TAG", "x")]).await;
    assert_eq!(done.reply["existing"], 3000);
    assert!(!account.calls().iter().any(|call| call.starts_with("GetLoginProfile") || call.starts_with("GetUser")));
}

#[tokio::test(start_paused = true)]
async fn five_thousand_uncovered_users_take_less_than_ninety_seconds_a_few_at_a_time() {
    let mut account = FakeIam::default();
    for n in 0..5000 {
        account = account.with_console_user(&format!("user-{n}"));
    }
    account.world().latency = Duration::from_millis(50);
    let started = Instant::now();
    assert_eq!(sweep(&account, &[]).await.reply["attached"], 5000);
    assert!(started.elapsed() < Duration::from_secs(90), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_to_the_end() {
    let account = mixed();
    let (last, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let enforcer = force_mfa::enforce::Enforcer { settings: settings(&[]), iam: account.iam().await, waits: vec![] };
    let told = (last.clone(), all.clone());
    let until = Instant::now() + Duration::from_mins(1);
    force_mfa::sweep::sweep(&enforcer, until, move |done, of| {
        told.0.store(done, Ordering::Relaxed);
        told.1.store(of, Ordering::Relaxed);
    })
    .await
    .unwrap();
    assert!(last.load(Ordering::Relaxed) > 0);
    assert_eq!(last.load(Ordering::Relaxed), all.load(Ordering::Relaxed));
}
