//! The report on an organization as text: a table for people, or a line for each user.

use std::fmt::Write as _;

use crate::account_status::{ConsoleUser, Coverage, Totals};
use crate::error::CliError;
use crate::organization::report::{Account, Report, State};
use crate::terminal::{alarming, new_table, one_line};
use crate::user_csv;

/// Every account, the totals, and every user who is uncovered or unknown. With `uncovered` only the accounts that need
/// attention.
pub fn table(report: &Report, uncovered: bool) -> String {
    let shown = |account: &&Account| !uncovered || account.needs_attention();
    let mut text = String::new();
    // Failed accounts are the first of the report.
    for account in report.accounts.iter().filter(|account| account.state == State::Failed) {
        let _ = writeln!(text, "{}  FAILED  {}", account.title(), account.error.as_deref().unwrap_or_default());
    }
    let mut accounts = new_table(&[
        "ACCOUNT",
        "NAME",
        "STATE",
        "RELEASE",
        "USERS",
        "NO MFA",
        "COVERED",
        "EXEMPT",
        "UNCOVERED",
        "EXISTING",
    ]);
    for account in report.accounts.iter().filter(shown).filter(|account| account.state != State::Failed) {
        accounts.add_row(row(account));
    }
    for column in 4..10 {
        if let Some(column) = accounts.column_mut(column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    if accounts.row_count() > 0 {
        let newline = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{newline}{}", accounts.trim_fmt());
    }
    let newline = if text.is_empty() { "" } else { "\n" };
    let _ = write!(text, "{newline}{}", totals(report));
    let mut users = new_table(&["ACCOUNT", "NAME", "USER", "MFA", "WHY"]);
    for (account, user) in report.accounts.iter().flat_map(users_of) {
        let why = match user.coverage {
            Coverage::None => user.detail.clone(),
            Coverage::Unknown => format!("unknown: {}", one_line(&user.detail)),
            Coverage::Direct | Coverage::Group | Coverage::Exempt => continue,
        };
        let mfa = match user.mfa {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        users.add_row([&account.account, account.plain_name().as_str(), &user.user, mfa, &why]);
    }
    if users.row_count() > 0 {
        let _ = write!(text, "\n\nUncovered or unknown users\n\n{}", users.trim_fmt());
    }
    text
}

/// The totals alone: nobody is named, so that this may stand in a log.
pub fn totals(report: &Report) -> String {
    let totals = &report.totals;
    let Totals { console_users, without_mfa, covered, exempt, uncovered, existing, unknown, uncovered_with_keys } =
        totals.users;
    let existing = existing.unwrap_or_default();
    let organization = report.organization.as_ref().map_or_else(String::new, |id| format!("Organization {id}\n\n"));
    format!(
        "{organization}\
         Accounts      {:>6}   {} read\n\
         \x20 failed      {}\n\
         \x20 not installed {}\n\
         \x20 suspended   {:>6}   not read\n\
         Console users {console_users:>6}\n\
         \x20 without MFA {without_mfa:>6}\n\
         \x20 covered     {covered:>6}\n\
         \x20 exempt      {exempt:>6}\n\
         \x20 uncovered   {}   {existing} existing, {uncovered_with_keys} with access keys in use\n\
         \x20 unknown     {}",
        totals.accounts,
        totals.ok + totals.not_installed,
        alarming(totals.failed, 6),
        alarming(totals.not_installed, 4),
        totals.suspended,
        alarming(uncovered, 6),
        alarming(unknown, 6),
    )
}

/// A header and a line for each user.
///
/// # Errors
/// If a line cannot be written.
pub fn csv(report: &Report) -> Result<String, CliError> {
    let users = report.accounts.iter().flat_map(users_of);
    let lines = users.map(|(account, user)| {
        let name = account.name.as_deref().unwrap_or_default();
        ([account.account.as_str(), name], user)
    });
    user_csv::text(["account", "account_name"], lines)
}

fn users_of(account: &Account) -> impl Iterator<Item = (&Account, &ConsoleUser)> {
    account.users.iter().flatten().map(move |user| (account, user))
}

fn row(account: &Account) -> Vec<String> {
    let state = match (account.state, account.policy_problem()) {
        (State::Ok, None) => "ok",
        (State::Ok, Some(problem)) => problem,
        (State::NotInstalled, _) => "NOT INSTALLED",
        (State::Failed, _) => "FAILED",
        (State::Suspended, _) => "suspended",
    };
    let release = account.release.as_deref().unwrap_or("-");
    let mut row = vec![account.account.clone(), account.plain_name(), state.to_owned(), release.to_owned()];
    match &account.totals {
        Some(totals) => {
            let Totals { console_users, without_mfa, covered, exempt, uncovered, existing, .. } = totals;
            row.extend([console_users, without_mfa, covered, exempt, uncovered].map(ToString::to_string));
            row.push(existing.map_or_else(|| "-".to_owned(), |existing| existing.to_string()));
        }
        None => row.extend((0..6).map(|_| "-".to_owned())),
    }
    row
}
