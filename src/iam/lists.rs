//! The calls that read a whole account.

use aws_sdk_iam::types::{PolicyUsageType, ReportStateType};
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;

use super::error::{unusable, unusable_list};
use super::paced::Patience;
use super::{Iam, IamError, none_if_missing, require_date, utc};
use crate::identifiers::{GroupName, PolicyArn, UserName, sanitize};

/// A user as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// The user's name.
    pub name: UserName,
    /// The path, `/` if it has none.
    pub path: String,
    /// When the user was created.
    pub created: DateTime<Utc>,
}

/// A version of a managed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// Its id, such as `v3`.
    pub id: String,
    /// The policy's text, which is JSON.
    pub document: String,
}

/// The calls for a whole account. They return an error rather than a partial list; only an entry whose name no call
/// takes is left out. [`Iam::users`] returns these names.
impl Iam {
    /// Asks IAM to generate a credential report, and returns whether one is complete. IAM generates a new one every four
    /// hours at most.
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

    /// The credential report and when it was generated; `None` if there is none, none yet, or none any more. A paced client
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

    /// When the policy was created; `None` if it does not exist.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn policy_created(&self, policy: &PolicyArn) -> Result<Option<DateTime<Utc>>, IamError> {
        const CALL: &str = "GetPolicy";
        let call = self.client.get_policy().policy_arn(policy.as_str());
        let answer = none_if_missing(self.send(CALL, Patience::WholeAccount, || call.clone().send()).await)?;
        answer.map(|answer| require_date(CALL, answer.policy.and_then(|policy| policy.create_date))).transpose()
    }

    /// The default version of the policy: the one that is in force. `None` if the policy does not exist.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn default_policy_version(&self, policy: &PolicyArn) -> Result<Option<PolicyVersion>, IamError> {
        const GET_POLICY: &str = "GetPolicy";
        const CALL: &str = "GetPolicyVersion";
        let call = self.client.get_policy().policy_arn(policy.as_str());
        let answer = none_if_missing(self.send(GET_POLICY, Patience::WholeAccount, || call.clone().send()).await)?;
        let Some(answer) = answer else { return Ok(None) };
        let id = answer.policy.and_then(|policy| policy.default_version_id);
        let id = id.ok_or_else(|| unusable(GET_POLICY, "answer", "it has no default version"))?;
        let call = self.client.get_policy_version().policy_arn(policy.as_str()).version_id(&id);
        let Some(answer) = none_if_missing(self.send(CALL, Patience::WholeAccount, || call.clone().send()).await)?
        else {
            return Ok(None);
        };
        let document = answer.policy_version.and_then(|version| version.document);
        let document = document.ok_or_else(|| unusable(CALL, "answer", "it has no document"))?;
        // https://docs.aws.amazon.com/IAM/latest/APIReference/API_PolicyVersion.html: encoded as RFC 3986 has it.
        let document = percent_decode_str(&document).decode_utf8_lossy().into_owned();
        Ok(Some(PolicyVersion { id, document }))
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
            // Without the filter IAM also lists permissions boundaries, which do not attach the policy.
            let call = call.policy_usage_filter(PolicyUsageType::PermissionsPolicy).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let page = self.send(CALL, Patience::WholeAccount, || call.clone().send()).await?;
            for user in page.policy_users.unwrap_or_default() {
                users.extend(UserName::new(&require_name(CALL, user.user_name)?));
            }
            for group in page.policy_groups.unwrap_or_default() {
                groups.extend(GroupName::new(&require_name(CALL, group.group_name)?));
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
            let Some(page) = none_if_missing(self.send(CALL, Patience::WholeAccount, || call.clone().send()).await)?
            else {
                return Ok(Vec::new());
            };
            for user in page.users {
                members.extend(UserName::new(&require_name(CALL, Some(user.user_name))?));
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok(members)
    }

    /// Every user of the account, and the names that are not of IAM's alphabet or too long, made
    /// sanitized: such a user is set aside, so that it does not stop the work on all others.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn users(&self) -> Result<(Vec<ListedUser>, Vec<String>), IamError> {
        const CALL: &str = "ListUsers";
        let (mut users, mut unusable_names) = (Vec::new(), Vec::new());
        let mut pages = Pages::of(CALL);
        while pages.more {
            let call = self.client.list_users().max_items(PAGE).set_marker(pages.marker.take());
            let page = self.send(CALL, Patience::WholeAccount, || call.clone().send()).await?;
            for user in page.users {
                let name = require_name(CALL, Some(user.user_name))?;
                match UserName::new(&name) {
                    Some(name) => users.push(ListedUser { name, path: user.path, created: utc(user.create_date) }),
                    None => unusable_names.push(sanitize(&name, MAX_NAME_LENGTH)),
                }
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok((users, unusable_names))
    }
}

/// Characters of a name that cannot be used: IAM's own names have up to 128.
const MAX_NAME_LENGTH: usize = 256;

/// The most that IAM gives in one page.
pub(super) const PAGE: i32 = 1000;

/// A list being read page by page to its end.
pub(super) struct Pages {
    call: &'static str,
    pub(super) more: bool,
    pub(super) marker: Option<String>,
    markers: Vec<String>,
}

impl Pages {
    pub(super) const fn of(call: &'static str) -> Self {
        Self { call, more: true, marker: None, markers: Vec::new() }
    }

    /// Moves on to the next page. A list without a next marker, or with one that was there before, is an error.
    pub(super) fn turn(&mut self, is_truncated: bool, marker: Option<String>) -> Result<(), IamError> {
        self.more = is_truncated;
        if is_truncated {
            let Some(marker) = marker.filter(|marker| !self.markers.contains(marker)) else {
                return Err(unusable_list(self.call, "a page says that there are more, but not where"));
            };
            self.markers.push(marker.clone());
            self.marker = Some(marker);
        }
        Ok(())
    }
}

/// An entry of a list must have a name: without one the answer is no list.
pub(super) fn require_name(call: &'static str, name: Option<String>) -> Result<String, IamError> {
    name.filter(|name| !name.is_empty()).ok_or_else(|| unusable_list(call, "an entry has no name"))
}
