//! Why a command ends without doing its work, and what to do about it: a message and an exit code.

use std::io;
use std::process::ExitCode;

use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use force_mfa::account::AccountError;
use force_mfa::enforce::EnforceError;
use force_mfa::event::PayloadError;
use force_mfa::handler::{Failure, RESTORE, user_message};
use force_mfa::iam::IamError;
use force_mfa::sweep::SweepError;

/// Exit code: someone is uncovered, or something failed.
pub const SOMETHING_LEFT: u8 = 1;
/// Exit code: the command line or the settings cannot be used.
pub const WRONG_USAGE: u8 = 2;
/// Exit code: no credentials, or they do not allow a call.
pub const NOT_ALLOWED: u8 = 3;
/// Exit code after Ctrl-C, as a shell gives it.
pub const INTERRUPTED: u8 = 130;

/// The reason that a command ends early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line or the settings cannot be used.
    #[error("{0}")]
    Usage(String),
    /// No credentials, or they do not allow a call.
    #[error("{0}")]
    NotAllowed(String),
    /// AWS gets too many calls, also after all retries.
    #[error("{0}")]
    Throttled(String),
    /// Anything else that keeps the command from going on.
    #[error("{0}")]
    Failed(String),
    /// Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => WRONG_USAGE,
            Self::NotAllowed(_) => NOT_ALLOWED,
            Self::Throttled(_) | Self::Failed(_) | Self::Output(_) => SOMETHING_LEFT,
            Self::Interrupted(_) => INTERRUPTED,
        }
    }
}

/// How a run ended that was not broken off.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitStatus {
    /// Someone is uncovered, or something failed.
    pub incomplete: bool,
    /// A call was denied.
    pub denied: bool,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus { denied: true, .. } => NOT_ALLOWED.into(),
            ExitStatus { incomplete: true, .. } => SOMETHING_LEFT.into(),
            ExitStatus { .. } => Self::SUCCESS,
        }
    }
}

/// A failed call to any service, in the words of the one who made it.
#[derive(Debug)]
pub struct FailedCall {
    /// The action, as IAM policies spell it.
    action: String,
    /// The service's error code, if it answered.
    code: Option<String>,
    /// What it answered, or what happened on the way to it.
    answer: String,
}

impl FailedCall {
    /// A failed call to `action`, such as `sqs:ReceiveMessage`.
    pub fn new<E>(action: &str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let code = error.code().map(str::to_owned);
        let answer = match (&code, error.message()) {
            (Some(code), Some(message)) => format!("AWS answered {code}: {message}"),
            (Some(code), None) => format!("AWS answered {code}"),
            (None, _) => format!("no usable answer ({})", error_chain(error)),
        };
        Self { action: action.to_owned(), code, answer }
    }

    /// The action.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The service's error code.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The service's message.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// Whether the credentials do not allow the call.
    pub fn is_denied(&self) -> bool {
        const DENIED: [&str; 12] = [
            "AccessDenied",
            "AccessDeniedException",
            "UnauthorizedOperation",
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "OptInRequired",
        ];
        self.code().is_some_and(|code| DENIED.contains(&code))
    }

    fn is_throttled(&self) -> bool {
        const THROTTLED: [&str; 3] = ["Throttl", "TooManyRequests", "RequestLimitExceeded"];
        self.code().is_some_and(|code| THROTTLED.iter().any(|part| code.contains(part)))
    }

    /// What to do about it.
    fn advice(&self) -> String {
        match self.code() {
            Some(code) if code.starts_with("Expired") || code == "RequestExpired" => {
                "The credentials have expired: sign in again (`aws sso login`, `aws login`, or a new session token)"
                    .to_owned()
            }
            // AWS's words for a Deny in a policy of the caller:
            // https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
            _ if self.is_denied() && self.answer.contains("explicit deny in an identity-based policy") => {
                "The likeliest cause is the policy of force-mfa itself: it denies this to a session without MFA. Sign \
                 in with MFA (docs/command.md, Signing in), then run the command again. If the session has MFA, find \
                 the Deny among the other policies of the identity that you are signed in as"
                    .to_owned()
            }
            _ if self.is_denied() && self.code().is_some_and(|code| code.contains("Denied")) => format!(
                "Allow {} to the identity that you are signed in as, and see whether a permissions boundary or an SCP \
                 denies it; docs/command.md has the policy for each command",
                self.action
            ),
            _ if self.is_denied() => {
                "AWS does not know these credentials, or not in this region: look at --profile, AWS_PROFILE, \
                 AWS_ACCESS_KEY_ID and the clock"
                    .to_owned()
            }
            _ if self.is_throttled() => "AWS gets too many calls: run the command again in a minute".to_owned(),
            Some(_) => "Fix the cause in the AWS error above, then run the command again".to_owned(),
            None => {
                "Look at the network, the proxy (HTTPS_PROXY, NO_PROXY), the certificate authority (AWS_CA_BUNDLE) and \
                      --endpoint-url, then run the command again"
                    .to_owned()
            }
        }
    }
}

impl From<&IamError> for FailedCall {
    fn from(error: &IamError) -> Self {
        Self { action: format!("iam:{}", error.call), code: error.code.clone(), answer: error.answer.clone() }
    }
}

impl From<FailedCall> for CliError {
    fn from(call: FailedCall) -> Self {
        let message = format!("{}: {}. {}", call.action, call.answer.trim_end_matches('.'), call.advice());
        if call.is_denied() {
            Self::NotAllowed(message)
        } else if call.is_throttled() {
            Self::Throttled(message)
        } else {
            Self::Failed(message)
        }
    }
}

impl From<IamError> for CliError {
    fn from(error: IamError) -> Self {
        FailedCall::from(&error).into()
    }
}

impl From<AccountError> for CliError {
    fn from(error: AccountError) -> Self {
        let advice = match &error {
            AccountError::Unreadable { error } => return error.clone().into(),
            AccountError::NoReport(_) => "Nothing was changed; run the command again in a few minutes".to_owned(),
            AccountError::PolicyMissing(_) => format!("Correct --profile or --policy-arn; {RESTORE}"),
            AccountError::BadReport(_) => "Nothing was changed".to_owned(),
        };
        Self::Failed(format!("{error}. {advice}"))
    }
}

/// A payload's failure for the operator who replays the payload: here no Lambda tries again.
pub fn payload_error(failure: &Failure) -> CliError {
    match failure {
        Failure::Enforce(error) => user_error(error),
        Failure::Sweep(SweepError::Account(AccountError::Unreadable { error })) => FailedCall::from(error).into(),
        Failure::Payload(error @ PayloadError::Unrecognised(_)) => CliError::Failed(error.to_string()),
        Failure::Payload(PayloadError::Malformed(_)) | Failure::Sweep(_) => CliError::Failed(failure.to_string()),
    }
}

/// A user's failure, for the same operator.
pub fn user_error(error: &EnforceError) -> CliError {
    match error {
        EnforceError::Iam { user, error } => match CliError::from(FailedCall::from(error)) {
            CliError::NotAllowed(message) => CliError::NotAllowed(format!("user {user}: {message}")),
            stop => CliError::Failed(format!("user {user}: {stop}")),
        },
        EnforceError::UserNotVisible { .. } => CliError::Failed(format!(
            "{error}. The event may be younger than two minutes: try again then; if this stays, see in CloudTrail \
             whether the user was deleted"
        )),
        EnforceError::OutOfTime { .. } => CliError::Failed(format!("{error}. Run the command again")),
        EnforceError::PolicyMissing { .. } | EnforceError::QuotaExhausted { .. } => {
            CliError::Failed(user_message(error))
        }
    }
}

/// An error with what is behind it, each thing said once.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}
