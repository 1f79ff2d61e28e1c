//! JSON → [`Trigger`]. No calls, no clock: what a payload says, and whether it is any of the guard's business.
//!
//! A CloudTrail record is read with every field optional, since real records lack about any of them:
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>.

mod json;

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::identifiers::{GroupName, UserName, legible};
use crate::settings::{Mode, Settings};

/// A payload, read.
#[derive(Debug)]
pub struct Event {
    /// What identifies it in a log.
    pub facts: Facts,
    /// What it asks for.
    pub trigger: Result<Trigger, PayloadError>,
}

/// What identifies an event: to be logged, never to be decided on (but for the time).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// CloudTrail's `eventID`, else the EventBridge id.
    pub event_id: Option<String>,
    /// CloudTrail's `eventName`, the IAM call; of an event that is not CloudTrail's, its `detail-type`.
    pub event_name: Option<String>,
    /// Who made the IAM call.
    pub caller_arn: Option<String>,
    /// When the IAM call was made, or another event was sent. Missing if the event does not say so in a form that can be read.
    pub time: Option<DateTime<Utc>>,
}

/// What a payload asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A user may have to be put under the policy.
    User {
        /// The user.
        user: UserName,
        /// What happened to it.
        change: Change,
    },
    /// None of the guard's business.
    Ignore(IgnoreReason),
    /// The whole account is to be looked through.
    Sweep {
        /// `Report` if the payload asks for it; it can only soften the configured mode.
        mode: Mode,
    },
}

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `CreateLoginProfile`: it got a console password.
    LoginProfileCreated,
    /// `CreateUser`: it came to be, with a password or not.
    UserCreated,
    /// `DetachUserPolicy`, `RemoveUserFromGroup`: the policy was taken from it.
    PolicyRemoved,
}

/// Why an event is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoreReason {
    /// The IAM call did not succeed.
    FailedCall,
    /// Another service's event, though its name may be the same.
    OtherService,
    /// An IAM event that takes nothing from the guard.
    OtherEvent,
    /// It names no IAM user: root's own password.
    NoUserName,
    /// The user has no console password.
    NotAConsoleUser,
    /// It happened in another account.
    OtherAccount,
    /// The user does not exist any more.
    UserGone,
}

impl IgnoreReason {
    /// The reason as the reply spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailedCall => "failed_call",
            Self::OtherService => "other_service",
            Self::OtherEvent => "other_event",
            Self::NoUserName => "no_user_name",
            Self::NotAConsoleUser => "not_a_console_user",
            Self::OtherAccount => "other_account",
            Self::UserGone => "user_gone",
        }
    }
}

/// A payload that cannot be acted on and must not be lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is none of the payloads that the function takes.
    #[error(
        "the payload is {0}; the function takes an EventBridge event, a Lambda OnFailure message, or {{\"sweep\": {{}}}}. \
         Look at what invokes it: the rule and the schedule of its stack are all that should"
    )]
    Unrecognised(String),
    /// It is one of them, but something in it is not as AWS sends it.
    #[error(
        "the event cannot be read: {0}. Nothing was done; find the user in CloudTrail by the event id and, if it has a \
         console password, let a sweep cover it"
    )]
    Malformed(String),
}

use PayloadError::{Malformed, Unrecognised};

/// A CloudTrail record, of which any field may be missing, null or odd.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CloudTrailRecord {
    event_source: Value,
    event_name: Value,
    #[serde(rename = "eventID")]
    event_id: Value,
    event_time: Value,
    recipient_account_id: Value,
    user_identity: Value,
    error_code: Value,
    error_message: Value,
    request_parameters: Value,
    response_elements: Value,
    /// Of a CloudFormation event.
    #[serde(rename = "status-details")]
    status_details: Value,
}

/// Reads a payload: an EventBridge event, an OnFailure message around one, or a call for a sweep.
#[must_use]
pub fn read(payload: &[u8], settings: &Settings) -> Event {
    let mut facts = Facts::default();
    let trigger = trigger(payload, settings, &mut facts);
    Event { facts, trigger }
}

fn trigger(payload: &[u8], settings: &Settings, facts: &mut Facts) -> Result<Trigger, PayloadError> {
    let mut payload = json::parse(payload).map_err(|error| Unrecognised(format!("not JSON ({error})")))?;
    // A message that failed once more after a redrive is wrapped again.
    loop {
        let Value::Object(mut object) = payload else {
            return Err(Unrecognised(format!("{}, not an object", kind(&payload))));
        };
        if let Some(inner) = object.remove("requestPayload") {
            payload = inner;
        } else if ["source", "detail-type", "detail"].iter().all(|key| object.contains_key(*key)) {
            return event_bridge(object, settings, facts);
        } else if let Some(request) = object.get("sweep").filter(|_| object.len() == 1) {
            return sweep(request);
        } else {
            return Err(Unrecognised("an object of another kind".to_owned()));
        }
    }
}

/// Only what is spelled as documented is taken: a sweep that was meant to report must not write because of a typo.
fn sweep(request: &Value) -> Result<Trigger, PayloadError> {
    let object = request.as_object().ok_or_else(|| Malformed("sweep is not an object".to_owned()))?;
    let mut mode = Mode::Enforce;
    for (key, value) in object {
        match (key.as_str(), value.as_str()) {
            ("mode", Some("report")) => mode = Mode::Report,
            ("mode", Some("enforce")) => {}
            _ => {
                return Err(Malformed(format!(
                    "sweep takes \"mode\": \"report\" and nothing else, not {}",
                    excerpt(key)
                )));
            }
        }
    }
    Ok(Trigger::Sweep { mode })
}

fn event_bridge(
    mut envelope: Map<String, Value>,
    settings: &Settings,
    facts: &mut Facts,
) -> Result<Trigger, PayloadError> {
    // A list would be taken for the fields in their order.
    if !envelope["detail"].is_object() {
        return Err(Malformed(format!("its detail is {}, not an object", kind(&envelope["detail"]))));
    }
    // These two may be odd without the event being lost; the rest of the envelope is not used.
    let envelope_id = envelope.remove("id").unwrap_or_default();
    let envelope_time = envelope.remove("time").unwrap_or_default();
    envelope.retain(|key, _| ["source", "detail-type", "detail", "account"].contains(&key.as_str()));
    let event: EventBridgeEvent<CloudTrailRecord> = serde_json::from_value(Value::Object(envelope))
        .map_err(|error| Malformed(format!("it is no EventBridge event ({})", excerpt(&error.to_string()))))?;
    let record = &event.detail;

    facts.event_id = text(&record.event_id).or_else(|| text(&envelope_id)).map(excerpt);
    facts.event_name = text(&record.event_name).or(Some(&event.detail_type)).map(excerpt);
    facts.caller_arn = text(&record.user_identity["arn"]).map(excerpt);
    facts.time = time(&record.event_time).or_else(|| time(&envelope_time));

    match (event.source.as_str(), event.detail_type.as_str()) {
        ("aws.events", "Scheduled Event") => unless_another_accounts(&event, settings, || Ok(sweep_in(Mode::Enforce))),
        ("aws.cloudformation", "CloudFormation Stack Status Change") => {
            unless_another_accounts(&event, settings, || stack_status_change(&event.detail))
        }
        _ => cloud_trail(&event, settings),
    }
}

fn unless_another_accounts(
    event: &EventBridgeEvent<CloudTrailRecord>,
    settings: &Settings,
    trigger: impl FnOnce() -> Result<Trigger, PayloadError>,
) -> Result<Trigger, PayloadError> {
    let record = &event.detail;
    let recipient = named(record, "recipientAccountId", &record.recipient_account_id)?;
    if event.account.as_deref().or(recipient).is_some_and(|account| account != settings.policy.account()) {
        return Ok(Trigger::Ignore(IgnoreReason::OtherAccount));
    }
    trigger()
}

/// The stack is deployed or changed. The rule sees to it that it is our stack.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/events-stack.html>
fn stack_status_change(detail: &CloudTrailRecord) -> Result<Trigger, PayloadError> {
    const STATUS: &str = "status-details.status";
    match within(detail, STATUS, &detail.status_details)? {
        Some("CREATE_COMPLETE") => Ok(sweep_in(Mode::Enforce)),
        // A parameter that was set by mistake can be corrected before the next scheduled sweep acts on it.
        Some("UPDATE_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE") => Ok(sweep_in(Mode::Report)),
        Some(_) => Ok(Trigger::Ignore(IgnoreReason::OtherEvent)),
        None => Err(Malformed(format!("a CloudFormation Stack Status Change has no {STATUS}"))),
    }
}

const fn sweep_in(mode: Mode) -> Trigger {
    Trigger::Sweep { mode }
}

fn cloud_trail(event: &EventBridgeEvent<CloudTrailRecord>, settings: &Settings) -> Result<Trigger, PayloadError> {
    let record = &event.detail;
    if event.source != "aws.iam" || named(record, "eventSource", &record.event_source)? != Some("iam.amazonaws.com") {
        return Ok(Trigger::Ignore(IgnoreReason::OtherService));
    }
    unless_another_accounts(event, settings, || iam_call(record, settings))
}

fn iam_call(record: &CloudTrailRecord, settings: &Settings) -> Result<Trigger, PayloadError> {
    let Some(change) = change(record)? else {
        return Ok(Trigger::Ignore(IgnoreReason::OtherEvent));
    };
    if !record.error_code.is_null() || !record.error_message.is_null() {
        return Ok(Trigger::Ignore(IgnoreReason::FailedCall));
    }
    if change == Change::PolicyRemoved && !concerns_us(record, settings)? {
        return Ok(Trigger::Ignore(IgnoreReason::OtherEvent));
    }
    Ok(match user(record, change)? {
        Some(user) => Trigger::User { user, change },
        None => Trigger::Ignore(IgnoreReason::NoUserName),
    })
}

/// What the call does to a user, if it is one that the guard is for.
fn change(record: &CloudTrailRecord) -> Result<Option<Change>, PayloadError> {
    Ok(match named(record, "eventName", &record.event_name)? {
        Some("CreateLoginProfile") => Some(Change::LoginProfileCreated),
        Some("CreateUser") => Some(Change::UserCreated),
        Some("DetachUserPolicy" | "RemoveUserFromGroup") => Some(Change::PolicyRemoved),
        _ => None,
    })
}

/// Whether it was our policy that was detached, or our group that was left.
fn concerns_us(record: &CloudTrailRecord, settings: &Settings) -> Result<bool, PayloadError> {
    let parameter = |place| within(record, place, &record.request_parameters);
    let group = parameter("requestParameters.groupName")?.and_then(GroupName::new);
    let is_policy = |arn: &str| arn.eq_ignore_ascii_case(settings.policy.as_str());
    Ok(parameter("requestParameters.policyArn")?.is_some_and(is_policy)
        || group.is_some() && group == settings.overflow_group)
}

/// Whom the call was about. `None` is root's own password: the one case in which a call that succeeded names nobody.
/// Anybody else's that names nobody may hide a user who must be covered, and so is kept in the failure queue.
///
/// `CreateLoginProfile` without a user name is for its caller: somebody with an access key gives themself a console.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateLoginProfile.html>
fn user(record: &CloudTrailRecord, change: Change) -> Result<Option<UserName>, PayloadError> {
    let CloudTrailRecord { request_parameters, response_elements, user_identity, .. } = record;
    let mut places = vec![
        ("requestParameters.userName", request_parameters),
        ("responseElements.loginProfile.userName", response_elements),
        ("responseElements.user.userName", response_elements),
    ];
    if change == Change::LoginProfileCreated && text(&user_identity["type"]) == Some("IAMUser") {
        places.push(("userIdentity.userName", user_identity));
    }
    for (place, root) in places {
        if let Some(name) = within(record, place, root)? {
            return UserName::new(name)
                .map(Some)
                .ok_or_else(|| Malformed(format!("{place} is {:?}, which IAM allows no user", excerpt(name))));
        }
    }
    match within(record, "userIdentity.type", user_identity)? {
        Some("Root") => Ok(None),
        Some(_) | None => Err(Malformed(format!("{} names no user, and its caller is not root", call(record)))),
    }
}

/// The text at a place that decides, if it is there, such as `responseElements.user.userName` in that root. What it is in
/// must not be of another kind either.
fn within<'a>(record: &CloudTrailRecord, place: &str, root: &'a Value) -> Result<Option<&'a str>, PayloadError> {
    let mut value = root;
    for (dot, _) in place.match_indices('.') {
        let (so_far, field) = (&place[..dot], place[dot + 1..].split('.').next().unwrap_or_default());
        value = match value {
            Value::Null => return Ok(None),
            Value::Object(fields) => fields.get(field).unwrap_or(&Value::Null),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(Malformed(format!("{so_far} of {} is {}, not an object", call(record), kind(value))));
            }
        };
    }
    named(record, place, value)
}

/// The text of a field that decides, if it is there; a value of another kind must not pass for a missing one.
fn named<'a>(record: &CloudTrailRecord, field: &str, value: &'a Value) -> Result<Option<&'a str>, PayloadError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(Malformed(format!("{field} of {} is {}, not text", call(record), kind(value))))
        }
    }
}

fn call(record: &CloudTrailRecord) -> String {
    text(&record.event_name).map_or_else(|| "the record".to_owned(), excerpt)
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text(value)?).ok().map(|time| time.to_utc())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Text from a payload, at a length fit for a log line.
fn excerpt(text: &str) -> String {
    legible(text, 256)
}
