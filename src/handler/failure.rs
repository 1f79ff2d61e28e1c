//! Why an invocation failed, and what to do, for the reader of the function's log. The errors of the other modules
//! state only what failed, since the operator's command has other advice for the same errors.

use crate::account::AccountError;
use crate::enforce::{EnforceError, NoGroup};
use crate::event::PayloadError;
use crate::iam::{IamError, IamErrorKind};
use crate::identifiers::UserName;
use crate::sweep::{FailedUser, SweepError, SweepReport};

/// How a payload ended badly: the invocation fails, so that Lambda tries again and then keeps it in the failure queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The payload could not be read.
    #[error("{}. {}", .0, payload_advice(.0))]
    Payload(#[from] PayloadError),
    /// A user who should be covered is not.
    #[error("{}", user_message(.0))]
    Enforce(#[from] EnforceError),
    /// A sweep failed, or some of its users did.
    #[error("{}", sweep_message(.0))]
    Sweep(#[from] SweepError),
}

impl Failure {
    /// The `errorType` of the failed invocation.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Payload(PayloadError::Unrecognised(_)) => "unrecognised_payload",
            Self::Payload(PayloadError::Malformed(_)) => "malformed_event",
            Self::Enforce(error) => error.error_type(),
            Self::Sweep(error) => error.error_type(),
        }
    }

    /// The user who should be covered and is not.
    pub(crate) fn user(&self) -> Option<&UserName> {
        match self {
            Self::Enforce(error) => Some(error.user()),
            Self::Payload(_) | Self::Sweep(_) => None,
        }
    }

    /// What the sweep found and did, if it could read the account.
    pub(crate) fn sweep_report(&self) -> Option<&SweepReport> {
        match self {
            Self::Sweep(SweepError::Incomplete(report)) => Some(report),
            Self::Sweep(SweepError::Account(_)) | Self::Payload(_) | Self::Enforce(_) => None,
        }
    }
}

/// What to do about a part of the stack that somebody deleted: CloudFormation compares templates, not what is there.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html>
pub const RESTORE: &str = "if it was deleted, a drift-aware change set brings it back, deploying again does not \
                           (docs/runbook.md, Put the stack right)";

fn payload_advice(error: &PayloadError) -> &'static str {
    match error {
        PayloadError::Unrecognised(_) => {
            "Look at what invokes it: the rule and the schedule of its stack are all that should"
        }
        PayloadError::Malformed(_) => {
            "Nothing was done; find the user in CloudTrail by the event id and, if it has a console password, let a \
             sweep cover it"
        }
    }
}

/// What failed for one user, and what to do.
#[must_use]
pub fn user_message(error: &EnforceError) -> String {
    format!("{error}. {}", user_advice(error))
}

fn user_advice(error: &EnforceError) -> String {
    match error {
        EnforceError::UserNotVisible { .. } => "Lambda tries again after one and two minutes; if this stays, see in \
                                                CloudTrail whether the user was deleted"
            .to_owned(),
        EnforceError::PolicyMissing { .. } => {
            format!("Correct FORCE_MFA_POLICY_ARN; {RESTORE}. Then redrive the failure queue")
        }
        EnforceError::QuotaExhausted { no_group, .. } => match no_group {
            NoGroup::NotSet => "Set FORCE_MFA_OVERFLOW_GROUP, or detach a policy from the user".to_owned(),
            NoGroup::UserFull(_) => "Detach a policy from the user, or take it out of a group".to_owned(),
            NoGroup::Missing(_) => format!("Correct FORCE_MFA_OVERFLOW_GROUP; {RESTORE}"),
            NoGroup::WithoutPolicy(_) => "Attach the policy to it".to_owned(),
        },
        EnforceError::Iam { error, .. } => call_advice(error),
        EnforceError::OutOfTime { .. } => "Lambda tries again; if this stays, look at the AWS Health Dashboard for \
                                           IAM, then redrive the failure queue"
            .to_owned(),
    }
}

fn call_advice(error: &IamError) -> String {
    match error.kind {
        IamErrorKind::AccessDenied => format!(
            "Allow iam:{} to the function's role (infra/template.yaml does) and see whether a permissions boundary or an \
             SCP denies it, then redrive the failure queue",
            error.call
        ),
        IamErrorKind::Throttled => {
            "Lambda tries again after one and two minutes; if this stays, see in CloudTrail who \
                                    else calls IAM so often, then redrive the failure queue"
                .to_owned()
        }
        IamErrorKind::Unavailable => "Lambda tries again after one and two minutes; if this stays, look at the AWS \
                                      Health Dashboard for IAM, then redrive the failure queue"
            .to_owned(),
        IamErrorKind::NoSuchEntity | IamErrorKind::LimitExceeded | IamErrorKind::Other => {
            "Fix the cause, then redrive the failure queue".to_owned()
        }
    }
}

fn sweep_message(error: &SweepError) -> String {
    match error {
        SweepError::Account(why) => format!("{error}. {}", account_advice(why)),
        SweepError::Incomplete(report) => incomplete_message(report),
    }
}

fn account_advice(error: &AccountError) -> String {
    match error {
        AccountError::Unreadable { error } => call_advice(error),
        AccountError::BadReport(_) => "The next sweep tries again".to_owned(),
        AccountError::PolicyMissing(_) => format!("Correct FORCE_MFA_POLICY_ARN; {RESTORE}"),
        AccountError::NoReport(_) => {
            "The next sweep tries again; if this stays, give the function a longer timeout".to_owned()
        }
    }
}

fn incomplete_message(report: &SweepReport) -> String {
    let SweepReport { remaining, failures, .. } = report;
    let not_looked_at = format!(
        "the sweep's time was over before {remaining} users were looked at. The next sweep begins with other users; if \
         this stays, give the function a longer timeout, and see in CloudTrail who else calls IAM so often"
    );
    match (failures, remaining) {
        (0, _) => not_looked_at,
        (_, 0) => format!("{}, the others were: {}", not_covered(report), first_failures(report)),
        (_, _) => format!("{}: {}; and {not_looked_at}", not_covered(report), first_failures(report)),
    }
}

fn not_covered(report: &SweepReport) -> String {
    let tried = report.failures + report.attached + report.added_to_group;
    format!("{} of {tried} uncovered users could not be covered", report.failures)
}

fn first_failures(report: &SweepReport) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> = report
        .failed
        .iter()
        .take(NAMED)
        .map(|FailedUser { error, cause, .. }| format!("{error}: {}", user_message(cause)))
        .collect();
    let more = match report.failures.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{}{more}", named.join("; "))
}
