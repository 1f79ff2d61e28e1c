//! The promises of docs/reference.md, each by its name. They are checked on what came of every file of `events/` and of some
//! thousand payloads made of them: fields taken out, changed, moved, under every setting, against accounts made up at
//! random and an IAM that fails at times. The judge below reads a payload for itself and shares no code with the crate.
//!
//! `PROMISES_CASES` sets how many are made up, `PROMISES_SEED` makes others, and the `*.json` files of a directory named
//! by `PROMISES_EVENTS` are taken too.

#[path = "policy/evaluation.rs"]
#[allow(dead_code, reason = "what the policy's tests need besides")]
mod evaluation;
mod support;
#[path = "policy/template.rs"]
#[allow(dead_code, reason = "what the policy's tests need besides")]
mod template;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use chrono::{SecondsFormat, TimeDelta, Utc};
use force_mfa::handler::Handler;
use force_mfa::iam::Iam;
use iam_rs::{Decision, IAMPolicy};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};
use support::fake_iam::{FakeIam, Fault, GROUP, POLICY, User, sdk_config};
use support::lambda::run_function;
use support::{done, event, settings};
use tokio::time::Instant;

const ACCOUNT: &str = "123456789012";
const EXEMPT_NAME: &str = "break-glass-";
const EXEMPT_PATH: &str = "/service/";
const EXEMPT_TAG: (&str, &str) = ("mfa-exempt", "true");

// The promises.

#[test]
fn it_never_writes_to_an_exempt_user() {
    let told = holds(|run| {
        for (_, user) in run.writes() {
            if let Some(user) = run.before.users.get(&user) {
                require(!run.case.guard.exempts(user), format!("{} is exempt", user.name))?;
            }
        }
        Ok(run.summary.starts_with("exempt "))
    });
    assert!(told >= 100, "{told} runs with an exempt user");
}

/// The event of a `CreateLoginProfile` that succeeded is a proof of the password for a quarter of an hour; otherwise IAM
/// has the word.
#[test]
fn it_never_writes_to_a_user_without_a_password() {
    let told = holds(|run| {
        if run.case.guard.all_users {
            return Ok(false);
        }
        for (_, user) in run.writes() {
            let has_password = run.before.users.get(&user).is_some_and(|user| user.password.is_some());
            require(has_password || run.proves_a_password_of(&user), format!("{user} has no password"))?;
        }
        Ok(run.summary == "ignored not_a_console_user")
    });
    assert!(told >= 50, "{told} runs with a user without a password");
}

#[test]
fn it_never_writes_in_report_mode() {
    let told = holds(|run| {
        let softened = run.case.payload["sweep"]["mode"] == "report";
        if run.case.guard.enforces && !softened {
            return Ok(false);
        }
        require(run.writes().is_empty(), "report mode writes nothing")?;
        require(run.before == run.after, "report mode changes nothing")?;
        Ok(run.summary == "would_attach" || run.reply["would_attach"].as_u64() > Some(0))
    });
    assert!(told >= 100, "{told} runs that would have written");
}

#[test]
fn its_role_allows_just_the_calls_that_it_makes() {
    let template = template::account_template();
    let policies = template["Resources"]["FunctionRole"]["Properties"]["Policies"].as_array().unwrap();
    let statements = policies.iter().flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().unwrap());
    let actions = statements.flat_map(|statement| match &statement["Action"] {
        Value::Array(actions) => actions.iter().map(|action| action.as_str().unwrap()).collect(),
        action => vec![action.as_str().unwrap()],
    });
    let allowed: BTreeSet<&str> = actions.filter_map(|action| action.strip_prefix("iam:")).collect();

    let calls = RUNS.iter().flat_map(|run| &run.calls).map(|call| call.split(' ').next().unwrap());
    let made: BTreeSet<&str> = calls.collect();

    assert_eq!(made, allowed, "the calls made, and the role's actions");
}

#[test]
fn it_never_acts_on_another_account() {
    let told = holds(|run| {
        let Some(event) = run.event() else { return Ok(false) };
        let account = match &event["account"] {
            Value::Null => &event["detail"]["recipientAccountId"],
            account => account,
        };
        let is_another = !account.is_null() && account != ACCOUNT;
        require(!is_another || run.calls.is_empty(), "another account's event leads to no call")?;
        Ok(is_another && run.summary == "ignored other_account")
    });
    assert!(told >= 50, "{told} events of other accounts");
}

#[test]
fn it_never_acts_on_another_service() {
    let told = holds(|run| {
        let Some(event) = run.cloud_trail_event() else { return Ok(false) };
        let is_another = event["source"] != "aws.iam" || event["detail"]["eventSource"] != "iam.amazonaws.com";
        require(!is_another || run.calls.is_empty(), "another service's event leads to no call")?;
        Ok(is_another && run.summary == "ignored other_service")
    });
    assert!(told >= 50, "{told} events of other services");
}

#[test]
fn it_never_acts_on_a_failed_call() {
    let told = holds(|run| {
        let Some(event) = run.cloud_trail_event() else { return Ok(false) };
        let failed = !event["detail"]["errorCode"].is_null() || !event["detail"]["errorMessage"].is_null();
        require(!failed || run.calls.is_empty(), "a failed call's event leads to no call")?;
        Ok(failed && run.summary == "ignored failed_call")
    });
    assert!(told >= 50, "{told} events of failed calls");
}

#[test]
fn an_event_is_answered_with_a_reason_or_fails_into_the_queue() {
    const ERRORS: [&str; 10] = [
        "unrecognised_payload",
        "malformed_event",
        "user_not_visible",
        "policy_missing",
        "quota_exhausted",
        "access_denied",
        "throttled",
        "iam_unavailable",
        "sweep_incomplete",
        "iam_error",
    ];
    let mut ways = BTreeSet::new();
    holds(|run| {
        let outcome = run.reply["outcome"].as_str().unwrap_or_default();
        let reason = run.reply["reason"].as_str().unwrap_or_default();
        let named = run.reply["user"].as_str().map(str::to_ascii_lowercase).unwrap_or_default();
        let user = run.before.users.get(&named);
        if !run.error_type.is_empty() {
            require(run.reply.is_null(), "a failed invocation has no reply")?;
            require(ERRORS.contains(&run.error_type), "an error is one of those in the reference")?;
            require(!run.message.is_empty(), "an error says what happened")?;
            return Ok(ways.insert(run.error_type.to_owned()));
        }
        match (outcome, reason) {
            ("attached", _) => require(run.after.covered.contains(&named), "attached means covered")?,
            ("added_to_group", GROUP) => require(run.after.covered.contains(&named), "added means covered")?,
            ("would_attach", _) => require(!run.case.guard.enforces, "it attaches, unless in report mode")?,
            ("exempt", "FORCE_MFA_EXEMPT_USERS" | "FORCE_MFA_EXEMPT_PATHS" | "FORCE_MFA_EXEMPT_TAG") => {
                // The name alone exempts, also of somebody whom IAM does not know.
                let exempt = user.map_or(named.starts_with(EXEMPT_NAME), |user| run.case.guard.exempts(user));
                require(exempt, "whoever is called exempt is")?;
            }
            ("ignored", "failed_call" | "other_service" | "other_event" | "no_user_name" | "other_account") => {
                require(run.calls.is_empty(), "the event alone tells that it is ignored")?;
            }
            ("ignored", "not_a_console_user") => {
                let none = user.is_none_or(|user| user.password.is_none() || user.unseen_for > 0);
                require(none, "IAM shows no password")?;
            }
            ("ignored", "user_gone") => {
                require(user.is_none_or(|user| user.unseen_for > 0), "IAM shows no such user")?;
            }
            ("swept", _) => {
                let left = run.reply["mode"] == "enforce" && run.reply["would_attach"] != 0;
                require(!left, "a sweep that enforces leaves nobody for another time")?;
            }
            _ => require(false, "an answer is one of those in the reference")?,
        }
        Ok(ways.insert(run.summary.clone()))
    });
    for way in ["unrecognised_payload", "malformed_event", "user_not_visible", "access_denied", "quota_exhausted"] {
        assert!(ways.contains(way), "no run ended with {way}: {ways:?}");
    }
    assert!(ways.len() >= 20, "{ways:?}");
}

#[test]
fn a_second_delivery_changes_nothing() {
    let told = holds(|run| {
        // What the first could not do, or not see, the second may.
        let settled = run.error_type.is_empty() && run.before.users.values().all(|user| user.unseen_for == 0);
        require(!settled || run.after == run.again, "the second delivery changes nothing")?;
        Ok(settled && run.after != run.before)
    });
    assert!(told >= 200, "{told} runs that changed something at first");
}

/// Names and other texts of an event that try to end a log line, to begin another, or to pass for metrics.
#[tokio::test]
async fn a_log_line_stays_one_line_whatever_the_event_holds() {
    let hostile = [
        "alice\n{\"level\":\"INFO\",\"outcome\":\"attached\",\"user\":\"mallory\"}",
        "alice\r\n2026-01-01T00:00:00Z ERROR function: failed",
        "alice\",\"_aws\":{\"CloudWatchMetrics\":[]},\"x\":\"",
        "{\"_aws\":{\"Timestamp\":0,\"CloudWatchMetrics\":[{\"Namespace\":\"ForceMfa\"}]}}",
        "\u{1b}[2K\u{1b}[1Aalice",
        "alice\u{0}\u{8}\u{7f}\u{85}\u{2028}",
        "\u{202e}\u{2066}\u{200f}ecila",
    ];
    let places = [
        "userName",
        "groupName",
        "eventName",
        "eventID",
        "arn",
        "account",
        "source",
        "detail-type",
        "eventTime",
        "sourceIPAddress",
    ];
    let mut payloads = Vec::new();
    for text in hostile {
        for place in places {
            let mut payload = event("CreateLoginProfile", "alice", 60);
            match place {
                "userName" | "groupName" => payload["detail"]["requestParameters"][place] = json!(text),
                "arn" => payload["detail"]["userIdentity"]["arn"] = json!(text),
                "account" | "source" | "detail-type" => payload[place] = json!(text),
                _ => payload["detail"][place] = json!(text),
            }
            payloads.push(payload.to_string().into_bytes());
        }
    }
    for format in ["JSON", "Text"] {
        let account = FakeIam::default().with_console_user("alice");
        let run = run_function(&account, &[("AWS_LAMBDA_LOG_FORMAT", format)], payloads.clone()).await;
        let metrics = run.metrics();
        assert_eq!(run.stdout.len() - metrics.len(), payloads.len(), "{format}: {:#?}", run.stdout);
        assert!(run.stderr.is_empty(), "{}", run.stderr);
        for line in &run.stdout {
            let steers = |c: char| c.is_control() || "\u{2028}\u{202e}\u{2066}\u{200f}".contains(c);
            assert!(!line.contains(steers), "{line:?}");
            let is_line = if format == "JSON" { line.starts_with('{') } else { line.starts_with(['{', '2']) };
            assert!(is_line, "{line:?}");
        }
        for metric in metrics {
            assert!(metric.get("Attached").or(metric.get("Failed")).is_some(), "{metric}");
        }
        if format == "JSON" {
            assert_eq!(run.logs().len(), payloads.len());
        }
    }
}

// What the documents say.

#[test]
fn every_promise_is_in_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = fs::read_to_string(root.join("docs/reference.md")).unwrap();
    let promises = include_str!("promises.rs").split("// What the documents say.").next().unwrap();
    let tests = promises.split("test]\n").skip(1).filter_map(|test| test.split("fn ").nth(1)?.split('(').next());
    let missing: Vec<&str> = tests.filter(|test| !reference.contains(&format!("tests/promises.rs::{test}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The service control policy of the threat model, beside one that allows all.
#[test]
fn the_threat_models_scp_stops_what_it_says_and_nothing_else() {
    let text = include_str!("../docs/threat-model.md");
    let scp = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the document has it");
    let scp: IAMPolicy = serde_json::from_str(scp).expect("it is a policy");
    let all = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    let all: IAMPolicy = serde_json::from_value(all).unwrap();
    let decide = |role: &str, action: &str, resource: &str, tag: &str| {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/{role}");
        let mut context = Map::from_iter([("aws:PrincipalArn".to_owned(), json!(role))]);
        if !tag.is_empty() {
            context.insert("aws:TagKeys".to_owned(), json!([tag, "team"]));
        }
        let resource = resource.replace("ACCOUNT", ACCOUNT);
        let request = evaluation::Request { principal: role, action: action.into(), resource, context };
        evaluation::decide(&[scp.clone(), all.clone()], &request).decision
    };
    let (alice, service) = ("arn:aws:iam::ACCOUNT:user/alice", "arn:aws:iam::ACCOUNT:user/service/ci");
    let function = "arn:aws:lambda:us-east-1:ACCOUNT:function:force-mfa";
    let rows = [
        ("iam:TagUser", alice, "mfa-exempt", true),
        ("iam:TagUser", alice, "MFA-Exempt", true),
        ("iam:CreateUser", alice, "mfa-exempt", true),
        ("iam:UntagUser", alice, "mfa-exempt", true),
        ("iam:TagUser", alice, "cost-center", false),
        ("iam:CreateUser", alice, "", false),
        ("iam:CreateUser", service, "", true),
        ("iam:UpdateUser", service, "", true),
        ("iam:CreateLoginProfile", service, "", true),
        ("iam:CreateLoginProfile", "arn:aws:iam::ACCOUNT:user/break-glass-1", "", true),
        ("iam:CreateLoginProfile", alice, "", false),
        ("iam:GetUser", service, "", false),
        ("lambda:InvokeFunction", function, "", true),
        ("lambda:InvokeFunction", "arn:aws:lambda:us-east-1:ACCOUNT:function:force-mfa:$LATEST", "", true),
        ("lambda:InvokeFunction", "arn:aws:lambda:us-east-1:ACCOUNT:function:other", "", false),
        ("lambda:GetFunction", function, "", false),
        // What the document warns of: another spelling of an exempt name is not stopped.
        ("iam:CreateUser", "arn:aws:iam::ACCOUNT:user/Break-Glass-1", "", false),
    ];
    for (action, resource, tag, stopped) in rows {
        let expected = if stopped { Decision::Deny } else { Decision::Allow };
        assert_eq!(decide("developer", action, resource, tag), expected, "{action} {resource} {tag}");
        assert_eq!(decide("security-admin", action, resource, tag), Decision::Allow, "{action} {resource} {tag}");
    }
}

// How it is judged.

/// Checks all runs; in how many of them `check` says that the promise was put to the test.
fn holds(mut check: impl FnMut(&Run) -> Result<bool, String>) -> usize {
    let put_to_the_test = RUNS.iter().filter(|run| match check(run) {
        Ok(tested) => tested,
        Err(broken) => panic!("broken promise: {broken}\n{run:#?}"),
    });
    put_to_the_test.count()
}

fn require(holds: bool, promise: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(promise.into()) }
}

/// What came of one case.
#[derive(Debug)]
struct Run {
    case: Case,
    before: State,
    after: State,
    /// After the payload was delivered once more, by an IAM that is well.
    again: State,
    calls: Vec<String>,
    summary: String,
    error_type: &'static str,
    message: String,
    reply: Value,
}

/// What there is to change in an account.
#[derive(Debug)]
struct State {
    users: BTreeMap<String, User>,
    members: BTreeMap<String, BTreeSet<String>>,
    covered: BTreeSet<String>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let policies = |state: &Self| -> Vec<_> {
            state.users.values().map(|user| (user.name.clone(), user.policies.clone())).collect()
        };
        policies(self) == policies(other) && self.members == other.members
    }
}

impl Run {
    /// The writes: action and user, in lower case.
    fn writes(&self) -> Vec<(String, String)> {
        let writes = self.calls.iter().filter_map(|call| call.split_once(' '));
        let writes = writes.filter(|(action, _)| !action.starts_with("Get") && !action.starts_with("List"));
        writes.map(|(action, user)| (action.to_owned(), user.to_ascii_lowercase())).collect()
    }

    /// The event in the payload, out of whatever wraps it.
    fn event(&self) -> Option<&Value> {
        let mut payload = &self.case.payload;
        while let Some(inner) = payload.get("requestPayload") {
            payload = inner;
        }
        payload.get("detail").map(|_| payload)
    }

    /// The same, unless it tells of a schedule or a deployment, whose events are not about a call.
    fn cloud_trail_event(&self) -> Option<&Value> {
        const OTHERS: [(&str, &str); 2] =
            [("aws.events", "Scheduled Event"), ("aws.cloudformation", "CloudFormation Stack Status Change")];
        self.event().filter(|event| {
            !OTHERS.iter().any(|(source, kind)| event["source"] == *source && event["detail-type"] == *kind)
        })
    }

    /// Whether the event is that of a login profile made, here and not long ago, for somebody of this name.
    fn proves_a_password_of(&self, user: &str) -> bool {
        let time = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok();
        self.event().is_some_and(|event| {
            let made = time(&event["detail"]["eventTime"]).or_else(|| time(&event["time"]));
            event["detail"]["eventName"] == "CreateLoginProfile"
                && made.is_none_or(|made| Utc::now() - made.to_utc() < TimeDelta::minutes(16))
                && texts(event).any(|text| text.eq_ignore_ascii_case(user))
        })
    }
}

fn texts(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::String(text) => Box::new(std::iter::once(text.as_str())),
        Value::Array(items) => Box::new(items.iter().flat_map(texts)),
        Value::Object(fields) => Box::new(fields.values().flat_map(texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Box::new(std::iter::empty()),
    }
}

// What is tried.

/// Settings, payload, account, and what IAM does at its first calls.
#[derive(Clone, Debug)]
struct Case {
    guard: Guard,
    payload: Value,
    users: BTreeMap<String, Option<Like>>,
    faults: Vec<Option<Fault>>,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting")]
struct Guard {
    enforces: bool,
    all_users: bool,
    existing: bool,
    exemptions: bool,
    overflow_group: bool,
}

/// What a user is like.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Like {
    password: bool,
    /// The credential report tells of a password that has been taken away since.
    password_gone: bool,
    /// From before the policy.
    existing: bool,
    covered: bool,
    path: &'static str,
    tagged: bool,
    policies_full: bool,
    groups_full: bool,
    unseen: u32,
}

impl Guard {
    fn variables(&self) -> [(&'static str, &'static str); 7] {
        let exemption = |text| if self.exemptions { text } else { "" };
        let mode = |enforces| if enforces { "enforce" } else { "report" };
        [
            ("FORCE_MFA_MODE", mode(self.enforces)),
            ("FORCE_MFA_EXISTING_USERS", mode(self.existing)),
            ("FORCE_MFA_SCOPE", if self.all_users { "all-users" } else { "console-users" }),
            ("FORCE_MFA_EXEMPT_USERS", exemption("break-glass-*")),
            ("FORCE_MFA_EXEMPT_PATHS", exemption(EXEMPT_PATH)),
            ("FORCE_MFA_EXEMPT_TAG", exemption("mfa-exempt=true")),
            ("FORCE_MFA_OVERFLOW_GROUP", if self.overflow_group { GROUP } else { "" }),
        ]
    }

    fn exempts(&self, user: &User) -> bool {
        let by_tag =
            user.tags.iter().any(|(key, value)| key.eq_ignore_ascii_case(EXEMPT_TAG.0) && value == EXEMPT_TAG.1);
        let by_name = user.name.to_ascii_lowercase().starts_with(EXEMPT_NAME);
        self.exemptions && (by_name || user.path.starts_with(EXEMPT_PATH) || by_tag)
    }
}

static RUNS: LazyLock<Vec<Run>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // A test's thread may be within a runtime already.
    std::thread::spawn(move || runtime.block_on(run_all())).join().unwrap()
});

async fn run_all() -> Vec<Run> {
    let mut runs = Vec::new();
    for (number, case) in every_file().into_iter().chain(made_up()).enumerate() {
        runs.push(run(case, number).await);
    }
    runs
}

async fn run(case: Case, number: usize) -> Run {
    let mut faults: VecDeque<Option<Fault>> = case.faults.clone().into();
    let account = FakeIam::default().with_faults(move |_, _| faults.pop_front().flatten());
    for (name, like) in &case.users {
        if let Some(like) = like {
            let now = account.world().now;
            let user = like.user(name, now);
            account.world().users.insert(name.to_ascii_lowercase(), user);
        }
    }
    {
        let mut world = account.world();
        let report = world.credential_report();
        world.report = Some((world.now, report));
        let gone = case.users.iter().filter(|(_, like)| like.as_ref().is_some_and(|like| like.password_gone));
        for (name, _) in gone {
            world.users.get_mut(&name.to_ascii_lowercase()).unwrap().password = None;
        }
    }
    // The SDK counts its retries by region for a whole process.
    let config = sdk_config(None).to_builder().region(aws_config::Region::new(format!("case-{number}"))).build();
    let iam = Iam::with_connector(&config, SharedHttpConnector::new(account.clone())).await;
    let handler = Handler::new(settings(&case.guard.variables()), iam).with_waits(Vec::new());
    let payload = case.payload.to_string();
    let deliver = async || done(handler.handle(payload.as_bytes(), Instant::now() + Duration::from_mins(4)).await);
    let before = State::of(&account);
    let first = deliver().await;
    let (after, calls) = (State::of(&account), account.calls());
    account.world().users.values_mut().for_each(|user| user.unseen_for = 0);
    let account = account.with_faults(|_, _| None);
    deliver().await;
    let again = State::of(&account);
    let (summary, error_type) = (first.summary(), first.error_type);
    Run { case, before, after, again, calls, summary, error_type, message: first.message, reply: first.reply }
}

impl State {
    fn of(account: &FakeIam) -> Self {
        let world = account.world();
        Self {
            users: world.users.clone(),
            members: world.groups.iter().map(|(name, group)| (name.clone(), group.members.clone())).collect(),
            covered: world.users.keys().filter(|name| world.is_covered(name)).cloned().collect(),
        }
    }
}

impl Like {
    fn user(&self, name: &str, now: chrono::DateTime<Utc>) -> User {
        // The policy is a day old.
        let created = now - if self.existing { TimeDelta::days(400) } else { TimeDelta::minutes(5) };
        let mut user = User { name: name.into(), path: self.path.into(), created, ..User::default() };
        if self.password || self.password_gone {
            user.set_password(created);
        }
        if self.covered {
            user.policies.insert(POLICY.into());
        }
        if self.tagged {
            user.tags.insert("MFA-exempt".into(), EXEMPT_TAG.1.into());
        }
        user.other_policies = if self.policies_full { 10 } else { 0 };
        user.other_groups = if self.groups_full { 10 } else { 0 };
        user.unseen_for = self.unseen;
        user
    }
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path, extension) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// The payloads of `events/`, and calls for a sweep.
fn payloads() -> Vec<Value> {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("events")];
    directories.extend(std::env::var_os("PROMISES_EVENTS").map(PathBuf::from));
    let files = directories.iter().flat_map(|directory| files(directory, "json"));
    let files = files.filter(|file| !file.ends_with("events/account.json"));
    let mut payloads: Vec<Value> =
        files.map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect();
    payloads.extend([json!({ "sweep": {} }), json!({ "sweep": { "mode": "report" } })]);
    payloads
}

/// Every payload in the account of `events/account.json`, under every mode and scope, with exemptions and without.
fn every_file() -> Vec<Case> {
    let account: Value = serde_json::from_str(include_str!("../events/account.json")).unwrap();
    let like = |user: &Value| Like {
        password: user["password"] == true,
        password_gone: false,
        existing: user["name"].as_str().unwrap().ends_with(".existing"),
        covered: user["policy"] == true,
        path: if user["path"].as_str().is_some_and(|path| path.starts_with(EXEMPT_PATH)) {
            "/service/ci/"
        } else {
            "/"
        },
        tagged: user["tags"]["mfa-exempt"] == "true",
        policies_full: user["quota_full"] == true,
        groups_full: false,
        unseen: 0,
    };
    let users = account["users"].as_array().unwrap();
    let users: BTreeMap<_, _> =
        users.iter().map(|user| (user["name"].as_str().unwrap().to_owned(), Some(like(user)))).collect();
    let mut cases = Vec::new();
    for payload in payloads() {
        for bits in 0..8 {
            let [enforces, all_users, exemptions] = [1, 2, 4].map(|bit| bits & bit != 0);
            let guard = Guard { enforces, all_users, exemptions, existing: false, overflow_group: true };
            cases.push(Case { guard, payload: payload.clone(), users: users.clone(), faults: Vec::new() });
        }
    }
    cases
}

/// Changed payloads in accounts of the users whom they name.
fn made_up() -> Vec<Case> {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
    };
    let cases = number("PROMISES_CASES", 2000);
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("PROMISES_SEED", 0).to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let payloads = payloads();
    let payload = select(payloads.clone()).prop_flat_map(|payload| {
        vec((place(), edit()), 0..4).prop_map(move |edits| {
            edits.into_iter().fold(payload.clone(), |payload, (place, edit)| changed(payload, &place, &edit))
        })
    });
    let sweep = select(vec![json!({ "sweep": {} }), json!({ "sweep": { "mode": "report" } })]);
    let case = prop_oneof![7 => payload, 1 => sweep].prop_flat_map(|payload| {
        let names: BTreeSet<String> = texts(&payload)
            .filter(|text| force_mfa::identifiers::UserName::new(text).is_some())
            .map(str::to_ascii_lowercase)
            .chain(["bob", "carol", "break-glass-1"].map(str::to_owned))
            .collect();
        let likes = vec(option::weighted(0.9, like()), names.len());
        let faults = prop_oneof![2 => Just(Vec::new()), 1 => vec(option::weighted(0.4, fault()), 1..8)];
        (guard(), likes, faults).prop_map(move |(guard, likes, faults)| {
            let users = names.iter().cloned().zip(likes).collect();
            Case { guard, payload: payload.clone(), users, faults }
        })
    });
    (0..cases).map(|_| case.new_tree(&mut runner).unwrap().current()).collect()
}

fn guard() -> impl Strategy<Value = Guard> {
    let usually = || prop::bool::weighted(0.75);
    (usually(), prop::bool::weighted(0.25), any::<bool>(), usually(), usually()).prop_map(
        |(enforces, all_users, existing, exemptions, overflow_group)| Guard {
            enforces,
            all_users,
            existing,
            exemptions,
            overflow_group,
        },
    )
}

fn like() -> impl Strategy<Value = Like> {
    let rarely = || prop::bool::weighted(0.15);
    let path =
        prop_oneof![4 => Just("/"), 1 => Just("/service/ci/"), 1 => Just("/Service/"), 1 => Just("/eng/service/")];
    let unseen = prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(50)];
    let password = prop_oneof![7 => Just((true, false)), 2 => Just((false, false)), 1 => Just((false, true))];
    (password, rarely(), rarely(), path, rarely(), rarely(), rarely(), unseen).prop_map(
        |((password, password_gone), existing, covered, path, tagged, policies_full, groups_full, unseen)| Like {
            password,
            password_gone,
            existing,
            covered,
            path,
            tagged,
            policies_full,
            groups_full,
            unseen,
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    select(vec![
        Fault::Error(400, "Throttling"),
        Fault::Error(503, "ServiceUnavailable"),
        Fault::Error(409, "ConcurrentModification"),
        Fault::Error(403, "AccessDenied"),
        Fault::Error(403, "ExpiredToken"),
        Fault::Error(400, "InvalidInput"),
        Fault::Hang,
        Fault::Reset,
        Fault::LoseAnswer,
    ])
}

/// Where a payload is changed: anywhere, or where it matters.
#[derive(Clone, Debug)]
enum Place {
    Any(Index),
    At(&'static str),
}

#[derive(Clone, Debug)]
enum Edit {
    Remove,
    Set(Value),
    /// A copy of what is elsewhere.
    Copy(Index),
}

fn place() -> impl Strategy<Value = Place> {
    let places = select(vec![
        "/account",
        "/source",
        "/detail/eventSource",
        "/detail/eventName",
        "/detail/eventTime",
        "/detail/errorCode",
        "/detail/errorMessage",
        "/detail/recipientAccountId",
        "/detail/requestParameters/userName",
        "/detail/requestParameters/policyArn",
        "/detail/requestParameters/groupName",
        "/detail/responseElements",
        "/detail/userIdentity/type",
        "/requestPayload",
    ]);
    prop_oneof![any::<Index>().prop_map(Place::Any), places.prop_map(Place::At)]
}

fn edit() -> impl Strategy<Value = Edit> {
    let now = || Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let known = select(vec![
        json!(null),
        json!(true),
        json!(7),
        json!(""),
        json!([]),
        json!({}),
        json!({ "userName": "bob" }),
        json!({ "loginProfile": { "userName": "bob" } }),
        json!("bob"),
        json!("BOB"),
        json!("break-glass-1"),
        json!("iam.amazonaws.com"),
        json!("aws.iam"),
        json!("aws.sso"),
        json!("CreateLoginProfile"),
        json!("CreateUser"),
        json!("DetachUserPolicy"),
        json!("RemoveUserFromGroup"),
        json!("IAMUser"),
        json!("AccessDenied"),
        json!(ACCOUNT),
        json!(POLICY),
        json!(GROUP),
        json!(now()),
    ]);
    prop_oneof![
        2 => Just(Edit::Remove),
        6 => known.prop_map(Edit::Set),
        1 => "[0-9]{11,13}".prop_map(|text| Edit::Set(json!(text))),
        1 => "[A-Za-z0-9_+=,.@ /-]{1,66}".prop_map(|text| Edit::Set(json!(text))),
        1 => ".{0,20}".prop_map(|text| Edit::Set(json!(text))),
        2 => any::<Index>().prop_map(Edit::Copy),
    ]
}

fn changed(mut payload: Value, place: &Place, edit: &Edit) -> Value {
    let pointers = pointers(&payload, "");
    let place = match place {
        Place::At(place) => (*place).to_owned(),
        Place::Any(_) if pointers.is_empty() => return payload,
        Place::Any(index) => index.get(&pointers).clone(),
    };
    let new = match edit {
        Edit::Remove => None,
        Edit::Set(value) => Some(value.clone()),
        Edit::Copy(_) if pointers.is_empty() => None,
        Edit::Copy(index) => payload.pointer(index.get::<String>(&pointers)).cloned(),
    };
    let (parent, key) = place.rsplit_once('/').unwrap_or_default();
    if let Some(Value::Object(fields)) = payload.pointer_mut(parent) {
        match new {
            Some(value) => fields.insert(key.to_owned(), value),
            None => fields.remove(key),
        };
    }
    payload
}

/// Where the payload's fields are; those with a slash in their name are passed over.
fn pointers(value: &Value, at: &str) -> Vec<String> {
    let fields = value.as_object().into_iter().flatten().filter(|(key, _)| !key.contains(['/', '~']));
    fields
        .flat_map(|(key, inner)| {
            let at = format!("{at}/{key}");
            let inner = pointers(inner, &at);
            std::iter::once(at).chain(inner)
        })
        .collect()
}
