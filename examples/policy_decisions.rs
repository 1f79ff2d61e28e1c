//! Prints the rows of the tests of the policy and of the auditor's role, one JSON object a line, with the
//! policies in full and the decision made here, so that another evaluator can be asked the same.

#[path = "../tests/policy/auditor.rs"]
mod auditor;
#[path = "../tests/policy/evaluation.rs"]
mod evaluation;
#[path = "../tests/policy/rows.rs"]
mod rows;
#[path = "../tests/policy/template.rs"]
mod template;

use serde_json::json;

fn main() {
    let template = template::account_template();
    let scenarios = rows::scenarios();
    for row in &scenarios.scenarios {
        let source = template::policy_source(&template);
        let mut policies = vec![template::render(&template, source, &row.partition, &row.parameters)];
        policies.extend(row.other_policies.iter().map(|name| scenarios.policies[name].clone()));
        let parsed: Vec<_> = policies.iter().map(rows::parse).collect();
        let decided = evaluation::decide(&parsed, &row.request);
        assert!(row.expect.holds(decided.decision), "{} does not hold", row.id);
        println!(
            "{}",
            json!({
                "id": row.id,
                "principal": row.request.principal,
                "action": row.request.action,
                "resource": row.request.resource,
                "context": row.request.context,
                "account": template::ACCOUNT,
                "policies": policies,
                "decision": decided.decision.to_string(),
                "decidedBy": decided.by,
            })
        );
    }
    print_auditor();
    println!("{}", json!({"end": scenarios.scenarios.len() + auditor::rows().len()}));
}

fn print_auditor() {
    let policies = auditor::policies("aws");
    let parsed: Vec<_> = policies.iter().map(rows::parse).collect();
    for row in auditor::rows() {
        let request = row.request();
        let decided = evaluation::decide(&parsed, &request);
        assert_eq!(decided.decision == iam_rs::Decision::Allow, row.allowed, "{} {}", row.action, row.resource);
        println!(
            "{}",
            json!({
                "id": format!("auditor {} {}", row.action, row.resource),
                "principal": request.principal,
                "action": request.action,
                "resource": request.resource,
                "context": request.context,
                "account": template::ACCOUNT,
                "policies": policies,
                "decision": decided.decision.to_string(),
                "decidedBy": decided.by,
            })
        );
    }
}
