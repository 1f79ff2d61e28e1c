//! `force-mfa sweep`: the function's sweep, from here.

use std::cell::Cell;
use std::fmt::Write as _;

use aws_sdk_cloudformation::types::Stack;
use chrono::Utc;
use clap::ValueEnum;
use force_mfa::credential_report::KEY_IN_USE;
use force_mfa::enforce::{Enforcer, VISIBILITY_WAITS};
use force_mfa::event::Facts;
use force_mfa::handler::{Handled, PayloadOutcome};
use force_mfa::iam::IamError;
use force_mfa::policy_state::PolicyState;
use force_mfa::settings::Mode;
use force_mfa::sweep::{SweepError, SweepReport, sweep};
use tokio::time::Instant;

use crate::error::{CliError, ExitStatus, user_error};
use crate::session::{Flags, Session, TIME_LIMIT};
use crate::stack;
use crate::stack_name::Purpose;
use crate::terminal::{
    Interrupt, advance, age, alarming, can_ask, confirm, note, note_dry_run, one_line, print, spinner,
};

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Skip the confirmation prompt
    #[arg(long, short)]
    yes: bool,
    /// How to print what was found and done
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// The function's reply
    Json,
}

/// Sweeps.
///
/// # Errors
/// If the account cannot be read, or the operator does not want it.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    let purpose = if arguments.dry_run { Purpose::Read } else { Purpose::Write };
    let mut session = interrupt.unless_stopped(Session::open_with_policy(flags, purpose)).await?;
    if arguments.dry_run {
        session.settings.mode = Mode::Report;
    }
    note(&session.summary());
    let key_note = KeyNote::new(session.stack.as_ref());
    let enforcer = Enforcer { settings: session.settings, iam: session.iam, waits: VISIBILITY_WAITS.to_vec() };
    // The clients' futures are large.
    let policy = Box::pin(async { Ok(PolicyState::read(&enforcer.iam, &enforcer.settings.policy).await) });
    let policy = interrupt.unless_stopped(policy).await?;
    let explain = |error: &IamError| CliError::from(error.clone()).to_string();
    if let Some(warning) = policy.warning(&enforcer.settings.policy, explain) {
        note(&format!("Warning: {warning}"));
    }
    if enforcer.settings.mode == Mode::Enforce && !arguments.yes {
        if can_ask() {
            // What there is to agree to: the same sweep without the writing.
            let mut only_looking = enforcer.clone();
            only_looking.settings.mode = Mode::Report;
            let report = sweep_with_progress(&only_looking, "Looking who is uncovered", interrupt).await?;
            note(&preview_message(&enforcer, &report, key_note));
            if report.would_attach == 0 && report.failures == 0 {
                return print_report(&enforcer, report, arguments.format);
            }
        }
        confirm(false, "Attach the policy?", interrupt).await?;
    }
    let report = sweep_with_progress(&enforcer, "Reading the account", interrupt).await?;
    let keys_in_use = report.keys_in_use;
    let status = print_report(&enforcer, report, arguments.format)?;
    if arguments.dry_run {
        if let Some(keys) = key_note.text(keys_in_use) {
            note(&keys);
        }
        note_dry_run();
    }
    Ok(status)
}

/// What the policy does to access keys: the stack says, if it has the parameter.
#[derive(Clone, Copy, Debug)]
enum KeyNote {
    Denied,
    Allowed,
    Unknown,
}

impl KeyNote {
    fn new(stack: Option<&Stack>) -> Self {
        match stack.and_then(|stack| stack::parameter(stack, "CredentialScope")) {
            Some("console-only") => Self::Allowed,
            Some(_) => Self::Denied,
            None => Self::Unknown,
        }
    }

    /// A warning, if any of the users to be covered has a key in use.
    fn text(self, keys_in_use: usize) -> Option<String> {
        let users = match keys_in_use {
            0 => return None,
            1 => "1 of these users has".to_owned(),
            some => format!("{some} of these users have"),
        };
        let effect = match self {
            Self::Denied => "The policy denies access keys too: whatever uses these keys stops working",
            Self::Allowed => "These keys keep working, since the stack's CredentialScope is console-only",
            Self::Unknown => {
                "Whatever uses these keys stops working, unless the policy was made with CredentialScope=console-only"
            }
        };
        Some(format!(
            "{users} an access key that was used within {} days. {effect}. `force-mfa status --uncovered` marks them.",
            KEY_IN_USE.num_days()
        ))
    }
}

fn preview_message(enforcer: &Enforcer, report: &SweepReport, key_note: KeyNote) -> String {
    let policy = &enforcer.settings.policy;
    let existing = match report.existing {
        0 => String::new(),
        1 => "\n1 existing user will be skipped. To include it, pass --existing-users enforce.".to_owned(),
        some => format!("\n{some} existing users will be skipped. To include them, pass --existing-users enforce."),
    };
    let keys = key_note.text(report.keys_in_use).map(|text| format!("\n{text}")).unwrap_or_default();
    format!(
        "{} of {} console users would get {policy}. `force-mfa status --uncovered` names them.{existing}{keys}",
        report.would_attach, report.console_users,
    )
}

/// One sweep, with a bar, that Ctrl-C ends.
async fn sweep_with_progress(
    enforcer: &Enforcer,
    what: &'static str,
    interrupt: &Interrupt,
) -> Result<SweepReport, CliError> {
    let bar = spinner(what);
    let reached = Cell::new((0, 0));
    let progress = |done, all| {
        reached.set((done, all));
        advance(&bar, done, all);
    };
    let result = tokio::select! {
        result = sweep(enforcer, Utc::now(), Instant::now() + TIME_LIMIT, progress) => result,
        () = interrupt.wait() => {
            bar.finish_and_clear();
            return Err(CliError::Interrupted(match (enforcer.settings.mode, reached.get()) {
                (Mode::Report, _) => "stopped; nothing was changed".to_owned(),
                // Whether the first users are under way is not known.
                (Mode::Enforce, (0, _)) => {
                    "stopped before the first user was done; up to 16 may have been under way. Users who got the policy \
                     keep it; another sweep does the rest"
                        .to_owned()
                }
                (Mode::Enforce, (done, all)) => format!(
                    "stopped after {done} of {all} users, with up to 16 more under way. Users who got the policy keep it; \
                     another sweep does the rest"
                ),
            }));
        }
    };
    bar.finish_and_clear();
    match result {
        Ok(report) => Ok(report),
        Err(SweepError::Incomplete(report)) => Ok(*report),
        Err(SweepError::Account(error)) => Err(error.into()),
    }
}

fn print_report(enforcer: &Enforcer, report: SweepReport, format: Format) -> Result<ExitStatus, CliError> {
    let denied = report.failed.iter().any(|failed| failed.error == "access_denied");
    let incomplete = report.would_attach + report.existing + report.failures + report.remaining > 0;
    match format {
        Format::Table => print(&table(enforcer, &report))?,
        Format::Json => {
            for failed in &report.failed {
                note(&format!("failed: {}", one_line(&user_error(&failed.cause).to_string())));
            }
            if report.remaining > 0 {
                note(&format!("{} users were not looked at, since the time was over", report.remaining));
            }
            let handled = Handled::now(Facts::default(), Ok(PayloadOutcome::Swept(Box::new(report))));
            print(&handled.reply().unwrap_or_default().to_string())?;
        }
    }
    Ok(ExitStatus { incomplete, denied })
}

fn table(enforcer: &Enforcer, report: &SweepReport) -> String {
    let mode = match report.mode {
        Mode::Enforce => "enforce",
        Mode::Report => "report: nothing was written",
    };
    let mut text = format!(
        "Account {} swept ({mode}); credential report {} old\n\n\
         Console users      {:>6}\n\
         \x20 without MFA      {:>6}\n\
         \x20 covered before   {:>6}\n",
        enforcer.settings.policy.account(),
        age(report.report_age_s),
        report.console_users,
        report.without_mfa,
        report.covered,
    );
    let _ = match report.mode {
        Mode::Enforce => {
            write!(text, "  attached         {:>6}\n  added to group   {:>6}\n", report.attached, report.added_to_group)
        }
        Mode::Report => writeln!(text, "  would attach     {}", alarming(report.would_attach, 6)),
    };
    let _ = write!(
        text,
        "  exempt           {:>6}\n  existing         {:>6}   password older than the policy, skipped\n  failed           {}",
        report.exempt,
        report.existing,
        alarming(report.failures, 6)
    );
    if !report.failed.is_empty() {
        text.push('\n');
    }
    for failed in &report.failed {
        let _ = write!(text, "\n{}: {}", failed.error, one_line(&user_error(&failed.cause).to_string()));
    }
    if report.failures > report.failed.len() {
        let _ = write!(text, "\nand {} more", report.failures - report.failed.len());
    }
    if report.remaining > 0 {
        let _ = write!(
            text,
            "\n\nThe time was over before {} users were looked at: sweep again for the rest.",
            report.remaining
        );
    }
    text
}
