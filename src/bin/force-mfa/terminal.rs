//! What the operator sees: results on stdout, everything else on stderr; questions; the bar; Ctrl-C.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use console::{Style, Term};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tokio::sync::Notify;

use crate::error::{CliError, INTERRUPTED};

/// Writes lines to stdout. A reader that has gone away (`| head`) is no failure: the work and its exit code stand.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes lines to a file that only its owner may read: it may name unprotected users. It replaces a file of this name
/// at once, so that nobody reads a half-written one.
///
/// # Errors
/// If the file cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), CliError> {
    let write = || {
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}.new", std::process::id()));
        let new = PathBuf::from(new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
        written.and_then(|()| std::fs::rename(&new, path)).inspect_err(|_| drop(std::fs::remove_file(&new)))
    };
    write().map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))
}

/// Writes lines to stderr, if anyone listens; on a terminal, broken between words.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", wrapped(text));
}

/// Ends a dry run: says that nothing was changed, and gives the command that makes the changes.
pub fn note_dry_run() {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let arguments = arguments.filter(|argument| argument != "--dry-run").map(|argument| quoted(&argument));
    let command: Vec<String> = std::iter::once("force-mfa".to_owned()).chain(arguments).collect();
    note("Dry run: nothing was changed. To make the changes, run:");
    // Not wrapped, so that it can be copied.
    let _ = writeln!(io::stderr(), "{}", command.join(" "));
}

/// An argument as a POSIX shell takes it.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

fn wrapped(text: &str) -> String {
    let stderr = Term::stderr();
    if stderr.is_term() { textwrap::fill(text, usize::from(stderr.size().1)) } else { text.to_owned() }
}

/// Text from elsewhere on one line, without characters that would steer the terminal.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "\u{fffd}")
}

/// Text from elsewhere as a field of a CSV file. A spreadsheet runs a field as a formula if it begins with one of these
/// characters; an apostrophe before it makes it text.
pub fn csv_text(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_owned() }
}

/// A number that is good news at zero and bad news otherwise, `width` wide. Coloured on a terminal, unless `NO_COLOR` is
/// set.
pub fn alarming(count: usize, width: usize) -> String {
    let style = if count == 0 { Style::new().green() } else { Style::new().red().bold() };
    let mut text = String::new();
    let _ = write!(text, "{count:>width$}");
    style.apply_to(text).to_string()
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

/// The columns of the terminal that stdout is; `None` in a pipe or a file.
pub fn columns() -> Option<u16> {
    let stdout = Term::stdout();
    stdout.is_term().then(|| stdout.size().1)
}

/// A table without lines, as wide as the terminal at most.
pub fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    match columns() {
        Some(columns) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    table
}

/// Whether there is a terminal to ask on.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and gives the answer without blanks around it; empty at the end of the input.
///
/// # Errors
/// [`CliError::Interrupted`] if Ctrl-C is the answer.
pub async fn ask(question: &str, interrupt: &Interrupt) -> Result<String, CliError> {
    let mut stderr = io::stderr();
    write!(stderr, "{} ", wrapped(question)).and_then(|()| stderr.flush())?;
    let (sender, answer) = tokio::sync::oneshot::channel();
    // A thread of its own, which Ctrl-C leaves behind: reading a line cannot be called off.
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = sender.send(io::stdin().read_line(&mut line).map(|_| line));
    });
    let answer = interrupt.unless_stopped(async { answer.await.map_err(|_| io::Error::other("no answer").into()) });
    Ok(answer.await??.trim().to_owned())
}

/// Lets the operator decide before something is written: `yes` has done so on the command line.
///
/// # Errors
/// [`CliError::Usage`] if there is no terminal to ask on, [`CliError::Failed`] if the answer is no.
pub async fn confirm(yes: bool, question: &str, interrupt: &Interrupt) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !can_ask() {
        return Err(CliError::Usage(
            "this would write, and there is no terminal to ask on: give --yes, or --dry-run to see what would be done"
                .to_owned(),
        ));
    }
    match ask(&format!("{question} [y/N]"), interrupt).await?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::Failed("not confirmed: nothing was changed".to_owned())),
    }
}

/// Something to look at while it takes its time, on stderr, if that is a terminal.
pub fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_finish(ProgressFinish::AndClear);
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a template without unknown keys"));
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Makes a spinner a bar, and moves it.
pub fn advance(bar: &ProgressBar, done: usize, all: usize) {
    if bar.length().is_none() {
        let style = "{bar:30} {pos}/{len} {msg} {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a template without unknown keys"));
        bar.set_message("users,");
        bar.set_length(all as u64);
    }
    bar.set_position(done as u64);
}

/// A bar for the accounts of an organization, on stderr, if that is a terminal.
pub fn account_bar(all: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(all as u64), ProgressDrawTarget::stderr())
        .with_finish(ProgressFinish::AndClear);
    let style = "{bar:30} {pos}/{len} accounts, {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template without unknown keys"));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Moves the bar of the accounts.
pub fn under_way(bar: &ProgressBar, done: usize, running: usize) {
    bar.set_position(done as u64);
    bar.set_message(format!("{running} under way"));
}

/// Ctrl-C: the first is for the command to end in order, the second ends it at once, unless it has something to undo.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    stopped: Arc<AtomicBool>,
    protected: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

impl Interrupt {
    /// Begins to watch.
    pub async fn watch() -> Self {
        let interrupt = Self::default();
        let watched = interrupt.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            watched.stopped.store(true, Ordering::Relaxed);
            watched.notify.notify_waiters();
            while tokio::signal::ctrl_c().await.is_ok() && watched.protected.load(Ordering::Relaxed) {
                note("Still undoing what was done. It takes some seconds, a minute if AWS does not answer.");
            }
            std::process::exit(INTERRUPTED.into());
        });
        // The task takes the signal over when it first runs. Without this, Ctrl-C would kill the process until then.
        tokio::task::yield_now().await;
        interrupt
    }

    /// From now on the command has something to undo, and a second Ctrl-C does not end it.
    pub fn protect(&self) {
        self.protected.store(true, Ordering::Relaxed);
    }

    /// Whether Ctrl-C was pressed.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Does something that changes nothing, and breaks it off at Ctrl-C.
    ///
    /// # Errors
    /// That of `work`, or [`CliError::Interrupted`].
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        tokio::select! {
            result = work => result,
            () = self.wait() => Err(CliError::Interrupted("stopped; nothing was changed".to_owned())),
        }
    }

    /// Waits until Ctrl-C is pressed.
    pub async fn wait(&self) {
        let pressed = self.notify.notified();
        if !self.stopped() {
            pressed.await;
        }
    }
}
