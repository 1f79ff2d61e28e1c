//! An IAM in memory, with what emulators lack: quotas, pages, a listing and look-ups that lag, faults by schedule.
//!
//! It speaks the Query protocol, either as the SDK's connector (no sockets, so that a test may stop the clock) or
//! behind an HTTP server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_types::body::SdkBody;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use force_mfa::iam::Iam;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub const POLICY: &str = "arn:aws:iam::123456789012:policy/force-mfa";
pub const GROUP: &str = "force-mfa-overflow";
/// The text of a policy that forces MFA.
pub const ENFORCING: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Deny",
    "NotAction": ["iam:CreateVirtualMFADevice", "iam:EnableMFADevice"], "Resource": "*",
    "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}]}"#;

/// One call that was made: `AttachUserPolicy alice`.
pub type Call = String;

/// What to do instead of answering.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answer with this status and error code.
    Error(u16, &'static str),
    /// Never answer.
    Hang,
    /// Break the connection off.
    Reset,
    /// Do as asked, and break the connection off before the answer.
    LoseAnswer,
    /// Answer that there is more, and not where.
    TruncateWithoutMarker,
    /// Answer with this in place of what was asked for.
    Say(u16, &'static str),
}

#[derive(Clone, Debug, Default)]
pub struct User {
    pub name: String,
    pub path: String,
    pub tags: BTreeMap<String, String>,
    pub created: DateTime<Utc>,
    /// When it got its login profile.
    pub password: Option<DateTime<Utc>>,
    pub password_changed: Option<DateTime<Utc>>,
    pub mfa: bool,
    pub policies: BTreeSet<String>,
    /// Policies beside those listed, to fill the quota.
    pub other_policies: usize,
    pub other_groups: usize,
    /// So many calls do not see the user yet.
    pub unseen_for: u32,
    /// The user was left alone when any write named it.
    pub writes: u32,
}

#[derive(Debug, Default)]
pub struct Group {
    pub name: String,
    pub policies: BTreeSet<String>,
    pub members: BTreeSet<String>,
}

type FaultRule = Box<dyn FnMut(&str, &str) -> Option<Fault> + Send>;

/// The state; tests reach in.
pub struct World {
    pub now: DateTime<Utc>,
    pub users: BTreeMap<String, User>,
    pub groups: BTreeMap<String, Group>,
    pub policy_created: Option<DateTime<Utc>>,
    /// The text of the policy's default version.
    pub policy_text: String,
    pub calls: Vec<Call>,
    pub page: usize,
    /// Every call takes so long.
    pub latency: Duration,
    /// The credential report and when it was made.
    pub report: Option<(DateTime<Utc>, String)>,
    /// So many GenerateCredentialReport calls until a new report is ready.
    pub report_takes: u32,
    report_under_way: Option<u32>,
    fault: FaultRule,
}

#[derive(Clone)]
pub struct FakeIam(Arc<Mutex<World>>);

impl std::fmt::Debug for FakeIam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeIam")
    }
}

impl Default for FakeIam {
    /// An account with the policy (installed a day ago) and the overflow group that carries it, and no users.
    fn default() -> Self {
        let now = Utc::now().trunc_subsecs(0);
        let group = Group { name: GROUP.into(), policies: BTreeSet::from([POLICY.into()]), ..Group::default() };
        Self(Arc::new(Mutex::new(World {
            now,
            users: BTreeMap::new(),
            groups: BTreeMap::from([(GROUP.to_owned(), group)]),
            policy_created: Some(now - TimeDelta::days(1)),
            policy_text: ENFORCING.to_owned(),
            calls: Vec::new(),
            page: 1000,
            latency: Duration::ZERO,
            report: None,
            report_takes: 0,
            report_under_way: None,
            fault: Box::new(|_, _| None),
        })))
    }
}

impl FakeIam {
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Adds a user made an hour ago, without a password.
    pub fn with_user(self, name: &str, change: impl FnOnce(&mut User)) -> Self {
        {
            let mut world = self.world();
            let created = world.now - TimeDelta::hours(1);
            let mut user = User { name: name.into(), path: "/".into(), created, ..User::default() };
            change(&mut user);
            world.users.insert(name.to_ascii_lowercase(), user);
        }
        self
    }

    /// Adds a user with a password given an hour ago.
    pub fn with_console_user(self, name: &str) -> Self {
        self.with_user(name, |user| user.set_password(user.created))
    }

    /// Has calls fail as `rule` says, which is asked with action and subject before each.
    pub fn with_faults(self, rule: impl FnMut(&str, &str) -> Option<Fault> + Send + 'static) -> Self {
        self.world().fault = Box::new(rule);
        self
    }

    /// Has the first calls fail so, then none.
    pub fn failing_first(self, faults: impl IntoIterator<Item = Fault>) -> Self {
        let mut faults: std::collections::VecDeque<_> = faults.into_iter().collect();
        self.with_faults(move |_, _| faults.pop_front())
    }

    pub fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }

    /// Calls that change something.
    pub fn writes(&self) -> Vec<Call> {
        let reads = ["Get", "List", "GenerateCredentialReport"];
        self.calls().into_iter().filter(|call| !reads.iter().any(|read| call.starts_with(read))).collect()
    }

    /// Whether the policy is on the user, directly or through a group.
    pub fn is_covered(&self, name: &str) -> bool {
        self.world().is_covered(name)
    }

    /// A client of this account that needs no sockets.
    pub async fn iam(&self) -> Iam {
        Iam::with_connector(&sdk_config(None), SharedHttpConnector::new(self.clone())).await
    }

    /// Answers one request of the Query protocol; `None` if the connection breaks.
    pub fn answer(&self, body: &[u8]) -> Answer {
        let form: BTreeMap<String, String> = form_urlencoded(body);
        let get = |key: &str| form.get(key).cloned().unwrap_or_default();
        let action = get("Action");
        let subject = ["UserName", "GroupName", "PolicyArn"].iter().map(|key| get(key)).find(|text| !text.is_empty());
        let subject = subject.unwrap_or_default();
        let mut world = self.world();
        world.calls.push(format!("{action} {subject}").trim().to_owned());
        match (world.fault)(&action, &subject) {
            Some(Fault::Error(status, code)) => return Answer::Http(status, error(code, "as the test says")),
            Some(Fault::Hang) => return Answer::Never,
            Some(Fault::Reset) => return Answer::Reset,
            Some(Fault::LoseAnswer) => {
                let _ = world.act(&action, &form);
                return Answer::Reset;
            }
            Some(Fault::TruncateWithoutMarker) => {
                let more = "<IsTruncated>true</IsTruncated>";
                return Answer::Http(200, result(&action, more));
            }
            Some(Fault::Say(200, fields)) => return Answer::Http(200, result(&action, fields)),
            Some(Fault::Say(status, body)) => return Answer::Http(status, body.to_owned()),
            None => {}
        }
        match world.act(&action, &form) {
            Ok(fields) => Answer::Http(200, result(&action, &fields)),
            Err((status, code)) => Answer::Http(status, error(code, &format!("{action} of {subject}"))),
        }
    }
}

pub enum Answer {
    Http(u16, String),
    Never,
    Reset,
}

impl User {
    pub fn set_password(&mut self, at: DateTime<Utc>) {
        self.password = Some(at);
        self.password_changed = Some(at);
    }
}

type ActResult = Result<String, (u16, &'static str)>;
const NO_SUCH_ENTITY: (u16, &str) = (404, "NoSuchEntity");
const LIMIT_EXCEEDED: (u16, &str) = (409, "LimitExceeded");

impl World {
    pub fn is_covered(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.users.get(&name).is_some_and(|user| user.policies.contains(POLICY))
            || self.groups.values().any(|group| group.policies.contains(POLICY) && group.members.contains(&name))
    }

    /// The user, if this call sees it.
    fn seen(&mut self, form: &BTreeMap<String, String>) -> Result<&mut User, (u16, &'static str)> {
        let name = form.get("UserName").map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        let user = self.users.get_mut(&name).ok_or(NO_SUCH_ENTITY)?;
        if user.unseen_for > 0 {
            user.unseen_for -= 1;
            return Err(NO_SUCH_ENTITY);
        }
        Ok(user)
    }

    fn act(&mut self, action: &str, form: &BTreeMap<String, String>) -> ActResult {
        let get = |key: &str| form.get(key).cloned().unwrap_or_default();
        match action {
            "AttachUserPolicy" => {
                let exists = self.policy_created.is_some() && get("PolicyArn") == POLICY;
                let user = self.seen(form)?;
                user.writes += 1;
                if !exists {
                    return Err(NO_SUCH_ENTITY);
                }
                if !user.policies.contains(POLICY) && user.policies.len() + user.other_policies >= 10 {
                    return Err(LIMIT_EXCEEDED);
                }
                user.policies.insert(POLICY.into());
                Ok(String::new())
            }
            "AddUserToGroup" => {
                let group = get("GroupName").to_ascii_lowercase();
                let name = get("UserName").to_ascii_lowercase();
                let groups = self.groups.values().filter(|group| group.members.contains(&name)).count();
                let user = self.seen(form)?;
                user.writes += 1;
                let full = groups + user.other_groups >= 10;
                let group = self.groups.get_mut(&group).ok_or(NO_SUCH_ENTITY)?;
                if full && !group.members.contains(&name) {
                    return Err(LIMIT_EXCEEDED);
                }
                group.members.insert(name);
                Ok(String::new())
            }
            "GetUser" => {
                let user = self.seen(form)?;
                let mut tags = String::new();
                for (key, value) in &user.tags {
                    let _ = write!(tags, "<member><Key>{key}</Key><Value>{value}</Value></member>");
                }
                Ok(format!("<User>{}<Tags>{tags}</Tags></User>", user_fields(user)))
            }
            "GetLoginProfile" => {
                let user = self.seen(form)?;
                let created = user.password.ok_or(NO_SUCH_ENTITY)?;
                let name = &user.name;
                Ok(format!(
                    "<LoginProfile><UserName>{name}</UserName><CreateDate>{}</CreateDate></LoginProfile>",
                    iso(created)
                ))
            }
            "GetPolicy" => {
                let created = self.policy_created.filter(|_| get("PolicyArn") == POLICY).ok_or(NO_SUCH_ENTITY)?;
                let fields = format!("<Arn>{POLICY}</Arn><DefaultVersionId>v2</DefaultVersionId>");
                Ok(format!("<Policy>{fields}<CreateDate>{}</CreateDate></Policy>", iso(created)))
            }
            "GetPolicyVersion" => {
                self.policy_created.filter(|_| get("PolicyArn") == POLICY).ok_or(NO_SUCH_ENTITY)?;
                if get("VersionId") != "v2" {
                    return Err(NO_SUCH_ENTITY);
                }
                let text = utf8_percent_encode(&self.policy_text, NON_ALPHANUMERIC);
                Ok(format!("<PolicyVersion><Document>{text}</Document><VersionId>v2</VersionId></PolicyVersion>"))
            }
            "ListUsers" => {
                let all: Vec<String> = self
                    .users
                    .values()
                    .filter(|user| user.unseen_for == 0)
                    .map(|user| format!("<member>{}</member>", user_fields(user)))
                    .collect();
                let (page, more) = self.page(&all, form);
                Ok(format!("<Users>{page}</Users>{more}"))
            }
            "GetGroup" => {
                let group = self.groups.get(&get("GroupName").to_ascii_lowercase()).ok_or(NO_SUCH_ENTITY)?;
                let members = group.members.iter().filter_map(|name| self.users.get(name));
                let all: Vec<String> = members.map(|user| format!("<member>{}</member>", user_fields(user))).collect();
                let name = group.name.clone();
                let (page, more) = self.page(&all, form);
                let now = iso(self.now);
                let group = format!(
                    "<Group><Path>/</Path><GroupName>{name}</GroupName><GroupId>AGPAEXAMPLE</GroupId><Arn>arn:aws:iam::123456789012:group/{name}</Arn><CreateDate>{now}</CreateDate></Group>"
                );
                Ok(format!("{group}<Users>{page}</Users>{more}"))
            }
            "ListEntitiesForPolicy" => {
                if self.policy_created.is_none() {
                    return Err(NO_SUCH_ENTITY);
                }
                let users = self.users.values().filter(|user| user.policies.contains(POLICY));
                let users = users.map(|user| format!("<u><UserName>{}</UserName></u>", user.name));
                let groups = self.groups.values().filter(|group| group.policies.contains(POLICY));
                let groups = groups.map(|group| format!("<g><GroupName>{}</GroupName></g>", group.name));
                let all: Vec<String> = groups.chain(users).collect();
                let (page, more) = self.page(&all, form);
                let part = |tag: &str| -> String {
                    page.split("</u>")
                        .flat_map(|text| text.split("</g>"))
                        .filter_map(|text| text.strip_prefix(tag))
                        .map(|text| format!("<member>{text}</member>"))
                        .collect()
                };
                Ok(format!(
                    "<PolicyUsers>{}</PolicyUsers><PolicyGroups>{}</PolicyGroups>{more}",
                    part("<u>"),
                    part("<g>")
                ))
            }
            "GenerateCredentialReport" => Ok(format!("<State>{}</State>", self.generate_report())),
            "GetCredentialReport" => {
                if self.report_under_way.is_some() {
                    return Err((404, "ReportInProgress"));
                }
                let (made, csv) = self.report.as_ref().ok_or((410, "ReportNotPresent"))?;
                if self.now - *made >= TimeDelta::hours(4) {
                    return Err((410, "ReportExpired"));
                }
                Ok(format!(
                    "<Content>{}</Content><ReportFormat>text/csv</ReportFormat><GeneratedTime>{}</GeneratedTime>",
                    aws_smithy_types::base64::encode(csv),
                    iso(*made)
                ))
            }
            other => panic!("the function made a call that the fake IAM does not know: {other}"),
        }
    }

    fn generate_report(&mut self) -> &'static str {
        let fresh = self.report.as_ref().is_some_and(|(made, _)| self.now - *made < TimeDelta::hours(4));
        if fresh && self.report_under_way.is_none() {
            return "COMPLETE";
        }
        let left = self.report_under_way.unwrap_or(self.report_takes);
        if left == 0 {
            self.report_under_way = None;
            let csv = self.credential_report();
            self.report = Some((self.now, csv));
            return "COMPLETE";
        }
        self.report_under_way = Some(left - 1);
        if left == self.report_takes { "STARTED" } else { "INPROGRESS" }
    }

    /// The report as IAM would make it now.
    pub fn credential_report(&self) -> String {
        let mut csv = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,mfa_active\n\
                       <root_account>,arn:aws:iam::123456789012:root,2020-01-01T00:00:00+00:00,not_supported,no_information,not_supported,not_supported,true\n"
            .to_owned();
        for user in self.users.values() {
            let User { name, path, .. } = user;
            let changed =
                user.password_changed.filter(|_| user.password.is_some()).map_or("N/A".into(), |at| at.to_rfc3339());
            let _ = writeln!(
                csv,
                "\"{name}\",\"arn:aws:iam::123456789012:user{path}{name}\",{},{},no_information,{changed},N/A,{}",
                user.created.to_rfc3339(),
                user.password.is_some(),
                user.mfa
            );
        }
        csv
    }

    fn page(&self, all: &[String], form: &BTreeMap<String, String>) -> (String, String) {
        let from: usize = form.get("Marker").map_or(0, |marker| marker.parse().unwrap());
        let to = (from + self.page).min(all.len());
        let more = match to < all.len() {
            true => format!("<IsTruncated>true</IsTruncated><Marker>{to}</Marker>"),
            false => "<IsTruncated>false</IsTruncated>".to_owned(),
        };
        (all[from.min(to)..to].concat(), more)
    }
}

impl HttpConnector for FakeIam {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.answer(request.body().bytes().expect("the request's body is in memory"));
        let latency = self.world().latency;
        HttpConnectorFuture::new(async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            match answer {
                Answer::Http(status, body) => {
                    Ok(Response::new(StatusCode::try_from(status).expect("a status"), SdkBody::from(body)))
                }
                Answer::Never => std::future::pending().await,
                Answer::Reset => Err(ConnectorError::io("the connection was reset".into())),
            }
        })
    }
}

impl wiremock::Respond for FakeIam {
    fn respond(&self, request: &wiremock::Request) -> wiremock::ResponseTemplate {
        match self.answer(&request.body) {
            Answer::Http(status, body) => wiremock::ResponseTemplate::new(status).set_body_raw(body, "text/xml"),
            Answer::Never => wiremock::ResponseTemplate::new(200).set_delay(Duration::from_secs(3600)),
            Answer::Reset => panic!("an HTTP stub cannot reset a connection; use the connector"),
        }
    }
}

/// The SDK's configuration with made-up credentials.
pub fn sdk_config(endpoint: Option<&str>) -> aws_config::SdkConfig {
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "made-up", None, None, "tests");
    let mut config = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::v2026_01_12())
        .region(aws_config::Region::new("us-east-1"))
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(credentials));
    config.set_endpoint_url(endpoint.map(str::to_owned));
    config.build()
}

fn user_fields(user: &User) -> String {
    let User { name, path, created, .. } = user;
    format!(
        "<Path>{path}</Path><UserName>{name}</UserName><UserId>AIDAEXAMPLE</UserId>\
         <Arn>arn:aws:iam::123456789012:user{path}{name}</Arn><CreateDate>{}</CreateDate>",
        iso(*created)
    )
}

fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn result(action: &str, fields: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{action}Result>{fields}</{action}Result></{action}Response>"
    )
}

fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
}

fn form_urlencoded(body: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}
