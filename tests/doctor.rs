//! `force-mfa doctor` from the outside: the built command against the deployed template. One thing is broken at a time,
//! and exactly that check changes its state. What it makes of each reading is in the tests of `doctor/checks.rs`.

mod support {
    pub mod command;
    pub mod installation;
    pub mod proxy;
}

use std::collections::BTreeSet;

use aws_config::Region;
use aws_sdk_cloudtrail::types::{AdvancedEventSelector, AdvancedFieldSelector, EventSelector, ReadWriteType};
use aws_sdk_eventbridge::types::{DeadLetterConfig, Target};
use serde_json::{Value, json};
use support::command::{GROUP, POLICY, Told};
use support::installation::{
    DEAD_LETTERS, ENFORCING, FAILURES, FUNCTION, FUNCTION_ARN, Installation, ROLE, TOPIC, dead_letter_policy,
};

/// The checks that are not ok, each with its state, and the details of all.
fn not_ok(told: &Told) -> (BTreeSet<(String, String)>, String) {
    let json = told.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = json["checks"].as_array().unwrap();
    let not_ok = checks.iter().filter(|check| check["state"] != "ok");
    let details = checks.iter().map(|check| text(&check["detail"])).collect::<Vec<_>>().join("\n");
    (not_ok.map(|check| (text(&check["check"]), text(&check["state"]))).collect(), details)
}

impl Installation {
    #[track_caller]
    fn is_ok(&self) {
        let told = self.run(&["doctor", "--format", "json"]);
        assert_eq!(not_ok(&told).0, BTreeSet::new(), "{told:?}");
        assert_eq!(told.code, 0, "{told:?}");
    }

    /// Exactly this check has changed, to this state, and says this word.
    #[track_caller]
    fn is(&self, check: &str, state: &str, word: &str) {
        let told = self.run(&["doctor", "--format", "json"]);
        let (found, details) = not_ok(&told);
        assert_eq!(found, BTreeSet::from([(check.to_owned(), state.to_owned())]), "{told:?}");
        assert!(details.contains(word), "{word:?} is not in {told:?}");
        let code = match state {
            "warn" => 0,
            "fail" => 1,
            _ => 3,
        };
        assert_eq!(told.code, code, "{told:?}");
        // Whoever reads the table is told what to do.
        assert!(
            told.json()["checks"]
                .as_array()
                .unwrap()
                .iter()
                .all(|check| check["fix"].is_null() == (check["state"] == "ok"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_template_is_ok() {
    let installation = Installation::deploy().await;
    installation.is_ok();

    let json = installation.run(&["doctor", "--format", "json"]).json();
    assert_eq!((&json["account"], &json["region"]), (&json!("123456789012"), &json!("us-east-1")));
    assert_eq!(json["totals"], json!({ "ok": 15, "warn": 0, "fail": 0, "unknown": 0 }));
    let names: Vec<&str> =
        json["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    let contract = [
        "region",
        "stack",
        "policy",
        "policy_text",
        "overflow_group",
        "function",
        "function_settings",
        "failure_destination",
        "rules",
        "permissions",
        "trail",
        "queues",
        "alarms",
        "alarm_receivers",
        "last_sweep",
    ];
    assert_eq!(names, contract);

    let table = installation.run(&["doctor"]);
    assert_eq!(table.code, 0);
    assert_eq!(table.out.lines().filter(|line| line.starts_with("ok ")).count(), 15, "{}", table.out);
    assert!(
        table.out.ends_with("Account 123456789012, us-east-1: 15 ok, 0 warn, 0 fail, 0 unknown\n"),
        "{}",
        table.out
    );
    assert!(!table.out.contains('\x1b') && table.err.is_empty(), "{table:?}");

    // Elsewhere configured, the home region is read all the same.
    let elsewhere = installation.run(&["doctor", "--format", "json", "--region", "eu-west-1"]);
    assert_eq!((not_ok(&elsewhere).0, elsewhere.code), (BTreeSet::new(), 0), "{elsewhere:?}");
    let config = installation.config.to_builder().region(Region::from_static("eu-west-1")).build();
    let template = r#"{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}"#;
    let call = aws_sdk_cloudformation::Client::new(&config).create_stack().stack_name("force-mfa");
    call.template_body(template).send().await.unwrap();
    let elsewhere = installation.run(&["doctor", "--format", "json", "--region", "eu-west-1"]);
    assert_eq!(not_ok(&elsewhere).0, BTreeSet::from([("region".into(), "fail".into())]), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_policy_group_or_function_is_found() {
    let installation = Installation::deploy().await;
    let (iam, lambda) = (installation.iam(), installation.lambda());

    let version =
        iam.create_policy_version().policy_arn(POLICY).policy_document(ENFORCING.replace("Deny\"", "Allow\""));
    version.set_as_default(true).send().await.unwrap();
    installation.is("policy_text", "fail", "MFA is not enforced");
    iam.set_default_policy_version().policy_arn(POLICY).version_id("v2").send().await.unwrap();

    iam.detach_group_policy().group_name(GROUP).policy_arn(POLICY).send().await.unwrap();
    installation.is("overflow_group", "fail", "its members are uncovered");
    iam.attach_group_policy().group_name(GROUP).policy_arn(POLICY).send().await.unwrap();

    let call = lambda.put_function_concurrency().function_name(FUNCTION);
    call.reserved_concurrent_executions(0).send().await.unwrap();
    installation.is("function", "fail", "it never runs");
    lambda.delete_function_concurrency().function_name(FUNCTION).send().await.unwrap();

    let function = lambda.get_function_configuration().function_name(FUNCTION).send().await.unwrap();
    let variables = function.environment.unwrap().variables.unwrap();
    let set = async |variable: &str, value: &str| {
        let mut changed = variables.clone();
        changed.insert(variable.to_owned(), value.to_owned());
        let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(changed)).build();
        let call = lambda.update_function_configuration().function_name(FUNCTION).environment(environment);
        call.send().await.unwrap();
    };
    set("FORCE_MFA_EXEMPT_USERS", "*").await;
    installation.is("function_settings", "fail", "everyone is exempt");
    set("FORCE_MFA_EXEMPT_USERS", "").await;

    lambda.delete_function_event_invoke_config().function_name(FUNCTION).send().await.unwrap();
    installation.is("failure_destination", "fail", "no OnFailure destination");
    installation.set_on_failure("arn:aws:sqs:us-east-1:123456789012:of-somebody-else").await;
    installation.is("failure_destination", "fail", "no queue of the stack");
    // moto keeps the first configuration.
    lambda.delete_function_event_invoke_config().function_name(FUNCTION).send().await.unwrap();
    installation.set_on_failure("arn:aws:sqs:us-east-1:123456789012:force-mfa-failures").await;
    let policy = |effect: &str| {
        let statement = json!({ "Effect": effect, "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*" });
        json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
    };
    installation.set_queue_policy(FAILURES, &policy("Deny")).await;
    installation.is("failure_destination", "fail", "denies sqs:SendMessage");
    installation.set_queue_policy(FAILURES, &policy("Allow")).await;

    let statements = lambda.get_policy().function_name(FUNCTION).send().await.unwrap().policy.unwrap();
    let statements: Value = serde_json::from_str(&statements).unwrap();
    let mut of_sweep = statements["Statement"].as_array().unwrap().iter();
    let of_sweep = of_sweep.rfind(|statement| statement.to_string().contains("rule/force-mfa-sweep")).unwrap();
    let sid = of_sweep["Sid"].as_str().unwrap();
    lambda.remove_permission().function_name(FUNCTION).statement_id(sid).send().await.unwrap();
    installation.is("permissions", "fail", "the rule force-mfa-sweep may not invoke");
    let call = lambda.add_permission().function_name(FUNCTION).statement_id("again").action("lambda:InvokeFunction");
    let call = call.principal("events.amazonaws.com");
    call.source_arn("arn:aws:events:us-east-1:123456789012:rule/force-mfa-sweep").send().await.unwrap();

    installation.stubs.lock().unwrap().refused = Some("iam:AttachUserPolicy");
    installation.is("permissions", "fail", "may not call iam:AttachUserPolicy");
    installation.stubs.lock().unwrap().refused = None;

    let more = iam.create_policy().policy_name("more").policy_document(ENFORCING).send().await.unwrap();
    let more = more.policy.unwrap().arn.unwrap();
    iam.attach_role_policy().role_name(ROLE).policy_arn(&more).send().await.unwrap();
    installation.is("permissions", "warn", "more than the stack's policy: more");
    iam.detach_role_policy().role_name(ROLE).policy_arn(&more).send().await.unwrap();

    installation.is_ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_rule_or_trail_is_found() {
    let installation = Installation::deploy().await;
    let rules = aws_sdk_eventbridge::Client::new(&installation.config);
    let trails = aws_sdk_cloudtrail::Client::new(&installation.config);
    let name = "force-mfa-console-users";

    rules.disable_rule().name(name).send().await.unwrap();
    installation.is("rules", "fail", "DISABLED");
    rules.enable_rule().name(name).send().await.unwrap();

    let target = |dead_letters: bool| {
        let queue = DeadLetterConfig::builder().arn("arn:aws:sqs:us-east-1:123456789012:force-mfa-rule-dead-letters");
        let target = Target::builder().id("function").arn(FUNCTION_ARN);
        target.set_dead_letter_config(dead_letters.then(|| queue.build())).build().unwrap()
    };
    rules.remove_targets().rule(name).ids("function").send().await.unwrap();
    installation.is("rules", "fail", "does not have the function as a target");
    rules.put_targets().rule(name).targets(target(false)).send().await.unwrap();
    installation.is("rules", "fail", "no dead-letter queue");
    rules.put_targets().rule(name).targets(target(true)).send().await.unwrap();

    let nobody = r#"{"Version": "2012-10-17", "Statement": []}"#;
    installation.set_queue_policy(DEAD_LETTERS, nobody).await;
    installation.is("rules", "fail", "does not let the rule");
    installation.set_queue_policy(DEAD_LETTERS, &dead_letter_policy()).await;

    installation.stubs.lock().unwrap().no_pattern_matches = true;
    installation.is("rules", "fail", "no rule takes a CreateLoginProfile event");
    installation.stubs.lock().unwrap().no_pattern_matches = false;

    trails.stop_logging().name("trail").send().await.unwrap();
    installation.is("trail", "fail", "trail is stopped");
    trails.start_logging().name("trail").send().await.unwrap();

    let select = async |what: ReadWriteType| {
        let selector = EventSelector::builder().read_write_type(what).include_management_events(true).build();
        trails.put_event_selectors().trail_name("trail").event_selectors(selector).send().await.unwrap();
    };
    select(ReadWriteType::ReadOnly).await;
    installation.is("trail", "fail", "no management write events");
    select(ReadWriteType::WriteOnly).await;
    installation.is_ok();

    let select = async |fields: &[(&str, &str)]| {
        let field = |(field, value): &(&str, &str)| {
            AdvancedFieldSelector::builder().field(*field).equals(*value).build().unwrap()
        };
        let fields = fields.iter().map(field).collect();
        let selector = AdvancedEventSelector::builder().set_field_selectors(Some(fields)).build().unwrap();
        trails.put_event_selectors().trail_name("trail").advanced_event_selectors(selector).send().await.unwrap();
    };
    select(&[("eventCategory", "Data"), ("resources.type", "AWS::S3::Object")]).await;
    installation.is("trail", "fail", "no management write events");
    select(&[("eventCategory", "Management"), ("readOnly", "true")]).await;
    installation.is("trail", "fail", "no management write events");
    select(&[("eventCategory", "Management"), ("eventName", "CreateUser")]).await;
    installation.is("trail", "fail", "filters management events");
    select(&[("eventCategory", "Management"), ("readOnly", "false")]).await;
    installation.is_ok();

    trails.delete_trail().name("trail").send().await.unwrap();
    installation.is("trail", "fail", "there is no trail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_message_or_a_silent_alarm_is_found() {
    let installation = Installation::deploy().await;
    let topics = aws_sdk_sns::Client::new(&installation.config);
    let alarm = "force-mfa-no-sweep";
    let alarms = |action: &str| installation.cloudwatch(action, json!({ "AlarmNames": [alarm] }));

    installation.account.send(FAILURES, "{}");
    installation.is("queues", "warn", "1 message in force-mfa-failures");
    installation.put_metric("AWS/SQS", "ApproximateAgeOfOldestMessage", ("QueueName", "force-mfa-failures"), 200_000.0);
    installation.is("queues", "fail", "the oldest 2 days old");
    aws_sdk_sqs::Client::new(&installation.config).purge_queue().queue_url(FAILURES).send().await.unwrap();

    alarms("DisableAlarmActions");
    installation.is("alarms", "fail", "the actions of force-mfa-no-sweep are off");
    alarms("EnableAlarmActions");
    let state = json!({ "AlarmName": alarm, "StateValue": "ALARM", "StateReason": "no sweep for a day" });
    installation.cloudwatch("SetAlarmState", state);
    installation.is("alarms", "warn", "no sweep for a day");
    alarms("DeleteAlarms");
    installation.is("alarms", "fail", "the alarm force-mfa-no-sweep does not exist");
    installation.put_alarm(alarm, &[TOPIC]);
    for (muted, word) in [(alarm, "mutes force-mfa-no-sweep"), ("", "mutes every alarm of the account")] {
        installation.stubs.lock().unwrap().muted = Some(muted);
        installation.is("alarms", "fail", word);
    }
    installation.stubs.lock().unwrap().muted = Some("of-somebody-else");
    installation.is_ok();

    installation.put_alarm(alarm, &[]);
    installation.is("alarm_receivers", "fail", "notify nobody: force-mfa-no-sweep");
    installation.put_alarm(alarm, &["arn:aws:sns:us-east-1:210987654321:security"]);
    installation.is_ok();
    installation.put_alarm(alarm, &[TOPIC]);
    let subscriptions = topics.list_subscriptions_by_topic().topic_arn(TOPIC).send().await.unwrap();
    let arn = subscriptions.subscriptions()[0].subscription_arn().unwrap();
    topics.unsubscribe().subscription_arn(arn).send().await.unwrap();
    installation.is("alarm_receivers", "fail", "has no subscription");
    let call = topics.subscribe().topic_arn(TOPIC).protocol("email").endpoint("security@example.com");
    call.send().await.unwrap();

    installation.stubs.lock().unwrap().no_sweep = true;
    installation.is("last_sweep", "warn", "the stack is not an hour old");
    installation.stubs.lock().unwrap().no_sweep = false;
    installation.is_ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_unknown_with_its_action() {
    let installation = Installation::deploy().await;
    installation.is_ok();
    let called: Vec<String> = installation.called.lock().unwrap().iter().cloned().collect();
    assert!(called.len() > 20, "{called:?}");
    let auditor = std::fs::read_to_string("infra/auditor.yaml").unwrap();
    let guide = std::fs::read_to_string("docs/command.md").unwrap();
    for action in called.iter().filter(|action| *action != "sts:GetCallerIdentity") {
        let is_word = |line: &str| line.split([' ', '"']).any(|word| word == action);
        assert!(auditor.lines().any(is_word), "infra/auditor.yaml lacks {action}");
        assert!(guide.lines().any(is_word), "docs/command.md lacks {action}");
    }
    for action in called {
        installation.stubs.lock().unwrap().denied = Some(action.clone());
        let told = installation.run(&["doctor", "--format", "json"]);
        assert_eq!(told.code, 3, "{action}: {told:?}");
        if action == "sts:GetCallerIdentity" {
            continue;
        }
        let (found, details) = not_ok(&told);
        assert!(!found.is_empty() && found.iter().all(|(_, state)| state == "unknown"), "{action}: {found:?}");
        assert!(details.contains(&action), "{action}: {details}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stack_it_goes_on_and_fails() {
    let installation = Installation::deploy().await;
    let told = installation.run(&["doctor", "--format", "json", "--stack", "other"]);
    assert_eq!(told.code, 1, "{told:?}");
    let (_, details) = not_ok(&told);
    assert!(details.contains("no stack other in us-east-1"), "{details}");
    assert_eq!(told.json()["checks"].as_array().unwrap().len(), 15);
    installation.run(&["doctor", "--mode", "report"]).ends(2, "--mode");
    installation.run(&["doctor", "--mode", "report"]).ends(2, "--mode");
    installation.run(&["doctor", "--yes"]).ends(2, "--canary");
}
