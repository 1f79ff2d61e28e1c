//! The function's binary, from outside: payloads in through the Runtime API, answers, log lines and metrics out.

mod support;

use serde_json::{Value, json};
use support::event;
use support::fake_iam::{ENFORCING, FakeIam, Fault};
use support::lambda::{run_function, run_function_at};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

fn bytes(payload: &Value) -> Vec<u8> {
    payload.to_string().into_bytes()
}

/// An event that holds things which must never be logged.
fn telling_event() -> Value {
    let mut payload = event("CreateLoginProfile", "alice", 90);
    // The time of the event on its way is not that of the call.
    payload["time"] = json!("2026-01-01T00:00:00Z");
    payload["detail"]["userAgent"] = json!("agent-that-must-not-be-logged");
    payload["detail"]["userIdentity"]["accessKeyId"] = json!("ASIAIOSFODNN7EXAMPLE");
    payload
}

#[tokio::test]
async fn an_event_is_answered_logged_and_counted() {
    let account = FakeIam::default().with_console_user("alice");
    let run = run_function(&account, &[], vec![bytes(&telling_event())]).await;

    assert_eq!(run.answers[0].kind, "response");
    assert_eq!(
        run.answers[0].body,
        json!({ "outcome": "attached", "user": "alice", "event_id": "7d5b9a3e-0000-0000-0000-000000000002" })
    );
    assert_eq!(account.calls(), ["AttachUserPolicy alice"]);

    let [log] = &run.logs()[..] else { panic!("one log line, not {:?}", run.stdout) };
    assert_eq!(log["level"], "INFO");
    assert_eq!(log["outcome"], "attached");
    assert_eq!(log["user"], "alice");
    assert_eq!(log["event_id"], "7d5b9a3e-0000-0000-0000-000000000002");
    assert_eq!(log["event_name"], "CreateLoginProfile");
    assert_eq!(log["caller_arn"], "arn:aws:sts::123456789012:assumed-role/Admin/admin");
    assert!((90.0..120.0).contains(&log["seconds_since_call"].as_f64().unwrap()), "{log}");

    let [metrics] = &run.metrics()[..] else { panic!("one line of metrics, not {:?}", run.stdout) };
    assert_eq!(metrics["Attached"], 1);
    assert!((90.0..120.0).contains(&metrics["EnforcementDelay"].as_f64().unwrap()));
    let directive = &metrics["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Namespace"], "ForceMfa");
    assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
    assert_eq!(metrics["FunctionName"], "force-mfa");
    assert_eq!(
        directive["Metrics"],
        json!([{ "Name": "Attached", "Unit": "Count" }, { "Name": "EnforcementDelay", "Unit": "Seconds" }])
    );
    assert!(metrics["_aws"]["Timestamp"].is_u64());
    assert_eq!(run.stdout.len(), 2);
}

#[tokio::test]
async fn a_failure_is_told_to_lambda_logged_once_and_counted() {
    let account = FakeIam::default().with_faults(|_, _| Some(Fault::Error(403, "AccessDenied")));
    let run = run_function(&account, &[], vec![bytes(&telling_event())]).await;

    assert_eq!(run.answers[0].kind, "error");
    assert_eq!(run.answers[0].body["errorType"], "access_denied");
    let message = run.answers[0].body["errorMessage"].as_str().unwrap();
    for part in ["alice", "AttachUserPolicy", "AccessDenied", "iam:AttachUserPolicy"] {
        assert!(message.contains(part), "{message}");
    }
    let [log] = &run.logs()[..] else { panic!("one log line, not {:?}", run.stdout) };
    assert_eq!((&log["level"], &log["outcome"], &log["user"]), (&json!("ERROR"), &json!("failed"), &json!("alice")));
    assert_eq!((&log["error_type"], &log["error_message"]), (&json!("access_denied"), &json!(message)));
    let [metrics] = &run.metrics()[..] else { panic!("one line of metrics, not {:?}", run.stdout) };
    assert_eq!(metrics["Failed"], 1);
}

/// The alarm `force-mfa-changed` sends its reader to this line.
#[tokio::test]
async fn a_change_of_the_installation_is_logged_with_caller_and_resource() {
    let function = "arn:aws:lambda:us-east-1:123456789012:function:force-mfa";
    let queue = "https://sqs.us-east-1.amazonaws.com/123456789012/force-mfa-failures";
    let policy = "arn:aws:iam::123456789012:policy/force-mfa";
    let topic = "arn:aws:sns:us-east-1:123456789012:force-mfa-alarms";
    let rows = [
        ("lambda", "UpdateFunctionConfiguration20150331v2", json!({ "functionName": function }), function),
        ("sqs", "PurgeQueue", json!({ "queueUrl": queue }), queue),
        ("sns", "PutDataProtectionPolicy", json!({ "resourceArn": topic }), topic),
        ("events", "DisableRule", json!({ "name": "force-mfa-sweep" }), "force-mfa-sweep"),
        ("iam", "DeletePolicy", json!({ "policyArn": policy }), policy),
        (
            "monitoring",
            "DeleteAlarms",
            json!({ "alarmNames": ["other", "force-mfa-changed"] }),
            "other, force-mfa-changed",
        ),
        ("monitoring", "PutAlarmMuteRule", json!({ "name": "quiet" }), "quiet"),
        (
            "monitoring",
            "PutAlarmMuteRule",
            json!({ "name": "quiet", "muteTargets": { "alarmNames": ["force-mfa-changed"] } }),
            "force-mfa-changed",
        ),
    ];
    let payloads = rows.iter().map(|(service, call, request, _)| {
        let mut payload = telling_event();
        payload["source"] = json!(format!("aws.{service}"));
        payload["detail"]["eventSource"] = json!(format!("{service}.amazonaws.com"));
        payload["detail"]["eventName"] = json!(call);
        payload["detail"]["sourceIPAddress"] = json!("198.51.100.7");
        payload["detail"]["requestParameters"] = request.clone();
        bytes(&payload)
    });
    let account = FakeIam::default();
    let run = run_function(&account, &[], payloads.collect()).await;

    assert_eq!(run.logs().len(), rows.len(), "{:?}", run.stdout);
    for (log, (service, call, _, resource)) in run.logs().iter().zip(&rows) {
        let reason = if *service == "iam" { "other_event" } else { "other_service" };
        assert_eq!((&log["outcome"], &log["reason"]), (&json!("ignored"), &json!(reason)));
        assert_eq!((&log["event_name"], &log["resource"]), (&json!(call), &json!(resource)));
        assert_eq!(log["caller_arn"], "arn:aws:sts::123456789012:assumed-role/Admin/admin");
        assert_eq!(log["source_ip"], "198.51.100.7");
        assert_eq!(log["event_id"], "7d5b9a3e-0000-0000-0000-000000000002");
    }
    assert!(account.calls().is_empty());
}

#[tokio::test]
async fn an_ignored_event_is_logged_and_not_counted() {
    let mut payload = telling_event();
    payload["detail"]["errorCode"] = json!("AccessDenied");
    let run = run_function(&FakeIam::default(), &[], vec![bytes(&payload)]).await;
    assert_eq!(run.answers[0].body["reason"], "failed_call");
    assert_eq!(run.logs()[0]["reason"], "failed_call");
    assert!(run.metrics().is_empty());
}

#[tokio::test]
async fn the_log_level_is_lambdas_and_metrics_do_not_depend_on_it() {
    for (level, lines) in [("DEBUG", 1), ("INFO", 1), ("WARN", 0), ("ERROR", 0), ("FATAL", 0)] {
        let account = FakeIam::default().with_console_user("alice");
        let run = run_function(&account, &[("AWS_LAMBDA_LOG_LEVEL", level)], vec![bytes(&telling_event())]).await;
        assert_eq!((run.logs().len(), run.metrics().len()), (lines, 1), "{level}: {:?}", run.stdout);
        // Lambda drops lines below the level, and takes those without level and time for INFO.
        assert_eq!(run.metrics()[0]["level"], level);
        assert!(chrono::DateTime::parse_from_rfc3339(run.metrics()[0]["timestamp"].as_str().unwrap()).is_ok());
    }
}

#[tokio::test]
async fn no_level_lets_an_event_or_a_credential_into_the_log() {
    for level in ["INFO", "DEBUG", "TRACE"] {
        for format in ["JSON", "Text"] {
            let account =
                FakeIam::default().with_console_user("alice").failing_first([Fault::Error(400, "Throttling")]);
            let variables = [("AWS_LAMBDA_LOG_LEVEL", level), ("AWS_LAMBDA_LOG_FORMAT", format), ("RUST_LOG", "trace")];
            let run = run_function(&account, &variables, vec![bytes(&telling_event()), b"{".to_vec()]).await;
            let printed = run.stdout.join("\n") + &run.stderr;
            for secret in
                ["agent-that", "ASIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", "made-up", "AWS4-HMAC", "eventVersion"]
            {
                assert!(!printed.contains(secret), "{secret} at {level}: {printed}");
            }
        }
    }
}

#[tokio::test]
async fn the_text_format_is_text_with_the_same_fields_and_metrics_stay_json() {
    let account = FakeIam::default().with_console_user("alice");
    let run = run_function(&account, &[("AWS_LAMBDA_LOG_FORMAT", "Text")], vec![bytes(&telling_event())]).await;
    assert!(run.logs().is_empty());
    assert_eq!(run.metrics().len(), 1);
    let line = run.stdout.iter().find(|line| line.contains("INFO")).unwrap();
    for part in ["outcome=\"attached\"", "user=\"alice\"", "event_name=\"CreateLoginProfile\""] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!line.contains('\u{1b}'), "no colours in a log: {line:?}");
}

#[tokio::test]
async fn any_json_reaches_the_handler_as_it_came() {
    let account = FakeIam::default().with_console_user("alice");
    // What a parsed tree would refuse or change: depth, half a surrogate, a number without an end, a field twice.
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let odd = [deep.as_str(), r#""\ud800""#, "1e999", r#"{"a":1,"a":2}"#];
    let mut payloads: Vec<Vec<u8>> = odd.iter().map(|odd| odd.as_bytes().to_vec()).collect();
    payloads.extend([b"null".to_vec(), b" \n7 ".to_vec()]);
    let unrecognised = payloads.len();
    let event = telling_event().to_string();
    payloads.extend(odd.iter().map(|odd| event.replacen('{', &format!("{{\"other\": {odd},"), 1).into_bytes()));
    payloads.push(event.replace(r#""userName":"alice""#, r#""userName":"bob","userName":"alice""#).into_bytes());
    let run = run_function(&account, &[], payloads).await;
    let (errors, answers) = run.answers.split_at(unrecognised);
    for answer in errors {
        assert_eq!(answer.body["errorType"], "unrecognised_payload", "{answer:?}");
    }
    for answer in &answers[..odd.len()] {
        assert_eq!(answer.body["outcome"], "attached", "{answer:?}");
    }
    assert_eq!(answers[odd.len()].body["errorType"], "malformed_event");
    assert_eq!(run.logs().len(), run.answers.len(), "one line each: {:?}", run.stdout);
}

/// What comes in IAM's place may be a web page, or anything else of any length.
#[tokio::test]
async fn an_answer_that_is_not_iams_is_told_on_one_line_of_bounded_length() {
    let page = "<html>\n2026-01-01T00:00:00Z  INFO outcome=\"attached\"\r\n\u{1b}[2J\u{202e}".repeat(20_000);
    for (status, error_type) in [(418, "iam_error"), (403, "access_denied")] {
        for format in ["JSON", "Text"] {
            let iam = wiremock::MockServer::start().await;
            let answer = wiremock::ResponseTemplate::new(status).set_body_string(page.as_str());
            wiremock::Mock::given(wiremock::matchers::method("POST")).respond_with(answer).mount(&iam).await;
            let run =
                run_function_at(&iam.uri(), &[("AWS_LAMBDA_LOG_FORMAT", format)], vec![bytes(&telling_event())]).await;
            assert_eq!(run.answers[0].body["errorType"], error_type);
            assert!(run.answers[0].body["errorMessage"].as_str().unwrap().len() < 2000);
            assert_eq!(run.stdout.len() - run.metrics().len(), 1, "{format}: {:?}", run.stdout);
            assert!(run.stdout.iter().all(|line| line.len() < 4000 && !line.contains(['\u{1b}', '\u{202e}'])));
        }
    }
}

#[tokio::test]
async fn a_sweep_is_answered_logged_and_counted() {
    let account = FakeIam::default().with_console_user("alice");
    let run = run_function(&account, &[], vec![br#"{"sweep": {}}"#.to_vec()]).await;
    assert_eq!(run.answers[0].body["outcome"], "swept");
    assert_eq!(run.answers[0].body["attached"], 1);
    let log = &run.logs()[0];
    assert_eq!(log["outcome"], "swept");
    let counts: Value = serde_json::from_str(log["sweep"].as_str().unwrap()).unwrap();
    assert_eq!(counts["console_users"], 1);
    let metrics = &run.metrics()[0];
    for (name, count) in [
        ("Attached", 1),
        ("ConsoleUsers", 1),
        ("ConsoleUsersWithoutMfa", 1),
        ("Uncovered", 1),
        ("ExistingUncovered", 0),
    ] {
        assert_eq!(metrics[name], count, "{name}");
    }
}

/// The text of the policy → level of the log line, and what it says.
#[tokio::test]
async fn a_broken_policy_is_told_on_the_sweeps_line_with_the_way_back() {
    for (text, level, warning) in [
        (ENFORCING.to_owned(), "INFO", &[][..]),
        ("{}".to_owned(), "WARN", &["version v2 cannot be judged"]),
        (
            ENFORCING.replace("Deny", "Allow"),
            "ERROR",
            &[
                "version v2 does not deny s3:GetObject",
                "set-default-policy-version --policy-arn arn:aws:iam::1234567890",
            ],
        ),
        (
            ENFORCING.replace("iam:EnableMFADevice", "iam:GetUser"),
            "ERROR",
            &["version v2 denies iam:EnableMFADevice", "list-policy-versions"],
        ),
    ] {
        let account = FakeIam::default().with_console_user("alice");
        account.world().policy_text.clone_from(&text);
        let run = run_function(&account, &[], vec![br#"{"sweep": {}}"#.to_vec()]).await;
        assert_eq!(run.answers[0].kind, "response", "{text}: a failed invocation would only sweep again");
        let [log] = &run.logs()[..] else { panic!("one log line, not {:?}", run.stdout) };
        assert_eq!((&log["level"], &log["outcome"]), (&json!(level), &json!("swept")), "{text}");
        let told = log["policy_warning"].as_str().unwrap_or_default();
        assert!(warning.iter().all(|part| told.contains(part)), "{told}");
        assert_eq!(told.is_empty(), warning.is_empty(), "{told}");
        let told = log["sweep"].as_str().unwrap();
        assert!(told.contains(&format!("\"policy\":{}", run.answers[0].body["policy"])), "{told}");
    }
}

#[tokio::test]
async fn bad_settings_stop_the_start_with_all_of_them_told() {
    let bad = [("FORCE_MFA_POLICY_ARN", "x"), ("FORCE_MFA_MODE", "y"), ("FORCE_MFA_EXEMPT_PATHS", "z")];
    let run = run_function(&FakeIam::default(), &bad, vec![]).await;
    assert_eq!(run.exit, Some(1));
    let [log] = &run.logs()[..] else { panic!("one log line, not {:?}", run.stdout) };
    assert_eq!(log["level"], "ERROR");
    for (variable, value) in bad {
        assert!(
            log["error_message"].as_str().unwrap().contains(&format!("{variable} is \"{value}\"; it takes")),
            "{log}"
        );
    }
}

/// A connection that breaks, as the kernel breaks it.
#[tokio::test]
async fn reset_connections_do_not_lose_the_event() {
    let account = FakeIam::default().with_console_user("alice");
    let iam = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::method("POST")).respond_with(account.clone()).mount(&iam).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let upstream = *iam.address();
    let flaky = tokio::spawn(async move {
        for connection in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if connection < 3 {
                // Closing with the request unread resets it.
                client.readable().await.unwrap();
                continue;
            }
            let mut server = TcpStream::connect(upstream).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let run = run_function_at(&address, &[], vec![bytes(&telling_event())]).await;
    flaky.abort();
    assert_eq!(run.answers[0].body["outcome"], "attached", "{:?}", run.answers);
    assert!(account.is_covered("alice"));
}
