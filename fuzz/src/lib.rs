//! What must hold for any bytes. The fuzz targets call these, and `tests/corpus.rs` on a stable compiler.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use force_mfa::credential_report;
use force_mfa::event::{self, Event, PayloadError, Trigger};
use force_mfa::identifiers::UserName;
use force_mfa::settings::Settings;
use serde_json::{Value, json};

/// The longest error message or fact that may come of a payload, whatever its size, in bytes.
const LONGEST_TEXT: usize = 2048;

/// Bytes as a payload. If they are JSON, it is read no otherwise than its whole tree, unless a field that is looked at
/// is given twice: a tree keeps the last one, and the function takes neither.
pub fn payload(bytes: &[u8]) {
    let Event { trigger, .. } = read(bytes);
    let given_twice = matches!(&trigger, Err(PayloadError::Malformed(message)) if message.contains("duplicate field"));
    if let Ok(tree) = serde_json::from_slice::<Value>(bytes)
        && !given_twice
    {
        assert_eq!(format!("{trigger:?}"), format!("{:?}", read(tree.to_string().as_bytes()).trigger));
    }
}

/// Bytes as choices: an event of `events/` is changed in its structure, and then spelled otherwise.
pub fn event(bytes: &[u8]) {
    // When the bytes are used up, the choices left are the first of each.
    let _ = change_and_respell(&mut Unstructured::new(bytes));
}

/// Bytes as a credential report.
pub fn credential_report(bytes: &[u8]) {
    let Ok(rows) = credential_report::read(bytes) else { return };
    // Lines end in \n, \r or both.
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    assert!(rows.len() <= lines, "{} rows of {lines} lines", rows.len());
    for row in rows {
        assert!(row.path().ends_with('/'), "{:?} of {:?}", row.path(), row.arn);
    }
}

/// The lines of a text as the values of the settings, in the order of [`VARIABLES`].
pub fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let values: BTreeMap<&str, &str> = VARIABLES.into_iter().zip(text.lines()).collect();
    match Settings::read(|variable| values.get(variable).map(|value| (*value).to_owned())) {
        Ok(settings) => {
            assert_eq!(settings.policy.account().len(), 12);
            for name in ["a", "break-glass-1", &"a".repeat(64)] {
                let user = UserName::new(name).expect("a legal name");
                let _ = settings.exemptions.by_name(&user);
                let _ = settings.exemptions.by_attributes("/service/ci/", &[(name.to_owned(), name.to_owned())]);
            }
        }
        Err(bad) => {
            assert!(!bad.0.is_empty());
            let message = bad.to_string();
            for problem in bad.0 {
                assert!(VARIABLES.contains(&problem.variable) && message.contains(problem.variable));
            }
        }
    }
}

/// The settings, in the order in which [`settings`] reads them.
pub const VARIABLES: [&str; 8] = [
    "FORCE_MFA_POLICY_ARN",
    "FORCE_MFA_MODE",
    "FORCE_MFA_SCOPE",
    "FORCE_MFA_EXISTING_USERS",
    "FORCE_MFA_EXEMPT_USERS",
    "FORCE_MFA_EXEMPT_PATHS",
    "FORCE_MFA_EXEMPT_TAG",
    "FORCE_MFA_OVERFLOW_GROUP",
];

/// What the function makes of a payload, in a form that can be compared; held to what must be true of any.
pub fn decide(payload: &[u8]) -> String {
    let Event { facts, trigger } = read(payload);
    if let Err(PayloadError::Unrecognised(what)) = &trigger
        && what.starts_with("not JSON")
    {
        // Its place in the text is not part of the decision.
        return "not JSON".to_owned();
    }
    format!("{trigger:?} {facts:?}")
}

fn read(payload: &[u8]) -> Event {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| {
        Settings::read(|variable| match variable {
            "FORCE_MFA_POLICY_ARN" => Some("arn:aws:iam::123456789012:policy/force-mfa".to_owned()),
            "FORCE_MFA_OVERFLOW_GROUP" => Some("force-mfa-overflow".to_owned()),
            _ => None,
        })
        .expect("good settings")
    });
    let event = event::read(payload, settings);
    let Event { facts, trigger } = &event;
    for fact in [&facts.event_id, &facts.event_name, &facts.caller_arn].into_iter().flatten() {
        assert!(fact.len() <= LONGEST_TEXT, "a fact of {} bytes", fact.len());
    }
    match trigger {
        Ok(Trigger::User { user, .. }) => assert!(UserName::new(user.as_str()).is_some()),
        Ok(Trigger::Ignore(_) | Trigger::Sweep { .. }) => {}
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() <= LONGEST_TEXT, "a message of {} bytes", message.len());
        }
    }
    event
}

/// Every field that is looked at, at whatever level.
pub const LOOKED_AT: [&str; 42] = [
    "account",
    "alarmName",
    "alarmNames",
    "arn",
    "detail",
    "detail-type",
    "errorCode",
    "errorMessage",
    "eventID",
    "eventName",
    "eventSource",
    "eventTime",
    "functionName",
    "groupName",
    "id",
    "logGroupIdentifier",
    "logGroupName",
    "loginProfile",
    "mode",
    "muteTargets",
    "name",
    "policyArn",
    "queueUrl",
    "recipientAccountId",
    "requestParameters",
    "requestPayload",
    "resourceIdentifier",
    "responseElements",
    "roleName",
    "rule",
    "source",
    "sourceIPAddress",
    "status",
    "status-details",
    "subscriptionArn",
    "sweep",
    "time",
    "topicArn",
    "type",
    "user",
    "userIdentity",
    "userName",
];

/// The events of `events/`.
pub fn events() -> &'static [Value] {
    static EVENTS: OnceLock<Vec<Value>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        // From the crate itself, or from `fuzz` in it.
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let events = here.ancestors().map(|folder| folder.join("events")).find(|events| events.is_dir());
        let mut files: Vec<_> = std::fs::read_dir(events.expect("the folder events"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_dir())
            .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        files.iter().map(|file| serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON")).collect()
    })
}

fn change_and_respell(choices: &mut Unstructured) -> Result<()> {
    let mut value = choices.choose(events())?.clone();
    for _ in 0..choices.int_in_range(0..=6)? {
        change(&mut value, choices)?;
    }
    let plain = value.to_string();
    let decision = decide(plain.as_bytes());
    // A call for a sweep takes no field that it does not know; everything else does.
    let unknown_fields = !plain.contains("\"sweep\"");
    let mut respelled = String::new();
    respell(&value, unknown_fields, choices, &mut respelled)?;
    assert_eq!(decide(respelled.as_bytes()), decision, "{plain}\nis\n{respelled}");
    Ok(())
}

/// Drops, moves, duplicates, retypes or wraps one value somewhere in `value`.
fn change(value: &mut Value, choices: &mut Unstructured) -> Result<()> {
    let places = places(value);
    let place = choices.choose(&places)?.clone();
    let (parent, key) = place.rsplit_once('/').unwrap_or_default();
    match choices.int_in_range(0..=5)? {
        // Drop.
        0 => {
            if let Some(Value::Object(object)) = value.pointer_mut(parent) {
                object.remove(&unescape(key));
            }
        }
        // Rename, to a name that is used elsewhere or to another case.
        1 => {
            let name = match choices.int_in_range(0..=2)? {
                0 => unescape(key).to_uppercase(),
                1 => capitalised(&unescape(key)),
                _ => unescape(choices.choose(&places)?.rsplit('/').next().unwrap_or_default()),
            };
            if let Some(Value::Object(object)) = value.pointer_mut(parent)
                && let Some(moved) = object.remove(&unescape(key))
            {
                object.insert(name, moved);
            }
        }
        // Duplicate to another place.
        2 => {
            let copy = value.pointer(choices.choose(&places)?).cloned();
            if let (Some(target), Some(copy)) = (value.pointer_mut(&place), copy) {
                *target = copy;
            }
        }
        // Retype.
        3 => {
            let kinds = [json!(null), json!(true), json!(-1.5e300), json!("x\u{202f}\0"), json!([]), json!({})];
            let kind = choices.choose(&kinds)?.clone();
            if let Some(target) = value.pointer_mut(&place) {
                *target = match (kind, target.take()) {
                    (Value::Array(_), old) => json!([old]),
                    (Value::Object(_), old) => json!({ "userName": old }),
                    (kind, _) => kind,
                };
            }
        }
        // Another text.
        4 => {
            let text: String = choices.arbitrary::<&str>()?.to_owned();
            if let Some(target) = value.pointer_mut(&place) {
                *target = Value::String(text);
            }
        }
        // As a message that failed.
        _ => *value = json!({ "version": "1.0", "requestPayload": value.take() }),
    }
    Ok(())
}

/// JSON pointers to every value inside.
fn places(value: &Value) -> Vec<String> {
    let mut places = vec![String::new()];
    let mut next = 0;
    while let Some(place) = places.get(next).cloned() {
        next += 1;
        match value.pointer(&place) {
            Some(Value::Object(object)) => {
                places
                    .extend(object.keys().map(|key| format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"))));
            }
            Some(Value::Array(list)) => places.extend((0..list.len()).map(|n| format!("{place}/{n}"))),
            _ => {}
        }
    }
    places
}

fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Writes the same JSON otherwise: fields in another order, unknown ones among them, some that nobody looks at twice,
/// white space, escapes.
pub fn respell(value: &Value, unknown_fields: bool, choices: &mut Unstructured, out: &mut String) -> Result<()> {
    space(choices, out)?;
    match value {
        Value::Object(object) => {
            let mut fields: Vec<(&String, &Value)> = object.iter().collect();
            for place in (1..fields.len()).rev() {
                fields.swap(place, choices.int_in_range(0..=place)?);
            }
            out.push('{');
            for (place, (key, field)) in fields.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                if unknown_fields && choices.ratio(1, 8)? {
                    let unknown = json!({ "userName": "mallory", "errorCode": [null, 1e9] });
                    write_field(&format!("unknown{place}"), &unknown, false, choices, out)?;
                    out.push(',');
                }
                if choices.ratio(1, 8)? && !LOOKED_AT.contains(&key.as_str()) {
                    let first = json!("what is given twice and not looked at");
                    write_field(key, &first, false, choices, out)?;
                    out.push(',');
                }
                write_field(key, field, unknown_fields, choices, out)?;
            }
            space(choices, out)?;
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (place, item) in list.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                respell(item, unknown_fields, choices, out)?;
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, choices, out)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
    space(choices, out)
}

fn write_field(key: &str, value: &Value, unknown: bool, choices: &mut Unstructured, out: &mut String) -> Result<()> {
    space(choices, out)?;
    write_text(key, choices, out)?;
    space(choices, out)?;
    out.push(':');
    respell(value, unknown, choices, out)
}

fn write_text(text: &str, choices: &mut Unstructured, out: &mut String) -> Result<()> {
    out.push('"');
    for letter in text.chars() {
        if choices.ratio(1, 8)? {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04X}").expect("text takes anything");
            }
        } else {
            let quoted = Value::String(letter.to_string()).to_string();
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
    out.push('"');
    Ok(())
}

fn space(choices: &mut Unstructured, out: &mut String) -> Result<()> {
    out.push_str(choices.choose(&["", "", "", " ", "\n", "\t\r\n "])?);
    Ok(())
}
