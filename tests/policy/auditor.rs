//! What the auditor's role of `infra/auditor.yaml` may and may not do. The rows stand in `auditor.json`.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::evaluation::Request;
use crate::template::{Parameters, load, render};

/// A request of the role.
#[derive(Deserialize)]
pub struct Row {
    pub action: String,
    pub resource: String,
    /// `status` or `doctor` makes this call.
    pub allowed: bool,
}

impl Row {
    /// The request as IAM sees it.
    pub fn request(&self) -> Request {
        Request {
            principal: "arn:aws:iam::123456789012:role/force-mfa-auditor".to_owned(),
            action: self.action.clone(),
            resource: self.resource.clone(),
            context: Map::new(),
        }
    }
}

/// The rows.
pub fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!("auditor.json")).expect("the rows are JSON")
}

/// The role's policies, rendered.
pub fn policies(partition: &str) -> Vec<Value> {
    let template = load("auditor.yaml");
    let role = &template["Resources"]["AuditorRole"]["Properties"];
    assert!(role.get("ManagedPolicyArns").is_none(), "the role has these policies alone");
    let policies = role["Policies"].as_array().expect("policies");
    policies.iter().map(|policy| render(&template, &policy["PolicyDocument"], partition, &Parameters::new())).collect()
}

#[cfg(test)]
mod tests {
    use iam_rs::Decision;
    use serde_json::Value;

    use super::{policies, rows};
    use crate::evaluation::decide;
    use crate::rows::parse;

    #[test]
    fn the_auditor_can_do_what_status_and_doctor_call() {
        let policies: Vec<_> = policies("aws").iter().map(parse).collect();
        let rows = rows();
        assert!(rows.iter().any(|row| row.allowed) && rows.iter().any(|row| !row.allowed));

        for row in rows {
            let allowed = decide(&policies, &row.request()).decision == Decision::Allow;
            assert_eq!(allowed, row.allowed, "{} {}", row.action, row.resource);
        }
    }

    #[test]
    fn the_auditor_writes_nothing() {
        const READS: [&str; 8] = ["Describe", "Generate", "Get", "List", "Lookup", "Search", "Simulate", "Test"];
        for policy in policies("aws") {
            for statement in policy["Statement"].as_array().expect("statements") {
                let actions = match &statement["Action"] {
                    Value::Array(actions) => actions.clone(),
                    action => vec![action.clone()],
                };
                for action in actions {
                    let action = action.as_str().expect("an action").to_owned();
                    let (_, call) = action.split_once(':').expect("a service and a call");
                    let is_plain_read = READS.iter().any(|read| call.starts_with(read)) && !call.contains('*');
                    assert!(is_plain_read, "{action}");
                }
            }
        }
    }

    #[test]
    fn the_auditor_is_the_same_in_every_partition() {
        for partition in ["aws-us-gov", "aws-cn"] {
            let policies: Vec<_> = policies(partition).iter().map(parse).collect();
            let mut request = rows().iter().find(|row| row.action == "iam:GetPolicy").expect("the row").request();
            request.resource = request.resource.replace("arn:aws:", &format!("arn:{partition}:"));

            assert_eq!(decide(&policies, &request).decision, Decision::Allow, "{partition}");
        }
    }
}
