//! `force-mfa redrive`: handles the messages of a dead-letter queue one by one, and deletes those that succeeded.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use force_mfa::event::IgnoreReason;
use force_mfa::handler::{Handled, Handler, PayloadOutcome};
use force_mfa::outcome::Outcome;
use force_mfa::settings::Mode;
use tokio::time::Instant;

use crate::error::{CliError, ExitStatus, FailedCall};
use crate::session::{Flags, Session};
use crate::stack_name::Purpose;
use crate::tally::Tally;
use crate::terminal::{Interrupt, can_ask, confirm, note, note_dry_run, one_line, print};

/// For how long a received message is hidden from others. It is handled well within it, and one that failed does not come again
/// while there are others.
const HIDDEN: Duration = Duration::from_mins(15);
/// A sweep among the messages has less than that.
const TIME_LIMIT: Duration = Duration::from_mins(12);
/// Waiting makes SQS ask all its servers: without, a queue with few messages may look empty.
const WAIT: Duration = Duration::from_secs(3);

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// URL of the queue: an output of the stack
    #[arg(long, value_name = "URL")]
    queue: String,
    /// Show what would be done; change nothing and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Skip the confirmation prompt
    #[arg(long, short)]
    yes: bool,
}

/// Redrives.
///
/// # Errors
/// If the queue cannot be read, or the operator does not want it.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    let purpose = if arguments.dry_run { Purpose::Read } else { Purpose::Write };
    let mut session = interrupt.unless_stopped(Session::open_with_policy(flags, purpose)).await?;
    if arguments.dry_run {
        session.settings.mode = Mode::Report;
    }
    note(&session.summary());
    let queue = Queue::new(&session, &arguments.queue);
    let writes = session.settings.mode == Mode::Enforce;
    if writes && !arguments.yes {
        let waiting = if can_ask() { interrupt.unless_stopped(queue.length()).await? } else { 0 };
        let question = format!(
            "Handle about {waiting} message(s) of {}, attach the policy where they call for it, and delete those that \
             succeed?",
            one_line(&arguments.queue)
        );
        confirm(false, &question, interrupt).await?;
    }
    let handler = Handler::new(session.settings, session.iam);
    let mut kept = Kept::default();
    let mut tally = Tally::default();
    let result = drain(&queue, &handler, writes, interrupt, &mut kept, &mut tally).await;
    // Whatever ended the run: what stays is there for the next one at once, not in a quarter of an hour.
    for receipt in &kept.receipts {
        queue.release(receipt).await;
    }
    result?;
    note(&format!("{tally}; {} message(s) stay in the queue", kept.ids.len()));
    if arguments.dry_run {
        note_dry_run();
    }
    Ok(tally.exit_status())
}

/// The messages that stay.
#[derive(Debug, Default)]
struct Kept {
    ids: HashSet<String>,
    receipts: Vec<String>,
}

async fn drain(
    queue: &Queue,
    handler: &Handler,
    writes: bool,
    interrupt: &Interrupt,
    kept: &mut Kept,
    tally: &mut Tally,
) -> Result<(), CliError> {
    loop {
        if interrupt.stopped() {
            return Err(CliError::Interrupted(format!(
                "stopped: {tally}. The messages above are handled; the rest stays"
            )));
        }
        let Some(message) = queue.receive().await? else { return Ok(()) };
        let id = message.message_id.unwrap_or_default();
        let receipt = message.receipt_handle.unwrap_or_default();
        if kept.ids.contains(&id) {
            // It has come round again; received, it is out of the way for another quarter of an hour.
            kept.receipts.push(receipt);
            continue;
        }
        let done = handler.handle(message.body.unwrap_or_default().as_bytes(), Instant::now() + TIME_LIMIT).await;
        let mut line = format!("{}: {}{}", one_line(&id), tally.count(&done), call_and_caller(&done));
        if writes && is_done(&done) {
            if let Err(error) = queue.delete(&receipt).await {
                tally.fail();
                let error = CliError::from(error);
                print(&format!("{line}; FAILED to delete it: {}", one_line(&error.to_string())))?;
                return Err(error);
            }
        } else {
            if writes && done.result.is_ok() {
                tally.fail();
                line = format!("{line}; FAILED: kept, {}", why_kept(&done));
            }
            kept.ids.insert(id);
            kept.receipts.push(receipt);
        }
        print(&line)?;
    }
}

/// Whether the message has served its purpose. Another account's event has not: the queue is then not that of the
/// account whose policy it is. Nor has a removal that the settings do not know: the policy or the group is then another.
fn is_done(handled: &Handled) -> bool {
    let Ok(outcome) = &handled.result else { return false };
    match outcome {
        // A sweep that was meant to report has reported. One that did not finish is an error.
        PayloadOutcome::Swept(_)
        | PayloadOutcome::User { outcome: Outcome::Attached | Outcome::AddedToGroup(_) | Outcome::Exempt(_), .. } => {
            true
        }
        PayloadOutcome::User { outcome: Outcome::WouldAttach, .. } => false,
        PayloadOutcome::User { outcome: Outcome::Ignored(reason), .. } | PayloadOutcome::Ignored(reason) => {
            match reason {
                IgnoreReason::OtherAccount => false,
                IgnoreReason::OtherEvent => !is_removal(handled),
                IgnoreReason::FailedCall
                | IgnoreReason::OtherService
                | IgnoreReason::NoUserName
                | IgnoreReason::NotAConsoleUser
                | IgnoreReason::UserGone => true,
            }
        }
    }
}

fn is_removal(handled: &Handled) -> bool {
    matches!(handled.facts.event_name.as_deref(), Some("DetachUserPolicy" | "RemoveUserFromGroup"))
}

fn why_kept(handled: &Handled) -> &'static str {
    if is_removal(handled) {
        "since it detached a policy or left a group that the settings do not name. Correct --policy-arn or \
         --overflow-group, then run this again; if it is not about force-mfa, delete it in the queue"
    } else {
        "since it is of another account. Correct --queue or --profile, then run this again"
    }
}

/// The function leaves a line in its log for each change of the installation. A message about one never got there, so
/// we print what that line would have said before the message is deleted.
fn call_and_caller(handled: &Handled) -> String {
    match &handled.result {
        Ok(PayloadOutcome::Ignored(IgnoreReason::OtherEvent | IgnoreReason::OtherService)) => {
            let name = |name: &Option<String>| one_line(name.as_deref().unwrap_or("unknown"));
            format!(": {} by {}", name(&handled.facts.event_name), name(&handled.facts.caller_arn))
        }
        Ok(_) | Err(_) => String::new(),
    }
}

struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    fn new(session: &Session, url: &str) -> Self {
        let config = aws_sdk_sqs::config::Builder::from(&session.config)
            .region(region(url).map_or_else(|| session.home.clone(), aws_config::Region::new))
            .build();
        Self { client: Client::from_conf(config), url: url.to_owned() }
    }

    async fn length(&self) -> Result<usize, CliError> {
        let attribute = QueueAttributeName::ApproximateNumberOfMessages;
        let call = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(attribute.clone());
        let answer = call.send().await.map_err(|error| FailedCall::new("sqs:GetQueueAttributes", &error))?;
        let length = answer.attributes().and_then(|attributes| attributes.get(&attribute));
        Ok(length.and_then(|length| length.parse().ok()).unwrap_or_default())
    }

    async fn receive(&self) -> Result<Option<Message>, CliError> {
        let call = self.client.receive_message().queue_url(&self.url).max_number_of_messages(1);
        let call = call.wait_time_seconds(seconds(WAIT)).visibility_timeout(seconds(HIDDEN));
        let answer = call.send().await.map_err(|error| FailedCall::new("sqs:ReceiveMessage", &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().next())
    }

    async fn delete(&self, receipt: &str) -> Result<(), FailedCall> {
        let call = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        call.send().await.map(drop).map_err(|error| FailedCall::new("sqs:DeleteMessage", &error))
    }

    /// Shows a message again. If that fails, it shows itself in a quarter of an hour.
    async fn release(&self, receipt: &str) {
        let call = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        let _ = call.visibility_timeout(0).send().await;
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// The region that a queue's URL names: `https://sqs.us-east-1.amazonaws.com/123456789012/name`.
fn region(url: &str) -> Option<String> {
    let host = url.split_once("://")?.1.split('/').next()?;
    let region = host.strip_prefix("sqs.")?.split_once(".amazonaws.com")?.0;
    Some(region.to_owned())
}
