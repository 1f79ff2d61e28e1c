//! Which stack a command looks for, and whether the stack that it finds will do.

use aws_config::{Region, SdkConfig};
use aws_sdk_cloudformation::types::Stack;
use force_mfa::identifiers::PolicyArn;

use crate::error::CliError;
use crate::sign_in::{self, Caller};
use crate::stack::{self, Stage};
use crate::terminal::note;

/// The name of the stack, the function and the policy, unless the stack was given others.
pub const NAME: &str = "force-mfa";

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
    /// The one that the operator names, or the one that a stack set of this name made.
    Named(&'a str),
}

impl<'a> StackName<'a> {
    /// The one that the operator names, if they name one.
    pub fn of(name: Option<&'a str>) -> Self {
        name.map_or(Self::Default, Self::Named)
    }

    const fn name(self) -> &'a str {
        match self {
            Self::None | Self::Default => NAME,
            Self::Named(name) => name,
        }
    }

    /// Finds the stack in the account of the caller.
    ///
    /// # Errors
    /// If CloudFormation does not answer.
    pub async fn find(
        self,
        config: &SdkConfig,
        caller: &Caller,
        policy: Option<&PolicyArn>,
    ) -> Result<Option<Stack>, CliError> {
        if matches!(self, Self::None) {
            return Ok(None);
        }
        let name = self.name();
        let home = sign_in::home_region(config.region());
        let policy = policy.map_or_else(|| default_policy(caller), |policy| Ok(policy.clone()))?.to_string();
        // The template gives the function the name of the policy.
        let function = policy.rsplit('/').next().unwrap_or(NAME).to_owned();
        let found = stack::find(config, &home, name, &[function, policy]).await?;
        let of_a_stack_set = format!("StackSet-{name}-");
        Ok(found.filter(|stack| match (self, stack.stack_name()) {
            (Self::Named(_), Some(found)) => found == name || found.starts_with(&of_a_stack_set),
            (Self::None | Self::Default, _) | (_, None) => true,
        }))
    }

    /// Whether what was found will do for the purpose.
    pub fn check(self, found: Option<Stack>, home: &Region, purpose: Purpose) -> Result<Option<Stack>, CliError> {
        let name = self.name();
        match (found, self, purpose) {
            (None, Self::None, _) => Ok(None),
            (Some(stack), _, _) => usable(stack, purpose).map(Some),
            (None, Self::Named(_), _) => {
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

/// The policy as the template names it by default.
///
/// # Errors
/// If STS gave an account that IAM does not have.
pub fn default_policy(Caller { account, partition, .. }: &Caller) -> Result<PolicyArn, CliError> {
    PolicyArn::new(&format!("arn:{partition}:iam::{account}:policy/{NAME}"))
        .ok_or_else(|| CliError::Failed(format!("sts:GetCallerIdentity: {account} is no account ID")))
}
