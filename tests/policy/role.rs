//! The function's role can put a user under the policy, and can do nothing else: its policies as they stand
//! in the template, evaluated.

use iam_rs::{Decision, IAMPolicy};
use serde_json::{Map, Value, json};

use crate::evaluation::{Request, decide};
use crate::rows::parse;
use crate::template::{Parameters, account_template, render};

const ALICE: &str = "arn:aws:iam::123456789012:user/alice";
const PATH_ALICE: &str = "arn:aws:iam::123456789012:user/eng/eu/alice";
const POLICY: &str = "arn:aws:iam::123456789012:policy/force-mfa";
const OTHER_POLICY: &str = "arn:aws:iam::123456789012:policy/force-mfa-2";
const ADMIN: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
const OVERFLOW: &str = "arn:aws:iam::123456789012:group/force-mfa-overflow";
const ADMINS: &str = "arn:aws:iam::123456789012:group/admins";
const ROLE: &str = "arn:aws:iam::123456789012:role/force-mfa-function";
const FAILURES: &str = "arn:aws:sqs:us-east-1:123456789012:force-mfa-failures";
const LOG: &str = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/force-mfa:log-stream:a";

fn policies_of_the_role(partition: &str) -> Vec<IAMPolicy> {
    let template = account_template();
    let role = &template["Resources"]["FunctionRole"]["Properties"];
    assert!(role.get("ManagedPolicyArns").is_none(), "the role has these policies alone");
    let policies = role["Policies"].as_array().expect("policies");
    policies
        .iter()
        .map(|policy| parse(&render(&template, &policy["PolicyDocument"], partition, &Parameters::new())))
        .collect()
}

fn decision(action: &str, resource: &str, context: &[(&str, &str)]) -> Decision {
    let context: Map<_, _> = context.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let request =
        Request { principal: ROLE.to_owned(), action: action.to_owned(), resource: resource.to_owned(), context };
    decide(&policies_of_the_role("aws"), &request).decision
}

#[test]
fn the_role_can_do_what_the_function_does() {
    for (action, resource, context) in [
        ("iam:AttachUserPolicy", ALICE, &[("iam:PolicyARN", POLICY)][..]),
        ("iam:AttachUserPolicy", PATH_ALICE, &[("iam:PolicyARN", POLICY)]),
        ("iam:AddUserToGroup", OVERFLOW, &[]),
        ("iam:GetUser", ALICE, &[]),
        ("iam:GetUser", PATH_ALICE, &[]),
        ("iam:GetLoginProfile", ALICE, &[]),
        ("iam:GetPolicy", POLICY, &[]),
        ("iam:GetPolicyVersion", POLICY, &[]),
        ("iam:ListEntitiesForPolicy", POLICY, &[]),
        ("iam:GetGroup", OVERFLOW, &[]),
        ("iam:GetGroup", ADMINS, &[]),
        ("iam:ListUsers", "*", &[]),
        ("iam:GenerateCredentialReport", "*", &[]),
        ("iam:GetCredentialReport", "*", &[]),
        ("logs:CreateLogStream", LOG, &[]),
        ("logs:PutLogEvents", LOG, &[]),
        ("sqs:SendMessage", FAILURES, &[]),
    ] {
        assert_eq!(decision(action, resource, context), Decision::Allow, "{action} {resource}");
    }
}

#[test]
fn the_role_can_do_nothing_else() {
    for (action, resource, context) in [
        ("iam:AttachUserPolicy", ALICE, &[("iam:PolicyARN", ADMIN)][..]),
        ("iam:AttachUserPolicy", ALICE, &[("iam:PolicyARN", OTHER_POLICY)]),
        ("iam:AttachUserPolicy", ALICE, &[]),
        ("iam:AttachUserPolicy", "arn:aws:iam::111122223333:user/alice", &[("iam:PolicyARN", POLICY)]),
        ("iam:AttachGroupPolicy", OVERFLOW, &[("iam:PolicyARN", POLICY)]),
        ("iam:AttachRolePolicy", ROLE, &[("iam:PolicyARN", POLICY)]),
        ("iam:DetachUserPolicy", ALICE, &[("iam:PolicyARN", POLICY)]),
        ("iam:DetachUserPolicy", ALICE, &[("iam:PolicyARN", ADMIN)]),
        ("iam:PutUserPolicy", ALICE, &[]),
        ("iam:DeleteUserPolicy", ALICE, &[]),
        ("iam:PutUserPermissionsBoundary", ALICE, &[]),
        ("iam:PutRolePolicy", ROLE, &[]),
        ("iam:CreatePolicy", POLICY, &[]),
        ("iam:CreatePolicyVersion", POLICY, &[]),
        ("iam:SetDefaultPolicyVersion", POLICY, &[]),
        ("iam:DeletePolicy", POLICY, &[]),
        ("iam:GetPolicy", OTHER_POLICY, &[]),
        ("iam:GetPolicyVersion", OTHER_POLICY, &[]),
        ("iam:ListEntitiesForPolicy", OTHER_POLICY, &[]),
        ("iam:CreateUser", ALICE, &[]),
        ("iam:DeleteUser", ALICE, &[]),
        ("iam:UpdateUser", ALICE, &[]),
        ("iam:TagUser", ALICE, &[]),
        ("iam:CreateLoginProfile", ALICE, &[]),
        ("iam:UpdateLoginProfile", ALICE, &[]),
        ("iam:DeleteLoginProfile", ALICE, &[]),
        ("iam:CreateAccessKey", ALICE, &[]),
        ("iam:DeactivateMFADevice", ALICE, &[]),
        ("iam:AddUserToGroup", ADMINS, &[]),
        ("iam:AddUserToGroup", "arn:aws:iam::123456789012:group/force-mfa-overflow-2", &[]),
        ("iam:RemoveUserFromGroup", OVERFLOW, &[]),
        ("iam:CreateGroup", OVERFLOW, &[]),
        ("iam:DeleteGroup", OVERFLOW, &[]),
        ("iam:PutGroupPolicy", OVERFLOW, &[]),
        ("iam:PassRole", ROLE, &[]),
        ("sts:AssumeRole", ROLE, &[]),
        ("lambda:UpdateFunctionCode", "arn:aws:lambda:us-east-1:123456789012:function:force-mfa", &[]),
        ("logs:PutLogEvents", "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/other:log-stream:a", &[]),
        ("logs:CreateLogGroup", "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/force-mfa", &[]),
        ("logs:DeleteLogStream", LOG, &[]),
        ("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:force-mfa-rule-dead-letters", &[]),
        ("sqs:ReceiveMessage", FAILURES, &[]),
        ("s3:GetObject", "arn:aws:s3:::bucket/key", &[]),
    ] {
        assert_ne!(decision(action, resource, context), Decision::Allow, "{action} {resource}");
    }
}

#[test]
fn the_role_is_the_same_in_every_partition() {
    for partition in ["aws-us-gov", "aws-cn"] {
        let request = Request {
            principal: format!("arn:{partition}:iam::123456789012:role/force-mfa-function"),
            action: "iam:AttachUserPolicy".to_owned(),
            resource: format!("arn:{partition}:iam::123456789012:user/alice"),
            context: Map::from_iter([(
                "iam:PolicyARN".to_owned(),
                json!(format!("arn:{partition}:iam::123456789012:policy/force-mfa")),
            )]),
        };

        let decided = decide(&policies_of_the_role(partition), &request);

        assert_eq!(decided.decision, Decision::Allow, "{partition}");
    }
}

#[test]
fn only_lambda_may_assume_the_role() {
    let template = account_template();
    let trust = &template["Resources"]["FunctionRole"]["Properties"]["AssumeRolePolicyDocument"];

    assert_eq!(
        trust["Statement"],
        Value::Array(vec![json!({
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        })])
    );
}
