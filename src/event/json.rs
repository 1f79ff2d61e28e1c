//! JSON as far as an event is looked at: of a `detail` only [`FIELDS`], which are the least of it, and of a list nothing.
//! What is odd in the rest does no harm, and takes no memory.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a record is asked for, at whatever depth.
const FIELDS: [&str; 19] = [
    "arn",
    "errorCode",
    "errorMessage",
    "eventID",
    "eventName",
    "eventSource",
    "eventTime",
    "groupName",
    "loginProfile",
    "policyArn",
    "recipientAccountId",
    "requestParameters",
    "responseElements",
    "status",
    "status-details",
    "type",
    "user",
    "userIdentity",
    "userName",
];

/// Parses a payload. Of two fields of one name the last counts.
pub(super) fn parse(json: &[u8]) -> serde_json::Result<Value> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = Part { of_detail: false }.deserialize(&mut json)?;
    json.end().map(|()| value)
}

/// A value of a payload, still to be parsed.
#[derive(Clone, Copy)]
struct Part {
    of_detail: bool,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(Key(key)) = object.next_key()? {
            if self.of_detail && !FIELDS.contains(&&*key) {
                object.next_value::<IgnoredAny>()?;
            } else {
                let of_detail = self.of_detail || key == "detail";
                let value = object.next_value_seed(Self { of_detail })?;
                fields.insert(key.into_owned(), value);
            }
        }
        Ok(Value::Object(fields))
    }
}
