//! The calls that only the operator's command makes. The function's role allows none of the writes.

use aws_config::SdkConfig;
use aws_sdk_iam::types::{EntityType, PolicyScopeType};

use super::error::unusable_list;
use super::lists::{PAGE, Pages, require_name};
use super::paced::Patience;
use super::{Iam, IamError, none_if_missing};
use crate::identifiers::{GroupName, PolicyArn, UserName};

/// Reads that a sweep does not need.
impl Iam {
    /// The IAM of another account: `config` has its credentials. It shares the connections, so that thousands of
    /// accounts cost one TLS set-up.
    pub async fn of_account(&self, config: &SdkConfig) -> Self {
        Self::with_connector(config, self.connector.clone()).await
    }

    /// The customer managed policies of this name, on any path. A name is unique in an account, so there is one at most;
    /// that it is so is not relied on.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn policies_named(&self, name: &str) -> Result<Vec<PolicyArn>, IamError> {
        const CALL: &str = "ListPolicies";
        let mut policies = Vec::new();
        let mut pages = Pages::of(CALL);
        while pages.more {
            let call = self.client.list_policies().scope(PolicyScopeType::Local).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let page = self.send(CALL, Patience::WholeAccount, || call.clone().send()).await?;
            for policy in page.policies.unwrap_or_default() {
                if policy.policy_name.as_deref() == Some(name) {
                    let arn = PolicyArn::new(&require_name(CALL, policy.arn)?);
                    policies.push(arn.ok_or_else(|| unusable_list(CALL, "the ARN of the policy is none"))?);
                }
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok(policies)
    }

    /// Whether the user has an MFA device; not if it does not exist.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn has_mfa_device(&self, user: &UserName) -> Result<bool, IamError> {
        let call = self.client.list_mfa_devices().user_name(user.as_str());
        let answer = none_if_missing(self.send("ListMFADevices", Patience::OneUser, || call.clone().send()).await)?;
        Ok(answer.is_some_and(|answer| !answer.mfa_devices.is_empty()))
    }

    /// The roles that the policy is attached to. The function attaches it to none.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn roles_with_policy(&self, policy: &PolicyArn) -> Result<Vec<String>, IamError> {
        const CALL: &str = "ListEntitiesForPolicy";
        let mut roles = Vec::new();
        let mut pages = Pages::of(CALL);
        while pages.more {
            let call = self.client.list_entities_for_policy().policy_arn(policy.as_str());
            let call = call.entity_filter(EntityType::Role).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let page = self.send(CALL, Patience::WholeAccount, || call.clone().send()).await?;
            for role in page.policy_roles.unwrap_or_default() {
                roles.push(require_name(CALL, role.role_name)?);
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok(roles)
    }

    /// How many users and roles have the policy as their permissions boundary; `None` if there is no such policy.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn permissions_boundary_count(&self, policy: &PolicyArn) -> Result<Option<i32>, IamError> {
        let call = self.client.get_policy().policy_arn(policy.as_str());
        let answer = none_if_missing(self.send("GetPolicy", Patience::WholeAccount, || call.clone().send()).await)?;
        let boundaries =
            |policy: aws_sdk_iam::types::Policy| policy.permissions_boundary_usage_count.unwrap_or_default();
        Ok(answer.map(|answer| answer.policy.map(boundaries).unwrap_or_default()))
    }

    /// The names of the policies that a group has beside this one, attached or inline; `None` if there is no such group.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn other_group_policies(
        &self,
        group: &GroupName,
        policy: &PolicyArn,
    ) -> Result<Option<Vec<String>>, IamError> {
        const ATTACHED: &str = "ListAttachedGroupPolicies";
        const INLINE: &str = "ListGroupPolicies";
        let mut others = Vec::new();
        let mut pages = Pages::of(ATTACHED);
        while pages.more {
            let call = self.client.list_attached_group_policies().group_name(group.as_str()).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let answer = self.send(ATTACHED, Patience::WholeAccount, || call.clone().send()).await;
            let Some(page) = none_if_missing(answer)? else {
                return Ok(None);
            };
            let attached = page.attached_policies.unwrap_or_default().into_iter();
            others.extend(attached.filter_map(|other| other.policy_arn).filter(|arn| arn != policy.as_str()));
            pages.turn(page.is_truncated, page.marker)?;
        }
        let mut pages = Pages::of(INLINE);
        while pages.more {
            let call = self.client.list_group_policies().group_name(group.as_str()).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let answer = self.send(INLINE, Patience::WholeAccount, || call.clone().send()).await;
            let Some(page) = none_if_missing(answer)? else {
                return Ok(None);
            };
            others.extend(page.policy_names);
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok(Some(others))
    }

    /// The versions of the policy except the default one, which goes with the policy; none if it does not exist.
    ///
    /// # Errors
    /// If any page cannot be had.
    pub async fn old_policy_versions(&self, policy: &PolicyArn) -> Result<Vec<String>, IamError> {
        const CALL: &str = "ListPolicyVersions";
        let mut versions = Vec::new();
        let mut pages = Pages::of(CALL);
        while pages.more {
            let call = self.client.list_policy_versions().policy_arn(policy.as_str()).max_items(PAGE);
            let call = call.set_marker(pages.marker.take());
            let answer = self.send(CALL, Patience::WholeAccount, || call.clone().send()).await;
            let Some(page) = none_if_missing(answer)? else {
                return Ok(Vec::new());
            };
            for version in page.versions.unwrap_or_default() {
                if !version.is_default_version {
                    versions.push(require_name(CALL, version.version_id)?);
                }
            }
            pages.turn(page.is_truncated, page.marker)?;
        }
        Ok(versions)
    }
}

/// The calls of an uninstall. What is gone already counts as done, so that each call can be repeated.
impl Iam {
    /// Detaches the policy from a user.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn detach_user_policy(&self, user: &UserName, policy: &PolicyArn) -> Result<(), IamError> {
        let call = self.client.detach_user_policy().user_name(user.as_str()).policy_arn(policy.as_str());
        none_if_missing(self.send("DetachUserPolicy", Patience::OneUser, || call.clone().send()).await).map(drop)
    }

    /// Detaches the policy from a group.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn detach_group_policy(&self, group: &GroupName, policy: &PolicyArn) -> Result<(), IamError> {
        let call = self.client.detach_group_policy().group_name(group.as_str()).policy_arn(policy.as_str());
        none_if_missing(self.send("DetachGroupPolicy", Patience::OneUser, || call.clone().send()).await).map(drop)
    }

    /// Takes a user out of a group.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn remove_user_from_group(&self, user: &UserName, group: &GroupName) -> Result<(), IamError> {
        let call = self.client.remove_user_from_group().user_name(user.as_str()).group_name(group.as_str());
        none_if_missing(self.send("RemoveUserFromGroup", Patience::OneUser, || call.clone().send()).await).map(drop)
    }

    /// Deletes a group, which must be empty and without policies.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn delete_group(&self, group: &GroupName) -> Result<(), IamError> {
        let call = self.client.delete_group().group_name(group.as_str());
        none_if_missing(self.send("DeleteGroup", Patience::OneUser, || call.clone().send()).await).map(drop)
    }

    /// Deletes a version of the policy that is not the default one.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn delete_policy_version(&self, policy: &PolicyArn, version: &str) -> Result<(), IamError> {
        let call = self.client.delete_policy_version().policy_arn(policy.as_str()).version_id(version);
        none_if_missing(self.send("DeletePolicyVersion", Patience::OneUser, || call.clone().send()).await).map(drop)
    }

    /// Deletes the policy, which must be attached to nothing and have one version.
    ///
    /// # Errors
    /// Any but `NoSuchEntity`.
    pub async fn delete_policy(&self, policy: &PolicyArn) -> Result<(), IamError> {
        let call = self.client.delete_policy().policy_arn(policy.as_str());
        none_if_missing(self.send("DeletePolicy", Patience::OneUser, || call.clone().send()).await).map(drop)
    }
}
