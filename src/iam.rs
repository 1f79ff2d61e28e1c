//! The few IAM calls, and their errors by meaning. No other module knows the SDK.

mod error;
mod lists;
#[cfg(feature = "cli")]
mod operator;
mod paced;

use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::identity::IdentityCache;
use aws_config::meta::region::ProvideRegion;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_iam::Client;
use aws_sdk_iam::config::SharedCredentialsProvider;
use aws_sdk_iam::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_iam::config::http::HttpRequest;
use aws_sdk_iam::config::retry::RetryConfig;
use aws_sdk_iam::config::timeout::TimeoutConfig;
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector, http_client_fn};
use aws_smithy_types::byte_stream::ByteStream;
use chrono::{DateTime, Utc};

pub use self::error::{IamError, IamErrorKind};
use self::error::{PassingConflict, unusable};
pub use self::lists::{ListedUser, PolicyVersion};
use self::paced::{Paced, Patience};
use crate::https::Https;
use crate::identifiers::{GroupName, PolicyArn, UserName};

/// TCP connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of one attempt. IAM's writes take well under a second; a few take some seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout of a call with all its attempts.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts of a call, the first included, with growing random pauses of at most [`MAX_BACKOFF`] between.
const ATTEMPTS: u32 = 5;
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What exempts a user beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAttributes {
    /// The path, `/` if it has none.
    pub path: String,
    /// The tags, as pairs of key and value.
    pub tags: Vec<(String, String)>,
}

/// The IAM of one account.
#[derive(Clone, Debug)]
pub struct Iam {
    client: Client,
    connector: SharedHttpConnector,
    endpoint: Option<String>,
    paced: Option<Arc<Paced>>,
}

impl Iam {
    /// A client with what a Lambda function is given: its environment, and nothing else. No profile and no metadata
    /// service is looked at, and so none of what would do that is part of the binary.
    pub async fn from_env() -> Self {
        let set = |variable| std::env::var(variable).ok().filter(|value| !value.is_empty());
        let yes = |variable| set(variable).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
            .identity_cache(IdentityCache::no_cache())
            .region(EnvironmentVariableRegionProvider::new().region().await)
            .use_fips(yes("AWS_USE_FIPS_ENDPOINT"))
            .use_dual_stack(yes("AWS_USE_DUALSTACK_ENDPOINT"));
        if !yes("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
            config.set_endpoint_url(set("AWS_ENDPOINT_URL_IAM").or_else(|| set("AWS_ENDPOINT_URL")));
        }
        Self::new(&config.build()).await
    }

    /// A client with the given configuration's credentials, region, endpoint and FIPS setting.
    pub async fn new(config: &SdkConfig) -> Self {
        Self::with_connector(config, SharedHttpConnector::new(Https::new(CONNECT_TIMEOUT))).await
    }

    /// The same over another connector, such as one that answers in IAM's place.
    pub async fn with_connector(config: &SdkConfig, connector: SharedHttpConnector) -> Self {
        let shared = connector.clone();
        let iam = aws_sdk_iam::config::Builder::from(config)
            .http_client(http_client_fn(move |_, _| shared.clone()))
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(ATTEMPTS)
                    .with_initial_backoff(INITIAL_BACKOFF)
                    .with_max_backoff(MAX_BACKOFF),
            )
            .retry_classifier(PassingConflict)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT)
                    .build(),
            )
            .stalled_stream_protection(aws_sdk_iam::config::StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::from_conf(iam), connector, endpoint: endpoint(config).await, paced: None }
    }

    /// Opens the connection that the first call will use, with a request that is no API call. While a Lambda starts it
    /// has a whole core, afterwards at the smallest memory size a fourteenth of one: TLS belongs into the start.
    ///
    /// Ignores a failure: the first call then connects by itself, and reports what is wrong.
    pub async fn warm(&self) {
        let Some(Ok(request)) = self.endpoint.as_deref().map(HttpRequest::get) else {
            return;
        };
        let _ = tokio::time::timeout(ATTEMPT_TIMEOUT, async {
            // A connection goes back into the pool when its body has been read to the end.
            let body = self.connector.call(request).await.ok()?.into_body();
            ByteStream::new(body).collect().await.ok()
        })
        .await;
    }

    /// Attaches a managed policy to a user. Idempotent.
    ///
    /// # Errors
    /// `NoSuchEntity` if the user or the policy does not exist, `LimitExceeded` if the user's quota is full.
    pub async fn attach_user_policy(&self, user: &UserName, policy: &PolicyArn) -> Result<(), IamError> {
        let call = self.client.attach_user_policy().user_name(user.as_str()).policy_arn(policy.as_str());
        self.send("AttachUserPolicy", Patience::OneUser, || call.clone().send()).await.map(drop)
    }

    /// Adds a user to a group. Idempotent.
    ///
    /// # Errors
    /// `NoSuchEntity` if the user or the group does not exist, `LimitExceeded` if the user is in ten groups.
    pub async fn add_user_to_group(&self, user: &UserName, group: &GroupName) -> Result<(), IamError> {
        let call = self.client.add_user_to_group().user_name(user.as_str()).group_name(group.as_str());
        self.send("AddUserToGroup", Patience::OneUser, || call.clone().send()).await.map(drop)
    }

    /// When the user got its console password; `None` if it has none, or does not exist.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn login_profile_created_at(&self, user: &UserName) -> Result<Option<DateTime<Utc>>, IamError> {
        const CALL: &str = "GetLoginProfile";
        let call = self.client.get_login_profile().user_name(user.as_str());
        let answer = none_if_missing(self.send(CALL, Patience::OneUser, || call.clone().send()).await)?;
        answer.map(|answer| require_date(CALL, answer.login_profile.map(|profile| profile.create_date))).transpose()
    }

    /// The user's path and tags; `None` if it does not exist, or is not visible yet.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn user(&self, user: &UserName) -> Result<Option<UserAttributes>, IamError> {
        const CALL: &str = "GetUser";
        let call = self.client.get_user().user_name(user.as_str());
        let Some(answer) = none_if_missing(self.send(CALL, Patience::OneUser, || call.clone().send()).await)? else {
            return Ok(None);
        };
        // Without one, an exempt path would not be seen.
        let Some(user) = answer.user.filter(|user| !user.path.is_empty()) else {
            return Err(unusable(CALL, "answer", "it has no path"));
        };
        let tags = user.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value)).collect();
        Ok(Some(UserAttributes { path: user.path, tags }))
    }
}

/// A date that decides who is new. The SDK replaces a missing date by the epoch; that must not count as an old date.
fn require_date(
    call: &'static str,
    time: Option<aws_sdk_iam::primitives::DateTime>,
) -> Result<DateTime<Utc>, IamError> {
    let time = time.filter(|time| time.secs() != 0).map(utc);
    time.ok_or_else(|| unusable(call, "answer", "it has no date of creation"))
}

/// The URL that the client calls, resolved as the client does it; `None` if that fails, which its first call reports.
async fn endpoint(config: &SdkConfig) -> Option<String> {
    let for_iam = std::env::var("AWS_ENDPOINT_URL_IAM").ok().filter(|url| !url.is_empty());
    if let Some(configured) = for_iam.or_else(|| config.endpoint_url().map(str::to_owned)) {
        return Some(configured);
    }
    let params = Params::builder()
        .region(config.region()?.as_ref())
        .set_use_fips(config.use_fips())
        .set_use_dual_stack(config.use_dual_stack())
        .build()
        .ok()?;
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.ok()?;
    Some(endpoint.url().to_owned())
}

fn none_if_missing<T>(answer: Result<T, IamError>) -> Result<Option<T>, IamError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind == IamErrorKind::NoSuchEntity => Ok(None),
        Err(error) => Err(error),
    }
}

/// In whole seconds, as in the credential report. So two times within a second compare as equal.
fn utc(time: aws_sdk_iam::primitives::DateTime) -> DateTime<Utc> {
    DateTime::from_timestamp(time.secs(), 0).unwrap_or_default()
}
