//! Reads what the stack made in the account: policy, group, function and role.

use aws_config::SdkConfig;
use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, EvaluationResult, PolicyEvaluationDecisionType};

use aws_sdk_lambda::types::{Architecture, LastUpdateStatus, Runtime, State};

use super::{Place, none_if};
use crate::commands::doctor::inventory::{Answer, Function, Policy, Refused, RefusedBy, Role};
use crate::sign_in::Caller;

/// Lambda's word for what does not exist.
const NOT_FOUND: &[&str] = &["ResourceNotFoundException"];
/// IAM's.
const NO_SUCH_ENTITY: &[&str] = &["NoSuchEntity"];

/// The policy, and the document of its default version.
pub async fn policy(config: &SdkConfig, arn: &str) -> (Answer<Option<Policy>>, Answer<Option<String>>) {
    let client = aws_sdk_iam::Client::new(config);
    let answer = client.get_policy().policy_arn(arn).send().await;
    let policy = none_if("iam:GetPolicy", NO_SUCH_ENTITY, answer).map(|answer| {
        let policy = answer?.policy?;
        Some(Policy { attachable: policy.is_attachable, default_version: policy.default_version_id? })
    });
    let document = match &policy {
        Ok(Some(Policy { default_version, .. })) => {
            let answer = client.get_policy_version().policy_arn(arn).version_id(default_version).send().await;
            let document = none_if("iam:GetPolicyVersion", NO_SUCH_ENTITY, answer);
            // IAM's documents come percent-encoded (RFC 3986).
            document.map(|answer| Some(percent_decoded(&answer?.policy_version?.document?)))
        }
        Ok(None) => Ok(None),
        Err(unread) => Err(unread.clone()),
    };
    (policy, document)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let decoded = code.filter(|_| first == b'%');
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The ARNs of the policies that are attached to a group; `None` if there is no such group.
pub async fn group_policies(config: &SdkConfig, group: &str) -> Answer<Option<Vec<String>>> {
    let client = aws_sdk_iam::Client::new(config);
    let mut pages = client.list_attached_group_policies().group_name(group).into_paginator().send();
    let mut policies = Vec::new();
    while let Some(page) = pages.next().await {
        let Some(page) = none_if("iam:ListAttachedGroupPolicies", NO_SUCH_ENTITY, page)? else { return Ok(None) };
        policies.extend(page.attached_policies.unwrap_or_default().into_iter().filter_map(|policy| policy.policy_arn));
    }
    Ok(Some(policies))
}

/// The function's configuration.
pub async fn function(config: &SdkConfig, name: &Answer<Option<String>>) -> Answer<Option<Function>> {
    let Some(name) = name.clone()? else { return Ok(None) };
    let client = aws_sdk_lambda::Client::new(config);
    let answer = client.get_function_configuration().function_name(&name).send().await;
    let Some(answer) = none_if("lambda:GetFunctionConfiguration", NOT_FOUND, answer)? else { return Ok(None) };
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Ok(Some(Function {
        arn: text(answer.function_arn()),
        state: text(answer.state().map(State::as_str)),
        state_reason: answer.state_reason().map(str::to_owned),
        last_update: text(answer.last_update_status().map(LastUpdateStatus::as_str)),
        last_update_reason: answer.last_update_status_reason().map(str::to_owned),
        runtime: text(answer.runtime().map(Runtime::as_str)),
        architecture: text(answer.architectures().first().map(Architecture::as_str)),
        role: text(answer.role()),
        variables: answer.environment.and_then(|environment| environment.variables).unwrap_or_default(),
        name,
    }))
}

/// The function's reserved concurrency.
pub async fn concurrency(config: &SdkConfig, name: &Answer<Option<String>>) -> Answer<Option<i32>> {
    let Some(name) = name.clone()? else { return Ok(None) };
    let answer = aws_sdk_lambda::Client::new(config).get_function_concurrency().function_name(name).send().await;
    let answer = none_if("lambda:GetFunctionConcurrency", NOT_FOUND, answer)?;
    Ok(answer.and_then(|answer| answer.reserved_concurrent_executions))
}

/// The ARN of the function's OnFailure destination.
pub async fn on_failure(config: &SdkConfig, name: &Answer<Option<String>>) -> Answer<Option<String>> {
    let Some(name) = name.clone()? else { return Ok(None) };
    let answer =
        aws_sdk_lambda::Client::new(config).get_function_event_invoke_config().function_name(name).send().await;
    let answer = none_if("lambda:GetFunctionEventInvokeConfig", NOT_FOUND, answer)?;
    Ok(answer.and_then(|answer| answer.destination_config?.on_failure?.destination))
}

/// The document of the function's resource policy.
pub async fn function_policy(config: &SdkConfig, name: &Answer<Option<String>>) -> Answer<Option<String>> {
    let Some(name) = name.clone()? else { return Ok(None) };
    let answer = aws_sdk_lambda::Client::new(config).get_policy().function_name(name).send().await;
    Ok(none_if("lambda:GetPolicy", NOT_FOUND, answer)?.and_then(|answer| answer.policy))
}

/// The policies of the function's role.
pub async fn role(config: &SdkConfig, function: &Answer<Option<Function>>) -> Answer<Option<Role>> {
    let Some(function) = function.as_ref().map_err(Clone::clone)? else { return Ok(None) };
    let role = function.role.rsplit('/').next().unwrap_or_default();
    let client = aws_sdk_iam::Client::new(config);
    let (mut attached, mut inline) = (Vec::new(), Vec::new());
    let mut pages = client.list_attached_role_policies().role_name(role).into_paginator().send();
    while let Some(page) = pages.next().await {
        let Some(page) = none_if("iam:ListAttachedRolePolicies", NO_SUCH_ENTITY, page)? else { return Ok(None) };
        attached.extend(page.attached_policies.unwrap_or_default().into_iter().filter_map(|policy| policy.policy_name));
    }
    let mut pages = client.list_role_policies().role_name(role).into_paginator().send();
    while let Some(page) = pages.next().await {
        let Some(page) = none_if("iam:ListRolePolicies", NO_SUCH_ENTITY, page)? else { return Ok(None) };
        inline.extend(page.policy_names);
    }
    Ok(Some(Role { attached, inline }))
}

/// What the function's calls are made on.
#[derive(Clone, Copy, Debug)]
pub struct NeededCalls<'a> {
    /// Whose account it is, and where.
    pub place: &'a Place,
    /// The policy that is attached.
    pub policy_arn: &'a str,
    /// The overflow group.
    pub group: &'a str,
    /// The function's log group.
    pub log_group: Option<&'a str>,
}

impl NeededCalls<'_> {
    /// Resource, actions: the statements of `FunctionRole` in infra/template.yaml, which a test compares.
    fn all(&self, queue: Option<&str>) -> Vec<(String, &'static [&'static str])> {
        let Place { caller: Caller { account, partition, .. }, home, .. } = self.place;
        let iam = format!("arn:{partition}:iam::{account}");
        let user = format!("{iam}:user/force-mfa-doctor");
        let group = format!("{iam}:group/{}", self.group);
        let mut calls: Vec<(String, &'static [&'static str])> = vec![
            (user.clone(), &["iam:AttachUserPolicy"]),
            (user, &["iam:GetLoginProfile", "iam:GetUser"]),
            (group.clone(), &["iam:AddUserToGroup"]),
            (group, &["iam:GetGroup"]),
            (self.policy_arn.to_owned(), &["iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListEntitiesForPolicy"]),
            ("*".to_owned(), &["iam:GenerateCredentialReport", "iam:GetCredentialReport", "iam:ListUsers"]),
        ];
        if let Some(log_group) = self.log_group {
            let stream = format!("arn:{partition}:logs:{home}:{account}:log-group:{log_group}:log-stream:doctor");
            calls.push((stream, &["logs:CreateLogStream", "logs:PutLogEvents"]));
        }
        calls.extend(queue.map(|queue| (queue.to_owned(), &["sqs:SendMessage"] as &[_])));
        calls
    }
}

/// The calls of the function that its role may not make, by IAM's own simulation, which sees a permissions boundary and
/// SCPs as well (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html>).
pub async fn refused(
    config: &SdkConfig,
    function: &Answer<Option<Function>>,
    calls: &NeededCalls<'_>,
    queue: Option<&str>,
) -> Answer<Vec<Refused>> {
    const ACTION: &str = "iam:SimulatePrincipalPolicy";
    let Some(function) = function.as_ref().map_err(Clone::clone)? else { return Ok(Vec::new()) };
    let client = aws_sdk_iam::Client::new(config);
    let mut refused = Vec::new();
    for (resource, actions) in calls.all(queue) {
        let call = client.simulate_principal_policy().policy_source_arn(&function.role).resource_arns(&resource);
        let call = call.set_action_names(Some(actions.iter().map(ToString::to_string).collect()));
        // What boundaries and SCPs ask for most: without a value, a condition on it denies.
        let answer = call
            .context_entries(context("iam:PolicyARN", calls.policy_arn))
            .context_entries(context("aws:RequestedRegion", calls.place.home.as_ref()))
            .context_entries(context("aws:PrincipalArn", &function.role))
            .context_entries(context("aws:PrincipalAccount", &calls.place.caller.account))
            .send()
            .await;
        let Some(answer) = none_if(ACTION, NO_SUCH_ENTITY, answer)? else { return Ok(Vec::new()) };
        for result in answer.evaluation_results.unwrap_or_default() {
            if result.eval_decision != PolicyEvaluationDecisionType::Allowed {
                let by = refused_by(&result);
                refused.push(Refused { action: result.eval_action_name, resource: resource.clone(), by });
            }
        }
    }
    Ok(refused)
}

fn context(key: &str, value: &str) -> ContextEntry {
    let entry = ContextEntry::builder().context_key_name(key).context_key_type(ContextKeyTypeEnum::String);
    entry.context_key_values(value).build()
}

fn refused_by(result: &EvaluationResult) -> RefusedBy {
    let boundary = result.permissions_boundary_decision_detail();
    if result.organizations_decision_detail().is_some_and(|detail| !detail.allowed_by_organizations) {
        RefusedBy::Scp
    } else if boundary.is_some_and(|detail| !detail.allowed_by_permissions_boundary) {
        RefusedBy::Boundary
    } else if result.eval_decision == PolicyEvaluationDecisionType::ExplicitDeny {
        RefusedBy::Policy
    } else {
        RefusedBy::NoPolicy
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_action_of_the_functions_role_is_simulated() {
        let template = include_str!("../../../../../../infra/template.yaml");
        let role = template.split("\n  FunctionRole:\n").nth(1).unwrap().split("\n  LogGroup:\n").next().unwrap();
        let words = role.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'));
        let granted: BTreeSet<&str> = words
            .filter(|word| ["iam:", "logs:", "sqs:"].iter().any(|service| word.starts_with(service)))
            .filter(|word| word.split(':').count() == 2 && !["iam:PolicyARN", "iam:", "logs:"].contains(word))
            .collect();
        let place = Place {
            caller: Caller { account: "123456789012".into(), partition: "aws".into(), arn: String::new() },
            region: aws_config::Region::from_static("us-east-1"),
            home: aws_config::Region::from_static("us-east-1"),
        };
        let calls = NeededCalls { place: &place, policy_arn: "policy", group: "group", log_group: Some("/log") };
        let simulated: BTreeSet<&str> =
            calls.all(Some("queue")).iter().flat_map(|(_, actions)| *actions).copied().collect();
        assert_eq!(simulated, granted);
    }

    #[test]
    fn documents_are_percent_decoded() {
        for (text, expected) in [("%7B%22a%22%3A%20%C3%A4%7D", "{\"a\": ä}"), ("100%", "100%"), ("%zz+", "%zz+")] {
            assert_eq!(percent_decoded(text), expected);
        }
    }
}
