//! What a sweep found and did, and why it failed: types and their messages.

use serde::Serialize;

use crate::account::AccountError;
use crate::enforce::EnforceError;
use crate::policy_state::PolicyState;
use crate::settings::Mode;

/// Failures that are listed one by one; the rest are only counted.
const FAILURES_LISTED: usize = 100;

/// What a sweep found and did. The reply and the metrics are this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SweepReport {
    /// `Enforce` if the sweep wrote to IAM.
    pub mode: Mode,
    /// Users with a password, by the credential report, without those deleted since.
    pub console_users: usize,
    /// Those of them without MFA.
    pub without_mfa: usize,
    /// Console users that had the policy before, directly or through a group.
    pub covered: usize,
    /// Users to whom the policy was attached.
    pub attached: usize,
    /// Users who were added to the overflow group.
    pub added_to_group: usize,
    /// Users to whom the policy would be attached, in report mode.
    pub would_attach: usize,
    /// Uncovered users that the settings exempt.
    pub exempt: usize,
    /// Uncovered existing users, whom the settings leave as they are.
    pub existing: usize,
    /// How old the credential report was.
    pub report_age_s: i64,
    /// What the policy's text does.
    pub policy: PolicyState,
    /// What is wrong with it, and what to do.
    #[serde(skip)]
    pub policy_warning: Option<String>,
    /// Users who were not checked before the time was over.
    #[serde(skip)]
    pub remaining: usize,
    /// All users that could not be covered.
    #[serde(skip)]
    pub failures: usize,
    /// The first hundred of them.
    #[serde(skip)]
    pub failed: Vec<FailedUser>,
    /// New users who were found without the policy although their event is overdue: each one an event that was lost.
    #[serde(skip)]
    pub lost: usize,
    /// Users to whom the policy was or would be attached that have an access key in use.
    #[serde(skip)]
    pub keys_in_use: usize,
}

/// A user whom a sweep could not cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedUser {
    /// The user's name.
    pub user: String,
    /// The `errorType` of the failure.
    pub error: &'static str,
    /// What failed for the user.
    #[serde(skip)]
    pub cause: EnforceError,
}

/// Why a sweep did not do all that it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// The account could not be read; nothing was written.
    #[error("the sweep could not read the account and changed nothing: {0}")]
    Account(#[from] AccountError),
    /// Some users were not looked at, or could not be covered; all others were.
    #[error("the sweep could not cover {} users, and did not look at {}", .0.failures, .0.remaining)]
    Incomplete(Box<SweepReport>),
}

impl SweepError {
    /// The `errorType` of the failed invocation.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Account(error) => error.error_type(),
            Self::Incomplete(_) => "sweep_incomplete",
        }
    }
}

impl SweepReport {
    pub(super) fn count_failure(&mut self, error: EnforceError) {
        self.failures += 1;
        if self.failed.len() < FAILURES_LISTED {
            let (user, error_type) = (error.user().to_string(), error.error_type());
            self.failed.push(FailedUser { user, error: error_type, cause: error });
        }
    }
}
