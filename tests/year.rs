//! A year in the life of an account, made up at random and told to the function: users come, go, change their names,
//! get and lose passwords; events are lost, doubled, late; IAM lags, throttles and fails. Whatever happens, the promises
//! of the guard hold after each invocation, and after the last sweep nobody is left out.
//!
//! `PROPTEST_CASES` sets the number of stories a test, `PROPTEST_RNG_SEED` makes them the same again. A story that
//! breaks a promise is shortened, told with what came of each step, and its seed is kept in `tests/year.seeds`.

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use force_mfa::handler::{Failure, Handler};
use force_mfa::iam::Iam;
use force_mfa::sweep::SweepError;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use serde_json::{Value, json};
use support::fake_iam::{FakeIam, Fault, GROUP, Group, POLICY, User, World, sdk_config};
use support::{Done, done, event, settings};
use tokio::time::Instant;

/// Stories a test; with four tests, 2,400 in all.
const STORIES: u32 = 600;

#[test]
fn new_console_users_are_covered_and_existing_ones_left_alone() {
    tell(Guard { enforces: true, existing: false, all_users: false });
}

#[test]
fn existing_console_users_are_covered_where_that_is_set() {
    tell(Guard { enforces: true, existing: true, all_users: false });
}

#[test]
fn users_without_a_password_are_covered_where_all_users_are_in_scope() {
    tell(Guard { enforces: true, existing: false, all_users: true });
}

#[test]
fn report_mode_never_writes() {
    tell(Guard { enforces: false, existing: true, all_users: false });
}

fn tell(guard: Guard) {
    let seeds = FileFailurePersistence::Direct("tests/year.seeds");
    let mut config = Config { failure_persistence: Some(Box::new(seeds)), ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = STORIES;
    }
    let result = TestRunner::new(config).run(&story(guard), |story| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(live(&story)).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

// What a story is made of.

/// How the guard is set in all stories of a test.
#[derive(Clone, Copy)]
struct Guard {
    enforces: bool,
    existing: bool,
    all_users: bool,
}

#[derive(Clone)]
struct Story {
    guard: Guard,
    /// Whether a path and a tag exempt; the name does in any case.
    exempt_by_attributes: bool,
    overflow_group: bool,
    /// The size of IAM's pages.
    page: usize,
    /// How often a credential report has to be asked for.
    report_takes: u32,
    start: Vec<Start>,
    steps: Vec<Step>,
}

/// A user who is there when the story begins, two hours after the policy.
#[derive(Clone)]
struct Start {
    who: Name,
    /// Hours before the story.
    created: i64,
    password: Option<i64>,
    covered: bool,
    like: Like,
}

/// What exempts a user, or fills its quotas.
#[derive(Clone, Copy)]
struct Like {
    path: &'static str,
    tagged: bool,
    policies_full: bool,
    groups_full: bool,
}

/// Few names, so that they are taken again.
type Name = &'static str;
const NAMES: [Name; 4] = ["alice", "bob", "carol", "break-glass"];
const EXEMPT_NAME: Name = "break-glass";
const EXEMPT_PATH: &str = "/service/";
const EXEMPT_TAG: (&str, &str) = ("mfa-exempt", "true");
/// A group that is not the guard's, to which the policy is attached too.
const TEAM: &str = "team";

/// What EventBridge makes of a call: after how many seconds each copy of its event comes; none if it is lost.
#[derive(Clone)]
struct News {
    copies: Vec<u32>,
    /// The caller typed the name in capitals.
    capitals: bool,
}

#[derive(Clone)]
enum Step {
    Create {
        who: Name,
        like: Like,
        unseen: u32,
        news: News,
    },
    GivePassword {
        who: Name,
        by_oneself: bool,
        unseen: u32,
        news: News,
    },
    ChangePassword {
        who: Name,
        news: News,
    },
    RemovePassword {
        who: Name,
        news: News,
    },
    Rename {
        who: Name,
        to: Name,
        news: News,
    },
    Delete {
        who: Name,
        news: News,
    },
    Become {
        who: Name,
        like: Like,
    },
    Detach {
        who: Name,
        news: News,
    },
    Leave {
        who: Name,
        group: &'static str,
        news: News,
    },
    JoinTeam {
        who: Name,
    },
    Wait {
        minutes: i64,
    },
    /// What happens to IAM's next calls.
    Trouble {
        calls: Vec<Option<Fault>>,
    },
    Sweep,
    Redrive,
}

fn story(guard: Guard) -> impl Strategy<Value = Story> {
    let start: Vec<_> = NAMES.iter().map(|who| option::of(start(who))).collect();
    let without_group = prop::bool::weighted(0.2);
    let details = (any::<bool>(), without_group, select(vec![1000, 2, 1]), 0..3_u32);
    (details, start, vec(step(), 1..16)).prop_map(move |(details, start, steps)| {
        let (exempt_by_attributes, without_group, page, report_takes) = details;
        let overflow_group = !without_group;
        let start = start.into_iter().flatten().collect();
        Story { guard, exempt_by_attributes, overflow_group, page, report_takes, start, steps }
    })
}

fn start(who: Name) -> impl Strategy<Value = Start> {
    let hours = select(vec![1, 5, 9000]);
    (hours.clone(), option::of(hours), prop::bool::weighted(0.2), like()).prop_map(
        move |(created, password, covered, like)| {
            let password = password.map(|hours: i64| hours.min(created));
            Start { who, created, password, covered, like }
        },
    )
}

fn like() -> impl Strategy<Value = Like> {
    let path = prop_oneof![3 => Just("/"), 1 => Just("/service/ci/"), 1 => Just("/eng/")];
    let rarely = || prop::bool::weighted(0.2);
    (path, rarely(), rarely(), prop::bool::weighted(0.1)).prop_map(|(path, tagged, policies_full, groups_full)| Like {
        path,
        tagged,
        policies_full,
        groups_full,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let who = || select(&NAMES[..]);
    let unseen = || prop_oneof![4 => Just(0), 1 => 1..8_u32, 1 => 8..30_u32];
    let group = select(vec![GROUP, TEAM]);
    let wait = select(vec![1, 4, 60, 150, 250, 60 * 24 * 30]);
    prop_oneof![
        4 => (who(), like(), unseen(), news()).prop_map(|(who, like, unseen, news)| Step::Create { who, like, unseen, news }),
        6 => (who(), prop::bool::weighted(0.2), unseen(), news())
            .prop_map(|(who, by_oneself, unseen, news)| Step::GivePassword { who, by_oneself, unseen, news }),
        1 => (who(), news()).prop_map(|(who, news)| Step::ChangePassword { who, news }),
        2 => (who(), news()).prop_map(|(who, news)| Step::RemovePassword { who, news }),
        3 => (who(), who(), news()).prop_map(|(who, to, news)| Step::Rename { who, to, news }),
        3 => (who(), news()).prop_map(|(who, news)| Step::Delete { who, news }),
        1 => (who(), like()).prop_map(|(who, like)| Step::Become { who, like }),
        3 => (who(), news()).prop_map(|(who, news)| Step::Detach { who, news }),
        2 => (who(), group, news()).prop_map(|(who, group, news)| Step::Leave { who, group, news }),
        1 => who().prop_map(|who| Step::JoinTeam { who }),
        3 => wait.prop_map(|minutes| Step::Wait { minutes }),
        3 => vec(option::weighted(0.7, fault()), 1..12).prop_map(|calls| Step::Trouble { calls }),
        3 => Just(Step::Sweep),
        1 => Just(Step::Redrive),
    ]
}

fn news() -> impl Strategy<Value = News> {
    let delay = || select(vec![3_u32, 15, 100, 200, 3600, 20_000]);
    let copies = prop_oneof![6 => vec(delay(), 1), 2 => vec(delay(), 0), 2 => vec(delay(), 2)];
    (copies, prop::bool::weighted(0.1)).prop_map(|(copies, capitals)| News { copies, capitals })
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::Error(400, "Throttling")),
        2 => Just(Fault::Error(503, "ServiceUnavailable")),
        1 => Just(Fault::Error(500, "ServiceFailure")),
        1 => Just(Fault::Error(409, "ConcurrentModification")),
        1 => Just(Fault::Error(403, "AccessDenied")),
        1 => Just(Fault::Hang),
        1 => Just(Fault::Reset),
        2 => Just(Fault::LoseAnswer),
        1 => Just(Fault::TruncateWithoutMarker),
    ]
}

// How a story goes.

/// The account and the world around the function, as they are at one moment of a story.
struct Year {
    guard: Guard,
    exempt_by_attributes: bool,
    overflow_group: bool,
    account: FakeIam,
    handler: Handler,
    trouble: Arc<Mutex<VecDeque<Option<Fault>>>>,
    began: DateTime<Utc>,
    under_way: Vec<Delivery>,
    /// The failure queue.
    dead: Vec<Record>,
    /// Who is in the credential report, by name: when it was made, and its password.
    report: Report,
    /// What has happened, line by line.
    told: String,
}

type Report = BTreeMap<String, (DateTime<Utc>, Option<DateTime<Utc>>)>;

/// An IAM call as CloudTrail tells it.
#[derive(Clone)]
struct Record {
    name: &'static str,
    who: String,
    at: DateTime<Utc>,
    group: &'static str,
    by_oneself: bool,
    failed: bool,
}

struct Delivery {
    due: DateTime<Utc>,
    tries: u32,
    record: Record,
}

/// What was before an invocation.
struct Before {
    covered: BTreeSet<String>,
    unseen: BTreeSet<String>,
    calls: usize,
    report_made: Option<DateTime<Utc>>,
}

/// A broken promise.
type Broken = String;

async fn live(story: &Story) -> Result<(), Broken> {
    let mut year = Year::begin(story).await;
    let result = year.go(story).await;
    result.map_err(|broken| format!("{broken}\n\nWhat happened:\n{}", year.told))
}

impl Year {
    async fn begin(story: &Story) -> Self {
        static REGION: AtomicU32 = AtomicU32::new(0);
        let Story { guard, exempt_by_attributes, overflow_group, .. } = *story;
        let trouble: Arc<Mutex<VecDeque<Option<Fault>>>> = Arc::default();
        let for_iam = trouble.clone();
        let account = FakeIam::default().with_faults(move |action, _| {
            let fault = for_iam.lock().unwrap().pop_front().flatten();
            let is_list = ["ListUsers", "GetGroup", "ListEntitiesForPolicy"].contains(&action);
            fault.filter(|fault| is_list || !matches!(fault, Fault::TruncateWithoutMarker))
        });
        let began = {
            let mut world = account.world();
            world.policy_created = Some(world.now - TimeDelta::hours(2));
            (world.page, world.report_takes) = (story.page, story.report_takes);
            let team = Group { name: TEAM.into(), policies: BTreeSet::from([POLICY.into()]), ..Group::default() };
            world.groups.insert(TEAM.into(), team);
            for (n, start) in (0..).zip(&story.start) {
                // No two users are made at one time: only that tells them apart when names change.
                let created = world.now - TimeDelta::hours(start.created) - TimeDelta::minutes(n);
                let mut user = User { name: start.who.into(), created, ..User::default() };
                start.like.apply(&mut user);
                if let Some(hours) = start.password {
                    user.set_password(created.max(world.now - TimeDelta::hours(hours)));
                }
                if start.covered {
                    user.policies.insert(POLICY.into());
                }
                world.users.insert(start.who.into(), user);
            }
            world.now
        };
        let settings = settings(&[
            ("FORCE_MFA_MODE", if guard.enforces { "enforce" } else { "report" }),
            ("FORCE_MFA_EXISTING_USERS", if guard.existing { "enforce" } else { "report" }),
            ("FORCE_MFA_SCOPE", if guard.all_users { "all-users" } else { "console-users" }),
            ("FORCE_MFA_EXEMPT_USERS", EXEMPT_NAME),
            ("FORCE_MFA_EXEMPT_PATHS", if exempt_by_attributes { EXEMPT_PATH } else { "" }),
            ("FORCE_MFA_EXEMPT_TAG", if exempt_by_attributes { "mfa-exempt=true" } else { "" }),
            ("FORCE_MFA_OVERFLOW_GROUP", if overflow_group { GROUP } else { "" }),
        ]);
        // The SDK counts its retries by region for a whole process; a region of its own keeps stories apart.
        let region = aws_config::Region::new(format!("story-{}", REGION.fetch_add(1, Ordering::Relaxed)));
        let config = sdk_config(None).to_builder().region(region).build();
        let connector = aws_smithy_runtime_api::client::http::SharedHttpConnector::new(account.clone());
        let handler = Handler::new(settings, Iam::with_connector(&config, connector).await);
        let (under_way, dead, report, told) = (Vec::new(), Vec::new(), Report::new(), String::new());
        Self {
            guard,
            exempt_by_attributes,
            overflow_group,
            account,
            handler,
            trouble,
            began,
            under_way,
            dead,
            report,
            told,
        }
    }

    async fn go(&mut self, story: &Story) -> Result<(), Broken> {
        for step in &story.steps {
            self.pass(TimeDelta::seconds(20)).await?;
            self.tell(&format!("{step:?}"));
            self.take(step).await?;
        }
        self.tell("all is well with IAM again, and all that is under way arrives");
        self.trouble.lock().unwrap().clear();
        self.account.world().users.values_mut().for_each(|user| user.unseen_for = 0);
        self.sweep().await?;
        while !self.under_way.is_empty() {
            self.pass(TimeDelta::hours(4)).await?;
        }
        self.pass(TimeDelta::minutes(4 * 60 + 1)).await?;
        self.sweep().await?;
        self.nobody_is_left_out()
    }

    /// Takes one step. A call that cannot succeed fails, as it would with IAM, and its event says so.
    async fn take(&mut self, step: &Step) -> Result<(), Broken> {
        let now = self.account.world().now;
        match step {
            Step::Create { who, like, unseen, news } => {
                let mut world = self.account.world();
                let is_new = !world.users.contains_key(*who);
                if is_new {
                    let mut user = User { name: (*who).into(), created: now, unseen_for: *unseen, ..User::default() };
                    like.apply(&mut user);
                    world.users.insert((*who).into(), user);
                }
                drop(world);
                self.send("CreateUser", who, is_new, "", false, news);
            }
            Step::GivePassword { who, by_oneself, unseen, news } => {
                let given = self.change(who, |user| {
                    let has_none = user.password.is_none();
                    if has_none {
                        user.set_password(now);
                        user.unseen_for = user.unseen_for.max(*unseen);
                    }
                    has_none
                });
                self.send("CreateLoginProfile", who, given, "", *by_oneself, news);
            }
            Step::ChangePassword { who, news } => {
                let changed = self.change(who, |user| {
                    user.password_changed = user.password.map(|_| now);
                    user.password.is_some()
                });
                self.send("UpdateLoginProfile", who, changed, "", false, news);
            }
            Step::RemovePassword { who, news } => {
                let removed = self.change(who, |user| user.password.take().is_some());
                self.send("DeleteLoginProfile", who, removed, "", false, news);
            }
            Step::Rename { who, to, news } => {
                let mut world = self.account.world();
                let user = if world.users.contains_key(*to) { None } else { world.users.remove(*who) };
                let renamed = user.is_some();
                if let Some(user) = user {
                    world.users.insert((*to).into(), User { name: (*to).into(), ..user });
                    for group in world.groups.values_mut() {
                        if group.members.remove(*who) {
                            group.members.insert((*to).into());
                        }
                    }
                }
                drop(world);
                self.send("UpdateUser", who, renamed, "", false, news);
            }
            Step::Delete { who, news } => {
                let mut world = self.account.world();
                let deleted = world.users.remove(*who).is_some();
                world.groups.values_mut().for_each(|group| group.members.retain(|member| member != who));
                drop(world);
                self.send("DeleteUser", who, deleted, "", false, news);
            }
            Step::Become { who, like } => {
                self.change(who, |user| {
                    like.apply(user);
                    true
                });
            }
            Step::Detach { who, news } => {
                let detached = self.change(who, |user| user.policies.remove(POLICY));
                self.send("DetachUserPolicy", who, detached, "", false, news);
            }
            Step::Leave { who, group, news } => {
                let left = self.account.world().groups.get_mut(*group).is_some_and(|group| group.members.remove(*who));
                self.send("RemoveUserFromGroup", who, left, group, false, news);
            }
            Step::JoinTeam { who } => {
                let mut world = self.account.world();
                if world.users.contains_key(*who)
                    && let Some(team) = world.groups.get_mut(TEAM)
                {
                    team.members.insert((*who).into());
                }
            }
            Step::Wait { minutes } => self.pass(TimeDelta::minutes(*minutes)).await?,
            Step::Trouble { calls } => self.trouble.lock().unwrap().extend(calls.iter().cloned()),
            Step::Sweep => self.sweep().await?,
            Step::Redrive => {
                for record in std::mem::take(&mut self.dead) {
                    let wrapped = json!({ "version": "1.0", "requestPayload": self.payload(&record) });
                    if self.deliver(&record, &wrapped).await? {
                        self.dead.push(record);
                    }
                }
            }
        }
        Ok(())
    }

    /// Changes a user; whether there is one and the change succeeded.
    fn change(&self, who: Name, change: impl FnOnce(&mut User) -> bool) -> bool {
        self.account.world().users.get_mut(who).is_some_and(change)
    }

    fn send(
        &mut self,
        name: &'static str,
        who: Name,
        succeeded: bool,
        group: &'static str,
        by_oneself: bool,
        news: &News,
    ) {
        let at = self.account.world().now;
        let who = if news.capitals { who.to_ascii_uppercase() } else { who.to_owned() };
        let record = Record { name, who, at, group, by_oneself, failed: !succeeded };
        for seconds in &news.copies {
            let due = at + TimeDelta::seconds((*seconds).into());
            self.under_way.push(Delivery { due, tries: 0, record: record.clone() });
        }
    }

    /// The event as it is sent now. Its age is real, while the story's clock is not.
    fn payload(&self, record: &Record) -> Value {
        let age = self.account.world().now - record.at;
        let mut payload = event(record.name, &record.who, age.num_seconds());
        let detail = &mut payload["detail"];
        if record.by_oneself {
            detail["requestParameters"] = Value::Null;
            detail["userIdentity"] = json!({ "type": "IAMUser", "userName": record.who });
        } else if record.name == "DetachUserPolicy" {
            detail["requestParameters"]["policyArn"] = json!(POLICY);
        } else if record.name == "RemoveUserFromGroup" {
            detail["requestParameters"]["groupName"] = json!(record.group);
        }
        if record.failed {
            detail["errorCode"] = json!("NoSuchEntityException");
        }
        payload
    }

    /// Lets time pass, and delivers what comes meanwhile, as Lambda does: two more tries, then the failure queue.
    async fn pass(&mut self, time: TimeDelta) -> Result<(), Broken> {
        let until = self.account.world().now + time;
        loop {
            self.under_way.sort_by_key(|delivery| delivery.due);
            if self.under_way.first().is_none_or(|delivery| delivery.due > until) {
                self.account.world().now = until;
                return Ok(());
            }
            let Delivery { due, tries, record } = self.under_way.remove(0);
            {
                let mut world = self.account.world();
                world.now = world.now.max(due);
            }
            let payload = self.payload(&record);
            if self.deliver(&record, &payload).await? {
                if tries < 2 {
                    let due = due + TimeDelta::minutes(i64::from(tries) + 1);
                    self.under_way.push(Delivery { due, tries: tries + 1, record });
                } else {
                    self.dead.push(record);
                }
            }
        }
    }

    /// Hands an event to the function; whether the invocation failed.
    async fn deliver(&mut self, record: &Record, payload: &Value) -> Result<bool, Broken> {
        let before = self.before();
        let done = self.invoke(payload).await;
        let age = (self.account.world().now - record.at).num_seconds();
        self.tell(&format!("  {} {}, {age} s old: {}", record.name, record.who, done.summary()));
        self.event_promises(record, age, &before, &done)?;
        Ok(!done.error_type.is_empty())
    }

    async fn sweep(&mut self) -> Result<(), Broken> {
        let before = self.before();
        let done = self.invoke(&json!({ "sweep": {} })).await;
        let what = if done.error_type.is_empty() { done.reply.to_string() } else { done.message.clone() };
        self.tell(&format!("  sweep: {what}"));
        self.sweep_promises(&before, &done)
    }

    async fn invoke(&self, payload: &Value) -> Done {
        let (now, until) = (self.account.world().now, Instant::now() + Duration::from_mins(4));
        done(self.handler.handle_at(payload.to_string().as_bytes(), now, until).await)
    }

    fn before(&self) -> Before {
        let world = self.account.world();
        let names = || world.users.keys();
        Before {
            covered: names().filter(|name| world.is_covered(name)).cloned().collect(),
            unseen: names().filter(|name| world.users[*name].unseen_for > 0).cloned().collect(),
            calls: world.calls.len(),
            report_made: world.report.as_ref().map(|(made, _)| *made),
        }
    }

    fn tell(&mut self, line: &str) {
        let since = self.account.world().now - self.began;
        let (days, hours, minutes) = (since.num_days(), since.num_hours() % 24, since.num_minutes() % 60);
        let _ = writeln!(self.told, "day {days:>3} {hours:02}:{minutes:02}  {line}");
    }

    // The promises.

    fn event_promises(&self, record: &Record, age: i64, before: &Before, done: &Done) -> Result<(), Broken> {
        let world = self.account.world();
        let name = record.who.to_ascii_lowercase();
        let calls = &world.calls[before.calls..];
        let concerns_us = match record.name {
            "CreateUser" | "CreateLoginProfile" | "DetachUserPolicy" => !record.failed,
            "RemoveUserFromGroup" => !record.failed && self.overflow_group && record.group == GROUP,
            _ => false,
        };
        if !concerns_us {
            return require(calls.is_empty() && done.summary().starts_with("ignored "), "other events cost no call");
        }
        self.written_to(&world, calls, |written, user| {
            require(written == name, "an event leads to writes to its own user only")?;
            // A young login profile's event is a proof of the password, also when the password has been removed since.
            let proves = record.name == "CreateLoginProfile" && age <= 15 * 60;
            let may_be = self.guard.all_users || proves;
            let has_password = user.is_none_or(|user| user.password.is_some());
            require(may_be || has_password, "nobody without a password is written to")
        })?;
        let outcome = done.summary();
        let user = world.users.get(&name);
        let covered = world.is_covered(&name);
        if outcome == "attached" || outcome.starts_with("added_to_group") {
            require(covered, "what is told as done is done")?;
        }
        let Some(user) = user.filter(|_| done.error_type.is_empty()) else { return Ok(()) };
        if user.password.is_none() || self.is_exempt(user) {
            return Ok(());
        }
        if before.unseen.contains(&name) {
            // A story's users are shown late by a number of calls, IAM's by seconds: an old event does not meet them.
            let looked_up = record.name != "CreateLoginProfile" || age >= 15 * 60;
            let no_password_seen = outcome == "ignored not_a_console_user" && looked_up;
            // The user of a removal existed before it.
            let removed = ["DetachUserPolicy", "RemoveUserFromGroup"].contains(&record.name);
            let gone = outcome == "ignored user_gone" && (age >= 119 || removed);
            let well = covered || no_password_seen || gone || outcome == "would_attach";
            return require(well, "a young event of a user who is not visible yet fails");
        }
        if self.guard.enforces {
            require(covered, "an event that ends well leaves its user covered")
        } else {
            require(outcome == "would_attach", "report mode tells what would be done")
        }
    }

    fn sweep_promises(&mut self, before: &Before, done: &Done) -> Result<(), Broken> {
        let account = self.account.clone();
        let world = account.world();
        if world.report.as_ref().map(|(made, _)| *made) != before.report_made {
            let users = world.users.iter();
            self.report = users.map(|(name, user)| (name.clone(), (user.created, user.password))).collect();
        }
        let calls = &world.calls[before.calls..];
        self.written_to(&world, calls, |written, user| {
            let Some(user) = user else {
                // A row of the report stays for five minutes though no list shows its user; where no password is needed,
                // only AttachUserPolicy then tells that the user is gone.
                let row = self.report.get(written);
                let young = row.is_some_and(|(created, _)| world.now - *created < TimeDelta::minutes(5));
                return require(self.guard.all_users && young, "a sweep writes to nobody who is gone");
            };
            let in_scope = user.password.is_some() || self.guard.all_users;
            require(in_scope, "a sweep writes to nobody without a password, unless all users are in scope")?;
            require(!before.covered.contains(written), "a sweep writes to nobody who is covered")?;
            require(self.guard.existing || is_new(&world, user), "existing users are left alone where reported")
        })?;
        let (report, unwell) = match &done.handled.result {
            Ok(_) => (&done.reply, BTreeSet::new()),
            Err(Failure::Sweep(SweepError::Incomplete(report))) => {
                let users = report.failed.iter().map(|failed| failed.user.to_ascii_lowercase());
                if report.remaining > 0 {
                    return Ok(());
                }
                (&Value::Null, users.collect())
            }
            Err(_) => {
                let wrote = calls.iter().any(|call| is_write(call));
                return require(!wrote, "a sweep that could not read the account writes nothing");
            }
        };
        // Whom the sweep can know of: the report does not tell of the user, or tells of its password.
        let in_question = world.users.iter().filter(|(name, user)| {
            let row = self.report.get(*name).filter(|(created, _)| *created == user.created);
            let known = row.is_none_or(|(_, password)| *password == user.password);
            known && !before.unseen.contains(*name) && self.should_be_covered(&world, user)
        });
        let uncovered: Vec<&String> =
            in_question.map(|(name, _)| name).filter(|name| !world.is_covered(name)).collect();
        if self.guard.enforces {
            let left: Vec<_> = uncovered.into_iter().filter(|name| !unwell.contains(*name)).collect();
            require(left.is_empty(), &format!("a complete sweep covers everybody it can know of, not {left:?}"))?;
            let newly = world.users.keys().filter(|name| world.is_covered(name) && !before.covered.contains(*name));
            let told = report["attached"].as_u64().zip(report["added_to_group"].as_u64()).map(|(a, b)| a + b);
            require(
                told.is_none_or(|told| told == newly.count() as u64),
                "a sweep counts those it has covered, no more and no less",
            )
        } else {
            let told = report["would_attach"].as_u64();
            require(told.is_none_or(|told| told >= uncovered.len() as u64), "report mode tells what would be done")
        }
    }

    /// The promises for every write, and those of `each`.
    fn written_to(
        &self,
        world: &World,
        calls: &[String],
        each: impl Fn(&str, Option<&User>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        for call in calls.iter().filter(|call| is_write(call)) {
            require(self.guard.enforces, "report mode writes nothing")?;
            let (action, name) = call.split_once(' ').unwrap_or((call, ""));
            require(
                action == "AttachUserPolicy" || action == "AddUserToGroup",
                "the function attaches and adds to the group, and writes nothing else",
            )?;
            let name = name.to_ascii_lowercase();
            let user = world.users.get(&name);
            // Nothing but the function changes IAM during an invocation, so that this is as it was at the write.
            require(!user.is_some_and(|user| self.is_exempt(user)), "nobody who is exempt is written to")?;
            each(&name, user)?;
        }
        Ok(())
    }

    /// After the last sweep, with a report made for it.
    fn nobody_is_left_out(&self) -> Result<(), Broken> {
        let world = self.account.world();
        for (name, user) in &world.users {
            let full = user.other_policies >= 10 && (user.other_groups >= 10 || !self.overflow_group);
            let covered = world.is_covered(name) || !self.should_be_covered(&world, user);
            require(covered || full || !self.guard.enforces, &format!("{name} is left out"))?;
        }
        Ok(())
    }

    fn is_exempt(&self, user: &User) -> bool {
        let by_tag = user.tags.get(EXEMPT_TAG.0).is_some_and(|value| value == EXEMPT_TAG.1);
        user.name == EXEMPT_NAME || self.exempt_by_attributes && (user.path.starts_with(EXEMPT_PATH) || by_tag)
    }

    fn should_be_covered(&self, world: &World, user: &User) -> bool {
        let in_scope = user.password.is_some() || self.guard.all_users;
        in_scope && !self.is_exempt(user) && (self.guard.existing || is_new(world, user))
    }
}

/// Whether the user's password, or without one the user, is from after the policy.
fn is_new(world: &World, user: &User) -> bool {
    user.password.or(Some(user.created)) >= world.policy_created
}

fn require(holds: bool, promise: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(format!("broken promise: {promise}")) }
}

fn is_write(call: &str) -> bool {
    !["Get", "List", "GenerateCredentialReport"].iter().any(|read| call.starts_with(read))
}

impl Like {
    fn apply(self, user: &mut User) {
        user.path = self.path.into();
        user.tags.clear();
        if self.tagged {
            user.tags.insert(EXEMPT_TAG.0.into(), EXEMPT_TAG.1.into());
        }
        user.other_policies = if self.policies_full { 10 } else { 0 };
        user.other_groups = if self.groups_full { 10 } else { 0 };
    }
}

// How a story reads.

impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guard { enforces, existing, all_users } = self.guard;
        let word = |set: bool, word: &'static str| if set { word } else { "" };
        writeln!(
            f,
            "\nthe guard {}{}{}{}{}, pages of {}, report ready after {} calls",
            if enforces { "enforces" } else { "reports" },
            word(existing, ", existing users too"),
            word(all_users, ", all users"),
            word(self.exempt_by_attributes, ", path and tag exempt"),
            word(!self.overflow_group, ", no overflow group"),
            self.page,
            self.report_takes
        )?;
        self.start.iter().try_for_each(|start| writeln!(f, "{start:?}"))?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step:?}"))
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is there since {} h before{:?}", self.who, self.created, self.like)?;
        if let Some(hours) = self.password {
            write!(f, ", with a password since {hours} h before")?;
        }
        f.write_str(if self.covered { ", carries the policy" } else { "" })
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unseen = |calls: u32| match calls {
            0 => String::new(),
            calls => format!(", not visible for {calls} calls"),
        };
        match self {
            Self::Create { who, like, unseen: calls, news } => {
                write!(f, "{who} is created{like:?}{}{news:?}", unseen(*calls))
            }
            Self::GivePassword { who, by_oneself, unseen: calls, news } => {
                let giver = if *by_oneself { "gives itself" } else { "is given" };
                write!(f, "{who} {giver} a password{}{news:?}", unseen(*calls))
            }
            Self::ChangePassword { who, news } => write!(f, "{who}'s password is changed{news:?}"),
            Self::RemovePassword { who, news } => write!(f, "{who}'s password is removed{news:?}"),
            Self::Rename { who, to, news } => write!(f, "{who} is renamed {to}{news:?}"),
            Self::Delete { who, news } => write!(f, "{who} is deleted{news:?}"),
            Self::Become { who, like } => write!(f, "{who} is changed{like:?}"),
            Self::Detach { who, news } => write!(f, "the policy is detached from {who}{news:?}"),
            Self::Leave { who, group, news } => write!(f, "{who} is removed from {group}{news:?}"),
            Self::JoinTeam { who } => write!(f, "{who} is added to {TEAM}, which carries the policy"),
            Self::Wait { minutes } => write!(f, "{minutes} minutes pass"),
            Self::Trouble { calls } => {
                let calls: Vec<String> = calls
                    .iter()
                    .map(|call| match call {
                        None => "an answer".to_owned(),
                        Some(Fault::Error(_, code)) => (*code).to_owned(),
                        Some(fault) => format!("{fault:?}"),
                    })
                    .collect();
                write!(f, "IAM's next calls meet {}", calls.join(", "))
            }
            Self::Sweep => write!(f, "a sweep"),
            Self::Redrive => write!(f, "the failure queue is redriven"),
        }
    }
}

impl fmt::Debug for Like {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, tagged, policies_full, groups_full } = self;
        if *path != "/" {
            write!(f, ", path {path}")?;
        }
        for (set, word) in
            [(tagged, "the exempt tag"), (policies_full, "ten other policies"), (groups_full, "ten other groups")]
        {
            if *set {
                write!(f, ", {word}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.copies.as_slice() {
            [] => write!(f, "; the event is lost")?,
            [seconds] => write!(f, "; the event comes after {seconds} s")?,
            copies => write!(f, "; the event comes after each of {copies:?} s")?,
        }
        if self.capitals { write!(f, ", with the name in capitals") } else { Ok(()) }
    }
}
