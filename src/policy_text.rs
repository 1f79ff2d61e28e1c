//! Judges the text of a policy: does it force MFA, and can users still enrol a device?
//!
//! Pure: takes a document, returns a [`Verdict`]. It knows the part of the policy language that such policies use. A
//! statement with anything else in it never counts as a deny; where that leaves the question open, the verdict is
//! [`Verdict::Unknown`]. Only denies matter: whatever the policy does not deny, another policy may allow.
//!
//! Rules: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>, and the pages on the
//! elements `Action`, `Resource` and `Condition` beside it.

mod statement;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::identifiers::PolicyArn;
use statement::{ANY, Answer, Call, OneOrMany, Statement, USER, any};

/// What a policy's text does to a console session without MFA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It denies everyday calls and those by which a user frees itself, and does not deny enrolling a device.
    Enforcing,
    /// It does not deny this call, which is one of those.
    NotEnforcing(&'static str),
    /// It denies this call, without which a user cannot enrol a device: a lock-out.
    BlocksEnrolment(&'static str),
    /// It cannot be judged: whether this is denied rests on something that is not understood here.
    Unknown(&'static str),
}

impl Verdict {
    /// The word for it in replies, logs and the command's output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforcing => "enforcing",
            Self::NotEnforcing(_) => "not_enforcing",
            Self::BlocksEnrolment(_) => "blocks_enrolment",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Whether the policy is known not to do what it is for.
    #[must_use]
    pub fn is_broken(self) -> bool {
        match self {
            Self::NotEnforcing(_) | Self::BlocksEnrolment(_) => true,
            Self::Enforcing | Self::Unknown(_) => false,
        }
    }
}

/// What people do every day. [`ANY`] and [`USER`] stand for any text, and for the name of the user who calls. An
/// enforcing policy denies each of these on every resource.
const EVERYDAY: &[(&str, &str)] = &[
    ("s3:GetObject", "arn:PARTITION:s3:::…/…"),
    ("ec2:RunInstances", "arn:PARTITION:ec2:…:ACCOUNT:instance/…"),
    ("ec2:StartInstances", "arn:PARTITION:ec2:…:ACCOUNT:instance/…"),
    ("iam:CreateAccessKey", "arn:PARTITION:iam::ACCOUNT:user/‡"),
    ("iam:CreateAccessKey", "arn:PARTITION:iam::ACCOUNT:user/…"),
    ("iam:CreateUser", "arn:PARTITION:iam::ACCOUNT:user/…"),
    ("sts:AssumeRole", "arn:PARTITION:iam::…:role/…"),
    ("lambda:InvokeFunction", "arn:PARTITION:lambda:…:ACCOUNT:function:…"),
    ("secretsmanager:GetSecretValue", "arn:PARTITION:secretsmanager:…:ACCOUNT:secret:…"),
];

/// By these calls a user frees itself: takes the policy away, also from the overflow group or by another text, or gets
/// further rights. `POLICY` stands for the policy itself. An enforcing policy denies each of these on every resource.
const FREEING: &[(&[&str], &[&str])] = &[
    (
        &[
            "iam:AttachUserPolicy",
            "iam:DeleteUserPermissionsBoundary",
            "iam:DeleteUserPolicy",
            "iam:DetachUserPolicy",
            "iam:PutUserPermissionsBoundary",
            "iam:PutUserPolicy",
        ],
        &["arn:PARTITION:iam::ACCOUNT:user/‡", "arn:PARTITION:iam::ACCOUNT:user/…"],
    ),
    (
        &[
            "iam:AddUserToGroup",
            "iam:AttachGroupPolicy",
            "iam:DeleteGroupPolicy",
            "iam:DetachGroupPolicy",
            "iam:PutGroupPolicy",
            "iam:RemoveUserFromGroup",
        ],
        &["arn:PARTITION:iam::ACCOUNT:group/…"],
    ),
    (&["iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion"], &["POLICY", "arn:PARTITION:iam::ACCOUNT:policy/…"]),
];

/// What enrolling takes, for users with and without a path. A passkey needs the second alone, but not everybody has
/// one, so that a policy which denies the first locks people out.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_mfa_enable_virtual.html>
const ENROLMENT: &[(&str, &str)] = &[
    ("iam:CreateVirtualMFADevice", "arn:PARTITION:iam::ACCOUNT:mfa/…"),
    ("iam:EnableMFADevice", "arn:PARTITION:iam::ACCOUNT:user/‡"),
    ("iam:EnableMFADevice", "arn:PARTITION:iam::ACCOUNT:user/…/‡"),
];

/// Judges the policy's document, which is JSON, not percent-encoded. The policy's ARN gives partition and account.
#[must_use]
pub fn judge(document: &str, policy: &PolicyArn) -> Verdict {
    let whole = Verdict::Unknown("the whole document");
    if document.contains([ANY, USER]) {
        return whole;
    }
    let Ok(document) = serde_json::from_str::<Document>(document) else {
        return whole;
    };
    // Before this version `${aws:username}` is plain text.
    let has_variables = document.version.as_deref() == Some("2012-10-17");
    let statements: Vec<_> = document.statement.into_vec().into_iter().map(Statement::read).collect();
    let denied = |(action, resource): (&'static str, &str)| {
        let resource = resource.replace("PARTITION", policy.partition()).replace("ACCOUNT", policy.account());
        let resource = resource.replace("POLICY", policy.as_str());
        let call = Call { action, resource, has_variables };
        (action, any(statements.iter().map(|statement| statement.denies(&call))))
    };
    let freeing = FREEING.iter().flat_map(|(actions, resources)| {
        actions.iter().flat_map(|&action| resources.iter().map(move |&resource| (action, resource)))
    });
    let forbidden: Vec<_> = EVERYDAY.iter().copied().chain(freeing).map(denied).collect();
    let enrolment: Vec<_> = ENROLMENT.iter().copied().map(denied).collect();
    let first = |calls: &[(&'static str, Answer)], answer| {
        calls.iter().find(|(_, denied)| *denied == answer).map(|(action, _)| *action)
    };
    if let Some(action) = first(&forbidden, Answer::No) {
        Verdict::NotEnforcing(action)
    } else if let Some(action) = first(&enrolment, Answer::Yes) {
        Verdict::BlocksEnrolment(action)
    } else if let Some(action) = first(&[forbidden, enrolment].concat(), Answer::Unclear) {
        Verdict::Unknown(action)
    } else {
        Verdict::Enforcing
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<IgnoredAny>,
    statement: OneOrMany<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = r#"{"Effect": "Deny", "NotAction": ["iam:CreateVirtualMFADevice", "iam:EnableMFADevice"],
        "Resource": "*", "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}"#;

    fn verdict(document: &str) -> &'static str {
        let policy = PolicyArn::new("arn:aws:iam::123456789012:policy/force-mfa").expect("an ARN");
        judge(document, &policy).as_str()
    }

    /// The verdict on the deny statement above with one piece of it replaced.
    fn with(piece: &str, replacement: &str) -> &'static str {
        assert!(DENY.contains(piece), "{piece}");
        verdict(&format!(r#"{{"Version": "2012-10-17", "Statement": {}}}"#, DENY.replace(piece, replacement)))
    }

    /// The verdict on the deny statement above and one more.
    fn beside(statement: &str) -> &'static str {
        verdict(&format!(r#"{{"Version": "2012-10-17", "Statement": [{DENY}, {statement}]}}"#))
    }

    #[test]
    fn what_is_not_a_policy_document_is_unknown() {
        for text in ["", "{}", "[]", "null", r#"{"Statement": 1}"#, r#"{"statement": []}"#, r#"{"Statement": "…"}"#] {
            assert_eq!(verdict(text), "unknown", "{text}");
        }
        assert_eq!(verdict(r#"{"Version": "2012-10-17", "Statement": []}"#), "not_enforcing");
    }

    #[test]
    fn a_deny_is_judged_by_its_parts() {
        for (piece, replacement, expected) in [
            ("Deny", "Deny", "enforcing"),
            ("Deny", "Allow", "not_enforcing"),
            ("Deny", "deny", "unknown"),
            // A company's own list of exceptions.
            ("\"iam:EnableMFADevice\"", "\"iam:*MFADevice\", \"support:*\"", "enforcing"),
            ("\"iam:EnableMFADevice\"", "\"IAM:enablemfadevice\"", "enforcing"),
            ("\"iam:EnableMFADevice\"", "\"iam:EnableMFADevic?\"", "enforcing"),
            ("\"iam:EnableMFADevice\"", "\"iam:*\"", "not_enforcing"),
            ("\"iam:EnableMFADevice\"", "\"*:EnableMFADevice\"", "unknown"),
            (", \"iam:EnableMFADevice\"", "", "blocks_enrolment"),
            ("\"iam:CreateVirtualMFADevice\", ", "", "blocks_enrolment"),
            ("NotAction", "Action", "not_enforcing"),
            ("NotAction", "Principal", "unknown"),
            ("\"NotAction\"", "\"Action\": \"*\", \"NotAction\"", "unknown"),
            ("\"*\"", "\"arn:aws:s3:::*\"", "not_enforcing"),
            ("\"*\"", "[\"arn:aws:s3:::bucket/*\", \"*\"]", "enforcing"),
            ("\"Resource\": \"*\"", "\"NotResource\": \"arn:aws:s3:::public/*\"", "unknown"),
            ("\"Resource\": \"*\"", "\"NotResource\": \"arn:aws:sqs:*:*:queue\"", "enforcing"),
            ("\"Resource\": \"*\"", "\"NotResource\": \"arn:aws:iam::123456789012:mfa/*\"", "enforcing"),
            ("\"Resource\": \"*\"", "\"NotResource\": \"arn:aws:iam::*:user/${aws:username}\"", "not_enforcing"),
            ("BoolIfExists", "Bool", "enforcing"),
            ("BoolIfExists", "Null", "enforcing"),
            (
                "BoolIfExists\": {\"aws:MultiFactorAuthPresent\": \"false\"",
                "Null\": {\"aws:MultiFactorAuthPresent\": [\"true\", \"false\"]",
                "unknown",
            ),
            ("BoolIfExists", "bool", "unknown"),
            ("BoolIfExists", "ForAllValues:Bool", "unknown"),
            ("aws:MultiFactorAuthPresent", "AWS:multifactorauthpresent", "enforcing"),
            ("aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge", "unknown"),
            ("\"false\"", "\"true\"", "not_enforcing"),
            ("\"false\"", "[\"true\", \"false\"]", "enforcing"),
            ("\"false\"", "false", "enforcing"),
            ("\"false\"", "[]", "unknown"),
            ("\"false\"", "\"no\"", "unknown"),
            ("\"false\"", "\"false\", \"aws:ViaAWSService\": \"false\"", "enforcing"),
            ("\"false\"", "\"false\", \"aws:ViaAWSService\": \"true\"", "unknown"),
        ] {
            assert_eq!(with(piece, replacement), expected, "{piece} -> {replacement}");
        }
    }

    #[test]
    fn a_user_who_can_free_itself_is_not_forced() {
        for action in [
            "AddUserToGroup",
            "AttachGroupPolicy",
            "AttachUserPolicy",
            "CreatePolicyVersion",
            "DeleteGroupPolicy",
            "DeleteUserPermissionsBoundary",
            "DeleteUserPolicy",
            "DetachGroupPolicy",
            "DetachUserPolicy",
            "PutGroupPolicy",
            "PutUserPermissionsBoundary",
            "PutUserPolicy",
            "RemoveUserFromGroup",
            "SetDefaultPolicyVersion",
        ] {
            let exception = format!("\"iam:EnableMFADevice\", \"iam:{action}\"");
            assert_eq!(with("\"iam:EnableMFADevice\"", &exception), "not_enforcing", "{action}");
        }
        for (resource, expected) in [
            ("arn:aws:iam::123456789012:policy/force-mfa", "not_enforcing"),
            ("arn:aws:iam::*:policy/*", "not_enforcing"),
            ("arn:aws:iam::123456789012:policy/other", "unknown"),
            ("arn:aws:iam::123456789012:group/force-mfa-overflow", "unknown"),
            ("arn:aws:iam::123456789012:role/other", "unknown"),
        ] {
            let exception = format!("\"NotResource\": \"{resource}\"");
            assert_eq!(with("\"Resource\": \"*\"", &exception), expected, "{resource}");
        }
    }

    #[test]
    fn another_deny_counts_for_what_it_does() {
        for (statement, expected) in [
            (r#"{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}"#, "enforcing"),
            (r#"{"Effect": "Deny", "Action": "iam:*", "Resource": "*"}"#, "blocks_enrolment"),
            (r#"{"Effect": "Deny", "Action": "*", "Resource": "*", "Principal": "*"}"#, "unknown"),
            (
                r#"{"Effect": "Deny", "Action": "iam:*", "Resource": "*",
                    "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}"#,
                "enforcing",
            ),
            (
                r#"{"Effect": "Deny", "Action": "*", "Resource": "*",
                    "Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}"#,
                "unknown",
            ),
            (
                r#"{"Effect": "Deny", "Action": "iam:EnableMFADevice",
                    "NotResource": ["arn:aws:iam::123456789012:user/${aws:username}",
                                    "arn:aws:iam::123456789012:user/*/${aws:username}"]}"#,
                "enforcing",
            ),
            (
                r#"{"Effect": "Deny", "Action": "iam:EnableMFADevice",
                    "NotResource": "arn:aws:iam::999999999999:user/*"}"#,
                "blocks_enrolment",
            ),
            (r#"{"Effect": "Deny", "Action": "iam:EnableMFADevice", "Resource": "arn:aws:iam::*"}"#, "unknown"),
            (
                r#"{"Effect": "Deny", "Action": "iam:EnableMFADevice",
                    "Resource": "arn:aws:iam::123456789012:user*${aws:username}"}"#,
                "unknown",
            ),
        ] {
            assert_eq!(beside(statement), expected, "{statement}");
        }
    }

    #[test]
    fn a_variable_is_plain_text_in_the_older_language() {
        let own = r#"{"Effect": "Deny", "Action": "iam:EnableMFADevice",
            "NotResource": ["arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::*:user/*/${aws:username}"]}"#;
        assert_eq!(beside(own), "enforcing");
        assert_eq!(verdict(&format!(r#"{{"Statement": [{DENY}, {own}]}}"#)), "unknown");
        assert_eq!(beside(&own.replace("aws:username", "aws:userid")), "unknown");
    }

    #[test]
    fn many_wildcards_do_not_take_long() {
        let pattern = format!("arn:aws:s3:::{}x", "*a".repeat(2000));
        assert_eq!(with("\"*\"", &format!("\"{pattern}\"")), "not_enforcing");
    }
}
