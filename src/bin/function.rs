//! The Lambda: settings, client, warm connection, run.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use force_mfa::handler::Handler;
use force_mfa::iam::Iam;
use force_mfa::settings::Settings;
use lambda_runtime::tower::layer::layer_fn;
use lambda_runtime::tower::util::MapRequest;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use serde::de::IgnoredAny;
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
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!(error_type = "bad_settings", error_message = %error, "the function cannot start");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(run(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error_message = %error, "the function stopped");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<(), Error> {
    // A function's credentials come from its environment and nowhere else: no profile, no metadata service.
    let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .load()
        .await;
    let iam = Iam::new(&config).await;
    iam.warm().await;
    let handler = Handler::new(settings, iam);
    let service = service_fn(|event: LambdaEvent<Box<RawValue>>| answer(&handler, event));
    Runtime::new(service).layer(layer_fn(|inner| MapRequest::new(inner, only_json))).run().await
}

async fn answer(handler: &Handler, event: LambdaEvent<Box<RawValue>>) -> Result<Value, Diagnostic> {
    let deadline = Duration::from_millis(event.context.deadline);
    let left = deadline.checked_sub(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
    let left = left.filter(|left| *left <= LONGEST_TIMEOUT).unwrap_or(WITHOUT_DEADLINE);
    let done = handler.handle(event.payload.get().as_bytes(), Instant::now() + left.saturating_sub(MARGIN)).await;
    done.log();
    if let Some(metrics) = done.metrics() {
        println!("{metrics}");
    }
    let reply = done.reply();
    match done.result {
        Ok(_) => Ok(reply.unwrap_or_default()),
        Err(failure) => {
            Err(Diagnostic { error_type: failure.error_type().to_owned(), error_message: failure.to_string() })
        }
    }
}

/// Lambda sends JSON. Should anything else come, the handler is given text that says so, for the runtime would answer
/// in its own words, or stop.
fn only_json(mut invocation: LambdaInvocation) -> LambdaInvocation {
    if serde_json::from_slice::<IgnoredAny>(&invocation.body).is_err() {
        invocation.body = (&b"\"not JSON\""[..]).into();
    }
    invocation
}

/// One JSON line an event, or text if Lambda is set to text.
///
/// Below WARN only this crate's own lines are let through: the runtime and the SDK would write events and headers.
fn init_log() {
    let env = |variable| std::env::var(variable).unwrap_or_default();
    let level = match env("AWS_LAMBDA_LOG_LEVEL").to_ascii_uppercase().as_str() {
        "" => LevelFilter::INFO,
        "FATAL" => LevelFilter::ERROR,
        level => level.parse().unwrap_or(LevelFilter::INFO),
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets([("force_mfa", level), ("function", level)])
        // It writes a handler's error once more, which has its line already.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false);
    if env("AWS_LAMBDA_LOG_FORMAT").eq_ignore_ascii_case("text") {
        tracing_subscriber::registry().with(lines.with_filter(targets)).init();
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        tracing_subscriber::registry().with(lines.with_filter(targets)).init();
    }
}
