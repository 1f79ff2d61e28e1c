//! One user of an account: what the reads say, and what has to be looked up for the rest.

use chrono::{DateTime, Utc};
use force_mfa::account::{Account, AccountUser, CoveredBy, Standing};
use force_mfa::credential_report::Activity;
use force_mfa::exemption::Exemption;
use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::{PolicyArn, UserName};
use force_mfa::settings::Settings;

use super::{ConsoleUser, Coverage};
use crate::terminal::one_line;

pub const EXISTING: &str = "existing";
const NEW: &str = "new";

/// A console user of the credential report, or a user who is not in it.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: UserName,
    arn: String,
    path: String,
    /// By the report; `None` if the user is newer.
    reported: Option<Reported>,
    standing: Standing,
}

#[derive(Clone, Debug)]
struct Reported {
    mfa: bool,
    activity: Activity,
}

impl Candidate {
    /// Everyone who has a password, or may have one.
    pub fn all(account: &Account, settings: &Settings) -> Vec<Self> {
        let reported = account.console_users.iter().map(AccountUser::Reported);
        let unreported = account.unreported.iter().map(AccountUser::Unreported);
        let candidate = |user| Self::new(user, account.standing(user, settings), &settings.policy);
        reported.chain(unreported).map(candidate).collect()
    }

    fn new(user: AccountUser<'_>, standing: Standing, policy: &PolicyArn) -> Self {
        let (arn, reported) = match user {
            AccountUser::Reported(row) => {
                (row.arn.clone(), Some(Reported { mfa: row.has_mfa, activity: row.activity.clone() }))
            }
            AccountUser::Unreported(user) => (arn(policy, &user.path, &user.name), None),
        };
        Self { name: user.name().clone(), arn, path: user.path().to_owned(), reported, standing }
    }

    /// The user, if no call is needed: the report has it, and it is covered, exempt, or existing with no tag that
    /// could exempt it.
    pub fn settled(&self, settings: &Settings) -> Option<ConsoleUser> {
        let mfa = self.reported.as_ref()?.mfa;
        match &self.standing {
            Standing::Covered(by) => Some(self.covered(by, mfa)),
            Standing::Exempt(exemption) => Some(self.exempt(*exemption, mfa)),
            Standing::Existing if settings.exemptions.tag.is_none() => Some(self.uncovered(true, mfa)),
            Standing::Existing | Standing::Open { .. } | Standing::OutOfScope => None,
        }
    }

    /// Asks IAM what the reads leave open; `None` if the user has no password, or does not exist any more.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn look_up(
        &self,
        iam: &Iam,
        settings: &Settings,
        policy_created: DateTime<Utc>,
    ) -> Result<Option<ConsoleUser>, IamError> {
        let Some(password_created) = iam.login_profile_created_at(&self.name).await? else { return Ok(None) };
        let mfa = match &self.reported {
            Some(reported) => reported.mfa,
            None => iam.has_mfa_device(&self.name).await?,
        };
        let existing = match &self.standing {
            Standing::Covered(by) => return Ok(Some(self.covered(by, mfa))),
            Standing::Exempt(exemption) => return Ok(Some(self.exempt(*exemption, mfa))),
            Standing::Existing => true,
            Standing::Open { is_new: true } => false,
            Standing::Open { is_new: false } | Standing::OutOfScope => password_created < policy_created,
        };
        if settings.exemptions.tag.is_some() {
            let Some(attributes) = iam.user(&self.name).await? else { return Ok(None) };
            if let Some(exemption) = settings.exemptions.by_attributes(&self.path, &attributes.tags) {
                return Ok(Some(self.exempt(exemption, mfa)));
            }
        }
        Ok(Some(self.uncovered(existing, mfa)))
    }

    /// The user if a look-up failed.
    pub fn unknown(&self, error: &IamError) -> ConsoleUser {
        let mfa = self.reported.as_ref().map(|reported| reported.mfa);
        self.console_user(mfa, Coverage::Unknown, one_line(&error.to_string()))
    }

    fn covered(&self, by: &CoveredBy, mfa: bool) -> ConsoleUser {
        match by {
            CoveredBy::Attachment => self.console_user(Some(mfa), Coverage::Direct, String::new()),
            CoveredBy::Group(group) => self.console_user(Some(mfa), Coverage::Group, group.to_string()),
        }
    }

    fn exempt(&self, exemption: Exemption, mfa: bool) -> ConsoleUser {
        self.console_user(Some(mfa), Coverage::Exempt, exemption.setting().to_owned())
    }

    fn uncovered(&self, existing: bool, mfa: bool) -> ConsoleUser {
        self.console_user(Some(mfa), Coverage::None, if existing { EXISTING } else { NEW }.to_owned())
    }

    fn console_user(&self, mfa: Option<bool>, coverage: Coverage, detail: String) -> ConsoleUser {
        let activity = self.reported.as_ref().map(|reported| reported.activity.clone());
        let access_keys = activity.as_ref().map(|activity| activity.access_keys);
        let Activity { password_last_used, access_key_last_used, .. } = activity.unwrap_or_default();
        ConsoleUser {
            user: self.name.to_string(),
            arn: self.arn.clone(),
            mfa,
            coverage,
            detail,
            password_last_used,
            access_keys,
            access_key_last_used,
        }
    }
}

impl ConsoleUser {
    /// A user whose name no call of ours would take. It may have a password, so it must not be missing.
    pub fn with_unusable_name(name: &str) -> Self {
        Self {
            user: name.to_owned(),
            arn: String::new(),
            mfa: None,
            coverage: Coverage::Unknown,
            detail: "IAM lists a name that its own calls do not take. Look the user up by hand".to_owned(),
            password_last_used: None,
            access_keys: None,
            access_key_last_used: None,
        }
    }
}

/// A listing shows name and path. The rest of the ARN is that of the account.
fn arn(policy: &PolicyArn, path: &str, name: &UserName) -> String {
    let partition = policy.as_str().split(':').nth(1).unwrap_or("aws");
    format!("arn:{partition}:iam::{}:user{path}{name}", policy.account())
}
