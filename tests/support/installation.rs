//! infra/template.yaml, deployed to an emulated account, with what the emulator leaves out of it created by API, and with
//! stubs for what it does not have.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]
#![allow(clippy::pedantic, reason = "test support reads better plain")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_cloudformation::types::{Capability, Parameter};
use aws_sdk_lambda::types::{DestinationConfig, OnFailure};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use super::command::{Account, GROUP, POLICY, Told, command, told};
use super::proxy::{self, Reply, Request, cbor, reply};

pub const FUNCTION: &str = "force-mfa";
pub const FUNCTION_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:force-mfa";
pub const ROLE: &str = "force-mfa-function";
pub const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:force-mfa-alarms";
pub const FAILURES: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/force-mfa-failures";
pub const DEAD_LETTERS: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/force-mfa-rule-dead-letters";
pub const ENFORCING: &str = include_str!("../../src/bin/force-mfa/commands/doctor/checks/enforcing.json");

/// Gets the action and the request.
pub type Hook = Arc<dyn Fn(&str, &Request) -> Option<Reply> + Send + Sync>;

/// What the stubs answer; by default, that all is well.
#[derive(Clone, Default)]
pub struct Stubs {
    /// Sees each request first; what it answers stands.
    pub hook: Option<Hook>,
    /// This action is not allowed to the command.
    pub denied: Option<String>,
    /// This action is not allowed to the function's role.
    pub refused: Option<&'static str>,
    /// No pattern matches.
    pub no_pattern_matches: bool,
    /// A mute rule that is active mutes this alarm; an empty name stands for all.
    pub muted: Option<&'static str>,
    /// No sweep has finished.
    pub no_sweep: bool,
}

/// The deployed template.
pub struct Installation {
    pub account: Account,
    /// With the stubs; `config` goes past them.
    pub url: String,
    pub config: SdkConfig,
    pub stubs: Arc<Mutex<Stubs>>,
    /// The actions that were called through the stubs.
    pub called: Arc<Mutex<BTreeSet<String>>>,
}

impl Installation {
    pub async fn deploy() -> Self {
        let account = Account::new();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
                Credentials::for_tests(),
            ))
            .endpoint_url(account.url())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let template =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/template.yaml")).unwrap();
        for (path, body) in [("/artifacts", ""), ("/artifacts/function.zip", "not run here"), ("/trail", "")] {
            put(account.port, path, body);
        }
        let parameter = |key: &str, value: &str| Parameter::builder().parameter_key(key).parameter_value(value).build();
        let call = aws_sdk_cloudformation::Client::new(&config).create_stack().stack_name("force-mfa");
        let call = call
            .template_body(&template)
            .capabilities(Capability::CapabilityNamedIam)
            .parameters(parameter("CodeBucket", "artifacts"))
            .parameters(parameter("CodeKey", "function.zip"))
            // moto drops the function's architecture.
            .parameters(parameter("Architecture", "x86_64"))
            .parameters(parameter("AlarmEmail", "security@example.com"));
        call.send().await.unwrap();
        let alarms: Vec<String> = template
            .lines()
            .filter_map(|line| {
                Some(format!("force-mfa-{}", line.trim().strip_prefix("AlarmName: !Sub ${NamePrefix}-")?))
            })
            .collect();
        assert!(alarms.len() > 3, "{alarms:?}");
        let stubs = Arc::new(Mutex::new(Stubs::default()));
        let called = Arc::new(Mutex::new(BTreeSet::new()));
        let url = {
            let (stubs, called, alarms) = (Arc::clone(&stubs), Arc::clone(&called), alarms.clone());
            proxy::start(account.port, move |request| {
                called.lock().unwrap().insert(request.action());
                let stubs = stubs.lock().unwrap().clone();
                stubs.answer(request, &alarms)
            })
        };
        let installation = Self { account, url, config, stubs, called };
        installation.create_the_rest(&alarms).await;
        installation
    }

    /// What moto leaves out of a template: the group, queue policies, the OnFailure destination and alarms; and what is
    /// not the template's: a trail, and a sweep that has finished.
    async fn create_the_rest(&self, alarms: &[String]) {
        let iam = self.iam();
        // moto writes the template's document in Python's spelling.
        let version = iam.create_policy_version().policy_arn(POLICY).policy_document(ENFORCING).set_as_default(true);
        version.send().await.unwrap();
        iam.create_group().group_name(GROUP).send().await.unwrap();
        iam.attach_group_policy().group_name(GROUP).policy_arn(POLICY).send().await.unwrap();
        self.set_on_failure("arn:aws:sqs:us-east-1:123456789012:force-mfa-failures").await;
        self.set_queue_policy(DEAD_LETTERS, &dead_letter_policy()).await;
        for alarm in alarms {
            self.put_alarm(alarm, &[TOPIC]);
        }
        let trails = aws_sdk_cloudtrail::Client::new(&self.config);
        trails.create_trail().name("trail").s3_bucket_name("trail").is_multi_region_trail(true).send().await.unwrap();
        trails.start_logging().name("trail").send().await.unwrap();
        self.put_metric("ForceMfa", "SweepFinished", ("FunctionName", FUNCTION), 1.0);
    }

    pub fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.config)
    }

    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(&self.config)
    }

    pub fn cloudwatch(&self, action: &str, body: Value) {
        let (status, answer) = proxy::cloudwatch(self.account.port, action, &body);
        assert_eq!(status, 200, "{action}: {answer}");
    }

    pub fn put_metric(&self, namespace: &str, name: &str, dimension: (&str, &str), value: f64) {
        let dimensions = json!([{ "Name": dimension.0, "Value": dimension.1 }]);
        let data = json!([{ "MetricName": name, "Value": value, "Dimensions": dimensions }]);
        self.cloudwatch("PutMetricData", json!({ "Namespace": namespace, "MetricData": data }));
    }

    pub async fn set_on_failure(&self, destination: &str) {
        let on_failure = OnFailure::builder().destination(destination).build();
        let destination = DestinationConfig::builder().on_failure(on_failure).build();
        let call = self.lambda().put_function_event_invoke_config().function_name(FUNCTION);
        call.destination_config(destination).send().await.unwrap();
    }

    pub async fn set_queue_policy(&self, url: &str, policy: &str) {
        let call = aws_sdk_sqs::Client::new(&self.config).set_queue_attributes().queue_url(url);
        call.attributes(QueueAttributeName::Policy, policy).send().await.unwrap();
    }

    pub fn put_alarm(&self, name: &str, actions: &[&str]) {
        self.cloudwatch(
            "PutMetricAlarm",
            json!({
                "AlarmName": name, "Namespace": "ForceMfa", "MetricName": "PolicyBroken", "Statistic": "Maximum",
                "Period": 300, "EvaluationPeriods": 1, "Threshold": 0.0, "ComparisonOperator": "GreaterThanThreshold",
                "ActionsEnabled": true, "AlarmActions": actions,
            }),
        );
    }

    /// The command with this account's endpoint, through the stubs.
    pub fn run(&self, arguments: &[&str]) -> Told {
        told(&mut command(&self.url, arguments))
    }
}

/// As the template has it.
pub fn dead_letter_policy() -> String {
    let allow = json!({
        "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": "arn:aws:sqs:us-east-1:123456789012:force-mfa-rule-dead-letters",
        "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-*"}},
    });
    json!({ "Version": "2012-10-17", "Statement": [allow] }).to_string()
}

impl Stubs {
    fn answer(&self, request: &Request, alarms: &[String]) -> Option<Reply> {
        let action = request.action();
        if let Some(reply) = self.hook.as_ref().and_then(|hook| hook(&action, request)) {
            return Some(reply);
        }
        if self.denied.as_ref() == Some(&action) {
            return Some(proxy::denied(request));
        }
        match action.split(':').nth(1).unwrap() {
            "ListStackResources" => Some(reply(200, "text/xml", resources(alarms))),
            "SimulatePrincipalPolicy" => Some(reply(200, "text/xml", self.simulate(request))),
            "TestEventPattern" => {
                let pattern = String::from_utf8_lossy(&request.body).contains("CreateLoginProfile\\\",");
                let matches = !self.no_pattern_matches && pattern;
                Some(reply(200, "application/x-amz-json-1.1", format!(r#"{{"Result": {matches}}}"#)))
            }
            "ListAlarmMuteRules" | "GetAlarmMuteRule" => Some(self.mute(action.ends_with("ListAlarmMuteRules"))),
            "GetMetricData" if self.no_sweep => Some(cbor(200, &json!({ "MetricDataResults": [] }))),
            _ => None,
        }
    }

    fn simulate(&self, request: &Request) -> String {
        let result = |action: &String| {
            let decision = if self.refused == Some(action.as_str()) { "implicitDeny" } else { "allowed" };
            format!("<member><EvalActionName>{action}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>")
        };
        let results: String = request.form_list("ActionNames.member.").iter().map(result).collect();
        format!(
            "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults>{results}\
             </EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
        )
    }

    fn mute(&self, list: bool) -> Reply {
        let Some(alarm) = self.muted else { return cbor(200, &json!({ "AlarmMuteRuleSummaries": [] })) };
        if list {
            let arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm-mute-rule:quiet";
            return cbor(200, &json!({ "AlarmMuteRuleSummaries": [{ "AlarmMuteRuleArn": arn }] }));
        }
        let mut rule = json!({ "Name": "quiet", "Status": "ACTIVE" });
        if !alarm.is_empty() {
            rule["MuteTargets"] = json!({ "AlarmNames": [alarm] });
        }
        cbor(200, &rule)
    }
}

/// The stack's resources as CloudFormation lists them. moto leaves out the names of what it skips.
fn resources(alarms: &[String]) -> String {
    let rules = ["console-users", "sweep", "first-sweep", "changed-policy", "changed-function", "changed-alarms"];
    let mut all = vec![
        ("AWS::IAM::ManagedPolicy", POLICY.to_owned()),
        ("AWS::IAM::Group", GROUP.to_owned()),
        ("AWS::IAM::Role", ROLE.to_owned()),
        ("AWS::Logs::LogGroup", "/aws/lambda/force-mfa".to_owned()),
        ("AWS::Lambda::Function", FUNCTION.to_owned()),
        ("AWS::SQS::Queue", FAILURES.to_owned()),
        ("AWS::SQS::Queue", DEAD_LETTERS.to_owned()),
        ("AWS::SNS::Topic", TOPIC.to_owned()),
    ];
    all.extend(rules.map(|rule| ("AWS::Events::Rule", format!("force-mfa-{rule}"))));
    all.extend(alarms.iter().map(|alarm| ("AWS::CloudWatch::Alarm", alarm.clone())));
    let member = |(kind, physical): &(&str, String)| {
        format!(
            "<member><LogicalResourceId>Any</LogicalResourceId><PhysicalResourceId>{physical}</PhysicalResourceId>\
             <ResourceType>{kind}</ResourceType><LastUpdatedTimestamp>2026-01-01T00:00:00Z</LastUpdatedTimestamp>\
             <ResourceStatus>CREATE_COMPLETE</ResourceStatus></member>"
        )
    };
    let members: String = all.iter().map(member).collect();
    format!(
        "<ListStackResourcesResponse><ListStackResourcesResult><StackResourceSummaries>{members}</StackResourceSummaries>\
         </ListStackResourcesResult></ListStackResourcesResponse>"
    )
}

/// A PUT of S3, which creates a bucket or an object.
fn put(port: u16, path: &str, body: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
