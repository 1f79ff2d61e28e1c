//! What the version of the managed policy that is in force does: read from IAM, and judged.
//!
//! It changes nothing about who is covered. Replies have it as a word, and warnings say how to go back.

use serde::{Serialize, Serializer};

use crate::iam::{Iam, IamError};
use crate::identifiers::PolicyArn;
use crate::policy_text::{Verdict, judge};

/// The verdict on the version of the policy that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyState {
    /// The text was read.
    Judged {
        /// The version, such as `v3`.
        version: String,
        /// What the text does without MFA.
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

    /// The word for it in replies, logs and the command's output.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Judged { verdict, .. } => verdict.as_str(),
            Self::Unread(_) | Self::Missing => "unknown",
        }
    }

    /// Whether the policy is known not to do what it is for.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Judged { verdict, .. } => verdict.is_broken(),
            Self::Unread(_) | Self::Missing => false,
        }
    }

    /// Whether the text was read, and could be judged.
    #[must_use]
    pub fn is_known(&self) -> bool {
        match self {
            Self::Judged {
                verdict: Verdict::Enforcing | Verdict::NotEnforcing(_) | Verdict::BlocksEnrolment(_),
                ..
            } => true,
            Self::Judged { verdict: Verdict::Unknown(_), .. } | Self::Unread(_) | Self::Missing => false,
        }
    }

    /// What is wrong, and what to do; `None` if the policy is as it should be. `explain` says it of a failed call.
    #[must_use]
    pub fn warning(&self, policy: &PolicyArn, explain: impl FnOnce(&IamError) -> String) -> Option<String> {
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
            Self::Unread(error) => {
                Some(format!("The policy's text could not be read, and so not judged. {}", explain(error)))
            }
            Self::Missing => Some("The policy does not exist any more, so its text could not be judged".to_owned()),
        }
    }
}

impl Serialize for PolicyState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
