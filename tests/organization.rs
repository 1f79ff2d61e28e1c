//! `force-mfa status --organization` from the outside: the built command against an emulated organization (moto), behind
//! a server that refuses, throttles and counts.

mod support {
    pub mod command;
    pub mod organization;
}

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use support::command::{Told, command, moto_server, post_as, told};
use support::organization::{Call, OWN, Organization, Seen, element, in_front_of, next_second, parameter, refusal};

const SCRIPT: &str = "<script>alert(1)</script>";

/// 40 accounts in nested OUs.
fn large() -> Organization {
    let mut all = Organization::new();
    all.unit("workloads", "root");
    all.unit("production", "workloads");
    all.unit("europe", "production");
    all.unit("sandboxes", "root");
    for (name, unit) in [
        ("payments", "europe"),
        ("data", "europe"),
        ("throttled", "production"),
        ("broken", "production"),
        ("refused", "production"),
        ("forgotten", "sandboxes"),
        ("leftover", "sandboxes"),
        ("closed", "sandboxes"),
        (SCRIPT, "sandboxes"),
    ] {
        all.account(name, unit);
    }
    let teams: Vec<String> = (10..40).map(|number| format!("team-{number}")).collect();
    for name in &teams {
        all.account(name, "workloads");
    }
    assert_eq!(all.accounts.len(), 40);

    // Users from before the policy.
    for account in ["payments", "data"] {
        all.console_user(account, "ci-1", "/");
        all.console_user(account, "robot", "/service/");
    }
    for account in ["forgotten", "leftover"] {
        all.console_user(account, "alice", "/");
        all.console_user(account, "bob", "/");
    }
    let ordinary = ["own", "throttled", "broken", "refused", SCRIPT];
    for account in ordinary {
        all.console_user(account, "alice", "/");
    }
    all.console_user(SCRIPT, "existing", "/");
    next_second();
    all.stack("payments", &[("ExemptUsers", "ci-*")]);
    all.stack("data", &[("ExemptPaths", "/service/")]);
    all.policy("leftover");
    for account in ordinary {
        all.stack(account, &[]);
    }
    for account in ordinary.into_iter().chain(["leftover"]) {
        all.attach(account, "alice");
    }
    for name in &teams {
        all.stack(name, &[]);
        all.console_user(name, "new", "/");
        all.attach(name, "new");
    }
    all.close("closed");
    all
}

/// Refuses the role in `refused`, throttles the first calls in `throttled`, breaks the report of `broken`.
fn troubles(all: &Organization) -> impl Fn(&Call, &Seen) -> Option<String> + use<> {
    let [refused, throttled, broken] = ["refused", "throttled", "broken"].map(|name| all.accounts[name].clone());
    move |call, seen| match call.action.as_str() {
        "AssumeRole" if call.account == refused => {
            Some(refusal("403 Forbidden", "AccessDenied", "User operator is not authorized"))
        }
        "AssumeRole" | "DescribeStacks" | "ListEntitiesForPolicy" | "GetCredentialReport"
            if call.account == throttled && seen.count(&call.account, &call.action) <= 4 =>
        {
            Some(refusal("400 Bad Request", "Throttling", "Rate exceeded"))
        }
        "GetCredentialReport" if call.account == broken => Some(
            "HTTP/1.1 200 OK\r\n\r\n<GetCredentialReportResponse><GetCredentialReportResult><Content>bm9uc2Vuc2U=\
             </Content><GeneratedTime>2026-01-01T00:00:00Z</GeneratedTime></GetCredentialReportResult>\
             </GetCredentialReportResponse>"
                .to_owned(),
        ),
        _ => None,
    }
}

fn status(url: &str, arguments: &[&str]) -> Told {
    told(&mut command(url, &[&["status", "--organization"], arguments].concat()))
}

fn rows(told: &Told) -> BTreeMap<String, Value> {
    let json = told.json();
    let accounts = json["accounts"].as_array().unwrap_or_else(|| panic!("{told:?}"));
    // moto calls the management account so.
    let name = |row: &Value| row["name"].as_str().unwrap_or_default().replace("master", "own");
    accounts.iter().map(|row| (name(row), row.clone())).collect()
}

/// Console users, covered, exempt, uncovered, existing; the last is -1 for null.
fn counts(row: &Value) -> [i64; 5] {
    ["console_users", "covered", "exempt", "uncovered", "existing"].map(|key| row["totals"][key].as_i64().unwrap_or(-1))
}

#[test]
fn each_of_40_accounts_has_a_row_that_is_right() {
    let all = large();
    let (url, seen) = in_front_of(&all, troubles(&all));
    let told = status(&url, &["--format", "json", "--external-id", "example-id"]);
    told.ends(1, "");
    let rows = rows(&told);
    let json = told.json();
    assert_eq!(rows.len(), 40);
    for (name, state, expected) in [
        ("payments", "ok", [2, 0, 1, 1, 1]),
        ("data", "ok", [2, 0, 1, 1, 1]),
        (SCRIPT, "ok", [2, 1, 0, 1, 1]),
        ("own", "ok", [1, 1, 0, 0, 0]),
        ("throttled", "ok", [1, 1, 0, 0, 0]),
        ("team-10", "ok", [1, 1, 0, 0, 0]),
        ("team-39", "ok", [1, 1, 0, 0, 0]),
        ("forgotten", "not_installed", [2, 0, 0, 2, -1]),
        ("leftover", "not_installed", [2, 1, 0, 1, 1]),
    ] {
        let row = &rows[name];
        assert_eq!((&row["state"], counts(row), &row["error"]), (&json!(state), expected, &Value::Null), "{name}");
        let release = if state == "ok" { json!("1.2.3") } else { Value::Null };
        assert_eq!(row["release"], release, "{name}");
        assert!(row["report_age_s"].is_i64() && row["users"].is_array(), "{name}: {row}");
    }
    // Each account has its own exemptions.
    let exempt = |name: &str| {
        let users = rows[name]["users"].as_array().unwrap().iter();
        users.filter(|user| user["coverage"] == "exempt").map(|user| user["user"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((exempt("payments"), exempt("data")), (vec![json!("ci-1")], vec![json!("robot")]));
    assert_eq!((&rows["forgotten"]["policy_arn"], &rows["forgotten"]["policy"]), (&Value::Null, &Value::Null));
    assert_eq!(rows["forgotten"]["users"][0]["detail"], "");
    for (name, state, error) in [
        ("refused", "failed", "deploy infra/auditor.yaml to this account"),
        ("broken", "failed", "the credential report has no column user"),
        ("closed", "suspended", ""),
    ] {
        let row = &rows[name];
        assert_eq!(row["state"], state, "{name}");
        assert!(row["error"].as_str().unwrap_or_default().contains(error), "{name}: {row}");
        for key in ["release", "policy_arn", "policy", "report_age_s", "totals", "users"] {
            assert_eq!(row[key], Value::Null, "{name} {key}");
        }
    }
    for (key, count) in [
        ("accounts", 40),
        ("ok", 35),
        ("failed", 2),
        ("suspended", 1),
        ("not_installed", 2),
        ("console_users", 42),
        ("without_mfa", 42),
        ("covered", 34),
        ("exempt", 2),
        ("uncovered", 6),
        ("existing", 4),
        ("unknown", 0),
        ("uncovered_with_keys", 0),
    ] {
        assert_eq!(json["totals"][key], count, "{key} in {}", json["totals"]);
    }
    assert!(json["organization"].as_str().unwrap().starts_with("o-"), "{}", json["organization"]);
    let states: Vec<_> = json["accounts"].as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states[..4], ["failed", "failed", "not_installed", "not_installed"]);
    assert_eq!(states[39], "suspended", "the worst are first");

    let calls = seen.calls();
    assert!(calls.iter().all(|call| call.account != all.accounts["closed"]), "a suspended account is left alone");
    assert_eq!(seen.count(OWN, "AssumeRole"), 0, "the own account is read with the own credentials");
    for call in calls.iter().filter(|call| call.action == "AssumeRole") {
        assert!(parameter(&call.body, "RoleArn").unwrap().ends_with(":role/force-mfa-auditor"), "{call:?}");
        assert_eq!(parameter(&call.body, "ExternalId").as_deref(), Some("example-id"), "{call:?}");
    }
    for name in ["team-10", "payments", "forgotten"] {
        let calls: Vec<_> = calls.iter().filter(|call| call.account == all.accounts[name]).collect();
        assert!(calls.len() <= 15, "{name} costs {} calls: {calls:#?}", calls.len());
    }
}

#[test]
fn the_accounts_can_be_narrowed() {
    let mut all = Organization::new();
    all.unit("workloads", "root");
    all.unit("production", "workloads");
    all.unit("europe", "production");
    all.unit("sandboxes", "root");
    for (name, unit) in [("top", "root"), ("deep", "europe"), ("middle", "workloads"), ("other", "sandboxes")] {
        all.account(name, unit);
    }
    let url = all.server.url();
    let id = |name: &str| all.accounts[name].as_str();
    let narrowed = |arguments: &[&str]| {
        let told = status(&url, &[arguments, &["--format", "json"]].concat());
        told.ends(1, "");
        rows(&told).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(narrowed(&["--ou", &all.units["workloads"]]), ["deep", "middle"]);
    assert_eq!(narrowed(&["--ou", &all.units["production"], "--ou", &all.units["sandboxes"]]), ["deep", "other"]);
    assert_eq!(narrowed(&["--ou", &all.units["production"], "--include-account", id("top")]), ["deep", "top"]);
    assert_eq!(narrowed(&["--ou", &all.units["workloads"], "--exclude-account", id("deep")]), ["middle"]);
    assert_eq!(narrowed(&["--include-account", id("other"), "--include-account", OWN]), ["other", "own"]);
    assert_eq!(narrowed(&["--exclude-account", OWN, "--exclude-account", id("top")]), ["deep", "middle", "other"]);

    status(&url, &["--ou", "ou-0000-00000000"]).ends(2, "there is no organizational unit ou-0000-00000000");
    status(&url, &["--include-account", "000000000012"]).ends(2, "000000000012 of --include-account is not in the");
    status(&url, &["--include-account", "12"]).ends(2, "an account ID has 12 digits");
    status(&url, &["--include-account", OWN, "--exclude-account", OWN]).ends(2, "no account is left");
    let elsewhere = status(&url, &["--include-account", OWN, "--exclude-account", "000000000012"]);
    elsewhere.ends(1, "000000000012 of --exclude-account does not exist here");
}

#[test]
fn a_file_of_accounts_replaces_organizations() {
    let all = Organization::small(&["dev"]);
    let (url, seen) = in_front_of(&all, |call, _| {
        let denied = "HTTP/1.1 400 Bad Request\r\n\r\n{\"__type\": \"AccessDeniedException\", \"message\": \"no\"}";
        (call.service == "organizations").then(|| denied.to_owned())
    });
    status(&url, &[]).ends(3, "or pass --accounts-file");
    let file = std::env::temp_dir().join(format!("force-mfa-accounts-{}", std::process::id()));
    std::fs::write(&file, format!("# mine\n{},development\n{OWN}\n", all.accounts["dev"])).unwrap();
    let before = seen.calls().len();
    let told = status(&url, &["--accounts-file", file.to_str().unwrap(), "--format", "json"]);
    std::fs::remove_file(&file).unwrap();
    told.ends(0, "");
    let json = told.json();
    assert_eq!((&json["organization"], &json["totals"]["covered"]), (&Value::Null, &json!(2)));
    assert_eq!(rows(&told).into_keys().collect::<Vec<_>>(), ["", "development"]);
    assert!(seen.calls()[before..].iter().all(|call| call.service != "organizations"));
}

#[test]
fn stacks_of_a_stack_set_are_found_by_their_prefix() {
    let mut all = Organization::new();
    (all.stack_name, all.prefix) = ("StackSet-acme-mfa-0123abcd", "acme-mfa");
    for name in ["dev", "leftover", "forgotten"] {
        all.account(name, "root");
        all.console_user(name, "ci-1", "/");
    }
    next_second();
    all.stack("own", &[]);
    all.stack("dev", &[("ExemptUsers", "ci-*")]);
    all.policy("leftover");
    all.console_user("dev", "alice", "/");
    all.attach("dev", "alice");
    all.attach("leftover", "ci-1");
    let (url, seen) = in_front_of(&all, |_, _| None);

    let told = status(&url, &["--format", "json", "--stack", "acme-mfa"]);
    told.ends(1, "");
    let rows = rows(&told);
    for (name, state, expected, release) in [
        ("own", "ok", [0, 0, 0, 0, 0], json!("1.2.3")),
        ("dev", "ok", [2, 1, 1, 0, 0], json!("1.2.3")),
        ("leftover", "not_installed", [1, 1, 0, 0, 0], Value::Null),
        ("forgotten", "not_installed", [1, 0, 0, 1, -1], Value::Null),
    ] {
        let row = &rows[name];
        assert_eq!((&row["state"], counts(row), &row["release"]), (&json!(state), expected, &release), "{row}");
        let policy = if name == "forgotten" { Value::Null } else { json!(all.policy_arn(name)) };
        assert_eq!(row["policy_arn"], policy, "{name}");
    }
    for name in ["dev", "forgotten"] {
        let calls = seen.calls().into_iter().filter(|call| call.account == all.accounts[name]).count();
        assert!(calls <= 15, "{name} costs {calls} calls");
    }
}

#[test]
fn settings_come_from_the_stacks_only() {
    let all = Organization::small(&[]);
    let url = all.server.url();
    for wrong in [&["--exempt-users", "alice"][..], &["--no-stack"], &["--mode", "report", "--scope", "all-users"]] {
        status(&url, wrong).ends(2, wrong[0]);
    }
    let mut with_variable = command(&url, &["status", "--organization", "--format", "json"]);
    let told = told(with_variable.env("FORCE_MFA_EXEMPT_USERS", "alice").env("FORCE_MFA_MODE", "neither"));
    told.ends(0, "FORCE_MFA_MODE, FORCE_MFA_EXEMPT_USERS");
    assert_eq!(told.json()["totals"]["covered"], 1);
    let alone = support::command::told(&mut command(&url, &["status", "--ou", "r-1"]));
    alone.ends(2, "--organization");
}

#[test]
fn a_stack_in_change_is_warned_of() {
    let all = Organization::small(&["dev"]);
    let (dev, port) = (all.accounts["dev"].clone(), all.server.port);
    let (url, _) = in_front_of(&all, move |call, _| {
        let asks = call.account == dev && call.action == "DescribeStacks";
        asks.then(|| {
            let form = "Content-Type: application/x-www-form-urlencoded\r\n";
            let (_, answer) = post_as(&call.key, port, "cloudformation", form, &call.body);
            format!("HTTP/1.1 200 OK\r\n\r\n{}", answer.replace("CREATE_COMPLETE", "UPDATE_IN_PROGRESS"))
        })
    });
    let told = status(&url, &["--format", "json"]);
    told.ends(0, &format!("Warning: {} dev: the stack force-mfa is UPDATE_IN_PROGRESS", all.accounts["dev"]));
    assert_eq!(told.err.matches("Warning").count(), 1, "{}", told.err);
    assert_eq!(rows(&told)["dev"]["state"], "ok");
}

#[test]
fn a_role_that_may_too_little_is_named() {
    let all = Organization::small(&["dev"]);
    let (url, _) = in_front_of(&all, |call, _| {
        (call.action == "ListUsers").then(|| refusal("403 Forbidden", "AccessDenied", "no ListUsers"))
    });
    let told = status(&url, &["--format", "json"]);
    told.ends(1, "");
    let error = |name: &str| rows(&told)[name]["error"].as_str().unwrap().to_owned();
    let role = format!("Here that is arn:aws:iam::{}:role/force-mfa-auditor: deploy", all.accounts["dev"]);
    assert!(error("dev").contains("iam:ListUsers") && error("dev").contains(&role), "{}", error("dev"));
    assert!(error("own").contains("iam:ListUsers") && !error("own").contains("auditor.yaml"), "{}", error("own"));
}

#[test]
fn table_csv_and_file_have_their_form() {
    let mut all = Organization::small(&["dev"]);
    all.account("=forgotten", "root");
    all.console_user("=forgotten", "bob", "/");
    let url = all.server.url();
    let forgotten = &all.accounts["=forgotten"];

    let table = status(&url, &[]);
    table.ends(1, "");
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("ACCOUNT") && lines[0].ends_with("EXISTING"), "{}", table.out);
    assert!(lines[1].starts_with(&format!("{forgotten}  =forgotten  NOT INSTALLED")), "{}", table.out);
    assert!(table.out.contains("not installed    1") && table.out.contains("uncovered        1"), "{}", table.out);
    assert!(lines.last().unwrap().starts_with(&format!("{forgotten}  =forgotten  bob")), "{}", table.out);
    let uncovered = status(&url, &["--uncovered"]);
    assert!(!uncovered.out.contains(&all.accounts["dev"]) && uncovered.out.contains("Accounts           3"));

    let page = told(&mut command(&url, &["status", "--format", "html"]));
    page.ends(0, "");
    assert!(page.out.contains("<h1>Account 123456789012</h1>"), "{}", page.out);

    let csv = status(&url, &["--format", "csv", "--uncovered"]);
    csv.ends(1, "");
    let lines: Vec<&str> = csv.out.lines().collect();
    assert!(lines[0].starts_with("account,account_name,user,arn,mfa,coverage,detail,"), "{}", csv.out);
    assert!(lines.len() == 2 && lines[1].starts_with(&format!("{forgotten},'=forgotten,bob,arn:")), "{}", csv.out);

    let file = std::env::temp_dir().join(format!("force-mfa-report-{}.json", std::process::id()));
    std::fs::write(&file, "an older one that everybody may read").unwrap();
    let told = status(&url, &["--format", "json", "--output", file.to_str().unwrap()]);
    told.ends(1, "");
    let written = std::fs::read_to_string(&file).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap()["totals"]["uncovered"], 1);
    assert!(told.out.contains("uncovered        1") && !told.out.contains("bob"), "the totals only: {}", told.out);
    status(&url, &["--output", "/nowhere/report.json"]).ends(1, "cannot write /nowhere/report.json");
}

#[cfg(target_os = "linux")]
#[test]
fn a_bar_on_a_terminal_shows_the_accounts() {
    let all = Organization::small(&["dev"]);
    let (code, said) = support::command::on_a_terminal(&all.server, &["status", "--organization"], "");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("/2 accounts, ") && said.contains(" under way, ") && said.contains(" left"), "{said:?}");
}

#[test]
fn ctrl_c_prints_what_is_known_so_far() {
    let all = Organization::small(&["done", "stuck"]);
    let (stuck, done) = (all.accounts["stuck"].clone(), all.accounts["done"].clone());
    let (sender, reached) = mpsc::channel();
    let (url, seen) = in_front_of(&all, move |call, _| {
        if call.account == stuck && call.action == "GetCredentialReport" {
            let _ = sender.send(());
            std::thread::park();
        }
        None
    });
    let child = command(&url, &["status", "--organization", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    reached.recv().unwrap();
    // ListUsers is the last call of an account.
    while seen.count(&done, "ListUsers") + seen.count(OWN, "ListUsers") < 2 {
        std::thread::yield_now();
    }
    next_second();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let told = Told {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    told.ends(130, "partial");
    let rows = rows(&told);
    assert_eq!((&rows["done"]["state"], &rows["own"]["state"]), (&json!("ok"), &json!("ok")));
    assert_eq!(rows["stuck"]["state"], "failed");
    assert!(rows["stuck"]["error"].as_str().unwrap().contains("stopped before"), "{}", rows["stuck"]);
}

#[test]
fn credentials_that_run_out_are_renewed() {
    let all = Organization::small(&["dev"]);
    let (dev, port) = (all.accounts["dev"].clone(), all.server.port);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let (url, seen) = in_front_of(&all, move |call, _| {
        let assumes = call.account == dev && call.action == "AssumeRole";
        assumes.then(|| {
            // The credentials expire at once.
            let (_, answer) = post_as("test", port, "sts", form, &call.body);
            let soon = (chrono::Utc::now() + chrono::TimeDelta::seconds(1)).to_rfc3339();
            format!("HTTP/1.1 200 OK\r\n\r\n{}", answer.replace(&element(&answer, "Expiration").unwrap(), &soon))
        })
    });
    let told = status(&url, &["--format", "json"]);
    told.ends(0, "");
    let dev = &all.accounts["dev"];
    let calls = seen.calls().into_iter().filter(|call| call.account == *dev && call.service == "iam");
    let keys: BTreeSet<String> = calls.map(|call| call.key).collect();
    assert!(keys.len() > 1 && seen.count(dev, "AssumeRole") > 1, "with {} access key(s)", keys.len());
}

#[test]
fn an_account_that_waits_has_no_place() {
    let all = Organization::small(&["first", "second"]);
    let others = [OWN.to_owned(), all.accounts["first"].clone(), all.accounts["second"].clone()];
    // IAM has no report of an account before every other account has asked for one.
    let (url, seen) = in_front_of(&all, move |call, seen| {
        let all_asked = others.iter().all(|account| seen.count(account, "GenerateCredentialReport") > 0);
        (call.action == "GenerateCredentialReport" && !all_asked).then(|| {
            "HTTP/1.1 200 OK\r\n\r\n<GenerateCredentialReportResponse><GenerateCredentialReportResult><State>STARTED\
             </State></GenerateCredentialReportResult></GenerateCredentialReportResponse>"
                .to_owned()
        })
    });
    let told = status(&url, &["--format", "json", "--concurrency", "1"]);
    told.ends(0, "");
    let calls = seen.calls();
    let read = calls.iter().position(|call| call.action == "DescribeStacks").unwrap();
    for account in all.accounts.values() {
        let asks = |call: &Call| call.account == *account && call.action == "GenerateCredentialReport";
        assert!(calls.iter().position(asks) < Some(read), "an account kept its place while it waited for its report");
    }
}

#[test]
fn the_demo_shows_what_an_auditor_sees() {
    let page = std::env::temp_dir().join(format!("force-mfa-demo-{}.html", std::process::id()));
    let output = Command::new(moto_server().with_file_name("python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tools/demo_organization.py"))
        .args([env!("CARGO_BIN_EXE_force-mfa").as_ref(), page.as_os_str()])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    for wanted in
        ["acquired-shop  FAILED", "legacy-erp", "NOT INSTALLED", "Accounts          40   38 read", "Traceback"]
    {
        assert_eq!(said.contains(wanted), wanted != "Traceback", "{wanted}: {said}");
    }
    assert!(std::fs::read_to_string(&page).unwrap().contains("closed-trial"));
    std::fs::remove_file(page).unwrap();
}
