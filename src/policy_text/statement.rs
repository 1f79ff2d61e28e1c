//! One statement of a policy, and whether it denies a call in a console session without MFA.
//!
//! Every question has three answers: yes, no, and unclear from the text alone.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Stands for any text in a call's resource: only a `*` of the policy covers it.
///
/// IAM takes documents of U+0009 to U+00FF only (pattern of `policyDocumentType` in IAM's API), so neither this nor
/// [`USER`] can be spelled out in one.
pub(super) const ANY: char = '…';
/// Stands for the name of the user who calls: only `*` and `${aws:username}` cover it.
pub(super) const USER: char = '‡';

/// The answer to a question about the policy. `Unclear`: the text alone does not decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Unclear,
}

impl Answer {
    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unclear => Self::Unclear,
        }
    }
}

impl From<bool> for Answer {
    fn from(so: bool) -> Self {
        if so { Self::Yes } else { Self::No }
    }
}

pub(super) fn any(answers: impl IntoIterator<Item = Answer>) -> Answer {
    all(answers.into_iter().map(Answer::not)).not()
}

fn all(answers: impl IntoIterator<Item = Answer>) -> Answer {
    answers.into_iter().fold(Answer::Yes, |so_far, answer| match (so_far, answer) {
        (Answer::No, _) | (_, Answer::No) => Answer::No,
        (Answer::Yes, Answer::Yes) => Answer::Yes,
        (Answer::Unclear, Answer::Yes | Answer::Unclear) | (Answer::Yes, Answer::Unclear) => Answer::Unclear,
    })
}

/// A call in a console session without MFA.
pub(super) struct Call {
    pub(super) action: &'static str,
    pub(super) resource: String,
    /// Whether the policy's version knows variables such as `${aws:username}`.
    pub(super) has_variables: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Self::Many(items) => items,
            Self::One(item) => vec![item],
        }
    }

    fn as_slice(&self) -> &[T] {
        match self {
            Self::Many(items) => items,
            Self::One(item) => std::slice::from_ref(item),
        }
    }
}

pub(super) enum Statement {
    Allow,
    Deny(Deny),
    NotUnderstood,
}

/// A statement that denies, if it has nothing in it but these elements.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Deny {
    #[serde(rename = "Sid")]
    _sid: Option<IgnoredAny>,
    #[serde(rename = "Effect")]
    _effect: IgnoredAny,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: BTreeMap<String, BTreeMap<String, OneOrMany<Value>>>,
}

impl Statement {
    pub(super) fn read(statement: Value) -> Self {
        match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Self::Allow,
            Some("Deny") => serde_json::from_value(statement).map_or(Self::NotUnderstood, Self::Deny),
            Some(_) | None => Self::NotUnderstood,
        }
    }

    pub(super) fn denies(&self, call: &Call) -> Answer {
        match self {
            Self::Allow => Answer::No,
            Self::NotUnderstood => Answer::Unclear,
            Self::Deny(deny) => all([
                either(deny.action.as_ref(), deny.not_action.as_ref(), |pattern| covers_action(pattern, call)),
                either(deny.resource.as_ref(), deny.not_resource.as_ref(), |pattern| covers_resource(pattern, call)),
                all(deny.condition.iter().flat_map(|(operator, keys)| {
                    keys.iter().map(move |(key, values)| condition_holds(operator, key, values.as_slice()))
                })),
            ]),
        }
    }
}

/// The answer of an element or of its `Not` form, of which a statement has exactly one.
fn either(
    element: Option<&OneOrMany<String>>,
    not_element: Option<&OneOrMany<String>>,
    covers: impl Fn(&str) -> Answer,
) -> Answer {
    let any_covers = |list: &OneOrMany<String>| any(list.as_slice().iter().map(|pattern| covers(pattern)));
    match (element, not_element) {
        (Some(list), None) => any_covers(list),
        (None, Some(list)) => any_covers(list).not(),
        (Some(_), Some(_)) | (None, None) => Answer::Unclear,
    }
}

/// Actions are matched without regard to case; a service is named in full.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html>
fn covers_action(pattern: &str, call: &Call) -> Answer {
    match pattern.split_once(':') {
        None if pattern == "*" => Answer::Yes,
        Some((service, _)) if !service.contains(['*', '?']) => {
            matches(&pattern.to_ascii_lowercase(), &call.action.to_ascii_lowercase(), TextWildcards::Literal).into()
        }
        None | Some(_) => Answer::Unclear,
    }
}

/// ARNs are matched segment by segment, with regard to case; service and resource type are named in full.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html>
fn covers_resource(pattern: &str, call: &Call) -> Answer {
    const WILDCARDS: [char; 2] = ['*', '?'];
    if pattern == "*" {
        return Answer::Yes;
    }
    let pattern = if call.has_variables {
        pattern.replace("${aws:username}", USER.encode_utf8(&mut [0; 4]))
    } else {
        pattern.to_owned()
    };
    let segments: Vec<&str> = pattern.splitn(6, ':').collect();
    // Other variables are not known here, and what IAM makes of a shortened ARN is not documented.
    let &[arn, partition, service, region, account, resource] = segments.as_slice() else {
        return Answer::Unclear;
    };
    if pattern.contains("${") || service.contains(WILDCARDS) {
        return Answer::Unclear;
    }
    // Evaluators differ on a wildcard within the type, as in `user*alice`.
    let resource_type = resource.split(['/', ':']).next().unwrap_or_default();
    let has_open_type = resource != "*" && resource_type.contains(WILDCARDS);
    let matched = [arn, partition, service, region, account, resource].into_iter().zip(call.resource.splitn(6, ':'));
    let has_type = if has_open_type { Answer::Unclear } else { Answer::Yes };
    all(matched.map(|(pattern, text)| covers_segment(pattern, text)).chain([has_type]))
}

fn covers_segment(pattern: &str, text: &str) -> Answer {
    if matches(pattern, text, TextWildcards::Literal) {
        Answer::Yes
    } else if matches(pattern, text, TextWildcards::AnyText) {
        // It covers some of the resources only.
        Answer::Unclear
    } else {
        Answer::No
    }
}

/// How [`ANY`] and [`USER`] in a text are taken: as themselves, which asks whether the pattern covers every text that
/// they stand for, or as any text, which asks whether it covers at least one.
#[derive(Clone, Copy, PartialEq)]
enum TextWildcards {
    Literal,
    AnyText,
}

/// Whether the pattern matches the text: `*` is any text, `?` any one character.
///
/// Fills a table from the ends, since trying out every length of every `*` takes exponential time.
fn matches(pattern: &str, text: &str, wildcards: TextWildcards) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let is_open = |c: char| c == ANY || c == USER;
    // `rest[i][j]`: does the pattern from `i` on match the text from `j` on?
    let mut rest = vec![vec![false; text.len() + 1]; pattern.len() + 1];
    for i in (0..=pattern.len()).rev() {
        for j in (0..=text.len()).rev() {
            rest[i][j] = match (pattern.get(i), text.get(j)) {
                (None, None) => true,
                (Some('*'), _) => rest[i + 1][j] || (j < text.len() && rest[i][j + 1]),
                (_, Some(&c)) if wildcards == TextWildcards::AnyText && is_open(c) => {
                    // A user's name has no slash.
                    rest[i][j + 1] || pattern.get(i).is_some_and(|&p| (c == ANY || p != '/') && rest[i + 1][j])
                }
                (Some('?'), Some(&c)) => !is_open(c) && rest[i + 1][j + 1],
                (Some(p), Some(c)) => p == c && rest[i + 1][j + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
    }
    rest[0][0]
}

/// Whether a condition holds in a console session without MFA.
///
/// Such a session carries `aws:MultiFactorAuthPresent` as `false`. A call that no service makes for the user carries
/// `aws:ViaAWSService` as `false` or not at all, so that only what holds either way is certain.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>
fn condition_holds(operator: &str, key: &str, values: &[Value]) -> Answer {
    const FALSE: Option<&str> = Some("false");
    let in_request: &[Option<&str>] = match key.to_ascii_lowercase().as_str() {
        "aws:multifactorauthpresent" => &[FALSE],
        "aws:viaawsservice" => &[FALSE, None],
        _ => return Answer::Unclear,
    };
    let values: Option<Vec<&str>> = values
        .iter()
        .map(|value| match value {
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::String(text) if text == "true" || text == "false" => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let Some(values) = values.filter(|values| !values.is_empty()) else {
        return Answer::Unclear;
    };
    let holds = |present: Option<&str>| match (operator, present) {
        ("Bool" | "BoolIfExists", Some(value)) => Some(values.contains(&value)),
        ("Bool", None) => Some(false),
        ("BoolIfExists", None) => Some(true),
        // `Null` is about the key's absence, and evaluators differ on more than one value.
        ("Null", present) if values.len() == 1 => Some((values[0] == "true") == present.is_none()),
        _ => None,
    };
    match in_request.iter().map(|&present| holds(present)).collect::<Option<Vec<_>>>().as_deref() {
        Some(answers) if answers.iter().all(|&holds| holds) => Answer::Yes,
        Some(answers) if answers.iter().all(|&holds| !holds) => Answer::No,
        Some(_) | None => Answer::Unclear,
    }
}
