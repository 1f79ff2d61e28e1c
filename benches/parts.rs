//! The parts of the function, in-process: an event read and decided, and an account read and planned.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_iam::config::{Credentials, SharedCredentialsProvider};
use criterion::{Criterion, criterion_group, criterion_main};
use force_mfa::enforce::Enforcer;
use force_mfa::handler::Handler;
use force_mfa::iam::Iam;
use force_mfa::outcome::Outcome;
use force_mfa::settings::Settings;
use force_mfa::sweep::sweep;
use tokio::runtime::Runtime;
use tokio::time::Instant;

const USERS: usize = 5000;
const CONSOLE_USERS: usize = 3000;
const UNCOVERED: usize = 10;

criterion_group!(benches, event, account);
criterion_main!(benches);

/// In report mode a new login profile is decided without a call: what is left is the function's own work.
fn event(criterion: &mut Criterion) {
    let payload = include_str!("event.json").replace("{user}", "alice");
    let runtime = runtime();
    let handler = Handler::new(settings(), iam(&runtime, "http://127.0.0.1:9"));
    let until = Instant::now() + Duration::from_hours(1);
    criterion.bench_function("read, decide and tell an event", |bencher| {
        bencher.iter(|| {
            let done = runtime.block_on(handler.handle(black_box(payload.as_bytes()), until));
            assert!(matches!(done.result, Ok(Outcome::WouldAttach { .. })));
            (done.reply(), done.metrics())
        });
    });
}

/// A whole sweep in report mode, with IAM on loopback: more than its planning, so an upper bound of it.
fn account(criterion: &mut Criterion) {
    let runtime = runtime();
    let iam = iam(&runtime, &serve(answers()));
    let enforcer = Enforcer { settings: settings(), iam, waits: Vec::new() };
    let until = Instant::now() + Duration::from_hours(1);
    criterion.bench_function("read and plan an account of 5,000 users", |bencher| {
        bencher.iter(|| {
            let report = runtime.block_on(sweep(&enforcer, until, |_, _| {})).unwrap();
            assert_eq!((report.console_users, report.would_attach), (CONSOLE_USERS, UNCOVERED));
        });
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn settings() -> Settings {
    Settings::read(|variable| {
        let value = match variable {
            "FORCE_MFA_POLICY_ARN" => "arn:aws:iam::123456789012:policy/force-mfa",
            "FORCE_MFA_MODE" => "report",
            "FORCE_MFA_EXEMPT_USERS" => "break-glass-*,ci",
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap()
}

fn iam(runtime: &Runtime, endpoint: &str) -> Iam {
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None, None, "");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .build();
    runtime.block_on(Iam::new(&config))
}

/// IAM's answers by action and marker.
type Answers = HashMap<(String, usize), String>;

fn answers() -> Answers {
    let name = |n| if n < CONSOLE_USERS { format!("user-{n:04}") } else { format!("service-{n:04}") };
    let mut report = "user,arn,user_creation_time,password_enabled,password_last_changed,mfa_active\n".to_owned();
    for (n, user) in (0..USERS).map(|n| (n, name(n))) {
        let console = n < CONSOLE_USERS;
        writeln!(
            report,
            "{user},arn:aws:iam::123456789012:user/staff/{user},2026-01-01T00:00:00+00:00,{console},2026-01-01T00:00:00+00:00,{}",
            n % 2 == 0
        )
        .unwrap();
    }
    let report = aws_smithy_types::base64::encode(report);
    let single = [
        ("GenerateCredentialReport", "<State>COMPLETE</State>".to_owned()),
        (
            "GetCredentialReport",
            format!("<Content>{report}</Content><GeneratedTime>2026-01-01T00:00:00Z</GeneratedTime>"),
        ),
        ("GetPolicy", "<Policy><CreateDate>2025-01-01T00:00:00Z</CreateDate></Policy>".to_owned()),
        (
            "GetLoginProfile",
            "<LoginProfile><UserName>user</UserName><CreateDate>2026-01-01T00:00:00Z</CreateDate></LoginProfile>"
                .to_owned(),
        ),
    ];
    let mut answers: Answers = single.into_iter().map(|(action, result)| ((action.to_owned(), 0), result)).collect();
    let mut paged = |action: &str, list: &str, members: Vec<String>| {
        for (page, members) in members.chunks(1000).enumerate() {
            let next = (page + 1) * 1000;
            let more = next < USERS && members.len() == 1000;
            let marker = if more { format!("<Marker>{next}</Marker>") } else { String::new() };
            let members = members.concat();
            answers.insert(
                (action.to_owned(), page * 1000),
                format!("<{list}>{members}</{list}><IsTruncated>{more}</IsTruncated>{marker}"),
            );
        }
    };
    let member = |user: String| {
        format!(
            "<member><Path>/staff/</Path><UserName>{user}</UserName><UserId>AIDACKCEVSQ6C2EXAMPLE</UserId>\
             <Arn>arn:aws:iam::123456789012:user/staff/{user}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></member>"
        )
    };
    paged("ListUsers", "Users", (0..USERS).map(|n| member(name(n))).collect());
    paged("ListEntitiesForPolicy", "PolicyUsers", (UNCOVERED..CONSOLE_USERS).map(|n| member(name(n))).collect());
    answers
}

/// Serves the answers on loopback until the process ends; gives the URL.
fn serve(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: &'static Answers = Box::leak(Box::new(answers));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || while answer(&stream, answers).is_some() {});
        }
    });
    url
}

/// Answers one request; `None` when there is no further one.
fn answer(mut stream: &TcpStream, answers: &Answers) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let action = field("Action")?;
    let marker = field("Marker").map_or(0, |marker| marker.parse().unwrap());
    let result = &answers[&(action.to_owned(), marker)];
    let xml = format!(
        "<{action}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{action}Result>{result}</{action}Result>\
         </{action}Response>"
    );
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n", xml.len());
    stream.write_all((head + &xml).as_bytes()).ok()
}
