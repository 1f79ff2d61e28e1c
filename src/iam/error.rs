//! The failures of IAM calls, by meaning.

use std::error::Error;

use aws_sdk_iam::config::interceptors::InterceptorContext;
use aws_sdk_iam::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_iam::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_iam::operation::add_user_to_group::AddUserToGroupError;
use aws_sdk_iam::operation::attach_user_policy::AttachUserPolicyError;

use crate::https::NoAuthorities;
use crate::identifiers::sanitize;

/// What the failure of an IAM call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IamErrorKind {
    /// Something that the call names does not exist, or does not yet.
    NoSuchEntity,
    /// A quota is full.
    LimitExceeded,
    /// The caller's credentials or permissions do not allow the call.
    AccessDenied,
    /// Too many calls, also after all retries.
    Throttled,
    /// No answer, a server error, or a state that passes, also after all retries.
    Unavailable,
    /// A failure of any other kind.
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
    /// The API action, such as `GetUser`.
    pub call: &'static str,
    /// What the failure means.
    pub kind: IamErrorKind,
    /// IAM's error code, if it answered with one.
    pub code: Option<String>,
    /// IAM's own code and message, or what happened on the way to it.
    pub answer: String,
}

pub(super) fn unusable_list(call: &'static str, why: &str) -> IamError {
    unusable(call, "list", why)
}

pub(super) fn unusable(call: &'static str, what: &str, why: &str) -> IamError {
    IamError { call, kind: IamErrorKind::Other, code: None, answer: format!("IAM's {what} cannot be used: {why}") }
}

pub(super) fn unanswered(call: &'static str, why: &str) -> IamError {
    IamError { call, kind: IamErrorKind::Unavailable, code: None, answer: format!("IAM did not answer: {why}") }
}

/// Conflicts that pass: another change to the same user is under way, or the user was made a moment ago.
const PASSING_CONFLICTS: [&str; 2] = ["ConcurrentModification", "EntityTemporarilyUnmodifiable"];

/// Makes the SDK retry conflicts that pass. By itself it retries no 409.
#[derive(Debug)]
pub(super) struct PassingConflict;

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

/// Characters of an answer in an error: enough for IAM's own messages, not for a web page in their place.
const MAX_ANSWER_LENGTH: usize = 1024;
/// Characters of an error code: IAM's own are far shorter.
const MAX_CODE_LENGTH: usize = 64;

/// The error codes of AWS services for too many calls.
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

/// Why no server is trusted, if the call failed for that.
fn no_authorities<E>(error: &SdkError<E>) -> Option<&NoAuthorities> {
    let SdkError::DispatchFailure(failure) = error else { return None };
    failure.as_connector_error()?.source()?.downcast_ref()
}

pub(super) fn iam_error<E>(call: &'static str, error: &SdkError<E>) -> IamError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let Some(error) = no_authorities(error) {
        return IamError {
            call,
            kind: IamErrorKind::Other,
            code: None,
            answer: sanitize(&error.to_string(), MAX_ANSWER_LENGTH),
        };
    }
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
        // A response error is an answer that broke off, whatever its status says.
        (_, _, Some(500..))
        | (SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_), ..) => {
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
    let code = error.code().map(|code| sanitize(code, MAX_CODE_LENGTH));
    IamError { call, kind, code, answer: sanitize(&answer, MAX_ANSWER_LENGTH) }
}

#[cfg(test)]
mod tests {
    use aws_sdk_iam::config::http::HttpResponse;
    use aws_sdk_iam::operation::list_users::ListUsersError;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn an_answer_that_broke_off_is_unavailable() {
        let head = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
        let error = SdkError::<ListUsersError, HttpResponse>::response_error("end of file", head);
        assert_eq!(iam_error("ListUsers", &error).kind, IamErrorKind::Unavailable);
    }
}
