//! What each event leads to: the outcome, and the calls that IAM received.

mod support;

use serde_json::{Value, json};
use support::fake_iam::{FakeIam, Fault, GROUP, POLICY};
use support::{Done, event, feed, settings};

/// Feeds an event about alice and gives what came of it, with the calls.
async fn run(account: &FakeIam, variables: &[(&str, &str)], payload: &Value) -> (String, Vec<String>) {
    let done = feed(account, &settings(variables), payload).await;
    (done.summary(), account.calls())
}

fn alice() -> FakeIam {
    FakeIam::default().with_console_user("alice")
}

fn quota_full() -> FakeIam {
    FakeIam::default().with_user("alice", |user| {
        user.set_password(user.created);
        user.other_policies = 10;
    })
}

/// `Error(…)` for the first `times` calls of this action.
fn failing(action: &'static str, times: usize, fault: Fault) -> impl FnMut(&str, &str) -> Option<Fault> + Send {
    let mut left = times;
    move |called, _| {
        let fails = called == action && left > 0;
        left -= usize::from(fails);
        fails.then(|| fault.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_profile_costs_one_call() {
    let account = alice();
    let done = feed(&account, &settings(&[]), &event("CreateLoginProfile", "alice", 60)).await;
    assert_eq!(done.reply["outcome"], "attached");
    assert_eq!(done.reply["user"], "alice");
    assert_eq!(done.reply["event_id"], "7d5b9a3e-0000-0000-0000-000000000002");
    assert_eq!(account.calls(), ["AttachUserPolicy alice"]);
    assert!(account.is_covered("alice"));
}

#[tokio::test(start_paused = true)]
async fn a_second_delivery_changes_nothing() {
    let account = alice();
    for _ in 0..2 {
        let done = feed(&account, &settings(&[]), &event("CreateLoginProfile", "alice", 60)).await;
        assert_eq!(done.summary(), "attached");
    }
    assert_eq!(account.world().users["alice"].policies.len(), 1);
}

/// Scope, event, password → outcome and calls.
#[tokio::test(start_paused = true)]
async fn the_password_decides_unless_the_scope_is_all_users() {
    let rows: [(&str, &str, bool, &str, &[&str]); 8] = [
        ("console-users", "CreateUser", true, "attached", &["GetLoginProfile alice", "AttachUserPolicy alice"]),
        ("console-users", "CreateUser", false, "ignored not_a_console_user", &["GetLoginProfile alice"]),
        ("console-users", "DetachUserPolicy", true, "attached", &["GetLoginProfile alice", "AttachUserPolicy alice"]),
        (
            "console-users",
            "DetachUserPolicy",
            false,
            "ignored not_a_console_user",
            &["GetLoginProfile alice", "GetUser alice"],
        ),
        (
            "console-users",
            "RemoveUserFromGroup",
            true,
            "attached",
            &["GetLoginProfile alice", "AttachUserPolicy alice"],
        ),
        (
            "console-users",
            "RemoveUserFromGroup",
            false,
            "ignored not_a_console_user",
            &["GetLoginProfile alice", "GetUser alice"],
        ),
        ("all-users", "CreateUser", false, "attached", &["AttachUserPolicy alice"]),
        ("all-users", "DetachUserPolicy", false, "attached", &["AttachUserPolicy alice"]),
    ];
    for (scope, name, password, outcome, calls) in rows {
        let account = if password { alice() } else { FakeIam::default().with_user("alice", |_| {}) };
        let mut payload = event(name, "alice", 60);
        let parameters = &mut payload["detail"]["requestParameters"];
        match name {
            // Names in IAM are the same in any case.
            "DetachUserPolicy" => parameters["policyArn"] = json!(POLICY.replace("force", "Force")),
            "RemoveUserFromGroup" => parameters["groupName"] = json!(GROUP.to_uppercase()),
            _ => {}
        }
        let done = run(&account, &[("FORCE_MFA_SCOPE", scope)], &payload).await;
        assert_eq!(done, (outcome.to_owned(), calls.iter().map(ToString::to_string).collect()), "{scope} {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_created_user_who_is_not_visible_yet_is_left_to_the_event_of_its_password() {
    let done = run(&FakeIam::default(), &[], &event("CreateUser", "alice", 1)).await;
    assert_eq!(done, ("ignored not_a_console_user".into(), vec!["GetLoginProfile alice".into()]));
}

/// What must cost no call at all.
#[tokio::test(start_paused = true)]
async fn ignored_events_cost_no_call() {
    let change = |name: &str, path: &str, value: Value| {
        let mut payload = event(name, "alice", 60);
        *payload.pointer_mut(path).unwrap() = value;
        payload
    };
    let mut failed = event("CreateLoginProfile", "alice", 60);
    failed["detail"]["errorCode"] = json!("AccessDenied");
    let mut message_only = event("CreateLoginProfile", "alice", 60);
    message_only["detail"]["errorMessage"] = json!("not authorized");
    let mut failed_drift = event("DetachUserPolicy", "alice", 60);
    failed_drift["detail"]["errorCode"] = json!("AccessDenied");
    failed_drift["detail"]["requestParameters"] = Value::Null;
    let mut other_policy = event("DetachUserPolicy", "alice", 60);
    other_policy["detail"]["requestParameters"]["policyArn"] = json!("arn:aws:iam::123456789012:policy/other");
    let mut other_group = event("RemoveUserFromGroup", "alice", 60);
    other_group["detail"]["requestParameters"]["groupName"] = json!("developers");
    let mut root = event("CreateLoginProfile", "alice", 60);
    root["detail"]["userIdentity"] = json!({ "type": "Root", "arn": "arn:aws:iam::123456789012:root" });
    root["detail"]["requestParameters"] = Value::Null;
    let rows = [
        ("failed_call", failed),
        ("failed_call", message_only),
        ("failed_call", failed_drift),
        ("other_service", change("CreateUser", "/source", json!("aws.transfer"))),
        ("other_service", change("CreateUser", "/detail/eventSource", json!("transfer.amazonaws.com"))),
        ("other_service", change("CreateUser", "/detail/eventSource", Value::Null)),
        ("other_account", change("CreateLoginProfile", "/account", json!("000123456789"))),
        ("other_event", change("CreateLoginProfile", "/detail/eventName", json!("UpdateLoginProfile"))),
        ("other_event", other_policy),
        ("other_event", other_group),
        ("no_user_name", root),
    ];
    for (reason, payload) in rows {
        let account = alice();
        let done = run(&account, &[], &payload).await;
        assert_eq!(done, (format!("ignored {reason}"), vec![]), "{payload}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_only_the_record_names_is_compared_too() {
    let mut payload = event("CreateLoginProfile", "alice", 60);
    payload["account"] = Value::Null;
    payload["detail"]["recipientAccountId"] = json!("000123456789");
    assert_eq!(run(&alice(), &[], &payload).await.0, "ignored other_account");
    payload["detail"]["recipientAccountId"] = Value::Null;
    assert_eq!(run(&alice(), &[], &payload).await.0, "attached");
}

#[tokio::test(start_paused = true)]
async fn a_password_for_oneself_is_found_by_the_caller() {
    let mut payload = event("CreateLoginProfile", "alice", 60);
    payload["detail"]["requestParameters"] = Value::Null;
    payload["detail"]["userIdentity"] = json!({ "type": "IAMUser", "userName": "alice" });
    assert_eq!(run(&alice(), &[], &payload).await, ("attached".into(), vec!["AttachUserPolicy alice".into()]));
    // The caller of CreateUser is never its target.
    payload["detail"]["eventName"] = json!("CreateUser");
    assert_eq!(run(&alice(), &[], &payload).await, ("error malformed_event".into(), vec![]));
}

/// Only root's own password names no IAM user. Any other event without a name may hide one who must be covered.
#[tokio::test(start_paused = true)]
async fn nobody_named_is_malformed_unless_the_caller_is_root() {
    for (caller, outcome) in [
        (json!({ "type": "Root" }), "ignored no_user_name"),
        (json!({ "type": "Root", "userName": "alice" }), "ignored no_user_name"),
        (json!({ "type": "AssumedRole", "userName": "alice" }), "error malformed_event"),
        (json!({ "type": "IAMUser" }), "error malformed_event"),
        (json!({ "type": "root" }), "error malformed_event"),
        (json!({ "type": null }), "error malformed_event"),
        (json!({}), "error malformed_event"),
        (Value::Null, "error malformed_event"),
    ] {
        for parameters in [Value::Null, json!({}), json!({ "userName": null })] {
            let mut payload = event("CreateLoginProfile", "alice", 60);
            payload["detail"]["requestParameters"] = parameters;
            payload["detail"]["userIdentity"] = caller.clone();
            assert_eq!(run(&alice(), &[], &payload).await, (outcome.into(), vec![]), "{payload}");
        }
    }
}

/// Age in minutes, scope, password → outcome and calls.
#[tokio::test(start_paused = true)]
async fn an_old_login_profile_is_looked_up_first() {
    const LOOK: &str = "GetLoginProfile alice";
    const ATTACH: &str = "AttachUserPolicy alice";
    let rows: [(i64, &str, bool, &str, &[&str]); 5] = [
        (14, "console-users", true, "attached", &[ATTACH]),
        (16, "console-users", true, "attached", &[LOOK, ATTACH]),
        (16, "console-users", false, "ignored not_a_console_user", &[LOOK]),
        (14_400, "console-users", false, "ignored not_a_console_user", &[LOOK]),
        (14_400, "all-users", false, "attached", &[ATTACH]),
    ];
    for (minutes, scope, password, outcome, calls) in rows {
        let account = if password { alice() } else { FakeIam::default().with_user("alice", |_| {}) };
        let payload = event("CreateLoginProfile", "alice", minutes * 60);
        let done = run(&account, &[("FORCE_MFA_SCOPE", scope)], &payload).await;
        let calls = calls.iter().map(ToString::to_string).collect();
        assert_eq!(done, (outcome.to_owned(), calls), "{minutes} minutes, {scope}");
    }
}

/// The call's own time counts, not that of an event on its way; one that cannot be read costs nobody the policy.
#[tokio::test(start_paused = true)]
async fn a_login_profile_without_a_time_is_not_looked_up() {
    let mut payload = event("CreateLoginProfile", "alice", 3600);
    payload["time"] = event("CreateLoginProfile", "alice", 0)["time"].clone();
    assert_eq!(run(&alice(), &[], &payload).await.1.len(), 2);
    for time in [Value::Null, json!(1), json!("yesterday")] {
        payload["time"] = time.clone();
        payload["detail"]["eventTime"] = time;
        assert_eq!(run(&alice(), &[], &payload).await, ("attached".into(), vec!["AttachUserPolicy alice".into()]));
    }
}

/// Whoever deletes a user detaches its policies first, so that this is what most such events come to.
#[tokio::test(start_paused = true)]
async fn a_policy_removed_from_a_deleted_user_is_not_waited_for() {
    for (name, parameter, value) in
        [("DetachUserPolicy", "policyArn", POLICY), ("RemoveUserFromGroup", "groupName", GROUP)]
    {
        for (tag, calls) in [("", &["AttachUserPolicy leaver", "GetUser leaver"][..]), ("x", &["GetUser leaver"])] {
            let mut payload = event(name, "leaver", 20);
            payload["detail"]["requestParameters"][parameter] = json!(value);
            let account = FakeIam::default();
            let started = tokio::time::Instant::now();
            let done =
                run(&account, &[("FORCE_MFA_SCOPE", "all-users"), ("FORCE_MFA_EXEMPT_TAG", tag)], &payload).await;
            let calls = calls.iter().map(ToString::to_string).collect();
            assert_eq!(done, ("ignored user_gone".to_owned(), calls), "{name}");
            assert_eq!(started.elapsed().as_secs(), 0, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_removed_from_a_deleted_console_user_says_user_gone() {
    let mut payload = event("DetachUserPolicy", "leaver", 20);
    payload["detail"]["requestParameters"]["policyArn"] = json!(POLICY);
    let done = run(&FakeIam::default(), &[], &payload).await;
    assert_eq!(done, ("ignored user_gone".into(), vec!["GetLoginProfile leaver".into(), "GetUser leaver".into()]));
}

#[tokio::test(start_paused = true)]
async fn the_response_names_the_user_whom_the_request_does_not() {
    for (name, element) in [("CreateLoginProfile", "loginProfile"), ("CreateUser", "user")] {
        let mut payload = event(name, "alice", 60);
        payload["detail"]["requestParameters"] = Value::Null;
        payload["detail"]["responseElements"] = json!({ element: { "userName": "alice" } });
        assert_eq!(run(&alice(), &[], &payload).await.0, "attached", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_of_the_wrong_kind_is_malformed() {
    for name in [json!(7), json!({}), json!(["alice"]), json!(true), json!(""), json!("eng/alice"), json!("a\nb")] {
        let mut payload = event("CreateLoginProfile", "alice", 60);
        payload["detail"]["requestParameters"]["userName"] = name;
        payload["detail"]["responseElements"] = json!({ "loginProfile": { "userName": "alice" } });
        assert_eq!(run(&alice(), &[], &payload).await, ("error malformed_event".into(), vec![]), "{payload}");
    }
}

/// Neither may what a deciding field is in: the event would pass for root's, or be taken for its caller's.
#[tokio::test(start_paused = true)]
async fn a_deciding_field_of_the_wrong_kind_never_passes_for_a_missing_one() {
    for odd in [json!(7), json!(true), json!("alice"), json!(["alice"])] {
        for (name, place) in [
            ("CreateLoginProfile", "/detail/requestParameters"),
            ("CreateLoginProfile", "/detail/responseElements"),
            ("CreateLoginProfile", "/detail/responseElements/loginProfile"),
            ("CreateUser", "/detail/responseElements/user"),
            ("CreateUser", "/detail/requestParameters"),
            ("DetachUserPolicy", "/detail/requestParameters"),
            ("RemoveUserFromGroup", "/detail/requestParameters"),
        ] {
            let mut payload = event(name, "alice", 60);
            payload["detail"]["userIdentity"] = json!({ "type": "IAMUser", "userName": "alice" });
            payload["detail"]["requestParameters"] = Value::Null;
            payload["detail"]["responseElements"] = json!({ "loginProfile": null, "user": null });
            *payload.pointer_mut(place).unwrap() = odd.clone();
            assert_eq!(run(&alice(), &[], &payload).await, ("error malformed_event".into(), vec![]), "{payload}");
        }
    }
    for place in ["/detail/userIdentity", "/detail/eventName", "/detail/eventSource"] {
        let mut payload = event("CreateLoginProfile", "alice", 60);
        payload["detail"]["requestParameters"] = Value::Null;
        *payload.pointer_mut(place).unwrap() = json!(["CreateLoginProfile"]);
        assert_eq!(run(&alice(), &[], &payload).await, ("error malformed_event".into(), vec![]), "{payload}");
    }
}

#[tokio::test(start_paused = true)]
async fn payloads_of_other_kinds_are_errors() {
    for payload in [json!({}), json!([]), json!("text"), json!(null), json!({ "detail": {} }), json!({ "Records": [] })]
    {
        assert_eq!(run(&alice(), &[], &payload).await, ("error unrecognised_payload".into(), vec![]), "{payload}");
    }
    let mut payload = event("CreateLoginProfile", "alice", 60);
    payload["detail"] = json!("text");
    assert_eq!(run(&alice(), &[], &payload).await.0, "error malformed_event");
}

#[tokio::test(start_paused = true)]
async fn an_on_failure_message_is_handled_as_its_event() {
    let wrapped = |payload: Value| {
        json!({ "version": "1.0", "requestContext": { "condition": "RetriesExhausted" }, "requestPayload": payload,
                "responsePayload": { "errorType": "throttled" } })
    };
    let once = wrapped(event("CreateLoginProfile", "alice", 60));
    assert_eq!(run(&alice(), &[], &once).await.0, "attached");
    assert_eq!(run(&alice(), &[], &wrapped(once)).await.0, "attached");
    assert_eq!(run(&alice(), &[], &wrapped(json!("text"))).await.0, "error unrecognised_payload");
}

/// Source, detail-type and status → what comes of it, and whether the sweep writes.
#[tokio::test(start_paused = true)]
async fn a_schedule_and_a_deployment_lead_to_a_sweep() {
    const STACK: (&str, &str) = ("aws.cloudformation", "CloudFormation Stack Status Change");
    let status = |status: &str| json!({ "stack-id": "arn", "status-details": { "status": status } });
    let rows = [
        (("aws.events", "Scheduled Event"), json!({}), "swept", true),
        (STACK, status("CREATE_COMPLETE"), "swept", true),
        (STACK, status("UPDATE_COMPLETE"), "swept", false),
        (STACK, status("UPDATE_ROLLBACK_COMPLETE"), "swept", false),
        (STACK, status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), "ignored other_event", false),
        (STACK, status("CREATE_FAILED"), "ignored other_event", false),
        (STACK, json!({}), "error malformed_event", false),
        (STACK, json!({ "status-details": {} }), "error malformed_event", false),
        (STACK, json!({ "status-details": "CREATE_COMPLETE" }), "error malformed_event", false),
        (STACK, json!({ "status-details": { "status": ["CREATE_COMPLETE"] } }), "error malformed_event", false),
        // Each by its own source alone.
        (("aws.iam", "Scheduled Event"), json!({}), "ignored other_service", false),
        (
            ("aws.events", "CloudFormation Stack Status Change"),
            status("CREATE_COMPLETE"),
            "ignored other_service",
            false,
        ),
    ];
    for ((source, kind), detail, outcome, writes) in rows {
        let mut payload = json!({
            "version": "0", "id": "1", "source": source, "detail-type": kind, "account": "123456789012",
            "time": "2026-11-25T06:00:00Z", "region": "us-east-1", "resources": [], "detail": detail
        });
        let account = alice();
        let done = feed(&account, &settings(&[]), &payload).await;
        assert_eq!(done.summary(), outcome, "{payload}");
        assert_eq!(account.is_covered("alice"), writes, "{payload}");
        assert_eq!(account.calls().is_empty(), outcome != "swept", "{payload}");
        if outcome == "swept" {
            assert_eq!(
                (&done.reply["mode"], &done.reply["event_id"]),
                (&json!(if writes { "enforce" } else { "report" }), &json!("1"))
            );
            payload["account"] = json!("000123456789");
            assert_eq!(run(&alice(), &[], &payload).await, ("ignored other_account".into(), vec![]), "{payload}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn report_mode_writes_nothing() {
    for name in ["CreateLoginProfile", "CreateUser"] {
        let account = alice();
        let done = run(&account, &[("FORCE_MFA_MODE", "report")], &event(name, "alice", 60)).await;
        assert_eq!(done.0, "would_attach");
        assert!(account.writes().is_empty() && !account.is_covered("alice"));
    }
}

#[tokio::test(start_paused = true)]
async fn exemptions_cost_a_look_only_where_it_is_needed() {
    let rows: [(&str, &str, &str, &[&str]); 5] = [
        ("FORCE_MFA_EXEMPT_USERS", "AL*", "exempt FORCE_MFA_EXEMPT_USERS", &[]),
        ("FORCE_MFA_EXEMPT_PATHS", "/service/", "exempt FORCE_MFA_EXEMPT_PATHS", &["GetUser alice"]),
        ("FORCE_MFA_EXEMPT_TAG", "exempt=yes", "exempt FORCE_MFA_EXEMPT_TAG", &["GetUser alice"]),
        ("FORCE_MFA_EXEMPT_TAG", "exempt=no", "attached", &["GetUser alice", "AttachUserPolicy alice"]),
        ("FORCE_MFA_EXEMPT_USERS", "bob", "attached", &["AttachUserPolicy alice"]),
    ];
    for (variable, value, outcome, calls) in rows {
        let account = FakeIam::default().with_user("alice", |user| {
            user.set_password(user.created);
            user.path = "/service/ci/".into();
            user.tags.insert("Exempt".into(), "yes".into());
        });
        let done = run(&account, &[(variable, value)], &event("CreateLoginProfile", "alice", 60)).await;
        assert_eq!(done, (outcome.to_owned(), calls.iter().map(ToString::to_string).collect()), "{variable}={value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_leads_to_the_overflow_group() {
    let account = quota_full();
    let done = run(&account, &[], &event("CreateLoginProfile", "alice", 60)).await;
    assert_eq!(
        done,
        (
            "added_to_group force-mfa-overflow".into(),
            vec![
                "AttachUserPolicy alice".into(),
                "AddUserToGroup alice".into(),
                format!("ListEntitiesForPolicy {POLICY}")
            ]
        )
    );
    assert!(account.is_covered("alice"));
}

/// Members of a group from which somebody detached the policy are not covered.
#[tokio::test(start_paused = true)]
async fn an_overflow_group_without_the_policy_covers_nobody() {
    let account = quota_full();
    account.world().groups.get_mut(GROUP).unwrap().policies.clear();
    let done = feed(&account, &settings(&[]), &event("CreateLoginProfile", "alice", 60)).await;
    assert_eq!(done.error_type, "quota_exhausted", "{}", done.reply);
    assert!(done.message.contains("user alice") && done.message.contains(GROUP), "{}", done.message);
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_without_a_way_out_is_an_error_that_says_which() {
    let feed_to = async |account: FakeIam, group: &str| -> Done {
        feed(&account, &settings(&[("FORCE_MFA_OVERFLOW_GROUP", group)]), &event("CreateLoginProfile", "alice", 60))
            .await
    };
    let full = FakeIam::default().with_user("alice", |user| (user.other_policies, user.other_groups) = (10, 10));
    for (done, part) in [
        (feed_to(quota_full(), "").await, "no overflow group is set"),
        (feed_to(quota_full(), "gone").await, "the overflow group gone does not exist"),
        (feed_to(full, GROUP).await, "the user is in too many groups"),
    ] {
        assert_eq!(done.error_type, "quota_exhausted");
        assert!(done.message.contains("user alice") && done.message.contains(part), "{}", done.message);
    }
    says_how_to_restore(&feed_to(quota_full(), "gone").await.message);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_shows_late_is_attached_within_the_invocation() {
    let account = FakeIam::default().with_user("alice", |user| {
        user.set_password(user.created);
        // Attach, look, attach, look, attach: the fifth call sees it.
        user.unseen_for = 4;
    });
    let started = tokio::time::Instant::now();
    let done = run(&account, &[], &event("CreateLoginProfile", "alice", 1)).await;
    assert_eq!(done.0, "attached");
    assert!(started.elapsed().as_secs() < 10);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_does_not_show_fails_while_the_event_is_young_and_is_gone_later() {
    let no_time = {
        let mut payload = event("CreateLoginProfile", "alice", 0);
        payload["time"] = json!("yesterday");
        payload["detail"]["eventTime"] = json!(42);
        payload
    };
    for (payload, outcome) in [
        (event("CreateLoginProfile", "alice", 1), "error user_not_visible"),
        (event("CreateLoginProfile", "alice", -3600), "error user_not_visible"),
        (no_time, "error user_not_visible"),
        (event("CreateLoginProfile", "alice", 180), "ignored user_gone"),
    ] {
        let started = tokio::time::Instant::now();
        assert_eq!(run(&FakeIam::default(), &[], &payload).await.0, outcome);
        assert!((4..10).contains(&started.elapsed().as_secs()), "waited {:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_policy_is_told_from_a_missing_user() {
    let account = alice();
    account.world().policy_created = None;
    for seconds_ago in [1, 3600] {
        let done = feed(&account, &settings(&[]), &event("CreateLoginProfile", "alice", seconds_ago)).await;
        assert_eq!(done.error_type, "policy_missing");
        assert!(done.message.contains("alice") && done.message.contains(POLICY), "{}", done.message);
        says_how_to_restore(&done.message);
    }
}

/// A deployment of the same template brings back nothing that was deleted by hand.
fn says_how_to_restore(message: &str) {
    assert!(message.contains("a drift-aware change set brings it back"), "{message}");
    assert!(message.contains("deploying again does not"), "{message}");
}

/// Faults that pass, and how often the call is made.
#[tokio::test(start_paused = true)]
async fn faults_that_pass_are_retried() {
    for (fault, times) in [
        (Fault::Error(400, "Throttling"), 3),
        (Fault::Error(503, "ServiceUnavailable"), 3),
        (Fault::Error(500, "ServiceFailure"), 2),
        (Fault::Error(409, "ConcurrentModification"), 2),
        (Fault::Error(409, "EntityTemporarilyUnmodifiable"), 2),
        (Fault::Reset, 2),
        (Fault::LoseAnswer, 1),
        (Fault::Hang, 1),
    ] {
        let account = alice().with_faults(failing("AttachUserPolicy", times, fault.clone()));
        let (outcome, calls) = run(&account, &[], &event("CreateLoginProfile", "alice", 60)).await;
        assert_eq!((outcome.as_str(), calls.len()), ("attached", times + 1), "{fault:?}");
    }
}

/// Faults that stay → error type, and whether the call is retried at all; always within half a minute.
#[tokio::test(start_paused = true)]
async fn faults_that_stay_are_errors_by_what_they_mean() {
    for (fault, error_type, retried) in [
        (Fault::Error(400, "Throttling"), "throttled", true),
        (Fault::Error(429, "TooManyRequestsException"), "throttled", true),
        (Fault::Error(503, "ServiceUnavailable"), "iam_unavailable", true),
        (Fault::Error(500, "ServiceFailure"), "iam_unavailable", true),
        (Fault::Error(409, "ConcurrentModification"), "iam_unavailable", true),
        (Fault::Reset, "iam_unavailable", true),
        (Fault::Hang, "iam_unavailable", true),
        (Fault::Error(403, "AccessDenied"), "access_denied", false),
        (Fault::Error(403, "ExpiredToken"), "access_denied", false),
        (Fault::Error(403, "SignatureDoesNotMatch"), "access_denied", false),
        (Fault::Error(400, "PolicyNotAttachable"), "iam_error", false),
        (Fault::Error(400, "InvalidInput"), "iam_error", false),
    ] {
        let account = alice().with_faults(failing("AttachUserPolicy", usize::MAX, fault.clone()));
        let started = tokio::time::Instant::now();
        let done = feed(&account, &settings(&[]), &event("CreateLoginProfile", "alice", 60)).await;
        assert_eq!(done.error_type, error_type, "{fault:?}: {}", done.message);
        assert_eq!(account.calls().len() > 1, retried, "{fault:?}");
        assert!(started.elapsed().as_secs() < 30, "{fault:?} took {:?}", started.elapsed());
        assert!(done.message.contains("user alice: AttachUserPolicy"), "{}", done.message);
        if let Fault::Error(_, code) = fault {
            assert!(done.message.contains(code), "{}", done.message);
        }
        assert!(!account.is_covered("alice"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_invocation_ends_within_half_a_minute_however_slow_iam_is() {
    // Each call answers just inside its own limit, and the user never shows.
    let account = FakeIam::default();
    account.world().latency = std::time::Duration::from_millis(3900);
    let started = tokio::time::Instant::now();
    let done =
        feed(&account, &settings(&[("FORCE_MFA_EXEMPT_TAG", "x")]), &event("CreateLoginProfile", "alice", 1)).await;
    assert_eq!(done.error_type, "iam_unavailable");
    assert!(done.message.contains("user alice"), "{}", done.message);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failing_look_up_is_an_error_and_writes_nothing() {
    for (name, action, variable) in [("CreateUser", "GetLoginProfile", ""), ("CreateLoginProfile", "GetUser", "x")] {
        let account = alice().with_faults(failing(action, usize::MAX, Fault::Error(403, "AccessDenied")));
        let settings = settings(&[("FORCE_MFA_EXEMPT_TAG", variable)]);
        let done = feed(&account, &settings, &event(name, "alice", 60)).await;
        assert_eq!(done.error_type, "access_denied");
        assert!(done.message.contains(&format!("iam:{action}")), "{}", done.message);
        assert!(account.writes().is_empty());
    }
}
