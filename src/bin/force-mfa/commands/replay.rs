//! `force-mfa replay`: hands payloads from files to the function's own code, with the operator's credentials.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use force_mfa::handler::Handler;
use force_mfa::settings::Mode;
use tokio::time::Instant;

use crate::error::{CliError, ExitStatus};
use crate::session::{Flags, Session, TIME_LIMIT};
use crate::stack_name::Purpose;
use crate::tally::Tally;
use crate::terminal::{Interrupt, confirm, note, note_dry_run, one_line, print};

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files that hold one payload each; in a directory, all files *.json at any depth
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Skip the confirmation prompt
    #[arg(long, short)]
    yes: bool,
}

/// Replays.
///
/// # Errors
/// If a path cannot be read, or the operator does not want it.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    // All are found before anything is done: a mistyped path must not leave half of them handled.
    let files = files(&arguments.paths)?;
    let purpose = if arguments.dry_run { Purpose::Read } else { Purpose::Write };
    let mut session = interrupt.unless_stopped(Session::open_with_policy(flags, purpose)).await?;
    if arguments.dry_run {
        session.settings.mode = Mode::Report;
    }
    note(&session.summary());
    if session.settings.mode == Mode::Enforce {
        let question = format!("Handle {} payload(s) and attach the policy where they call for it?", files.len());
        confirm(arguments.yes, &question, interrupt).await?;
    }
    let handler = Handler::new(session.settings, session.iam);
    let mut tally = Tally::default();
    for (place, file) in files.iter().enumerate() {
        if interrupt.stopped() {
            return Err(CliError::Interrupted(format!(
                "stopped after {place} of {} payloads; the payloads above are handled. A payload can be replayed again",
                files.len()
            )));
        }
        let name = one_line(&file.display().to_string());
        match fs::read(file) {
            Ok(payload) => {
                let done = handler.handle(&payload, Instant::now() + TIME_LIMIT).await;
                print(&format!("{name}: {}", tally.count(&done)))?;
            }
            Err(error) => {
                tally.fail();
                print(&format!("{name}: FAILED: cannot be read: {error}"))?;
            }
        }
    }
    note(&tally.to_string());
    if arguments.dry_run {
        note_dry_run();
    }
    Ok(tally.exit_status())
}

/// The files meant by the paths, in their order, those of a directory sorted by name.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for path in paths {
        let unreadable = |error: io::Error| CliError::Usage(format!("{}: {error}", path.display()));
        if fs::metadata(path).map_err(unreadable)?.is_dir() {
            let before = files.len();
            walk(path, &mut files).map_err(unreadable)?;
            if files.len() == before {
                return Err(CliError::Usage(format!("{}: no file *.json below it", path.display())));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a directory is not followed: it might lead round in a circle.
        if entry.file_type()?.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            files.push(path);
        }
    }
    Ok(())
}
