//! Credentials, region and HTTP client, and the account that the credentials are of.

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::config::ProvideCredentials;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::error::{CliError, FailedCall, error_chain};
use crate::session::Flags;

/// Whose credentials these are.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The number of the account.
    pub account: String,
    /// The partition, such as `aws`.
    pub partition: String,
}

impl Caller {
    /// Asks STS, which answers whatever the caller's policies deny.
    ///
    /// # Errors
    /// If STS does not know the credentials, or does not answer.
    pub async fn ask(config: &SdkConfig) -> Result<Self, CliError> {
        let answer = aws_sdk_sts::Client::new(config).get_caller_identity().send().await;
        let answer = answer.map_err(|error| FailedCall::new("sts:GetCallerIdentity", &error))?;
        let account = answer.account.ok_or_else(|| CliError::Failed("sts:GetCallerIdentity: no account".to_owned()))?;
        let partition = answer.arn.as_deref().and_then(|arn| arn.split(':').nth(1)).unwrap_or("aws").to_owned();
        Ok(Self { account, partition })
    }
}

/// The configuration of every client. There are credentials, but they may not be valid.
///
/// # Errors
/// If there are no credentials.
pub async fn sdk_config(flags: &Flags) -> Result<SdkConfig, CliError> {
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
    let config = loader.load().await;
    require_credentials(&config, flags.profile.as_deref()).await?;
    Ok(config)
}

async fn require_credentials(config: &SdkConfig, profile: Option<&str>) -> Result<(), CliError> {
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

/// The home region of the partition: CloudTrail delivers IAM's events there, so the stack is there.
pub fn home_region(region: Option<&Region>) -> Region {
    Region::from_static(match region.map_or("", Region::as_ref) {
        region if region.starts_with("cn-") => "cn-north-1",
        region if region.starts_with("us-gov-") => "us-gov-west-1",
        _ => "us-east-1",
    })
}
