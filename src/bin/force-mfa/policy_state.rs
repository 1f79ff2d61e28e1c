//! What the text of the managed policy does: whether it still forces MFA, and still lets users enrol.

use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::PolicyArn;
use force_mfa::policy_text::{Verdict, judge};

use crate::error::CliError;

/// The verdict on the version of the policy that is in force.
#[derive(Debug)]
pub enum PolicyState {
    /// The text was read.
    Judged {
        /// The version, such as `v3`.
        version: String,
        /// What it does.
        verdict: Verdict,
    },
    /// The text could not be read.
    Unread(IamError),
    /// There is no such policy any more.
    Missing,
}

impl PolicyState {
    /// Reads the default version of the policy, and judges it.
    pub async fn read(iam: &Iam, policy: &PolicyArn) -> Self {
        match iam.default_policy_version(policy).await {
            Ok(Some(version)) => Self::Judged { verdict: judge(&version.document, policy), version: version.id },
            Ok(None) => Self::Missing,
            Err(error) => Self::Unread(error),
        }
    }

    /// The word for it in the command's output.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Judged { verdict, .. } => verdict.as_str(),
            Self::Unread(_) | Self::Missing => "unknown",
        }
    }

    /// Whether the policy is known not to do what it is for.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Judged { verdict, .. } => verdict.is_broken(),
            Self::Unread(_) | Self::Missing => false,
        }
    }

    /// What is wrong, and what to do; `None` if the policy is as it should be.
    pub fn warning(&self, policy: &PolicyArn) -> Option<String> {
        let go_back = |version: &str| {
            format!(
                "Compare version {version} with the earlier ones (`aws iam list-policy-versions --policy-arn {policy}`) \
                 and go back with `aws iam set-default-policy-version --policy-arn {policy} --version-id VERSION`"
            )
        };
        match self {
            Self::Judged { version, verdict } => match verdict {
                Verdict::Enforcing => None,
                Verdict::NotEnforcing(call) => Some(format!(
                    "The policy does not force MFA: its version {version} does not deny {call} without MFA. {}",
                    go_back(version)
                )),
                Verdict::BlocksEnrolment(call) => Some(format!(
                    "The policy locks users out: its version {version} denies {call}, without which nobody can enrol a \
                     device. {}",
                    go_back(version)
                )),
                Verdict::Unknown(what) => Some(format!(
                    "The policy's version {version} cannot be judged ({what}). Read it yourself: does it deny everyday \
                     calls without MFA, and let users enrol a device?"
                )),
            },
            Self::Unread(error) => Some(format!(
                "The policy's text could not be read, and so not judged. {}",
                CliError::from(error.clone())
            )),
            Self::Missing => Some("The policy does not exist any more, so its text could not be judged".to_owned()),
        }
    }
}
