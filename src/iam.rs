//! The few IAM calls, and their errors told apart by what they mean. Nothing else in the crate knows the SDK.

#[cfg(feature = "cli")]
mod operator;

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::identity::IdentityCache;
use aws_config::meta::region::ProvideRegion;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_iam::Client;
use aws_sdk_iam::config::SharedCredentialsProvider;
use aws_sdk_iam::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_iam::config::http::HttpRequest;
use aws_sdk_iam::config::interceptors::InterceptorContext;
use aws_sdk_iam::config::retry::{ClassifyRetry, RetryAction, RetryConfig};
use aws_sdk_iam::config::timeout::TimeoutConfig;
use aws_sdk_iam::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_iam::operation::add_user_to_group::AddUserToGroupError;
use aws_sdk_iam::operation::attach_user_policy::AttachUserPolicyError;
use aws_sdk_iam::types::{PolicyUsageType, ReportStateType};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector, http_client_fn};
use aws_smithy_types::byte_stream::ByteStream;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::https::{HANDSHAKE, Https};
use crate::identifiers::{GroupName, PolicyArn, UserName, legible};
use crate::pace::Pace;

/// A connection that is not made by then will not be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One try of a call. IAM's writes take well under a second; now and then some.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// One attempt of a call that reads the whole account: a credential report of 5,000 users takes several seconds to send.
const LONG_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// A call with all its tries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of a call, the first included, with growing random pauses of at most [`MAX_BACKOFF`] between.
const ATTEMPTS: u32 = 5;
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What an IAM call failed with, by what it means to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IamErrorKind {
    /// Something that the call names does not exist, or does not yet.
    NoSuchEntity,
    /// A quota is full.
    LimitExceeded,
    /// The caller's credentials or permissions do not do.
    AccessDenied,
    /// Too many calls, also after all retries.
    Throttled,
    /// No answer, a server error, or a state that passes, also after all retries.
    Unavailable,
    /// Anything else.
    Other,
}

impl IamErrorKind {
    /// The `errorType` of an invocation that fails for this alone.
    #[must_use]
    pub const fn error_type(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::Throttled => "throttled",
            Self::Unavailable => "iam_unavailable",
            Self::NoSuchEntity | Self::LimitExceeded | Self::Other => "iam_error",
        }
    }
}

/// A failed IAM call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {answer}")]
pub struct IamError {
    /// The API action.
    pub call: &'static str,
    /// What the failure means.
    pub kind: IamErrorKind,
    /// IAM's error code, if it answered with one.
    pub code: Option<String>,
    /// IAM's own code and message, or what happened on the way to it.
    pub answer: String,
}

/// What exempts a user beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAttributes {
    /// The path, `/` if it has none.
    pub path: String,
    /// Keys and values.
    pub tags: Vec<(String, String)>,
}

/// The IAM of one account.
#[derive(Clone, Debug)]
pub struct Iam {
    client: Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send + Sync>>>,
    connector: SharedHttpConnector,
    endpoint: Option<String>,
    paced: Option<Arc<Paced>>,
}

/// What a client for work on a whole account has beside: it retries by itself, so that each refusal reaches the pace.
struct Paced {
    pace: Pace,
    /// No attempt is made or goes on after this.
    until: Instant,
    /// Once it is true, nothing is tried again.
    stopped: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Paced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paced").field("pace", &self.pace).field("until", &self.until).finish_non_exhaustive()
    }
}

/// How long a paced call goes on, if IAM refuses it or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// About one user: a throttled call is repeated until the end, any other failure that passes a few times, so that
    /// one user does not hold up the others.
    OneUser,
    /// About the whole account: until the end, since without it nothing can be done.
    WholeAccount,
    /// One attempt, where the caller has another way.
    Once,
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
        let client = LazyLock::new(Box::new(|| Client::from_conf(iam)) as Box<_>);
        Self { client: Arc::new(client), connector, endpoint: endpoint(config).await, paced: None }
    }

    /// The same IAM for work on a whole account: all calls of this client and its clones share one [`Pace`], and what
    /// IAM throttles or fails to answer is tried again until `until`, unless `stopped` has become true. The SDK retries
    /// nothing, or it would hide throttles from the pace.
    #[must_use]
    pub fn paced(&self, until: Instant, stopped: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        // A builder keeps the timeouts that it had unless they are disabled by name.
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
        let timeouts = timeouts.disable_operation_attempt_timeout().disable_operation_timeout().build();
        let config = self.client.config().to_builder();
        let config = config.retry_config(RetryConfig::disabled()).timeout_config(timeouts).build();
        let client = LazyLock::new(Box::new(|| Client::from_conf(config)) as Box<_>);
        let paced = Paced { pace: Pace::default(), until, stopped: Box::new(stopped) };
        Self { client: Arc::new(client), paced: Some(Arc::new(paced)), ..self.clone() }
    }

    /// Makes one call: for an event as the SDK does it, with its retries; for a whole account at the pace.
    async fn send<T, E, F>(
        &self,
        call: &'static str,
        patience: Patience,
        attempt: impl Fn() -> F,
    ) -> Result<T, IamError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let Some(Paced { pace, until, stopped }) = self.paced.as_deref() else {
            return attempt().await.map_err(|error| iam_error(call, &error));
        };
        let limit = match patience {
            Patience::OneUser => ATTEMPT_TIMEOUT,
            Patience::WholeAccount | Patience::Once => LONG_ATTEMPT_TIMEOUT,
        };
        let mut last = unanswered(call, "the time was over before it could be asked");
        let mut failed_attempts: u32 = 0;
        loop {
            let Ok(turn) = tokio::time::timeout_at(*until, pace.turn()).await else { return Err(last) };
            let end = (Instant::now() + limit).min(*until);
            last = match tokio::time::timeout_at(end, attempt()).await {
                Ok(Ok(answer)) => {
                    pace.accepted(&turn);
                    return Ok(answer);
                }
                Ok(Err(error)) => iam_error(call, &error),
                Err(_) => unanswered(call, "it was waited for too long"),
            };
            let pause = match last.kind {
                IamErrorKind::Throttled => {
                    pace.refused(&turn);
                    Duration::ZERO
                }
                IamErrorKind::Unavailable => {
                    failed_attempts += 1;
                    INITIAL_BACKOFF.saturating_mul(1 << (failed_attempts - 1).min(4)).min(MAX_BACKOFF)
                }
                IamErrorKind::NoSuchEntity
                | IamErrorKind::LimitExceeded
                | IamErrorKind::AccessDenied
                | IamErrorKind::Other => {
                    pace.accepted(&turn);
                    return Err(last);
                }
            };
            let given_up = match patience {
                Patience::OneUser => failed_attempts >= ATTEMPTS,
                Patience::WholeAccount => false,
                Patience::Once => true,
            };
            if given_up || stopped() || Instant::now() + pause >= *until {
                return Err(last);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Opens the connection that the first call will use, with a request that is no API call. While a Lambda starts it
    /// has a whole core, afterwards at the smallest memory size a fourteenth of one: TLS belongs into the start.
    ///
    /// A failure is of no account: the first call then connects by itself, and tells what is wrong.
    pub async fn warm(&self) {
        let Some(Ok(request)) = self.endpoint.as_deref().map(HttpRequest::get) else {
            return;
        };
        // The client is made while the server is at work.
        let client = Arc::clone(&self.client);
        let client = tokio::spawn(async move {
            HANDSHAKE.notified().await;
            LazyLock::force(&client);
        });
        let _ = tokio::time::timeout(ATTEMPT_TIMEOUT, async {
            // A connection goes back into the pool when its body has been read to the end.
            let body = self.connector.call(request).await.ok()?.into_body();
            ByteStream::new(body).collect().await.ok()
        })
        .await;
        client.abort();
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
    pub async fn login_profile(&self, user: &UserName) -> Result<Option<DateTime<Utc>>, IamError> {
        const CALL: &str = "GetLoginProfile";
        let call = self.client.get_login_profile().user_name(user.as_str());
        let answer = found(self.send(CALL, Patience::OneUser, || call.clone().send()).await)?;
        answer.map(|answer| dated(CALL, answer.login_profile.map(|profile| profile.create_date))).transpose()
    }

    /// The user's path and tags; `None` if it does not exist, or is not visible yet.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn user(&self, user: &UserName) -> Result<Option<UserAttributes>, IamError> {
        const CALL: &str = "GetUser";
        let call = self.client.get_user().user_name(user.as_str());
        let Some(answer) = found(self.send(CALL, Patience::OneUser, || call.clone().send()).await)? else {
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

/// A user as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// The name.
    pub name: UserName,
    /// The path, `/` if it has none.
    pub path: String,
    /// When the user was made.
    pub created: DateTime<Utc>,
}

/// The calls for a whole account. A list is whole or an error, never shorter than it is; only an entry whose name no
/// call would take is left out. [`Iam::users`] returns these names.
impl Iam {
    /// Has IAM make a credential report; whether one is there already. IAM makes a new one every four hours at most.
    ///
    /// A paced client asks once: IAM may refuse this for minutes, while [`Iam::credential_report`] still has a report.
    ///
    /// # Errors
    /// If the call fails. `LimitExceeded` is no quota here, but a lack of capacity, which passes.
    /// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GenerateCredentialReport.html>
    pub async fn generate_credential_report(&self) -> Result<bool, IamError> {
        const CALL: &str = "GenerateCredentialReport";
        let call = self.client.generate_credential_report();
        let answer = self.send(CALL, Patience::Once, || call.clone().send()).await?;
        Ok(answer.state == Some(ReportStateType::Complete))
    }

    /// The credential report and when it was made; `None` if there is none, none yet, or none any more. A paced client
    /// asks once.
    ///
    /// # Errors
    /// If the call fails otherwise.
    pub async fn credential_report(&self) -> Result<Option<(Vec<u8>, DateTime<Utc>)>, IamError> {
        const CALL: &str = "GetCredentialReport";
        const NONE_NOW: [&str; 3] = ["ReportNotPresent", "ReportExpired", "ReportInProgress"];
        let call = self.client.get_credential_report();
        match self.send(CALL, Patience::Once, || call.clone().send()).await {
            Ok(answer) => {
                Ok(answer.content.zip(answer.generated_time).map(|(csv, time)| (csv.into_inner(), utc(time))))
            }
            Err(error) if error.code.as_deref().is_some_and(|code| NONE_NOW.contains(&code)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// When the policy was made; `None` if it does not exist.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn policy_created(&self, policy: &PolicyArn) -> Result<Option<DateTime<Utc>>, IamError> {
        const CALL: &str = "GetPolicy";
        let call = self.client.get_policy().policy_arn(policy.as_str());
        let answer = found(self.send(CALL, Patience::WholeAccount, || call.clone().send()).await)?;
        answer.map(|answer| dated(CALL, answer.policy.and_then(|policy| policy.create_date))).transpose()
    }

    /// The users and the groups that the policy is attached to.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn entities_for_policy(&self, policy: &PolicyArn) -> Result<(Vec<UserName>, Vec<GroupName>), IamError> {
        const CALL: &str = "ListEntitiesForPolicy";
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        let mut pages = Pages::of(CALL);
        while pages.more {
            let call = self.client.list_entities_for_policy().policy_arn(policy.as_str());
            // A permissions boundary is listed too, unless it is asked not to be; it does not attach the policy.
            let call = call.policy_usage_filter(PolicyUsageType::PermissionsPolicy).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let page = self.send(CALL, Patience::WholeAccount, || call.clone().send()).await?;
            for user in page.policy_users.unwrap_or_default() {
                users.extend(UserName::new(&listed(CALL, user.user_name)?));
            }
            for group in page.policy_groups.unwrap_or_default() {
                groups.extend(GroupName::new(&listed(CALL, group.group_name)?));
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok((users, groups))
    }

    /// The members of a group; none if the group does not exist any more.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn group_members(&self, group: &GroupName) -> Result<Vec<UserName>, IamError> {
        const CALL: &str = "GetGroup";
        let mut members = Vec::new();
        let mut pages = Pages::of(CALL);
        while pages.more {
            let call = self.client.get_group().group_name(group.as_str()).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let Some(page) = found(self.send(CALL, Patience::WholeAccount, || call.clone().send()).await)? else {
                return Ok(Vec::new());
            };
            for user in page.users {
                members.extend(UserName::new(&listed(CALL, Some(user.user_name))?));
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok(members)
    }

    /// Every user of the account, and the names that are not of IAM's alphabet or too long, made
    /// [legible](crate::identifiers): such a user is set aside, so that it does not stop the work on all others.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn users(&self) -> Result<(Vec<ListedUser>, Vec<String>), IamError> {
        const CALL: &str = "ListUsers";
        let (mut users, mut unusable) = (Vec::new(), Vec::new());
        let mut pages = Pages::of(CALL);
        while pages.more {
            let call = self.client.list_users().max_items(PAGE).set_marker(pages.marker.take());
            let page = self.send(CALL, Patience::WholeAccount, || call.clone().send()).await?;
            for user in page.users {
                let name = listed(CALL, Some(user.user_name))?;
                match UserName::new(&name) {
                    Some(name) => users.push(ListedUser { name, path: user.path, created: utc(user.create_date) }),
                    None => unusable.push(legible(&name, NAME_TOLD)),
                }
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok((users, unusable))
    }
}

/// The most that IAM gives in one page.
const PAGE: i32 = 1000;

/// A list being read page by page to its end.
struct Pages {
    call: &'static str,
    more: bool,
    marker: Option<String>,
    markers: Vec<String>,
}

impl Pages {
    const fn of(call: &'static str) -> Self {
        Self { call, more: true, marker: None, markers: Vec::new() }
    }

    /// Takes what a page says of the next. A list that breaks off, or goes round in circles, is an error.
    fn turn(&mut self, is_truncated: bool, marker: Option<String>) -> Result<(), IamError> {
        self.more = is_truncated;
        if is_truncated {
            let Some(marker) = marker.filter(|marker| !self.markers.contains(marker)) else {
                return Err(broken_off(self.call, "a page says that there are more, but not where"));
            };
            self.markers.push(marker.clone());
            self.marker = Some(marker);
        }
        Ok(())
    }
}

/// An entry of a list must have a name: without one the answer is no list.
fn listed(call: &'static str, name: Option<String>) -> Result<String, IamError> {
    name.filter(|name| !name.is_empty()).ok_or_else(|| broken_off(call, "an entry has no name"))
}

fn broken_off(call: &'static str, why: &str) -> IamError {
    unusable(call, "list", why)
}

fn unusable(call: &'static str, what: &str, why: &str) -> IamError {
    IamError { call, kind: IamErrorKind::Other, code: None, answer: format!("IAM's {what} cannot be used: {why}") }
}

fn unanswered(call: &'static str, why: &str) -> IamError {
    IamError { call, kind: IamErrorKind::Unavailable, code: None, answer: format!("IAM did not answer: {why}") }
}

/// A date on which it hangs who is new: a missing one, for which the SDK puts the epoch, must not pass for an old one.
fn dated(call: &'static str, time: Option<aws_sdk_iam::primitives::DateTime>) -> Result<DateTime<Utc>, IamError> {
    let time = time.filter(|time| time.secs() != 0).map(utc);
    time.ok_or_else(|| unusable(call, "answer", "it has no date of creation"))
}

/// The URL that the client calls, found as the client finds it; `None` if that fails, which its first call will tell.
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

fn found<T>(answer: Result<T, IamError>) -> Result<Option<T>, IamError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind == IamErrorKind::NoSuchEntity => Ok(None),
        Err(error) => Err(error),
    }
}

/// In whole seconds, as the credential report tells its times: within a second nothing is older than anything else.
fn utc(time: aws_sdk_iam::primitives::DateTime) -> DateTime<Utc> {
    DateTime::from_timestamp(time.secs(), 0).unwrap_or_default()
}

/// Conflicts that pass: another change to the same user is under way, or the user was made a moment ago.
const PASSING_CONFLICTS: [&str; 2] = ["ConcurrentModification", "EntityTemporarilyUnmodifiable"];

/// Has the SDK retry conflicts that pass; it takes every 409 for final.
#[derive(Debug)]
struct PassingConflict;

impl ClassifyRetry for PassingConflict {
    fn name(&self) -> &'static str {
        "conflict that passes"
    }

    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else {
            return RetryAction::NoActionIndicated;
        };
        let code = error.as_operation_error().and_then(|error| {
            let attach = error.downcast_ref::<AttachUserPolicyError>().and_then(ProvideErrorMetadata::code);
            attach.or_else(|| error.downcast_ref::<AddUserToGroupError>().and_then(ProvideErrorMetadata::code))
        });
        if code.is_some_and(|code| PASSING_CONFLICTS.contains(&code)) {
            RetryAction::transient_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }
}

/// How much of an answer an error tells: IAM's own messages fit in, a web page that came in their place does not.
const ANSWER_TOLD: usize = 1024;
/// The same for a name: IAM's own have up to 128 characters.
const NAME_TOLD: usize = 256;
/// The same for the code: IAM's own are far shorter.
const CODE_TOLD: usize = 64;

/// The codes with which AWS services say that there were too many calls.
const THROTTLES: [&str; 8] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
];

fn iam_error<E>(call: &'static str, error: &SdkError<E>) -> IamError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let kind = match (error, error.code(), status) {
        (SdkError::ServiceError(_), Some("NoSuchEntity"), _) => IamErrorKind::NoSuchEntity,
        (SdkError::ServiceError(_), Some("LimitExceeded"), _) => IamErrorKind::LimitExceeded,
        (SdkError::ServiceError(_), Some(code), _) if THROTTLES.contains(&code) => IamErrorKind::Throttled,
        (SdkError::ServiceError(_), _, Some(429)) => IamErrorKind::Throttled,
        (SdkError::ServiceError(_), Some("AccessDenied"), _) | (SdkError::ServiceError(_), _, Some(403)) => {
            IamErrorKind::AccessDenied
        }
        (SdkError::ServiceError(_), Some(code), _) if PASSING_CONFLICTS.contains(&code) => IamErrorKind::Unavailable,
        (_, _, Some(500..)) | (SdkError::TimeoutError(_) | SdkError::DispatchFailure(_), ..) => {
            IamErrorKind::Unavailable
        }
        _ => IamErrorKind::Other,
    };
    let answer = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("IAM answered {code}: {message}"),
        (Some(code), None) => format!("IAM answered {code}"),
        _ => match status {
            Some(status) => format!("IAM answered HTTP {status} ({})", DisplayErrorContext(error)),
            None => format!("IAM did not answer ({})", DisplayErrorContext(error)),
        },
    };
    let code = error.code().map(|code| legible(code, CODE_TOLD));
    IamError { call, kind, code, answer: legible(&answer, ANSWER_TOLD) }
}
