//! `force-mfa status`: every console user, and how it comes by the policy. Reads only.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use force_mfa::credential_report::KEY_IN_USE;

use crate::account_status::{self, ConsoleUser, Coverage, Status};
use crate::error::{CliError, ExitStatus};
use crate::session::{Flags, Purpose, Session};
use crate::terminal::{Interrupt, advance, age, alarming, columns, csv_text, note, print, spinner};

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show the uncovered users only; the totals are those of all users
    #[arg(long)]
    uncovered: bool,
}

/// How the users are printed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Columns and totals, for people
    #[default]
    Table,
    /// One object, with totals
    Json,
    /// A header and one line a user, without totals
    Csv,
}

/// Prints who is covered and who is not.
///
/// # Errors
/// If the account cannot be read.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    // The clients' futures are large.
    let read = Box::pin(async {
        let session = Session::open_with_policy(flags, Purpose::Read).await?;
        let bar = spinner("Reading the account");
        let status = account_status::read(&session, interrupt, |done, all| advance(&bar, done, all)).await;
        bar.finish_and_clear();
        Ok((session, status?))
    });
    let (session, mut status) = interrupt.unless_stopped(read).await?;
    let incomplete = status.totals.uncovered + status.totals.unknown > 0;
    match arguments.format {
        Format::Table => print(&table(&status, &session.summary(), arguments.uncovered))?,
        Format::Json => print(&json(&mut status, arguments.uncovered)?)?,
        Format::Csv => print(&csv(&status, arguments.uncovered)?)?,
    }
    if let Some(failure) = &status.failure {
        note(&format!("{} user(s) could not be looked up. The last: {failure}", status.totals.unknown));
    }
    Ok(ExitStatus { incomplete, denied: false })
}

fn shown(users: &[ConsoleUser], uncovered: bool) -> impl Iterator<Item = &ConsoleUser> {
    users.iter().filter(move |user| is_shown(user, uncovered))
}

/// A user of whom it is not known may be uncovered.
fn is_shown(user: &ConsoleUser, uncovered: bool) -> bool {
    match user.coverage {
        Coverage::Direct | Coverage::Group | Coverage::Exempt => !uncovered,
        Coverage::None | Coverage::Unknown => true,
    }
}

fn json(status: &mut Status, uncovered: bool) -> Result<String, CliError> {
    status.users.retain(|user| is_shown(user, uncovered));
    serde_json::to_string_pretty(status).map_err(|error| CliError::Failed(error.to_string()))
}

/// The columns of the CSV: the fields of a [`ConsoleUser`] in their order.
const COLUMNS: [&str; 8] =
    ["user", "arn", "mfa", "coverage", "detail", "password_last_used", "access_keys", "access_key_last_used"];

fn csv(status: &Status, uncovered: bool) -> Result<String, CliError> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let failed = |error: &dyn std::error::Error| CliError::Failed(error.to_string());
    csv.write_record(COLUMNS).map_err(|error| failed(&error))?;
    for user in shown(&status.users, uncovered) {
        let user = ConsoleUser { user: csv_text(&user.user), detail: csv_text(&user.detail), ..user.clone() };
        csv.serialize(user).map_err(|error| failed(&error))?;
    }
    let bytes = csv.into_inner().map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Marks the users whose access key would stop.
const MARK: &str = "*";

/// The active access keys of a user, and when one was last used.
fn keys(user: &ConsoleUser, now: DateTime<Utc>) -> String {
    let last_used = user.access_key_last_used.map(|used| age((now - used).num_seconds().max(0)));
    match (user.access_keys, last_used) {
        (Some(0), _) => String::new(),
        (Some(keys), Some(age)) if user.has_key_to_lose(now) => format!("{keys}, used {age} ago {MARK}"),
        (Some(keys), Some(age)) => format!("{keys}, used {age} ago"),
        (Some(keys), None) => format!("{keys}, never used"),
        (None, _) => "?".to_owned(),
    }
}

fn table(status: &Status, settings: &str, uncovered: bool) -> String {
    let now = Utc::now();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["USER", "MFA", "COVERED", "HOW", "ACCESS KEYS"]);
    match columns() {
        Some(columns) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for user in shown(&status.users, uncovered) {
        let (covered, how) = match user.coverage {
            Coverage::Direct => ("directly", "attached"),
            Coverage::Group => ("by group", user.detail.as_str()),
            Coverage::Exempt => ("exempt", user.detail.as_str()),
            Coverage::None => ("NO", user.detail.as_str()),
            Coverage::Unknown => ("UNKNOWN", user.detail.as_str()),
        };
        let mfa = match user.mfa {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        table.add_row([user.user.as_str(), mfa, covered, how, &keys(user, now)]);
    }
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    let Status { totals, .. } = status;
    let existing = totals.existing.unwrap_or_default();
    let mut text = String::new();
    if table.row_count() > 0 {
        let _ = writeln!(text, "{}\n", table.trim_fmt());
    }
    let of_groups = status.users.iter().filter(|user| user.coverage == Coverage::Group).count();
    let _ = write!(
        text,
        "{settings}\n\n\
         Credential report of {} ({} old)\n\n\
         Console users {:>6}\n\
         \x20 without MFA {:>6}\n\
         \x20 covered     {:>6}   {} directly, {of_groups} by group\n\
         \x20 exempt      {:>6}\n\
         \x20 uncovered   {}   {} existing (password older than the policy), {} new\n\
         \x20   with keys {}   {MARK} key used within {} days; denied too unless CredentialScope=console-only\n\
         \x20 unknown     {}",
        status.reported_at.format("%Y-%m-%d %H:%M UTC"),
        age(status.report_age_s),
        totals.console_users,
        totals.without_mfa,
        totals.covered,
        totals.covered - of_groups,
        totals.exempt,
        alarming(totals.uncovered, 6),
        existing,
        totals.uncovered - existing,
        alarming(totals.uncovered_with_keys, 6),
        KEY_IN_USE.num_days(),
        alarming(totals.unknown, 6),
    );
    text
}
