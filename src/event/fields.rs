//! The fields of a payload that are looked at, and how one is read. serde skips all others unread.

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::PayloadError::{self, Malformed};
use crate::identifiers::sanitize;
use crate::settings::Mode;

/// A field as it came, whose kind is still to be looked at; `None` if it is missing or null.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Field(pub(super) Option<Box<RawValue>>);

/// A payload of any kind. A field that is null counts as there: its name alone decides the kind of payload.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct AnyPayload {
    #[serde(rename = "requestPayload", deserialize_with = "null_too", skip_serializing)]
    pub(super) request_payload: Field,
    #[serde(deserialize_with = "null_too", skip_serializing)]
    pub(super) sweep: Field,
    #[serde(deserialize_with = "null_too")]
    pub(super) source: Field,
    #[serde(deserialize_with = "null_too")]
    pub(super) detail_type: Field,
    #[serde(deserialize_with = "null_too")]
    pub(super) detail: Field,
    account: Field,
}

fn null_too<'de, D: Deserializer<'de>>(value: D) -> Result<Field, D::Error> {
    Box::deserialize(value).map(|value| Field(Some(value)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepCall {
    pub(super) sweep: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepRequest {
    #[serde(default)]
    pub(super) mode: Mode,
}

/// What identifies an event, at whatever level of it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Identification {
    pub(super) id: Field,
    pub(super) time: Field,
    #[serde(rename = "eventID")]
    pub(super) event_id: Field,
    #[serde(rename = "eventName")]
    pub(super) event_name: Field,
    #[serde(rename = "eventTime")]
    pub(super) event_time: Field,
    #[serde(rename = "userIdentity")]
    pub(super) user_identity: Field,
    #[serde(rename = "sourceIPAddress")]
    pub(super) source_ip: Field,
    #[serde(rename = "requestParameters")]
    pub(super) request_parameters: Field,
    pub(super) arn: Field,
}

/// The request's fields that the rules on changes of the installation match (infra/template.yaml).
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ChangedResource {
    policy_arn: Field,
    group_name: Field,
    role_name: Field,
    function_name: Field,
    rule: Field,
    queue_url: Field,
    log_group_name: Field,
    log_group_identifier: Field,
    resource_identifier: Field,
    topic_arn: Field,
    resource_arn: Field,
    subscription_arn: Field,
    alarm_name: Field,
    alarm_names: Field,
    mute_targets: Field,
    /// Of a rule, or of a mute rule that names no alarm.
    name: Field,
}

/// The alarms that a mute rule names.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MuteTargets {
    alarm_names: Field,
}

impl ChangedResource {
    /// The names of the resource, or of all alarms that the call names.
    pub(super) fn name(&self) -> Option<String> {
        let muted: MuteTargets = self.mute_targets.object("").unwrap_or_default();
        let alarms = [&self.alarm_names, &muted.alarm_names].into_iter().find_map(Field::names);
        let names = [
            &self.policy_arn,
            &self.group_name,
            &self.role_name,
            &self.function_name,
            &self.rule,
            &self.queue_url,
            &self.log_group_name,
            &self.log_group_identifier,
            &self.resource_identifier,
            &self.topic_arn,
            &self.resource_arn,
            &self.subscription_arn,
            &self.alarm_name,
            &self.name,
        ];
        alarms.or_else(|| names.into_iter().find_map(Field::fact))
    }
}

/// What decides in an event's detail: in a CloudTrail record, and in a change of a stack's status.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Detail {
    pub(super) event_source: Field,
    pub(super) event_name: Field,
    pub(super) recipient_account_id: Field,
    pub(super) user_identity: Field,
    pub(super) error_code: Field,
    pub(super) error_message: Field,
    pub(super) request_parameters: Field,
    pub(super) response_elements: Field,
    #[serde(rename = "status-details")]
    pub(super) status_details: Field,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RequestParameters {
    pub(super) user_name: Field,
    pub(super) policy_arn: Field,
    pub(super) group_name: Field,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResponseElements {
    pub(super) login_profile: Field,
    pub(super) user: Field,
}

/// A login profile, a user, or the caller.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Named {
    pub(super) r#type: Field,
    pub(super) user_name: Field,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusDetails {
    pub(super) status: Field,
}

impl Field {
    pub(super) const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// The text of a field that decides, if it is there; a value of another kind must not pass for a missing one.
    pub(super) fn text(&self, place: &str) -> Result<Option<String>, PayloadError> {
        let Some(json) = &self.0 else { return Ok(None) };
        serde_json::from_str(json.get())
            .map(Some)
            .map_err(|_| Malformed(format!("its {place} is {}, not text that can be read", kind(json))))
    }

    /// The text of a field that decides nothing.
    pub(super) fn fact(&self) -> Option<String> {
        self.text("").ok().flatten()
    }

    /// The texts of a list that decides nothing, in one text. A call names at most 100 alarms of 255 characters, and a
    /// longer list is none of AWS's: its texts could use up the memory.
    fn names(&self) -> Option<String> {
        let list = self.0.as_ref().filter(|list| list.get().len() <= 64 * 1024)?;
        let names: Vec<String> = serde_json::from_str(list.get()).ok()?;
        Some(names.join(", "))
    }

    /// The fields of an object, all missing if the object is.
    pub(super) fn object<T: Default + DeserializeOwned>(&self, place: &str) -> Result<T, PayloadError> {
        self.0.as_ref().map_or_else(|| Ok(T::default()), |json| object(place, json))
    }
}

/// The fields of an object. One that is given twice is an error.
pub(super) fn object<T: DeserializeOwned>(place: &str, json: &RawValue) -> Result<T, PayloadError> {
    // serde would take the items of a list for the fields in their order.
    if !is_object(json) {
        return Err(Malformed(format!("its {place} is {}, not an object", kind(json))));
    }
    serde_json::from_str(json.get())
        .map_err(|error| Malformed(format!("its {place} cannot be read ({})", without_place(&error))))
}

pub(super) fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

pub(super) fn kind(json: &RawValue) -> &'static str {
    match json.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// An error of serde without its line and column, which are those of a part of the payload.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    excerpt(message.rsplit_once(" at line ").map_or(&message, |(message, _)| message))
}

/// Text from a payload, at a length fit for a log line.
pub(super) fn excerpt(text: &str) -> String {
    sanitize(text, 256)
}
