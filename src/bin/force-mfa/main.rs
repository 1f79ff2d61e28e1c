//! `force-mfa`, the operator's command. It runs with the operator's own credentials and uses the function's library.

mod account_status;
mod commands {
    pub mod doctor;
    pub mod redrive;
    pub mod replay;
    pub mod status;
    pub mod sweep;
    pub mod uninstall;
}
mod error;
mod http;
mod organization {
    pub mod access;
    pub mod accounts;
    pub mod page;
    pub mod report;
    pub mod survey;
    pub mod table;
}
mod session;
mod setting_sources;
mod sign_in;
mod stack;
mod stack_name;
mod tally;
mod terminal;
mod user_csv;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use commands::{doctor, redrive, replay, status, sweep, uninstall};
use error::{CliError, ExitStatus};
use terminal::{Interrupt, note, print};

/// Inspect and manage force-mfa in one AWS account, and inspect it in all accounts of an organization.
///
/// The commands run on this machine with your AWS credentials, and do not call the function. Each setting has a flag and a
/// variable, FORCE_MFA_..., the same as the function's. Each setting is taken from its flag, else from its variable,
/// else from the stack, else from its default.
#[expect(clippy::doc_markdown, reason = "the comments are the help, which is no Markdown")]
#[derive(Debug, Parser)]
#[command(name = "force-mfa", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    flags: session::Flags,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done: no user is uncovered, and nothing failed
  1    a user is uncovered, something failed, or you answered no
  2    wrong usage, another account, or no finished stack; nothing was done
  3    no credentials, or they are not allowed to make a call
  130  stopped by Ctrl-C";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every console user: whether they have MFA, and how they get the policy. Reads only
    #[command(after_help = "\
Examples:
  force-mfa status
  force-mfa status --uncovered
  force-mfa status --profile audit --format csv > console-users.csv
  force-mfa status --format json | jq -r '.users[] | select(.mfa | not).user'
  force-mfa status --uncovered > /dev/null || echo 'someone is uncovered'
  force-mfa status --organization --external-id force-mfa-audit --uncovered
  force-mfa status --organization --external-id force-mfa-audit --format html --output force-mfa.html")]
    Status(status::Arguments),
    /// Check that the installation works. Reads only, except with --canary
    #[command(after_help = "\
Examples:
  force-mfa doctor
  force-mfa doctor --format json | jq -r '.checks[] | select(.state != \"ok\") | .check, .fix'
  force-mfa doctor --canary")]
    Doctor(doctor::Arguments),
    /// Attach the policy to every user who should have it and does not, as the function's sweep does
    #[command(after_help = "\
Examples:
  force-mfa sweep --dry-run
  force-mfa sweep
  force-mfa sweep --existing-users enforce
  force-mfa sweep --yes --format json")]
    Sweep(sweep::Arguments),
    /// Pass payloads to the function's code: a file contains an event, an OnFailure message or a dead letter of a rule
    #[command(after_help = "\
Examples:
  force-mfa replay --dry-run event.json
  force-mfa replay --yes dead-letters/")]
    Replay(replay::Arguments),
    /// Handle the messages of a dead-letter queue one by one, and delete those that succeed
    #[command(after_help = "\
Examples:
  force-mfa redrive --dry-run --queue https://sqs.us-east-1.amazonaws.com/123456789012/force-mfa-failures
  force-mfa redrive --queue https://sqs.us-east-1.amazonaws.com/123456789012/force-mfa-rule-dead-letters")]
    Redrive(redrive::Arguments),
    /// Detach the policy from everyone, and delete it and the overflow group. Delete the stack first
    #[command(after_help = "\
Examples:
  force-mfa uninstall --dry-run
  force-mfa uninstall
  force-mfa uninstall --yes --account 123456789012")]
    Uninstall(uninstall::Arguments),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  force-mfa completions bash > ~/.local/share/bash-completion/completions/force-mfa
  force-mfa completions zsh > ~/.zfunc/_force-mfa
  force-mfa completions fish > ~/.config/fish/completions/force-mfa.fish")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("force-mfa: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(status) => status.into(),
        Err(error) => {
            note(&format!("force-mfa: {error}"));
            error.code().into()
        }
    }
}

async fn run(Cli { flags, command }: Cli) -> Result<ExitStatus, CliError> {
    let interrupt = Interrupt::watch().await;
    match command {
        Command::Status(arguments) => status::run(&flags, &arguments, &interrupt).await,
        Command::Doctor(arguments) => doctor::run(&flags, &arguments, &interrupt).await,
        Command::Sweep(arguments) => sweep::run(&flags, &arguments, &interrupt).await,
        Command::Replay(arguments) => replay::run(&flags, &arguments, &interrupt).await,
        Command::Redrive(arguments) => redrive::run(&flags, &arguments, &interrupt).await,
        Command::Uninstall(arguments) => uninstall::run(&flags, &arguments, &interrupt).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "force-mfa", &mut script);
            print(String::from_utf8_lossy(&script).trim_end())?;
            Ok(ExitStatus::default())
        }
    }
}
