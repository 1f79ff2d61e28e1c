//! The way of an event, from the trail to IAM, and where an event goes that could not be handled.

use super::{Check, CheckName, Findings, State, command, is_release, put_back, statements, update_first};
use crate::commands::doctor::inventory::{Inventory, Refused, RefusedBy, Rule, Selectors, Trail};

/// CloudFormation does not compare the policy of a queue, so that a drift-aware change set does not put it back.
const QUEUE_POLICY: &str = "aws sqs set-queue-attributes, with the policy that infra/template.yaml gives this queue: docs/runbook.md, Put the \
     stack right";

/// What the function fails on goes to a queue of the stack, which its alarm watches.
pub fn failure_destination(inventory: &Inventory) -> Check {
    let mut found = Findings::new(CheckName::FailureDestination);
    let destination = match &inventory.on_failure {
        Err(unread) => {
            found.unread(unread);
            return found.done();
        }
        Ok(None) if matches!(inventory.function, Ok(None)) => {
            found.not_in_stack(inventory, "function");
            return found.done();
        }
        Ok(None) => {
            found.fail("the function has no OnFailure destination: failed events are lost", put_back(inventory));
            return found.done();
        }
        Ok(Some(destination)) => destination,
    };
    match inventory.queue(destination) {
        Some(queue) => match queue.policy.as_deref().and_then(|policy| statements::denial(policy, "sqs:SendMessage")) {
            Some(statement) => found.fail(
                format!("the queue's policy denies sqs:SendMessage (statement {statement}): failed events are lost"),
                QUEUE_POLICY,
            ),
            None => found.ok(destination),
        },
        None => no_queue(&mut found, inventory, &format!("{destination}, where failed events go,")),
    }
    found.done()
}

/// A queue that is not among those of the stack that could be read.
fn no_queue(found: &mut Findings, inventory: &Inventory, subject: &str) {
    let unread = inventory.queues.iter().find_map(|(_, queue)| queue.as_ref().err());
    match unread.or(inventory.resources.as_ref().err()) {
        Some(unread) => found.unread(unread),
        None => found.fail(format!("{subject} is missing, or is no queue of the stack"), put_back(inventory)),
    }
}

/// The rules are on, take the events, and send them to the function.
pub fn rules(inventory: &Inventory) -> Check {
    let mut found = Findings::new(CheckName::Rules);
    if inventory.rules.is_empty() {
        found.not_in_stack(inventory, "rule");
        return found.done();
    }
    let (mut takes_passwords, mut sweeps) = (false, false);
    for (name, rule) in &inventory.rules {
        match rule {
            Err(unread) => found.unread(unread),
            Ok(None) => found.fail(format!("the rule {name} does not exist"), put_back(inventory)),
            Ok(Some(rule)) => {
                check_rule(&mut found, inventory, name, rule);
                sweeps |= rule.schedule.is_some();
                match &rule.takes_a_password {
                    Err(unread) => found.unread(unread),
                    Ok(takes) => takes_passwords |= takes.unwrap_or_default(),
                }
            }
        }
    }
    // A rule that could not be read, or is missing, may have been the one.
    if found.found.iter().all(|(state, _, _)| *state < State::Unknown) {
        if !takes_passwords {
            found.fail("no rule takes a CreateLoginProfile event: new passwords are not noticed", put_back(inventory));
        }
        if !sweeps {
            found.fail("no rule has a schedule: nothing starts a sweep", put_back(inventory));
        }
    }
    if found.nothing_grave() {
        found.ok(format!("{} enabled, each with the function and a dead-letter queue", inventory.rules.len()));
    }
    found.done()
}

/// States in which a rule takes events that write: the plain one, and one that takes events that read as well
/// (<https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html>).
const ENABLED: [&str; 2] = ["ENABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"];

fn check_rule(found: &mut Findings, inventory: &Inventory, name: &str, rule: &Rule) {
    if !ENABLED.contains(&rule.state.as_str()) {
        found.fail(
            format!("the rule {name} is {}", rule.state),
            format!("aws events enable-rule --name {name} --region {}", inventory.home),
        );
    }
    let targets = match &rule.targets {
        Err(unread) => return found.unread(unread),
        Ok(targets) => targets,
    };
    let Some(function) = inventory.found_function() else {
        // Whether the targets are the function's cannot be said; the check of the function says what is wrong with it.
        if let Err(unread) = &inventory.function {
            found.unread(unread);
        }
        return;
    };
    let Some(target) = targets.iter().find(|target| target.arn == function.arn) else {
        return found.fail(format!("the rule {name} does not have the function as a target"), put_back(inventory));
    };
    if target.input_replaced && rule.pattern.is_some() {
        found.fail(format!("the rule {name} sends something else than the event"), put_back(inventory));
    }
    let Some(dead_letters) = &target.dead_letters else {
        return found.fail(format!("the rule {name} has no dead-letter queue"), put_back(inventory));
    };
    match inventory.queue(dead_letters) {
        None => no_queue(found, inventory, &format!("the dead-letter queue of the rule {name}, {dead_letters},")),
        Some(queue) => {
            let policy = queue.policy.as_deref().unwrap_or_default();
            let (service, action) = ("events.amazonaws.com", "sqs:SendMessage");
            if !statements::lets_service(policy, service, action, &rule.arn, &inventory.account)
                || statements::denial(policy, action).is_some()
            {
                found.fail(
                    format!("the dead-letter queue {dead_letters} does not let the rule {name} send"),
                    QUEUE_POLICY,
                );
            }
        }
    }
}

/// The rules may call the function, and the function may make its calls and no more.
pub fn permissions(inventory: &Inventory, release: &str) -> Check {
    let mut found = Findings::new(CheckName::Permissions);
    let Some(function) = found.function(inventory) else { return found.done() };
    match &inventory.function_policy {
        Err(unread) => found.unread(unread),
        Ok(policy) => {
            let policy = policy.as_deref().unwrap_or_default();
            for (name, arn) in
                inventory.rules.iter().filter_map(|(name, rule)| Some((name, &rule.as_ref().ok()?.as_ref()?.arn)))
            {
                let (service, action) = ("events.amazonaws.com", "lambda:InvokeFunction");
                if !statements::lets_service(policy, service, action, arn, &inventory.account) {
                    found.fail(
                        format!("the rule {name} may not invoke the function"),
                        format!(
                            "aws lambda add-permission --function-name {} --statement-id {name} --action {action} \
                             --principal {service} --source-arn {arn} --region {}",
                            function.name, inventory.home
                        ),
                    );
                }
            }
            if let Some(statement) = statements::denial(policy, "lambda:InvokeFunction") {
                found.fail(format!("the function's policy denies calls (statement {statement})"), put_back(inventory));
            }
        }
    }
    let role = function.role.rsplit('/').next().unwrap_or_default();
    if inventory.resources.is_ok() && !inventory.of_kind("AWS::IAM::Role").any(|of_stack| of_stack == role) {
        found.fail(format!("the function runs with the role {role}, which is not the stack's"), put_back(inventory));
    }
    check_role(&mut found, inventory, role, release);
    if found.nothing_grave() {
        found.ok(format!("the rules may invoke the function; {role} may make every call that it needs"));
    }
    found.done()
}

fn check_role(found: &mut Findings, inventory: &Inventory, role: &str, release: &str) {
    match &inventory.refused {
        Err(unread) => found.unread(unread),
        // An older release needs fewer calls.
        Ok(refused) if !refused.is_empty() && !is_release(inventory, release) => found
            .unknown("whether the role may do what this release needs shows after an update", update_first(release)),
        Ok(refused) => {
            for Refused { action, resource, by } in refused {
                let call = format!("{role} may not call {action} on {resource}");
                match by {
                    RefusedBy::NoPolicy => found.fail(format!("{call}: no policy allows it"), put_back(inventory)),
                    RefusedBy::Policy => {
                        found.fail(format!("{call}: a policy of the role denies it"), put_back(inventory));
                    }
                    RefusedBy::Boundary => found.fail(
                        format!("{call}: the role's permissions boundary does not allow it"),
                        format!(
                            "Allow {action} in the boundary, or update the stack with another PermissionsBoundaryName"
                        ),
                    ),
                    // Whether it is true shows in the last sweep and in the canary.
                    RefusedBy::Scp => found.warn(
                        format!(
                            "{call}, says IAM's simulation: an SCP, which it may misjudge if the SCP has conditions"
                        ),
                        format!(
                            "{}, which shows whether the function can do it",
                            command(inventory, "doctor --canary")
                        ),
                    ),
                }
            }
        }
    }
    match &inventory.role {
        Err(unread) => found.unread(unread),
        Ok(None) => found.fail(format!("the role {role} does not exist"), put_back(inventory)),
        Ok(Some(policies)) => {
            // The stack gives the role one inline policy.
            let more_inline = if policies.inline.len() > 1 { policies.inline.as_slice() } else { &[] };
            if !policies.attached.is_empty() || !more_inline.is_empty() {
                let names: Vec<&str> = policies.attached.iter().chain(more_inline).map(String::as_str).collect();
                found.warn(
                    format!("{role} has more than the stack's policy: {}", names.join(", ")),
                    format!("aws iam list-attached-role-policies --role-name {role}; aws iam list-role-policies --role-name {role}"),
                );
            }
        }
    }
}

/// A trail records what IAM writes, or EventBridge gets no event
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html>).
pub fn trail(inventory: &Inventory) -> Check {
    const FIX: &str = "Switch on a trail that is multi-Region, or in the home region with global service events, and records \
                       management write events (docs/rollout.md)";
    let mut found = Findings::new(CheckName::Trail);
    let Some(trails) = found.read(&inventory.trails) else { return found.done() };
    let mut why_not = Vec::new();
    for trail in trails {
        match serves(trail, inventory) {
            Serves::Yes(note) => found.ok(format!("{}{note}", trail.name)),
            Serves::No(why) => why_not.push(format!("{} {why}", trail.name)),
            Serves::Unknown => {}
        }
    }
    if found.found.is_empty() {
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
        Ok(Selectors::Filtered) => Serves::No("filters management events"),
        Ok(Selectors::NoIamWrites) => Serves::No("records no management write events"),
        // A member account may not read the selectors of the organization's trail (cloud-custodian#6394).
        Err(_) if trail.of_organization && trail.owner != inventory.account => {
            Serves::Yes(", the organization's; what it records cannot be seen from a member account")
        }
        Err(_) => Serves::Unknown,
    }
}
