//! Which stack a command looks for, and whether the stack that it finds will do.

use aws_config::{Region, SdkConfig};
use aws_sdk_cloudformation::types::Stack;
use force_mfa::identifiers::PolicyArn;

use crate::error::CliError;
use crate::sign_in::Caller;
use crate::stack::{self, Stage};
use crate::terminal::note;

/// The name of the stack, and the template's default `NamePrefix`, which names the function and the policy.
const NAME: &str = "force-mfa";

/// What a command is going to do. It decides what the command needs to know of the stack first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Only read.
    Read,
    /// Change what the installation would change, with the settings of the installation.
    Write,
    /// Delete what a deleted stack has left.
    Uninstall,
}

/// Which stack to look for.
#[derive(Clone, Copy, Debug)]
pub enum StackName<'a> {
    /// None.
    None,
    /// The one of the default name, or the one that has the function or the policy.
    Default,
    /// The one that the operator names: the stack, the stack set that made it, or its `NamePrefix`.
    Named(&'a str),
}

impl<'a> StackName<'a> {
    /// The one that the operator names, if they name one.
    pub fn of(name: Option<&'a str>) -> Self {
        name.map_or(Self::Default, Self::Named)
    }

    /// The name that is looked for.
    pub const fn name(self) -> &'a str {
        match self {
            Self::None | Self::Default => NAME,
            Self::Named(name) => name,
        }
    }

    /// The names that the policy may have, the likeliest first: a stack set may have another name than its `NamePrefix`.
    pub fn policy_names(self) -> Vec<&'a str> {
        match self {
            Self::Named(name) if name != NAME => vec![name, NAME],
            Self::None | Self::Default | Self::Named(_) => vec![NAME],
        }
    }

    /// The policy of the name that is looked for.
    ///
    /// # Errors
    /// If STS gave an account that IAM does not have, or the name is none that a policy can have.
    pub fn policy(self, caller: &Caller) -> Result<PolicyArn, CliError> {
        policy_named(self.name(), caller)
    }

    /// Finds the stack in a region of the caller's account. `policy` is the one that the operator names, if any.
    ///
    /// # Errors
    /// If CloudFormation does not answer.
    pub async fn find(
        self,
        config: &SdkConfig,
        region: &Region,
        caller: &Caller,
        policy: Option<&PolicyArn>,
    ) -> Result<Option<Stack>, CliError> {
        if matches!(self, Self::None) {
            return Ok(None);
        }
        let other = policy.map_or_else(|| policy_named(NAME, caller), |policy| Ok(policy.clone()))?;
        let mut policies = vec![other];
        if let Self::Named(name) = self {
            policies.insert(0, policy_named(name, caller)?);
        }
        policies.dedup();
        // The template gives the function the name of the policy.
        let physical_ids: Vec<&str> = policies.iter().flat_map(|policy| [policy.name(), policy.as_str()]).collect();
        stack::find(config, region, self.name(), &physical_ids, |stack| self.is_meant(stack)).await
    }

    /// Whether a stack that has one of the functions or policies is the one that is looked for. If a name is given, the
    /// stack with the default function is another installation, unless the stack set of that name made it.
    fn is_meant(self, stack: &Stack) -> bool {
        match self {
            Self::None | Self::Default => true,
            Self::Named(name) => {
                let of_the_stack_set = format!("StackSet-{name}-");
                let policy = stack::output(stack, "PolicyArn").and_then(PolicyArn::new);
                stack.stack_name().is_some_and(|found| found.starts_with(&of_the_stack_set))
                    || policy.is_some_and(|policy| policy.name() == name)
            }
        }
    }

    /// Whether what was found will do for the purpose.
    pub fn check(self, found: Option<Stack>, home: &Region, purpose: Purpose) -> Result<Option<Stack>, CliError> {
        let name = self.name();
        match (found, self, purpose) {
            (None, Self::None, _) => Ok(None),
            (Some(stack), _, _) => usable(stack, purpose).map(Some),
            (None, Self::Named(_), Purpose::Write) => {
                Err(CliError::Usage(format!("there is no stack {name} in {home}: nothing was done. Correct --stack")))
            }
            (None, _, Purpose::Write) => Err(CliError::Usage(format!(
                "there is no stack {name} in {home}, so the exemptions, the mode and the overflow group of the \
                 installation are not known: nothing was done. Name the stack with --stack; or pass --no-stack, and by \
                 its flag each setting that is not the default"
            ))),
            (None, _, Purpose::Read | Purpose::Uninstall) => {
                note(&format!("No stack {name} in {home}: the settings come from flags, variables and defaults only."));
                Ok(None)
            }
        }
    }
}

/// What to say of a stack whose last operation runs or has failed: it may have other settings than its function.
pub fn unfinished(stack: &Stack) -> Option<String> {
    let (name, status) = (stack.stack_name().unwrap_or_default(), stack.stack_status().map_or("", |s| s.as_str()));
    let says = || format!("the stack {name} is {status}. Its settings may not be those of the function");
    (stack::stage(stack) != Stage::Finished).then(says)
}

fn usable(stack: Stack, purpose: Purpose) -> Result<Stack, CliError> {
    match (unfinished(&stack), purpose) {
        (None, _) => Ok(stack),
        (Some(unfinished), Purpose::Read) => {
            note(&format!("Warning: {unfinished}."));
            Ok(stack)
        }
        (Some(unfinished), Purpose::Write | Purpose::Uninstall) => Err(CliError::Usage(format!(
            "{unfinished}: nothing was done. Wait until the stack's operation ends, or repair the stack; or pass \
             --no-stack, and by its flag each setting that is not the default"
        ))),
    }
}

/// The policy of this name in the caller's account, as the template makes it: without a path.
fn policy_named(name: &str, Caller { account, partition, .. }: &Caller) -> Result<PolicyArn, CliError> {
    PolicyArn::new(&format!("arn:{partition}:iam::{account}:policy/{name}")).ok_or_else(|| {
        CliError::Usage(format!("account {account} can have no policy {name}: nothing was done. Correct --stack"))
    })
}
