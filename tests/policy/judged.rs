//! `policy_text::judge` says what an evaluator says: of the template's policy in all settings, of other known
//! policies, of every mutant, and of made-up documents.

use std::sync::LazyLock;

use force_mfa::identifiers::PolicyArn;
use force_mfa::policy_text::{Verdict, judge};
use iam_rs::{Decision, IAMPolicy};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

use crate::evaluation::{Request, decide};
use crate::made_up::document;
use crate::mutants::{self, denies, is_disputed, is_whole};
use crate::settings::{PARTITIONS, all_settings};
use crate::template::{ACCOUNT, render};
use crate::{rows, template};

/// Everyday calls, and those by which a user frees itself.
const FORBIDDEN: &[(&str, &str)] = &[
    ("s3:GetObject", "arn:PARTITION:s3:::bucket/key"),
    ("ec2:RunInstances", "arn:PARTITION:ec2:us-east-1:123456789012:instance/i-1"),
    ("ec2:StartInstances", "arn:PARTITION:ec2:us-east-1:123456789012:instance/i-1"),
    ("iam:CreateAccessKey", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:CreateAccessKey", "arn:PARTITION:iam::123456789012:user/malice"),
    ("iam:CreateUser", "arn:PARTITION:iam::123456789012:user/alice/bob"),
    ("sts:AssumeRole", "arn:PARTITION:iam::123456789012:role/Admin"),
    ("sts:AssumeRole", "arn:PARTITION:iam::999999999999:role/Admin"),
    ("lambda:InvokeFunction", "arn:PARTITION:lambda:us-east-1:123456789012:function:f"),
    ("secretsmanager:GetSecretValue", "arn:PARTITION:secretsmanager:us-east-1:123456789012:secret:s"),
    ("iam:AttachUserPolicy", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:AttachUserPolicy", "arn:PARTITION:iam::123456789012:user/malice"),
    ("iam:DeleteUserPermissionsBoundary", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:DeleteUserPermissionsBoundary", "arn:PARTITION:iam::123456789012:user/malice"),
    ("iam:DeleteUserPolicy", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:DeleteUserPolicy", "arn:PARTITION:iam::123456789012:user/malice"),
    ("iam:DetachUserPolicy", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:DetachUserPolicy", "arn:PARTITION:iam::123456789012:user/malice"),
    ("iam:PutUserPermissionsBoundary", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:PutUserPermissionsBoundary", "arn:PARTITION:iam::123456789012:user/malice"),
    ("iam:PutUserPolicy", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:PutUserPolicy", "arn:PARTITION:iam::123456789012:user/malice"),
    ("iam:AddUserToGroup", "arn:PARTITION:iam::123456789012:group/admins"),
    ("iam:AttachGroupPolicy", "arn:PARTITION:iam::123456789012:group/admins"),
    ("iam:DeleteGroupPolicy", "arn:PARTITION:iam::123456789012:group/admins"),
    ("iam:DetachGroupPolicy", "arn:PARTITION:iam::123456789012:group/admins"),
    ("iam:PutGroupPolicy", "arn:PARTITION:iam::123456789012:group/admins"),
    ("iam:RemoveUserFromGroup", "arn:PARTITION:iam::123456789012:group/admins"),
    ("iam:CreatePolicyVersion", "arn:PARTITION:iam::123456789012:policy/force-mfa"),
    ("iam:CreatePolicyVersion", "arn:PARTITION:iam::123456789012:policy/other"),
    ("iam:SetDefaultPolicyVersion", "arn:PARTITION:iam::123456789012:policy/force-mfa"),
    ("iam:SetDefaultPolicyVersion", "arn:PARTITION:iam::123456789012:policy/other"),
];
const ENROLMENT: &[(&str, &str)] = &[
    ("iam:CreateVirtualMFADevice", "arn:PARTITION:iam::123456789012:mfa/phone"),
    ("iam:EnableMFADevice", "arn:PARTITION:iam::123456789012:user/alice"),
    ("iam:EnableMFADevice", "arn:PARTITION:iam::123456789012:user/eng/eu/alice"),
];

/// What the evaluator says of calls in a console session without MFA: for each, is it denied if the request has no
/// `aws:ViaAWSService`, and if the request has it as `false`?
struct Evaluated {
    forbidden: Vec<(bool, bool)>,
    enrolment: Vec<(bool, bool)>,
}

fn evaluate(document: &Value, partition: &str) -> Evaluated {
    static ADMINISTRATOR: LazyLock<IAMPolicy> =
        LazyLock::new(|| rows::parse(&rows::scenarios().policies["AdministratorAccess"]));
    let policies = [rows::parse(document), ADMINISTRATOR.clone()];
    let denied = |&(action, resource): &(&str, &str), via: Option<&str>| {
        let resource = resource.replace("PARTITION", partition);
        let mut context =
            Map::from_iter([("aws:username", "alice"), ("aws:MultiFactorAuthPresent", "false")].map(text));
        context.extend(via.map(|via| text(("aws:ViaAWSService", via))));
        let principal = format!("arn:{partition}:iam::{ACCOUNT}:user/alice");
        let request = Request { principal, action: action.to_owned(), resource, context };
        decide(&policies, &request).decision == Decision::Deny
    };
    let both = |calls: &[(&str, &str)]| -> Vec<(bool, bool)> {
        calls.iter().map(|call| (denied(call, None), denied(call, Some("false")))).collect()
    };
    Evaluated { forbidden: both(FORBIDDEN), enrolment: both(ENROLMENT) }
}

fn text((key, value): (&str, &str)) -> (String, Value) {
    (key.to_owned(), json!(value))
}

impl Evaluated {
    fn forbidden_passes(&self) -> bool {
        self.forbidden.contains(&(false, false))
    }

    fn enrolment_is_denied(&self) -> bool {
        self.enrolment.contains(&(true, true))
    }

    fn is_enforcing(&self) -> bool {
        self.forbidden.iter().all(|&denied| denied == (true, true))
            && self.enrolment.iter().all(|&denied| denied == (false, false))
    }

    fn word(&self) -> &'static str {
        if self.forbidden_passes() {
            "not_enforcing"
        } else if self.enrolment_is_denied() {
            "blocks_enrolment"
        } else if self.is_enforcing() {
            "enforcing"
        } else {
            "unknown"
        }
    }
}

fn judged(document: &Value, partition: &str) -> Verdict {
    let arn = format!("arn:{partition}:iam::{ACCOUNT}:policy/force-mfa");
    judge(&document.to_string(), &PolicyArn::new(&arn).expect("the ARN of a policy"))
}

#[test]
fn the_policy_is_enforcing_in_all_settings() {
    let template = template::account_template();
    for (partition, settings) in PARTITIONS.iter().flat_map(|&p| all_settings().into_iter().map(move |s| (p, s))) {
        let policy = render(&template, template::policy_source(&template), partition, &settings);

        assert_eq!(evaluate(&policy, partition).word(), "enforcing", "{partition} {settings:?}");
        assert_eq!(judged(&policy, partition), Verdict::Enforcing, "{partition} {settings:?}");
    }
}

#[test]
fn the_policy_of_2022_is_enforcing() {
    let seed = serde_json::from_str(include_str!("seed-2022.json")).expect("the seed is JSON");

    assert_eq!(evaluate(&seed, "aws").word(), "enforcing");
    assert_eq!(judged(&seed, "aws"), Verdict::Enforcing);
}

/// The denying statement of the policy that AWS documents (it has the actions below and this condition):
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws_my-sec-creds-self-manage.html>
#[test]
fn the_policy_that_aws_documents_is_enforcing() {
    let exceptions = ["CreateVirtualMFADevice", "EnableMFADevice", "GetUser", "GetMFADevice", "ListMFADevices"]
        .into_iter()
        .chain(["ListVirtualMFADevices", "ResyncMFADevice"])
        .map(|action| format!("iam:{action}"))
        .chain(["sts:GetSessionToken".to_owned()])
        .collect::<Vec<_>>();
    let documented = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "DenyAllExceptListedIfNoMFA", "Effect": "Deny", "NotAction": exceptions, "Resource": "*",
            "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
        }],
    });

    assert_eq!(evaluate(&documented, "aws").word(), "enforcing");
    assert_eq!(judged(&documented, "aws"), Verdict::Enforcing);
}

#[test]
fn every_mutant_is_judged_as_the_evaluator_decides() {
    let template = template::account_template();
    let mut seen = std::collections::BTreeSet::new();
    let mut verdicts = std::collections::BTreeMap::<_, usize>::new();
    for mutant in mutants::of(template::policy_source(&template)) {
        for settings in all_settings() {
            let policy = render(&template, &mutant.policy, "aws", &settings);
            if !is_whole(&policy) {
                continue;
            }

            if !seen.insert(denies(&policy)) {
                continue;
            }

            let verdict = judged(&policy, "aws");

            if !(is_disputed(&policy) && matches!(verdict, Verdict::Unknown(_))) {
                assert_eq!(verdict.as_str(), evaluate(&policy, "aws").word(), "{} {settings:?}", mutant.what);
            }
            *verdicts.entry(verdict.as_str()).or_default() += 1;
        }
    }
    assert_eq!(verdicts.len(), 4, "{verdicts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// `unknown` is always allowed; every other word has to be what the evaluator finds.
    #[test]
    fn a_made_up_document_is_never_judged_wrongly(document in document()) {
        let evaluated = evaluate(&document, "aws");

        match judged(&document, "aws") {
            Verdict::Enforcing => prop_assert!(evaluated.is_enforcing()),
            Verdict::NotEnforcing(_) => prop_assert!(evaluated.forbidden_passes()),
            Verdict::BlocksEnrolment(_) => prop_assert!(evaluated.enrolment_is_denied()),
            Verdict::Unknown(_) => {}
        }
    }
}

#[test]
fn made_up_documents_meet_every_verdict() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut verdicts = std::collections::BTreeMap::<_, usize>::new();
    for _ in 0..1_000 {
        let document = document().new_tree(&mut runner).expect("a document").current();
        *verdicts.entry(judged(&document, "aws").as_str()).or_default() += 1;
    }

    assert!(verdicts.len() == 4 && verdicts.values().all(|&count| count >= 20), "{verdicts:?}");
}
