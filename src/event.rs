//! JSON → [`Trigger`]: decides what a payload asks for. Pure: makes no calls and reads no clock.
//!
//! Every field of a CloudTrail record is optional, since real records lack about any of them:
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>.
//! A field that decides and is of an odd kind, or is given twice, makes the event malformed: it must never pass for a
//! missing one. All other fields are skipped unread, so that nothing in them can do harm.

mod fields;

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use crate::identifiers::{GroupName, UserName};
use crate::settings::{Mode, Settings};
use fields::{
    AnyPayload, ChangedResource, Detail, Field, Identification, Named, RequestParameters, ResponseElements,
    StatusDetails, SweepCall, SweepRequest, excerpt, is_object, kind, object, without_place,
};

/// A payload that has been read.
#[derive(Debug)]
pub struct Event {
    /// What identifies it in a log.
    pub facts: Facts,
    /// What it asks for.
    pub trigger: Result<Trigger, PayloadError>,
}

/// What identifies an event in the log. Of these only the time decides anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// CloudTrail's `eventID`, else the EventBridge id.
    pub event_id: Option<String>,
    /// CloudTrail's `eventName`, the IAM call; of an event that is not CloudTrail's, its `detail-type`.
    pub event_name: Option<String>,
    /// Who made the call.
    pub caller_arn: Option<String>,
    /// The address that the call came from, or the name of the AWS service that made it.
    pub source_ip: Option<String>,
    /// What a change of the installation was about: the request's name or ARN of a policy, group, role, function, rule,
    /// queue, log group, topic, subscription or alarm.
    pub resource: Option<String>,
    /// When the IAM call was made, or another event was sent. Missing if the event does not say so in a form that can be
    /// read.
    pub time: Option<DateTime<Utc>>,
}

/// What a payload asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A user may need the policy.
    User {
        /// The user whom the event is about.
        user: UserName,
        /// What happened to the user.
        change: Change,
    },
    /// No action needed; carries the reason.
    Ignore(IgnoreReason),
    /// Check the whole account.
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
    /// An IAM event that takes the policy from nobody.
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
        "the payload is {0}; the function takes an EventBridge event, a Lambda OnFailure message, or {{\"sweep\": {{}}}}"
    )]
    Unrecognised(String),
    /// It is one of them, but something in it is not as AWS sends it.
    #[error("the event cannot be read: {0}")]
    Malformed(String),
}

use PayloadError::{Malformed, Unrecognised};

/// An EventBridge event with its detail still to be read.
type Envelope = EventBridgeEvent<Box<RawValue>>;

/// How often a message may be wrapped: once for each time that it failed as an asynchronous invocation. Without a bound,
/// the time to read a payload could grow with the square of its length.
const WRAPPED_AT_MOST: usize = 16;

/// Reads a payload: an EventBridge event, an OnFailure message around one, or a call for a sweep.
#[must_use]
pub fn read(payload: &[u8], settings: &Settings) -> Event {
    let mut facts = Facts::default();
    let trigger = trigger(payload, settings, &mut facts);
    Event { facts, trigger }
}

fn trigger(payload: &[u8], settings: &Settings, facts: &mut Facts) -> Result<Trigger, PayloadError> {
    let mut json: Box<RawValue> =
        serde_json::from_slice(payload).map_err(|error| Unrecognised(format!("not JSON ({error})")))?;
    for _ in 0..=WRAPPED_AT_MOST {
        if !is_object(&json) {
            return Err(Unrecognised(format!("{}, not an object", kind(&json))));
        }
        let payload: AnyPayload = object("payload", &json)?;
        if let Field(Some(inner)) = payload.request_payload {
            json = inner;
        } else if payload.source.is_there() && payload.detail_type.is_there() && payload.detail.is_there() {
            let event = envelope(&payload)?;
            *facts = identify(&event, &json);
            return event_bridge(&event, settings);
        } else if payload.sweep.is_there() {
            return sweep(&json);
        } else {
            return Err(another_kind());
        }
    }
    Err(Unrecognised(format!("a message that is wrapped more than {WRAPPED_AT_MOST} times")))
}

fn another_kind() -> PayloadError {
    Unrecognised("an object of another kind".to_owned())
}

/// Takes only what is spelled as documented: a sweep that was meant to report must not write because of a typo.
fn sweep(payload: &RawValue) -> Result<Trigger, PayloadError> {
    let call: SweepCall = object("payload", payload).map_err(|_| another_kind())?;
    let SweepRequest { mode } = object("sweep", &call.sweep)?;
    Ok(Trigger::Sweep { mode })
}

/// The envelope with only what decides in it: an odd `time` or `resources` would make it unreadable, and lose the event.
fn envelope(payload: &AnyPayload) -> Result<Envelope, PayloadError> {
    serde_json::to_string(payload)
        .and_then(|envelope| serde_json::from_str(&envelope))
        .map_err(|error| Malformed(format!("it is no EventBridge event ({})", without_place(&error))))
}

/// What identifies the event. None of it decides who is covered, so it is read apart: if any of it is odd, or given
/// twice, it is missing from the log, and the user is covered all the same.
fn identify(event: &Envelope, payload: &RawValue) -> Facts {
    let [envelope, detail]: [Identification; 2] =
        [payload, &event.detail].map(|json| object("", json).unwrap_or_default());
    let caller: Identification = detail.user_identity.object("").unwrap_or_default();
    let request: ChangedResource = detail.request_parameters.object("").unwrap_or_default();
    Facts {
        event_id: detail.event_id.fact().or_else(|| envelope.id.fact()).map(|id| excerpt(&id)),
        event_name: Some(excerpt(detail.event_name.fact().as_ref().unwrap_or(&event.detail_type))),
        caller_arn: caller.arn.fact().map(|arn| excerpt(&arn)),
        source_ip: detail.source_ip.fact().map(|address| excerpt(&address)),
        resource: request.name().map(|name| excerpt(&name)),
        time: time(&detail.event_time).or_else(|| time(&envelope.time)),
    }
}

fn time(field: &Field) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(&field.fact()?).ok().map(|time| time.to_utc())
}

fn event_bridge(event: &Envelope, settings: &Settings) -> Result<Trigger, PayloadError> {
    let detail: Detail = object("detail", &event.detail)?;
    let is = |source: &str, detail_type: &str| event.source == source && event.detail_type == detail_type;
    let is_schedule = is("aws.events", "Scheduled Event");
    let is_stack = is("aws.cloudformation", "CloudFormation Stack Status Change");
    let is_iam = event.source == "aws.iam"
        && detail.event_source.text("eventSource")?.is_some_and(|source| source == "iam.amazonaws.com");
    if !(is_schedule || is_stack || is_iam) {
        return Ok(Trigger::Ignore(IgnoreReason::OtherService));
    }
    let recipient = detail.recipient_account_id.text("recipientAccountId")?;
    let account = event.account.as_ref().or(recipient.as_ref());
    if account.is_some_and(|account| account != settings.policy.account()) {
        return Ok(Trigger::Ignore(IgnoreReason::OtherAccount));
    }
    if is_schedule {
        Ok(Trigger::Sweep { mode: Mode::Enforce })
    } else if is_stack {
        stack_status_change(&detail)
    } else {
        iam_call(&detail, settings)
    }
}

/// A stack was created or changed. The rule sees to it that it is our stack.
/// <https://docs.aws.amazon.com/eventbridge/latest/ref/events-ref-cloudformation.html>
fn stack_status_change(detail: &Detail) -> Result<Trigger, PayloadError> {
    let StatusDetails { status } = detail.status_details.object("status-details")?;
    match status.text("status-details.status")?.as_deref() {
        Some("CREATE_COMPLETE") => Ok(Trigger::Sweep { mode: Mode::Enforce }),
        // A parameter that was set by mistake can be corrected before the next scheduled sweep acts on it.
        Some("UPDATE_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE") => Ok(Trigger::Sweep { mode: Mode::Report }),
        Some(_) => Ok(Trigger::Ignore(IgnoreReason::OtherEvent)),
        None => Err(Malformed("a CloudFormation Stack Status Change has no status".to_owned())),
    }
}

fn iam_call(detail: &Detail, settings: &Settings) -> Result<Trigger, PayloadError> {
    let change = match detail.event_name.text("eventName")?.as_deref() {
        Some("CreateLoginProfile") => Change::LoginProfileCreated,
        Some("CreateUser") => Change::UserCreated,
        Some("DetachUserPolicy" | "RemoveUserFromGroup") => Change::PolicyRemoved,
        Some(_) | None => return Ok(Trigger::Ignore(IgnoreReason::OtherEvent)),
    };
    if detail.error_code.is_there() || detail.error_message.is_there() {
        return Ok(Trigger::Ignore(IgnoreReason::FailedCall));
    }
    let request = detail.request_parameters.object("requestParameters")?;
    if change == Change::PolicyRemoved && !is_ours(&request, settings)? {
        return Ok(Trigger::Ignore(IgnoreReason::OtherEvent));
    }
    Ok(match user(detail, &request, change)? {
        Some(user) => Trigger::User { user, change },
        None => Trigger::Ignore(IgnoreReason::NoUserName),
    })
}

/// Whether it was our policy that was detached, or our group that was left.
fn is_ours(request: &RequestParameters, settings: &Settings) -> Result<bool, PayloadError> {
    let group = request.group_name.text("requestParameters.groupName")?;
    let group = group.as_deref().and_then(GroupName::new);
    let policy = request.policy_arn.text("requestParameters.policyArn")?;
    Ok(policy.is_some_and(|arn| arn.eq_ignore_ascii_case(settings.policy.as_str()))
        || group.is_some() && group == settings.overflow_group)
}

/// The user whom the call was about. `None` is root's own password: the one successful call that names no user. Any other
/// call without a name may hide a user who must be covered, and so is malformed.
///
/// `CreateLoginProfile` without a user name is for its caller: a user with an access key can give itself a password.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateLoginProfile.html>
fn user(detail: &Detail, request: &RequestParameters, change: Change) -> Result<Option<UserName>, PayloadError> {
    if let Some(user) = user_name(&request.user_name, "requestParameters.userName")? {
        return Ok(Some(user));
    }
    let response: ResponseElements = detail.response_elements.object("responseElements")?;
    let profile: Named = response.login_profile.object("responseElements.loginProfile")?;
    if let Some(user) = user_name(&profile.user_name, "responseElements.loginProfile.userName")? {
        return Ok(Some(user));
    }
    let created: Named = response.user.object("responseElements.user")?;
    if let Some(user) = user_name(&created.user_name, "responseElements.user.userName")? {
        return Ok(Some(user));
    }
    let caller: Named = detail.user_identity.object("userIdentity")?;
    let caller_type = caller.r#type.text("userIdentity.type")?;
    if caller_type.as_deref() == Some("Root") {
        return Ok(None);
    }
    if change == Change::LoginProfileCreated
        && caller_type.as_deref() == Some("IAMUser")
        && let Some(user) = user_name(&caller.user_name, "userIdentity.userName")?
    {
        return Ok(Some(user));
    }
    Err(Malformed("it names no user, and its caller is not root".to_owned()))
}

fn user_name(field: &Field, place: &str) -> Result<Option<UserName>, PayloadError> {
    let Some(name) = field.text(place)? else { return Ok(None) };
    let user = UserName::new(&name);
    user.map(Some).ok_or_else(|| Malformed(format!("its {place} is {:?}, which IAM allows no user", excerpt(&name))))
}
