//! What can come of one user: types only. [`enforce`](crate::enforce) decides which it is.

use crate::event::IgnoreReason;
use crate::exemption::Exemption;
use crate::identifiers::GroupName;

/// How work on one user ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The policy is attached to the user.
    Attached,
    /// The user's quota of managed policies is full; the user is in this overflow group.
    AddedToGroup(GroupName),
    /// Report mode: the policy would be attached.
    WouldAttach,
    /// The settings exempt the user.
    Exempt(Exemption),
    /// The user does not need the policy.
    Ignored(IgnoreReason),
}

impl Outcome {
    /// The outcome as the reply spells it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::AddedToGroup(_) => "added_to_group",
            Self::WouldAttach => "would_attach",
            Self::Exempt(_) => "exempt",
            Self::Ignored(_) => "ignored",
        }
    }

    /// What explains it: the setting that exempts, why the user is ignored, or the group.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::AddedToGroup(group) => Some(group.as_str()),
            Self::Exempt(exemption) => Some(exemption.setting()),
            Self::Ignored(reason) => Some(reason.as_str()),
            Self::Attached | Self::WouldAttach => None,
        }
    }
}
