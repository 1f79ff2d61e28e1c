//! Asks `iam-rs`, an IAM policy evaluator, what comes of a request.

use iam_rs::{
    Arn, Context, ContextValue, Decision, EvaluationOptions, IAMEffect, IAMPolicy, IAMRequest, PolicyEvaluator,
    Principal, PrincipalId,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request as IAM sees it: condition keys that are not in `context` are not in the request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub principal: String,
    pub action: String,
    pub resource: String,
    pub context: Map<String, Value>,
}

/// A decision, and the `Sid`s of the statements that made it.
pub struct Decided {
    pub decision: Decision,
    pub by: Vec<String>,
}

pub fn decide(policies: &[IAMPolicy], request: &Request) -> Decided {
    let options =
        EvaluationOptions { stop_on_explicit_deny: false, collect_match_details: true, ..EvaluationOptions::default() };
    let result = PolicyEvaluator::with_policies(policies.to_vec())
        .with_options(options)
        .evaluate(&iam_request(request))
        .expect("the request can be evaluated");
    let deciding = match result.decision {
        Decision::Allow => Some(IAMEffect::Allow),
        Decision::Deny => Some(IAMEffect::Deny),
        Decision::NotApplicable => None,
    };
    let by = result
        .statement_details
        .into_iter()
        .filter(|statement| statement.conditions_satisfied && Some(statement.effect) == deciding)
        .map(|statement| statement.sid.unwrap_or_default())
        .collect();
    Decided { decision: result.decision, by }
}

fn iam_request(request: &Request) -> IAMRequest {
    let context = request.context.iter().fold(Context::new(), |context, (key, value)| match value {
        // The evaluator takes the text "false" for a value that is neither true nor false.
        Value::String(text) => match text.parse::<bool>() {
            Ok(truth) => context.with_boolean(key, truth),
            Err(_) => context.with_string(key, text),
        },
        Value::Array(texts) => {
            let texts = texts.iter().filter_map(Value::as_str).map(str::to_owned);
            let mut context = context;
            context.insert(key.clone(), ContextValue::StringList(texts.collect()));
            context
        }
        other => panic!("{key}: {other} is not expected in a context"),
    });
    // IAM evaluates an action without a resource type against `*`, which the evaluator's ARN cannot be. No
    // policy here names the service `none`, so that only `*` matches it.
    let resource = match request.resource.as_str() {
        "*" => "arn:aws:none:::none",
        arn => arn,
    };
    IAMRequest::new_with_context(
        Principal::Aws(PrincipalId::String(request.principal.clone())),
        request.action.clone(),
        Arn::parse(resource).expect("the resource is an ARN"),
        context,
    )
}
