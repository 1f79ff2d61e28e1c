//! The users that a canary creates and deletes.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_iam::Client;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::types::Tag;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::error::{CliError, FailedCall};

/// The beginning of the name; eight random characters follow.
pub const PREFIX: &str = "force-mfa-canary-";
/// The key of the tag that says what the user is.
pub const TAG_KEY: &str = "force-mfa-canary";
/// Its value.
pub const TAG_VALUE: &str = "test user of force-mfa doctor - safe to delete";
/// The key of the tag whose value is the time when the run that created the user has ended, whatever happens.
const ENDS_BY_KEY: &str = "force-mfa-canary-ends-by";

/// Tries of what IAM refuses in passing, and the wait between them. IAM shows a new user up to about 30 seconds late
/// (terraform-provider-aws#2449), and the function may attach the policy between two steps of a deletion.
const TRIES: u32 = 20;
const WAIT: Duration = Duration::from_secs(2);

/// A run takes its time-out, and less than this for the creation before it and the deletion after it.
const CREATION_AND_DELETION: TimeDelta = TimeDelta::minutes(10);

/// A user with the name of a canary.
#[derive(Debug)]
enum Found {
    /// IAM shows no such user.
    Missing,
    /// It has another name, or not the tag.
    Other,
    /// A canary. Until this time, the run that created it may need it.
    Canary { ends_by: Option<DateTime<Utc>> },
}

/// The canaries of other runs.
#[derive(Debug, Default)]
pub struct OtherCanaries {
    /// Their runs have ended without deleting them.
    pub left_behind: Vec<String>,
    /// Their runs may still need them, until the time.
    pub in_use: Vec<(String, DateTime<Utc>)>,
}

/// The canaries of one account.
#[derive(Debug)]
pub struct CanaryUsers {
    client: Client,
}

impl CanaryUsers {
    /// Those of the account that the configuration's credentials are of.
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// Creates a user for a run with this time-out.
    pub async fn create(&self, user: &str, timeout: Duration) -> Result<(), FailedCall> {
        const ACTION: &str = "iam:CreateUser";
        let ends_by = (Utc::now() + timeout + CREATION_AND_DELETION).to_rfc3339_opts(SecondsFormat::Secs, true);
        let tags = [(TAG_KEY, TAG_VALUE), (ENDS_BY_KEY, &ends_by)];
        // Key and value are there, and nothing else is required of a tag.
        let tags = tags.iter().filter_map(|(key, value)| Tag::builder().key(*key).value(*value).build().ok());
        let call = self.client.create_user().user_name(user).set_tags(Some(tags.collect()));
        call.send().await.map(drop).map_err(|error| FailedCall::new(ACTION, &error))
    }

    /// Gives a new user a console password.
    pub async fn create_password(&self, user: &str, password: &str) -> Result<(), FailedCall> {
        let mut tries = 1;
        loop {
            let call = self.client.create_login_profile().user_name(user).password(password);
            let Err(error) = call.send().await else { return Ok(()) };
            if tries == TRIES || !is_code(&error, &["NoSuchEntity", "EntityTemporarilyUnmodifiable"]) {
                return Err(FailedCall::new("iam:CreateLoginProfile", &error));
            }
            tries += 1;
            tokio::time::sleep(WAIT).await;
        }
    }

    /// Whether the user has the policy. A new user has room for it, so that the overflow group is not needed.
    pub async fn is_covered(&self, user: &str, policy_arn: &str) -> Result<bool, FailedCall> {
        Ok(self.attached(user).await?.iter().any(|arn| arn == policy_arn))
    }

    /// Tries the calls of a deletion on a user that does not exist yet: IAM decides on the permission first. Without it,
    /// a user could be created that these credentials may not delete.
    ///
    /// # Errors
    /// If a call is not allowed, or IAM does not answer.
    pub async fn require_deletion_rights(&self, user: &str, policy_arn: &str) -> Result<(), CliError> {
        self.look_up(user).await?;
        self.delete_password(user).await?;
        self.attached(user).await?;
        self.detach(user, policy_arn).await?;
        self.delete_user(user).await?;
        Ok(())
    }

    /// The canaries that exist. Two runs at the same time must not delete each other's.
    ///
    /// # Errors
    /// If IAM does not answer.
    pub async fn others(&self) -> Result<OtherCanaries, CliError> {
        let mut others = OtherCanaries::default();
        let mut pages = self.client.list_users().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| FailedCall::new("iam:ListUsers", &error))?;
            for user in page.users.into_iter().filter(|user| user.user_name.starts_with(PREFIX)) {
                match self.look_up(&user.user_name).await? {
                    Found::Missing | Found::Other => {}
                    Found::Canary { ends_by: Some(time) } if Utc::now() < time => {
                        others.in_use.push((user.user_name, time));
                    }
                    Found::Canary { .. } => others.left_behind.push(user.user_name),
                }
            }
        }
        Ok(others)
    }

    async fn look_up(&self, user: &str) -> Result<Found, FailedCall> {
        let answer = self.client.get_user().user_name(user).send().await;
        let Some(answer) = none_if_missing("iam:GetUser", answer)? else { return Ok(Found::Missing) };
        let tag = |key: &str| answer.user()?.tags().iter().find(|tag| tag.key() == key).map(Tag::value);
        if tag(TAG_KEY) != Some(TAG_VALUE) || !user.starts_with(PREFIX) {
            return Ok(Found::Other);
        }
        let ends_by = tag(ENDS_BY_KEY).and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        Ok(Found::Canary { ends_by: ends_by.map(|time| time.to_utc()) })
    }

    /// Deletes a canary with all that was given to it. A user that IAM does not show may be one that it does not show
    /// yet, so it is looked for again.
    ///
    /// # Errors
    /// If it is no canary, a call is not allowed, or IAM refuses to the end.
    pub async fn delete(&self, user: &str) -> Result<(), CliError> {
        let mut seen = false;
        let mut tries = 1;
        loop {
            match self.delete_once(user, &mut seen).await {
                Ok(true) => return Ok(()),
                Ok(false) if seen || tries >= TRIES => return Ok(()),
                Ok(false) => {}
                Err(NotDeleted::Call(call)) if tries < TRIES && !call.is_denied() => {
                    // A call without an answer has been tried several times already.
                    tries += if call.code().is_none() { TRIES / 4 } else { 0 };
                }
                Err(error) => return Err(error.into()),
            }
            tries += 1;
            tokio::time::sleep(WAIT).await;
        }
    }

    /// One try; whether the user was there to be deleted. The password goes first: the function puts the policy back only
    /// to a user that has one.
    async fn delete_once(&self, user: &str, seen: &mut bool) -> Result<bool, NotDeleted> {
        match self.look_up(user).await? {
            Found::Missing => return Ok(false),
            Found::Other => return Err(NotDeleted::NoCanary),
            Found::Canary { .. } => *seen = true,
        }
        self.delete_password(user).await?;
        for arn in self.attached(user).await? {
            self.detach(user, &arn).await?;
        }
        self.delete_user(user).await?;
        Ok(true)
    }

    async fn delete_password(&self, user: &str) -> Result<(), FailedCall> {
        let answer = self.client.delete_login_profile().user_name(user).send().await;
        none_if_missing("iam:DeleteLoginProfile", answer).map(drop)
    }

    async fn attached(&self, user: &str) -> Result<Vec<String>, FailedCall> {
        let answer = self.client.list_attached_user_policies().user_name(user).send().await;
        let answer = none_if_missing("iam:ListAttachedUserPolicies", answer)?;
        let policies = answer.and_then(|answer| answer.attached_policies).unwrap_or_default();
        Ok(policies.into_iter().filter_map(|policy| policy.policy_arn).collect())
    }

    async fn detach(&self, user: &str, arn: &str) -> Result<(), FailedCall> {
        let answer = self.client.detach_user_policy().user_name(user).policy_arn(arn).send().await;
        none_if_missing("iam:DetachUserPolicy", answer).map(drop)
    }

    async fn delete_user(&self, user: &str) -> Result<(), FailedCall> {
        let answer = self.client.delete_user().user_name(user).send().await;
        none_if_missing("iam:DeleteUser", answer).map(drop)
    }
}

#[derive(Debug, thiserror::Error)]
enum NotDeleted {
    #[error("it does not have the name and the tag of a canary, so it was not deleted")]
    NoCanary,
    #[error("{}: {}", .0.action(), .0.answer())]
    Call(FailedCall),
}

impl From<FailedCall> for NotDeleted {
    fn from(call: FailedCall) -> Self {
        Self::Call(call)
    }
}

impl From<NotDeleted> for CliError {
    fn from(error: NotDeleted) -> Self {
        match error {
            NotDeleted::NoCanary => Self::Failed(error.to_string()),
            NotDeleted::Call(call) => call.into(),
        }
    }
}

fn none_if_missing<T, E>(action: &str, answer: Result<T, SdkError<E>>) -> Result<Option<T>, FailedCall>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_code(&error, &["NoSuchEntity"]) => Ok(None),
        Err(error) => Err(FailedCall::new(action, &error)),
    }
}

fn is_code<E: ProvideErrorMetadata>(error: &SdkError<E>, codes: &[&str]) -> bool {
    error.code().is_some_and(|code| codes.contains(&code))
}

/// Commands that delete a canary by hand.
pub fn how_to_delete(user: &str) -> String {
    format!(
        "aws iam delete-login-profile --user-name {user}; for arn in $(aws iam list-attached-user-policies --user-name {user} \
         --query 'AttachedPolicies[].PolicyArn' --output text); do aws iam detach-user-policy --user-name {user} \
         --policy-arn $arn; done; aws iam delete-user --user-name {user}"
    )
}

/// Eight random characters of a name.
///
/// # Errors
/// If the system has no randomness.
pub fn random_suffix() -> Result<String, CliError> {
    random_text(b"abcdefghijklmnopqrstuvwxyz234567", 8)
}

/// A password as long as IAM takes one, with a character of each kind that an account's password policy can ask for
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_passwords_account-policy.html>). It is sent to IAM
/// and forgotten.
///
/// # Errors
/// If the system has no randomness.
pub fn random_password() -> Result<String, CliError> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    random_text(ALPHABET, 124).map(|text| format!("Aa0-{text}"))
}

/// Characters of an alphabet whose length divides 256, so that each is as likely as the others.
fn random_text<const N: usize>(alphabet: &[u8; N], length: usize) -> Result<String, CliError> {
    const { assert!(256 % N == 0, "some characters would be more likely") };
    let mut bytes = vec![0; length];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| CliError::Failed("the system gives no random numbers".to_owned()))?;
    Ok(bytes.into_iter().map(|byte| char::from(alphabet[usize::from(byte) % N])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_every_password_policy() {
        let password = random_password().unwrap();
        assert_eq!(password.len(), 128);
        for kind in [char::is_uppercase, char::is_lowercase, |c: char| c.is_ascii_digit(), |c: char| c == '-'] {
            assert!(password.contains(kind));
        }
        assert_ne!(password, random_password().unwrap());
    }
}
