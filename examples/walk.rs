//! `make walk`: what a new user meets under the policy, step by step. An IAM policy evaluator makes every decision, on
//! the policy that the template holds. `--short` shows the first scene, `--all` every scene with resources and statements.

#[path = "../tests/policy/evaluation.rs"]
mod evaluation;
#[path = "../tests/policy/template.rs"]
mod template;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use iam_rs::{Decision, IAMPolicy};
use serde_json::{Map, Value, json};

use evaluation::Request;

const ALICE: &str = "arn:aws:iam::123456789012:user/alice";
const BOB: &str = "arn:aws:iam::123456789012:user/bob";
const PHONE: &str = "arn:aws:iam::123456789012:mfa/iphone-15";

/// What the request was signed with, which is what `aws:MultiFactorAuthPresent` tells.
#[derive(Clone, Copy)]
enum Session {
    Console,
    ConsoleWithMfa,
    AccessKey,
}

/// What the call's outcome has to be: the walk stops with an error where it is not.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Allowed,
    Denied,
    /// The call needs no permission.
    NotDenied,
}

struct Step {
    says: &'static str,
    session: Session,
    action: &'static str,
    resource: &'static str,
    extra: Option<(&'static str, &'static str)>,
    expected: Expected,
}

const fn step(
    says: &'static str,
    session: Session,
    action: &'static str,
    resource: &'static str,
    expected: Expected,
) -> Step {
    Step { says, session, action, resource, extra: None, expected }
}

const fn key_step(says: &'static str, call: &'static str) -> Step {
    Step {
        says,
        session: Session::Console,
        action: "iam:EnableMFADevice",
        resource: ALICE,
        extra: Some(("iam:RegisterSecurityKey", call)),
        expected: Expected::Allowed,
    }
}

use Expected::{Allowed, Denied, NotDenied};
use Session::{AccessKey, Console, ConsoleWithMfa};

/// Asked for at sign-in where the account has turned console authorization on; else sign-in needs no permission.
const SIGN_IN: &str = "arn:aws:signin:::console/console";
/// Calls that the console makes by itself while a user enrols; `--short` leaves them out.
const READS: [&str; 3] = ["iam:GetAccountPasswordPolicy", "iam:GetUser", "iam:ListMFADevices"];
const EC2: &str = "ec2:DescribeInstances";

const WALK: &[(&str, &[Step])] = &[
    (
        "A new user signs in for the first time and enrols an app on the phone",
        &[
            step("signs in", Console, "signin:AuthorizeOAuth2Access", SIGN_IN, NotDenied),
            step("reads the rules for passwords", Console, "iam:GetAccountPasswordPolicy", "*", Allowed),
            step("changes the password", Console, "iam:ChangePassword", ALICE, Allowed),
            step("looks at EC2", Console, EC2, "*", Denied),
            step("opens the security page", Console, "iam:GetUser", ALICE, Allowed),
            step("sees the own devices", Console, "iam:ListMFADevices", ALICE, Allowed),
            step("creates a virtual device", Console, "iam:CreateVirtualMFADevice", PHONE, Allowed),
            step("enrols it", Console, "iam:EnableMFADevice", ALICE, Allowed),
            step("looks at EC2 before signing in again", Console, EC2, "*", Denied),
            step("looks at EC2, signed in with MFA", ConsoleWithMfa, EC2, "*", Allowed),
            step("looks at S3, which no policy grants", ConsoleWithMfa, "s3:ListAllMyBuckets", "*", Denied),
        ],
    ),
    (
        "The same with a passkey or security key",
        &[
            step("looks at EC2", Console, EC2, "*", Denied),
            key_step("asks to register the passkey", "Create"),
            key_step("enrols it", "Activate"),
            step("checks what was enrolled", Console, "iam:GetMFADevice", ALICE, Allowed),
            step("looks at EC2, signed in with MFA", ConsoleWithMfa, EC2, "*", Allowed),
            step("makes an access key", ConsoleWithMfa, "iam:CreateAccessKey", ALICE, Allowed),
            step("removes the device", ConsoleWithMfa, "iam:DeactivateMFADevice", ALICE, Allowed),
        ],
    ),
    (
        "The same with an access key, the user's own or a stolen one",
        &[
            step("looks at EC2", AccessKey, EC2, "*", Denied),
            step("creates a virtual device", AccessKey, "iam:CreateVirtualMFADevice", PHONE, Denied),
            step("enrols a device", AccessKey, "iam:EnableMFADevice", ALICE, Denied),
            step("removes the user's device", AccessKey, "iam:DeactivateMFADevice", ALICE, Denied),
            step("makes another access key", AccessKey, "iam:CreateAccessKey", ALICE, Denied),
            step("looks up the device's number", AccessKey, "iam:ListMFADevices", ALICE, Allowed),
            step("asks for a session, with the device's code", AccessKey, "sts:GetSessionToken", "*", NotDenied),
            step("looks at EC2 in that session", ConsoleWithMfa, EC2, "*", Allowed),
        ],
    ),
    (
        "The same for a colleague's user",
        &[
            step("changes bob's password", Console, "iam:ChangePassword", BOB, Denied),
            step("enrols a device for bob", Console, "iam:EnableMFADevice", BOB, Denied),
            step("reads bob's devices", Console, "iam:ListMFADevices", BOB, Denied),
            step("removes bob's device", Console, "iam:DeactivateMFADevice", BOB, Denied),
            step("with MFA: enrols a device for bob", ConsoleWithMfa, "iam:EnableMFADevice", BOB, Denied),
            step("with MFA: makes an access key for bob", ConsoleWithMfa, "iam:CreateAccessKey", BOB, Denied),
        ],
    ),
];

/// How much of the walk is shown.
#[derive(Clone, Copy, PartialEq)]
enum Length {
    Short,
    Usual,
    All,
}

fn main() -> Result<(), String> {
    let length = match std::env::args().nth(1).as_deref() {
        None => Length::Usual,
        Some("--short") => Length::Short,
        Some("--all") => Length::All,
        Some(other) => return Err(format!("{other} is not an option; there are --short and --all")),
    };
    let scenes = match length {
        Length::Short => &WALK[..1],
        Length::Usual => &WALK[..3],
        Length::All => WALK,
    };
    let policies = policies();
    let mut text = String::new();
    if length != Length::Short {
        let _ = writeln!(text, "alice has AmazonEC2FullAccess and, since the function attached it, force-mfa.");
    }
    let mut surprises = 0;
    for (title, steps) in scenes {
        if length != Length::Short {
            let _ = writeln!(text, "\n{title}");
        }
        let is_shown = |step: &&Step| length != Length::Short || !READS.contains(&step.action);
        for step in steps.iter().filter(is_shown) {
            let (line, as_expected) = decided(step, &policies, length);
            let _ = writeln!(text, "{line}");
            surprises += usize::from(!as_expected);
        }
    }
    if length == Length::Usual {
        let _ = writeln!(text, "\n`make walk ALL=1` shows every scene, the resources, and the statement that decides.");
    }
    match io::stdout().write_all(text.as_bytes()) {
        // Nobody reads on: `make walk | head`. println! would panic.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.to_string()),
        Ok(()) | Err(_) => {}
    }
    if surprises > 0 {
        return Err(format!("{surprises} steps did not come out as they should"));
    }
    Ok(())
}

/// A step with its decision as a line, and whether the decision is as expected.
fn decided(step: &Step, policies: &[IAMPolicy], length: Length) -> (String, bool) {
    let decided = evaluation::decide(policies, &step.request());
    let denied = decided.decision != Decision::Allow
        && !(step.expected == NotDenied && decided.decision == Decision::NotApplicable);
    let as_expected = denied == (step.expected == Denied);
    let by = match decided.decision {
        Decision::NotApplicable if denied => "no statement allows it".to_owned(),
        Decision::NotApplicable => "no statement denies it, and it needs no permission".to_owned(),
        Decision::Allow | Decision::Deny => decided.by.join(", "),
    };
    let says = format!("{}{}", step.session.prefix(), step.says);
    let decision = if denied { "denied" } else { "allowed" };
    let surprise = if as_expected { "" } else { "   <- NOT AS IT SHOULD BE" };
    let line = if length == Length::All {
        format!("  {says:<48} {:<30} {:<38} {decision:<8} {by}{surprise}", step.action, step.resource)
    } else {
        format!("  {says:<48} {:<30} {decision}{surprise}", step.action)
    };
    (line, as_expected)
}

impl Session {
    fn prefix(self) -> &'static str {
        match self {
            Console | ConsoleWithMfa => "",
            AccessKey => "key: ",
        }
    }
}

impl Step {
    fn request(&self) -> Request {
        let mut context = Map::from_iter([("aws:username".to_owned(), json!("alice"))]);
        match self.session {
            Console => context.insert("aws:MultiFactorAuthPresent".to_owned(), json!("false")),
            ConsoleWithMfa => context.insert("aws:MultiFactorAuthPresent".to_owned(), json!("true")),
            AccessKey => None,
        };
        context.extend(self.extra.map(|(key, value)| (key.to_owned(), json!(value))));
        Request {
            principal: ALICE.to_owned(),
            action: self.action.to_owned(),
            resource: self.resource.to_owned(),
            context,
        }
    }
}

fn policies() -> Vec<IAMPolicy> {
    let template = template::account_template();
    let source = template::policy_source(&template);
    let force_mfa = template::render(&template, source, "aws", &template::Parameters::new());
    // The statement of AWS's managed policy that the walk asks about.
    let ec2 = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "AmazonEC2FullAccess", "Effect": "Allow", "Action": "ec2:*", "Resource": "*",
        }],
    });
    let parse = |policy: Value| serde_json::from_value(policy).expect("the policy can be parsed");
    vec![parse(force_mfa), parse(ec2)]
}
