//! Who is asking, of which account, with which settings: flags, then environment, then the stack's own parameters.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudformation::types::Stack;
use aws_sdk_sts::config::ProvideCredentials;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use force_mfa::iam::Iam;
use force_mfa::identifiers::PolicyArn;
use force_mfa::settings::{BadSettings, Settings};

use crate::error::{CliError, FailedCall, error_chain};
use crate::terminal::note;

/// The name of the stack, the function and the policy, unless the stack was given others.
const NAME: &str = "force-mfa";

/// The longest time for reading an account or for a sweep. Lambda sets no deadline here.
pub const TIME_LIMIT: Duration = Duration::from_mins(30);

/// Flags of every command that calls AWS.
#[expect(clippy::doc_markdown, reason = "the comments are the help, which is no Markdown")]
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "AWS")]
pub struct Flags {
    /// Profile of ~/.aws/config to take the credentials from [default: AWS_PROFILE, else the usual chain]
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// Region to sign for [default: AWS_REGION, else the profile's, else us-east-1]. The stack and its rules are looked
    /// for in the home region of its partition whatever it is
    #[arg(long, global = true, value_name = "REGION")]
    region: Option<String>,
    /// URL to call in place of every AWS service, such as an emulator's
    #[arg(long, global = true, value_name = "URL", value_parser = url)]
    endpoint_url: Option<String>,
    /// Stack to take the policy and the settings from
    #[arg(long, global = true, value_name = "NAME", default_value = NAME)]
    stack: String,

    /// The policy [FORCE_MFA_POLICY_ARN]. Without it the stack is asked, which then gives every setting that has
    /// neither flag nor variable; without a stack, the policy named force-mfa is taken
    #[arg(long, global = true, value_name = "ARN", help_heading = "Settings")]
    policy_arn: Option<String>,
    /// enforce or report [FORCE_MFA_MODE]
    #[arg(long, global = true, value_name = "MODE", help_heading = "Settings")]
    mode: Option<String>,
    /// console-users or all-users [FORCE_MFA_SCOPE]
    #[arg(long, global = true, value_name = "SCOPE", help_heading = "Settings")]
    scope: Option<String>,
    /// report or enforce, for console users from before the policy [FORCE_MFA_EXISTING_USERS]
    #[arg(long, global = true, value_name = "MODE", help_heading = "Settings")]
    existing_users: Option<String>,
    /// User names to leave alone, such as break-glass-*,ci [FORCE_MFA_EXEMPT_USERS]
    #[arg(long, global = true, value_name = "NAMES", help_heading = "Settings")]
    exempt_users: Option<String>,
    /// Paths whose users to leave alone, such as /service/ [FORCE_MFA_EXEMPT_PATHS]
    #[arg(long, global = true, value_name = "PATHS", help_heading = "Settings")]
    exempt_paths: Option<String>,
    /// Tag whose users to leave alone, key or key=value [FORCE_MFA_EXEMPT_TAG]
    #[arg(long, global = true, value_name = "TAG", help_heading = "Settings")]
    exempt_tag: Option<String>,
    /// Group for users whose quota of policies is full [FORCE_MFA_OVERFLOW_GROUP]
    #[arg(long, global = true, value_name = "GROUP", help_heading = "Settings")]
    overflow_group: Option<String>,
}

fn url(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("it must begin with http:// or https://, such as http://127.0.0.1:5000"),
    }
}

impl Flags {
    /// The stack's name.
    pub fn stack(&self) -> &str {
        &self.stack
    }

    /// The value that the operator gives a settings variable: by its flag, else by itself.
    fn given(&self, variable: &str) -> Option<String> {
        let flag = match variable {
            "FORCE_MFA_POLICY_ARN" => &self.policy_arn,
            "FORCE_MFA_MODE" => &self.mode,
            "FORCE_MFA_SCOPE" => &self.scope,
            "FORCE_MFA_EXISTING_USERS" => &self.existing_users,
            "FORCE_MFA_EXEMPT_USERS" => &self.exempt_users,
            "FORCE_MFA_EXEMPT_PATHS" => &self.exempt_paths,
            "FORCE_MFA_EXEMPT_TAG" => &self.exempt_tag,
            "FORCE_MFA_OVERFLOW_GROUP" => &self.overflow_group,
            _ => &None,
        };
        flag.clone().or_else(|| std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned()))
    }
}

/// An account, ready to be asked.
#[derive(Debug)]
pub struct Session {
    /// Credentials, region and endpoint.
    pub config: SdkConfig,
    /// The region of the stack, its rules and its queues.
    pub home: Region,
    /// The account's IAM.
    pub iam: Iam,
    /// The settings.
    pub settings: Settings,
}

impl Session {
    /// Signs in, and finds the policy and the settings. `None` if there is no policy to be found, of which the operator
    /// has been told.
    ///
    /// # Errors
    /// If the settings cannot be used, there are no credentials, or AWS does not answer.
    pub async fn open(flags: &Flags) -> Result<Option<Self>, CliError> {
        // The clients' futures are large.
        Box::pin(Self::find(flags)).await
    }

    async fn find(flags: &Flags) -> Result<Option<Self>, CliError> {
        // What is wrong with the settings is told before AWS is asked anything.
        let given = |variable: &str| flags.given(variable);
        let with_some_policy = Settings::read(|variable| {
            let is_set = given(variable).is_some_and(|value| !value.trim().is_empty());
            if variable == "FORCE_MFA_POLICY_ARN" && !is_set {
                return Some(format!("arn:aws:iam::123456789012:policy/{NAME}"));
            }
            given(variable)
        });
        with_some_policy.map_err(|error| unusable(&error))?;

        let config = configuration(flags).await;
        signed_in(&config, flags.profile.as_deref()).await?;
        let home = home_region(config.region());
        let iam = Iam::new(&config).await;
        if let Ok(settings) = Settings::read(given) {
            return Ok(Some(Self { config, home, iam, settings }));
        }
        let from_stack = stack(&config, &home, &flags.stack).await?.map(|stack| settings_of(&stack));
        let from_stack = match from_stack.filter(|settings| settings.contains_key("FORCE_MFA_POLICY_ARN")) {
            Some(settings) => settings,
            None if flags.stack != NAME => {
                return Err(CliError::Usage(format!(
                    "there is no stack {} in {home} that tells its policy; correct --stack, or give --policy-arn",
                    flags.stack
                )));
            }
            None => {
                let Some(policy) = the_policy_named(&iam, NAME).await? else { return Ok(None) };
                note(&format!(
                    "No stack {} in {home}: the policy is taken by its name, settings from flags and environment alone.",
                    flags.stack
                ));
                HashMap::from([("FORCE_MFA_POLICY_ARN", policy.to_string())])
            }
        };
        let settings = Settings::read(|variable| {
            given(variable).filter(|value| !value.trim().is_empty()).or_else(|| from_stack.get(variable).cloned())
        });
        let settings = settings.map_err(|error| unusable(&error))?;
        Ok(Some(Self { config, home, iam, settings }))
    }

    /// The same, for commands that can do nothing without a policy.
    ///
    /// # Errors
    /// As [`Session::open`], and if there is no policy.
    pub async fn open_with_policy(flags: &Flags) -> Result<Self, CliError> {
        Self::open(flags).await?.ok_or_else(|| {
            CliError::Failed(format!(
                "there is neither a stack {} nor a policy {NAME} in this account. Deploy the stack, or say which with \
                 --stack or --policy-arn",
                flags.stack
            ))
        })
    }
}

fn unusable(error: &BadSettings) -> CliError {
    CliError::Usage(format!("{error}\nor the flags of the same names (FORCE_MFA_MODE is --mode)"))
}

async fn configuration(flags: &Flags) -> SdkConfig {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut profile_region = ProfileFileRegionProvider::builder();
    if let Some(profile) = &flags.profile {
        profile_region = profile_region.profile_name(profile);
    }
    let region = RegionProviderChain::first_try(flags.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile_region.build())
        .or_else(Region::from_static("us-east-1"))
        .region()
        .await;
    let mut loader =
        aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http.clone()).region(region.clone());
    if let Some(profile) = &flags.profile {
        // Asked for by name, it goes before keys that are left in the environment.
        let provider = ProviderConfig::without_region().with_region(region).with_http_client(http);
        let credentials = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&provider).build();
        loader = loader.profile_name(profile).credentials_provider(credentials);
    }
    if let Some(url) = &flags.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}

async fn signed_in(config: &SdkConfig, profile: Option<&str>) -> Result<(), CliError> {
    let of = profile.map(|profile| format!(" in the profile {profile}")).unwrap_or_default();
    let none = |why: String| {
        CliError::NotAllowed(format!(
            "no AWS credentials{of}. Name a profile with --profile or AWS_PROFILE and sign in to it (`aws sso login`, \
             `aws login`), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. What was tried: {}",
            why.trim_end_matches('.')
        ))
    };
    let provider = config.credentials_provider().ok_or_else(|| none("none are configured".to_owned()))?;
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(none(error_chain(&error))),
    }
}

/// Where a partition's IAM events go, and so where the stack is.
fn home_region(region: Option<&Region>) -> Region {
    Region::from_static(match region.map_or("", Region::as_ref) {
        region if region.starts_with("cn-") => "cn-north-1",
        region if region.starts_with("us-gov-") => "us-gov-west-1",
        _ => "us-east-1",
    })
}

/// The stack of this name, or the one that StackSets made under this name, which has a suffix.
async fn stack(config: &SdkConfig, home: &Region, name: &str) -> Result<Option<Stack>, CliError> {
    const ACTION: &str = "cloudformation:DescribeStacks";
    let config = aws_sdk_cloudformation::config::Builder::from(config).region(home.clone()).build();
    let client = aws_sdk_cloudformation::Client::from_conf(config);
    match client.describe_stacks().stack_name(name).send().await {
        Ok(answer) => return Ok(answer.stacks.unwrap_or_default().into_iter().next()),
        Err(error) => {
            let call = FailedCall::new(ACTION, &error);
            if !(call.code() == Some("ValidationError") && call.answer().contains("does not exist")) {
                return Err(or_name_it(call.into()));
            }
        }
    }
    let of_a_stack_set = format!("StackSet-{name}-");
    let mut found = Vec::new();
    let mut pages = client.describe_stacks().into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| or_name_it(FailedCall::new(ACTION, &error).into()))?;
        let named = |stack: &Stack| stack.stack_name().is_some_and(|name| name.starts_with(&of_a_stack_set));
        found.extend(page.stacks.unwrap_or_default().into_iter().filter(named));
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().filter_map(Stack::stack_name).collect();
        return Err(CliError::Usage(format!("there are several stacks; say which with --stack: {}", names.join(", "))));
    }
    Ok(found.pop())
}

/// The stack need not be asked.
fn or_name_it(stop: CliError) -> CliError {
    let hint = "Or give --policy-arn, and whatever else is not as by default: the stack is then not asked";
    match stop {
        CliError::NotAllowed(message) => CliError::NotAllowed(format!("{message}. {hint}")),
        stop => CliError::Failed(format!("{stop}. {hint}")),
    }
}

/// The settings that the stack gives its function: what was put into it, and what it made.
fn settings_of(stack: &Stack) -> HashMap<&'static str, String> {
    let parameter = |key: &str| {
        let parameter = stack.parameters().iter().find(|parameter| parameter.parameter_key() == Some(key))?;
        parameter.resolved_value().or(parameter.parameter_value()).map(str::to_owned)
    };
    let output = |key: &str| {
        let output = stack.outputs().iter().find(|output| output.output_key() == Some(key))?;
        output.output_value().map(str::to_owned)
    };
    [
        ("FORCE_MFA_POLICY_ARN", output("PolicyArn")),
        ("FORCE_MFA_MODE", parameter("Mode")),
        ("FORCE_MFA_SCOPE", parameter("Scope")),
        ("FORCE_MFA_EXISTING_USERS", parameter("ExistingUsers")),
        ("FORCE_MFA_EXEMPT_USERS", parameter("ExemptUsers")),
        ("FORCE_MFA_EXEMPT_PATHS", parameter("ExemptPaths")),
        ("FORCE_MFA_EXEMPT_TAG", parameter("ExemptTag")),
        ("FORCE_MFA_OVERFLOW_GROUP", output("OverflowGroupName")),
    ]
    .into_iter()
    .filter_map(|(variable, value)| value.map(|value| (variable, value)))
    .collect()
}

async fn the_policy_named(iam: &Iam, name: &str) -> Result<Option<PolicyArn>, CliError> {
    let mut policies = iam.policies_named(name).await?;
    if policies.len() > 1 {
        let policies: Vec<&str> = policies.iter().map(PolicyArn::as_str).collect();
        return Err(CliError::Usage(format!(
            "there are several policies named {name}; say which with --policy-arn: {}",
            policies.join(", ")
        )));
    }
    Ok(policies.pop())
}
