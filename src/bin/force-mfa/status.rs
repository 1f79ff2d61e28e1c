//! `force-mfa status`: every console user, and how it comes by the policy. Reads only.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use force_mfa::account::{Account, CoveredBy, exempt_by_report};
use force_mfa::exemption::Exemption;
use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::{PolicyArn, UserName};
use force_mfa::settings::Settings;
use serde::Serialize;
use tokio::time::Instant;

use crate::calls;
use crate::screen::{Interrupt, advance, alarming, columns, print, spinner};
use crate::session::{Flags, Session};
use crate::stop::{Ending, Stop};
use crate::sweep::TIME_LIMIT;

/// What the verb takes.
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

#[derive(Debug, Serialize)]
struct Status {
    account: String,
    policy_arn: String,
    report_age_s: i64,
    totals: Totals,
    users: Vec<ConsoleUser>,
    #[serde(skip)]
    reported_at: DateTime<Utc>,
}

#[derive(Debug, Default, Serialize)]
struct Totals {
    console_users: usize,
    without_mfa: usize,
    covered: usize,
    exempt: usize,
    uncovered: usize,
    existing: usize,
}

#[derive(Clone, Debug, Serialize)]
struct ConsoleUser {
    user: String,
    arn: String,
    mfa: bool,
    coverage: Coverage,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Coverage {
    Direct,
    Group,
    Exempt,
    None,
}

/// Prints who is covered and who is not.
///
/// # Errors
/// If the account cannot be read.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<Ending, Stop> {
    let status = async {
        let session = Session::open_with_policy(flags).await?;
        look(&session, interrupt).await
    };
    let status = interrupt.unless_stopped(status).await?;
    let left = status.totals.uncovered > 0;
    match arguments.format {
        Format::Table => print(&table(&status, arguments.uncovered))?,
        Format::Json => print(&json(status, arguments.uncovered)?)?,
        Format::Csv => print(&csv(&status, arguments.uncovered)?)?,
    }
    Ok(Ending { left, denied: false })
}

fn shown(users: &[ConsoleUser], uncovered: bool) -> impl Iterator<Item = &ConsoleUser> {
    users.iter().filter(move |user| !uncovered || user.coverage == Coverage::None)
}

fn json(mut status: Status, uncovered: bool) -> Result<String, Stop> {
    status.users.retain(|user| !uncovered || user.coverage == Coverage::None);
    serde_json::to_string_pretty(&status).map_err(|error| Stop::Failed(error.to_string()))
}

fn csv(status: &Status, uncovered: bool) -> Result<String, Stop> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let failed = |error: &dyn std::error::Error| Stop::Failed(error.to_string());
    csv.write_record(["user", "arn", "mfa", "coverage", "detail"]).map_err(|error| failed(&error))?;
    for user in shown(&status.users, uncovered) {
        csv.serialize(user).map_err(|error| failed(&error))?;
    }
    let bytes = csv.into_inner().map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn table(status: &Status, uncovered: bool) -> String {
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
    let Status { account, policy_arn, totals, .. } = status;
    let mut text = String::new();
    if table.row_count() > 0 {
        let _ = writeln!(text, "{}\n", table.trim_fmt());
    }
    let of_groups = status.users.iter().filter(|user| user.coverage == Coverage::Group).count();
    let _ = write!(
        text,
        "Account {account}, policy {policy_arn}\n\
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

/// An age as people say it.
pub fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A console user, or one who may be: what is known of it without a further call.
#[derive(Clone, Debug)]
struct Seen {
    name: UserName,
    arn: String,
    path: String,
    /// By the report; unknown if the user is newer.
    mfa: Option<bool>,
    /// Whether it is from before the policy, where the report settles it.
    existing: Option<bool>,
    covered_by: Option<CoveredBy>,
    exempt: Option<Exemption>,
}

/// What had to be asked about a user.
#[derive(Clone, Debug)]
struct Answer {
    mfa: bool,
    existing: bool,
    exempt: Option<Exemption>,
}

async fn look(session: &Session, interrupt: &Interrupt) -> Result<Status, Stop> {
    let Session { iam, settings, .. } = session;
    let bar = spinner("Reading the account");
    let account = Account::read(iam, &settings.policy, Instant::now() + TIME_LIMIT).await?;
    let (settled, open): (Vec<Seen>, Vec<Seen>) =
        seen(&account, settings).into_iter().partition(|seen| is_settled(seen, settings));
    let mut users: Vec<ConsoleUser> = settled
        .into_iter()
        .map(|seen| {
            let known =
                Answer { mfa: seen.mfa == Some(true), existing: seen.existing == Some(true), exempt: seen.exempt };
            user(seen, &known)
        })
        .collect();
    let mut failed = None;
    let (mut done, all) = (0, open.len());
    let call = |seen| ask(iam.clone(), settings.clone(), account.policy_created, seen);
    calls::for_each(open, interrupt, call, |seen, answer: Result<Option<Answer>, IamError>| {
        done += 1;
        advance(&bar, done, all);
        match answer {
            Ok(Some(answer)) => users.push(user(seen, &answer)),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    })
    .await;
    bar.finish_and_clear();
    if let Some(error) = failed {
        return Err(error.into());
    }
    users.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(Status {
        account: settings.policy.account().to_owned(),
        policy_arn: settings.policy.to_string(),
        report_age_s: (Utc::now() - account.reported_at).num_seconds().max(0),
        totals: totals(&users),
        users,
        reported_at: account.reported_at,
    })
}

fn totals(users: &[ConsoleUser]) -> Totals {
    let mut totals = Totals { console_users: users.len(), ..Totals::default() };
    for user in users {
        totals.without_mfa += usize::from(!user.mfa);
        match user.coverage {
            Coverage::Direct | Coverage::Group => totals.covered += 1,
            Coverage::Exempt => totals.exempt += 1,
            Coverage::None => {
                totals.uncovered += 1;
                totals.existing += usize::from(user.detail == EXISTING);
            }
        }
    }
    totals
}

const EXISTING: &str = "existing";
const NEW: &str = "new";

/// The console users of the report, and everyone of whom it does not tell.
fn seen(account: &Account, settings: &Settings) -> Vec<Seen> {
    let reported = account.console_users.iter().map(|row| Seen {
        name: row.user.clone(),
        arn: row.arn.clone(),
        path: row.path().to_owned(),
        mfa: Some(row.has_mfa),
        existing: account.is_existing(row),
        covered_by: account.covered_by(&row.user),
        exempt: exempt_by_report(&settings.exemptions, row),
    });
    let unreported = account.unreported.iter().map(|user| Seen {
        name: user.name.clone(),
        arn: arn(&settings.policy, &user.path, &user.name),
        path: user.path.clone(),
        mfa: None,
        existing: (user.created >= account.policy_created).then_some(false),
        covered_by: account.covered_by(&user.name),
        exempt: settings.exemptions.by_name(&user.name).or_else(|| settings.exemptions.by_path(&user.path)),
    });
    reported.chain(unreported).collect()
}

/// A listing shows no more than name and path; the rest is that of the account.
fn arn(policy: &PolicyArn, path: &str, name: &UserName) -> String {
    let partition = policy.as_str().split(':').nth(1).unwrap_or("aws");
    format!("arn:{partition}:iam::{}:user{path}{name}", policy.account())
}

/// Whether no call could tell more: the report has the user, and it is covered, exempt, or known to be from before the
/// policy, with no tag that could exempt it.
fn is_settled(seen: &Seen, settings: &Settings) -> bool {
    seen.mfa.is_some()
        && (seen.covered_by.is_some()
            || seen.exempt.is_some()
            || seen.existing == Some(true) && settings.exemptions.tag.is_none())
}

/// Asks IAM what the report does not tell; `None` if the user has no password, or does not exist any more.
async fn ask(
    iam: Iam,
    settings: Settings,
    policy_created: DateTime<Utc>,
    seen: Seen,
) -> Result<Option<Answer>, IamError> {
    let Some(password_created) = iam.login_profile(&seen.name).await? else { return Ok(None) };
    let mfa = match seen.mfa {
        Some(mfa) => mfa,
        None => iam.has_mfa_device(&seen.name).await?,
    };
    let mut exempt = seen.exempt;
    if exempt.is_none() && seen.covered_by.is_none() && settings.exemptions.tag.is_some() {
        let Some(attributes) = iam.user(&seen.name).await? else { return Ok(None) };
        exempt = settings.exemptions.by_attributes(&seen.path, &attributes.tags);
    }
    Ok(Some(Answer { mfa, existing: seen.existing.unwrap_or(password_created < policy_created), exempt }))
}

fn user(seen: Seen, answer: &Answer) -> ConsoleUser {
    let (coverage, detail) = match (seen.covered_by, answer.exempt) {
        (Some(CoveredBy::Attachment), _) => (Coverage::Direct, String::new()),
        (Some(CoveredBy::Group(group)), _) => (Coverage::Group, group.to_string()),
        (None, Some(exemption)) => (Coverage::Exempt, exemption.setting().to_owned()),
        (None, None) => (Coverage::None, if answer.existing { EXISTING } else { NEW }.to_owned()),
    };
    ConsoleUser { user: seen.name.to_string(), arn: seen.arn, mfa: answer.mfa, coverage, detail }
}
