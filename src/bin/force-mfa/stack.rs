//! The stack of the installation: finds it, and reads the settings that it gives to the function.

use std::collections::HashMap;

use aws_config::{Region, SdkConfig};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{Stack, StackStatus};
use force_mfa::settings::{InStack, POLICY_ARN, SETTINGS};

use crate::error::{CliError, FailedCall};
use crate::setting_sources::Values;

/// What a stack's status says about its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The function has the settings of the stack.
    Finished,
    /// Nothing is installed.
    Absent,
    /// The last operation still runs or failed, so the function may have other settings than the stack.
    Unfinished,
}

/// The stage of a stack. An unknown status counts as unfinished.
pub fn stage(stack: &Stack) -> Stage {
    match stack.stack_status() {
        Some(
            StackStatus::CreateComplete
            | StackStatus::UpdateComplete
            | StackStatus::UpdateRollbackComplete
            | StackStatus::ImportComplete
            | StackStatus::UpdateCompleteCleanupInProgress,
        ) => Stage::Finished,
        Some(StackStatus::ReviewInProgress | StackStatus::RollbackComplete | StackStatus::DeleteComplete) => {
            Stage::Absent
        }
        Some(_) | None => Stage::Unfinished,
    }
}

/// Finds the stack of this name. If there is none, finds the first stack that is meant among those that one of the
/// physical resources belongs to: a stack set adds a suffix to the name of the stack. Stacks in which nothing is
/// installed do not count.
///
/// # Errors
/// If CloudFormation does not answer.
pub async fn find(
    config: &SdkConfig,
    region: &Region,
    name: &str,
    physical_ids: &[&str],
    is_meant: impl Fn(&Stack) -> bool,
) -> Result<Option<Stack>, CliError> {
    let config = aws_sdk_cloudformation::config::Builder::from(config).region(region.clone()).build();
    let client = Client::from_conf(config);
    if let Some(stack) = describe(&client, name).await? {
        return Ok(Some(stack));
    }
    for id in physical_ids {
        if let Some(stack_id) = owner(&client, id).await?
            && let Some(stack) = describe(&client, &stack_id).await?
            && is_meant(&stack)
        {
            return Ok(Some(stack));
        }
    }
    Ok(None)
}

async fn describe(client: &Client, name: &str) -> Result<Option<Stack>, CliError> {
    let answer = client.describe_stacks().stack_name(name).send().await;
    let answer = none_if_missing(answer.map_err(|error| FailedCall::new("cloudformation:DescribeStacks", &error)))?;
    let stack = answer.and_then(|answer| answer.stacks.unwrap_or_default().into_iter().next());
    Ok(stack.filter(|stack| stage(stack) != Stage::Absent))
}

/// The id of the stack that made the resource, which may be deleted since.
async fn owner(client: &Client, physical_id: &str) -> Result<Option<String>, CliError> {
    const ACTION: &str = "cloudformation:DescribeStackResources";
    let answer = client.describe_stack_resources().physical_resource_id(physical_id).send().await;
    let answer = none_if_missing(answer.map_err(|error| FailedCall::new(ACTION, &error)))?;
    Ok(answer.and_then(|answer| answer.stack_resources.unwrap_or_default().into_iter().find_map(|r| r.stack_id)))
}

/// CloudFormation has no error code for a missing stack: it answers `ValidationError`, as for a malformed request.
fn none_if_missing<T>(answer: Result<T, FailedCall>) -> Result<Option<T>, CliError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(call) if call.code() == Some("ValidationError") && call.answer().contains("does not exist") => Ok(None),
        Err(call) => Err(call.into()),
    }
}

/// Adds to an error of this module what one can do without the stack.
pub fn or_without_stack(error: CliError) -> CliError {
    const HINT: &str = "Or pass --no-stack, and by its flag each setting that is not the default";
    match error {
        CliError::NotAllowed(message) => CliError::NotAllowed(format!("{message}. {HINT}")),
        CliError::Usage(message) => CliError::Usage(format!("{message}. {HINT}")),
        error => CliError::Failed(format!("{error}. {HINT}")),
    }
}

/// An output of the stack.
pub fn output<'a>(stack: &'a Stack, key: &str) -> Option<&'a str> {
    stack.outputs().iter().find(|output| output.output_key() == Some(key))?.output_value()
}

/// A parameter of the stack.
pub fn parameter<'a>(stack: &'a Stack, key: &str) -> Option<&'a str> {
    let parameter = stack.parameters().iter().find(|parameter| parameter.parameter_key() == Some(key))?;
    Some(parameter.resolved_value().or(parameter.parameter_value()).unwrap_or_default())
}

/// The settings that the stack gives to the function. A stack that is not finished may have no outputs yet.
///
/// # Errors
/// If this is not a stack of force-mfa, or the function's variables have the settings and cannot be read.
pub async fn settings(config: &SdkConfig, home: &Region, stack: &Stack) -> Result<Values, CliError> {
    let mut values = Values::new();
    let mut missing = Vec::new();
    for setting in &SETTINGS {
        match setting.in_stack {
            InStack::Output(key) => {
                values.extend(output(stack, key).map(|value| (setting.variable, value.to_owned())));
            }
            InStack::Parameter(key) => match parameter(stack, key) {
                Some(value) => values.extend([(setting.variable, value.to_owned())]),
                None => missing.push(setting.variable),
            },
        }
    }
    if stage(stack) == Stage::Finished && !values.contains_key(POLICY_ARN.variable) {
        return Err(CliError::Usage(format!(
            "the stack {} has no output PolicyArn, so it is not a stack of force-mfa. Correct --stack",
            stack.stack_name().unwrap_or_default()
        )));
    }
    if !missing.is_empty()
        && let Some(function) = output(stack, "FunctionName")
    {
        // The CDK construct writes values in place of the parameters. Without the function's variables we would take
        // the defaults, and a sweep would attach the policy to exempt users.
        let mut variables = function_variables(config, home, function).await?;
        values.extend(missing.into_iter().filter_map(|variable| Some((variable, variables.remove(variable)?))));
    }
    Ok(values)
}

async fn function_variables(
    config: &SdkConfig,
    home: &Region,
    function: &str,
) -> Result<HashMap<String, String>, CliError> {
    let config = aws_sdk_lambda::config::Builder::from(config).region(home.clone()).build();
    let client = aws_sdk_lambda::Client::from_conf(config);
    let answer = client.get_function_configuration().function_name(function).send().await;
    let answer = answer.map_err(|error| FailedCall::new("lambda:GetFunctionConfiguration", &error))?;
    // Lambda leaves the variables out if the caller may not decrypt them.
    answer.environment.and_then(|environment| environment.variables).ok_or_else(|| {
        CliError::Failed(format!(
            "Lambda does not show the variables of the function {function}, so its settings are not known"
        ))
    })
}
