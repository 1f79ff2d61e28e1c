//! `force-mfa doctor --canary` against the deployed template, with the real handler fed by the test as EventBridge would
//! feed it. No user is left behind, whatever happens.

mod support {
    pub mod command;
    pub mod installation;
    pub mod proxy;
}

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_iam::types::Tag;
use chrono::{SecondsFormat, Utc};
use force_mfa::handler::Handler;
use force_mfa::iam::Iam;
use force_mfa::settings::Settings;
use serde_json::{Value, json};
use support::command::{POLICY, Told, command, error};
use support::installation::{FUNCTION, Hook, Installation};
use support::proxy::{Reply, Request, reply};
use tokio::time::Instant;

const TAG: &str = "force-mfa-canary";
const TAG_VALUE: &str = "test user of force-mfa doctor - safe to delete";

/// The event of a new password, as EventBridge sends it.
fn password_event(user: &str) -> Value {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({
        "version": "0", "id": "2f0f3c6e-0000-0000-0000-000000000001", "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam", "account": "123456789012", "time": time, "region": "us-east-1", "resources": [],
        "detail": {
            "eventSource": "iam.amazonaws.com", "eventName": "CreateLoginProfile", "eventTime": time,
            "recipientAccountId": "123456789012", "requestParameters": { "userName": user },
        }
    })
}

/// The function: its handler with its own settings.
async fn handler(installation: &Installation) -> Handler {
    let function = installation.lambda().get_function_configuration().function_name(FUNCTION).send().await.unwrap();
    let variables = function.environment.unwrap().variables.unwrap();
    let settings = Settings::read(|variable| variables.get(variable).cloned()).unwrap();
    Handler::new(settings, Iam::new(&installation.config).await)
}

async fn feed(handler: &Handler, user: &str) {
    let payload = password_event(user).to_string();
    let done = handler.handle(payload.as_bytes(), Instant::now() + Duration::from_mins(1)).await;
    assert_eq!(done.reply().unwrap()["outcome"], "attached");
}

impl Installation {
    fn begin(&self, timeout: &str) -> Child {
        let arguments = ["doctor", "--canary", "--yes", "--format", "json", "--timeout", timeout];
        command(&self.url, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn set_hook(&self, hook: impl Fn(&str, &Request) -> Option<Reply> + Send + Sync + 'static) {
        self.stubs.lock().unwrap().hook = Some(Arc::new(hook) as Hook);
    }

    async fn users(&self) -> Vec<String> {
        let users = self.iam().list_users().send().await.unwrap().users;
        let mut names: Vec<String> = users.into_iter().map(|user| user.user_name).collect();
        names.sort();
        names
    }

    fn was_called(&self, action: &str) -> bool {
        self.called.lock().unwrap().contains(action)
    }
}

fn ended(child: Child) -> Told {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code().expect("it ends by itself"), out: text(output.stdout), err: text(output.stderr) }
}

/// State and detail of the check `canary`, which is the last one.
fn canary(told: &Told) -> (String, String) {
    let json = told.json();
    let check = json["checks"].as_array().unwrap().last().unwrap();
    assert_eq!(check["check"], "canary", "{told:?}");
    (check["state"].as_str().unwrap().to_owned(), check["detail"].as_str().unwrap().to_owned())
}

/// Waits until the command has given its user a password; the user's name and the password.
fn wait_for_password(seen: &Mutex<Option<(String, String)>>) -> (String, String) {
    for _ in 0..1200 {
        if let Some(seen) = seen.lock().unwrap().take() {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the command gave nobody a password");
}

/// Notes name and password of each `CreateLoginProfile`.
fn note_passwords(installation: &Installation) -> Arc<Mutex<Option<(String, String)>>> {
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    installation.set_hook(move |action, request| {
        if action == "iam:CreateLoginProfile" {
            *noted.lock().unwrap() = Some((request.form("UserName").unwrap(), request.form("Password").unwrap()));
        }
        None
    });
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_gets_the_policy_is_ok() {
    let installation = Installation::deploy().await;
    let handler = handler(&installation).await;
    // Of another making: one has the name, the other one the tag.
    let tag = Tag::builder().key(TAG).value(TAG_VALUE).build().unwrap();
    let iam = installation.iam();
    iam.create_user().user_name("force-mfa-canary-of-alice").send().await.unwrap();
    iam.create_user().user_name("alice").tags(tag.clone()).send().await.unwrap();
    // What an earlier run left behind.
    iam.create_user().user_name("force-mfa-canary-abcdefgh").tags(tag).send().await.unwrap();
    iam.create_login_profile()
        .user_name("force-mfa-canary-abcdefgh")
        .password("An-example-only-1")
        .send()
        .await
        .unwrap();

    let seen = note_passwords(&installation);
    let child = installation.begin("5m");
    let (user, password) = wait_for_password(&seen);
    let tags = iam.list_user_tags().user_name(&user).send().await.unwrap().tags;
    assert_eq!((tags[0].key(), tags[0].value()), (TAG, TAG_VALUE));
    feed(&handler, &user).await;
    let told = ended(child);

    assert_eq!(told.code, 0, "{told:?}");
    let (state, detail) = canary(&told);
    assert_eq!(state, "ok");
    assert!(detail.contains(&user) && detail.contains("s after the IAM call"), "{detail}");
    assert_eq!(told.json()["totals"]["ok"], 16);
    assert_eq!(installation.users().await, ["alice", "force-mfa-canary-of-alice"]);
    assert!(told.err.contains("Deleted force-mfa-canary-abcdefgh"), "{told:?}");
    assert!(password.len() == 128 && !told.out.contains(&password) && !told.err.contains(&password));
    assert!(!installation.was_called("iam:PutUserPolicy") && !installation.was_called("iam:AttachUserPolicy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_comes_too_late_fails_and_is_gone() {
    let installation = Installation::deploy().await;
    // Never.
    let told = ended(installation.begin("1s"));
    assert_eq!((told.code, canary(&told).0.as_str()), (1, "fail"), "{told:?}");
    assert!(canary(&told).1.contains("did not get the policy within 1 s"), "{told:?}");
    assert!(installation.users().await.is_empty());

    // Between two steps of the deletion.
    let handler = handler(&installation).await;
    let (runtime, late) = (tokio::runtime::Handle::current(), AtomicBool::new(false));
    let created = AtomicBool::new(false);
    installation.set_hook(move |action, request| {
        created.fetch_or(action == "iam:CreateLoginProfile", Ordering::Relaxed);
        let deletes = action == "iam:DeleteUser" && created.load(Ordering::Relaxed);
        if deletes && !late.swap(true, Ordering::Relaxed) {
            runtime.block_on(feed(&handler, &request.form("UserName").unwrap()));
        }
        None
    });
    let told = ended(installation.begin("1s"));
    assert_eq!((told.code, canary(&told).0.as_str()), (1, "fail"), "{told:?}");
    assert!(installation.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_interrupted_is_gone() {
    let installation = Installation::deploy().await;
    for signal in ["-INT", "-TERM", "-HUP"] {
        let seen = note_passwords(&installation);
        let child = installation.begin("5m");
        let (user, _) = wait_for_password(&seen);
        let killed = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let told = ended(child);
        told.ends(130, &format!("the user {user} was deleted"));
        assert!(installation.users().await.is_empty(), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_does_not_stop_the_deletion() {
    let installation = Installation::deploy().await;
    let child = Arc::new(Mutex::new(None::<u32>));
    let (created, again) = (AtomicBool::new(false), Arc::clone(&child));
    installation.set_hook(move |action, _| {
        // The first one while the command waits, the second one between two steps of the deletion.
        let first = action == "iam:ListAttachedUserPolicies" && created.load(Ordering::Relaxed);
        let second = action == "iam:DeleteUser" && created.load(Ordering::Relaxed);
        created.fetch_or(action == "iam:CreateLoginProfile", Ordering::Relaxed);
        if let Some(id) = again.lock().unwrap().filter(|_| first || second) {
            std::process::Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap();
        }
        None
    });
    let started = {
        let mut id = child.lock().unwrap();
        let started = installation.begin("5m");
        *id = Some(started.id());
        started
    };
    ended(started).ends(130, "was deleted");
    assert!(installation.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_whose_connection_is_lost_is_deleted_by_the_next() {
    let installation = Installation::deploy().await;
    let lost = Arc::new(AtomicBool::new(false));
    let seen = {
        let (lost, seen) = (Arc::clone(&lost), Arc::new(Mutex::new(String::new())));
        let user = Arc::clone(&seen);
        installation.set_hook(move |action, request| {
            if lost.load(Ordering::Relaxed) {
                return Some((0, Vec::new(), Vec::new()));
            }
            if action == "iam:CreateLoginProfile" {
                *user.lock().unwrap() = request.form("UserName").unwrap();
                lost.store(true, Ordering::Relaxed);
            }
            None
        });
        seen
    };
    let told = ended(installation.begin("1s"));
    let user = seen.lock().unwrap().clone();
    assert_eq!((told.code, canary(&told).0.as_str()), (1, "fail"), "{told:?}");
    let fix = told.json()["checks"].as_array().unwrap().last().unwrap()["fix"].clone();
    assert!(fix.as_str().unwrap().contains(&format!("aws iam delete-user --user-name {user}")), "{told:?}");
    assert_eq!(installation.users().await, std::slice::from_ref(&user));

    installation.stubs.lock().unwrap().hook = None;
    // Another run could still use it for some minutes.
    let told = ended(installation.begin("1s"));
    assert!(told.err.contains(&format!("Left {user} alone: another run may use it until")), "{told:?}");
    assert_eq!(installation.users().await, std::slice::from_ref(&user));
    let over = Tag::builder().key("force-mfa-canary-ends-by").value("2026-01-01T00:00:00Z").build().unwrap();
    installation.iam().tag_user().user_name(&user).tags(over).send().await.unwrap();
    let told = ended(installation.begin("1s"));
    assert!(told.err.contains(&format!("Deleted {user}, which an earlier run left behind")), "{told:?}");
    assert!(installation.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_canaries_at_once_leave_each_other_alone() {
    let installation = Installation::deploy().await;
    let handler = handler(&installation).await;
    let seen = note_passwords(&installation);
    let first = installation.begin("5m");
    let (user, _) = wait_for_password(&seen);

    let second = ended(installation.begin("1s"));
    assert_eq!(canary(&second).0, "fail", "{second:?}");
    assert!(second.err.contains(&format!("Left {user} alone")), "{second:?}");
    assert_eq!(installation.users().await, std::slice::from_ref(&user));

    feed(&handler, &user).await;
    assert_eq!(canary(&ended(first)).0, "ok");
    assert!(installation.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_creation_is_cleaned_up() {
    let installation = Installation::deploy().await;
    let (runtime, iam) = (tokio::runtime::Handle::current(), installation.iam());
    // The first try creates the user, and its answer is lost; the later ones are throttled.
    let created = AtomicBool::new(false);
    installation.set_hook(move |action, request| {
        if action != "iam:CreateUser" {
            return None;
        }
        if created.swap(true, Ordering::Relaxed) {
            let throttled = error("Throttling", "Rate exceeded");
            return Some(reply(400, "text/xml", throttled.split("\r\n\r\n").nth(1).unwrap()));
        }
        let tag = Tag::builder().key(TAG).value(TAG_VALUE).build().unwrap();
        let call = iam.create_user().user_name(request.form("UserName").unwrap()).tags(tag);
        runtime.block_on(call.send()).unwrap();
        Some((0, Vec::new(), Vec::new()))
    });
    ended(installation.begin("1s")).ends(1, "was deleted");
    assert!(installation.users().await.is_empty());
}

/// An error of IAM's that denies.
fn denial(message: &str) -> Reply {
    let answer = error("AccessDenied", message);
    reply(403, "text/xml", answer.split("\r\n\r\n").nth(1).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_not_allowed_leaves_nothing_behind() {
    let installation = Installation::deploy().await;
    let scp =
        "User alice is not authorized to perform: iam:CreateUser with an explicit deny in a service control policy";
    for (denied, word) in [
        ("iam:DeleteUser", "iam:DeleteUser"),
        ("iam:DetachUserPolicy", "iam:DetachUserPolicy"),
        ("iam:CreateUser", "An SCP of the organization denies new users"),
        ("iam:CreateLoginProfile", "was deleted"),
    ] {
        installation.set_hook(move |action, _| (action == denied).then(|| denial(scp)));
        installation.called.lock().unwrap().clear();
        let told = ended(installation.begin("1s"));
        told.ends(3, word);
        assert!(installation.users().await.is_empty(), "{denied}");
        if denied.starts_with("iam:De") {
            assert!(!installation.was_called("iam:CreateUser"), "{denied}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_would_prove_nothing_is_refused() {
    let installation = Installation::deploy().await;
    let policy = ("FORCE_MFA_POLICY_ARN", POLICY);
    for (variable, value, word) in [
        ("FORCE_MFA_MODE", "report", "report mode"),
        ("FORCE_MFA_EXEMPT_USERS", "force-mfa-*", "FORCE_MFA_EXEMPT_USERS"),
        ("FORCE_MFA_EXEMPT_PATHS", "/", "FORCE_MFA_EXEMPT_PATHS"),
        ("FORCE_MFA_EXEMPT_TAG", TAG, "FORCE_MFA_EXEMPT_TAG"),
    ] {
        let variables = [policy, (variable, value)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let environment = aws_sdk_lambda::types::Environment::builder();
        let environment = environment.set_variables(Some(variables.into())).build();
        let call = installation.lambda().update_function_configuration().function_name(FUNCTION);
        call.environment(environment).send().await.unwrap();
        ended(installation.begin("1s")).ends(2, word);
    }
    let variables = [policy].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(variables.into())).build();
    let call = installation.lambda().update_function_configuration().function_name(FUNCTION);
    call.environment(environment).send().await.unwrap();
    installation.run(&["doctor", "--canary"]).ends(2, "--yes");
    assert!(!installation.was_called("iam:CreateUser"));
}

/// Runs the command on a terminal, with an answer typed into it; exit code and screen.
#[cfg(target_os = "linux")]
fn on_a_terminal(installation: &Installation, arguments: &str, answer: &str) -> (i32, String) {
    use std::io::Write as _;

    let line =
        format!("stty cols 80; {} --endpoint-url {} {arguments}", env!("CARGO_BIN_EXE_force-mfa"), installation.url);
    let mut child = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("TERM", "xterm-256color")])
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_asks_before_it_creates() {
    let installation = Installation::deploy().await;
    let (code, screen) = on_a_terminal(&installation, "doctor --canary", "n\n");
    assert_eq!(code, 1, "{screen}");
    let words = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Account 123456789012: this creates the IAM user force-mfa-canary-"), "{screen}");
    assert!(words.contains("nothing was changed") && screen.contains("\x1b[32mok"), "{screen}");
    assert!(!installation.was_called("iam:CreateUser"));
}
