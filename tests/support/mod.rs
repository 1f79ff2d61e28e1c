//! What the integration tests share.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]
#![allow(clippy::pedantic, reason = "test support reads better plain")]

pub mod fake_iam;
pub mod http;
pub mod lambda;

use force_mfa::handler::{Handled, Handler};
use force_mfa::settings::Settings;
use serde_json::{Value, json};
use tokio::time::Instant;

use fake_iam::{FakeIam, GROUP, POLICY};

/// Settings with the policy and the overflow group set, and these variables.
pub fn settings(variables: &[(&str, &str)]) -> Settings {
    Settings::read(|wanted| {
        let given = variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        given.or_else(|| match wanted {
            "FORCE_MFA_POLICY_ARN" => Some(POLICY.to_owned()),
            "FORCE_MFA_OVERFLOW_GROUP" => Some(GROUP.to_owned()),
            _ => None,
        })
    })
    .unwrap()
}

/// What came of one payload.
pub struct Done {
    pub reply: Value,
    /// The `errorType`, empty if it ended well.
    pub error_type: &'static str,
    pub message: String,
    pub handled: Handled,
}

impl Done {
    /// `attached`, `ignored not_a_console_user`, `error throttled`.
    pub fn summary(&self) -> String {
        if self.error_type.is_empty() {
            let text = |key: &str| self.reply[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("outcome"), text("reason")).trim().to_owned()
        } else {
            format!("error {}", self.error_type)
        }
    }
}

/// Feeds one payload to the handler, against this account.
pub async fn feed(account: &FakeIam, settings: &Settings, payload: &Value) -> Done {
    feed_bytes(account, settings, payload.to_string().as_bytes()).await
}

pub async fn feed_bytes(account: &FakeIam, settings: &Settings, payload: &[u8]) -> Done {
    let handler = Handler::new(settings.clone(), account.iam().await);
    let handled = handler.handle(payload, Instant::now() + std::time::Duration::from_secs(240)).await;
    done(handled)
}

pub fn done(handled: Handled) -> Done {
    Done {
        reply: handled.reply().unwrap_or_default(),
        error_type: handled.result.as_ref().err().map_or("", |failure| failure.error_type()),
        message: handled.result.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        handled,
    }
}

/// An event about `user` as EventBridge sends it, made `seconds_ago`.
pub fn event(name: &str, user: &str, seconds_ago: i64) -> Value {
    let time = (chrono::Utc::now() - chrono::TimeDelta::seconds(seconds_ago))
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    json!({
        "version": "0", "id": "2f0f3c6e-0000-0000-0000-000000000001", "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam", "account": "123456789012", "time": time, "region": "us-east-1", "resources": [],
        "detail": {
            "eventVersion": "1.11", "eventSource": "iam.amazonaws.com", "eventName": name, "eventTime": time,
            "eventID": "7d5b9a3e-0000-0000-0000-000000000002", "awsRegion": "us-east-1", "recipientAccountId": "123456789012",
            "userIdentity": {
                "type": "AssumedRole", "arn": "arn:aws:sts::123456789012:assumed-role/Admin/admin", "accountId": "123456789012"
            },
            "requestParameters": { "userName": user }, "responseElements": null
        }
    })
}
