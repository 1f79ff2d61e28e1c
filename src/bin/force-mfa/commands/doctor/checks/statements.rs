//! Reads resource policies, as far as the installation's own go: who may call, and what is denied. A condition that this
//! program does not know never counts as permission.

use serde_json::Value;

/// Whether a policy lets a service of AWS act for a source, such as EventBridge for a rule.
///
/// A document that cannot be read lets nobody.
pub fn lets_service(document: &str, service: &str, action: &str, source: &str, account: &str) -> bool {
    statements(document).iter().any(|statement| {
        statement["Effect"] == "Allow"
            && has_action(statement, action)
            && (statement["Principal"] == "*"
                || texts(&statement["Principal"]["Service"]).any(|of| of == service)
                || texts(&statement["Principal"]["AWS"]).any(|of| of == "*"))
            && conditions(statement).all(|(operator, key, values)| match key.as_str() {
                "aws:sourcearn" => is_like(operator) && values.iter().any(|value| matches(value, source)),
                "aws:sourceaccount" => is_like(operator) && values.contains(&account),
                _ => false,
            })
    })
}

/// The first statement that denies an action to others than those who call without TLS: its Sid, or its number.
pub fn denial(document: &str, action: &str) -> Option<String> {
    statements(document).iter().enumerate().find_map(|(number, statement)| {
        // All conditions of a statement must hold for it to deny.
        let without_tls_only = conditions(statement)
            .any(|(operator, key, values)| operator == "Bool" && key == "aws:securetransport" && values == ["false"]);
        (statement["Effect"] == "Deny" && has_action(statement, action) && !without_tls_only)
            .then(|| statement["Sid"].as_str().map_or_else(|| format!("number {}", number + 1), str::to_owned))
    })
}

fn statements(document: &str) -> Vec<Value> {
    let mut document: Value = serde_json::from_str(document).unwrap_or_default();
    match document["Statement"].take() {
        Value::Array(statements) => statements,
        statement => vec![statement],
    }
}

/// One text, or a list of them.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    list.iter().filter_map(Value::as_str)
}

/// Actions are compared without regard to case, as IAM does. A `NotAction` takes in whatever it does not name.
fn has_action(statement: &Value, action: &str) -> bool {
    let names = |key: &str| texts(&statement[key]).any(|of| matches(&of.to_lowercase(), &action.to_lowercase()));
    if statement["NotAction"].is_null() { names("Action") } else { !names("NotAction") }
}

/// Operator, key in lower case, and values. SQS writes keys as they were given, Lambda as `AWS:SourceArn`.
fn conditions(statement: &Value) -> impl Iterator<Item = (&str, String, Vec<&str>)> {
    statement["Condition"].as_object().into_iter().flatten().flat_map(|(operator, keys)| {
        let keys = keys.as_object().into_iter().flatten();
        keys.map(move |(key, values)| (operator.as_str(), key.to_lowercase(), texts(values).collect()))
    })
}

fn is_like(operator: &str) -> bool {
    ["ArnEquals", "ArnLike", "StringEquals", "StringLike"].contains(&operator)
}

/// `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut between) = text.strip_prefix(head).and_then(|after| after.strip_suffix(tail)) else { return false };
    // The earliest match of each piece leaves the most room for those after it.
    middle.split('*').all(|piece| match between.find(piece) {
        Some(at) => {
            between = &between[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "arn:aws:events:us-east-1:123456789012:rule/force-mfa-console-users";

    fn policy(statement: &str) -> String {
        format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#)
    }

    #[test]
    fn a_service_is_let_in_for_its_source_only() {
        let allow = |condition: &str| {
            policy(&format!(
                r#"{{"Effect": "Allow", "Principal": {{"Service": "events.amazonaws.com"}}, "Action": "lambda:InvokeFunction",
                    "Resource": "*", "Condition": {condition}}}"#
            ))
        };
        let rows = [
            (allow(&format!(r#"{{"ArnLike": {{"AWS:SourceArn": "{RULE}"}}}}"#)), true),
            (allow(&format!(r#"{{"ArnEquals": {{"aws:SourceArn": ["arn:aws:events:x", "{RULE}"]}}}}"#)), true),
            (
                allow(r#"{"ArnLike": {"aws:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-*"}}"#),
                true,
            ),
            (allow(r#"{"StringEquals": {"aws:SourceAccount": "123456789012"}}"#), true),
            (allow("{}"), true),
            (allow(r#"{"ArnLike": {"AWS:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/other"}}"#), false),
            (allow(r#"{"StringEquals": {"aws:SourceAccount": "210987654321"}}"#), false),
            (allow(r#"{"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}"#), false),
            (allow("{}").replace("events.amazonaws", "sns.amazonaws"), false),
            (allow("{}").replace("Allow", "Deny"), false),
            (allow("{}").replace("lambda:InvokeFunction", "lambda:GetFunction"), false),
            (allow("{}").replace("lambda:InvokeFunction", "lambda:*"), true),
            (String::new(), false),
        ];
        for (document, expected) in rows {
            let lets = lets_service(&document, "events.amazonaws.com", "lambda:InvokeFunction", RULE, "123456789012");
            assert_eq!(lets, expected, "{document}");
        }
    }

    #[test]
    fn a_denial_without_tls_denies_nobody_here() {
        let deny = |action: &str, condition: &str| {
            policy(&format!(
                r#"{{"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "{action}", "Condition": {condition}}}"#
            ))
        };
        let tls = r#"{"Bool": {"aws:SecureTransport": "false"}}"#;
        let rows = [
            (deny("sqs:*", tls), None),
            (deny("sqs:*", "{}"), Some("No")),
            (deny("SQS:SendMessage", "{}"), Some("No")),
            (deny("sqs:ReceiveMessage", "{}"), None),
            (deny("sqs:*", r#"{"Bool": {"aws:SecureTransport": "true"}}"#), Some("No")),
            (deny("sqs:*", "{}").replace(r#""Sid": "No", "#, ""), Some("number 1")),
            (deny("sqs:*", "{}").replace("Action", "NotAction"), None),
            (deny("sqs:Receive*", "{}").replace("Action", "NotAction"), Some("No")),
        ];
        for (document, expected) in rows {
            assert_eq!(denial(&document, "sqs:SendMessage").as_deref(), expected, "{document}");
        }
    }
}
