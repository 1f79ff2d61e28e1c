//! Reads an installation from AWS. Each part is read by itself, and several at a time: a call that fails costs what rests
//! on it, and nothing else.

mod account;
mod alerting;
mod delivery;

use std::collections::HashMap;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use chrono::{DateTime, Utc};

use force_mfa::settings::{InStack, SETTINGS};

use super::inventory::{Answer, Inventory, Resource, Stack, Trail, Unread};
use crate::error::{CliError, FailedCall};
use crate::sign_in::Caller;
use crate::stack_name::StackName;

/// One call with its retries. Without it, a connection that is lost on the way would hold up the command for good.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Whose account it is, and where it is read.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whose account it is.
    pub caller: Caller,
    /// The region that the operator's configuration names.
    pub region: Region,
    /// The home region of its partition.
    pub home: Region,
}

/// Reads the installation of this name in the account that the configuration's credentials are of.
pub async fn read(config: &SdkConfig, place: &Place, name: StackName<'_>) -> Inventory {
    let config = with_timeout(config);
    let in_home = config.to_builder().region(place.home.clone()).build();
    let (stack, stack_in_region, trails) = tokio::join!(
        Box::pin(find_stack(&config, place, &place.home, name)),
        Box::pin(async {
            if place.region == place.home {
                return Ok(None);
            }
            find_stack(&config, place, &place.region, name).await
        }),
        Box::pin(delivery::trails(&in_home)),
    );
    // A StackSet's stack has a name of its own.
    let found = stack.as_ref().ok().and_then(Option::as_ref);
    let stack_name = found.map_or(name.name(), |(found, _)| found).to_owned();
    let prefix = found.and_then(|(_, stack)| stack.parameters.get("NamePrefix")).map_or(name.name(), String::as_str);
    let prefix = prefix.to_owned();
    let stack = stack.map(|found| found.map(|(_, stack)| stack));
    let resources = match &stack {
        Ok(Some(_)) => Box::pin(resources(&in_home, &stack_name)).await,
        Ok(None) => Ok(Vec::new()),
        Err(unread) => Err(unread.clone()),
    };
    let stack_in_region = stack_in_region.map(|found| found.map(|(_, stack)| stack.status));
    let known = Known { stack_name, prefix, stack, stack_in_region, resources, trails };
    Box::pin(fill_in(&in_home, place, known)).await
}

/// What is read first.
#[derive(Debug)]
struct Known {
    stack_name: String,
    /// The `NamePrefix` of the stack, else the name that was looked for.
    prefix: String,
    stack: Answer<Option<Stack>>,
    stack_in_region: Answer<Option<String>>,
    resources: Answer<Vec<Resource>>,
    trails: Answer<Vec<Trail>>,
}

/// Reads what the stack names.
async fn fill_in(config: &SdkConfig, place: &Place, known: Known) -> Inventory {
    let Known { stack_name, prefix, stack, stack_in_region, resources, trails } = known;
    let now = Utc::now();
    let output = |key: &str| stack.as_ref().ok()?.as_ref()?.outputs.get(key).cloned();
    let of_kind = |kind: &str| -> Answer<Vec<String>> {
        let resources = resources.as_ref().map_err(Clone::clone)?.iter();
        Ok(resources.filter(|resource| resource.kind == kind).map(|resource| resource.physical.clone()).collect())
    };
    let Caller { account, partition, .. } = &place.caller;
    let by_name = || format!("arn:{partition}:iam::{account}:policy/{prefix}");
    let policy_arn = output("PolicyArn").unwrap_or_else(by_name);
    let policy_name = policy_arn.rsplit('/').next().unwrap_or_default();
    let group_name = output("OverflowGroupName").unwrap_or_else(|| format!("{policy_name}-overflow"));
    let function_name = of_kind("AWS::Lambda::Function").map(|names| names.into_iter().next());
    let log_group = of_kind("AWS::Logs::LogGroup").unwrap_or_default().into_iter().next();
    let (queue_urls, rule_names, alarm_names) =
        (of_kind("AWS::SQS::Queue"), of_kind("AWS::Events::Rule"), of_kind("AWS::CloudWatch::Alarm"));

    let policy = Box::pin(account::policy(config, &policy_arn));
    let group = Box::pin(account::group_policies(config, &group_name));
    let function = Box::pin(async {
        let function = account::function(config, &function_name).await;
        let calls = account::NeededCalls {
            place,
            policy_arn: &policy_arn,
            group: &group_name,
            log_group: log_group.as_deref(),
        };
        let on_failure = account::on_failure(config, &function_name).await;
        let role = account::role(config, &function).await;
        let destination = on_failure.as_ref().ok().and_then(Option::as_deref);
        let refused = account::refused(config, &function, &calls, destination).await;
        (function, on_failure, role, refused)
    });
    let around = Box::pin(async {
        (account::concurrency(config, &function_name).await, account::function_policy(config, &function_name).await)
    });
    let rules = Box::pin(delivery::rules(config, account, &rule_names));
    let queues = Box::pin(delivery::queues(config, &queue_urls, now));
    let alerting = Box::pin(async {
        let (alarms, missing) = alerting::alarms(config, &alarm_names).await;
        let topics = alerting::topics(config, account, alarms.as_deref().unwrap_or_default()).await;
        (alarms, missing, topics)
    });
    let mutes = Box::pin(alerting::mutes(config));
    let last_sweep = Box::pin(alerting::last_sweep(config, &function_name, now));
    let (
        (policy, policy_document),
        group_policies,
        (function, on_failure, role, refused),
        (concurrency, function_policy),
        rules,
        queues,
        (alarms, missing_alarms, topics),
        mutes,
        last_sweep,
    ) = tokio::join!(policy, group, function, around, rules, queues, alerting, mutes, last_sweep);
    Inventory {
        now,
        account: account.clone(),
        region: place.region.to_string(),
        home: place.home.to_string(),
        stack_name,
        stack,
        stack_in_region,
        resources,
        policy_arn,
        policy,
        policy_document,
        group_name,
        group_policies,
        function,
        concurrency,
        on_failure,
        function_policy,
        role,
        refused,
        rules,
        queues,
        trails,
        alarms,
        missing_alarms,
        mutes,
        topics,
        last_sweep,
    }
}

/// The same configuration, whose calls end.
pub fn with_timeout(config: &SdkConfig) -> SdkConfig {
    let timeout = TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).build();
    config.to_builder().timeout_config(timeout).build()
}

/// The stack, and its own name.
async fn find_stack(
    config: &SdkConfig,
    place: &Place,
    region: &Region,
    name: StackName<'_>,
) -> Answer<Option<(String, Stack)>> {
    let unread =
        |answer: String, denied: bool| Unread { action: "cloudformation:DescribeStacks".to_owned(), answer, denied };
    match name.find(config, region, &place.caller, None).await {
        Ok(found) => Ok(found.map(|stack| (stack.stack_name().unwrap_or(name.name()).to_owned(), described(&stack)))),
        Err(error @ CliError::NotAllowed(_)) => Err(unread(error.to_string(), true)),
        Err(error) => Err(unread(error.to_string(), false)),
    }
}

fn described(stack: &aws_sdk_cloudformation::types::Stack) -> Stack {
    let parameters = stack.parameters().iter().filter_map(|parameter| {
        let value = parameter.resolved_value().or(parameter.parameter_value()).unwrap_or_default();
        Some((parameter.parameter_key()?.to_owned(), value.to_owned()))
    });
    let parameters: HashMap<String, String> = parameters.collect();
    let outputs = stack.outputs().iter();
    let outputs =
        outputs.filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())));
    let outputs: HashMap<String, String> = outputs.collect();
    // A stack of the CDK construct has values in place of parameters: what it does not say is not compared.
    let settings = SETTINGS.iter().filter_map(|setting| {
        let value = match setting.in_stack {
            InStack::Parameter(key) => parameters.get(key),
            InStack::Output(key) => outputs.get(key),
        };
        Some((setting.variable.to_owned(), value?.clone()))
    });
    Stack {
        status: stack.stack_status().map_or_else(String::new, |status| status.as_str().to_owned()),
        reason: stack.stack_status_reason().map(str::to_owned),
        created: time(stack.creation_time()),
        settings: settings.collect(),
        parameters,
        outputs,
    }
}

async fn resources(config: &SdkConfig, stack_name: &str) -> Answer<Vec<Resource>> {
    let client = aws_sdk_cloudformation::Client::new(config);
    let mut pages = client.list_stack_resources().stack_name(stack_name).into_paginator().send();
    let mut resources = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unread("cloudformation:ListStackResources", &error))?;
        for resource in page.stack_resource_summaries.unwrap_or_default() {
            if let (Some(kind), Some(physical)) = (resource.resource_type, resource.physical_resource_id) {
                resources.push(Resource { kind, physical });
            }
        }
    }
    Ok(resources)
}

/// A failed call as the checks take it.
fn unread<E>(action: &str, error: &SdkError<E>) -> Unread
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let call = FailedCall::new(action, error);
    Unread { action: action.to_owned(), answer: call.answer().to_owned(), denied: call.is_denied() }
}

/// `None` where AWS answers with one of these codes, which say that the thing does not exist.
fn none_if<T, E>(action: &str, absent: &[&str], answer: Result<T, SdkError<E>>) -> Answer<Option<T>>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code().is_some_and(|code| absent.contains(&code)) => Ok(None),
        Err(error) => Err(unread(action, &error)),
    }
}

fn time(time: Option<&aws_smithy_types::DateTime>) -> Option<DateTime<Utc>> {
    time.and_then(|time| DateTime::from_timestamp(time.secs(), time.subsec_nanos()))
}
