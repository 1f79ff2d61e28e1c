//! The checks: what was read of an installation, judged. Pure: they make no call and read no clock.
//!
//! A check that could not see something is `unknown`, never `ok` and never `fail`: a failed read is not an absence.

mod alerting;
mod delivery;
mod installation;
mod statements;

use serde::Serialize;

use super::inventory::{Answer, Function, Inventory, Unread};
use crate::stack_name::StackName;

/// The checks, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    /// The stack stands in the region that IAM's events reach.
    Region,
    /// The stack exists and its last operation ended well.
    Stack,
    /// The managed policy exists and can be attached.
    Policy,
    /// The policy denies everyday calls without MFA, and lets a user enrol.
    PolicyText,
    /// The overflow group has the policy.
    OverflowGroup,
    /// The function can run.
    Function,
    /// The function has the stack's settings.
    FunctionSettings,
    /// What the function fails on goes to a queue.
    FailureDestination,
    /// The rules take the events and send them to the function.
    Rules,
    /// The rules may call the function, and the function may call IAM.
    Permissions,
    /// A trail records IAM's write events.
    Trail,
    /// No event waits in a dead-letter queue.
    Queues,
    /// The alarms exist, notify, and are quiet.
    Alarms,
    /// Somebody receives what the alarms send.
    AlarmReceivers,
    /// A sweep finished not long ago.
    LastSweep,
    /// A new console user gets the policy.
    Canary,
}

impl CheckName {
    /// The name in the output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Stack => "stack",
            Self::Policy => "policy",
            Self::PolicyText => "policy_text",
            Self::OverflowGroup => "overflow_group",
            Self::Function => "function",
            Self::FunctionSettings => "function_settings",
            Self::FailureDestination => "failure_destination",
            Self::Rules => "rules",
            Self::Permissions => "permissions",
            Self::Trail => "trail",
            Self::Queues => "queues",
            Self::Alarms => "alarms",
            Self::AlarmReceivers => "alarm_receivers",
            Self::LastSweep => "last_sweep",
            Self::Canary => "canary",
        }
    }
}

/// What a check came to. The order is that of gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it must be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// The credentials may not look, or AWS did not answer.
    Unknown,
    /// It does not work.
    Fail,
}

/// One line of the output.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Which check.
    #[serde(rename = "check")]
    pub name: CheckName,
    /// What it came to.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do, as a command where there is one; nothing if all is well.
    pub fix: Option<String>,
}

/// Judges an installation. `release` is the version of this program.
pub fn judge(inventory: &Inventory, release: &str) -> Vec<Check> {
    vec![
        installation::region(inventory),
        installation::stack(inventory, release),
        installation::policy(inventory),
        installation::policy_text(inventory),
        installation::overflow_group(inventory),
        installation::function(inventory),
        installation::function_settings(inventory),
        delivery::failure_destination(inventory),
        delivery::rules(inventory),
        delivery::permissions(inventory, release),
        delivery::trail(inventory),
        alerting::queues(inventory),
        alerting::alarms(inventory),
        alerting::alarm_receivers(inventory),
        alerting::last_sweep(inventory, release),
    ]
}

/// Gathers what one check finds. The check has the gravest state of all that was found, and the fix of the first finding
/// with that state.
#[derive(Debug)]
struct Findings {
    check: CheckName,
    found: Vec<(State, String, Option<String>)>,
}

impl Findings {
    fn new(check: CheckName) -> Self {
        Self { check, found: Vec::new() }
    }

    fn ok(&mut self, detail: impl Into<String>) {
        self.found.push((State::Ok, detail.into(), None));
    }

    fn warn(&mut self, detail: impl Into<String>, fix: impl Into<String>) {
        self.found.push((State::Warn, detail.into(), Some(fix.into())));
    }

    fn fail(&mut self, detail: impl Into<String>, fix: impl Into<String>) {
        self.found.push((State::Fail, detail.into(), Some(fix.into())));
    }

    fn unknown(&mut self, detail: impl Into<String>, fix: impl Into<String>) {
        self.found.push((State::Unknown, detail.into(), Some(fix.into())));
    }

    /// What could not be read. One action is named once, however often it was tried.
    fn unread(&mut self, unread: &Unread) {
        let Unread { action, answer, denied } = unread;
        let (detail, fix) = if *denied {
            (
                format!("not allowed to call {action}"),
                format!("Allow {action} to these credentials: infra/auditor.yaml"),
            )
        } else {
            (format!("{action} gave no usable answer: {answer}"), "Run the command again".to_owned())
        };
        if !self.found.iter().any(|(_, known, _)| *known == detail) {
            self.found.push((State::Unknown, detail, Some(fix)));
        }
    }

    /// What was read. If it could not be read, the check is `unknown`.
    fn read<'a, T>(&mut self, answer: &'a Answer<T>) -> Option<&'a T> {
        answer.as_ref().inspect_err(|unread| self.unread(unread)).ok()
    }

    /// The function. If it could not be read or is missing, that is what was found.
    fn function<'a>(&mut self, inventory: &'a Inventory) -> Option<&'a Function> {
        let function = self.read(&inventory.function)?.as_ref();
        if function.is_none() {
            self.not_in_stack(inventory, "function");
        }
        function
    }

    /// Something that the stack should have and its list of resources does not name.
    fn not_in_stack(&mut self, inventory: &Inventory, what: &str) {
        match (&inventory.stack, &inventory.resources) {
            (Err(unread), _) | (_, Err(unread)) => self.unread(unread),
            (Ok(None), Ok(_)) => self.fail(format!("no stack, and so no {what}"), put_back(inventory)),
            (Ok(Some(_)), Ok(_)) => self.fail(format!("the stack has no {what}"), put_back(inventory)),
        }
    }

    fn nothing_grave(&self) -> bool {
        self.found.iter().all(|(state, _, _)| *state == State::Ok)
    }

    /// Findings that are not `ok` push those that are out of the line.
    fn done(self) -> Check {
        let state = self.found.iter().map(|(state, _, _)| *state).max().unwrap_or(State::Ok);
        let told = |of: &State| (*of == State::Ok) == (state == State::Ok);
        let details: Vec<&str> =
            self.found.iter().filter(|(of, _, _)| told(of)).map(|(_, detail, _)| detail.as_str()).collect();
        let detail = details.join("; ");
        let fix = self.found.into_iter().find(|(of, _, _)| *of == state).and_then(|(_, _, fix)| fix);
        Check { name: self.check, state, detail, fix }
    }
}

/// What brings the stack's resources back to its template, also those that were deleted behind its back: a drift-aware
/// change set
/// (<https://aws.amazon.com/blogs/devops/safely-handle-configuration-drift-with-cloudformation-drift-aware-change-sets>).
/// Without `UsePreviousValue` a parameter falls back to its default.
fn put_back(inventory: &Inventory) -> String {
    let Inventory { home, stack_name, .. } = inventory;
    if !matches!(inventory.stack, Ok(Some(_))) {
        return "Deploy the stack (docs/rollout.md)".to_owned();
    }
    let of_stack = format!("--stack-name {stack_name} --region {home}");
    format!(
        "aws cloudformation create-change-set {of_stack} --change-set-name put-back --use-previous-template \
         --capabilities CAPABILITY_NAMED_IAM --deployment-mode REVERT_DRIFT --parameters $(aws cloudformation \
         describe-stacks {of_stack} --output text --query \"Stacks[0].Parameters[].join('', ['ParameterKey=', \
         ParameterKey, ',UsePreviousValue=true'])\") # then docs/runbook.md, Put the stack right: what to read before it is executed"
    )
}

/// A command line of this program, for the same stack.
fn command(inventory: &Inventory, arguments: &str) -> String {
    match inventory.stack_name.as_str() {
        name if name == StackName::Default.name() => format!("force-mfa {arguments}"),
        name => format!("force-mfa {arguments} --stack {name}"),
    }
}

/// Whether the stack is of this release. What another release lacks is no fault of the installation.
fn is_release(inventory: &Inventory, release: &str) -> bool {
    inventory.found_stack().is_none_or(|stack| stack.outputs.get("Release").is_some_and(|of| of == release))
}

fn update_first(release: &str) -> String {
    format!("Update the stack to release {release} first (docs/rollout.md), then run this again")
}

#[cfg(test)]
mod tests;
