//! An account that a command works on: whose credentials these are, the stack, and the settings.

use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_cloudformation::types::Stack;
use force_mfa::iam::Iam;
use force_mfa::identifiers::PolicyArn;
use force_mfa::settings::{POLICY_ARN, Settings};

use crate::error::CliError;
use crate::setting_sources::{GivenSettings, ResolvedSettings, SettingFlags, Values};
use crate::sign_in::{self, Caller, SignInFlags, SignedIn};
use crate::stack;
use crate::stack_name::{Purpose, StackName};

/// The longest time for reading an account or for a sweep. Lambda sets no deadline here.
pub const TIME_LIMIT: Duration = Duration::from_mins(30);

/// Flags of every command that calls AWS.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "AWS")]
pub struct Flags {
    #[command(flatten)]
    pub sign_in: SignInFlags,
    /// Stack that has the policy and the settings, or the prefix of all its names [default: force-mfa]
    #[arg(long, global = true, value_name = "NAME")]
    pub stack: Option<String>,
    /// Do not look for a stack: take the settings from flags, variables and defaults only
    #[arg(long, global = true, conflicts_with = "stack")]
    pub no_stack: bool,

    #[command(flatten)]
    pub settings: SettingFlags,
}

impl Flags {
    /// The stack to look for.
    pub fn stack_name(&self) -> StackName<'_> {
        if self.no_stack { StackName::None } else { StackName::of(self.stack.as_deref()) }
    }
}

/// One account with its settings.
#[derive(Debug)]
pub struct Session {
    /// Credentials, region and endpoint.
    pub config: SdkConfig,
    /// The number of the account.
    pub account: String,
    /// Whose credentials these are.
    pub caller: Caller,
    /// The region of the stack, its rules and its queues.
    pub home: Region,
    /// The account's IAM.
    pub iam: Iam,
    /// The settings.
    pub settings: Settings,
    /// The settings as text, with their sources.
    pub resolved: ResolvedSettings,
    /// The stack, unless there is none.
    pub stack: Option<Stack>,
}

impl Session {
    /// Signs in, asks whose account it is, and finds the stack, the settings and the policy. `account` is the account
    /// that the operator means, if they say so. `None` if there is no policy.
    ///
    /// # Errors
    /// If the settings cannot be used, the account is another, the stack is not in a state for this purpose, there are
    /// no credentials, or AWS does not answer.
    pub async fn open(flags: &Flags, purpose: Purpose, account: Option<&str>) -> Result<Option<Self>, CliError> {
        // The clients' futures are large.
        Box::pin(async {
            let given = GivenSettings::new(&flags.settings)?;
            let signed_in = SignedIn::new(&flags.sign_in).await?;
            check_account(&signed_in.caller, account, given.policy().as_ref())?;
            Self::in_account(signed_in, flags.stack_name(), given, purpose).await
        })
        .await
    }

    /// The same, for commands that can do nothing without a policy.
    ///
    /// # Errors
    /// As [`Session::open`], and if there is no policy.
    pub async fn open_with_policy(flags: &Flags, purpose: Purpose) -> Result<Self, CliError> {
        Self::open(flags, purpose, None).await?.ok_or_else(|| {
            let stack = flags.stack_name();
            let name = stack.name();
            match stack {
                StackName::None | StackName::Default => CliError::Failed(format!(
                    "there is neither a stack nor a policy named {name} in this account. Deploy the stack, or name it \
                     with --stack, or the policy with --policy-arn"
                )),
                StackName::Named(_) => CliError::Usage(format!(
                    "there is neither a stack nor a policy named {name} in this account: nothing was done. Correct --stack"
                )),
            }
        })
    }

    /// Finds the stack, the settings and the policy of an account.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn in_account(
        SignedIn { config, iam, caller }: SignedIn,
        stack: StackName<'_>,
        given: GivenSettings,
        purpose: Purpose,
    ) -> Result<Option<Self>, CliError> {
        let home = sign_in::home_region(config.region());
        let found = stack.find(&config, &home, &caller, given.policy().as_ref()).await;
        let found = found.map_err(stack::or_without_stack)?;
        let policies = [stack.name()];
        let found = match stack.check(found, &home, purpose)? {
            Some(stack) => {
                let values = stack::settings(&config, &home, &stack).await.map_err(stack::or_without_stack)?;
                Some((stack, values))
            }
            None => None,
        };
        Self::with_stack(SignedIn { config, iam, caller }, found, &policies, given).await
    }

    /// Finds the policy of an account, and its settings: `stack` is its stack with the settings of it. If neither the
    /// stack nor the operator names the policy, it is the first one that has one of the names `policies`.
    ///
    /// # Errors
    /// If the settings cannot be used, or AWS does not answer.
    pub async fn with_stack(
        SignedIn { config, iam, caller }: SignedIn,
        stack: Option<(Stack, Values)>,
        policies: &[&str],
        given: GivenSettings,
    ) -> Result<Option<Self>, CliError> {
        let home = sign_in::home_region(config.region());
        let (stack, values) = stack.unzip();
        let in_stack = values.as_ref().is_some_and(|values: &Values| values.contains_key(POLICY_ARN.variable));
        let from_stack = stack.as_ref().and_then(Stack::stack_name).unwrap_or_default();
        let from_stack = values.map(|values| (from_stack, values));
        let given = if given.policy().is_some() || in_stack {
            given
        } else {
            let Some(policy) = policy_named(&iam, policies).await? else { return Ok(None) };
            given.or_policy_by_name(&policy)
        };
        let resolved = given.resolve(from_stack)?;
        let settings = resolved.settings.clone();
        Ok(Some(Self { config, account: caller.account.clone(), caller, home, iam, settings, resolved, stack }))
    }

    /// The account, and each setting with its source: what the operator agrees to.
    pub fn summary(&self) -> String {
        format!("Account {}\n{}", self.account, self.resolved)
    }

    /// The release that is installed; `None` without a stack, or if the stack does not say it.
    pub fn release(&self) -> Option<&str> {
        stack::output(self.stack.as_ref()?, "Release")
    }
}

/// The credentials, the policy and what the operator says must be of one account.
fn check_account(caller: &Caller, named: Option<&str>, policy: Option<&PolicyArn>) -> Result<(), CliError> {
    let Caller { account, .. } = caller;
    let wrong = |what: &str, other: &str| {
        Err(CliError::Usage(format!(
            "the credentials are of account {account}, but {what} account {other}: nothing was done. Correct --profile, \
             or the account that you name"
        )))
    };
    if let Some(named) = named.filter(|named| named != account) {
        return wrong("--account is", named);
    }
    match policy.map(PolicyArn::account) {
        Some(other) if other != account => wrong("the policy is in", other),
        Some(_) | None => Ok(()),
    }
}

/// The policy that has the first of these names that any policy has.
async fn policy_named(iam: &Iam, names: &[&str]) -> Result<Option<PolicyArn>, CliError> {
    for name in names {
        let mut policies = iam.policies_named(name).await?;
        if policies.len() > 1 {
            let policies: Vec<&str> = policies.iter().map(PolicyArn::as_str).collect();
            return Err(CliError::Usage(format!(
                "there are several policies named {name}; say which with --policy-arn: {}",
                policies.join(", ")
            )));
        }
        if let Some(policy) = policies.pop() {
            return Ok(Some(policy));
        }
    }
    Ok(None)
}
