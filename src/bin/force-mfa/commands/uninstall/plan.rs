//! What an uninstall would do. Reads only.

use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::{GroupName, PolicyArn, UserName};

/// Users and groups named in the plan; `--dry-run` goes through them all.
const NAMED: usize = 3;

/// What there is to detach and delete.
#[derive(Debug)]
pub struct Plan {
    pub policy: PolicyArn,
    pub users: Vec<UserName>,
    pub groups: Vec<GroupName>,
    pub overflow: Option<OverflowGroup>,
    pub old_versions: Vec<String>,
    /// Why the policy cannot be deleted, if it cannot: it has another use.
    pub kept_for: Vec<String>,
}

#[derive(Debug)]
pub struct OverflowGroup {
    pub name: GroupName,
    pub members: Vec<UserName>,
    /// Policies that it has beside ours. If there are any, the group has another use, and stays with its members.
    pub others: Vec<String>,
}

impl Plan {
    /// `None` if there is no such policy.
    pub async fn read(
        iam: &Iam,
        policy: &PolicyArn,
        overflow_group: Option<GroupName>,
    ) -> Result<Option<Self>, IamError> {
        let Some(bounded) = iam.permissions_boundary_count(policy).await? else { return Ok(None) };
        let (mut users, groups) = iam.entities_for_policy(policy).await?;
        users.sort_by_key(UserName::folded);
        let roles = iam.roles_with_policy(policy).await?;
        let mut kept_for: Vec<String> = roles.iter().map(|role| format!("it is attached to role {role}")).collect();
        if bounded > 0 {
            kept_for.push(format!("it is the permissions boundary of {bounded} user(s) or role(s)"));
        }
        let overflow = match overflow_group {
            Some(name) => match iam.other_group_policies(&name, policy).await? {
                Some(others) => Some(OverflowGroup { members: iam.group_members(&name).await?, name, others }),
                None => None,
            },
            None => None,
        };
        let old_versions = iam.old_policy_versions(policy).await?;
        Ok(Some(Self { policy: policy.clone(), users, groups, overflow, old_versions, kept_for }))
    }

    /// The plan in short.
    pub fn summary(&self) -> String {
        let mut lines = vec![
            format!("Account {}, uninstall of {}:", self.policy.account(), self.policy),
            line("detach from users", &self.users),
            line("detach from groups", &self.groups),
        ];
        match &self.overflow {
            Some(OverflowGroup { name, members, others }) if others.is_empty() => {
                lines.push(line("remove from overflow group", members));
                lines.push(format!("  {:<26}       {name}", "delete overflow group"));
            }
            Some(OverflowGroup { name, others, .. }) => {
                let others = others.join(", ");
                lines.push(format!("  {:<26}       {name}: it has other policies ({others})", "keep overflow group"));
            }
            None => {}
        }
        if self.kept_for.is_empty() {
            lines.push(line("delete old versions", &self.old_versions));
            lines.push("  delete the policy".to_owned());
        } else {
            lines.push(format!("  {:<26}       {}", "keep the policy", self.kept_for.join("; ")));
        }
        lines.join("\n")
    }

    /// The plan in full, step by step.
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self.users.iter().map(|user| format!("would detach from user {user}")).collect();
        steps.extend(self.groups.iter().map(|group| format!("would detach from group {group}")));
        if let Some(OverflowGroup { name, members, .. }) =
            self.overflow.as_ref().filter(|group| group.others.is_empty())
        {
            steps.extend(members.iter().map(|user| format!("would remove user {user} from group {name}")));
            steps.push(format!("would delete group {name}"));
        }
        if self.kept_for.is_empty() {
            let versions = self.old_versions.iter();
            steps.extend(versions.map(|version| format!("would delete version {version} of the policy")));
            steps.push(format!("would delete policy {}", self.policy));
        }
        steps
    }
}

/// One line of the plan: how many, and the first of them.
fn line<T: std::fmt::Display>(what: &str, all: &[T]) -> String {
    let mut names: Vec<String> = all.iter().take(NAMED).map(T::to_string).collect();
    if all.len() > NAMED {
        names.push("…".to_owned());
    }
    format!("  {what:<26} {:>4}  {}", all.len(), names.join(", ")).trim_end().to_owned()
}
