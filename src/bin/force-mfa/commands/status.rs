//! `force-mfa status`: every console user, and how it comes by the policy. Reads only.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use force_mfa::credential_report::KEY_IN_USE;
use serde::Serialize;

use crate::account_status::{self, ConsoleUser, Coverage, Status};
use crate::error::{CliError, ExitStatus};
use crate::organization;
use crate::organization::accounts::Selection;
use crate::organization::page::page;
use crate::organization::report::Report;
use crate::organization::survey::{self, Survey};
use crate::session::{Flags, Session};
use crate::stack_name::Purpose;
use crate::terminal::{Interrupt, advance, age, alarming, columns, note, print, spinner, write_private};
use crate::user_csv;

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show the uncovered users only; the totals are those of all users
    #[arg(long)]
    uncovered: bool,
    /// Write the result to a file that only you may read, and print the totals only
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    organization: Selection,
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
    /// One page for a browser, which loads nothing
    Html,
}

/// Prints who is covered and who is not.
///
/// # Errors
/// If the account cannot be read.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    if arguments.organization.organization {
        return run_organization(flags, arguments, interrupt).await;
    }
    // The clients' futures are large.
    let read = Box::pin(async {
        let session = Session::open_with_policy(flags, Purpose::Read).await?;
        let bar = spinner("Reading the account");
        let status = account_status::read(&session, interrupt, |done, all| advance(&bar, done, all)).await;
        bar.finish_and_clear();
        Ok((session, status?))
    });
    let (session, mut status) = interrupt.unless_stopped(read).await?;
    let incomplete = status.is_incomplete();
    let totals = totals(&status, &session.summary());
    if let Some(warning) = &status.policy_warning {
        note(&format!("Warning: {warning}"));
    }
    if let Some(failure) = &status.failure {
        note(&format!("{} user(s) could not be looked up. The last: {failure}", status.totals.unknown));
    }
    if arguments.uncovered {
        status.users.retain(ConsoleUser::is_open);
    }
    let result = match arguments.format {
        Format::Table => table(&status, &totals),
        Format::Json => json(&status)?,
        Format::Csv => user_csv::text([], status.users.iter().map(|user| ([], user)))?,
        Format::Html => {
            let title = format!("Account {}", session.account);
            page(&Report::of_account(status, session.stack.is_some()), title, Utc::now(), &session.caller.arn)?
        }
    };
    arguments.write(&result, &totals)?;
    Ok(ExitStatus { incomplete, denied: false })
}

async fn run_organization(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    let begin = Box::pin(Survey::begin(flags, &arguments.organization));
    let survey = interrupt.unless_stopped(begin).await?;
    let made_by = survey.made_by().to_owned();
    let mut report = survey::report(survey, flags, interrupt).await;
    let totals = organization::table::totals(&report);
    for warning in report.warnings() {
        note(&format!("Warning: {warning}"));
    }
    if arguments.uncovered {
        report.keep_open_users();
    }
    let result = match arguments.format {
        Format::Table => organization::table::table(&report, arguments.uncovered),
        Format::Json => json(&report)?,
        Format::Csv => organization::table::csv(&report)?,
        Format::Html => {
            let title = report.organization.as_ref().map(|id| format!("Organization {id}"));
            page(&report, title.unwrap_or_else(|| "Accounts".to_owned()), Utc::now(), &made_by)?
        }
    };
    arguments.write(&result, &totals)?;
    if report.partial {
        return Err(CliError::Interrupted(format!(
            "stopped: the result is partial. Of {} accounts, those that were not read are in it as failed",
            report.totals.accounts
        )));
    }
    Ok(ExitStatus { incomplete: report.is_incomplete(), denied: false })
}

impl Arguments {
    fn write(&self, result: &str, totals: &str) -> Result<(), CliError> {
        match &self.output {
            Some(path) => {
                write_private(path, result)?;
                print(totals)
            }
            None => print(result),
        }
    }
}

fn json(result: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(result).map_err(|error| CliError::Failed(error.to_string()))
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

fn table(status: &Status, totals: &str) -> String {
    let now = Utc::now();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["USER", "MFA", "COVERED", "HOW", "ACCESS KEYS"]);
    match columns() {
        Some(columns) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for user in &status.users {
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
    if table.row_count() > 0 { format!("{}\n\n{totals}", table.trim_fmt()) } else { totals.to_owned() }
}

fn totals(status: &Status, settings: &str) -> String {
    let Status { totals, .. } = status;
    let existing = totals.existing.unwrap_or_default();
    let of_groups = status.users.iter().filter(|user| user.coverage == Coverage::Group).count();
    format!(
        "{settings}\n\n\
         Policy: {}\n\
         Credential report of {} ({} old)\n\n\
         Console users {:>6}\n\
         \x20 without MFA {:>6}\n\
         \x20 covered     {:>6}   {} directly, {of_groups} by group\n\
         \x20 exempt      {:>6}\n\
         \x20 uncovered   {}   {} existing (password older than the policy), {} new\n\
         \x20   with keys {}   {MARK} key used within {} days; denied too unless CredentialScope=console-only\n\
         \x20 unknown     {}",
        status.policy.unwrap_or_default().replace('_', " "),
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
    )
}
