//! `force-mfa status`: every console user, and how it comes by the policy. Reads only.

use std::fmt::Write as _;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};

use crate::account_status::{self, ConsoleUser, Coverage, Status};
use crate::error::{CliError, ExitStatus};
use crate::session::{Flags, Purpose, Session};
use crate::terminal::{Interrupt, advance, age, alarming, columns, print, spinner};

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
    let (session, status) = interrupt.unless_stopped(read).await?;
    let incomplete = status.totals.uncovered > 0;
    match arguments.format {
        Format::Table => print(&table(&status, &session.summary(), arguments.uncovered))?,
        Format::Json => print(&json(status, arguments.uncovered)?)?,
        Format::Csv => print(&csv(&status, arguments.uncovered)?)?,
    }
    Ok(ExitStatus { incomplete, denied: false })
}

fn shown(users: &[ConsoleUser], uncovered: bool) -> impl Iterator<Item = &ConsoleUser> {
    users.iter().filter(move |user| !uncovered || user.coverage == Coverage::None)
}

fn json(mut status: Status, uncovered: bool) -> Result<String, CliError> {
    status.users.retain(|user| !uncovered || user.coverage == Coverage::None);
    serde_json::to_string_pretty(&status).map_err(|error| CliError::Failed(error.to_string()))
}

fn csv(status: &Status, uncovered: bool) -> Result<String, CliError> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let failed = |error: &dyn std::error::Error| CliError::Failed(error.to_string());
    csv.write_record(["user", "arn", "mfa", "coverage", "detail"]).map_err(|error| failed(&error))?;
    for user in shown(&status.users, uncovered) {
        csv.serialize(user).map_err(|error| failed(&error))?;
    }
    let bytes = csv.into_inner().map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn table(status: &Status, settings: &str, uncovered: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["USER", "MFA", "COVERED", "HOW"]);
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
        };
        table.add_row([user.user.as_str(), if user.mfa { "yes" } else { "no" }, covered, how]);
    }
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    let Status { totals, .. } = status;
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
         \x20 uncovered   {}   {} existing (from before the policy), {} new",
        status.reported_at.format("%Y-%m-%d %H:%M UTC"),
        age(status.report_age_s),
        totals.console_users,
        totals.without_mfa,
        totals.covered,
        totals.covered - of_groups,
        totals.exempt,
        alarming(totals.uncovered, 6),
        totals.existing,
        totals.uncovered - totals.existing,
    );
    text
}
