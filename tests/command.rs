//! The operator's command from the outside: the built binary against an emulated account (moto), in pipes and on a
//! terminal.

mod support {
    pub mod command;
}

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::command::{
    Account, DOCUMENT, GROUP, POLICY, StackAnswer, answering, command, denying, error, in_front_of, on_a_terminal,
    on_a_terminal_with, percent_encoded, post, told,
};

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
    let settings =
        ["--no-stack", "--policy-arn", POLICY, "--exempt-users", "break-glass-*", "--exempt-tag", "mfa-exempt=true"];
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
        json!({
            "console_users": 6, "without_mfa": 5, "covered": 2, "exempt": 2, "uncovered": 2, "existing": 1, "unknown": 0,
            "uncovered_with_keys": 0,
        })
    );
    assert_eq!((&json["account"], &json["policy_arn"]), (&json!("123456789012"), &json!(POLICY)));
    // moto's report is from 2015.
    assert!(json["report_age_s"].as_i64() > Some(0));
    assert_eq!(
        json["users"][0],
        json!({
            "user": "alice", "arn": "arn:aws:iam::123456789012:user/alice", "mfa": true, "coverage": "direct",
            "detail": "", "password_last_used": null, "access_keys": 0, "access_key_last_used": null,
        })
    );
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["account", "policy", "policy_arn", "release", "report_age_s", "totals", "users"],
        "and nothing else"
    );

    // Rows are filtered, totals are not.
    let uncovered = status(&["--format", "json", "--uncovered"]).json();
    assert_eq!(coverage(&uncovered), expected(&[("bob.new", "none", "new"), ("carol.existing", "none", "existing")]));
    assert_eq!(uncovered["totals"], json["totals"]);

    let csv = status(&["--format", "csv"]);
    assert_eq!(csv.code, 1);
    assert_eq!(
        csv.out.lines().next(),
        Some("user,arn,mfa,coverage,detail,password_last_used,access_keys,access_key_last_used")
    );
    assert_eq!(csv.out.lines().nth(1), Some("alice,arn:aws:iam::123456789012:user/alice,true,direct,,,0,"));
    assert_eq!(csv.out.lines().count(), 7);

    let table = status(&[]);
    assert_eq!(table.code, 1);
    let row: Vec<&str> = table.out.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row, ["bob", "no", "by", "group", GROUP]);
    assert!(
        table.out.contains("uncovered        2   1 existing (password older than the policy), 1 new"),
        "{}",
        table.out
    );
    assert!(!table.out.contains('\x1b'), "no colour in a pipe");
    assert_eq!(table.err, "", "no bar in a pipe");

    // With everyone exempt, nobody is uncovered.
    assert_eq!(account.run(&["status", "--no-stack", "--policy-arn", POLICY, "--exempt-users", "*"]).code, 0);
}

#[test]
fn a_failed_look_up_makes_its_user_unknown() {
    let account = Account::new().with_policy();
    account.console_user("alice").console_user("bob");
    let through = denying(&account, "GetLoginProfile", "bob");
    let status = told(&mut command(&through, &["status", "--no-stack", "--format", "json"]));
    status.ends(1, "1 user(s) could not be looked up. The last: iam:GetLoginProfile: IAM answered AccessDenied");
    let users = coverage(&status.json());
    assert_eq!(users["alice"], ("none".to_owned(), "new".to_owned()));
    let (bob, detail) = &users["bob"];
    assert_eq!((bob.as_str(), &status.json()["totals"]["unknown"]), ("unknown", &json!(1)));
    assert!(detail.starts_with("GetLoginProfile: IAM answered AccessDenied"), "{detail}");

    // With nobody uncovered, an unknown user alone is not a good end.
    account.iam("AttachUserPolicy", &[("UserName", "alice"), ("PolicyArn", POLICY)]);
    let status = told(&mut command(&through, &["status", "--no-stack", "--uncovered"]));
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.out.contains("bob") && !status.out.contains("alice"), "{status:?}");
}

/// IAM has no capacity to generate a report, but still has the last one.
#[test]
fn status_uses_the_report_that_is_there() {
    let account = Account::new().with_policy();
    account.console_user("alice");
    account.iam("GenerateCredentialReport", &[]);
    let no_capacity = in_front_of(&account, |_, body| {
        body.contains("Action=GenerateCredentialReport").then(|| error("LimitExceeded", "No more capacity"))
    });
    let status = told(&mut command(&no_capacity, &["status", "--no-stack", "--format", "json"]));
    assert_eq!((status.code, &status.json()["totals"]["console_users"]), (1, &json!(1)), "{status:?}");
}

#[test]
fn the_policys_text_is_judged() {
    const ALLOW: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    const DENY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    let account = Account::new().with_policy();
    // AWS sends the text percent-encoded, which moto does not.
    let with_text = |answer: String| {
        in_front_of(&account, move |_, body| body.contains("Action=GetPolicyVersion&").then(|| answer.clone()))
    };
    let with_document = |document: &str| {
        let document = format!("<Document>{}</Document><VersionId>v2</VersionId>", percent_encoded(document));
        let version = format!("<PolicyVersion>{document}</PolicyVersion>");
        let result = format!("<GetPolicyVersionResult>{version}</GetPolicyVersionResult>");
        with_text(format!("HTTP/1.1 200 OK\r\n\r\n<GetPolicyVersionResponse>{result}</GetPolicyVersionResponse>"))
    };
    let denied = error("AccessDenied", "not authorized").replace("400", "403");
    for (url, verdict, code, warning) in [
        (with_document(DOCUMENT), "enforcing", 0, ""),
        (with_document(ALLOW), "not_enforcing", 1, "The policy does not force MFA: its version v1 does not deny s3:"),
        (with_document(DENY), "blocks_enrolment", 1, "The policy locks users out: its version v1 denies iam:"),
        (with_document("{}"), "unknown", 0, "version v1 cannot be judged"),
        (with_text(denied), "unknown", 0, "Allow iam:GetPolicyVersion to the identity"),
    ] {
        let json = told(&mut command(&url, &["status", "--no-stack", "--format", "json"]));
        json.ends(code, warning);
        assert_eq!(json.json()["policy"], verdict);
        let table = told(&mut command(&url, &["status", "--no-stack"])).out;
        assert!(table.contains(&format!("Policy: {}\n", verdict.replace('_', " "))), "{table}");
        // A sweep warns, and covers users all the same.
        told(&mut command(&url, &["sweep", "--no-stack", "--dry-run"])).ends(0, warning);
    }
}

#[test]
fn a_name_that_no_call_takes_is_unknown() {
    let account = Account::new().with_policy();
    let listed = in_front_of(&account, |_, body| {
        let user = "<member><UserName>bad name</UserName><Path>/</Path><UserId>AIDAEXAMPLE</UserId><Arn>arn</Arn>\
            <CreateDate>2026-01-01T00:00:00Z</CreateDate></member>";
        let list = format!("<ListUsersResult><IsTruncated>false</IsTruncated><Users>{user}</Users></ListUsersResult>");
        let is_meant = body.contains("Action=ListUsers&");
        is_meant.then(|| format!("HTTP/1.1 200 OK\r\n\r\n<ListUsersResponse>{list}</ListUsersResponse>"))
    });
    let status = told(&mut command(&listed, &["status", "--no-stack", "--format", "json"]));
    status.ends(1, "");
    let (coverage, detail) = &coverage(&status.json())["bad name"];
    assert!(coverage == "unknown" && detail.contains("do not take"), "{status:?}");
}

#[test]
fn uncovered_users_with_a_key_in_use_are_marked() {
    let account = Account::new();
    account.console_user("bob.used").console_user("bob.unused").console_user("carol.covered");
    let account = account.with_policy();
    account.iam("AttachUserPolicy", &[("UserName", "carol.covered"), ("PolicyArn", POLICY)]);
    for user in ["bob.used", "carol.covered"] {
        account.use_new_key(user);
    }
    account.iam("CreateAccessKey", &[("UserName", "bob.unused")]);

    let json = account.run(&["status", "--no-stack", "--format", "json"]).json();
    let keys = |place: usize| {
        let user = &json["users"][place];
        (
            user["user"].as_str().unwrap(),
            user["access_keys"].as_u64().unwrap(),
            user["access_key_last_used"].is_string(),
        )
    };
    assert_eq!(
        [keys(0), keys(1), keys(2)],
        [("bob.unused", 1, false), ("bob.used", 1, true), ("carol.covered", 1, true)]
    );
    assert_eq!(json["totals"]["uncovered_with_keys"], 1);
    let table = account.run(&["status", "--no-stack"]).out;
    let row = |user: &str| table.lines().find(|line| line.starts_with(user)).unwrap();
    assert!(row("bob.used").ends_with("1, used 0 s ago *") || row("bob.used").ends_with(" s ago *"), "{table}");
    assert!(row("bob.unused").ends_with("1, never used"), "{table}");
    assert!(row("carol.covered").ends_with(" s ago"), "{table}");
    assert!(table.contains("with keys      1   * key used within 90 days"), "{table}");

    // A sweep says so before it asks, and in its dry run: once for those whom it would cover.
    let note = |stack: &str, existing: &str| {
        told(&mut command(stack, &["sweep", "--dry-run", "--existing-users", existing])).err
    };
    let with_scope = |scope: &'static str| {
        let mut stack = StackAnswer::new("force-mfa", &[]);
        stack.parameters.push(("CredentialScope", scope));
        stack.in_front_of(&account)
    };
    let would_stop =
        "1 of these users has an access key that was used within 90 days. The policy denies access keys too";
    assert!(note(&with_scope("all"), "enforce").contains(would_stop));
    assert!(note(&with_scope("console-only"), "enforce").contains("These keys keep working"));
    assert!(!note(&with_scope("all"), "report").contains("access key"), "bob is existing, and not covered");
    assert!(note(&account.url(), "enforce").contains("unless the policy was made with CredentialScope=console-only"));
}

#[test]
fn no_field_of_the_csv_begins_like_a_formula() {
    let account = Account::new().with_policy();
    account.console_user("=cmd").console_user("+1").console_user("-1").console_user("@sum").console_user("alice");
    account.iam("CreateGroup", &[("GroupName", "=group")]);
    account.iam("AttachGroupPolicy", &[("GroupName", "=group"), ("PolicyArn", POLICY)]);
    account.iam("AddUserToGroup", &[("UserName", "alice"), ("GroupName", "=group")]);
    let csv = account.run(&["status", "--no-stack", "--format", "csv"]).out;
    let fields: Vec<&str> = csv.lines().flat_map(|line| line.split(',')).collect();
    for field in ["'=cmd", "'+1", "'-1", "'@sum", "'=group"] {
        assert!(fields.contains(&field), "{field} is not in {csv}");
    }
    assert!(!fields.iter().any(|field| field.starts_with(['=', '+', '-', '@'])), "{csv}");
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
    let policy = ["status", "--no-stack", "--policy-arn", POLICY];
    told(&mut command(&denied, &policy)).ends(3, "Allow sts:GetCallerIdentity to the identity");
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
    let sweep =
        |arguments: &[&str]| account.run(&[&["sweep", "--no-stack", "--policy-arn", POLICY], arguments].concat());
    account
        .run(&["sweep", "--dry-run", "--no-stack", "--policy-arn", &POLICY.replace("force-mfa", "gone")])
        .ends(1, "a drift-aware change set brings it back");

    let report = sweep(&["--dry-run", "--format", "json"]);
    assert_eq!(report.code, 1);
    let json = report.json();
    assert_eq!(
        (&json["outcome"], &json["mode"], &json["would_attach"]),
        (&json!("swept"), &json!("report"), &json!(2))
    );
    sweep(&[]).ends(2, "--yes");
    assert!(!account.carries_policy("alice"), "neither a report nor a question writes");

    let through = denying(&account, "AttachUserPolicy", "bob");
    let denied = told(&mut command(&through, &["sweep", "--yes", "--no-stack", "--policy-arn", POLICY]));
    denied.ends(3, "");
    let line = "access_denied: user bob: iam:AttachUserPolicy: IAM answered AccessDenied: User bob is not authorized. Allow iam:AttachUserPolicy to the identity";
    assert!(denied.out.contains(line), "{}", denied.out);
    assert!(account.carries_policy("alice"), "one user's failure does not stop the rest");
    account.iam("DetachUserPolicy", &[("UserName", "alice"), ("PolicyArn", POLICY)]);

    let swept = sweep(&["--yes", "--format", "json"]);
    swept.ends(1, "");
    let json = swept.json();
    for (key, count) in [("console_users", 3), ("covered", 0), ("attached", 2), ("existing", 1), ("exempt", 0)] {
        assert_eq!(json[key], count, "{key} in {json}");
    }
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
    account.use_new_key("alice");
    let sweep = ["sweep", "--no-stack", "--policy-arn", POLICY];

    let (code, said) = on_a_terminal(&account, &sweep, "n\n");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("1 of these users has an access key"), "{said}");
    assert!(said.contains("2 of 2 console users would get") && said.contains("nothing was changed"), "{said}");
    assert!(!account.carries_policy("alice"));

    let (_, said) = on_a_terminal(&account, &["status", "--no-stack", "--policy-arn", POLICY], "");
    assert!(said.contains("\x1b[31m"), "who is uncovered is red: {said:?}");
    let widest = said.lines().filter(|line| !line.contains('\x1b')).map(|line| line.trim_end().chars().count()).max();
    assert!(widest <= Some(80), "{said}");
    let (_, said) =
        on_a_terminal_with(&account, &["status", "--no-stack", "--policy-arn", POLICY], "", &[("NO_COLOR", "1")]);
    assert!(said.contains("alice") && !said.contains("\x1b[31m"), "{said:?}");

    let (code, said) = on_a_terminal(&account, &sweep, "y\n");
    assert_eq!(code, 0, "{said}");
    assert!(account.carries_policy("alice"));

    let uninstall = ["uninstall", "--no-stack", "--policy-arn", POLICY];
    let (code, said) = on_a_terminal(&account, &uninstall, "yes\n");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("Type the account ID") && account.carries_policy("alice"), "{said}");
    let (code, said) = on_a_terminal(&account, &uninstall, "123456789012\n");
    assert_eq!(code, 0, "{said}");
    assert!(!account.carries_policy("alice"));
}

#[test]
fn a_dry_run_ends_with_the_command_that_makes_it_real() {
    let account = Account::new().with_policy();
    account.console_user("alice").call("sqs", "CreateQueue", &[("QueueName", "failures")]);
    let queue = format!("{}/123456789012/failures", account.url());
    let event = event("attached/by_terraform.json");
    for (arguments, total) in [
        (&["sweep", "--exempt-tag", "mfa exempt=it's"][..], "would attach          1"),
        (&["replay", &event], "1 handled, 0 failed"),
        (&["redrive", "--queue", &queue], "0 message(s) stay in the queue"),
        (&["uninstall"], "would delete policy arn:"),
    ] {
        let arguments = [&["--no-stack", "--dry-run"], arguments].concat();
        let arguments = [&arguments[2..3], &["--dry-run", "--no-stack"], &arguments[3..]].concat();
        let dry = account.run(&arguments);
        let said = format!("{}{}", dry.out, dry.err);
        assert!(said.contains(total), "{total:?} is not in {dry:?}");
        let real: Vec<&str> = arguments.iter().copied().filter(|argument| *argument != "--dry-run").collect();
        let real = real.join(" ").replace("mfa exempt=it's", r"'mfa exempt=it'\''s'");
        let url = account.url();
        let end =
            format!("Dry run: nothing was changed. To make the changes, run:\nforce-mfa --endpoint-url {url} {real}\n");
        assert!(dry.err.ends_with(&end), "{end:?} is not the end of {dry:?}");
    }
    assert!(!account.carries_policy("alice"));
}

#[test]
fn what_writes_names_account_and_settings() {
    let account = Account::new().with_policy();
    account.console_user("alice").call("sqs", "CreateQueue", &[("QueueName", "failures")]);
    let queue = format!("{}/123456789012/failures", account.url());
    let event = event("attached/by_terraform.json");
    let settings = "Account 123456789012\n\
        \x20 policy arn      arn:aws:iam::123456789012:policy/force-mfa (found by its name)\n\
        \x20 mode            enforce (default)\n\
        \x20 scope           console-users (default)\n\
        \x20 existing users  report (default)\n\
        \x20 exempt users    break-glass-* (--exempt-users)\n\
        \x20 exempt paths    none (default)\n\
        \x20 exempt tag      none (default)\n\
        \x20 overflow group  force-mfa-overflow (FORCE_MFA_OVERFLOW_GROUP)\n";
    for arguments in [
        &["sweep", "--yes"][..],
        &["replay", "--yes", &event],
        &["redrive", "--yes", "--queue", &queue],
        &["uninstall", "--yes", "--account", "123456789012"],
    ] {
        let given = [arguments, &["--no-stack", "--exempt-users", "break-glass-*"]].concat();
        let run = told(account.command(&given).env("FORCE_MFA_OVERFLOW_GROUP", GROUP));
        assert!(run.err.starts_with(settings), "{run:?}");
    }
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
    let replay =
        |arguments: &[&str]| account.run(&[&["replay", "--no-stack", "--policy-arn", POLICY], arguments].concat());

    replay(&[path]).ends(2, "--yes");
    let report = replay(&["--dry-run", path]);
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
    replay(&["--dry-run", path, "mistyped.json"]).ends(2, "mistyped.json");
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
        account.run(&[&["redrive", "--no-stack", "--policy-arn", POLICY, "--queue", &queue], arguments].concat())
    };

    redrive(&[]).ends(2, "--yes");
    let report = redrive(&["--dry-run"]);
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
        .run(&["redrive", "--no-stack", "--policy-arn", POLICY, "--yes", "--queue", &missing])
        .ends(1, "sqs:ReceiveMessage: AWS answered");
}

#[test]
fn redrive_prints_a_change_of_the_installation() {
    let account = Account::new().with_policy();
    account.call("sqs", "CreateQueue", &[("QueueName", "force-mfa-rule-dead-letters")]);
    let queue = format!("{}/123456789012/force-mfa-rule-dead-letters", account.url());
    let by_mallory = |service: &str, name: &str, request: &Value| {
        let event = json!({
            "source": format!("aws.{service}"), "detail-type": "AWS API Call via CloudTrail", "account": "123456789012",
            "detail": {
                "eventSource": format!("{service}.amazonaws.com"), "eventName": name, "requestParameters": request,
                "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/mallory"},
            }
        });
        account.send(&queue, &event.to_string());
    };
    by_mallory("lambda", "UpdateFunctionConfiguration20150331v2", &json!({"functionName": "force-mfa"}));
    by_mallory("iam", "CreatePolicyVersion", &json!({"policyArn": POLICY}));
    by_mallory("iam", "RemoveUserFromGroup", &json!({"userName": "alice", "groupName": GROUP}));

    let redrive = ["redrive", "--no-stack", "--policy-arn", POLICY, "--queue", &queue, "--yes"];
    let done = account.run(&redrive);
    done.ends(1, "1 message(s) stay in the queue");
    for line in [
        "ignored (other_service): UpdateFunctionConfiguration20150331v2 by arn:aws:iam::123456789012:user/mallory\n",
        "ignored (other_event): CreatePolicyVersion by arn:aws:iam::123456789012:user/mallory\n",
        "RemoveUserFromGroup by arn:aws:iam::123456789012:user/mallory; FAILED: kept, since it detached a policy or left",
    ] {
        assert!(done.out.contains(line), "{line:?} is not in {done:?}");
    }
    // With the group named, the removal is one of ours.
    let rest = account.run(&[&redrive[..], &["--overflow-group", GROUP]].concat());
    rest.ends(0, "0 message(s) stay in the queue");
    assert!(rest.out.contains("ignored alice"), "{rest:?}");
}

/// What a rule could not hand over is the schedule's own event.
#[test]
fn redrive_of_a_schedules_dead_letter_sweeps() {
    let account = Account::new().with_policy();
    account.console_user("alice");
    account.call("sqs", "CreateQueue", &[("QueueName", "force-mfa-rule-dead-letters")]);
    let queue = format!("{}/123456789012/force-mfa-rule-dead-letters", account.url());
    account.send(&queue, include_str!("../events/swept/a_scheduled_event.json"));
    let done = account.run(&["redrive", "--no-stack", "--policy-arn", POLICY, "--yes", "--queue", &queue]);
    done.ends(0, "0 message(s) stay in the queue");
    assert!(done.out.contains("swept: 1 attached"), "{}", done.out);
    assert!(account.carries_policy("alice"));
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
    let put_rule = |name: &str, state: &str| {
        let rule = json!({"Name": name, "EventPattern": "{\"source\": [\"aws.iam\"]}", "State": state});
        let headers = "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: AWSEvents.PutRule\r\n";
        assert_eq!(post(account.port, "events", headers, &rule.to_string()).0, 200);
    };
    let yes = ["uninstall", "--yes", "--account", "123456789012"];

    // While the stack is there it is refused, dry run or not.
    put_rule("force-mfa-console-users", "ENABLED");
    account.run(&["uninstall", "--dry-run"]).ends(1, "force-mfa-console-users");
    account.run(&yes).ends(1, "Delete the stack first");
    assert!(account.carries_policy("alice"));
    put_rule("force-mfa-console-users", "DISABLED");
    // Of infra/organization.yaml, in the account that owns the StackSets. It does not call the function.
    put_rule("force-mfa-failed-accounts", "ENABLED");

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
        .command(&["sweep", "--yes", "--no-stack", "--policy-arn", POLICY])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.code() == Some(0) && said.starts_with("Account 123456789012\n") && !said.contains("pipe"), "{said}");
    assert!(account.carries_policy("alice"));
    // `force-mfa status | head -1`, and what needs no account.
    for arguments in [&["status", "--no-stack"][..], &["--help"], &["completions", "bash"]] {
        let mut child = account.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert!(
            status.code() == Some(0) && !said.contains("pipe") && !said.contains("panicked"),
            "{arguments:?}: {said}"
        );
    }
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
    let mut child =
        command(&url, &["status", "--no-stack", "--policy-arn", POLICY]).stderr(Stdio::piped()).spawn().unwrap();
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
