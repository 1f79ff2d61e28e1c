//! The rows of `scenarios.json`: what a user asks for under the policy, and what must come of it.

use std::collections::BTreeMap;

use iam_rs::{Decision, IAMPolicy};
use serde::Deserialize;
use serde_json::Value;

use crate::evaluation::Request;
use crate::template::Parameters;

#[derive(Deserialize)]
pub struct Scenarios {
    /// Policies that a user may have besides, by name.
    pub policies: BTreeMap<String, Value>,
    pub scenarios: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub id: String,
    #[serde(flatten)]
    pub request: Request,
    pub partition: String,
    #[serde(default)]
    pub parameters: Parameters,
    pub other_policies: Vec<String>,
    pub expect: Expectation,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    Allow,
    Deny,
    /// The call needs no permission, so it is enough that nothing denies it.
    NotDenied,
}

impl Expectation {
    pub fn holds(self, decision: Decision) -> bool {
        match self {
            Self::Allow => decision == Decision::Allow,
            Self::Deny => decision != Decision::Allow,
            Self::NotDenied => decision != Decision::Deny,
        }
    }
}

pub fn scenarios() -> Scenarios {
    serde_json::from_str(include_str!("scenarios.json")).expect("scenarios.json is as described")
}

pub fn parse(policy: &Value) -> IAMPolicy {
    serde_json::from_value(policy.clone()).unwrap_or_else(|error| panic!("{error} in {policy:#}"))
}
