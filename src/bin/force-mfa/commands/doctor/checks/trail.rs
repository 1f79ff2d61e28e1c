//! The trail, without which EventBridge gets no event of IAM's.

use super::{Check, CheckName, Findings};
use crate::commands::doctor::inventory::{Inventory, Selectors, Trail};

/// A trail records what IAM writes, or EventBridge gets no event
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html>).
pub fn trail(inventory: &Inventory) -> Check {
    const FIX: &str = "Switch on a trail that is multi-Region, or in the home region with global service events, and records \
                       management write events (docs/rollout.md)";
    let mut found = Findings::new(CheckName::Trail);
    let trails = match &inventory.trails {
        Err(unread) => {
            found.unread(unread);
            return found.done();
        }
        Ok(trails) => trails,
    };
    let mut why_not = Vec::new();
    for trail in trails {
        match serves(trail, inventory) {
            Serves::Yes(note) => found.ok(format!("{}{note}", trail.name)),
            Serves::No(why) => why_not.push(format!("{} {why}", trail.name)),
            Serves::Maybe(_) | Serves::Unknown => {}
        }
    }
    if found.found.is_empty() {
        let maybe = trails.iter().filter_map(|trail| match serves(trail, inventory) {
            Serves::Maybe(why) => Some(format!("{} {why}", trail.name)),
            Serves::Yes(_) | Serves::No(_) | Serves::Unknown => None,
        });
        for detail in maybe {
            found.warn(detail, "force-mfa doctor --canary, which shows whether an event arrives");
        }
        let parts = trails.iter().flat_map(|trail| [trail.logging.as_ref().err(), trail.selectors.as_ref().err()]);
        for unread in parts.flatten() {
            found.unread(unread);
        }
    }
    if found.found.is_empty() {
        let what = if why_not.is_empty() { "there is no trail".to_owned() } else { why_not.join("; ") };
        found.fail(format!("no trail records IAM's write events: {what}"), FIX);
    }
    found.done()
}

enum Serves {
    Yes(&'static str),
    Maybe(&'static str),
    No(&'static str),
    Unknown,
}

fn serves(trail: &Trail, inventory: &Inventory) -> Serves {
    // Since 2021-11-22 IAM's events are recorded in the home region only
    // (https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_UpdateTrail.html, IncludeGlobalServiceEvents).
    if !trail.global_events {
        return Serves::No("leaves out global services");
    }
    if !trail.multi_region && trail.home != inventory.home {
        return Serves::No("records another region only");
    }
    match &trail.logging {
        Err(_) => return Serves::Unknown,
        Ok(false) => return Serves::No("is stopped"),
        Ok(true) => {}
    }
    match &trail.selectors {
        Ok(Selectors::IamWrites) => Serves::Yes(""),
        Ok(Selectors::Filtered) => Serves::Maybe("filters management events, and may leave IAM's out"),
        Ok(Selectors::NoIamWrites) => Serves::No("records no management write events"),
        // A member account may not read the selectors of the organization's trail (cloud-custodian#6394).
        Err(_) if trail.of_organization && trail.owner != inventory.account => {
            Serves::Yes(", the organization's; what it records cannot be seen from a member account")
        }
        Err(_) => Serves::Unknown,
    }
}
