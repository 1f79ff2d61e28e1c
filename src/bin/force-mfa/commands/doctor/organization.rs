//! `doctor --organization`: the checks in every account, a row for each.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::checks::{self, Check, State as CheckState};
use super::{Arguments, Format, RELEASE, Totals, inventory, lines};
use crate::error::{CliError, ExitStatus};
use crate::organization::access::Access;
use crate::organization::accounts::Member;
use crate::organization::report::State;
use crate::organization::survey::Survey;
use crate::session::Flags;
use crate::sign_in::SignedIn;
use crate::stack_name::StackName;
use crate::terminal::{Interrupt, new_table, one_line, print};

/// Serialized, it is the object that `doctor --organization --format json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// The ID of the organization; `None` if the accounts come from a file.
    organization: Option<String>,
    /// The accounts, the worst first.
    accounts: Vec<Row>,
    totals: OrganizationTotals,
}

/// One account. What is not known is `None`.
#[derive(Debug, Serialize)]
struct Row {
    account: String,
    name: Option<String>,
    state: State,
    /// What went wrong and what to do, if `state` is `failed`.
    error: Option<String>,
    region: Option<String>,
    checks: Option<Vec<Check>>,
    totals: Option<Totals>,
}

/// Counts of the accounts by their state, and of the checks in all of them.
#[derive(Debug, Default, Serialize)]
struct OrganizationTotals {
    accounts: usize,
    ok: usize,
    failed: usize,
    suspended: usize,
    not_installed: usize,
    checks: Totals,
}

/// Checks every account, and prints what came of it.
///
/// # Errors
/// If the accounts cannot be listed, or the command was stopped before it had read all.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    let begin = Box::pin(Survey::begin(flags, &arguments.organization));
    let survey = interrupt.unless_stopped(begin).await?;
    let stack = flags.stack.clone();
    let work = |access: Arc<Access>, member: Member| {
        let stack = stack.clone();
        async move { Box::pin(Row::read(&access, member, StackName::of(stack.as_deref()))).await }
    };
    let rows =
        survey.rows(interrupt, work, |member, why| Row::unread(member.clone(), State::Failed, Some(why.to_owned())));
    let report = Report::new(survey.organization.id.clone(), rows.await);
    print(&match arguments.format {
        Format::Table => report.table(),
        Format::Json => serde_json::to_string_pretty(&report).map_err(|error| CliError::Failed(error.to_string()))?,
    })?;
    if interrupt.stopped() {
        let why = "stopped: the result is partial. The accounts that were not read are in it as failed";
        return Err(CliError::Interrupted(why.to_owned()));
    }
    Ok(report.exit_status())
}

impl Row {
    async fn read(access: &Access, member: Member, stack: StackName<'_>) -> Self {
        if !member.is_active {
            return Self::unread(member, State::Suspended, None);
        }
        let mut place = access.place().await;
        match access.enter(&member, &mut place).await {
            Ok(signed_in) => place.finish(Self::of_account(signed_in, member, stack)).await,
            Err(error) => Self::unread(member, State::Failed, Some(one_line(&error.to_string()))),
        }
    }

    async fn of_account(signed_in: SignedIn, member: Member, stack: StackName<'_>) -> Self {
        let inventory = inventory(signed_in, stack).await;
        let checks = checks::judge(&inventory, RELEASE);
        let state = if matches!(inventory.stack, Ok(None)) { State::NotInstalled } else { State::Ok };
        Self {
            region: Some(inventory.home),
            totals: Some(Totals::of(&checks)),
            checks: Some(checks),
            ..Self::unread(member, state, None)
        }
    }

    fn unread(member: Member, state: State, error: Option<String>) -> Self {
        let Member { account, name, .. } = member;
        Self { account, name, state, error, region: None, checks: None, totals: None }
    }

    /// The names of the checks that came to this.
    fn checks_in(&self, state: CheckState) -> String {
        let checks = self.checks.iter().flatten().filter(|check| check.state == state);
        checks.map(|check| check.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn title(&self) -> String {
        let name = self.name.as_deref().map_or_else(String::new, one_line);
        format!("{} {name}", self.account).trim_end().to_owned()
    }
}

impl Report {
    fn new(organization: Option<String>, mut accounts: Vec<Row>) -> Self {
        accounts.sort_by_cached_key(|row| {
            let Totals { fail, unknown, warn, .. } = row.totals.unwrap_or_default();
            (row.state, Reverse(fail), Reverse(unknown), Reverse(warn), row.name.clone(), row.account.clone())
        });
        let mut totals = OrganizationTotals { accounts: accounts.len(), ..OrganizationTotals::default() };
        for row in &accounts {
            match row.state {
                State::Ok => totals.ok += 1,
                State::Failed => totals.failed += 1,
                State::Suspended => totals.suspended += 1,
                State::NotInstalled => totals.not_installed += 1,
            }
            let Totals { ok, warn, fail, unknown } = row.totals.unwrap_or_default();
            totals.checks.ok += ok;
            totals.checks.warn += warn;
            totals.checks.fail += fail;
            totals.checks.unknown += unknown;
        }
        Self { organization, accounts, totals }
    }

    fn exit_status(&self) -> ExitStatus {
        let OrganizationTotals { failed, not_installed, checks, .. } = &self.totals;
        let incomplete = failed + not_installed + checks.fail > 0;
        ExitStatus { incomplete, denied: !incomplete && checks.unknown > 0 }
    }

    /// A row for each account, then what to do about each check that is not ok, then the totals.
    fn table(&self) -> String {
        let mut text = String::new();
        for row in self.accounts.iter().filter(|row| row.state == State::Failed) {
            let _ = writeln!(text, "{}  FAILED  {}", row.title(), row.error.as_deref().unwrap_or_default());
        }
        let mut table = new_table(&["ACCOUNT", "NAME", "STATE", "FAIL", "UNKNOWN", "WARN"]);
        for row in self.accounts.iter().filter(|row| row.state != State::Failed) {
            let state = match row.state {
                State::Ok | State::Failed => "ok",
                State::NotInstalled => "NOT INSTALLED",
                State::Suspended => "suspended",
            };
            let name = row.name.as_deref().map_or_else(String::new, one_line);
            let [fail, unknown, warn] =
                [CheckState::Fail, CheckState::Unknown, CheckState::Warn].map(|state| row.checks_in(state));
            table.add_row([&row.account, &name, state, &fail, &unknown, &warn]);
        }
        let newline = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{newline}{}", table.trim_fmt());
        // Where nothing is installed, one line says what to do.
        for row in self.accounts.iter().filter(|row| row.state == State::Ok) {
            let not_ok = row.checks.iter().flatten().filter(|check| check.state != CheckState::Ok);
            let not_ok: Vec<Check> = not_ok.cloned().collect();
            if !not_ok.is_empty() {
                let _ = writeln!(text, "\n{}\n{}", row.title(), lines(&not_ok));
            }
        }
        let OrganizationTotals { accounts, ok, failed, suspended, not_installed, checks } = &self.totals;
        let Totals { ok: good, warn, fail, unknown } = checks;
        let _ = write!(
            text,
            "\n{accounts} accounts: {ok} installed, {not_installed} not installed, {failed} failed, {suspended} suspended\n\
             Checks: {good} ok, {warn} warn, {fail} fail, {unknown} unknown"
        );
        text
    }
}
