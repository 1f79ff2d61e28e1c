//! A real IAM emulator, moto's server, with the account of `events/account.json`, and microburst in front of it for
//! the quotas that moto lacks. Both come from the checkout's virtual environment, which `make setup` makes.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_iam::Client;
use aws_sdk_iam::types::Tag;
use serde_json::{Value, json};

use super::fake_iam::{GROUP, POLICY, sdk_config};

/// A server that ends with the test.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An emulated account; `url` goes through the faults, `client` does not.
pub struct Account {
    pub url: String,
    pub client: Client,
    _servers: [Server; 2],
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tool(name: &str) -> PathBuf {
    let tool = root().join(".venv/bin").join(name);
    assert!(tool.exists(), "{} is missing: run `make setup` (or `make test`) first", tool.display());
    tool
}

fn start(name: &str, arguments: impl FnOnce(u16) -> Vec<String>) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new(tool(name))
        .args(arguments(port))
        .env("MOTO_ACCOUNT_ID", "123456789012")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "{name} ended at its start");
        assert!(started.elapsed() < Duration::from_secs(60), "{name} does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    Server { child, url: format!("http://127.0.0.1:{port}") }
}

pub fn start_moto() -> Server {
    start("moto_server", |port| ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec())
}

/// `events/account.json`.
pub fn description() -> Value {
    serde_json::from_slice(&std::fs::read(root().join("events/account.json")).unwrap()).unwrap()
}

impl Account {
    /// Starts the emulator and makes the account.
    pub async fn start() -> Self {
        let description = description();
        let moto = start_moto();
        let client = Client::new(&with_https_off(&moto.url));
        client.create_policy().policy_name("force-mfa").policy_document(DENY).send().await.unwrap();
        client.create_group().group_name(GROUP).send().await.unwrap();
        client.attach_group_policy().group_name(GROUP).policy_arn(POLICY).send().await.unwrap();
        let mut full = Vec::new();
        for user in description["users"].as_array().unwrap() {
            make_user(&client, user).await;
            if user["quota_full"] == true {
                full.push(json!({
                    "service": "iam", "operation": "AttachUserPolicy",
                    "body": format!("UserName == '{}'", user["name"].as_str().unwrap()),
                    "error": { "code": "LimitExceeded", "status": 409, "message": "Cannot exceed quota for PoliciesPerUser: 10" },
                }));
            }
        }
        let rules = std::env::temp_dir()
            .join(format!("force-mfa-rules-{}.json", moto.url.replace(|c: char| !c.is_ascii_digit(), "")));
        std::fs::write(&rules, json!({ "rules": full }).to_string()).unwrap();
        let proxy = start("microburst", |port| {
            let config = rules.display().to_string();
            let port = port.to_string();
            ["--upstream", &moto.url, "--port", &port, "--no-resign", "--config", &config].map(str::to_owned).to_vec()
        });
        std::fs::remove_file(&rules).unwrap();
        // Its first answer takes it long, having all of IAM's shapes to read.
        let through = Client::new(&with_https_off(&proxy.url));
        through.get_policy().policy_arn(POLICY).send().await.unwrap();
        Self { url: proxy.url.clone(), client, _servers: [proxy, moto] }
    }

    /// Whether the user carries the policy, directly or by the overflow group.
    pub async fn is_covered(&self, user: &str) -> bool {
        let attached = self.client.list_attached_user_policies().user_name(user).send().await.unwrap();
        let groups = self.client.list_groups_for_user().user_name(user).send().await.unwrap();
        attached.attached_policies().iter().any(|policy| policy.policy_arn() == Some(POLICY))
            || groups.groups().iter().any(|group| group.group_name() == GROUP)
    }
}

const DENY: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "NotAction": "iam:EnableMFADevice", "Resource": "*"}]}"#;

async fn make_user(client: &Client, user: &Value) {
    let name = user["name"].as_str().unwrap();
    let mut create = client.create_user().user_name(name).set_path(user["path"].as_str().map(str::to_owned));
    for (key, value) in user["tags"].as_object().into_iter().flatten() {
        create = create.tags(Tag::builder().key(key).value(value.as_str().unwrap()).build().unwrap());
    }
    create.send().await.unwrap();
    if user["password"] == true {
        client.create_login_profile().user_name(name).password("Correct-horse-7-battery").send().await.unwrap();
    }
    if user["policy"] == true {
        client.attach_user_policy().user_name(name).policy_arn(POLICY).send().await.unwrap();
    }
}

/// A configuration with a client of its own for plain HTTP.
fn with_https_off(url: &str) -> aws_config::SdkConfig {
    let http = aws_smithy_http_client::Builder::new().build_http();
    sdk_config(Some(url)).into_builder().http_client(http).build()
}
