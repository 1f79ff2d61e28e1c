//! The parts of the function, in-process: an event read and decided, and an account read and planned.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_types::body::SdkBody;
use criterion::{Criterion, criterion_group, criterion_main};
use fake_iam::{Answer, FakeIam, POLICY, sdk_config};
use force_mfa::credential_report;
use force_mfa::enforce::Enforcer;
use force_mfa::handler::{Handler, PayloadOutcome};
use force_mfa::iam::Iam;
use force_mfa::outcome::Outcome;
use force_mfa::settings::Settings;
use force_mfa::sweep::sweep;
use tokio::runtime::Runtime;
use tokio::time::Instant;

#[allow(dead_code, clippy::pedantic, reason = "the tests' IAM, of which this uses a part")]
#[path = "../../tests/support/fake_iam.rs"]
mod fake_iam;

const USERS: usize = 5000;
const CONSOLE_USERS: usize = 3000;
const UNCOVERED: usize = 10;

criterion_group!(benches, event, report, account);
criterion_main!(benches);

/// In report mode a new login profile is decided without a call: what is left is the function's own work.
fn event(criterion: &mut Criterion) {
    let now = chrono::Utc::now().to_rfc3339();
    let payload = include_str!("../event.json").replace("{user}", "alice").replace("{time}", &now);
    let runtime = runtime();
    let handler = Handler::new(settings(), runtime.block_on(FakeIam::default().iam()));
    let until = Instant::now() + Duration::from_hours(1);
    criterion.bench_function("an event: read, decided, told", |bencher| {
        bencher.iter(|| {
            let done = runtime.block_on(handler.handle(black_box(payload.as_bytes()), until));
            assert!(matches!(done.result, Ok(PayloadOutcome::User { outcome: Outcome::WouldAttach, .. })));
            (done.reply(), done.metrics("force-mfa", "INFO"))
        });
    });
}

fn report(criterion: &mut Criterion) {
    let csv = full_account().world().credential_report();
    criterion.bench_function("5,000 users: credential report read", |bencher| {
        bencher.iter(|| credential_report::read(black_box(csv.as_bytes())).unwrap());
    });
}

/// A sweep in report mode: the pages parsed, the account planned, the ten uncovered users looked up.
fn account(criterion: &mut Criterion) {
    // With the clock stopped, the pace of the calls takes no time: what is measured is the work.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let answers = SharedHttpConnector::new(Answers { account: full_account(), known: Mutex::default() });
    let iam = runtime.block_on(Iam::with_connector(&sdk_config(None), answers));
    let enforcer = Enforcer { settings: settings(), iam, waits: Vec::new() };
    criterion.bench_function("5,000 users: sweep planned, its pages parsed", |bencher| {
        bencher.iter(|| {
            let swept = async {
                let until = Instant::now() + Duration::from_hours(1);
                sweep(&enforcer, chrono::Utc::now(), until, |_, _| {}).await
            };
            let report = runtime.block_on(swept).unwrap();
            assert_eq!((report.console_users, report.would_attach), (CONSOLE_USERS, UNCOVERED));
        });
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn settings() -> Settings {
    Settings::read(|variable| match variable {
        "FORCE_MFA_POLICY_ARN" => Some(POLICY.to_owned()),
        "FORCE_MFA_MODE" => Some("report".to_owned()),
        "FORCE_MFA_EXEMPT_USERS" => Some("break-glass-*,ci".to_owned()),
        _ => None,
    })
    .unwrap()
}

fn full_account() -> FakeIam {
    (0..USERS).fold(FakeIam::default(), |account, n| {
        account.with_user(&format!("user-{n:04}"), |user| {
            if n < CONSOLE_USERS {
                user.set_password(user.created);
            }
            if (UNCOVERED..CONSOLE_USERS).contains(&n) {
                user.policies.insert(POLICY.to_owned());
            }
        })
    })
}

/// An account whose answers do not change, each made once: what is measured is not the making of them.
#[derive(Debug)]
struct Answers {
    account: FakeIam,
    known: Mutex<HashMap<Vec<u8>, String>>,
}

impl HttpConnector for Answers {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let question = request.body().bytes().unwrap_or_default().to_vec();
        let mut known = self.known.lock().unwrap();
        let answer = known.entry(question).or_insert_with_key(|question| match self.account.answer(question) {
            Answer::Http(200, xml) => xml,
            _ => panic!("the account fails no call"),
        });
        HttpConnectorFuture::ready(Ok(Response::new(
            StatusCode::try_from(200).unwrap(),
            SdkBody::from(answer.as_str()),
        )))
    }
}
