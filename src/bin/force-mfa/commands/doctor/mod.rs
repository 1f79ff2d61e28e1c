//! `force-mfa doctor`: does the installation of this account work? Reads only, except with `--canary`.

mod canary;
mod checks;
mod inventory;
mod organization;
mod reading;

use std::fmt::Write as _;
use std::time::Duration;

use aws_config::SdkConfig;
use clap::ValueEnum;
use console::Style;
use serde::Serialize;

use crate::error::{CliError, ExitStatus};
use crate::organization::accounts::Selection;
use crate::session::Flags;
use crate::sign_in::{SignedIn, home_region};
use crate::stack_name::StackName;
use crate::terminal::{Interrupt, columns, one_line, print, spinner};
use checks::{Check, State};
use inventory::Inventory;
use reading::Place;

/// The release that the checks are written for.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Create a user with a console password, wait until the policy is attached to it, and delete the user again
    #[arg(long, conflicts_with = "organization")]
    canary: bool,
    /// How long the canary waits for the policy, such as 90s or 15m
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration, requires = "canary")]
    timeout: Duration,
    /// Skip the confirmation prompt
    #[arg(long, short, requires = "canary")]
    yes: bool,
    #[command(flatten)]
    organization: Selection,
}

/// How the checks are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for each check, and what to do about it
    #[default]
    Table,
    /// One object, with totals
    Json,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    const TAKES: &str = "a number of seconds, minutes or hours from 1s to 24h, such as 90s or 15m";
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(TAKES),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).unwrap_or(0);
    if (1..=86_400).contains(&seconds) { Ok(Duration::from_secs(seconds)) } else { Err(TAKES) }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    account: &'a str,
    region: &'a str,
    checks: &'a [Check],
    totals: Totals,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Totals {
    ok: usize,
    warn: usize,
    fail: usize,
    unknown: usize,
}

impl Totals {
    fn of(checks: &[Check]) -> Self {
        let count = |state| checks.iter().filter(|check| check.state == state).count();
        Self {
            ok: count(State::Ok),
            warn: count(State::Warn),
            fail: count(State::Fail),
            unknown: count(State::Unknown),
        }
    }
}

/// Prints what is in order and what is not.
///
/// # Errors
/// If there are no credentials, or the canary is refused or interrupted.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    if arguments.organization.organization {
        return organization::run(flags, arguments, interrupt).await;
    }
    let (config, inventory) = Box::pin(interrupt.unless_stopped(read(flags))).await?;
    let mut checks = checks::judge(&inventory, RELEASE);
    let table = arguments.format == Format::Table;
    if arguments.canary {
        let canary = canary::Canary::new(&config, &inventory)?;
        if table {
            print(&lines(&checks))?;
        }
        let check = Box::pin(canary.run(arguments.yes, arguments.timeout, interrupt)).await?;
        if table {
            print(&lines(std::slice::from_ref(&check)))?;
        }
        checks.push(check);
    } else if table {
        print(&lines(&checks))?;
    }
    let Inventory { account, home, .. } = &inventory;
    let totals = Totals::of(&checks);
    let status = ExitStatus { incomplete: totals.fail > 0, denied: totals.fail == 0 && totals.unknown > 0 };
    if table {
        let Totals { ok, warn, fail, unknown } = totals;
        print(&format!("\nAccount {account}, {home}: {ok} ok, {warn} warn, {fail} fail, {unknown} unknown"))?;
    } else {
        let report = Report { account, region: home, checks: &checks, totals };
        print(&serde_json::to_string_pretty(&report).map_err(|error| CliError::Failed(error.to_string()))?)?;
    }
    Ok(status)
}

async fn read(flags: &Flags) -> Result<(SdkConfig, Inventory), CliError> {
    let mut given = flags.settings.flags();
    given.extend(flags.no_stack.then(|| "--no-stack".to_owned()));
    if !given.is_empty() {
        return Err(CliError::Usage(format!(
            "doctor compares the function with the settings of its own stack: leave out {}. Nothing was done",
            given.join(", ")
        )));
    }
    let signed_in = SignedIn::new(&flags.sign_in).await?;
    let config = reading::with_timeout(&signed_in.config);
    let bar = spinner("reading the installation");
    let inventory = Box::pin(inventory(signed_in, flags.stack_name())).await;
    bar.finish_and_clear();
    Ok((config, inventory))
}

/// Reads the installation in the account of the caller.
async fn inventory(SignedIn { config, caller, .. }: SignedIn, stack: StackName<'_>) -> Inventory {
    let home = home_region(config.region());
    let place = Place { caller, region: config.region().cloned().unwrap_or_else(|| home.clone()), home };
    reading::read(&config, &place, stack).await
}

/// Checks for people: state, name, what was found; below it what to do. A fix is one line, so that it can be pasted.
fn lines(checks: &[Check]) -> String {
    const MARGIN: usize = 29;
    let mut text = String::new();
    for Check { name, state, detail, fix } in checks {
        let (word, style) = match state {
            State::Ok => ("ok", Style::new().green()),
            State::Warn => ("warn", Style::new().yellow()),
            State::Unknown => ("unknown", Style::new().magenta()),
            State::Fail => ("FAIL", Style::new().red().bold()),
        };
        let detail = one_line(detail);
        let detail = match columns() {
            Some(columns) => {
                let options = textwrap::Options::new(usize::from(columns).saturating_sub(MARGIN).max(20));
                textwrap::wrap(&detail, options).join(&format!("\n{}", " ".repeat(MARGIN)))
            }
            None => detail,
        };
        let word = style.apply_to(format!("{word:<8}"));
        let _ = writeln!(text, "{word} {:<19} {detail}", name.as_str());
        if let Some(fix) = fix {
            let _ = writeln!(text, "{}fix: {}", " ".repeat(MARGIN), one_line(fix));
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_a_day_at_most() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("24h", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "15", "0s", "25h", "m", "-1m", "1d", "1.5m", "9999999999999999999h", "ä"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
