//! Made-up policy documents.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Sound statements, and ones with a part that is odd, wrong, or not understood by `policy_text`.
pub fn document() -> impl Strategy<Value = Value> {
    let pick = |pool: &'static [&'static str]| {
        prop::collection::vec(prop::sample::select(pool), 1..5).prop_map(|picked| json!(picked))
    };
    let actions = || {
        prop_oneof![
            2 => Just(json!("*")),
            3 => Just(json!(["iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "sts:GetSessionToken"])),
            3 => pick(&[
                "iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "IAM:enablemfadevice", "iam:*MFADevice",
                "iam:Get*", "iam:*", "s3:*", "s3:GetObject", "s3:Put*", "ec2:*", "ec2:RunInstance?", "sts:*",
                "lambda:*", "secretsmanager:*", "sts:AssumeRole", "iam:CreateUser", "iam:Create*",
                "iam:DetachUserPolicy", "iam:*UserPolicy", "iam:CreatePolicyVersion", "iam:RemoveUserFromGroup",
            ]),
        ]
    };
    let resources = || {
        prop_oneof![
            4 => Just(json!("*")),
            1 => Just(json!([
                "arn:aws:iam::123456789012:user/${aws:username}", "arn:aws:iam::123456789012:user/*/${aws:username}",
            ])),
            2 => pick(&[
                "arn:aws:s3:::*", "arn:aws:s3:::bucket/*", "arn:aws:s3:::public/*", "arn:aws:iam::*:user/*",
                "arn:aws:iam::123456789012:user/${aws:username}", "arn:aws:iam::123456789012:user/alice",
                "arn:aws:iam::*:mfa/*", "arn:aws:iam::123456789012:mfa/${aws:username}", "arn:aws-cn:s3:::*",
                "arn:*:iam::123456789012:user*${aws:username}", "arn:aws:iam::999999999999:role/*",
                "arn:aws:ec2:*:*:instance/*", "arn:aws:lambda:*:123456789012:function:?", "arn:aws:iam::*:role/A*",
                "arn:aws:iam::*:group/*", "arn:aws:iam::123456789012:policy/force-mfa", "arn:aws:iam::*:policy/*",
            ]),
        ]
    };
    let condition = || {
        let truth = prop_oneof![
            5 => Just(json!("false")), 1 => Just(json!("true")), 1 => Just(json!(["true", "false"])),
        ];
        let understood = (
            prop::sample::select(vec!["Bool", "BoolIfExists", "BoolIfExists", "BoolIfExists", "Null"]),
            prop::sample::select(vec!["aws:MultiFactorAuthPresent", "aws:ViaAWSService", "AWS:viaawsservice"]),
            truth,
        );
        prop_oneof![
            8 => understood.prop_map(|(operator, key, value)| (operator.to_owned(), json!({ key: value }))),
            1 => Just(("StringEquals".to_owned(), json!({"aws:username": "nobody"}))),
            1 => Just(("StringNotEquals".to_owned(), json!({"aws:username": "nobody"}))),
            1 => Just(("StringLike".to_owned(), json!({"aws:username": "a*"}))),
        ]
    };
    let statement = (
        prop::sample::select(vec!["Deny", "Deny", "Deny", "Allow"]),
        prop::sample::select(vec!["NotAction", "NotAction", "Action"]),
        actions(),
        prop::sample::select(vec!["Resource", "Resource", "Resource", "NotResource"]),
        resources(),
        prop::collection::btree_map(0..3_u8, condition(), 0..3),
    )
        .prop_map(|(effect, action_element, actions, resource_element, resources, conditions)| {
            let mut conditions: Map<String, Value> = conditions.into_values().collect();
            let mut statement = json!({ "Effect": effect, action_element: actions, resource_element: resources });
            if !conditions.is_empty() {
                statement["Condition"] = Value::Object(std::mem::take(&mut conditions));
            }
            statement
        });
    prop::collection::vec(statement, 1..5)
        .prop_map(|statements| json!({ "Version": "2012-10-17", "Statement": statements }))
}
