//! A payload that has been handled, as the reply, one log line, and metrics.

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};

use crate::event::Facts;
use crate::handler::{Failure, Handled, PayloadOutcome};
use crate::identifiers::UserName;
use crate::outcome::Outcome;
use crate::settings::Mode;
use crate::sweep::SweepReport;

impl Handled {
    /// The function's reply; `None` if the payload failed.
    #[must_use]
    pub fn reply(&self) -> Option<Value> {
        let outcome = self.result.as_ref().ok()?;
        let mut reply = Map::from_iter([("outcome".to_owned(), json!(outcome.as_str()))]);
        if let PayloadOutcome::Swept(report) = outcome
            && let Ok(Value::Object(counts)) = serde_json::to_value(report)
        {
            reply.extend(counts);
        }
        for (key, value) in [
            ("user", outcome.user().map(UserName::as_str)),
            ("reason", outcome.reason()),
            ("event_id", self.facts.event_id.as_deref()),
        ] {
            if let Some(value) = value {
                reply.insert(key.to_owned(), json!(value));
            }
        }
        Some(Value::Object(reply))
    }

    /// Seconds from the IAM call, by the event's time, to the end of its handling; 0 if clocks disagree.
    fn seconds_since_call(&self) -> Option<f64> {
        let delay = self.at - self.facts.time?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real delay fit a double")]
        Some((delay.num_milliseconds() as f64 / 1000.0).max(0.0))
    }

    /// What a sweep found and did, if the payload was one, and the sweep could read the account.
    fn sweep_report(&self) -> Option<&SweepReport> {
        match &self.result {
            Ok(PayloadOutcome::Swept(report)) => Some(report),
            Ok(PayloadOutcome::User { .. } | PayloadOutcome::Ignored(_)) => None,
            Err(failure) => failure.sweep_report(),
        }
    }

    /// Writes the log line: what was done, to whom, and which event it was. Never the event itself.
    pub fn log(&self) {
        let Facts { event_id, event_name, caller_arn, source_ip, resource, time: _ } = &self.facts;
        let seconds_since_call = self.seconds_since_call();
        let report = self.sweep_report();
        let sweep = report.map(|report| logged(report, self.result.is_err()).to_string());
        let policy_warning = report.and_then(|report| report.policy_warning.as_deref());
        let outcome = self.result.as_ref().ok();
        let failure = self.result.as_ref().err();
        let message = if failure.is_some() { "failed" } else { "handled" };
        // The level of a line is part of its code, so that there is one for each. Fields that are `None` are left out.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    outcome = outcome.map_or("failed", PayloadOutcome::as_str),
                    error_type = failure.map(Failure::error_type),
                    error_message = failure.map(Failure::to_string),
                    user = outcome.map_or_else(|| failure?.user(), PayloadOutcome::user).map(UserName::as_str),
                    reason = outcome.and_then(PayloadOutcome::reason),
                    event_id,
                    event_name,
                    caller_arn,
                    source_ip,
                    resource,
                    seconds_since_call,
                    sweep,
                    policy_warning,
                    "{message}"
                )
            };
        }
        if failure.is_some() || report.is_some_and(|report| report.policy.is_broken()) {
            line!(error);
        } else if policy_warning.is_some() {
            line!(warn);
        } else {
            line!(info);
        }
    }

    /// The metrics as one line of the embedded metric format; `None` if there is nothing to count.
    ///
    /// The dimension is the `function`'s name, so that two installations in one account do not set off each other's alarms.
    ///
    /// The line says that it is of `level`, the lowest that Lambda lets through: a line without a level and a time would
    /// be taken for INFO, and a function that logs errors only would lose its metrics.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html>
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
    #[must_use]
    pub fn metrics(&self, function: &str, level: &str) -> Option<Value> {
        let mut metrics: Vec<(&str, &str, Value)> = Vec::new();
        match &self.result {
            Ok(PayloadOutcome::User { outcome: outcome @ (Outcome::Attached | Outcome::AddedToGroup(_)), .. }) => {
                let name = if matches!(outcome, Outcome::Attached) { "Attached" } else { "AddedToGroup" };
                metrics.push((name, "Count", json!(1)));
                if let Some(delay) = self.seconds_since_call() {
                    metrics.push(("EnforcementDelay", "Seconds", json!(delay)));
                }
            }
            Ok(
                PayloadOutcome::Ignored(_)
                | PayloadOutcome::User {
                    outcome: Outcome::WouldAttach | Outcome::Exempt(_) | Outcome::Ignored(_), ..
                },
            ) => {}
            Ok(PayloadOutcome::Swept(report)) => metrics.extend(swept(report)),
            Err(failure) => match failure.sweep_report() {
                Some(report) => metrics.extend(swept(report)),
                None => metrics.push(("Failed", "Count", json!(1))),
            },
        }
        if metrics.is_empty() {
            return None;
        }
        let definitions: Vec<Value> =
            metrics.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
        let mut line = json!({
            "level": level,
            "timestamp": self.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "FunctionName": function,
            "_aws": {
                "Timestamp": self.at.timestamp_millis(),
                "CloudWatchMetrics": [{
                    "Namespace": "ForceMfa", "Dimensions": [["FunctionName"]], "Metrics": definitions,
                }],
            }
        });
        for (name, _, value) in metrics {
            line[name] = value;
        }
        Some(line)
    }
}

/// The reply's counts; for a sweep that failed with the users whom it could not cover.
fn logged(report: &SweepReport, failed: bool) -> Value {
    let mut line = json!(report);
    if failed {
        line["failed"] = json!(report.failed);
    }
    line
}

fn swept(report: &SweepReport) -> Vec<(&'static str, &'static str, Value)> {
    let mut counts = vec![
        ("Attached", report.attached),
        ("AddedToGroup", report.added_to_group),
        ("Failed", report.failures),
        ("ConsoleUsers", report.console_users),
        ("ConsoleUsersWithoutMfa", report.without_mfa),
        ("ExistingUncovered", report.existing),
        ("SweepRemaining", report.remaining),
    ];
    // Without a verdict there is nothing to send: the alarm stays as it is.
    if report.policy.is_known() {
        counts.push(("PolicyBroken", usize::from(report.policy.is_broken())));
    }
    // In report mode nobody is attached, so that every new user would count at each sweep.
    if report.mode == Mode::Enforce {
        counts.push(("Uncovered", report.lost));
    }
    if report.remaining == 0 {
        counts.push(("SweepFinished", 1));
    }
    counts.into_iter().map(|(name, count)| (name, "Count", json!(count))).collect()
}
