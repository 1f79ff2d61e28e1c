//! On whose users and devices the actions are possible: a small made-up account, with names chosen to trap.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write;

use iam_rs::Decision;

use crate::settings::all_settings;
use crate::{Asking, Besides, SITUATIONS, Variant};

/// The same user, with and without a path.
const CALLERS: [&str; 2] = ["user/alice", "user/eng/eu/alice"];
/// A name that ends in the caller's, a user below a path that is the caller's name, and ordinary ones.
const OTHERS: [&str; 6] =
    ["user/malice", "user/alice/bob", "user/eng/eu/malice", "user/bob", "user/alice2", "user/eng/alice/bob"];
const DEVICES: [&str; 5] = ["mfa/alice", "mfa/malice", "mfa/alice/bob", "mfa/eng/eu/alice", "mfa/phone"];
const ON_USERS: [&str; 10] = [
    "iam:ChangePassword",
    "iam:EnableMFADevice",
    "iam:GetMFADevice",
    "iam:GetUser",
    "iam:ListMFADevices",
    "iam:ResyncMFADevice",
    "iam:DeactivateMFADevice",
    "iam:CreateAccessKey",
    "iam:ListAccessKeys",
    "iam:UpdateLoginProfile",
];
const ON_DEVICES: [&str; 2] = ["iam:CreateVirtualMFADevice", "iam:DeleteVirtualMFADevice"];

/// Asks each action on each resource, in each situation and variant. Returns a table of the default settings, and of
/// the same with `CredentialScope=console-only`.
///
/// # Errors
///
/// Says which user can act on another without MFA, or where two resources of one kind are decided differently.
pub fn table<W: Write>(asking: &mut Asking<W>, variants: &[Variant]) -> Result<String, String> {
    let mut tables = String::new();
    // Another partition changes nothing but the ARNs, which one variant shows.
    let is_asked = |(i, variant): &(usize, &Variant)| variant.partition == "aws" || i % all_settings().len() == 0;
    for (i, variant) in variants.iter().enumerate().filter(is_asked) {
        let mut cells: BTreeMap<(&str, &str, usize), BTreeSet<&str>> = BTreeMap::new();
        for (situation, at) in SITUATIONS.iter().enumerate() {
            for caller in CALLERS {
                let on_users = ON_USERS.iter().flat_map(|action| {
                    let others = OTHERS.iter().map(move |other| (*action, "another user", *other));
                    others.chain([(*action, "the own user", caller)])
                });
                let on_devices = ON_DEVICES
                    .iter()
                    .flat_map(|action| DEVICES.iter().map(move |device| (*action, "any device", *device)));
                for (action, kind, resource) in on_users.chain(on_devices) {
                    let arn = format!("arn:{}:iam::{}:{resource}", variant.partition, crate::ACCOUNT);
                    let mut allowed =
                        |besides| asking.ask(variant, besides, caller, (action, &arn), at) == Decision::Allow;
                    let word = match (allowed(Besides::AdministratorAccess), allowed(Besides::Nothing)) {
                        (true, true) => "yes",
                        (true, false) => "administrator",
                        (false, false) => "no",
                        (false, true) => return Err(format!("{action} {arn}: AdministratorAccess takes it away")),
                    };
                    let scope = variant.value("CredentialScope");
                    let is_bound = situation == 0 || (situation == 1 && scope == "all");
                    if kind == "another user" && (word == "yes" || (is_bound && word != "no")) {
                        return Err(format!("{}: {caller} can {action} on {arn}", at.0));
                    }
                    cells.entry((action, kind, situation)).or_default().insert(word);
                }
            }
        }
        if let Some((cell, words)) = cells.iter().find(|(_, words)| words.len() > 1) {
            return Err(format!("{cell:?} is {words:?}: it depends on the name"));
        }
        let is_default = |name: &str| matches!(variant.value(name), "aws" | "yes");
        let by_default =
            ["Partition", "AllowPasswordChangeBeforeMfa", "SelfServiceCredentials", "EnrolFromConsoleOnly"]
                .into_iter()
                .all(is_default);
        if by_default {
            let _ = write!(tables, "\nWith `CredentialScope={}`", variant.value("CredentialScope"));
            tables += if i == 0 { " and the other parameters' defaults:\n\n" } else { ":\n\n" };
            let _ = writeln!(tables, "| action | on |{} |", SITUATIONS.map(|at| format!(" {}", at.0)).join(" |"));
            let _ = writeln!(tables, "|---|---|{}", "---|".repeat(SITUATIONS.len()));
            let mut rows: Vec<_> = cells.keys().map(|(action, kind, _)| (*action, *kind)).collect();
            rows.dedup();
            for (action, kind) in rows {
                let of = |situation| cells[&(action, kind, situation)].first().copied().unwrap_or_default();
                let row = (0..SITUATIONS.len()).map(of).collect::<Vec<_>>().join(" | ");
                let _ = writeln!(tables, "| `{action}` | {kind} | {row} |");
            }
        }
    }
    Ok(tables)
}
