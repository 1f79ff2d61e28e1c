//! The way into the accounts of an organization: a role in each, and a limited number of places.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::Client;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::{CliError, FailedCall};
use crate::organization::accounts::{Member, Selection};
use crate::session::TIME_LIMIT;
use crate::sign_in::{Caller, SignedIn};

/// The name of the sessions, which CloudTrail shows in each account.
const SESSION_NAME: &str = "force-mfa";
/// The time between two attempts if STS throttles. Before, the SDK has tried again a few times by itself.
const THROTTLE_PAUSE: Duration = Duration::from_secs(2);
/// An account that has had its place for so long is waiting for AWS, and gives the place back.
const SLOW: Duration = Duration::from_secs(10);

/// What it takes to enter an account.
#[derive(Debug)]
pub struct Access {
    operator: SignedIn,
    sts: Client,
    role_name: String,
    external_id: Option<String>,
    concurrency: usize,
    places: Arc<Semaphore>,
}

impl Access {
    /// With the credentials of the operator.
    pub fn new(operator: SignedIn, selection: &Selection) -> Self {
        Self {
            sts: Client::new(&operator.config),
            operator,
            role_name: selection.role_name.clone(),
            external_id: selection.external_id.clone(),
            concurrency: selection.concurrency.into(),
            places: Arc::new(Semaphore::new(selection.concurrency.into())),
        }
    }

    /// The ARN of the operator.
    pub fn operator_arn(&self) -> &str {
        &self.operator.caller.arn
    }

    /// How many accounts may be worked on at the same time.
    pub const fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// The ARN of the role that reads the account; `None` for the own account.
    pub fn role(&self, member: &Member) -> Option<String> {
        let Caller { account: own, partition, .. } = &self.operator.caller;
        (member.account != *own).then(|| format!("arn:{partition}:iam::{}:role/{}", member.account, self.role_name))
    }

    /// Waits for a place.
    pub async fn place(&self) -> Place {
        let mut place = Place { places: Arc::clone(&self.places), permit: None };
        place.take().await;
        place
    }

    /// Enters an account: the own one with the own credentials, each other one with its role.
    ///
    /// # Errors
    /// If the role cannot be assumed. A throttled call is tried again until [`TIME_LIMIT`].
    pub async fn enter(&self, member: &Member, place: &mut Place) -> Result<SignedIn, CliError> {
        let Some(arn) = self.role(member) else { return Ok(self.operator.clone()) };
        let partition = &self.operator.caller.partition;
        let role = Role { sts: self.sts.clone(), arn: arn.clone(), external_id: self.external_id.clone() };
        let until = Instant::now() + TIME_LIMIT;
        let first = loop {
            match role.assume().await {
                Ok(credentials) => break credentials,
                Err(CliError::Throttled(_)) if Instant::now() < until => place.leave_for(THROTTLE_PAUSE).await,
                Err(error) => return Err(error),
            }
        };
        let credentials = RoleCredentials { role, first: Mutex::new(Some(first)) };
        let config = self.operator.config.to_builder();
        let config = config
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            // The cache asks for new credentials shortly before they expire. Each account has its own: a common one
            // keeps the credentials of a fixed number of accounts only, and asks STS again and again for the others.
            .identity_cache(IdentityCache::lazy().build())
            .build();
        let iam = self.operator.iam.of_account(&config).await;
        let caller = Caller { account: member.account.clone(), partition: partition.clone(), arn };
        Ok(SignedIn { config, iam, caller })
    }
}

/// The right to work on an account. As many accounts have one at the same time as the operator allows.
#[derive(Debug)]
pub struct Place {
    places: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Lets another account have the place for a time, and then waits for one.
    pub async fn leave_for(&mut self, time: Duration) {
        self.permit = None;
        tokio::time::sleep(time).await;
        self.take().await;
    }

    /// Does the rest of the work on an account. It loses its place if it is slow, so that accounts for which AWS
    /// throttles do not hold up the others.
    pub async fn finish<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = Box::pin(work);
        if let Ok(result) = tokio::time::timeout(SLOW, &mut work).await {
            return result;
        }
        drop(self.permit);
        work.await
    }

    async fn take(&mut self) {
        // Nothing closes the semaphore, which is the only error.
        self.permit = Arc::clone(&self.places).acquire_owned().await.ok();
    }
}

/// A role in one account.
#[derive(Debug)]
struct Role {
    sts: Client,
    arn: String,
    external_id: Option<String>,
}

impl Role {
    async fn assume(&self) -> Result<Credentials, CliError> {
        let call = self.sts.assume_role().role_arn(&self.arn).role_session_name(SESSION_NAME);
        let answer = call.set_external_id(self.external_id.clone()).send().await;
        let answer = answer.map_err(|error| self.refused(&error))?;
        let given = answer.credentials;
        let given = given.ok_or_else(|| CliError::Failed("sts:AssumeRole: no credentials in the answer".to_owned()))?;
        let expires = std::time::SystemTime::try_from(given.expiration).ok();
        Ok(Credentials::new(
            given.access_key_id,
            given.secret_access_key,
            Some(given.session_token),
            expires,
            "AssumeRole",
        ))
    }

    fn refused(&self, error: &SdkError<AssumeRoleError>) -> CliError {
        let call = FailedCall::new("sts:AssumeRole", error);
        if error.code() == Some("AccessDenied") {
            return CliError::NotAllowed(format!(
                "sts:AssumeRole: {}. The role {} does not exist, or it does not trust you: deploy infra/auditor.yaml to \
                 this account, or correct --role-name and --external-id",
                call.answer().trim_end_matches('.'),
                self.arn
            ));
        }
        call.into()
    }
}

/// Gives the credentials that STS gave first, then asks STS for new ones.
#[derive(Debug)]
struct RoleCredentials {
    role: Role,
    first: Mutex<Option<Credentials>>,
}

impl ProvideCredentials for RoleCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        future::ProvideCredentials::new(async move {
            match first {
                Some(credentials) => Ok(credentials),
                None => self.role.assume().await.map_err(CredentialsError::provider_error),
            }
        })
    }
}
