//! The report as one HTML page, which loads nothing. The template is `page.html`; what goes into it is here.

use chrono::{DateTime, Utc};
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::account_status::{ConsoleUser, Coverage};
use crate::error::CliError;
use crate::organization::report::{Account, Report, State};
use crate::terminal::age;

/// Lists of at most so many users are open from the start: all are seen at once, and a long page still opens quickly.
const OPEN_LISTS: usize = 500;

/// What the template reads.
#[derive(Serialize)]
struct Page<'a> {
    title: String,
    made_at: String,
    made_by: &'a str,
    version: &'a str,
    partial: bool,
    share: String,
    console_users: usize,
    parts: [Part; 4],
    facts: Vec<Fact>,
    columns: Vec<Column>,
    rows: Vec<Row<'a>>,
    lists: Vec<List<'a>>,
}

/// A part of the bar.
#[derive(Serialize)]
struct Part {
    class: &'static str,
    count: usize,
}

/// A figure beside the bar.
#[derive(Serialize)]
struct Fact {
    label: &'static str,
    value: String,
    alarm: bool,
}

#[derive(Serialize)]
struct Column {
    label: &'static str,
    words: bool,
}

/// A row of the table of accounts.
#[derive(Serialize)]
struct Row<'a> {
    account: &'a str,
    name: Option<&'a str>,
    state: State,
    state_text: &'static str,
    /// Sorts the states, the worst first.
    rank: usize,
    attention: bool,
    /// The reason that nothing else is known.
    why: Option<&'a str>,
    policy_text: Option<&'static str>,
    release: Option<&'a str>,
    figures: Vec<Figure>,
    report_age: Option<String>,
    report_age_s: Option<i64>,
}

#[derive(Serialize)]
struct Figure {
    label: &'static str,
    value: Option<usize>,
    alarm: bool,
}

/// Users by account.
#[derive(Serialize)]
struct List<'a> {
    id: &'static str,
    title: &'static str,
    about: String,
    open: bool,
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct Group<'a> {
    account: &'a str,
    name: Option<&'a str>,
    users: Vec<User<'a>>,
}

#[derive(Serialize)]
struct User<'a> {
    name: &'a str,
    about: String,
}

/// The page. `made_by` is the ARN of the caller.
///
/// # Errors
/// If the template does not fit what goes into it.
pub fn page(report: &Report, title: String, made_at: DateTime<Utc>, made_by: &str) -> Result<String, CliError> {
    let page = Page {
        title,
        made_at: made_at.format("%Y-%m-%d %H:%M UTC").to_string(),
        made_by,
        version: env!("CARGO_PKG_VERSION"),
        partial: report.partial,
        share: share(report.totals.users.covered, report.totals.users.console_users),
        console_users: report.totals.users.console_users,
        parts: parts(report),
        facts: facts(report),
        columns: columns(),
        rows: report.accounts.iter().map(row).collect(),
        lists: lists(report),
    };
    let mut environment = Environment::new();
    // A name that the template misspells is an error, not an empty place.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The extension turns escaping on.
    let template = environment.template_from_named_str("page.html", include_str!("page.html"));
    template
        .and_then(|template| template.render(Serde(page)))
        .map_err(|error| CliError::Failed(format!("the page: {error:#}")))
}

/// Percent, rounded down: one uncovered user in 10,000 is not 100 %.
fn share(covered: usize, all: usize) -> String {
    match (covered * 100).checked_div(all) {
        Some(percent) => format!("{percent} %"),
        None => "\u{2013}".to_owned(),
    }
}

fn parts(report: &Report) -> [Part; 4] {
    let users = &report.totals.users;
    [
        Part { class: "covered", count: users.covered },
        Part { class: "exempt", count: users.exempt },
        Part { class: "uncovered", count: users.uncovered },
        Part { class: "unknown", count: users.unknown },
    ]
}

fn facts(report: &Report) -> Vec<Fact> {
    let totals = &report.totals;
    let fact = |label, count: usize| Fact { label, value: count.to_string(), alarm: false };
    let alarm = |label, count: usize| Fact { alarm: count > 0, ..fact(label, count) };
    let oldest = report.accounts.iter().filter_map(|account| account.report_age_s).max();
    vec![
        fact("Accounts", totals.accounts),
        alarm("Failed", totals.failed),
        alarm("Not installed", totals.not_installed),
        fact("Suspended", totals.suspended),
        fact("Without MFA", totals.users.without_mfa),
        alarm("Uncovered", totals.users.uncovered),
        fact("Uncovered, keys in use", totals.users.uncovered_with_keys),
        Fact { label: "Oldest report", value: oldest.map_or_else(|| "\u{2013}".to_owned(), age), alarm: false },
    ]
}

fn columns() -> Vec<Column> {
    let words = ["Account", "State", "Release"].map(|label| Column { label, words: true });
    let figures = ["Users", "Without MFA", "Covered", "Exempt", "Uncovered", "Existing", "Report age"];
    words.into_iter().chain(figures.map(|label| Column { label, words: false })).collect()
}

fn row(account: &Account) -> Row<'_> {
    let Account { state, totals, .. } = account;
    let figure = |label, value| Figure { label, value, alarm: false };
    let figures = totals.as_ref().map_or_else(Vec::new, |totals| {
        vec![
            figure("Users", Some(totals.console_users)),
            figure("Without MFA", Some(totals.without_mfa)),
            figure("Covered", Some(totals.covered)),
            figure("Exempt", Some(totals.exempt)),
            Figure { alarm: totals.uncovered > 0, ..figure("Uncovered", Some(totals.uncovered)) },
            figure("Existing", totals.existing),
        ]
    });
    Row {
        account: &account.account,
        name: account.name.as_deref(),
        state: *state,
        state_text: match state {
            State::Failed => "failed",
            State::NotInstalled => "not installed",
            State::Ok => "ok",
            State::Suspended => "suspended",
        },
        rank: *state as usize,
        attention: account.needs_attention(),
        why: match state {
            State::Suspended => Some("Organizations does not call this account active, so it was not read."),
            State::Failed | State::NotInstalled | State::Ok => account.error.as_deref(),
        },
        policy_text: account.policy_problem(),
        release: account.release.as_deref(),
        figures,
        report_age: account.report_age_s.map(age),
        report_age_s: account.report_age_s,
    }
}

fn lists(report: &Report) -> Vec<List<'_>> {
    let users = &report.totals.users;
    let list = |id, title, coverage, count: usize, about: &str, about_user: fn(&ConsoleUser) -> String| List {
        id,
        title,
        about: format!("{} {about}", if count == 1 { "1 user".to_owned() } else { format!("{count} users") }),
        open: count <= OPEN_LISTS,
        groups: groups(report, coverage, about_user),
    };
    let mut lists = vec![list(
        "uncovered",
        "Uncovered users",
        Coverage::None,
        users.uncovered,
        "with neither the policy nor an exemption. Existing users had their password before the policy.",
        about_uncovered,
    )];
    if users.unknown > 0 {
        let about = "whose coverage is not known, because IAM did not answer.";
        lists.push(list("unknown", "Unknown users", Coverage::Unknown, users.unknown, about, |user| {
            user.detail.clone()
        }));
    }
    let about = "without the policy, because a setting of the account exempts them.";
    lists.push(list("exempt", "Exemptions", Coverage::Exempt, users.exempt, about, about_exempt));
    lists
}

fn groups<'a>(report: &'a Report, coverage: Coverage, about: fn(&ConsoleUser) -> String) -> Vec<Group<'a>> {
    let group = |account: &'a Account| {
        let Account { account, name, users, .. } = account;
        let users = users.iter().flatten().filter(|user| user.coverage == coverage);
        let users: Vec<User> = users.map(|user| User { name: &user.user, about: about(user) }).collect();
        (!users.is_empty()).then_some(Group { account, name: name.as_deref(), users })
    };
    report.accounts.iter().filter_map(group).collect()
}

fn about_uncovered(user: &ConsoleUser) -> String {
    let mfa = match user.mfa {
        Some(true) => "MFA",
        Some(false) => "no MFA",
        None => "MFA unknown",
    };
    let keys = match user.access_keys {
        Some(0) | None => "",
        Some(1) => "1 access key",
        Some(_) => "2 access keys",
    };
    let detail = user.detail.as_str();
    [detail, mfa, keys].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn about_exempt(user: &ConsoleUser) -> String {
    let by = match user.detail.as_str() {
        "FORCE_MFA_EXEMPT_USERS" => "by name",
        "FORCE_MFA_EXEMPT_PATHS" => "by path",
        "FORCE_MFA_EXEMPT_TAG" => "by tag",
        other => return other.to_owned(),
    };
    format!("{by} ({})", user.detail)
}
