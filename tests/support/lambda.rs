//! The Lambda service as the function's binary sees it: a Runtime API on loopback that hands out payloads.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::process::Command;
use wiremock::matchers::{method, path_regex};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::fake_iam::{FakeIam, GROUP, POLICY};

/// What the function answered to one payload.
#[derive(Debug)]
pub struct Answer {
    /// `response` or `error`, the last part of the path it was posted to.
    pub kind: String,
    pub body: Value,
}

/// What came of a run of the binary.
#[derive(Debug)]
pub struct Run {
    pub answers: Vec<Answer>,
    /// What it printed, a line each.
    pub stdout: Vec<String>,
    pub stderr: String,
    /// Its exit code, if it ended by itself.
    pub exit: Option<i32>,
}

impl Run {
    /// The lines that are JSON, log lines first told from metrics.
    pub fn logs(&self) -> Vec<Value> {
        self.json().into_iter().filter(|line| line.get("_aws").is_none()).collect()
    }

    pub fn metrics(&self) -> Vec<Value> {
        self.json().into_iter().filter(|line| line.get("_aws").is_some()).collect()
    }

    fn json(&self) -> Vec<Value> {
        self.stdout.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

struct Next(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Respond for Next {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let deadline = SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(60);
        match self.0.lock().unwrap().pop_front() {
            Some(payload) => ResponseTemplate::new(200)
                .insert_header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
                .insert_header("Lambda-Runtime-Deadline-Ms", deadline.as_millis().to_string())
                .insert_header(
                    "Lambda-Runtime-Invoked-Function-Arn",
                    "arn:aws:lambda:us-east-1:123456789012:function:force-mfa",
                )
                .set_body_raw(payload, "application/json"),
            // Lambda keeps the function waiting until there is something to do.
            None => ResponseTemplate::new(200).set_delay(Duration::from_secs(3600)),
        }
    }
}

/// Starts the function's binary with these variables, feeds it the payloads one after another, and ends it.
pub async fn run_function(account: &FakeIam, variables: &[(&str, &str)], payloads: Vec<Vec<u8>>) -> Run {
    let iam = MockServer::start().await;
    // The request that warms the connection up is no API call, and need not succeed.
    Mock::given(method("POST")).respond_with(account.clone()).mount(&iam).await;
    run_function_at(&iam.uri(), variables, payloads).await
}

/// The same with IAM at this address.
pub async fn run_function_at(iam: &str, variables: &[(&str, &str)], payloads: Vec<Vec<u8>>) -> Run {
    let runtime = MockServer::start().await;
    let expected = payloads.len();
    let queue = Arc::new(Mutex::new(VecDeque::from(payloads)));
    Mock::given(path_regex("/invocation/next$")).respond_with(Next(queue)).mount(&runtime).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(202)).mount(&runtime).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_function"))
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", runtime.address().to_string().as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "force-mfa"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/force-mfa"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "1"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "made-up-secret"),
            ("AWS_SESSION_TOKEN", "made-up-session-token"),
            ("AWS_ENDPOINT_URL_IAM", iam),
            ("FORCE_MFA_POLICY_ARN", POLICY),
            ("FORCE_MFA_OVERFLOW_GROUP", GROUP),
        ])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut exit = None;
    let answers = loop {
        let answers = answers(&runtime).await;
        if answers.len() >= expected && expected > 0 {
            break answers;
        }
        if let Some(status) = child.try_wait().unwrap() {
            exit = status.code();
            break answers;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let _ = child.start_kill();
    let output = child.wait_with_output().await.unwrap();
    Run {
        answers,
        stdout: String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        exit,
    }
}

async fn answers(runtime: &MockServer) -> Vec<Answer> {
    let requests = runtime.received_requests().await.unwrap_or_default();
    let posts = requests.iter().filter(|request| request.method.as_str() == "POST");
    posts
        .map(|request| Answer {
            kind: request.url.path().rsplit('/').next().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
        })
        .collect()
}
