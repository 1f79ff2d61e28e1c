//! Runs the built command against an emulated account (moto's server), in pipes and on a terminal.
//!
//! moto's server is `.venv/bin/moto_server` in the checkout, or the program that `FORCE_MFA_MOTO_SERVER` names.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]
#![allow(clippy::pedantic, reason = "test support reads better plain")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub const POLICY: &str = "arn:aws:iam::123456789012:policy/force-mfa";
pub const GROUP: &str = "force-mfa-overflow";
/// The policy that a stack with this `NamePrefix` has.
pub fn policy(prefix: &str) -> String {
    format!("arn:aws:iam::123456789012:policy/{prefix}")
}

/// A policy that forces MFA.
pub const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny",
    "NotAction":["iam:CreateVirtualMFADevice","iam:EnableMFADevice"],"Resource":"*",
    "Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}}]}"#;

/// An emulated account, which ends with the test.
pub struct Account {
    server: Child,
    pub port: u16,
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Account {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The same, with further arguments for moto's server.
    pub fn with(arguments: &[&str]) -> Self {
        let program = moto_server();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            // If it is set, every call is made in this one account, whatever its credentials are of.
            .env_remove("MOTO_ACCOUNT_ID")
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
    pub fn with_policy(self) -> Self {
        self.with_policy_of("force-mfa")
    }

    /// The same, as a stack with this `NamePrefix` names them.
    pub fn with_policy_of(self, prefix: &str) -> Self {
        // moto's credential report knows whole seconds only: users and policy must not share one.
        thread::sleep(Duration::from_millis(1100));
        self.iam("CreatePolicy", &[("PolicyName", prefix), ("PolicyDocument", DOCUMENT)]);
        let group = format!("{prefix}-overflow");
        self.iam("CreateGroup", &[("GroupName", &group)]);
        self.iam("AttachGroupPolicy", &[("GroupName", &group), ("PolicyArn", &policy(prefix))]);
        thread::sleep(Duration::from_millis(1100));
        self
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a call of one of AWS's query protocols, which has to succeed.
    pub fn call(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut form = format!("Action={action}");
        for (key, value) in parameters {
            form.extend(["&", key, "=", &percent_encoded(value)]);
        }
        let (status, body) = post(self.port, service, FORM, &form);
        assert_eq!(status, 200, "{action}: {body}");
        body
    }

    pub fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.call("iam", action, parameters)
    }

    pub fn user(&self, name: &str) -> &Self {
        self.iam("CreateUser", &[("UserName", name)]);
        self
    }

    pub fn console_user(&self, name: &str) -> &Self {
        self.user(name).iam("CreateLoginProfile", &[("UserName", name), ("Password", "An-example-only-1")]);
        self
    }

    pub fn carries_policy(&self, user: &str) -> bool {
        self.carries(user, POLICY)
    }

    pub fn carries(&self, user: &str, policy: &str) -> bool {
        self.iam("ListAttachedUserPolicies", &[("UserName", user)]).contains(&format!("{policy}<"))
    }

    /// Creates an access key, and makes a call with it.
    pub fn use_new_key(&self, user: &str) {
        let answer = self.iam("CreateAccessKey", &[("UserName", user)]);
        let key = answer.split("<AccessKeyId>").nth(1).unwrap().split('<').next().unwrap();
        let (status, body) = post_as(key, self.port, "sts", FORM, "Action=GetCallerIdentity");
        assert_eq!(status, 200, "{body}");
    }

    /// The command, with this account's endpoint and credentials and nothing of the caller's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command(&self.url(), arguments)
    }

    pub fn run(&self, arguments: &[&str]) -> Told {
        told(&mut self.command(arguments))
    }

    pub fn send(&self, queue: &str, body: &str) {
        self.call("sqs", "SendMessage", &[("QueueUrl", queue), ("MessageBody", body)]);
    }
}

pub fn moto_server() -> PathBuf {
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

pub fn percent_encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The header of the query protocol.
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

pub fn post(port: u16, service: &str, headers: &str, body: &str) -> (u16, String) {
    post_as("test", port, service, headers, body)
}

/// Makes a call at moto's server with this access key.
pub fn post_as(key: &str, port: u16, service: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}Authorization: AWS4-HMAC-SHA256 \
         Credential={key}/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub fn command(url: &str, arguments: &[&str]) -> Command {
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
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn told(command: &mut Command) -> Told {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Told {
        code: status.code().expect("the command ends by itself"),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

impl Told {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn ends(&self, code: i32, word_on_stderr: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(word_on_stderr), "{word_on_stderr:?} is not in {self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

/// Runs the command on a terminal of 80 columns, with the answers typed into it.
#[cfg(target_os = "linux")]
pub fn on_a_terminal(account: &Account, arguments: &[&str], answers: &str) -> (i32, String) {
    on_a_terminal_with(account, arguments, answers, &[])
}

#[cfg(target_os = "linux")]
pub fn on_a_terminal_with(
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

/// A server that gives every request the same answer.
pub fn answering(status: &'static str, body: &'static str) -> String {
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
pub fn answer(mut stream: TcpStream, with: impl Fn(&str, &str) -> Option<String>) {
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

/// A server that answers what `intercept` answers, and passes everything else on to the account.
pub fn in_front_of(
    account: &Account,
    intercept: impl Fn(&str, &str) -> Option<String> + Clone + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let port = account.port;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let intercept = intercept.clone();
            thread::spawn(move || {
                answer(stream, |head, body| intercept(head, body).or_else(|| pass_on(port, head, body)))
            });
        }
    });
    url
}

fn pass_on(port: u16, head: &str, body: &str) -> Option<String> {
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(format!("{line}\r\n"))
    };
    let headers: String = ["content-type: ", "x-amz-target: "].into_iter().filter_map(header).collect();
    let service = head.split("/us-east-1/").nth(1)?.split('/').next()?;
    let (status, body) = post(port, service, &headers, body);
    Some(format!("HTTP/1.1 {status} x\r\n\r\n{body}"))
}

/// Passes everything on to the account, but denies the action for the user.
pub fn denying(account: &Account, action: &'static str, user: &'static str) -> String {
    in_front_of(account, move |_, body| {
        let has = |pair: String| body.split('&').any(|parameter| parameter == pair);
        let is_meant = has(format!("Action={action}")) && has(format!("UserName={user}"));
        is_meant
            .then(|| error("AccessDenied", "User bob is not authorized").replace("400 Bad Request", "403 Forbidden"))
    })
}

/// An error as the query protocol has it.
pub fn error(code: &str, message: &str) -> String {
    let error = format!("<Code>{code}</Code><Message>{message}</Message>");
    format!("HTTP/1.1 400 Bad Request\r\n\r\n<ErrorResponse><Error>{error}</Error></ErrorResponse>")
}

/// A stack as CloudFormation shows it.
#[derive(Clone, Debug)]
pub struct StackAnswer {
    pub name: &'static str,
    pub prefix: &'static str,
    pub status: &'static str,
    pub parameters: Vec<(&'static str, &'static str)>,
    pub outputs: Vec<(&'static str, String)>,
}

impl StackAnswer {
    /// A finished stack of the account template.
    pub fn new(name: &'static str, parameters: &[(&'static str, &'static str)]) -> Self {
        Self::with_prefix(name, "force-mfa", parameters)
    }

    /// The same with this `NamePrefix`.
    pub fn with_prefix(name: &'static str, prefix: &'static str, parameters: &[(&'static str, &'static str)]) -> Self {
        let outputs = vec![
            ("PolicyArn", policy(prefix)),
            ("OverflowGroupName", format!("{prefix}-overflow")),
            ("FunctionName", prefix.to_owned()),
        ];
        // A stack shows each of its parameters, also those that were not given.
        let all = [
            ("Mode", "enforce"),
            ("Scope", "console-users"),
            ("ExistingUsers", "report"),
            ("ExemptUsers", ""),
            ("ExemptPaths", ""),
            ("ExemptTag", ""),
            ("NamePrefix", prefix),
        ];
        let given = |key: &str| parameters.iter().copied().find(|(parameter, _)| *parameter == key);
        let parameters = all.into_iter().map(|parameter| given(parameter.0).unwrap_or(parameter)).collect();
        Self { name, prefix, status: "CREATE_COMPLETE", parameters, outputs }
    }

    /// The account, with this stack as its only one. The stack has the function and the policy of its prefix.
    pub fn in_front_of(self, account: &Account) -> String {
        in_front_of(account, move |_, body| self.answer(body))
    }

    /// The answer to a call of CloudFormation.
    pub fn answer(&self, body: &str) -> Option<String> {
        let form = |key: &str| {
            let value = body.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            value.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
        };
        let id = format!("arn:aws:cloudformation:us-east-1:123456789012:stack/{}/1", self.name);
        match form("Action").as_deref()? {
            "DescribeStacks" => Some(match form("StackName") {
                Some(asked) if asked == self.name || asked == id => self.xml(&id),
                asked => {
                    error("ValidationError", &format!("Stack with id {} does not exist", asked.unwrap_or_default()))
                }
            }),
            "DescribeStackResources" => Some(match form("PhysicalResourceId") {
                Some(asked) if asked == self.prefix || asked == policy(self.prefix) => format!(
                    "HTTP/1.1 200 OK\r\n\r\n<DescribeStackResourcesResponse><DescribeStackResourcesResult><StackResources>\
                     <member><StackId>{id}</StackId></member>\
                     </StackResources></DescribeStackResourcesResult></DescribeStackResourcesResponse>"
                ),
                asked => error("ValidationError", &format!("Stack for {} does not exist", asked.unwrap_or_default())),
            }),
            _ => None,
        }
    }

    fn xml(&self, id: &str) -> String {
        fn members<T: std::fmt::Display>(kind: &str, pairs: &[(&str, T)]) -> String {
            let member = |(key, value): &(&str, T)| {
                format!("<member><{kind}Key>{key}</{kind}Key><{kind}Value>{value}</{kind}Value></member>")
            };
            pairs.iter().map(member).collect()
        }
        format!(
            "HTTP/1.1 200 OK\r\n\r\n<DescribeStacksResponse><DescribeStacksResult><Stacks><member>\
             <StackName>{}</StackName><StackId>{id}</StackId><CreationTime>2026-01-01T00:00:00Z</CreationTime>\
             <StackStatus>{}</StackStatus><Parameters>{}</Parameters><Outputs>{}</Outputs>\
             </member></Stacks></DescribeStacksResult></DescribeStacksResponse>",
            self.name,
            self.status,
            members("Parameter", &self.parameters),
            members("Output", &self.outputs),
        )
    }
}
