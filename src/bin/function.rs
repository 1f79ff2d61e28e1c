//! The Lambda: settings, client, warm connection, run.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use force_mfa::handler::Handler;
use force_mfa::iam::Iam;
use force_mfa::settings::Settings;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, Runtime, service_fn};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// What a sweep leaves of the invocation's time, for its reply and for Lambda's clock.
const MARGIN: Duration = Duration::from_secs(2);
/// A deadline further away than any that Lambda gives, or in the past, is nobody's; a sweep then has this long.
const WITHOUT_DEADLINE: Duration = Duration::from_mins(4);
const LONGEST_TIMEOUT: Duration = Duration::from_mins(15);

fn main() -> ExitCode {
    init_log();
    log_panics();
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!(error_type = "bad_settings", error_message = %error, "the function cannot start");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // A task of its own: what wakes the future that `block_on` itself runs costs a system call each time.
    let run = |runtime: tokio::runtime::Runtime| runtime.block_on(async { tokio::spawn(run(settings)).await? });
    match runtime.map_err(Error::from).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error_message = %error, "the function stopped");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<(), Error> {
    let iam = Iam::from_env().await;
    iam.warm().await;
    let handler = Arc::new(Handler::new(settings, iam));
    Runtime::new(service_fn(move |event| answer(Arc::clone(&handler), event))).run().await
}

/// Takes the payload as the JSON that it is: any other type would make the runtime answer in its own words to what does
/// not fit it. Lambda itself refuses what is not JSON.
async fn answer(handler: Arc<Handler>, event: LambdaEvent<Box<RawValue>>) -> Result<Value, Diagnostic> {
    let LambdaEvent { payload, context, .. } = event;
    let deadline = Duration::from_millis(context.deadline);
    let left = deadline.checked_sub(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
    let left = left.filter(|left| *left <= LONGEST_TIMEOUT).unwrap_or(WITHOUT_DEADLINE);
    let done = handler.handle(payload.get().as_bytes(), Instant::now() + left.saturating_sub(MARGIN)).await;
    done.log();
    // In one piece: standard output looks for the end of a line in every piece that it is given.
    let metrics = done.metrics(&context.env_config.function_name, &log_level());
    if let Some(Ok(line)) = metrics.map(|metrics| serde_json::to_string(&metrics)) {
        println!("{line}");
    }
    let reply = done.reply();
    match done.result {
        Ok(_) => Ok(reply.unwrap_or_default()),
        Err(failure) => {
            Err(Diagnostic { error_type: failure.error_type().to_owned(), error_message: failure.to_string() })
        }
    }
}

/// One JSON line an event, or text if Lambda is set to text.
///
/// Below WARN only this crate's own lines are let through: the runtime and the SDK would write events and headers.
fn init_log() {
    let level = match log_level().as_str() {
        "FATAL" => LevelFilter::ERROR,
        level => level.parse().unwrap_or(LevelFilter::INFO),
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets([("force_mfa", level), ("function", level)])
        // It writes a handler's error once more, which has its line already.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false);
    if std::env::var("AWS_LAMBDA_LOG_FORMAT").unwrap_or_default().eq_ignore_ascii_case("text") {
        tracing_subscriber::registry().with(lines).with(targets).init();
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        tracing_subscriber::registry().with(lines).with(targets).init();
    }
}

/// A panic is a bug and ends the process (`panic = "abort"`), so that nothing half-done is used again: Lambda starts a
/// new one, tries the event again, and at last puts it into the failure queue. This leaves the reason in the log.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let error_message = panic.payload_as_str().unwrap_or("without a message");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(error_type = "panic", error_message, place, "the function panicked");
    }));
}

/// The lowest level that Lambda lets through, INFO where it does not say.
fn log_level() -> String {
    let level = std::env::var("AWS_LAMBDA_LOG_LEVEL").unwrap_or_default().to_ascii_uppercase();
    if level.is_empty() { "INFO".to_owned() } else { level }
}
