//! `force-mfa status --organization` on a large organization: time, memory and calls, against a stub of AWS that answers
//! after 20 ms. The stub is in this file. It has no opinion on times: see docs/speed.md for what they should be.

#![allow(clippy::pedantic, reason = "a stub reads better plain")]

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const LATENCY: Duration = Duration::from_millis(20);
/// The operator's own account; the numbers of the others follow.
const OWN: usize = 100_000_000_000;
/// As many as Organizations gives at once.
const PAGE: usize = 20;

/// The policy of the account template, in the account 123456789012.
const POLICY: &str = include_str!("../src/bin/force-mfa/commands/doctor/checks/enforcing.json");

struct Organization {
    users: usize,
    accounts: Vec<Account>,
}

#[derive(Default)]
struct Account {
    calls: AtomicUsize,
    report_started: AtomicBool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    println!("accounts  users each  format     time    memory  calls an account");
    for (accounts, users, format) in [(500, 40, "json"), (1000, 40, "json"), (2000, 50, "html")] {
        let organization =
            Arc::new(Organization { users, accounts: (0..accounts).map(|_| Account::default()).collect() });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let serving = runtime.spawn(serve(listener, Arc::clone(&organization)));
        let (time, kibibytes, output) = measure(&url, format)?;
        serving.abort();
        let most = organization.accounts.iter().map(|account| account.calls.load(Ordering::Relaxed)).max();
        println!(
            "{accounts:>8}  {users:>10}  {format:<6}  {:>6.1} s  {:>6} MB  {:>16}",
            time.as_secs_f64(),
            kibibytes / 1024,
            most.unwrap_or_default()
        );
        if format == "html" {
            open_in_browser(&output)?;
        }
    }
    Ok(())
}

/// Runs the command: its time, the most memory that it had, and what it printed.
fn measure(url: &str, format: &str) -> Result<(Duration, u64, String), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_force-mfa"))
        .args(["--endpoint-url", url, "status", "--organization", "--format", format])
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut stdout = child.stdout.take().ok_or("no stdout")?;
    let reader = std::thread::spawn(move || {
        let mut output = String::new();
        stdout.read_to_string(&mut output).map(|_| output)
    });
    let mut most = 0;
    while child.try_wait()?.is_none() {
        // The kernel keeps the peak. It is gone with the process, so that the last look is the one that counts.
        let now = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = now.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(peak.unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    let time = begun.elapsed();
    Ok((time, most, reader.join().map_err(|_| "the reader panicked")??))
}

/// How long a browser takes to open the page, if there is one.
fn open_in_browser(page: &str) -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::temp_dir().join(format!("force-mfa-bench-{}.html", std::process::id()));
    std::fs::write(&file, page)?;
    println!("the page of {} MB in a browser:", page.len() / 1_000_000);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/open.mjs");
    let opened = Command::new("node").arg(script).arg(&file).status();
    std::fs::remove_file(&file)?;
    if !opened.is_ok_and(|status| status.success()) {
        println!("not opened: this needs Node.js, chromium on the PATH and `make page-tools`");
    }
    Ok(())
}

async fn serve(listener: TcpListener, organization: Arc<Organization>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, Arc::clone(&organization)));
    }
}

/// Answers the requests of one connection until the client closes it.
async fn connection(stream: TcpStream, organization: Arc<Organization>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut key, mut target) = (0, String::new(), String::new());
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(": ") else { continue };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => key = value.split("Credential=").nth(1)?.split('/').next()?.to_owned(),
                "x-amz-target" => target = value.split('.').nth(1)?.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let body = String::from_utf8(body).ok()?;
        tokio::time::sleep(LATENCY).await;
        let (status, answer) = organization.answer(&key, &target, &body);
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

impl Organization {
    fn answer(&self, key: &str, target: &str, body: &str) -> (u16, String) {
        let form = |name: &str| {
            let value = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().replace("%3A", ":").replace("%2F", "/")
        };
        if target == "ListAccounts" {
            return (200, self.page(body));
        }
        let action = form("Action");
        let number = match action.as_str() {
            "AssumeRole" => form("RoleArn").split(':').nth(4).and_then(|id| id.parse().ok()),
            _ => key.strip_prefix("ASIA").and_then(|id| id.parse().ok()),
        };
        let place = number.unwrap_or(OWN) - OWN;
        self.accounts[place].calls.fetch_add(1, Ordering::Relaxed);
        self.in_account(place, &action)
    }

    /// A page of the accounts. Its token is the place where it begins.
    fn page(&self, body: &str) -> String {
        let from: usize =
            body.split("\"NextToken\":\"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok()).unwrap_or(0);
        let to = (from + PAGE).min(self.accounts.len());
        let account = |place: usize| {
            let id = OWN + place;
            format!(
                r#"{{"Id":"{id}","Arn":"arn:aws:organizations::{OWN}:account/o-example/{id}","Name":"account-{place}","State":"ACTIVE"}}"#
            )
        };
        let accounts = (from..to).map(account).collect::<Vec<_>>().join(",");
        let next = if to < self.accounts.len() { format!(r#","NextToken":"{to}""#) } else { String::new() };
        format!(r#"{{"Accounts":[{accounts}]{next}}}"#)
    }

    fn in_account(&self, place: usize, action: &str) -> (u16, String) {
        let id = OWN + place;
        let policy = format!("arn:aws:iam::{id}:policy/force-mfa");
        let result = match action {
            "GetCallerIdentity" => format!("<Account>{OWN}</Account><Arn>arn:aws:iam::{OWN}:user/auditor</Arn>"),
            "AssumeRole" => format!(
                "<Credentials><AccessKeyId>ASIA{id}</AccessKeyId><SecretAccessKey>example</SecretAccessKey>\
                 <SessionToken>example</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            ),
            "DescribeStacks" => stack(&policy),
            "GenerateCredentialReport" => {
                let was_started = self.accounts[place].report_started.swap(true, Ordering::Relaxed);
                format!("<State>{}</State>", if was_started { "COMPLETE" } else { "STARTED" })
            }
            "GetCredentialReport" => {
                format!("<Content>{}</Content><GeneratedTime>2026-06-01T00:00:00Z</GeneratedTime>", self.report(id))
            }
            "GetPolicy" => format!(
                "<Policy><Arn>{policy}</Arn><DefaultVersionId>v1</DefaultVersionId>\
                 <CreateDate>2026-05-01T00:00:00Z</CreateDate></Policy>"
            ),
            "GetPolicyVersion" => {
                // IAM encodes the document as a part of a URL.
                let policy = POLICY.replace("123456789012", &id.to_string());
                let text: String = policy.bytes().map(|byte| format!("%{byte:02X}")).collect();
                format!("<PolicyVersion><VersionId>v1</VersionId><Document>{text}</Document></PolicyVersion>")
            }
            // Every fourth user is without the policy, and older than it.
            "ListEntitiesForPolicy" => {
                let users = (0..self.users).filter(|user| user % 4 > 0);
                let users: String =
                    users.map(|user| format!("<member><UserName>user-{user}</UserName></member>")).collect();
                format!(
                    "<PolicyUsers>{users}</PolicyUsers><PolicyGroups><member><GroupName>force-mfa-overflow</GroupName>\
                     </member></PolicyGroups><IsTruncated>false</IsTruncated>"
                )
            }
            "GetGroup" => "<Users></Users><IsTruncated>false</IsTruncated>".to_owned(),
            "ListUsers" => {
                let user = |user| {
                    format!(
                        "<member><UserName>user-{user}</UserName><Path>/</Path><Arn>{}</Arn><UserId>AIDAEXAMPLE</UserId>\
                         <CreateDate>2026-01-01T00:00:00Z</CreateDate></member>",
                        arn(id, user)
                    )
                };
                let users: String = (0..self.users).map(user).collect();
                format!("<Users>{users}</Users><IsTruncated>false</IsTruncated>")
            }
            other => {
                return (
                    400,
                    format!(
                        "<ErrorResponse><Error><Code>NotStubbed</Code><Message>{other}</Message></Error></ErrorResponse>"
                    ),
                );
            }
        };
        (200, format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"))
    }

    /// The credential report, as IAM sends it.
    fn report(&self, id: usize) -> String {
        let mut csv = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,\
                       password_next_rotation,mfa_active,access_key_1_active,access_key_1_last_used_date,\
                       access_key_2_active,access_key_2_last_used_date"
            .to_owned();
        for user in 0..self.users {
            csv.push_str(&format!(
                "\nuser-{user},{},2026-01-01T00:00:00Z,true,2026-05-01T00:00:00Z,2026-01-01T00:00:00Z,N/A,true,false,N/A,\
                 false,N/A",
                arn(id, user)
            ));
        }
        aws_smithy_types::base64::encode(csv)
    }
}

fn arn(id: usize, user: usize) -> String {
    format!("arn:aws:iam::{id}:user/user-{user}")
}

fn stack(policy: &str) -> String {
    let parameters =
        ["Mode=enforce", "Scope=console-users", "ExistingUsers=report", "ExemptUsers=", "ExemptPaths=", "ExemptTag="];
    let parameter = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        format!("<member><ParameterKey>{key}</ParameterKey><ParameterValue>{value}</ParameterValue></member>")
    };
    let parameters: String = parameters.into_iter().map(parameter).collect();
    let output = |(key, value): (&str, &str)| {
        format!("<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>")
    };
    let outputs = [("PolicyArn", policy), ("FunctionName", "force-mfa"), ("OverflowGroupName", "force-mfa-overflow")];
    let outputs: String = outputs.into_iter().map(output).collect();
    format!(
        "<Stacks><member><StackName>force-mfa</StackName><StackStatus>CREATE_COMPLETE</StackStatus>\
         <CreationTime>2026-01-01T00:00:00Z</CreationTime><Parameters>{parameters}</Parameters>\
         <Outputs>{outputs}</Outputs></member></Stacks>"
    )
}
