//! What the stack made: itself, the policy, the group and the function.

use force_mfa::identifiers::PolicyArn;
use force_mfa::policy_text::{self, Verdict};
use force_mfa::settings::{Mode, Settings};

use super::{Check, CheckName, Findings, is_release, put_back};
use crate::commands::doctor::inventory::{Function, Inventory};

/// The function's runtime in infra/template.yaml.
pub const RUNTIME: &str = "provided.al2023";

/// The stack stands where IAM's events go.
pub fn region(inventory: &Inventory) -> Check {
    let Inventory { region, home, stack_name, .. } = inventory;
    let mut found = Findings::new(CheckName::Region);
    match &inventory.stack_in_region {
        Err(unread) => found.unread(unread),
        Ok(Some(status)) => found.fail(
            format!("a stack {stack_name} ({status}) stands in {region}, where IAM's events never arrive"),
            format!(
                "Deploy to {home}, then: aws cloudformation delete-stack --stack-name {stack_name} --region {region}"
            ),
        ),
        Ok(None) if region == home => found.ok(home),
        Ok(None) => found.ok(format!("{home} is read, since IAM's events go there; the configuration names {region}")),
    }
    found.done()
}

/// The stack exists, and CloudFormation is done with it.
pub fn stack(inventory: &Inventory, release: &str) -> Check {
    let Inventory { home, stack_name, .. } = inventory;
    let mut found = Findings::new(CheckName::Stack);
    let stack = match &inventory.stack {
        Err(unread) => {
            found.unread(unread);
            return found.done();
        }
        Ok(None) => {
            found.fail(
                format!("no stack {stack_name} in {home}"),
                "Deploy it (docs/rollout.md), or name another one with --stack",
            );
            return found.done();
        }
        Ok(Some(stack)) => stack,
    };
    let events = format!("aws cloudformation describe-stack-events --stack-name {stack_name} --region {home}");
    let why = stack.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    match stack.status.as_str() {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS" => {}
        "UPDATE_ROLLBACK_COMPLETE" => {
            found.warn(format!("the last update was rolled back{why}; the stack is as before"), events);
        }
        status if status.ends_with("IN_PROGRESS") => {
            found.fail(format!("{status}: CloudFormation is at work"), "Wait until it is done, then run this again");
        }
        status => found.fail(format!("{status}{why}"), events),
    }
    if !is_release(inventory, release) {
        let deployed = stack.outputs.get("Release").map_or("one that does not say which", String::as_str);
        found.warn(
            format!("its release is {deployed}, this command's is {release}"),
            format!("Update the stack to release {release} (docs/rollout.md), or use the command of its release"),
        );
    }
    if found.nothing_grave() {
        found.ok(format!("{}, release {release}", stack.status));
    }
    found.done()
}

/// The policy exists and can be attached.
pub fn policy(inventory: &Inventory) -> Check {
    let arn = &inventory.policy_arn;
    let mut found = Findings::new(CheckName::Policy);
    match &inventory.policy {
        Err(unread) => found.unread(unread),
        Ok(None) => found.fail(format!("{arn} does not exist"), put_back(inventory)),
        Ok(Some(policy)) if !policy.attachable => found.fail(
            format!("IAM does not let {arn} be attached (IsAttachable is false)"),
            "Delete the policy and deploy again (docs/rollout.md)",
        ),
        Ok(Some(policy)) => found.ok(format!("{arn}, default version {}", policy.default_version)),
    }
    found.done()
}

/// The policy still does what it is for.
pub fn policy_text(inventory: &Inventory) -> Check {
    let arn = &inventory.policy_arn;
    let mut found = Findings::new(CheckName::PolicyText);
    let document = match &inventory.policy_document {
        Err(unread) => {
            found.unread(unread);
            return found.done();
        }
        Ok(None) => {
            found.fail(format!("{arn} does not exist"), put_back(inventory));
            return found.done();
        }
        Ok(Some(document)) => document,
    };
    let go_back = format!(
        "aws iam list-policy-versions --policy-arn {arn}, then aws iam set-default-policy-version --policy-arn {arn} \
         --version-id VERSION"
    );
    let verdict = PolicyArn::new(arn).map(|policy| policy_text::judge(document, &policy));
    match verdict {
        Some(Verdict::Enforcing) => found.ok("denies everyday calls without MFA, and lets a user enrol a device"),
        Some(Verdict::NotEnforcing(call)) => {
            found.fail(format!("it no longer denies {call} without MFA: MFA is not enforced"), go_back);
        }
        Some(Verdict::BlocksEnrolment(call)) => {
            found.fail(format!("it denies {call}: users without a device are locked out"), go_back);
        }
        Some(Verdict::Unknown(what)) => {
            found.warn(format!("{what} cannot be judged: read the policy yourself"), go_back);
        }
        None => found.warn(format!("{arn} is no customer managed policy"), put_back(inventory)),
    }
    found.done()
}

/// Members of the overflow group have the policy through it.
pub fn overflow_group(inventory: &Inventory) -> Check {
    let Inventory { group_name, policy_arn, .. } = inventory;
    let mut found = Findings::new(CheckName::OverflowGroup);
    match &inventory.group_policies {
        Err(unread) => found.unread(unread),
        Ok(None) => found.fail(
            format!("the group {group_name} does not exist: users whose quota of policies is full stay uncovered"),
            format!(
                "aws iam create-group --group-name {group_name} && aws iam attach-group-policy --group-name {group_name} \
                 --policy-arn {policy_arn}"
            ),
        ),
        Ok(Some(policies)) if !policies.contains(policy_arn) => found.fail(
            format!("the group {group_name} does not have the policy: its members are uncovered"),
            format!("aws iam attach-group-policy --group-name {group_name} --policy-arn {policy_arn}"),
        ),
        Ok(Some(_)) => found.ok(format!("{group_name} has the policy")),
    }
    found.done()
}

/// The function can run.
pub fn function(inventory: &Inventory) -> Check {
    let home = &inventory.home;
    let mut found = Findings::new(CheckName::Function);
    let Some(function) = found.function(inventory) else { return found.done() };
    let name = &function.name;
    let look = format!("aws lambda get-function-configuration --function-name {name} --region {home}");
    let because = |reason: &Option<String>| reason.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    if function.state != "Active" {
        found.fail(format!("{name} is {}{}", function.state, because(&function.state_reason)), look.clone());
    }
    match function.last_update.as_str() {
        "Failed" => found.fail(format!("its last update failed{}", because(&function.last_update_reason)), look),
        "InProgress" => found.warn("it is being updated", "Run the command again in a minute"),
        _ => {}
    }
    if function.runtime != RUNTIME {
        found.fail(format!("its runtime is {}, not {RUNTIME}", function.runtime), put_back(inventory));
    }
    if let Some(built_for) = inventory.found_stack().and_then(|stack| stack.parameters.get("Architecture"))
        && *built_for != function.architecture
    {
        found.fail(
            format!("its architecture is {}, the stack's is {built_for}", function.architecture),
            put_back(inventory),
        );
    }
    match &inventory.concurrency {
        Err(unread) => found.unread(unread),
        Ok(Some(0)) => found.fail(
            "its reserved concurrency is 0: it never runs",
            format!("aws lambda delete-function-concurrency --function-name {name} --region {home}"),
        ),
        Ok(_) => {}
    }
    if found.nothing_grave() {
        found.ok(format!("{name} is active: {RUNTIME}, {}", function.architecture));
    }
    found.done()
}

/// The function works with the settings that the stack was given.
pub fn function_settings(inventory: &Inventory) -> Check {
    let mut found = Findings::new(CheckName::FunctionSettings);
    let Some(function) = found.function(inventory) else { return found.done() };
    if let Some(stack) = inventory.found_stack() {
        let mut differing: Vec<String> = stack
            .settings
            .iter()
            .filter_map(|(variable, wanted)| {
                let has = function.variables.get(variable).map_or("", String::as_str);
                (has != wanted).then(|| format!("{variable} is {has:?}, the stack's is {wanted:?}"))
            })
            .collect();
        differing.sort();
        if !differing.is_empty() {
            found.fail(
                differing.join(", "),
                "Update the stack with the settings that are meant; somebody changed the function by hand",
            );
        }
    }
    match Settings::read(|variable| function.variables.get(variable).cloned()) {
        Err(error) => found.fail(format!("the function cannot start: {error}"), put_back(inventory)),
        Ok(settings) => {
            if exempts_everyone(function) {
                found.fail("everyone is exempt", "Update the stack with narrower ExemptUsers and ExemptPaths");
            }
            if settings.mode == Mode::Report {
                found.warn(
                    "report mode: the policy is attached to nobody",
                    "Update the stack with Mode=enforce when the reports look right (docs/rollout.md)",
                );
            }
        }
    }
    if found.nothing_grave() {
        found.ok("as the stack has them");
    }
    found.done()
}

/// A name pattern of stars alone, or the path that all others begin with.
fn exempts_everyone(function: &Function) -> bool {
    let items = |variable: &str| function.variables.get(variable).into_iter().flat_map(|list| list.split(','));
    let all_stars = |item: &str| !item.is_empty() && item.bytes().all(|byte| byte == b'*');
    items("FORCE_MFA_EXEMPT_USERS").any(|item| all_stars(item.trim()))
        || items("FORCE_MFA_EXEMPT_PATHS").any(|item| item.trim() == "/")
}
