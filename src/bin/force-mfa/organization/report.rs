//! The report on an organization: a row for each account, and totals. Types and counting only; makes no calls.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::account_status::{ConsoleUser, Status, Totals};
use crate::organization::accounts::Member;
use crate::terminal::one_line;

/// The report. Serialized, it is the object that `status --organization --format json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The ID of the organization; `None` if the accounts come from a file.
    pub organization: Option<String>,
    /// Its accounts, the worst first.
    pub accounts: Vec<Account>,
    /// Counts of `accounts` and of their users.
    pub totals: OrganizationTotals,
    /// Whether the command was stopped before it had read every account.
    #[serde(skip)]
    pub partial: bool,
}

/// One account of the organization. What is not known is `None`.
#[expect(clippy::struct_field_names, reason = "the fields have the names of the JSON")]
#[derive(Debug, Serialize)]
pub struct Account {
    /// The account ID.
    pub account: String,
    /// The name of the account in the organization.
    pub name: Option<String>,
    /// Whether the account was read, and whether force-mfa is installed in it.
    pub state: State,
    /// What went wrong and what to do, if `state` is `failed`.
    pub error: Option<String>,
    /// The release of the stack.
    pub release: Option<String>,
    /// The managed policy whose coverage is shown.
    pub policy_arn: Option<String>,
    /// What the text of the policy does.
    pub policy: Option<&'static str>,
    /// Age of the credential report in seconds.
    pub report_age_s: Option<i64>,
    /// Counts of `users`.
    pub totals: Option<Totals>,
    /// Every console user, sorted by name.
    pub users: Option<Vec<ConsoleUser>>,
    /// What else somebody should know, such as why a user is unknown.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// What is known of an account as a whole. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It could not be read.
    Failed,
    /// It was read, and there is no stack.
    NotInstalled,
    /// It was read, and there is a stack.
    Ok,
    /// Organizations does not call it active, so it was not read.
    Suspended,
}

/// Counts of the accounts, and sums of what is known of their users.
#[derive(Debug, Default, Serialize)]
pub struct OrganizationTotals {
    /// All accounts.
    pub accounts: usize,
    /// Accounts by their state.
    pub ok: usize,
    /// Accounts that could not be read.
    pub failed: usize,
    /// Accounts that Organizations does not call active.
    pub suspended: usize,
    /// Accounts without a stack.
    pub not_installed: usize,
    /// Sums over the accounts that were read.
    #[serde(flatten)]
    pub users: Totals,
}

impl Account {
    /// An account that was read.
    pub fn read(member: &Member, status: Status, is_installed: bool) -> Self {
        let state = if is_installed { State::Ok } else { State::NotInstalled };
        let unknown = status.totals.unknown;
        let failure = status.failure.map(|last| format!("{unknown} user(s) could not be looked up. The last: {last}"));
        Self {
            release: status.release,
            policy_arn: status.policy_arn,
            policy: status.policy,
            report_age_s: Some(status.report_age_s),
            totals: Some(status.totals),
            users: Some(status.users),
            warnings: status.policy_warning.into_iter().chain(failure).collect(),
            ..Self::unread(member, state, None)
        }
    }

    /// An account that could not be read.
    pub fn failed(member: &Member, error: String) -> Self {
        Self::unread(member, State::Failed, Some(error))
    }

    /// An account that Organizations does not call active.
    pub fn suspended(member: &Member) -> Self {
        Self::unread(member, State::Suspended, None)
    }

    fn unread(member: &Member, state: State, error: Option<String>) -> Self {
        Self {
            account: member.account.clone(),
            name: member.name.clone(),
            state,
            error,
            release: None,
            policy_arn: None,
            policy: None,
            report_age_s: None,
            totals: None,
            users: None,
            warnings: Vec::new(),
        }
    }

    /// The name, without what would steer a terminal; empty if it is not known.
    pub fn plain_name(&self) -> String {
        self.name.as_deref().map_or_else(String::new, one_line)
    }

    /// ID and name.
    pub fn title(&self) -> String {
        format!("{} {}", self.account, self.plain_name()).trim_end().to_owned()
    }

    /// Users with neither the policy nor an exemption, and users of whom that is not known.
    pub fn open_users(&self) -> usize {
        self.totals.as_ref().map_or(0, |totals| totals.uncovered + totals.unknown)
    }

    /// Whether somebody has to look at the account.
    pub fn needs_attention(&self) -> bool {
        match self.state {
            State::Failed | State::NotInstalled => true,
            State::Ok => self.open_users() > 0 || self.policy_problem().is_some(),
            State::Suspended => false,
        }
    }

    /// What is wrong with the text of the policy, if anything is.
    pub fn policy_problem(&self) -> Option<&'static str> {
        match self.policy {
            Some("not_enforcing") => Some("policy does not enforce"),
            Some("blocks_enrolment") => Some("policy blocks enrolment"),
            _ => None,
        }
    }
}

impl Report {
    /// Counts the accounts, and sorts them: those that need attention first, most open users first within a state.
    pub fn new(organization: Option<String>, mut accounts: Vec<Account>, partial: bool) -> Self {
        accounts.sort_by_cached_key(|account| {
            let Account { state, name, account: id, .. } = account;
            (*state, !account.needs_attention(), Reverse(account.open_users()), name.clone(), id.clone())
        });
        let mut totals = OrganizationTotals { accounts: accounts.len(), ..OrganizationTotals::default() };
        totals.users.existing = Some(0);
        for account in &accounts {
            match account.state {
                State::Failed => totals.failed += 1,
                State::NotInstalled => totals.not_installed += 1,
                State::Ok => totals.ok += 1,
                State::Suspended => totals.suspended += 1,
            }
            if let Some(users) = &account.totals {
                totals.users.add(users);
            }
        }
        Self { organization, accounts, totals, partial }
    }

    /// The report on a single account.
    pub fn of_account(status: Status, is_installed: bool) -> Self {
        let member = Member { account: status.account.clone(), name: None, is_active: true };
        Self::new(None, vec![Account::read(&member, status, is_installed)], false)
    }

    /// The warnings of all accounts, each once, with the first accounts that have it.
    pub fn warnings(&self) -> Vec<String> {
        const NAMED: usize = 3;
        let mut accounts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for account in &self.accounts {
            for warning in &account.warnings {
                accounts.entry(warning).or_default().push(account.title());
            }
        }
        let line = |(warning, titles): (&str, Vec<String>)| {
            let named = titles.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = match titles.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{named}{more}: {}", one_line(warning))
        };
        accounts.into_iter().map(line).collect()
    }

    /// Whether an account or a user needs attention.
    pub fn is_incomplete(&self) -> bool {
        self.accounts.iter().any(Account::needs_attention)
    }

    /// Leaves only the users in the lists who are uncovered or unknown. The totals stay.
    pub fn keep_open_users(&mut self) {
        for users in self.accounts.iter_mut().filter_map(|account| account.users.as_mut()) {
            users.retain(ConsoleUser::is_open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_warning_of_many_accounts_is_one_line() {
        let account = |number: usize| {
            let member =
                Member { account: format!("{number:012}"), name: Some("a\u{1b}b".to_owned()), is_active: true };
            let warnings = vec!["the policy".to_owned(), format!("the stack {}", number == 3)];
            Account { warnings, ..Account::suspended(&member) }
        };
        let report = Report::new(None, (1..=5).map(account).collect(), false);
        let warnings = report.warnings();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        let first = "000000000001 a\u{fffd}b, 000000000002 a\u{fffd}b, 000000000003 a\u{fffd}b and 2 more: the policy";
        assert_eq!(warnings[0], first);
        assert_eq!(warnings[2], "000000000003 a\u{fffd}b: the stack true");
    }
}
