//! What was done, and how it is told: the reply, one log line, metrics.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::enforce::EnforceError;
use crate::event::{Facts, IgnoreReason, PayloadError};
use crate::exemption::Exemption;
use crate::identifiers::{GroupName, UserName};
use crate::settings::Mode;
use crate::sweep::{SweepError, SweepReport};

/// How a payload ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The policy is attached to the user.
    Attached {
        /// The user.
        user: UserName,
    },
    /// The user's quota of managed policies is full; it is in the overflow group.
    AddedToGroup {
        /// The user.
        user: UserName,
        /// The group.
        group: GroupName,
    },
    /// Report mode: the policy would be attached.
    WouldAttach {
        /// The user.
        user: UserName,
    },
    /// The user is left alone, as the settings say.
    Exempt {
        /// The user.
        user: UserName,
        /// Why.
        exemption: Exemption,
    },
    /// There is nothing to do.
    Ignored {
        /// Why.
        reason: IgnoreReason,
        /// The user, where the event is about one.
        user: Option<UserName>,
    },
    /// The account was looked through.
    Swept(Box<SweepReport>),
}

impl Outcome {
    /// The outcome as the reply spells it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Attached { .. } => "attached",
            Self::AddedToGroup { .. } => "added_to_group",
            Self::WouldAttach { .. } => "would_attach",
            Self::Exempt { .. } => "exempt",
            Self::Ignored { .. } => "ignored",
            Self::Swept(_) => "swept",
        }
    }

    /// The user it is about.
    #[must_use]
    pub const fn user(&self) -> Option<&UserName> {
        match self {
            Self::Attached { user }
            | Self::AddedToGroup { user, .. }
            | Self::WouldAttach { user }
            | Self::Exempt { user, .. } => Some(user),
            Self::Ignored { user, .. } => user.as_ref(),
            Self::Swept(_) => None,
        }
    }

    /// What explains it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Exempt { exemption, .. } => Some(exemption.setting()),
            Self::Ignored { reason, .. } => Some(reason.as_str()),
            Self::AddedToGroup { group, .. } => Some(group.as_str()),
            Self::Attached { .. } | Self::WouldAttach { .. } | Self::Swept(_) => None,
        }
    }
}

/// How a payload ended badly: the invocation fails, so that Lambda tries again and then keeps it in the failure queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The payload could not be read.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// A user could not be put under the policy.
    #[error(transparent)]
    Enforce(#[from] EnforceError),
    /// A sweep failed, or some of its users did.
    #[error(transparent)]
    Sweep(#[from] SweepError),
}

impl Failure {
    /// The `errorType` of the failed invocation.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Payload(PayloadError::Unrecognised(_)) => "unrecognised_payload",
            Self::Payload(PayloadError::Malformed(_)) => "malformed_event",
            Self::Enforce(error) => error.error_type(),
            Self::Sweep(error) => error.error_type(),
        }
    }

    fn user(&self) -> Option<&UserName> {
        match self {
            Self::Enforce(error) => Some(error.user()),
            Self::Payload(_) | Self::Sweep(_) => None,
        }
    }

    fn swept(&self) -> Option<&SweepReport> {
        match self {
            Self::Sweep(SweepError::Incomplete(report)) => Some(report),
            Self::Sweep(_) | Self::Payload(_) | Self::Enforce(_) => None,
        }
    }
}

/// A payload that has been handled.
#[derive(Debug)]
pub struct Handled {
    /// What identifies it.
    pub facts: Facts,
    /// How it ended.
    pub result: Result<Outcome, Failure>,
    /// When it ended.
    pub at: DateTime<Utc>,
}

impl Handled {
    /// A payload that has just been handled.
    #[must_use]
    pub fn now(facts: Facts, result: Result<Outcome, Failure>) -> Self {
        Self { facts, result, at: SystemTime::now().into() }
    }

    /// The function's reply.
    #[must_use]
    pub fn reply(&self) -> Option<Value> {
        let outcome = self.result.as_ref().ok()?;
        let mut reply = Map::from_iter([("outcome".to_owned(), json!(outcome.as_str()))]);
        if let Outcome::Swept(report) = outcome
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

    /// Seconds from the IAM call to now, as the event tells them; clocks that disagree make no negative delay.
    fn seconds_since_call(&self) -> Option<f64> {
        let delay = self.at - self.facts.time?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real delay fit a double")]
        Some((delay.num_milliseconds() as f64 / 1000.0).max(0.0))
    }

    /// Writes the log line: what was done, to whom, and which event it was. Never the event itself.
    pub fn log(&self) {
        let Facts { event_id, event_name, caller_arn, source_ip, resource, time: _ } = &self.facts;
        let seconds_since_call = self.seconds_since_call();
        let swept = match &self.result {
            Ok(Outcome::Swept(report)) => Some(&**report),
            Ok(_) => None,
            Err(failure) => failure.swept(),
        };
        let sweep = swept.map(|report| logged(report, self.result.is_err()).to_string());
        match &self.result {
            Ok(outcome) => tracing::info!(
                outcome = outcome.as_str(),
                user = outcome.user().map(UserName::as_str),
                reason = outcome.reason(),
                event_id,
                event_name,
                caller_arn,
                source_ip,
                resource,
                seconds_since_call,
                sweep,
                "handled"
            ),
            Err(failure) => tracing::error!(
                outcome = "failed",
                error_type = failure.error_type(),
                error_message = %failure,
                user = failure.user().map(UserName::as_str),
                event_id,
                event_name,
                caller_arn,
                source_ip,
                resource,
                seconds_since_call,
                sweep,
                "failed"
            ),
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
            Ok(outcome @ (Outcome::Attached { .. } | Outcome::AddedToGroup { .. })) => {
                let name = if matches!(outcome, Outcome::Attached { .. }) { "Attached" } else { "AddedToGroup" };
                metrics.push((name, "Count", json!(1)));
                if let Some(delay) = self.seconds_since_call() {
                    metrics.push(("EnforcementDelay", "Seconds", json!(delay)));
                }
            }
            Ok(Outcome::WouldAttach { .. } | Outcome::Exempt { .. } | Outcome::Ignored { .. }) => {}
            Ok(Outcome::Swept(report)) => metrics.extend(swept(report)),
            Err(failure) => match failure.swept() {
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
    // In report mode nobody is attached, so that every new user would count at each sweep.
    if report.mode == Mode::Enforce {
        counts.push(("Uncovered", report.lost));
    }
    if report.remaining == 0 {
        counts.push(("SweepFinished", 1));
    }
    counts.into_iter().map(|(name, count)| (name, "Count", json!(count))).collect()
}
