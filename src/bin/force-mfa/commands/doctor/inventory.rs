//! What was read of one installation: plain values, without a judgement. `reading.rs` fills them in, `checks.rs` judges
//! them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

/// What AWS answered, or why nothing is known. A thing that AWS says does not exist is `Ok(None)`.
pub type Answer<T> = Result<T, Unread>;

/// A call that gave no answer. It says nothing about whether the thing exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The action, as IAM policies spell it.
    pub action: String,
    /// What AWS answered, or what happened on the way to it.
    pub answer: String,
    /// The credentials do not allow the call.
    pub denied: bool,
}

/// One installation, and the account around it, at one moment.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// When it was read.
    pub now: DateTime<Utc>,
    /// Twelve digits.
    pub account: String,
    /// The region that the operator's configuration names.
    pub region: String,
    /// The home region of its partition: the only one that IAM's events reach.
    pub home: String,
    /// The name that was looked for.
    pub stack_name: String,
    /// The stack in the home region.
    pub stack: Answer<Option<Stack>>,
    /// The status of a stack of that name in `region`, where that is not the home region.
    pub stack_in_region: Answer<Option<String>>,
    /// What the stack consists of; empty without a stack.
    pub resources: Answer<Vec<Resource>>,
    /// The ARN of the policy that was looked for.
    pub policy_arn: String,
    /// The managed policy.
    pub policy: Answer<Option<Policy>>,
    /// The document of the policy's default version.
    pub policy_document: Answer<Option<String>>,
    /// The name of the overflow group.
    pub group_name: String,
    /// The ARNs of the policies that are attached to the overflow group.
    pub group_policies: Answer<Option<Vec<String>>>,
    /// The function's configuration.
    pub function: Answer<Option<Function>>,
    /// The function's reserved concurrency; `None` if nothing is reserved.
    pub concurrency: Answer<Option<i32>>,
    /// The ARN of the function's OnFailure destination.
    pub on_failure: Answer<Option<String>>,
    /// The document of the function's resource policy.
    pub function_policy: Answer<Option<String>>,
    /// What the function's role may not do, and its policies.
    pub role: Answer<Option<Role>>,
    /// The calls that the role is not allowed to make, of those that the function makes.
    pub refused: Answer<Vec<Refused>>,
    /// The stack's rules by name.
    pub rules: Vec<(String, Answer<Option<Rule>>)>,
    /// The stack's queues by URL.
    pub queues: Vec<(String, Answer<Option<Queue>>)>,
    /// The trails that the home region sees.
    pub trails: Answer<Vec<Trail>>,
    /// The stack's alarms; the names of those that exist no more are in `missing_alarms`.
    pub alarms: Answer<Vec<Alarm>>,
    /// The stack's alarms that do not exist.
    pub missing_alarms: Vec<String>,
    /// The account's mute rules that are active or will be.
    pub mutes: Answer<Vec<Mute>>,
    /// The topics of this account that the alarms notify, by ARN.
    pub topics: Vec<(String, Answer<Option<Topic>>)>,
    /// When the latest sweep finished, by its metric; `None` if none did within [`SWEEPS_KEPT`].
    pub last_sweep: Answer<Option<DateTime<Utc>>>,
}

/// How far back `last_sweep` looks, in days. CloudWatch keeps data points of one minute for 15 days
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html>, "Metrics retention").
pub const SWEEPS_KEPT: i64 = 15;

/// A CloudFormation stack.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its status, such as `CREATE_COMPLETE`.
    pub status: String,
    /// Why it has that status, if it says so.
    pub reason: Option<String>,
    /// When it was created.
    pub created: Option<DateTime<Utc>>,
    /// Parameters by key.
    pub parameters: HashMap<String, String>,
    /// Outputs by key.
    pub outputs: HashMap<String, String>,
    /// The function's variables, as the parameters and outputs make them.
    pub settings: HashMap<String, String>,
}

/// One resource of the stack.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Such as `AWS::Events::Rule`.
    pub kind: String,
    /// The name, ARN or URL, as the type has it.
    pub physical: String,
}

/// A managed policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// IAM lets it be attached.
    pub attachable: bool,
    /// Such as `v1`.
    pub default_version: String,
}

/// The function's configuration.
#[derive(Clone, Debug)]
pub struct Function {
    /// The name.
    pub name: String,
    /// The ARN without a qualifier.
    pub arn: String,
    /// Such as `Active`.
    pub state: String,
    /// Why it is in that state.
    pub state_reason: Option<String>,
    /// Such as `Successful`.
    pub last_update: String,
    /// Why the last update failed.
    pub last_update_reason: Option<String>,
    /// Such as `provided.al2023`.
    pub runtime: String,
    /// Such as `arm64`.
    pub architecture: String,
    /// The ARN of the role.
    pub role: String,
    /// The environment variables.
    pub variables: HashMap<String, String>,
}

/// The policies of the function's role.
#[derive(Clone, Debug)]
pub struct Role {
    /// The names of the policies that are attached to it.
    pub attached: Vec<String>,
    /// The names of its inline policies.
    pub inline: Vec<String>,
}

/// A call that the function needs and its role may not make.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The action, as IAM policies spell it.
    pub action: String,
    /// The ARN that it was simulated on.
    pub resource: String,
    /// What refuses it.
    pub by: RefusedBy,
}

/// What refuses a call of the function's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// No policy of the role allows it.
    NoPolicy,
    /// A policy of the role denies it.
    Policy,
    /// The role's permissions boundary does not allow it.
    Boundary,
    /// An SCP does not allow it. The simulation is known to misjudge SCPs with conditions (aws-sdk#102).
    Scp,
}

/// A rule of EventBridge.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The ARN.
    pub arn: String,
    /// Such as `ENABLED`.
    pub state: String,
    /// The event pattern; a schedule has none.
    pub pattern: Option<String>,
    /// The schedule; an event pattern has none.
    pub schedule: Option<String>,
    /// Whether the pattern takes a `CreateLoginProfile` event of this account; `None` without a pattern.
    pub takes_a_password: Answer<Option<bool>>,
    /// Where it sends events.
    pub targets: Answer<Vec<Target>>,
}

/// A target of a rule.
#[derive(Clone, Debug)]
pub struct Target {
    /// The ARN.
    pub arn: String,
    /// The ARN of its dead-letter queue.
    pub dead_letters: Option<String>,
    /// The target gets something else than the event.
    pub input_replaced: bool,
}

/// An SQS queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The ARN.
    pub arn: String,
    /// The document of its policy.
    pub policy: Option<String>,
    /// Messages in it, those in flight included.
    pub messages: u64,
    /// The age of the oldest message in seconds, by CloudWatch's metric, which lags by minutes; `None` without data.
    pub oldest_s: Answer<Option<i64>>,
}

/// A trail of CloudTrail.
#[derive(Clone, Debug)]
pub struct Trail {
    /// The name.
    pub name: String,
    /// The account that owns it.
    pub owner: String,
    /// It records the calls of global services, such as IAM.
    pub global_events: bool,
    /// It records all regions.
    pub multi_region: bool,
    /// The region that it was created in.
    pub home: String,
    /// It is the organization's.
    pub of_organization: bool,
    /// It is switched on.
    pub logging: Answer<bool>,
    /// What it records of management events.
    pub selectors: Answer<Selectors>,
}

/// What a trail records of the management events that write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selectors {
    /// All of IAM's.
    IamWrites,
    /// Fewer, by a filter that this program does not know.
    Filtered,
    /// None of IAM's.
    NoIamWrites,
}

/// A CloudWatch alarm.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// The name.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// Why it is in that state.
    pub reason: String,
    /// Its actions are switched on.
    pub actions_enabled: bool,
    /// The ARNs that it notifies when it goes into ALARM.
    pub actions: Vec<String>,
}

/// A rule that mutes alarms.
#[derive(Clone, Debug)]
pub struct Mute {
    /// The name.
    pub name: String,
    /// It mutes now; otherwise it will.
    pub active: bool,
    /// The alarms that it mutes; empty for all of the account.
    pub alarms: Vec<String>,
}

/// An SNS topic.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// Subscriptions that receive messages.
    pub confirmed: u32,
    /// Subscriptions that wait for their owner.
    pub pending: u32,
}

impl Inventory {
    /// The physical ids of the stack's resources of one type.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &str> {
        let resources = self.resources.as_deref().unwrap_or_default().iter();
        resources.filter(move |resource| resource.kind == kind).map(|resource| resource.physical.as_str())
    }

    /// The stack, if it could be read and exists.
    pub fn found_stack(&self) -> Option<&Stack> {
        self.stack.as_ref().ok()?.as_ref()
    }

    /// The function, if it could be read and exists.
    pub fn found_function(&self) -> Option<&Function> {
        self.function.as_ref().ok()?.as_ref()
    }

    /// The queue with this ARN, if it is the stack's and exists.
    pub fn queue(&self, arn: &str) -> Option<&Queue> {
        self.queues.iter().filter_map(|(_, queue)| queue.as_ref().ok()?.as_ref()).find(|queue| queue.arn == arn)
    }
}
