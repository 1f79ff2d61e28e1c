//! `force-mfa doctor --organization` from the outside: the built command against an emulated organization (moto). What
//! each check makes of an installation is in tests/doctor.rs; here it is about many accounts.

mod support {
    pub mod command;
    pub mod organization;
}

use serde_json::{Value, json};
use support::command::{Told, command, told};
use support::organization::{Organization, in_front_of, refusal};

fn doctor(url: &str, arguments: &[&str]) -> Told {
    told(&mut command(url, &[&["doctor", "--organization"], arguments].concat()))
}

fn states(row: &Value) -> Vec<(&str, &str)> {
    let checks = row["checks"].as_array().unwrap_or_else(|| panic!("{row}"));
    checks.iter().map(|check| (check["check"].as_str().unwrap(), check["state"].as_str().unwrap())).collect()
}

#[test]
fn each_account_has_its_own_checks() {
    let mut all = Organization::small(&["dev"]);
    for name in ["refused", "forgotten", "closed"] {
        all.account(name, "root");
    }
    all.close("closed");
    let refused = all.accounts["refused"].clone();
    // The trails of `dev` may not be seen.
    let dev = all.accounts["dev"].clone();
    let (url, _) = in_front_of(&all, move |call, _| match call.action.as_str() {
        "AssumeRole" if call.account == refused => Some(refusal("403 Forbidden", "AccessDenied", "no")),
        "DescribeTrails" if call.account == dev => {
            Some("HTTP/1.1 400 x\r\n\r\n{\"__type\": \"AccessDeniedException\", \"message\": \"no\"}".to_owned())
        }
        _ => None,
    });
    let told = doctor(&url, &["--format", "json"]);
    told.ends(1, "");
    let json = told.json();
    let accounts = json["accounts"].as_array().unwrap();
    let order: Vec<_> =
        accounts.iter().map(|row| (row["name"].as_str().unwrap(), row["state"].as_str().unwrap())).collect();
    assert_eq!(order[..2], [("refused", "failed"), ("forgotten", "not_installed")], "the worst first: {order:?}");
    assert_eq!(order[4], ("closed", "suspended"));
    let row = |name: &str| accounts.iter().find(|row| row["name"] == name).unwrap();
    assert!(states(row("dev")).contains(&("trail", "unknown")), "{}", row("dev"));
    assert!(states(row("master")).contains(&("trail", "fail")), "another account's trouble is its own");
    for name in ["dev", "master"] {
        assert!(
            states(row(name)).contains(&("stack", "ok")) || states(row(name)).contains(&("stack", "warn")),
            "{name}"
        );
        assert!(states(row(name)).contains(&("policy", "ok")), "{name}");
    }
    assert!(states(row("forgotten")).contains(&("stack", "fail")));
    for name in ["refused", "closed"] {
        assert_eq!((&row(name)["checks"], &row(name)["totals"]), (&Value::Null, &Value::Null), "{name}");
    }
    for (key, count) in [("accounts", 5), ("ok", 2), ("failed", 1), ("suspended", 1), ("not_installed", 1)] {
        assert_eq!(json["totals"][key], count, "{key}");
    }
    let sum: u64 = accounts.iter().filter_map(|row| row["totals"]["fail"].as_u64()).sum();
    assert_eq!(json["totals"]["checks"]["fail"], json!(sum));

    let table = doctor(&url, &[]);
    table.ends(1, "");
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].contains("refused  FAILED  sts:AssumeRole"), "{}", table.out);
    assert!(lines[2].starts_with("ACCOUNT") && lines[3].contains("NOT INSTALLED"), "{}", table.out);
    assert!(table.out.contains("fix: "), "{}", table.out);
    assert!(lines.last().unwrap().starts_with("Checks: "), "{}", table.out);
}

#[test]
fn a_stack_set_is_found_by_its_prefix() {
    let mut all = Organization::new();
    (all.stack_name, all.prefix) = ("StackSet-acme-mfa-0123abcd", "acme-mfa");
    for name in ["dev", "leftover"] {
        all.account(name, "root");
    }
    all.stack("own", &[]);
    all.stack("dev", &[]);
    all.policy("leftover");
    let (url, _) = in_front_of(&all, |_, _| None);

    let json = doctor(&url, &["--format", "json", "--stack", "acme-mfa"]).json();
    let accounts = json["accounts"].as_array().unwrap();
    let row = |name: &str| accounts.iter().find(|row| row["name"] == name).unwrap();
    let detail = |row: &Value, check: &str| {
        let checks = row["checks"].as_array().unwrap();
        let check = checks.iter().find(|other| other["check"] == check).unwrap();
        (check["state"].as_str().unwrap().to_owned(), check["detail"].as_str().unwrap().to_owned())
    };
    assert_eq!((&row("master")["state"], &row("dev")["state"]), (&json!("ok"), &json!("ok")));
    for (name, account) in [("master", "own"), ("dev", "dev"), ("leftover", "leftover")] {
        let (state, found) = detail(row(name), "policy");
        assert!(state == "ok" && found.contains(&all.policy_arn(account)), "{name}: {state} {found}");
    }
    assert_eq!(row("leftover")["state"], "not_installed");
    assert_eq!(detail(row("leftover"), "stack"), ("fail".to_owned(), "no stack acme-mfa in us-east-1".to_owned()));

    let alone = told(&mut command(&url, &["doctor", "--format", "json", "--stack", "acme-mfa"])).json();
    assert!(["ok", "warn"].contains(&detail(&alone, "stack").0.as_str()), "{alone}");
    assert!(detail(&alone, "policy").1.contains(&all.policy_arn("own")), "{alone}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let all = Organization::new();
    let url = all.server.url();
    doctor(&url, &["--canary"]).ends(2, "--canary");
    doctor(&url, &["--no-stack"]).ends(2, "--no-stack");
    doctor(&url, &["--mode", "report"]).ends(2, "--mode");
}
