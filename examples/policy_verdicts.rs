//! Prints policy documents with the verdict that a sweep would have on them, one JSON object a line, so that another
//! evaluator can be asked what they do: the template's policy in all settings, the policy of 2022, every mutant, and
//! made-up ones.

#[path = "../tests/policy/made_up.rs"]
mod made_up;
#[path = "../tests/policy/mutants.rs"]
mod mutants;
#[path = "../tests/policy/settings.rs"]
mod settings;
#[path = "../tests/policy/template.rs"]
mod template;

use std::collections::BTreeSet;

use force_mfa::identifiers::PolicyArn;
use force_mfa::policy_text::judge;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// How many documents are made up.
const MADE_UP: usize = 1_000;

fn main() {
    let mut printed = 0;
    // With `exactly`, the verdict must be the evaluator's; without it may also be that nothing can be said.
    let mut print = |what: &str, document: &Value, partition: &str, exactly: bool| {
        let arn = format!("arn:{partition}:iam::{}:policy/force-mfa", template::ACCOUNT);
        let arn = PolicyArn::new(&arn).expect("the ARN of a policy");
        let verdict = judge(&document.to_string(), &arn).as_str();
        let line = json!({
            "what": what, "document": document, "partition": partition, "exactly": exactly, "verdict": verdict,
        });
        println!("{line}");
        printed += 1;
    };

    let template = template::account_template();
    let source = template::policy_source(&template);
    for partition in settings::PARTITIONS {
        for parameters in settings::all_settings() {
            let policy = template::render(&template, source, partition, &parameters);
            print(&format!("the policy with {parameters:?}"), &policy, partition, true);
        }
    }
    let of_2022 = serde_json::from_str(include_str!("../tests/policy/seed-2022.json")).expect("the seed is JSON");
    print("the policy of 2022", &of_2022, "aws", true);
    let mut seen = BTreeSet::new();
    for mutant in mutants::of(source) {
        for parameters in settings::all_settings() {
            let policy = template::render(&template, &mutant.policy, "aws", &parameters);
            if mutants::is_whole(&policy) && seen.insert(mutants::denies(&policy)) {
                let exactly = !mutants::is_disputed(&policy);
                print(&format!("{} with {parameters:?}", mutant.what), &policy, "aws", exactly);
            }
        }
    }
    let mut runner = TestRunner::deterministic();
    for number in 0..MADE_UP {
        let document = made_up::document().new_tree(&mut runner).expect("a document").current();
        print(&format!("made-up document {number}"), &document, "aws", false);
    }
    println!("{}", json!({"end": printed}));
}
