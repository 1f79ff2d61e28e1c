//! What a sweep reads, writes and tells.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use force_mfa::handler::Handler;
use serde_json::{Value, json};
use support::fake_iam::{ENFORCING, FakeIam, Fault, GROUP, POLICY};
use support::{Done, done, feed, settings};
use tokio::time::Instant;

const ENFORCE_EXISTING: [(&str, &str); 1] = [("FORCE_MFA_EXISTING_USERS", "enforce")];

async fn sweep(account: &FakeIam, variables: &[(&str, &str)]) -> Done {
    feed(account, &settings(variables), &json!({ "sweep": {} })).await
}

fn metrics(done: &Done) -> Value {
    done.handled.metrics("force-mfa", "INFO").unwrap()
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
    assert_eq!(done.reply["mode"], "enforce");
    assert_eq!((done.reply.get("failed"), done.reply.get("complete")), (None, None));
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

/// `AttachUserPolicy` does not see the user for so many calls, and `GetUser` sees it for that many.
fn half_visible(account: FakeIam, unseen_calls: usize, seen_calls: usize) -> FakeIam {
    let (mut writes, mut reads) = (0, 0);
    account.with_faults(move |action, _| {
        writes += usize::from(action == "AttachUserPolicy");
        reads += usize::from(action == "GetUser");
        let missing =
            (action == "AttachUserPolicy" && writes <= unseen_calls) || (action == "GetUser" && reads > seen_calls);
        missing.then_some(Fault::Error(404, "NoSuchEntity"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_sweep_looks_again_before_it_misses_the_policy() {
    let account = || FakeIam::default().with_console_user("alice");
    for unseen in [1, 2] {
        let late = half_visible(account(), unseen, usize::MAX);
        let done = sweep(&late, &[]).await;
        assert_eq!((done.error_type, late.is_covered("alice")), ("", true), "{}", done.message);
    }
    let gone = sweep(&half_visible(account(), usize::MAX, 1), &[]).await;
    assert_eq!((gone.error_type, counts(&gone.reply)), ("", expect(&[("console_users", 1), ("without_mfa", 1)])));
    let missing = sweep(&half_visible(account(), usize::MAX, usize::MAX), &[]).await;
    assert_eq!(missing.error_type, "sweep_incomplete");
    assert!(missing.message.contains("policy_missing: user alice"), "{}", missing.message);
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
            && done.message.contains("does not have the policy. Attach the policy to it")
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
        let metrics = metrics(&done);
        attached += metrics["Attached"].as_u64().unwrap();
        let remaining = metrics["SweepRemaining"].as_u64().unwrap();
        if remaining == 0 {
            assert_eq!((done.error_type, metrics["SweepFinished"].as_u64()), ("", Some(1)));
            assert!(round > 0, "the first sweep is to run out of time");
            break;
        }
        // It is not told as a success: Lambda tries the invocation again, and the failure is seen.
        assert_eq!((done.error_type, metrics.get("SweepFinished")), ("sweep_incomplete", None));
        assert!(done.message.contains(&format!("before {remaining} users were looked at")), "{}", done.message);
        assert!(account.writes().len() as u64 + remaining >= 400, "{remaining}");
    }
    assert!((0..400).all(|n| account.is_covered(&format!("user-{n}"))));
    assert!(attached <= 400);
}

#[tokio::test(start_paused = true)]
async fn failures_and_a_lack_of_time_are_both_told() {
    let mut account = FakeIam::default();
    for n in 0..400 {
        account = account.with_console_user(&format!("user-{n}"));
    }
    account.world().latency = Duration::from_millis(500);
    let account =
        account.with_faults(|action, _| (action == "AttachUserPolicy").then_some(Fault::Error(403, "AccessDenied")));
    let handler = Handler::new(settings(&[]), account.iam().await);
    let done = done(handler.handle(br#"{"sweep": {}}"#, Instant::now() + Duration::from_secs(10)).await);
    let metrics = metrics(&done);
    let (failed, remaining) = (metrics["Failed"].as_u64().unwrap(), metrics["SweepRemaining"].as_u64().unwrap());
    assert!(failed > 0 && remaining > 0 && failed + remaining == 400, "{failed} {remaining}");
    assert!(done.message.starts_with(&format!("{failed} of {failed} uncovered users")), "{}", done.message);
    assert!(done.message.contains(&format!("before {remaining} users were looked at")), "{}", done.message);
}

/// 200 users whom a tag exempts, which only a look-up of each can tell, and one who should be covered; a sweep has time
/// for some fifty.
#[tokio::test(start_paused = true)]
async fn every_user_is_reached_within_twenty_sweeps() {
    for last in ["aaron", "user-100-and-a-half", "zoe"] {
        let mut account = FakeIam::default();
        for n in 0..200 {
            account = account.with_user(&format!("user-{n:03}"), |user| {
                user.set_password(user.created);
                user.tags.insert("mfa-exempt".into(), "true".into());
            });
        }
        let account = account.with_console_user(last);
        account.world().latency = Duration::from_secs(1);
        let handler = Handler::new(settings(&[("FORCE_MFA_EXEMPT_TAG", "mfa-exempt")]), account.iam().await);
        let mut sweeps = 0;
        while !account.is_covered(last) {
            assert!(sweeps < 20, "{last} is not reached");
            sweeps += 1;
            let now = account.world().now;
            let until = Instant::now() + Duration::from_millis(13_500);
            let done = done(handler.handle_at(br#"{"sweep": {}}"#, now, until).await);
            let looked_at = 201 - metrics(&done)["SweepRemaining"].as_u64().unwrap();
            assert!((20..=60).contains(&looked_at), "{looked_at} looked at");
            account.world().now += TimeDelta::hours(6);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn users_newer_than_the_report_come_first() {
    let mut account = FakeIam::default();
    for n in 0..200 {
        account = account.with_console_user(&format!("user-{n:03}"));
    }
    {
        let mut world = account.world();
        let csv = world.credential_report();
        world.report = Some((world.now - TimeDelta::hours(3), csv));
    }
    let account = account.with_console_user("zoe");
    assert_eq!(sweep(&account, &[]).await.reply["attached"], 201);
    let calls = account.calls();
    assert_eq!(calls.iter().find(|call| call.starts_with("GetLoginProfile")).unwrap(), "GetLoginProfile zoe");
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_in_passing_are_tried_until_the_deadline() {
    for action in ["ListUsers", "ListEntitiesForPolicy", "GetGroup", "GetPolicy", "GetCredentialReport"] {
        for fault in [Fault::Error(400, "Throttling"), Fault::Error(503, "ServiceUnavailable"), Fault::Hang] {
            let better = Instant::now() + Duration::from_mins(3);
            let failing = fault.clone();
            let account = FakeIam::default()
                .with_console_user("alice")
                .with_faults(move |called, _| (called == action && Instant::now() < better).then(|| failing.clone()));
            let done = sweep(&account, &[]).await;
            assert_eq!(done.reply["attached"], 1, "{action} {fault:?}: {}", done.message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_take_twenty_seconds_are_waited_for() {
    let account = FakeIam::default().with_console_user("covered");
    account.world().users.get_mut("covered").unwrap().policies.insert(POLICY.into());
    account.world().latency = Duration::from_secs(20);
    assert_eq!(sweep(&account, &[]).await.reply["covered"], 1);
}

/// IAM has no capacity for a new report, which it may say for minutes.
#[tokio::test(start_paused = true)]
async fn a_report_that_iam_does_not_generate_is_replaced_by_the_last_one() {
    let refusals =
        [Fault::Error(409, "LimitExceeded"), Fault::Error(400, "Throttling"), Fault::Error(503, "Unavailable")];
    for refusal in refusals {
        for (hours, times) in [(Some(1), usize::MAX), (None, 2), (Some(1), 2)] {
            let account = FakeIam::default().with_console_user("alice");
            if let Some(hours) = hours {
                let mut world = account.world();
                let csv = world.credential_report();
                world.report = Some((world.now - TimeDelta::hours(hours), csv));
            }
            let (mut asked, fault) = (0, refusal.clone());
            let account = account.with_faults(move |action, _| {
                asked += usize::from(action == "GenerateCredentialReport");
                (action == "GenerateCredentialReport" && asked <= times).then(|| fault.clone())
            });
            let done = sweep(&account, &[]).await;
            assert_eq!(done.reply["attached"], 1, "{refusal:?} {hours:?} {times}: {}", done.message);
        }
    }
    // Without any, both calls are tried to the end, and the message says what IAM answered.
    let account = FakeIam::default()
        .with_console_user("alice")
        .with_faults(|action, _| (action == "GenerateCredentialReport").then_some(Fault::Error(409, "LimitExceeded")));
    let started = Instant::now();
    let done = sweep(&account, &[]).await;
    assert!((Duration::from_secs(230)..=Duration::from_mins(4)).contains(&started.elapsed()));
    assert_eq!((done.error_type, account.writes().len()), ("sweep_incomplete", 0));
    assert!(done.message.contains("GenerateCredentialReport: IAM answered LimitExceeded"), "{}", done.message);
}

#[tokio::test(start_paused = true)]
async fn a_lost_create_user_is_repaired_where_all_users_are_in_scope() {
    let account = || {
        FakeIam::default()
            .with_user("lost", |_| {})
            .with_console_user("lost-with-a-password")
            .with_user("old", |user| user.created -= TimeDelta::days(400))
            .with_user("old-with-a-new-password", |user| {
                user.set_password(user.created);
                user.created -= TimeDelta::days(400);
            })
            .with_user("ci", |user| user.path = "/service/".into())
            .with_user("covered", |user| {
                user.policies.insert(POLICY.into());
            })
    };
    let all_users = [("FORCE_MFA_SCOPE", "all-users"), ("FORCE_MFA_EXEMPT_PATHS", "/service/")];
    let reported = account();
    let done = sweep(&reported, &all_users).await;
    let expected = [("attached", 3), ("console_users", 2), ("exempt", 1), ("existing", 1), ("without_mfa", 2)];
    assert_eq!(counts(&done.reply), expect(&expected));
    assert!(!reported.is_covered("old") && !reported.is_covered("ci"));
    assert_eq!(metrics(&done)["Uncovered"], 3);

    let enforced = account();
    let done = sweep(&enforced, &[all_users[0], all_users[1], ENFORCE_EXISTING[0]]).await;
    assert_eq!(done.reply["attached"], 4);
    assert!(enforced.is_covered("old") && !enforced.is_covered("ci"));
    assert_eq!(metrics(&done)["Uncovered"], 3, "existing users are no lost events");
}

#[tokio::test(start_paused = true)]
async fn an_exempt_path_costs_no_look_up() {
    let account = FakeIam::default().with_console_user("alice").with_user("ci", |user| {
        user.set_password(user.created);
        user.path = "/service/".into();
    });
    let done = sweep(&account, &[("FORCE_MFA_EXEMPT_PATHS", "/service/")]).await;
    assert_eq!((&done.reply["attached"], &done.reply["exempt"]), (&json!(1), &json!(1)));
    assert!(!account.calls().iter().any(|call| call.starts_with("GetUser")), "{:?}", account.calls());
}

#[tokio::test(start_paused = true)]
async fn users_deleted_since_the_report_do_not_count() {
    let account = mixed();
    {
        let mut world = account.world();
        let csv = world.credential_report();
        world.report = Some((world.now - TimeDelta::hours(3), csv));
        for name in ["covered", "lost", "old", "pathed"] {
            world.users.remove(name);
        }
    }
    let done = sweep(&account, &EXEMPTIONS).await;
    let expected = [("added_to_group", 1), ("console_users", 4), ("covered", 1), ("exempt", 2), ("without_mfa", 4)];
    assert_eq!(counts(&done.reply), expect(&expected));
    assert!(!account.calls().iter().any(|call| call == "GetLoginProfile lost"));
}

/// A list may not show yet whom the report has.
#[tokio::test(start_paused = true)]
async fn a_user_of_some_minutes_is_covered_although_no_list_shows_it() {
    let account = FakeIam::default().with_user("alice", |user| {
        user.created += TimeDelta::minutes(56);
        user.set_password(user.created);
    });
    let account = account.with_faults(|action, _| {
        (action == "ListUsers").then_some(Fault::Say(200, "<IsTruncated>false</IsTruncated><Users></Users>"))
    });
    assert_eq!(sweep(&account, &[]).await.reply["attached"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_used_costs_that_user_alone() {
    let long = "x".repeat(129);
    for name in ["al ice", "eng/alice", &long] {
        let account = FakeIam::default()
            .with_console_user(name)
            .with_user(&format!("{name}-covered"), |user| {
                user.policies.insert(POLICY.into());
            })
            .with_console_user(&"y".repeat(128))
            .with_console_user("bob");
        account.world().groups.get_mut(GROUP).unwrap().members.insert(name.to_owned());
        let done = sweep(&account, &[]).await;
        assert_eq!((done.error_type, &done.reply["attached"]), ("", &json!(2)), "{name}: {}", done.message);
    }
}

/// What a sweep prints: the binary against an account with a name that cannot be used and a user whom IAM refuses.
#[tokio::test]
async fn the_log_names_whom_a_sweep_could_not_cover() {
    let account =
        FakeIam::default().with_console_user("al ice").with_console_user("bob").with_console_user("carol").with_faults(
            |action, user| (action == "AttachUserPolicy" && user == "bob").then_some(Fault::Error(403, "AccessDenied")),
        );
    let run = support::lambda::run_function(&account, &[], vec![json!({ "sweep": {} }).to_string().into_bytes()]).await;
    assert_eq!(
        (run.answers[0].kind.as_str(), &run.answers[0].body["errorType"]),
        ("error", &json!("sweep_incomplete"))
    );
    let logs = run.logs();
    assert_eq!((&logs[0]["level"], &logs[0]["user"]), (&json!("WARN"), &json!("al ice")), "{logs:?}");
    let swept: Value = serde_json::from_str(logs[1]["sweep"].as_str().unwrap()).unwrap();
    assert_eq!(swept["failed"], json!([{ "user": "bob", "error": "access_denied" }]));
    assert_eq!((logs.len(), &swept["attached"], &logs[1]["level"]), (2, &json!(1), &json!("ERROR")));
    let metrics = &run.metrics()[0];
    assert_eq!(
        (&metrics["SweepFinished"], &metrics["SweepRemaining"], &metrics["Failed"]),
        (&json!(1), &json!(0), &json!(1))
    );
}

/// Which users without the policy count as lost events.
#[tokio::test(start_paused = true)]
async fn users_whose_event_may_be_under_way_are_not_counted_as_uncovered() {
    let user = |minutes: i64| {
        FakeIam::default().with_user("alice", move |user| {
            user.created += TimeDelta::minutes(60 - minutes);
            user.set_password(user.created);
        })
    };
    for (minutes, uncovered) in [(1, 0), (14, 0), (16, 1), (120, 1)] {
        let done = sweep(&user(minutes), &[]).await;
        assert_eq!(
            (&done.reply["attached"], &metrics(&done)["Uncovered"]),
            (&json!(1), &json!(uncovered)),
            "{minutes}"
        );
    }
    // A user about whom nothing is known is a failure, and no lost event.
    for action in ["GetLoginProfile", "GetUser"] {
        let account =
            user(60).with_faults(move |called, _| (called == action).then_some(Fault::Error(403, "AccessDenied")));
        let done = sweep(&account, &[("FORCE_MFA_EXEMPT_TAG", "mfa-exempt")]).await;
        let metrics = metrics(&done);
        assert_eq!((&metrics["Uncovered"], &metrics["Failed"]), (&json!(0), &json!(1)), "{action}");
    }
    // In report mode nobody is ever attached, so that the count would never fall.
    for (variables, payload) in
        [([("FORCE_MFA_MODE", "report")], json!({})), ([("FORCE_MFA_MODE", "enforce")], json!({ "mode": "report" }))]
    {
        let done = feed(&user(60), &settings(&variables), &json!({ "sweep": payload })).await;
        assert_eq!((&done.reply["would_attach"], metrics(&done).get("Uncovered")), (&json!(1), None));
    }
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
    force_mfa::sweep::sweep(&enforcer, chrono::Utc::now(), until, move |done, of| {
        told.0.store(done, Ordering::Relaxed);
        told.1.store(of, Ordering::Relaxed);
    })
    .await
    .unwrap();
    assert!(last.load(Ordering::Relaxed) > 0);
    assert_eq!(last.load(Ordering::Relaxed), all.load(Ordering::Relaxed));
}

/// The text of the policy → the word for it in the reply, and the metric.
#[tokio::test(start_paused = true)]
async fn a_sweep_judges_the_policys_text_and_covers_users_anyway() {
    let freed = ENFORCING.replace("Deny", "Allow");
    let locked = ENFORCING.replace("NotAction", "Sid\": \"x\", \"Action").replace("\"iam:Cre", "\"*\", \"iam:Cre");
    let later = ENFORCING.replace("BoolIfExists", "DateGreaterThan").replace("MultiFactorAuthPresent", "CurrentTime");
    for (text, word, metric) in [
        (ENFORCING, "enforcing", json!(0)),
        (&freed, "not_enforcing", json!(1)),
        (&locked, "blocks_enrolment", json!(1)),
        (&later, "unknown", Value::Null),
        ("{}", "unknown", Value::Null),
    ] {
        let account = FakeIam::default().with_console_user("alice");
        account.world().policy_text = text.to_owned();

        let done = sweep(&account, &[]).await;

        assert_eq!((done.error_type, &done.reply["policy"]), ("", &json!(word)), "{text}");
        assert_eq!(metrics(&done)["PolicyBroken"], metric, "{text}");
        assert_eq!(account.writes(), ["AttachUserPolicy alice"], "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_be_read_is_unknown_and_users_are_covered() {
    for fault in [
        Fault::Error(403, "AccessDenied"),
        Fault::Error(404, "NoSuchEntity"),
        Fault::Error(400, "Throttling"),
        Fault::Error(503, "ServiceUnavailable"),
        Fault::Hang,
    ] {
        let account = FakeIam::default().with_console_user("alice");
        let told = format!("{fault:?}");
        let account = account.with_faults(move |action, _| (action == "GetPolicyVersion").then(|| fault.clone()));
        let started = Instant::now();

        let done = sweep(&account, &[]).await;

        assert_eq!((done.error_type, &done.reply["policy"]), ("", &json!("unknown")), "{told}");
        assert_eq!(metrics(&done)["PolicyBroken"], Value::Null, "a failed read is no verdict: {told}");
        assert_eq!(account.writes(), ["AttachUserPolicy alice"], "{told}");
        assert!(started.elapsed() < Duration::from_secs(30), "it may not use up the time of the users: {told}");
    }
}

#[tokio::test]
async fn an_event_does_not_look_at_the_policys_text() {
    let account = FakeIam::default().with_console_user("alice");
    account.world().policy_text = "{}".to_owned();

    feed(&account, &settings(&[]), &support::event("CreateLoginProfile", "alice", 90)).await;

    assert_eq!(account.calls(), ["AttachUserPolicy alice"]);
}
