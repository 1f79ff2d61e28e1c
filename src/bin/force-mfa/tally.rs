//! Counts the payloads that `replay` and `redrive` hand to the function's code, and describes how each one ended.

use force_mfa::handler::{Handled, PayloadOutcome};

use crate::error::{CliError, ExitStatus, payload_error};
use crate::terminal::one_line;

/// How many payloads were handled and how many failed.
#[derive(Debug, Default)]
pub struct Tally {
    done: usize,
    failed: usize,
    denied: bool,
}

impl Tally {
    /// Counts a payload, and returns one line that says how it ended.
    pub fn count(&mut self, handled: &Handled) -> String {
        match &handled.result {
            Ok(outcome) => {
                self.done += 1;
                describe(outcome)
            }
            Err(failure) => {
                self.failed += 1;
                let stop = payload_error(failure);
                self.denied |= matches!(stop, CliError::NotAllowed(_));
                format!("FAILED {}: {}", failure.error_type(), one_line(&stop.to_string()))
            }
        }
    }

    /// Counts something that failed for another reason.
    pub fn fail(&mut self) {
        self.failed += 1;
    }

    /// How the run ended.
    pub const fn exit_status(&self) -> ExitStatus {
        ExitStatus { incomplete: self.failed > 0, denied: self.denied }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} handled, {} failed", self.done, self.failed)
    }
}

fn describe(outcome: &PayloadOutcome) -> String {
    let counts = if let PayloadOutcome::Swept(report) = outcome {
        format!(
            ": {} attached, {} added to group, {} would be attached, {} existing skipped",
            report.attached, report.added_to_group, report.would_attach, report.existing
        )
    } else {
        String::new()
    };
    let user = outcome.user().map(|user| format!(" {user}")).unwrap_or_default();
    let reason = outcome.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{}{counts}{user}{reason}", outcome.as_str())
}
