//! An emulated organization (moto's server): accounts in nested OUs, and a server in front of it that refuses, throttles
//! and counts.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]
#![allow(clippy::pedantic, reason = "test support reads better plain")]

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::command::{Account, DOCUMENT, answer, error, percent_encoded, post_as};

/// The management account, whose credentials the operator has.
pub const OWN: &str = "123456789012";

pub struct Organization {
    pub server: Account,
    /// The root, and the OUs by name.
    pub units: HashMap<String, String>,
    /// The ids of the accounts by name.
    pub accounts: HashMap<String, String>,
    /// The name and the `NamePrefix` of the stacks that are made from now on.
    pub stack_name: &'static str,
    pub prefix: &'static str,
    keys: HashMap<String, String>,
    stacks: Arc<Mutex<Vec<Stack>>>,
}

/// A stack, and what it made.
struct Stack {
    account: String,
    id: String,
    physical_ids: [String; 2],
}

impl Organization {
    pub fn new() -> Self {
        let server = Account::new();
        let mut organization = Self {
            server,
            units: HashMap::new(),
            accounts: HashMap::new(),
            stack_name: "force-mfa",
            prefix: "force-mfa",
            keys: HashMap::new(),
            stacks: Arc::default(),
        };
        organization.organizations("CreateOrganization", &json!({"FeatureSet": "ALL"}));
        let root = organization.organizations("ListRoots", &json!({}))["Roots"][0]["Id"].as_str().unwrap().to_owned();
        organization.units.insert("root".to_owned(), root);
        organization.accounts.insert("own".to_owned(), OWN.to_owned());
        organization.keys.insert(OWN.to_owned(), "test".to_owned());
        organization
    }

    /// The management account and these, each with a stack and a covered user.
    pub fn small(names: &[&str]) -> Self {
        let mut all = Self::new();
        for name in names {
            all.account(name, "root");
        }
        for name in names.iter().chain(&["own"]) {
            all.stack(name, &[]);
            all.console_user(name, "alice", "/");
            all.attach(name, "alice");
        }
        all
    }

    pub fn unit(&mut self, name: &str, parent: &str) {
        let unit =
            self.organizations("CreateOrganizationalUnit", &json!({"ParentId": self.units[parent], "Name": name}));
        self.units.insert(name.to_owned(), unit["OrganizationalUnit"]["Id"].as_str().unwrap().to_owned());
    }

    pub fn account(&mut self, name: &str, unit: &str) -> String {
        let email = format!("account{}@example.com", self.accounts.len());
        let status = self.organizations("CreateAccount", &json!({"AccountName": name, "Email": email}));
        let id = status["CreateAccountStatus"]["AccountId"].as_str().unwrap().to_owned();
        let (root, unit) = (self.units["root"].clone(), self.units[unit].clone());
        if root != unit {
            self.organizations(
                "MoveAccount",
                &json!({"AccountId": id, "SourceParentId": root, "DestinationParentId": unit}),
            );
        }
        let role = format!("arn:aws:iam::{id}:role/setup");
        let parameters = [("RoleArn", role.as_str()), ("RoleSessionName", "setup")];
        let answer = self.server.call("sts", "AssumeRole", &parameters);
        self.keys.insert(id.clone(), element(&answer, "AccessKeyId").unwrap());
        self.accounts.insert(name.to_owned(), id.clone());
        id
    }

    pub fn close(&self, name: &str) {
        self.organizations("CloseAccount", &json!({"AccountId": self.accounts[name]}));
    }

    /// A call of the query protocol in the account, which has to succeed.
    pub fn call(&self, account: &str, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut form = format!("Action={action}");
        for (key, value) in parameters {
            form.extend(["&", key, "=", &percent_encoded(value)]);
        }
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        let key = &self.keys[&self.accounts[account]];
        let (status, body) = post_as(key, self.server.port, service, headers, &form);
        assert_eq!(status, 200, "{action}: {body}");
        body
    }

    pub fn console_user(&self, account: &str, name: &str, path: &str) {
        self.call(account, "iam", "CreateUser", &[("UserName", name), ("Path", path)]);
        let password = [("UserName", name), ("Password", "An-example-only-1")];
        self.call(account, "iam", "CreateLoginProfile", &password);
    }

    pub fn policy(&self, account: &str) {
        self.call(account, "iam", "CreatePolicy", &[("PolicyName", self.prefix), ("PolicyDocument", DOCUMENT)]);
    }

    pub fn attach(&self, account: &str, user: &str) {
        let policy = self.policy_arn(account);
        self.call(account, "iam", "AttachUserPolicy", &[("UserName", user), ("PolicyArn", &policy)]);
    }

    pub fn policy_arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{}:policy/{}", self.accounts[account], self.prefix)
    }

    /// A stack with what the command reads of the account template's.
    pub fn stack(&self, account: &str, parameters: &[(&str, &str)]) {
        let keys = ["Mode", "Scope", "ExistingUsers", "ExemptUsers", "ExemptPaths", "ExemptTag"];
        let defaults = ["enforce", "console-users", "report", "", "", ""];
        let default = |(key, default): (&str, &str)| (key.to_owned(), json!({"Type": "String", "Default": default}));
        let declared: serde_json::Map<String, Value> = keys.into_iter().zip(defaults).map(default).collect();
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let properties = json!({"ManagedPolicyName": self.prefix, "PolicyDocument": document});
        let template = json!({
            "Parameters": declared,
            "Resources": {"Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}},
            "Outputs": {
                "PolicyArn": {"Value": {"Ref": "Policy"}},
                "OverflowGroupName": {"Value": format!("{}-overflow", self.prefix)},
                "FunctionName": {"Value": self.prefix},
                "Release": {"Value": "1.2.3"},
            },
        });
        let template = template.to_string();
        let mut form = vec![("StackName".to_owned(), self.stack_name), ("TemplateBody".to_owned(), &template)];
        for (place, (key, value)) in parameters.iter().enumerate() {
            let member = format!("Parameters.member.{}", place + 1);
            form.extend([(format!("{member}.ParameterKey"), *key), (format!("{member}.ParameterValue"), *value)]);
        }
        let form: Vec<(&str, &str)> = form.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let answer = self.call(account, "cloudformation", "CreateStack", &form);
        self.stacks.lock().unwrap().push(Stack {
            account: self.accounts[account].clone(),
            id: element(&answer, "StackId").unwrap(),
            physical_ids: [self.prefix.to_owned(), self.policy_arn(account)],
        });
    }

    fn organizations(&self, action: &str, body: &Value) -> Value {
        let headers =
            format!("Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: AWSOrganizationsV20161128.{action}\r\n");
        let (status, body) = post_as("test", self.server.port, "organizations", &headers, &body.to_string());
        assert_eq!(status, 200, "{action}: {body}");
        serde_json::from_str(&body).unwrap_or_default()
    }
}

/// One call as the server in front of the organization sees it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The account that it is made in; for `AssumeRole` the one that is to be entered.
    pub account: String,
    pub service: String,
    pub action: String,
    pub body: String,
    pub key: String,
}

/// What the server in front of the organization has seen.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Call>>>);

impl Seen {
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }

    /// How many calls of the action the account has got so far.
    pub fn count(&self, account: &str, action: &str) -> usize {
        self.calls().iter().filter(|call| call.account == account && call.action == action).count()
    }
}

/// A server in front of the organization. It answers what `intercept` answers, and passes everything else on. Before
/// `intercept` is asked, the call is in [`Seen`].
pub fn in_front_of(
    organization: &Organization,
    intercept: impl Fn(&Call, &Seen) -> Option<String> + Send + Sync + 'static,
) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let port = organization.server.port;
    let seen = Seen::default();
    let accounts: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let (shared, intercept, stacks) = (seen.clone(), Arc::new(intercept), Arc::clone(&organization.stacks));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (accounts, seen, intercept) = (Arc::clone(&accounts), shared.clone(), Arc::clone(&intercept));
            let stacks = Arc::clone(&stacks);
            thread::spawn(move || {
                answer(stream, |head, body| {
                    let call = call(&accounts.lock().unwrap(), head, body)?;
                    seen.0.lock().unwrap().push(call.clone());
                    let answer = intercept(&call, &seen).or_else(|| stack_resources(&stacks.lock().unwrap(), &call));
                    let answer = answer.unwrap_or_else(|| {
                        let (status, answer) = post_as(&call.key, port, &call.service, &headers(head), body);
                        format!("HTTP/1.1 {status} x\r\n\r\n{answer}")
                    });
                    if call.action == "AssumeRole"
                        && let Some(key) = element(&answer, "AccessKeyId")
                    {
                        accounts.lock().unwrap().insert(key, call.account.clone());
                    }
                    Some(answer)
                });
            });
        }
    });
    (url, seen)
}

/// The stack that made a resource, which moto does not know.
fn stack_resources(stacks: &[Stack], call: &Call) -> Option<String> {
    let asked = (call.action == "DescribeStackResources").then(|| parameter(&call.body, "PhysicalResourceId"))??;
    let made = |stack: &&Stack| stack.account == call.account && stack.physical_ids.contains(&asked);
    Some(match stacks.iter().find(made) {
        Some(Stack { id, .. }) => format!(
            "HTTP/1.1 200 OK\r\n\r\n<DescribeStackResourcesResponse><DescribeStackResourcesResult><StackResources>\
             <member><StackId>{id}</StackId></member>\
             </StackResources></DescribeStackResourcesResult></DescribeStackResourcesResponse>"
        ),
        None => error("ValidationError", &format!("Stack for {asked} does not exist")),
    })
}

fn call(accounts: &HashMap<String, String>, head: &str, body: &str) -> Option<Call> {
    let scope = head.split("Credential=").nth(1)?.split(',').next()?;
    let mut scope = scope.split('/');
    let key = scope.next()?.to_owned();
    let service = scope.nth(2)?.to_owned();
    let target = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-amz-target").then(|| value.split('.').next_back().unwrap().to_owned())
    });
    let action = target.or_else(|| parameter(body, "Action"))?;
    let entered = (action == "AssumeRole").then(|| parameter(body, "RoleArn")?.split(':').nth(4).map(str::to_owned));
    let account = entered.flatten().or_else(|| accounts.get(&key).cloned()).unwrap_or_else(|| OWN.to_owned());
    Some(Call { account, service, action, body: body.to_owned(), key })
}

/// A parameter of a call in the query protocol.
pub fn parameter(body: &str, key: &str) -> Option<String> {
    let value = body.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

fn headers(head: &str) -> String {
    let kept = ["content-type: ", "x-amz-target: "];
    let kept = |line: &&str| kept.iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    head.lines().filter(kept).flat_map(|line| [line, "\r\n"]).collect()
}

/// The text of the first element of this name.
pub fn element(xml: &str, name: &str) -> Option<String> {
    Some(xml.split(&format!("<{name}>")).nth(1)?.split('<').next()?.to_owned())
}

/// An answer that says no, with its HTTP status.
pub fn refusal(status: &str, code: &str, message: &str) -> String {
    error(code, message).replace("400 Bad Request", status)
}

/// Waits until moto's clock, which counts whole seconds, has moved on.
pub fn next_second() {
    thread::sleep(Duration::from_millis(1100));
}
