//! The operator's command from the outside: the built binary against an emulated account (moto), in pipes and on a
//! terminal.
//!
//! moto's server is `.venv/bin/moto_server` in the checkout, or the program that `FORCE_MFA_MOTO_SERVER` names.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const POLICY: &str = "arn:aws:iam::123456789012:policy/force-mfa";
const GROUP: &str = "force-mfa-overflow";
const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

/// An emulated account, which ends with the test.
struct Account {
    server: Child,
    port: u16,
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Account {
    fn new() -> Self {
        let program = moto_server();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("MOTO_ACCOUNT_ID", "123456789012")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
        let account = Self { server, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_mins(1), "moto's server does not listen after a minute");
            thread::sleep(Duration::from_millis(50));
        }
        account
    }

    /// The same, with the policy and the overflow group that carries it. Users made before it are existing ones.
    fn with_policy(self) -> Self {
        // moto's credential report knows whole seconds only: users and policy must not share one.
        thread::sleep(Duration::from_millis(1100));
        self.iam("CreatePolicy", &[("PolicyName", "force-mfa"), ("PolicyDocument", DOCUMENT)]);
        self.iam("CreateGroup", &[("GroupName", GROUP)]);
        self.iam("AttachGroupPolicy", &[("GroupName", GROUP), ("PolicyArn", POLICY)]);
        thread::sleep(Duration::from_millis(1100));
        self
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a call of one of AWS's query protocols, which has to succeed.
    fn call(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut form = format!("Action={action}");
        for (key, value) in parameters {
            form.extend(["&", key, "=", &percent_encoded(value)]);
        }
        let (status, body) = post(self.port, service, "Content-Type: application/x-www-form-urlencoded\r\n", &form);
        assert_eq!(status, 200, "{action}: {body}");
        body
    }

    fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.call("iam", action, parameters)
    }

    fn user(&self, name: &str) -> &Self {
        self.iam("CreateUser", &[("UserName", name)]);
        self
    }

    fn console_user(&self, name: &str) -> &Self {
        self.user(name).iam("CreateLoginProfile", &[("UserName", name), ("Password", "An-example-only-1")]);
        self
    }

    fn carries_policy(&self, user: &str) -> bool {
        self.iam("ListAttachedUserPolicies", &[("UserName", user)]).contains(POLICY)
    }

    /// The command, with this account's endpoint and credentials and nothing of the caller's environment.
    fn command(&self, arguments: &[&str]) -> Command {
        command(&self.url(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> Told {
        told(&mut self.command(arguments))
    }

    fn send(&self, queue: &str, body: &str) {
        self.call("sqs", "SendMessage", &[("QueueUrl", queue), ("MessageBody", body)]);
    }
}

fn moto_server() -> PathBuf {
    if let Some(program) = std::env::var_os("FORCE_MFA_MOTO_SERVER") {
        return program.into();
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
    assert!(
        program.exists(),
        "the tests of the command need moto's server: install tests/requirements.txt into .venv, or name the program in \
         FORCE_MFA_MOTO_SERVER"
    );
    program
}

fn percent_encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn post(port: u16, service: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}Authorization: AWS4-HMAC-SHA256 \
         Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_force-mfa"));
    command
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .args(["--endpoint-url", url])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// How a run ended, and what it said.
#[derive(Debug)]
struct Told {
    code: i32,
    out: String,
    err: String,
}

fn told(command: &mut Command) -> Told {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Told {
        code: status.code().expect("the command ends by itself"),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn ends(&self, code: i32, word_on_stderr: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(word_on_stderr), "{word_on_stderr:?} is not in {self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

/// Runs the command on a terminal of 80 columns, with the answers typed into it.
#[cfg(target_os = "linux")]
fn on_a_terminal(account: &Account, arguments: &[&str], answers: &str) -> (i32, String) {
    on_a_terminal_with(account, arguments, answers, &[])
}

#[cfg(target_os = "linux")]
fn on_a_terminal_with(
    account: &Account,
    arguments: &[&str],
    answers: &str,
    variables: &[(&str, &str)],
) -> (i32, String) {
    let line = [&[env!("CARGO_BIN_EXE_force-mfa"), "--endpoint-url", &account.url()], arguments].concat().join(" ");
    let mut child = Command::new("script")
        .args(["-qec", &format!("stty cols 80; {line}"), "/dev/null"])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) of util-linux is there");
    child.stdin.as_mut().unwrap().write_all(answers.as_bytes()).unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8_lossy(&stdout).into_owned())
}

/// A file of test events, by its place below `events`.
fn event(path: &str) -> String {
    format!("{}/events/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The event of alice having got a password.
fn alice_got_a_password() -> Value {
    let mut event: Value =
        serde_json::from_slice(&std::fs::read(event("attached/by_terraform.json")).unwrap()).unwrap();
    event["detail"]["requestParameters"]["userName"] = json!("alice");
    event["detail"]["responseElements"]["loginProfile"]["userName"] = json!("alice");
    event
}

fn coverage(status: &Value) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let users = status["users"].as_array().unwrap().iter();
    users.map(|user| (text(&user["user"]), (text(&user["coverage"]), text(&user["detail"])))).collect()
}

fn expected(rows: &[(&str, &str, &str)]) -> BTreeMap<String, (String, String)> {
    rows.iter().map(|(user, coverage, detail)| ((*user).into(), ((*coverage).into(), (*detail).into()))).collect()
}

#[test]
fn status_tells_of_every_console_user_how_it_is_covered() {
    let account = Account::new();
    account.console_user("carol.existing");
    let account = account.with_policy();
    account.console_user("alice").iam("AttachUserPolicy", &[("UserName", "alice"), ("PolicyArn", POLICY)]);
    account.console_user("bob").iam("AddUserToGroup", &[("UserName", "bob"), ("GroupName", GROUP)]);
    account.console_user("bob.new").console_user("break-glass-1").console_user("carol.tagged").user("ci");
    account.iam(
        "EnableMFADevice",
        &[
            ("UserName", "alice"),
            ("SerialNumber", "arn:aws:iam::123456789012:mfa/alice"),
            ("AuthenticationCode1", "123456"),
            ("AuthenticationCode2", "654321"),
        ],
    );
    let tag = [("UserName", "carol.tagged"), ("Tags.member.1.Key", "mfa-exempt"), ("Tags.member.1.Value", "true")];
    account.iam("TagUser", &tag);
    let settings = ["--policy-arn", POLICY, "--exempt-users", "break-glass-*", "--exempt-tag", "mfa-exempt=true"];
    let status = |arguments: &[&str]| account.run(&[&["status"], &settings[..], arguments].concat());

    let json = status(&["--format", "json"]);
    json.ends(1, "");
    let json = json.json();
    assert_eq!(
        coverage(&json),
        expected(&[
            ("alice", "direct", ""),
            ("bob", "group", GROUP),
            ("bob.new", "none", "new"),
            ("break-glass-1", "exempt", "FORCE_MFA_EXEMPT_USERS"),
            ("carol.existing", "none", "existing"),
            ("carol.tagged", "exempt", "FORCE_MFA_EXEMPT_TAG"),
        ])
    );
    assert_eq!(
        json["totals"],
        json!({"console_users": 6, "without_mfa": 5, "covered": 2, "exempt": 2, "uncovered": 2, "existing": 1})
    );
    assert_eq!((&json["account"], &json["policy_arn"]), (&json!("123456789012"), &json!(POLICY)));
    // moto's report is from 2015.
    assert!(json["report_age_s"].as_i64() > Some(0));
    assert_eq!(
        json["users"][0],
        json!({"user": "alice", "arn": "arn:aws:iam::123456789012:user/alice", "mfa": true, "coverage": "direct", "detail": ""})
    );
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["account", "policy_arn", "report_age_s", "totals", "users"], "and nothing else");

    // Rows are filtered, totals are not.
    let uncovered = status(&["--format", "json", "--uncovered"]).json();
    assert_eq!(coverage(&uncovered), expected(&[("bob.new", "none", "new"), ("carol.existing", "none", "existing")]));
    assert_eq!(uncovered["totals"], json["totals"]);

    let csv = status(&["--format", "csv"]);
    assert_eq!(csv.code, 1);
    assert_eq!(csv.out.lines().next(), Some("user,arn,mfa,coverage,detail"));
    assert_eq!(csv.out.lines().nth(1), Some("alice,arn:aws:iam::123456789012:user/alice,true,direct,"));
    assert_eq!(csv.out.lines().count(), 7);

    let table = status(&[]);
    assert_eq!(table.code, 1);
    let row: Vec<&str> = table.out.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row, ["bob", "no", "by", "group", GROUP]);
    assert!(table.out.contains("uncovered        2   1 existing (from before the policy), 1 new"), "{}", table.out);
    assert!(!table.out.contains('\x1b'), "no colour in a pipe");
    assert_eq!(table.err, "", "no bar in a pipe");

    // With everyone exempt, nobody is uncovered.
    assert_eq!(account.run(&["status", "--policy-arn", POLICY, "--exempt-users", "*"]).code, 0);
}

#[test]
fn policy_and_settings_come_from_flags_then_variables_then_the_stack_then_the_policys_name() {
    let account = Account::new();
    account.run(&["status"]).ends(1, "neither a stack force-mfa nor a policy force-mfa");

    // No stack: by name.
    let policy = account.iam("CreatePolicy", &[("PolicyName", "force-mfa"), ("PolicyDocument", DOCUMENT)]);
    assert!(policy.contains(POLICY));
    account.console_user("alice");
    let by_name = account.run(&["status", "--format", "json"]);
    by_name.ends(1, "No stack force-mfa in us-east-1");
    account.run(&["status", "--stack", "other"]).ends(2, "there is no stack other in us-east-1");
    assert_eq!(by_name.json()["policy_arn"], POLICY);

    // A stack, by its own name or a StackSet's: its policy and its parameters.
    let arn = "arn:aws:iam::123456789012:policy/guard/of-the-stack";
    account.iam("CreatePolicy", &[("PolicyName", "of-the-stack"), ("Path", "/guard/"), ("PolicyDocument", DOCUMENT)]);
    let template = json!({
        "Parameters": {"ExemptUsers": {"Type": "String"}, "Mode": {"Type": "String", "Default": "report"}},
        "Resources": {"Group": {"Type": "AWS::IAM::Group", "Properties": {"GroupName": "of-the-stack"}}},
        "Outputs": {"PolicyArn": {"Value": arn}},
    })
    .to_string();
    account.call(
        "cloudformation",
        "CreateStack",
        &[
            ("StackName", "StackSet-force-mfa-0123abcd"),
            ("TemplateBody", &template),
            ("Parameters.member.1.ParameterKey", "ExemptUsers"),
            ("Parameters.member.1.ParameterValue", "alice"),
        ],
    );
    let of_stack = account.run(&["status", "--format", "json"]);
    of_stack.ends(0, "");
    assert_eq!(of_stack.json()["policy_arn"], arn);
    assert_eq!(coverage(&of_stack.json()), expected(&[("alice", "exempt", "FORCE_MFA_EXEMPT_USERS")]));
    // The stack's mode holds for the command too: nothing is written, so nothing is asked.
    account.run(&["sweep", "--exempt-users", "bob"]).ends(1, "");
    assert!(!account.iam("ListAttachedUserPolicies", &[("UserName", "alice")]).contains(arn));

    // A variable goes before the stack, a flag before the variable.
    let mut with_variable = account.command(&["status", "--format", "json"]);
    let status = told(with_variable.env("FORCE_MFA_EXEMPT_USERS", "bob"));
    assert_eq!(coverage(&status.json())["alice"].0, "none");
    let mut with_both = account.command(&["status", "--format", "json", "--exempt-users", "al*"]);
    let status = told(with_both.env("FORCE_MFA_EXEMPT_USERS", "bob"));
    assert_eq!(coverage(&status.json())["alice"].0, "exempt");
    // Whoever names the policy has the stack left out of it.
    let status = account.run(&["status", "--format", "json", "--policy-arn", POLICY]);
    assert_eq!(coverage(&status.json())["alice"].0, "none");
}

/// A server that gives every request the same answer.
fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream, |_, _| Some(format!("HTTP/1.1 {status}\r\n\r\n{body}"))));
        }
    });
    url
}

/// Reads one request, has it answered, closes the connection.
fn answer(mut stream: TcpStream, with: impl Fn(&str, &str) -> Option<String>) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or_default() {
                if let Some(answer) = with(head, body) {
                    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                    let length = body.len();
                    let answer = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
                    let _ = stream.write_all(answer.as_bytes());
                }
                return;
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&part[..read]),
        }
    }
}

#[test]
fn what_keeps_it_from_starting_is_told_with_what_to_do() {
    let denied = answering(
        "403 Forbidden",
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>User bob is not authorized</Message></Error></ErrorResponse>",
    );
    let expired = answering(
        "403 Forbidden",
        "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error></ErrorResponse>",
    );
    let unknown = answering(
        "403 Forbidden",
        "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>Not valid</Message></Error></ErrorResponse>",
    );
    let policy = ["status", "--policy-arn", POLICY];
    told(&mut command(&denied, &policy)).ends(3, "Allow iam:GenerateCredentialReport to the identity");
    told(&mut command(&denied, &["status"])).ends(3, "Allow cloudformation:DescribeStacks");
    told(&mut command(&denied, &["status"])).ends(3, "Or give --policy-arn");
    told(&mut command(&expired, &policy)).ends(3, "The credentials have expired: sign in again");
    told(&mut command(&unknown, &policy)).ends(3, "AWS does not know these credentials");
    told(command(&denied, &policy).env_remove("AWS_ACCESS_KEY_ID")).ends(3, "no AWS credentials");
    told(&mut command(&denied, &["status", "--profile", "nobody"])).ends(3, "no AWS credentials in the profile nobody");

    let bad = ["status", "--mode", "Report", "--policy-arn", "force-mfa"];
    let bad = told(command(&denied, &bad).env("FORCE_MFA_EXEMPT_PATHS", "service"));
    bad.ends(2, "FORCE_MFA_MODE is \"Report\"; it takes enforce or report");
    bad.ends(2, "FORCE_MFA_POLICY_ARN is \"force-mfa\"");
    bad.ends(2, "FORCE_MFA_EXEMPT_PATHS is \"service\"");
    told(&mut command(&denied, &["status", "--endpoint-url", "localhost"])).ends(2, "must begin with http://");
    told(&mut command(&denied, &["stauts"])).ends(2, "similar subcommand exists: 'status'");
    told(&mut command(&denied, &["uninstall", "--yes"])).ends(2, "--account");
}

#[test]
fn sweep_covers_who_is_uncovered_and_asks_first() {
    let account = Account::new();
    account.console_user("carol.existing");
    let account = account.with_policy();
    account.console_user("alice").console_user("bob").user("ci");
    let sweep = |arguments: &[&str]| account.run(&[&["sweep", "--policy-arn", POLICY], arguments].concat());
    account
        .run(&["sweep", "--report", "--policy-arn", &POLICY.replace("force-mfa", "gone")])
        .ends(1, "a drift-aware change set brings it back");

    let report = sweep(&["--report", "--format", "json"]);
    assert_eq!(report.code, 1);
    let json = report.json();
    assert_eq!(
        (&json["outcome"], &json["mode"], &json["would_attach"]),
        (&json!("swept"), &json!("report"), &json!(2))
    );
    sweep(&[]).ends(2, "--yes");
    assert!(!account.carries_policy("alice"), "neither a report nor a question writes");

    let through = denying(&account, "AttachUserPolicy", "bob");
    let denied = told(&mut command(&through, &["sweep", "--yes", "--policy-arn", POLICY]));
    denied.ends(3, "");
    let line = "access_denied: user bob: iam:AttachUserPolicy: IAM answered AccessDenied. Allow iam:AttachUserPolicy to the identity";
    assert!(denied.out.contains(line), "{}", denied.out);
    assert!(account.carries_policy("alice"), "one user's failure does not stop the rest");
    account.iam("DetachUserPolicy", &[("UserName", "alice"), ("PolicyArn", POLICY)]);

    let swept = sweep(&["--yes", "--format", "json"]);
    swept.ends(1, "");
    let json = swept.json();
    for (key, count) in [("console_users", 3), ("covered", 0), ("attached", 2), ("existing", 1), ("exempt", 0)] {
        assert_eq!(json[key], count, "{key} in {json}");
    }
    assert_eq!((&json["complete"], &json["failed"]), (&json!(true), &json!([])));
    assert!(
        account.carries_policy("alice") && account.carries_policy("bob") && !account.carries_policy("carol.existing")
    );

    let all = sweep(&["--yes", "--existing-users", "enforce"]);
    all.ends(0, "");
    assert!(account.carries_policy("carol.existing") && !account.carries_policy("ci"));
    assert!(all.out.contains("attached              1"), "{}", all.out);
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_it_asks_colours_and_keeps_to_the_width() {
    let account = Account::new().with_policy();
    account.console_user("alice").console_user(&"b".repeat(64));
    let sweep = ["sweep", "--policy-arn", POLICY];

    let (code, said) = on_a_terminal(&account, &sweep, "n\n");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("2 of 2 console users would get") && said.contains("nothing was changed"), "{said}");
    assert!(!account.carries_policy("alice"));

    let (_, said) = on_a_terminal(&account, &["status", "--policy-arn", POLICY], "");
    assert!(said.contains("\x1b[31m"), "who is uncovered is red: {said:?}");
    let widest = said.lines().filter(|line| !line.contains('\x1b')).map(|line| line.trim_end().chars().count()).max();
    assert!(widest <= Some(80), "{said}");
    let (_, said) = on_a_terminal_with(&account, &["status", "--policy-arn", POLICY], "", &[("NO_COLOR", "1")]);
    assert!(said.contains("alice") && !said.contains("\x1b[31m"), "{said:?}");

    let (code, said) = on_a_terminal(&account, &sweep, "y\n");
    assert_eq!(code, 0, "{said}");
    assert!(account.carries_policy("alice"));

    let uninstall = ["uninstall", "--policy-arn", POLICY];
    let (code, said) = on_a_terminal(&account, &uninstall, "yes\n");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("Type the account number") && account.carries_policy("alice"), "{said}");
    let (code, said) = on_a_terminal(&account, &uninstall, "123456789012\n");
    assert_eq!(code, 0, "{said}");
    assert!(!account.carries_policy("alice"));
}

#[test]
fn replay_tells_of_each_file_what_came_of_it() {
    let account = Account::new().with_policy();
    account.console_user("alice").console_user("ci");
    let directory = std::env::temp_dir().join(format!("force-mfa-replay-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("below")).unwrap();
    let write = |name: &str, payload: &Value| std::fs::write(directory.join(name), payload.to_string()).unwrap();
    write("a.json", &alice_got_a_password());
    write("below/b.json", &json!({"requestPayload": alice_got_a_password(), "version": "1.0"}));
    std::fs::write(directory.join("notes.txt"), "no payload").unwrap();
    let path = directory.to_str().unwrap();
    let replay = |arguments: &[&str]| account.run(&[&["replay", "--policy-arn", POLICY], arguments].concat());

    replay(&[path]).ends(2, "--yes");
    let report = replay(&["--report", path]);
    report.ends(0, "2 handled, 0 failed");
    assert_eq!(report.out, format!("{path}/a.json: would_attach alice\n{path}/below/b.json: would_attach alice\n"));
    assert!(!account.carries_policy("alice"));

    let done = replay(&["--yes", path]);
    done.ends(0, "2 handled, 0 failed");
    assert!(done.out.contains("a.json: attached alice\n"), "{}", done.out);
    assert!(account.carries_policy("alice"));

    write("c.json", &json!({"users": []}));
    write("d.json", &json!({"sweep": {"mode": "report"}}));
    let failed = replay(&["--yes", path]);
    failed.ends(1, "3 handled, 1 failed");
    assert!(failed.out.contains("c.json: FAILED unrecognised_payload: "), "{}", failed.out);
    assert!(failed.out.contains("d.json: swept: 0 attached, 0 added to group, 1 would be attached"), "{}", failed.out);
    assert_eq!(failed.out.lines().count(), 4, "one line a file: {}", failed.out);

    // Nothing is handled if a path is mistyped.
    replay(&["--report", path, "mistyped.json"]).ends(2, "mistyped.json");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn redrive_deletes_what_succeeded_and_nothing_else() {
    let account = Account::new().with_policy();
    account.console_user("alice");
    account.call("sqs", "CreateQueue", &[("QueueName", "force-mfa-failures")]);
    let queue = format!("{}/123456789012/force-mfa-failures", account.url());
    let mut of_another_account = alice_got_a_password();
    of_another_account["account"] = json!("000000000012");
    account.send(&queue, &alice_got_a_password().to_string());
    account.send(&queue, &json!({"requestPayload": alice_got_a_password()}).to_string());
    account.send(&queue, "no payload");
    account.send(&queue, &of_another_account.to_string());
    let waiting = || {
        let answer = account.call(
            "sqs",
            "GetQueueAttributes",
            &[("QueueUrl", &queue), ("AttributeName.1", "ApproximateNumberOfMessages")],
        );
        answer.split("<Value>").nth(1).unwrap().split('<').next().unwrap().parse::<usize>().unwrap()
    };
    let redrive = |arguments: &[&str]| {
        account.run(&[&["redrive", "--policy-arn", POLICY, "--queue", &queue], arguments].concat())
    };

    redrive(&[]).ends(2, "--yes");
    let report = redrive(&["--report"]);
    report.ends(1, "3 handled, 1 failed; 4 message(s) stay in the queue");
    assert_eq!((waiting(), account.carries_policy("alice")), (4, false), "{report:?}");

    let done = redrive(&["--yes"]);
    done.ends(1, "2 message(s) stay in the queue");
    assert_eq!(done.out.lines().count(), 4, "each message once: {}", done.out);
    assert_eq!(done.out.matches("attached alice").count(), 2, "{}", done.out);
    assert!(done.out.contains("FAILED unrecognised_payload") && done.out.contains("other_account"), "{}", done.out);
    assert_eq!((waiting(), account.carries_policy("alice")), (2, true), "what failed is there at once");

    let missing = format!("{}/123456789012/other", account.url());
    account
        .run(&["redrive", "--policy-arn", POLICY, "--yes", "--queue", &missing])
        .ends(1, "sqs:ReceiveMessage: AWS answered");
}

/// What a rule could not hand over is the schedule's own event.
#[test]
fn redrive_of_a_schedules_dead_letter_sweeps() {
    let account = Account::new().with_policy();
    account.console_user("alice");
    account.call("sqs", "CreateQueue", &[("QueueName", "force-mfa-rule-dead-letters")]);
    let queue = format!("{}/123456789012/force-mfa-rule-dead-letters", account.url());
    account.send(&queue, include_str!("../events/swept/a_scheduled_event.json"));
    let done = account.run(&["redrive", "--policy-arn", POLICY, "--yes", "--queue", &queue]);
    done.ends(0, "0 message(s) stay in the queue");
    assert!(done.out.contains("swept: 1 attached"), "{}", done.out);
    assert!(account.carries_policy("alice"));
}

/// Passes everything on to the account, but denies the action for the user.
fn denying(account: &Account, action: &'static str, user: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let port = account.port;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                answer(stream, |head, body| {
                    if body.contains(&format!("Action={action}&")) && body.contains(&format!("UserName={user}&")) {
                        let error = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
                        return Some(format!("HTTP/1.1 403 Forbidden\r\n\r\n{error}"));
                    }
                    let header = |name: &str| {
                        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
                        Some(format!("{line}\r\n"))
                    };
                    let headers: String = ["content-type: ", "x-amz-target: "].into_iter().filter_map(header).collect();
                    let service = head.split("/us-east-1/").nth(1)?.split('/').next()?;
                    let (status, body) = post(port, service, &headers, body);
                    Some(format!("HTTP/1.1 {status} x\r\n\r\n{body}"))
                });
            });
        }
    });
    url
}

#[test]
fn uninstall_leaves_nothing_behind_also_after_a_failure_half_way() {
    let account = Account::new().with_policy();
    for user in ["alice", "bob", "carol"] {
        account.console_user(user).iam("AttachUserPolicy", &[("UserName", user), ("PolicyArn", POLICY)]);
    }
    account.iam("AddUserToGroup", &[("UserName", "carol"), ("GroupName", GROUP)]);
    account.iam("CreateGroup", &[("GroupName", "admins")]);
    account.iam("AttachGroupPolicy", &[("GroupName", "admins"), ("PolicyArn", POLICY)]);
    account.iam("AddUserToGroup", &[("UserName", "bob"), ("GroupName", "admins")]);
    account
        .iam("CreatePolicyVersion", &[("PolicyArn", POLICY), ("PolicyDocument", DOCUMENT), ("SetAsDefault", "true")]);
    let put_rule = |state: &str| {
        let rule =
            json!({"Name": "force-mfa-console-users", "EventPattern": "{\"source\": [\"aws.iam\"]}", "State": state});
        let headers = "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: AWSEvents.PutRule\r\n";
        assert_eq!(post(account.port, "events", headers, &rule.to_string()).0, 200);
    };
    let yes = ["uninstall", "--yes", "--account", "123456789012"];

    // While the stack is there it is refused, dry run or not.
    put_rule("ENABLED");
    account.run(&["uninstall", "--dry-run"]).ends(1, "force-mfa-console-users");
    account.run(&yes).ends(1, "Delete the stack first");
    assert!(account.carries_policy("alice"));
    put_rule("DISABLED");

    let dry = account.run(&["uninstall", "--dry-run"]);
    dry.ends(0, "nothing was changed");
    for step in ["user bob", "group admins", "user carol from group", "delete version v1", "delete policy arn:"] {
        assert!(dry.out.contains(step), "{step:?} is not in {}", dry.out);
    }
    account.run(&["uninstall"]).ends(2, "--account NUMBER");
    account.run(&["uninstall", "--yes", "--account", "000000000012"]).ends(2, "nothing was done");
    assert!(account.carries_policy("alice") && account.carries_policy("bob"));

    // Half-way: bob cannot be detached. Everyone else is; group and policy stay for the next run.
    let half = told(&mut command(&denying(&account, "DetachUserPolicy", "bob"), &yes));
    half.ends(3, "FAILED bob: iam:DetachUserPolicy");
    assert!(!account.carries_policy("alice") && account.carries_policy("bob"), "{half:?}");
    assert!(!half.out.contains("deleted policy"), "{half:?}");

    let rest = account.run(&yes);
    rest.ends(0, "");
    assert!(rest.out.contains(&format!("deleted policy {POLICY}")), "{rest:?}");
    assert!(!account.carries_policy("bob"));
    let groups = account.iam("ListGroups", &[]);
    assert!(groups.contains("admins") && !groups.contains(GROUP), "the other group stays: {groups}");
    assert!(account.iam("GetGroup", &[("GroupName", "admins")]).contains("bob"), "with its members");
    assert!(!account.iam("ListPolicies", &[("Scope", "Local")]).contains(POLICY));

    let again = account.run(&yes);
    again.ends(0, "");
    assert!(again.out.contains("Nothing to uninstall"), "{again:?}");
}

#[test]
fn uninstall_keeps_what_others_use() {
    let account = Account::new().with_policy();
    let role = [("RoleName", "audit"), ("AssumeRolePolicyDocument", DOCUMENT)];
    account.iam("CreateRole", &role);
    account.iam("AttachRolePolicy", &[("RoleName", "audit"), ("PolicyArn", POLICY)]);
    account.console_user("alice").iam("AddUserToGroup", &[("UserName", "alice"), ("GroupName", GROUP)]);
    account.iam("PutGroupPolicy", &[("GroupName", GROUP), ("PolicyName", "more"), ("PolicyDocument", DOCUMENT)]);

    let kept = account.run(&["uninstall", "--yes", "--account", "123456789012"]);
    kept.ends(1, "it is attached to role audit");
    assert!(kept.out.contains("keep overflow group"), "{kept:?}");
    assert!(account.iam("GetGroup", &[("GroupName", GROUP)]).contains("alice"));
    assert!(account.iam("ListPolicies", &[("Scope", "Local")]).contains(POLICY));
    assert!(!account.iam("ListAttachedGroupPolicies", &[("GroupName", GROUP)]).contains(POLICY));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let account = Account::new().with_policy();
    account.console_user("alice");
    let mut child = account
        .command(&["sweep", "--yes", "--policy-arn", POLICY])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), String::from_utf8_lossy(&stderr).as_ref()), (Some(0), ""));
    assert!(account.carries_policy("alice"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_in_order() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    // An IAM that takes its time over everything.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            CALLS.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                thread::sleep(Duration::from_mins(1));
                drop(stream);
            });
        }
    });
    let mut child = command(&url, &["status", "--policy-arn", POLICY]).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while CALLS.load(Ordering::Relaxed) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the command never calls");
        thread::sleep(Duration::from_millis(20));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(130), "force-mfa: stopped; nothing was changed\n"));
}

#[test]
fn help_and_completions_need_no_account() {
    let offline = "http://127.0.0.1:9";
    for verb in ["status", "sweep", "replay", "redrive", "uninstall", "completions"] {
        let help = told(&mut command(offline, &[verb, "--help"]));
        assert_eq!(help.code, 0);
        assert!(help.out.contains("Examples:"), "{verb}: {}", help.out);
    }
    assert!(told(&mut command(offline, &["--help"])).out.contains("Exit codes:"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = told(&mut command(offline, &["completions", shell]));
        assert_eq!(script.code, 0);
        assert!(script.out.contains("uninstall"), "{shell}");
    }
}
