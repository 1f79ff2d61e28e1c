//! Which settings the operator's command works with, in which account, and when it refuses to work: the built command
//! against an emulated account.

mod support {
    pub mod command;
}

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use force_mfa::exemption::Exemptions;
use force_mfa::settings::{InStack, SETTINGS, Settings};
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Value, json};
use support::command::{Account, GROUP, POLICY, StackAnswer, command, error, in_front_of, policy, told};

/// Two values of each setting that are not its default.
const EXAMPLES: [(&str, &str, &str); 8] = [
    ("FORCE_MFA_POLICY_ARN", POLICY, "arn:aws:iam::123456789012:policy/other"),
    ("FORCE_MFA_MODE", "report", "enforce"),
    ("FORCE_MFA_SCOPE", "all-users", "console-users"),
    ("FORCE_MFA_EXISTING_USERS", "enforce", "report"),
    ("FORCE_MFA_EXEMPT_USERS", "break-glass-*", "ci"),
    ("FORCE_MFA_EXEMPT_PATHS", "/service/", "/bots/"),
    ("FORCE_MFA_EXEMPT_TAG", "mfa-exempt=true", "mfa-exempt"),
    ("FORCE_MFA_OVERFLOW_GROUP", GROUP, "other-group"),
];

#[test]
fn the_table_has_every_setting() {
    let values: HashMap<&str, &str> = EXAMPLES.into_iter().map(|(variable, value, _)| (variable, value)).collect();
    let read = |only: &[&str]| {
        let settings = Settings::read(|variable| {
            only.contains(&variable).then(|| values.get(variable).map(|value| (*value).to_owned()))?
        });
        settings.unwrap()
    };
    let variables: Vec<&str> = SETTINGS.iter().map(|setting| setting.variable).collect();
    let (all, default) = (read(&variables), read(&["FORCE_MFA_POLICY_ARN"]));
    // A new field does not compile here until the table has a row for it, and an example above.
    let Settings { policy: _, mode, scope, existing_users, exemptions, overflow_group } = all;
    let Exemptions { users, paths, tag } = exemptions;
    assert_ne!(mode, default.mode);
    assert_ne!(scope, default.scope);
    assert_ne!(existing_users, default.existing_users);
    assert_ne!(users, default.exemptions.users);
    assert_ne!(paths, default.exemptions.paths);
    assert_ne!(tag, default.exemptions.tag);
    assert_ne!(overflow_group, default.overflow_group);
}

#[test]
fn the_template_and_the_help_have_every_setting() {
    let template = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/template.yaml")).unwrap();
    let template = Yaml::load_from_str(&template).unwrap().remove(0);
    let has = |path: &[&str]| path.iter().try_fold(&template, |node, key| node.as_mapping_get(key)).is_some();
    let help = told(&mut command("http://127.0.0.1:9", &["status", "--help"])).out;
    let variables = ["Resources", "Function", "Properties", "Environment", "Variables"];
    for setting in SETTINGS {
        assert!(has(&[&variables[..], &[setting.variable]].concat()), "{setting:?}: the function's variables");
        match setting.in_stack {
            InStack::Parameter(key) => assert!(has(&["Parameters", key]), "{setting:?}"),
            InStack::Output(key) => assert!(has(&["Outputs", key]), "{setting:?}"),
        }
        assert!(help.contains(&format!("--{} <VALUE>", setting.flag)), "{help}");
        assert!(help.contains(&format!("[{}]", setting.variable)), "{help}");
    }
    let of_function = variables.iter().try_fold(&template, |node, key| node.as_mapping_get(key)).unwrap();
    assert_eq!(of_function.as_mapping().unwrap().len(), SETTINGS.len(), "a variable that the table does not have");
}

/// Value and source of each setting, as `status` prints them.
fn shown(out: &str) -> BTreeMap<String, String> {
    let settings = out.lines().skip_while(|line| !line.starts_with("Account ")).skip(1).take(SETTINGS.len());
    settings.map(|line| (line[2..16].trim().to_owned(), line[18..].to_owned())).collect()
}

#[test]
fn flag_goes_before_variable_before_stack_before_default() {
    let account = Account::new().with_policy();
    account.iam("CreatePolicy", &[("PolicyName", "other"), ("PolicyDocument", support::command::DOCUMENT)]);
    let parameter = |setting: &force_mfa::settings::Setting, value: &'static str| match setting.in_stack {
        InStack::Parameter(key) => Some((key, value)),
        InStack::Output(_) => None,
    };
    let with_values: Vec<_> =
        SETTINGS.iter().zip(EXAMPLES).filter_map(|(setting, example)| parameter(setting, example.1)).collect();
    let stack = StackAnswer::new("force-mfa", &with_values).in_front_of(&account);

    let from_stack = shown(&told(&mut command(&stack, &["status"])).out);
    let defaults = shown(&account.run(&["status", "--no-stack", "--policy-arn", POLICY]).out);
    for (setting, (variable, value, other)) in SETTINGS.iter().zip(EXAMPLES) {
        assert_eq!(setting.variable, variable, "the examples stand in the order of the table");
        let label = setting.label();
        assert_eq!(from_stack[&label], format!("{value} (stack force-mfa)"));
        let by_default = format!("{} (default)", setting.default);
        assert!(defaults[&label] == by_default || variable == "FORCE_MFA_POLICY_ARN", "{defaults:?}");

        // Given by itself, it leaves the others to the stack.
        let by_variable = shown(&told(command(&stack, &["status"]).env(variable, other)).out);
        let by_flag =
            shown(&told(command(&stack, &["status", &format!("--{}={other}", setting.flag)]).env(variable, value)).out);
        assert_eq!(by_variable[&label], format!("{other} ({variable})"));
        assert_eq!(by_flag[&label], format!("{other} (--{})", setting.flag));
        for changed in [by_variable, by_flag] {
            let others = |shown: &BTreeMap<String, String>| {
                shown.clone().into_iter().filter(|(key, _)| *key != label).collect::<Vec<_>>()
            };
            assert_eq!(others(&changed), others(&from_stack), "{variable}");
        }
    }
    // An empty value counts as not given.
    let empty = told(command(&stack, &["status", "--mode="]).env("FORCE_MFA_MODE", " "));
    assert_eq!(shown(&empty.out), from_stack);
}

#[test]
fn naming_the_policy_keeps_the_stacks_exemptions() {
    let account = Account::new().with_policy();
    account.console_user("alice").console_user("break-glass-1");
    let stack = StackAnswer::new("force-mfa", &[("ExemptUsers", "break-glass-*")]).in_front_of(&account);

    let swept = told(command(&stack, &["sweep", "--yes"]).env("FORCE_MFA_POLICY_ARN", POLICY));
    swept.ends(0, "exempt users    break-glass-* (stack force-mfa)");
    assert!(account.carries_policy("alice") && !account.carries_policy("break-glass-1"), "{swept:?}");
}

#[test]
fn naming_the_policy_keeps_the_stacks_overflow_group() {
    let account = Account::new().with_policy();
    account.console_user("alice").call("sqs", "CreateQueue", &[("QueueName", "failures")]);
    let queue = format!("{}/123456789012/failures", account.url());
    let left_the_group = json!({
        "source": "aws.iam", "detail-type": "AWS API Call via CloudTrail", "account": "123456789012",
        "detail": {
            "eventSource": "iam.amazonaws.com", "eventName": "RemoveUserFromGroup",
            "requestParameters": {"userName": "alice", "groupName": GROUP},
        }
    });
    account.send(&queue, &left_the_group.to_string());
    let stack = StackAnswer::new("force-mfa", &[]).in_front_of(&account);

    let redriven = told(command(&stack, &["redrive", "--yes", "--queue", &queue]).env("FORCE_MFA_POLICY_ARN", POLICY));
    redriven.ends(0, "1 handled, 0 failed");
    assert!(redriven.out.contains("attached alice"), "{redriven:?}");
    assert!(account.carries_policy("alice"));
}

#[test]
fn without_a_stack_nothing_is_written() {
    let account = Account::new();
    account.run(&["status"]).ends(1, "neither a stack nor a policy named force-mfa");
    let account = account.with_policy();
    account.console_user("alice");
    let event = format!("{}/events/attached/by_terraform.json", env!("CARGO_MANIFEST_DIR"));
    let queue = format!("{}/123456789012/failures", account.url());

    for arguments in [&["sweep"][..], &["replay", &event], &["redrive", "--queue", &queue]] {
        let refused = account.run(&[arguments, &["--yes", "--policy-arn", POLICY]].concat());
        refused.ends(2, "there is no stack force-mfa in us-east-1");
        refused.ends(2, "--no-stack");
        account
            .run(&[arguments, &["--stack", "other", "--yes"]].concat())
            .ends(2, "there is no stack other in us-east-1");
    }
    assert!(!account.carries_policy("alice"));

    account.run(&["sweep", "--dry-run"]).ends(1, "No stack force-mfa in us-east-1");
    let status = account.run(&["status", "--format", "json"]);
    status.ends(1, "No stack force-mfa in us-east-1");
    assert_eq!((&status.json()["policy_arn"], &status.json()["release"]), (&json!(POLICY), &Value::Null));
    account.run(&["uninstall", "--dry-run"]).ends(0, "No stack force-mfa in us-east-1");

    account
        .run(&["sweep", "--yes", "--no-stack"])
        .ends(0, "policy arn      arn:aws:iam::123456789012:policy/force-mfa (found by its name)");
    assert!(account.carries_policy("alice"));
}

#[test]
fn only_a_finished_stack_lets_commands_write() {
    let account = Account::new().with_policy();
    account.console_user("break-glass-1");
    let uninstall = ["uninstall", "--yes", "--account", "123456789012"];
    for (status, counts_as) in [
        ("CREATE_COMPLETE", "finished"),
        ("UPDATE_COMPLETE", "finished"),
        ("UPDATE_ROLLBACK_COMPLETE", "finished"),
        ("IMPORT_COMPLETE", "finished"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "finished"),
        ("REVIEW_IN_PROGRESS", "absent"),
        ("ROLLBACK_COMPLETE", "absent"),
        ("DELETE_COMPLETE", "absent"),
        ("CREATE_IN_PROGRESS", "unfinished"),
        ("UPDATE_IN_PROGRESS", "unfinished"),
        ("UPDATE_ROLLBACK_FAILED", "unfinished"),
        ("DELETE_FAILED", "unfinished"),
        ("A_STATE_OF_THE_FUTURE", "unfinished"),
    ] {
        let stack = StackAnswer { status, ..StackAnswer::new("force-mfa", &[("ExemptUsers", "break-glass-*")]) };
        let stack = stack.in_front_of(&account);
        let sweep = told(&mut command(&stack, &["sweep", "--yes"]));
        let read = told(&mut command(&stack, &["status"]));
        match counts_as {
            "finished" => {
                sweep.ends(0, "");
                assert_eq!(read.err, "", "{status}");
            }
            "absent" => {
                sweep.ends(2, "there is no stack force-mfa");
                read.ends(1, "No stack force-mfa");
            }
            _ => {
                sweep.ends(2, &format!("the stack force-mfa is {status}"));
                read.ends(0, &format!("Warning: the stack force-mfa is {status}"));
                told(&mut command(&stack, &uninstall)).ends(2, &format!("the stack force-mfa is {status}"));
            }
        }
        assert!(!account.carries_policy("break-glass-1"), "{status}");
    }
}

#[test]
fn an_unreadable_stack_is_an_error() {
    let account = Account::new().with_policy();
    let denied = in_front_of(&account, |_, body| {
        let is_meant = body.contains("Action=DescribeStack");
        is_meant.then(|| error("AccessDenied", "not authorized").replace("400", "403"))
    });
    let status = told(&mut command(&denied, &["status", "--policy-arn", POLICY]));
    status.ends(3, "Allow cloudformation:DescribeStacks to the identity");
    status.ends(3, "Or pass --no-stack");
    told(&mut command(&denied, &["status", "--no-stack"])).ends(0, "");

    let of_something_else =
        StackAnswer { outputs: vec![("VpcId", "vpc-1".to_owned())], ..StackAnswer::new("force-mfa", &[]) }
            .in_front_of(&account);
    told(&mut command(&of_something_else, &["status"])).ends(2, "it is not a stack of force-mfa");
}

#[test]
fn a_stack_sets_stack_is_found_by_its_function() {
    let account = Account::new().with_policy();
    account.console_user("break-glass-1");
    let stack = StackAnswer::new("StackSet-mfa-0123abcd", &[("ExemptUsers", "break-glass-*")]).in_front_of(&account);
    // The stub has no answer to a listing of all stacks.
    for arguments in [&["status"][..], &["status", "--stack", "mfa"], &["status", "--policy-arn", POLICY]] {
        let status = told(&mut command(&stack, arguments));
        status.ends(0, "");
        assert!(status.out.contains("break-glass-* (stack StackSet-mfa-0123abcd)"), "{status:?}");
    }
    let other = told(&mut command(&stack, &["status", "--stack", "other"]));
    other.ends(2, "there is neither a stack nor a policy named other");
}

#[test]
fn a_stack_sets_stack_is_found_by_its_prefix() {
    let prefix = "acme-mfa";
    let account = Account::new().with_policy_of(prefix);
    account.console_user("alice").console_user("break-glass-1");
    // The account also has the policy of another installation.
    account.iam("CreatePolicy", &[("PolicyName", "force-mfa"), ("PolicyDocument", support::command::DOCUMENT)]);
    let exempt = [("ExemptUsers", "break-glass-*")];
    // The last one was made by a stack set that has another name than its prefix.
    for name in ["StackSet-acme-mfa-0123abcd", "StackSet-security-0123abcd"] {
        let stack = StackAnswer::with_prefix(name, prefix, &exempt).in_front_of(&account);
        let status = told(&mut command(&stack, &["status", "--stack", prefix]));
        status.ends(1, "");
        assert!(status.out.contains(&format!("policy/acme-mfa (stack {name})")), "{status:?}");
        assert!(status.out.contains(&format!("break-glass-* (stack {name})")), "{status:?}");
        told(&mut command(&stack, &["sweep", "--yes", "--stack", "other"])).ends(2, "there is no stack other");
    }
    let stack = StackAnswer::with_prefix("StackSet-acme-mfa-0123abcd", prefix, &exempt).in_front_of(&account);
    told(&mut command(&stack, &["sweep", "--yes", "--stack", prefix])).ends(0, "break-glass-*");
    assert!(account.carries("alice", &policy(prefix)) && !account.carries("break-glass-1", &policy(prefix)));
    assert!(!account.carries_policy("alice"), "the other installation is left alone");
    let dry = told(&mut command(&stack, &["uninstall", "--dry-run", "--stack", prefix]));
    dry.ends(0, "");
    assert!(dry.out.contains("would detach from user alice"), "{dry:?}");
    assert!(dry.out.contains("would delete group acme-mfa-overflow"), "{dry:?}");
}

#[test]
fn the_stack_of_the_default_name_is_not_the_named_one() {
    let account = Account::new().with_policy();
    let stack = StackAnswer::new("StackSet-force-mfa-0123abcd", &[]).in_front_of(&account);
    let status = told(&mut command(&stack, &["status", "--stack", "acme-mfa"]));
    status.ends(2, "there is neither a stack nor a policy named acme-mfa");
    told(&mut command(&stack, &["sweep", "--yes", "--stack", "acme-mfa"])).ends(2, "there is no stack acme-mfa");
}

#[test]
fn a_policy_that_the_named_stack_left_is_found() {
    let prefix = "acme-mfa";
    let account = Account::new().with_policy_of(prefix);
    account.console_user("alice").iam("AttachUserPolicy", &[("UserName", "alice"), ("PolicyArn", &policy(prefix))]);

    let status = account.run(&["status", "--stack", prefix, "--format", "json"]);
    status.ends(0, "No stack acme-mfa in us-east-1");
    let (json, found) = (status.json(), policy(prefix));
    assert_eq!((&json["policy_arn"], &json["release"]), (&json!(found), &Value::Null));
    assert_eq!(json["totals"]["covered"], 1);
    account.run(&["sweep", "--yes", "--stack", prefix]).ends(2, "there is no stack acme-mfa");

    let uninstall = ["uninstall", "--yes", "--account", "123456789012", "--stack", prefix];
    let uninstalled = account.run(&uninstall);
    uninstalled.ends(0, "No stack acme-mfa in us-east-1");
    assert!(uninstalled.out.contains(&format!("deleted policy {found}")), "{uninstalled:?}");
    let again = account.run(&uninstall);
    again.ends(0, "");
    assert!(again.out.contains("neither a stack nor a policy named acme-mfa"), "{again:?}");
}

#[test]
fn a_stack_without_parameters_has_the_functions_settings() {
    let account = Account::new().with_policy();
    account.console_user("alice").console_user("break-glass-1");
    let of_cdk = StackAnswer { parameters: Vec::new(), ..StackAnswer::new("force-mfa", &[]) };
    let variables = json!({"Environment": {"Variables": {"FORCE_MFA_EXEMPT_USERS": "break-glass-*"}}}).to_string();
    let with_function = |answer: String| {
        let of_cdk = of_cdk.clone();
        in_front_of(&account, move |head, body| {
            let is_meant = head.starts_with("GET /2015-03-31/functions/force-mfa/configuration ");
            if is_meant { Some(format!("HTTP/1.1 200 OK\r\n\r\n{answer}")) } else { of_cdk.answer(body) }
        })
    };

    told(&mut command(&with_function("{}".to_owned()), &["sweep", "--yes"])).ends(1, "does not show the variables");
    assert!(!account.carries_policy("alice"));
    told(&mut command(&with_function(variables), &["sweep", "--yes"])).ends(0, "break-glass-* (stack force-mfa)");
    assert!(account.carries_policy("alice") && !account.carries_policy("break-glass-1"));
}

#[test]
fn another_account_ends_every_command_before_it_acts() {
    let account = Account::new().with_policy();
    account.console_user("alice");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let url = in_front_of(&account, move |_, body| {
        counted.fetch_add(usize::from(!body.contains("Action=GetCallerIdentity")), Ordering::Relaxed);
        None
    });
    let event = format!("{}/events/attached/by_terraform.json", env!("CARGO_MANIFEST_DIR"));
    let queue = format!("{url}/000000000012/failures");
    let policy = "arn:aws:iam::000000000012:policy/force-mfa";
    for arguments in [
        &["status"][..],
        &["sweep", "--yes"],
        &["replay", "--yes", &event],
        &["redrive", "--yes", "--queue", &queue],
        &["uninstall", "--yes", "--account", "000000000012"],
    ] {
        let refused = told(&mut command(&url, &[arguments, &["--policy-arn", policy]].concat()));
        refused.ends(2, "the credentials are of account 123456789012");
        refused.ends(2, "nothing was done");
    }
    let refused = told(&mut command(&url, &["uninstall", "--yes", "--account", "000000000012"]));
    refused.ends(2, "--account is account 000000000012");
    assert_eq!(calls.load(Ordering::Relaxed), 0, "only STS was called");
}
