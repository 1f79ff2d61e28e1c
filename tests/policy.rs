//! The force-MFA policy does what it is for: taken out of the template, rendered, and evaluated over the rows
//! of `policy/scenarios.json`. A policy from 2022 is the control, and mutants of the policy show that every
//! part of it is held by a row. The function's role is confined in the same way, in `policy/role.rs`, the auditor's in
//! `policy/auditor.rs`.

#[path = "policy/auditor.rs"]
mod auditor;
#[path = "policy/evaluation.rs"]
mod evaluation;
#[path = "policy/judged.rs"]
mod judged;
#[path = "policy/made_up.rs"]
mod made_up;
#[path = "policy/mutants.rs"]
mod mutants;
#[path = "policy/role.rs"]
mod role;
#[path = "policy/rows.rs"]
mod rows;
#[path = "policy/settings.rs"]
mod settings;
#[path = "policy/template.rs"]
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use iam_rs::IAMPolicy;
use serde_json::{Value, json};

use rows::{Row, Scenarios};
use template::Parameters;

/// Ids of the rows, in the order of the file, that `policy_for` does not hold in.
fn failing(scenarios: &Scenarios, mut policy_for: impl FnMut(&Row) -> IAMPolicy) -> impl Iterator<Item = &str> {
    let others: BTreeMap<_, _> =
        scenarios.policies.iter().map(|(name, policy)| (name.as_str(), rows::parse(policy))).collect();
    scenarios.scenarios.iter().filter_map(move |row| {
        let mut policies = vec![policy_for(row)];
        policies.extend(row.other_policies.iter().map(|name| others[name.as_str()].clone()));
        let decision = evaluation::decide(&policies, &row.request).decision;
        (!row.expect.holds(decision)).then_some(row.id.as_str())
    })
}

/// Renders `source` for each row, once for each partition and set of parameters.
fn rendered(template: &Value, source: &Value) -> impl FnMut(&Row) -> IAMPolicy {
    let mut done: BTreeMap<(String, Parameters), IAMPolicy> = BTreeMap::new();
    move |row| {
        done.entry((row.partition.clone(), row.parameters.clone()))
            .or_insert_with(|| rows::parse(&template::render(template, source, &row.partition, &row.parameters)))
            .clone()
    }
}

#[test]
fn the_policy_holds_in_every_row() {
    let template = template::account_template();
    let scenarios = rows::scenarios();

    let failing: Vec<_> = failing(&scenarios, rendered(&template, template::policy_source(&template))).collect();

    assert!(failing.is_empty(), "fails in {failing:#?}");
}

#[test]
fn the_policy_of_2022_fails_in_at_least_twenty_rows() {
    let scenarios = rows::scenarios();
    let seed = rows::parse(&serde_json::from_str(include_str!("policy/seed-2022.json")).expect("the seed is JSON"));

    // Rows for a parameter say nothing about a policy that has none.
    let by_default: BTreeSet<_> =
        scenarios.scenarios.iter().filter(|row| row.parameters.is_empty()).map(|row| row.id.as_str()).collect();
    let failing: Vec<_> = failing(&scenarios, |_| seed.clone()).filter(|id| by_default.contains(id)).collect();

    assert!(failing.len() >= 20, "fails in {} only: {failing:#?}", failing.len());
    assert!(failing.contains(&"first-signin-password-policy-admin"));
    assert!(failing.contains(&"virtual-create-1"));
}

#[test]
fn a_request_without_mfa_is_denied_by_the_statement_for_it() {
    let template = template::account_template();
    let source = template::policy_source(&template);
    let scenarios = rows::scenarios();
    let row = scenarios.scenarios.iter().find(|row| row.id == "nomfa-s3-get").expect("the row");
    let policy = rendered(&template, source)(row);

    let decided = evaluation::decide(&[policy], &row.request);

    assert_eq!(decided.by, ["DenyAllButEnrolmentWithoutMfa"]);
}

#[test]
fn every_row_has_an_id_of_its_own() {
    let scenarios = rows::scenarios();
    let ids: BTreeSet<_> = scenarios.scenarios.iter().map(|row| &row.id).collect();

    assert_eq!(ids.len(), scenarios.scenarios.len());
}

#[test]
fn every_mutant_of_the_policy_is_found_out_by_a_row() {
    let template = template::account_template();
    let source = template::policy_source(&template);
    let scenarios = rows::scenarios();
    let mutants = mutants::of(source);
    assert!(mutants.len() >= 60, "{} mutants only", mutants.len());

    let survivors: Vec<_> = mutants
        .iter()
        .filter(|mutant| failing(&scenarios, rendered(&template, &mutant.policy)).next().is_none())
        .map(|mutant| &mutant.what)
        .collect();

    assert!(survivors.is_empty(), "of {} mutants survive {survivors:#?}", mutants.len());
}

#[test]
fn the_policy_fits_into_a_managed_policy_in_every_partition() {
    let template = template::account_template();
    for partition in ["aws", "aws-us-gov", "aws-cn"] {
        for scope in ["all", "console-only"] {
            let parameters = Parameters::from([("CredentialScope".to_owned(), scope.to_owned())]);
            let policy = template::render(&template, template::policy_source(&template), partition, &parameters);
            // IAM does not count white space, and this policy has none within its values.
            let length = policy.to_string().chars().count();
            assert!(length <= 6144, "{length} characters for {partition}, {scope}");
        }
    }
}

#[test]
fn another_partition_changes_the_arns_and_nothing_else() {
    let template = template::account_template();
    let text = |partition| {
        template::render(&template, template::policy_source(&template), partition, &Parameters::new()).to_string()
    };

    assert!(!text("aws-cn").contains("arn:aws:"));
    assert_eq!(text("aws-cn").replace("arn:aws-cn:", "arn:aws:"), text("aws"));
}

#[test]
fn the_variable_of_the_user_name_is_left_for_iam() {
    let template = template::account_template();
    let policy = template::render(&template, template::policy_source(&template), "aws", &Parameters::new());

    assert_eq!(
        policy.pointer("/Statement/1/Resource"),
        Some(&json!([
            "arn:aws:iam::123456789012:user/${aws:username}",
            "arn:aws:iam::123456789012:user/*/${aws:username}",
        ]))
    );
}

/// `make walk | head`.
#[test]
fn the_walk_ends_quietly_if_nobody_reads_on() {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo sets for a test would have it build ring again, and all that needs it.
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("CARGO_")) {
        if !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&variable.as_str()) {
            cargo.env_remove(variable);
        }
    }
    let mut child = cargo
        .args(["run", "--quiet", "--locked", "--all-features", "--example", "walk"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("cargo ends");

    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
