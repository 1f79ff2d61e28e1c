//! Signing in: credentials, region, and the account that the credentials are of.

use std::borrow::Cow;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::config::ProvideCredentials;
use aws_smithy_runtime_api::client::http::{SharedHttpConnector, http_client_fn};
use aws_types::os_shim_internal::{Env, Fs};
use force_mfa::iam::Iam;

use crate::error::{CliError, FailedCall, error_chain};
use crate::http;

/// Flags that decide which credentials sign the calls, and where the calls go.
#[expect(clippy::doc_markdown, reason = "the comments are the help, which is no Markdown")]
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "AWS")]
pub struct SignInFlags {
    /// Profile of ~/.aws/config to take the credentials from [default: AWS_PROFILE, else the usual chain]
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Region to sign for [default: AWS_REGION, else the profile's, else us-east-1]. The stack is always looked for in
    /// the home region of the partition
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// URL to call in place of every AWS service, such as an emulator's
    #[arg(long, global = true, value_name = "URL", value_parser = url)]
    pub endpoint_url: Option<String>,
}

fn url(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("it must begin with http:// or https://, such as http://127.0.0.1:5000"),
    }
}

/// Whose credentials these are, and the clients' configuration.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Credentials, region and endpoint.
    pub config: SdkConfig,
    /// The account's IAM.
    pub iam: Iam,
    /// Whose credentials these are.
    pub caller: Caller,
}

/// Whose credentials these are.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The number of the account.
    pub account: String,
    /// The partition, such as `aws`.
    pub partition: String,
    /// The ARN of the user or the role session.
    pub arn: String,
}

impl SignedIn {
    /// Finds credentials, and asks STS whose they are. STS answers whatever the caller's policies deny.
    ///
    /// # Errors
    /// If there are no credentials, STS does not know them, or it does not answer.
    pub async fn new(flags: &SignInFlags) -> Result<Self, CliError> {
        let profiles = profiles(flags.profile.as_deref()).await;
        let connector = http::connector(profiles.as_ref().and_then(|profiles| profiles.get("ca_bundle")))?;
        let config = sdk_config(flags, connector.clone()).await;
        require_credentials(&config, flags.profile.as_deref(), profiles.as_ref()).await?;
        let caller = Caller::ask(&config).await?;
        let iam = Iam::with_connector(&config, connector).await;
        Ok(Self { config, iam, caller })
    }
}

impl Caller {
    async fn ask(config: &SdkConfig) -> Result<Self, CliError> {
        let answer = aws_sdk_sts::Client::new(config).get_caller_identity().send().await;
        let answer = answer.map_err(|error| FailedCall::new("sts:GetCallerIdentity", &error))?;
        let account = answer.account.ok_or_else(|| CliError::Failed("sts:GetCallerIdentity: no account".to_owned()))?;
        let arn = answer.arn.unwrap_or_default();
        let partition = arn.split(':').nth(1).unwrap_or("aws").to_owned();
        Ok(Self { account, partition, arn })
    }
}

async fn sdk_config(flags: &SignInFlags, connector: SharedHttpConnector) -> SdkConfig {
    // One connector for every service: it holds the trust store, which takes a while to read.
    let http = http_client_fn(move |_, _| connector.clone());
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

/// The profiles of `~/.aws`; `None` if they cannot be read, which the search for credentials reports.
#[expect(clippy::default_trait_access, reason = "the type is in a crate that nothing else here uses")]
async fn profiles(selected: Option<&str>) -> Option<ProfileSet> {
    let selected = selected.map(|profile| Cow::Owned(profile.to_owned()));
    aws_config::profile::load(&Fs::real(), &Env::real(), &Default::default(), selected).await.ok()
}

async fn require_credentials(
    config: &SdkConfig,
    profile: Option<&str>,
    profiles: Option<&ProfileSet>,
) -> Result<(), CliError> {
    let none = |why: &str| CliError::NotAllowed(no_credentials(profile, profiles, why.trim_end_matches('.')));
    let provider = config.credentials_provider().ok_or_else(|| none("none are configured"))?;
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(none(&error_chain(&error))),
    }
}

fn no_credentials(profile: Option<&str>, profiles: Option<&ProfileSet>, why: &str) -> String {
    if let Some(with_mfa) = profiles.and_then(profile_with_mfa) {
        // The SDK ignores mfa_serial without a word (aws-sdk-rust issue 527).
        return format!(
            "no AWS credentials. The profile {with_mfa} has mfa_serial, but force-mfa does not ask for MFA codes. For a \
             profile with role_arn, let the AWS CLI sign in: add a profile with the line `credential_process = aws \
             configure export-credentials --profile {with_mfa} --format process`, and name that one with --profile. For \
             a profile with access keys, get a session with `aws sts get-session-token --serial-number ARN --token-code \
             CODE` and set its three values as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. What was \
             tried: {why}"
        );
    }
    let of = profile.map(|profile| format!(" in the profile {profile}")).unwrap_or_default();
    format!(
        "no AWS credentials{of}. Name a profile with --profile or AWS_PROFILE and sign in to it (`aws sso login`, `aws \
         login`), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. What was tried: {why}"
    )
}

/// The first profile with `mfa_serial`, from the selected one along `source_profile`.
fn profile_with_mfa(profiles: &ProfileSet) -> Option<&str> {
    let mut name = profiles.selected_profile();
    // A chain that is longer, or a circle, is a mistake that the search for credentials reports.
    for _ in 0..10 {
        let profile = profiles.get_profile(name)?;
        if profile.get("mfa_serial").is_some() {
            return Some(name);
        }
        name = profile.get("source_profile")?;
    }
    None
}

/// The home region of the partition: CloudTrail delivers IAM's events there, so the stack is there.
pub fn home_region(region: Option<&Region>) -> Region {
    Region::from_static(match region.map_or("", Region::as_ref) {
        region if region.starts_with("cn-") => "cn-north-1",
        region if region.starts_with("us-gov-") => "us-gov-west-1",
        _ => "us-east-1",
    })
}
