//! One thing broken at a time: exactly that check changes its state.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::commands::doctor::inventory::{
    Alarm, Answer, Function, Inventory, Mute, Policy, Queue, Refused, RefusedBy, Resource, Role, Rule, Selectors,
    Stack, Target, Topic, Trail, Unread,
};

const RELEASE: &str = "1.2.3";
const ACCOUNT: &str = "123456789012";
const POLICY: &str = "arn:aws:iam::123456789012:policy/force-mfa";
const FUNCTION: &str = "arn:aws:lambda:us-east-1:123456789012:function:force-mfa";
const FAILURES: &str = "arn:aws:sqs:us-east-1:123456789012:force-mfa-failures";
const DEAD_LETTERS: &str = "arn:aws:sqs:us-east-1:123456789012:force-mfa-rule-dead-letters";
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:force-mfa-alarms";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn rule(name: &str, pattern: bool) -> (String, Answer<Option<Rule>>) {
    let rule = Rule {
        arn: format!("arn:aws:events:us-east-1:{ACCOUNT}:rule/{name}"),
        state: "ENABLED".into(),
        pattern: pattern.then(|| "{}".into()),
        schedule: (!pattern).then(|| "rate(6 hours)".into()),
        takes_a_password: Ok(pattern.then_some(true)),
        targets: Ok(vec![Target {
            arn: FUNCTION.into(),
            dead_letters: Some(DEAD_LETTERS.into()),
            input_replaced: false,
        }]),
    };
    (name.into(), Ok(Some(rule)))
}

fn queue(arn: &str, policy: &str) -> (String, Answer<Option<Queue>>) {
    let name = arn.rsplit(':').next().unwrap();
    let queue = Queue { arn: arn.into(), policy: Some(policy.into()), messages: 0, oldest_s: Ok(None) };
    (format!("https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{name}"), Ok(Some(queue)))
}

fn trail() -> Trail {
    Trail {
        name: "all".into(),
        owner: ACCOUNT.into(),
        global_events: true,
        multi_region: true,
        home: "eu-west-1".into(),
        of_organization: false,
        logging: Ok(true),
        selectors: Ok(Selectors::IamWrites),
    }
}

fn alarm(name: &str) -> Alarm {
    Alarm {
        name: name.into(),
        state: "OK".into(),
        reason: "quiet".into(),
        actions_enabled: true,
        actions: vec![TOPIC.into()],
    }
}

/// An installation in which all is well.
fn healthy() -> Inventory {
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let settings = [
        ("FORCE_MFA_POLICY_ARN", POLICY),
        ("FORCE_MFA_MODE", "enforce"),
        ("FORCE_MFA_EXEMPT_USERS", "break-glass-*"),
        ("FORCE_MFA_OVERFLOW_GROUP", "force-mfa-overflow"),
    ];
    let resource = |kind: &str, physical: &str| Resource { kind: kind.into(), physical: physical.into() };
    let allow_rules = format!(
        r#"{{"Statement": [{{"Effect": "Allow", "Principal": {{"Service": "events.amazonaws.com"}}, "Action": "sqs:SendMessage",
            "Condition": {{"ArnLike": {{"aws:SourceArn": "arn:aws:events:us-east-1:{ACCOUNT}:rule/force-mfa-*"}}}}}}]}}"#
    );
    Inventory {
        now: now(),
        account: ACCOUNT.into(),
        region: "us-east-1".into(),
        home: "us-east-1".into(),
        stack_name: "force-mfa".into(),
        stack: Ok(Some(Stack {
            status: "CREATE_COMPLETE".into(),
            reason: None,
            created: Some(now() - TimeDelta::days(30)),
            parameters: text(&[("Architecture", "arm64")]),
            outputs: text(&[("Release", RELEASE)]),
            settings: text(&settings),
        })),
        stack_in_region: Ok(None),
        resources: Ok(vec![
            resource("AWS::IAM::Role", "force-mfa-function"),
            resource("AWS::Lambda::Function", "force-mfa"),
        ]),
        policy_arn: POLICY.into(),
        policy: Ok(Some(Policy { attachable: true, default_version: "v1".into() })),
        policy_document: Ok(Some(enforcing_document())),
        group_name: "force-mfa-overflow".into(),
        group_policies: Ok(Some(vec![POLICY.into()])),
        function: Ok(Some(Function {
            name: "force-mfa".into(),
            arn: FUNCTION.into(),
            state: "Active".into(),
            state_reason: None,
            last_update: "Successful".into(),
            last_update_reason: None,
            runtime: "provided.al2023".into(),
            architecture: "arm64".into(),
            role: format!("arn:aws:iam::{ACCOUNT}:role/force-mfa-function"),
            variables: text(&settings),
        })),
        concurrency: Ok(None),
        on_failure: Ok(Some(FAILURES.into())),
        function_policy: Ok(Some(allow_rules.replace("sqs:SendMessage", "lambda:InvokeFunction"))),
        role: Ok(Some(Role { attached: vec![], inline: vec!["force-mfa".into()] })),
        refused: Ok(vec![]),
        rules: vec![rule("force-mfa-console-users", true), rule("force-mfa-sweep", false)],
        queues: vec![queue(FAILURES, r#"{"Statement": []}"#), queue(DEAD_LETTERS, &allow_rules)],
        trails: Ok(vec![trail()]),
        alarms: Ok(vec![alarm("force-mfa-no-sweep"), alarm("force-mfa-changed")]),
        missing_alarms: vec![],
        mutes: Ok(vec![]),
        topics: vec![(TOPIC.into(), Ok(Some(Topic { confirmed: 1, pending: 0 })))],
        last_sweep: Ok(Some(now() - TimeDelta::hours(5))),
    }
}

/// The policy as the template makes it, which `policy_text.rs` finds enforcing.
fn enforcing_document() -> String {
    include_str!("enforcing.json").to_owned()
}

fn denied(action: &str) -> Unread {
    Unread { action: action.into(), answer: "no".into(), denied: true }
}

// What a row breaks.
fn function(inventory: &mut Inventory) -> &mut Function {
    inventory.function.as_mut().unwrap().as_mut().unwrap()
}

fn stack(inventory: &mut Inventory) -> &mut Stack {
    inventory.stack.as_mut().unwrap().as_mut().unwrap()
}

fn first_rule(inventory: &mut Inventory) -> &mut Rule {
    inventory.rules[0].1.as_mut().unwrap().as_mut().unwrap()
}

fn first_target(inventory: &mut Inventory) -> &mut Target {
    &mut first_rule(inventory).targets.as_mut().unwrap()[0]
}

fn queue_at(inventory: &mut Inventory, at: usize) -> &mut Queue {
    inventory.queues[at].1.as_mut().unwrap().as_mut().unwrap()
}

fn first_trail(inventory: &mut Inventory) -> &mut Trail {
    &mut inventory.trails.as_mut().unwrap()[0]
}

fn first_alarm(inventory: &mut Inventory) -> &mut Alarm {
    &mut inventory.alarms.as_mut().unwrap()[0]
}

#[test]
fn a_healthy_installation_is_ok_without_a_fix() {
    for check in judge(&healthy(), RELEASE) {
        assert_eq!((check.state, &check.fix), (State::Ok, &None), "{check:?}");
        assert!(!check.detail.is_empty(), "{check:?}");
    }
}

/// A row: the check, its state, a word of its detail, and what is broken.
type Row = (&'static str, State, &'static str, fn(&mut Inventory));

#[test]
#[expect(clippy::too_many_lines, reason = "one line a row")]
fn one_broken_thing_changes_one_check() {
    use State::{Fail, Ok as Fine, Unknown, Warn};
    let rows: Vec<Row> = vec![
        ("region", Fail, "eu-west-1", |i| {
            i.region = "eu-west-1".into();
            i.stack_in_region = Ok(Some("CREATE_COMPLETE".into()));
        }),
        ("region", Fine, "eu-west-1", |i| i.region = "eu-west-1".into()),
        ("region", Unknown, "cloudformation:DescribeStacks", |i| {
            i.stack_in_region = Err(denied("cloudformation:DescribeStacks"));
        }),
        ("stack", Fail, "UPDATE_FAILED (quota)", |i| {
            stack(i).status = "UPDATE_FAILED".into();
            stack(i).reason = Some("quota".into());
        }),
        ("stack", Fail, "at work", |i| stack(i).status = "UPDATE_IN_PROGRESS".into()),
        ("stack", Warn, "rolled back", |i| stack(i).status = "UPDATE_ROLLBACK_COMPLETE".into()),
        ("stack", Fine, "CLEANUP", |i| stack(i).status = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS".into()),
        ("stack", Warn, "its release is 1.2.2", |i| {
            stack(i).outputs.insert("Release".into(), "1.2.2".into());
        }),
        ("stack", Warn, "does not say", |i| {
            stack(i).outputs.clear();
        }),
        ("policy", Fail, "IsAttachable", |i| {
            i.policy = Ok(Some(Policy { attachable: false, default_version: "v1".into() }));
        }),
        ("policy", Unknown, "iam:GetPolicy", |i| i.policy = Err(denied("iam:GetPolicy"))),
        ("policy_text", Fail, "no longer denies", |i| {
            i.policy_document = Ok(Some(r#"{"Version": "2012-10-17", "Statement": []}"#.into()));
        }),
        ("policy_text", Fail, "locked out", |i| {
            let deny = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}"#;
            i.policy_document = Ok(Some(deny.into()));
        }),
        ("policy_text", Warn, "cannot be judged", |i| i.policy_document = Ok(Some("{".into()))),
        ("policy_text", Unknown, "iam:GetPolicyVersion", |i| i.policy_document = Err(denied("iam:GetPolicyVersion"))),
        ("overflow_group", Fail, "does not exist", |i| i.group_policies = Ok(None)),
        ("overflow_group", Fail, "does not have the policy", |i| i.group_policies = Ok(Some(vec![]))),
        ("overflow_group", Unknown, "iam:ListAttachedGroupPolicies", |i| {
            i.group_policies = Err(denied("iam:ListAttachedGroupPolicies"));
        }),
        ("function", Fail, "Failed (no image)", |i| {
            function(i).state = "Failed".into();
            function(i).state_reason = Some("no image".into());
        }),
        ("function", Fail, "last update failed", |i| function(i).last_update = "Failed".into()),
        ("function", Warn, "being updated", |i| function(i).last_update = "InProgress".into()),
        ("function", Fail, "provided.al2", |i| function(i).runtime = "provided.al2".into()),
        ("function", Fail, "x86_64", |i| function(i).architecture = "x86_64".into()),
        ("function", Fail, "never runs", |i| i.concurrency = Ok(Some(0))),
        ("function", Fine, "active", |i| i.concurrency = Ok(Some(1))),
        ("function", Unknown, "lambda:GetFunctionConcurrency", |i| {
            i.concurrency = Err(denied("lambda:GetFunctionConcurrency"));
        }),
        ("function_settings", Fail, "FORCE_MFA_EXEMPT_USERS", |i| {
            function(i).variables.insert("FORCE_MFA_EXEMPT_USERS".into(), "b*".into());
        }),
        ("function_settings", Warn, "report mode", |i| {
            function(i).variables.insert("FORCE_MFA_MODE".into(), "report".into());
            stack(i).settings.insert("FORCE_MFA_MODE".into(), "report".into());
        }),
        ("function_settings", Fail, "everyone is exempt", |i| {
            function(i).variables.insert("FORCE_MFA_EXEMPT_USERS".into(), "a, **".into());
            stack(i).settings.insert("FORCE_MFA_EXEMPT_USERS".into(), "a, **".into());
        }),
        ("function_settings", Fail, "everyone is exempt", |i| {
            function(i).variables.insert("FORCE_MFA_EXEMPT_PATHS".into(), "/".into());
        }),
        ("function_settings", Fail, "cannot start", |i| {
            function(i).variables.insert("FORCE_MFA_SCOPE".into(), "nobody".into());
        }),
        ("failure_destination", Fail, "no OnFailure destination", |i| i.on_failure = Ok(None)),
        ("failure_destination", Fail, "no queue of the stack", |i| {
            i.on_failure = Ok(Some("arn:aws:sqs:us-east-1:123456789012:other".into()));
        }),
        ("failure_destination", Fail, "denies sqs:SendMessage", |i| {
            queue_at(i, 0).policy = Some(r#"{"Statement": {"Effect": "Deny", "Action": "sqs:*"}}"#.into());
        }),
        ("failure_destination", Unknown, "lambda:GetFunctionEventInvokeConfig", |i| {
            i.on_failure = Err(denied("lambda:GetFunctionEventInvokeConfig"));
        }),
        ("rules", Fail, "force-mfa-console-users does not exist", |i| i.rules[0].1 = Ok(None)),
        ("rules", Fail, "DISABLED", |i| first_rule(i).state = "DISABLED".into()),
        ("rules", Fail, "does not have the function", |i| first_rule(i).targets = Ok(vec![])),
        ("rules", Fail, "no dead-letter queue", |i| first_target(i).dead_letters = None),
        ("rules", Fail, "no queue of the stack", |i| first_target(i).dead_letters = Some("arn:other".into())),
        ("rules", Fail, "does not let the rule", |i| queue_at(i, 1).policy = None),
        ("rules", Fail, "something else than the event", |i| first_target(i).input_replaced = true),
        ("rules", Fail, "no rule takes a CreateLoginProfile", |i| first_rule(i).takes_a_password = Ok(Some(false))),
        ("rules", Fail, "no rule has a schedule", |i| {
            i.rules.pop();
        }),
        ("rules", Unknown, "events:TestEventPattern", |i| {
            first_rule(i).takes_a_password = Err(denied("events:TestEventPattern"));
        }),
        ("rules", Unknown, "events:ListTargetsByRule", |i| {
            first_rule(i).targets = Err(denied("events:ListTargetsByRule"));
        }),
        ("permissions", Fail, "may not invoke", |i| i.function_policy = Ok(None)),
        ("permissions", Fail, "iam:AttachUserPolicy", |i| {
            let (action, resource) = ("iam:AttachUserPolicy".into(), "arn:aws:iam::123456789012:user/x".into());
            i.refused = Ok(vec![Refused { action, resource, by: RefusedBy::Boundary }]);
        }),
        ("permissions", Warn, "iam:GetUser on *, says IAM's simulation", |i| {
            let (action, resource) = ("iam:GetUser".into(), "*".into());
            i.refused = Ok(vec![Refused { action, resource, by: RefusedBy::Scp }]);
        }),
        ("permissions", Fail, "not the stack's", |i| function(i).role = format!("arn:aws:iam::{ACCOUNT}:role/admin")),
        ("permissions", Warn, "AdministratorAccess", |i| {
            i.role = Ok(Some(Role { attached: vec!["AdministratorAccess".into()], inline: vec!["force-mfa".into()] }));
        }),
        ("permissions", Warn, "more", |i| {
            i.role = Ok(Some(Role { attached: vec![], inline: vec!["force-mfa".into(), "more".into()] }));
        }),
        ("permissions", Unknown, "iam:SimulatePrincipalPolicy", |i| {
            i.refused = Err(denied("iam:SimulatePrincipalPolicy"));
        }),
        ("trail", Fail, "there is no trail", |i| i.trails = Ok(vec![])),
        ("trail", Fail, "is stopped", |i| first_trail(i).logging = Ok(false)),
        ("trail", Fail, "no management write events", |i| first_trail(i).selectors = Ok(Selectors::NoIamWrites)),
        ("trail", Fail, "filters", |i| first_trail(i).selectors = Ok(Selectors::Filtered)),
        ("trail", Fail, "global services", |i| first_trail(i).global_events = false),
        ("trail", Fail, "another region", |i| first_trail(i).multi_region = false),
        ("trail", Fine, "all", |i| {
            first_trail(i).multi_region = false;
            first_trail(i).home = "us-east-1".into();
        }),
        ("trail", Fine, "cannot be seen from a member account", |i| {
            let of_organization = first_trail(i);
            of_organization.of_organization = true;
            of_organization.owner = "210987654321".into();
            of_organization.selectors = Err(denied("cloudtrail:GetEventSelectors"));
        }),
        ("trail", Unknown, "cloudtrail:GetEventSelectors", |i| {
            first_trail(i).selectors = Err(denied("cloudtrail:GetEventSelectors"));
        }),
        ("trail", Fine, "all", |i| {
            let mut other = trail();
            other.name = "other".into();
            other.logging = Err(denied("cloudtrail:GetTrailStatus"));
            i.trails.as_mut().unwrap().push(other);
        }),
        ("queues", Warn, "1 message in force-mfa-failures", |i| queue_at(i, 0).messages = 1),
        ("queues", Warn, "the oldest 60 min old", |i| {
            queue_at(i, 0).messages = 2;
            queue_at(i, 0).oldest_s = Ok(Some(3600));
        }),
        ("queues", Fail, "the oldest 2 days old", |i| {
            queue_at(i, 1).messages = 2;
            queue_at(i, 1).oldest_s = Ok(Some(200_000));
        }),
        ("alarms", Fail, "force-mfa-changed does not exist", |i| {
            i.alarms.as_mut().unwrap().pop();
            i.missing_alarms = vec!["force-mfa-changed".into()];
        }),
        ("alarms", Fail, "are off", |i| first_alarm(i).actions_enabled = false),
        ("alarms", Warn, "is in ALARM: late", |i| {
            first_alarm(i).state = "ALARM".into();
            first_alarm(i).reason = "late".into();
        }),
        ("alarms", Fail, "quiet mutes force-mfa-changed", |i| {
            i.mutes = Ok(vec![Mute { name: "quiet".into(), active: true, alarms: vec!["force-mfa-changed".into()] }]);
        }),
        ("alarms", Fail, "every alarm of the account", |i| {
            i.mutes = Ok(vec![Mute { name: "quiet".into(), active: true, alarms: vec![] }]);
        }),
        ("alarms", Warn, "will mute", |i| {
            i.mutes = Ok(vec![Mute { name: "quiet".into(), active: false, alarms: vec![] }]);
        }),
        ("alarms", Fine, "none in ALARM", |i| {
            i.mutes = Ok(vec![Mute { name: "quiet".into(), active: true, alarms: vec!["other".into()] }]);
        }),
        ("alarms", Unknown, "cloudwatch:ListAlarmMuteRules", |i| {
            i.mutes = Err(denied("cloudwatch:ListAlarmMuteRules"));
        }),
        ("alarm_receivers", Fail, "no alarm notifies", |i| {
            for alarm in i.alarms.as_mut().unwrap() {
                alarm.actions.clear();
            }
        }),
        ("alarm_receivers", Fail, "notify nobody: force-mfa-no-sweep", |i| first_alarm(i).actions.clear()),
        ("alarm_receivers", Fail, "no confirmed subscription", |i| {
            i.topics[0].1 = Ok(Some(Topic { confirmed: 0, pending: 1 }));
        }),
        ("alarm_receivers", Fail, "has no subscription", |i| {
            i.topics[0].1 = Ok(Some(Topic { confirmed: 0, pending: 0 }));
        }),
        ("alarm_receivers", Fail, "does not exist", |i| i.topics[0].1 = Ok(None)),
        ("alarm_receivers", Fine, "another account's", |i| {
            first_alarm(i).actions = vec!["arn:aws:sns:us-east-1:210987654321:security".into()];
        }),
        ("alarm_receivers", Unknown, "sns:ListSubscriptionsByTopic", |i| {
            i.topics[0].1 = Err(denied("sns:ListSubscriptionsByTopic"));
        }),
        ("last_sweep", Fail, "due every 6 h", |i| i.last_sweep = Ok(Some(now() - TimeDelta::minutes(13 * 60 + 1)))),
        ("last_sweep", Fine, "due every 6 h", |i| i.last_sweep = Ok(Some(now() - TimeDelta::hours(13)))),
        ("last_sweep", Fail, "no sweep finished", |i| i.last_sweep = Ok(None)),
        ("last_sweep", Warn, "not an hour old", |i| {
            i.last_sweep = Ok(None);
            stack(i).created = Some(now() - TimeDelta::minutes(59));
        }),
        ("last_sweep", Unknown, "cloudwatch:GetMetricData", |i| i.last_sweep = Err(denied("cloudwatch:GetMetricData"))),
    ];
    for (name, state, word, break_it) in rows {
        let mut inventory = healthy();
        break_it(&mut inventory);
        for check in judge(&inventory, RELEASE) {
            if check.name.as_str() == name {
                assert_eq!(check.state, state, "{check:?}");
                assert!(check.detail.contains(word), "{word:?} is not in {check:?}");
                assert_eq!(check.fix.is_some(), state != State::Ok, "{check:?}");
            } else {
                assert_eq!(check.state, State::Ok, "{word:?} is the business of {name}: {check:?}");
            }
        }
    }
}

#[test]
fn without_a_stack_only_its_parts_fail() {
    let mut inventory = healthy();
    inventory.stack = Ok(None);
    inventory.resources = Ok(vec![]);
    inventory.function = Ok(None);
    inventory.on_failure = Ok(None);
    inventory.role = Ok(None);
    inventory.rules.clear();
    inventory.queues.clear();
    inventory.alarms = Ok(vec![]);
    inventory.last_sweep = Ok(None);
    let ok: Vec<&str> = judge(&inventory, RELEASE)
        .into_iter()
        .filter(|check| check.state == State::Ok)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(ok, ["region", "policy", "policy_text", "overflow_group", "trail"]);
}

#[test]
fn a_list_of_resources_that_cannot_be_read_fails_nothing() {
    let mut inventory = healthy();
    let unread = denied("cloudformation:ListStackResources");
    inventory.resources = Err(unread.clone());
    inventory.function = Err(unread.clone());
    inventory.concurrency = Err(unread.clone());
    inventory.on_failure = Err(unread.clone());
    inventory.function_policy = Err(unread.clone());
    inventory.role = Err(unread.clone());
    inventory.refused = Err(unread.clone());
    inventory.alarms = Err(unread.clone());
    inventory.last_sweep = Err(unread);
    inventory.rules.clear();
    inventory.queues.clear();
    for check in judge(&inventory, RELEASE) {
        assert!(matches!(check.state, State::Ok | State::Unknown), "{check:?}");
    }
}

#[test]
fn an_older_release_is_told_to_update_first() {
    let mut inventory = healthy();
    stack(&mut inventory).outputs.clear();
    inventory.last_sweep = Ok(None);
    let (action, resource) = ("iam:GetPolicyVersion".into(), POLICY.into());
    inventory.refused = Ok(vec![Refused { action, resource, by: RefusedBy::NoPolicy }]);
    let states: Vec<(&str, State)> = judge(&inventory, RELEASE)
        .into_iter()
        .filter(|check| check.state != State::Ok)
        .map(|check| {
            assert!(check.fix.unwrap().contains("1.2.3"));
            (check.name.as_str(), check.state)
        })
        .collect();
    assert_eq!(states, [("stack", State::Warn), ("permissions", State::Unknown), ("last_sweep", State::Unknown)]);
}

#[test]
fn the_gravest_finding_is_fixed_first() {
    let mut inventory = healthy();
    first_alarm(&mut inventory).state = "ALARM".into();
    inventory.missing_alarms = vec!["force-mfa-broken".into()];
    let alarms = judge(&inventory, RELEASE).into_iter().find(|check| check.name == CheckName::Alarms).unwrap();
    assert_eq!(alarms.state, State::Fail);
    assert!(alarms.detail.contains("force-mfa-broken") && alarms.detail.contains("ALARM"), "{alarms:?}");
    assert!(alarms.fix.unwrap().contains("REVERT_DRIFT"));
}

#[test]
fn a_fix_by_this_program_names_the_stack() {
    let mut inventory = healthy();
    for (_, queue) in &mut inventory.queues {
        queue.as_mut().unwrap().as_mut().unwrap().messages = 1;
    }
    let (action, resource) = ("iam:GetPolicyVersion".into(), POLICY.into());
    inventory.refused = Ok(vec![Refused { action, resource, by: RefusedBy::Scp }]);
    for (name, end) in [("force-mfa", ""), ("StackSet-acme-mfa-0123", " --stack StackSet-acme-mfa-0123")] {
        inventory.stack_name = name.into();
        let checks = judge(&inventory, RELEASE);
        let fix = |name| checks.iter().find(|check| check.name == name).unwrap().fix.clone().unwrap();
        let redrive = fix(CheckName::Queues);
        assert!(redrive.starts_with("force-mfa redrive") && redrive.ends_with(&format!("failures{end}")), "{redrive}");
        let canary = fix(CheckName::Permissions);
        assert!(canary.starts_with(&format!("force-mfa doctor --canary{end}, which")), "{canary}");
    }
}
