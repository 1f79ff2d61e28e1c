//! Months in an account's life, made up at random: users are created, renamed and deleted, get and lose passwords;
//! events are lost, doubled or late; IAM lags, throttles and fails. The function's promises must hold after each
//! invocation, and after the last sweep every user who should be covered is covered.
//!
//! `PROPTEST_CASES` sets the number of histories for each test; `PROPTEST_RNG_SEED` makes the same ones again. A history
//! that breaks a promise is shortened and printed with the result of each step. Its seed is kept in
//! `tests/random_histories.seeds`.

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

/// Histories for each test; with four tests, 2,400 in all.
const HISTORIES: u32 = 600;

#[test]
fn new_users_are_covered_and_existing_ones_skipped() {
    check_random_histories(Installation { enforces: true, existing: false, all_users: false });
}

#[test]
fn existing_users_are_covered_if_that_is_set() {
    check_random_histories(Installation { enforces: true, existing: true, all_users: false });
}

#[test]
fn users_without_a_password_are_covered_in_all_users() {
    check_random_histories(Installation { enforces: true, existing: false, all_users: true });
}

#[test]
fn report_mode_never_writes() {
    check_random_histories(Installation { enforces: false, existing: true, all_users: false });
}

fn check_random_histories(installation: Installation) {
    let seeds = FileFailurePersistence::Direct("tests/random_histories.seeds");
    let mut config = Config { failure_persistence: Some(Box::new(seeds)), ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = HISTORIES;
    }
    let result = TestRunner::new(config).run(&history(installation), |history| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(run_history(&history)).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

// What a history is made of.

/// The settings that are the same in all histories of a test.
#[derive(Clone, Copy)]
struct Installation {
    enforces: bool,
    existing: bool,
    all_users: bool,
}

#[derive(Clone)]
struct History {
    installation: Installation,
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

/// A user who is there when the history begins, two hours after the policy.
#[derive(Clone)]
struct Start {
    who: Name,
    /// Hours before the history.
    created: i64,
    password: Option<i64>,
    covered: bool,
    traits: UserTraits,
}

/// What exempts a user, or fills its quotas.
#[derive(Clone, Copy)]
struct UserTraits {
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
/// A group of the account's own, to which the policy is attached too.
const TEAM: &str = "team";

/// How the event of a call arrives: after how many seconds each copy comes. No copies: the event is lost.
#[derive(Clone)]
struct EventDelivery {
    copies: Vec<u32>,
    /// The caller typed the name in capitals.
    capitals: bool,
}

#[derive(Clone)]
enum Step {
    Create {
        who: Name,
        traits: UserTraits,
        unseen: u32,
        delivery: EventDelivery,
    },
    GivePassword {
        who: Name,
        by_oneself: bool,
        unseen: u32,
        delivery: EventDelivery,
    },
    ChangePassword {
        who: Name,
        delivery: EventDelivery,
    },
    RemovePassword {
        who: Name,
        delivery: EventDelivery,
    },
    Rename {
        who: Name,
        to: Name,
        delivery: EventDelivery,
    },
    Delete {
        who: Name,
        delivery: EventDelivery,
    },
    ChangeAttributes {
        who: Name,
        traits: UserTraits,
    },
    Detach {
        who: Name,
        delivery: EventDelivery,
    },
    Leave {
        who: Name,
        group: &'static str,
        delivery: EventDelivery,
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

fn history(installation: Installation) -> impl Strategy<Value = History> {
    let start: Vec<_> = NAMES.iter().map(|who| option::of(start(who))).collect();
    let without_group = prop::bool::weighted(0.2);
    let details = (any::<bool>(), without_group, select(vec![1000, 2, 1]), 0..3_u32);
    (details, start, vec(step(), 1..16)).prop_map(move |(details, start, steps)| {
        let (exempt_by_attributes, without_group, page, report_takes) = details;
        let overflow_group = !without_group;
        let start = start.into_iter().flatten().collect();
        History { installation, exempt_by_attributes, overflow_group, page, report_takes, start, steps }
    })
}

fn start(who: Name) -> impl Strategy<Value = Start> {
    let hours = select(vec![1, 5, 9000]);
    (hours.clone(), option::of(hours), prop::bool::weighted(0.2), user_traits()).prop_map(
        move |(created, password, covered, traits)| {
            let password = password.map(|hours: i64| hours.min(created));
            Start { who, created, password, covered, traits }
        },
    )
}

fn user_traits() -> impl Strategy<Value = UserTraits> {
    let path = prop_oneof![3 => Just("/"), 1 => Just("/service/ci/"), 1 => Just("/eng/")];
    let rarely = || prop::bool::weighted(0.2);
    (path, rarely(), rarely(), prop::bool::weighted(0.1))
        .prop_map(|(path, tagged, policies_full, groups_full)| UserTraits { path, tagged, policies_full, groups_full })
}

fn step() -> impl Strategy<Value = Step> {
    let who = || select(&NAMES[..]);
    let unseen = || prop_oneof![4 => Just(0), 1 => 1..8_u32, 1 => 8..30_u32];
    let group = select(vec![GROUP, TEAM]);
    let wait = select(vec![1, 4, 60, 150, 250, 60 * 24 * 30]);
    prop_oneof![
        4 => (who(), user_traits(), unseen(), event_delivery()).prop_map(|(who, traits, unseen, delivery)| Step::Create { who, traits, unseen, delivery }),
        6 => (who(), prop::bool::weighted(0.2), unseen(), event_delivery())
            .prop_map(|(who, by_oneself, unseen, delivery)| Step::GivePassword { who, by_oneself, unseen, delivery }),
        1 => (who(), event_delivery()).prop_map(|(who, delivery)| Step::ChangePassword { who, delivery }),
        2 => (who(), event_delivery()).prop_map(|(who, delivery)| Step::RemovePassword { who, delivery }),
        3 => (who(), who(), event_delivery()).prop_map(|(who, to, delivery)| Step::Rename { who, to, delivery }),
        3 => (who(), event_delivery()).prop_map(|(who, delivery)| Step::Delete { who, delivery }),
        1 => (who(), user_traits()).prop_map(|(who, traits)| Step::ChangeAttributes { who, traits }),
        3 => (who(), event_delivery()).prop_map(|(who, delivery)| Step::Detach { who, delivery }),
        2 => (who(), group, event_delivery()).prop_map(|(who, group, delivery)| Step::Leave { who, group, delivery }),
        1 => who().prop_map(|who| Step::JoinTeam { who }),
        3 => wait.prop_map(|minutes| Step::Wait { minutes }),
        3 => vec(option::weighted(0.7, fault()), 1..12).prop_map(|calls| Step::Trouble { calls }),
        3 => Just(Step::Sweep),
        1 => Just(Step::Redrive),
    ]
}

fn event_delivery() -> impl Strategy<Value = EventDelivery> {
    let delay = || select(vec![3_u32, 15, 100, 200, 3600, 20_000]);
    let copies = prop_oneof![6 => vec(delay(), 1), 2 => vec(delay(), 0), 2 => vec(delay(), 2)];
    (copies, prop::bool::weighted(0.1)).prop_map(|(copies, capitals)| EventDelivery { copies, capitals })
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

// How a history goes.

/// The account and the world around the function, as they are at one moment of a history.
struct Simulation {
    installation: Installation,
    exempt_by_attributes: bool,
    overflow_group: bool,
    account: FakeIam,
    handler: Handler,
    trouble: Arc<Mutex<VecDeque<Option<Fault>>>>,
    began: DateTime<Utc>,
    under_way: Vec<PendingInvocation>,
    /// The failure queue.
    dead: Vec<Record>,
    /// Who is in the credential report, by name: when it was made, and its password.
    report: Report,
    /// What has happened, one line for each step and invocation.
    log: String,
}

type Report = BTreeMap<String, (DateTime<Utc>, Option<DateTime<Utc>>)>;

/// An IAM call as CloudTrail records it.
#[derive(Clone)]
struct Record {
    name: &'static str,
    who: String,
    at: DateTime<Utc>,
    group: &'static str,
    by_oneself: bool,
    failed: bool,
}

struct PendingInvocation {
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

async fn run_history(history: &History) -> Result<(), Broken> {
    let mut simulation = Simulation::begin(history).await;
    let result = simulation.run(history).await;
    result.map_err(|broken| format!("{broken}\n\nWhat happened:\n{}", simulation.log))
}

impl Simulation {
    async fn begin(history: &History) -> Self {
        static REGION: AtomicU32 = AtomicU32::new(0);
        let History { installation, exempt_by_attributes, overflow_group, .. } = *history;
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
            (world.page, world.report_takes) = (history.page, history.report_takes);
            let team = Group { name: TEAM.into(), policies: BTreeSet::from([POLICY.into()]), ..Group::default() };
            world.groups.insert(TEAM.into(), team);
            for (n, start) in (0..).zip(&history.start) {
                // Each user is created at another time: a rename changes everything else that identifies a user.
                let created = world.now - TimeDelta::hours(start.created) - TimeDelta::minutes(n);
                let mut user = User { name: start.who.into(), created, ..User::default() };
                start.traits.apply(&mut user);
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
            ("FORCE_MFA_MODE", if installation.enforces { "enforce" } else { "report" }),
            ("FORCE_MFA_EXISTING_USERS", if installation.existing { "enforce" } else { "report" }),
            ("FORCE_MFA_SCOPE", if installation.all_users { "all-users" } else { "console-users" }),
            ("FORCE_MFA_EXEMPT_USERS", EXEMPT_NAME),
            ("FORCE_MFA_EXEMPT_PATHS", if exempt_by_attributes { EXEMPT_PATH } else { "" }),
            ("FORCE_MFA_EXEMPT_TAG", if exempt_by_attributes { "mfa-exempt=true" } else { "" }),
            ("FORCE_MFA_OVERFLOW_GROUP", if overflow_group { GROUP } else { "" }),
        ]);
        // The SDK counts its retries by region for a whole process; a region of its own keeps histories apart.
        let region = aws_config::Region::new(format!("history-{}", REGION.fetch_add(1, Ordering::Relaxed)));
        let config = sdk_config(None).to_builder().region(region).build();
        let connector = aws_smithy_runtime_api::client::http::SharedHttpConnector::new(account.clone());
        let handler = Handler::new(settings, Iam::with_connector(&config, connector).await);
        let (under_way, dead, report, log) = (Vec::new(), Vec::new(), Report::new(), String::new());
        Self {
            installation,
            exempt_by_attributes,
            overflow_group,
            account,
            handler,
            trouble,
            began,
            under_way,
            dead,
            report,
            log,
        }
    }

    async fn run(&mut self, history: &History) -> Result<(), Broken> {
        for step in &history.steps {
            self.pass(TimeDelta::seconds(20)).await?;
            self.log(&format!("{step:?}"));
            self.take(step).await?;
        }
        self.log("all is well with IAM again, and all that is under way arrives");
        self.trouble.lock().unwrap().clear();
        self.account.world().users.values_mut().for_each(|user| user.unseen_for = 0);
        self.sweep().await?;
        while !self.under_way.is_empty() {
            self.pass(TimeDelta::hours(4)).await?;
        }
        self.pass(TimeDelta::minutes(4 * 60 + 1)).await?;
        self.sweep().await?;
        self.no_user_is_left_out()
    }

    /// Takes one step. A call that cannot succeed fails, as it would with IAM, and its event says so.
    async fn take(&mut self, step: &Step) -> Result<(), Broken> {
        let now = self.account.world().now;
        match step {
            Step::Create { who, traits, unseen, delivery } => {
                let mut world = self.account.world();
                let is_new = !world.users.contains_key(*who);
                if is_new {
                    let mut user = User { name: (*who).into(), created: now, unseen_for: *unseen, ..User::default() };
                    traits.apply(&mut user);
                    world.users.insert((*who).into(), user);
                }
                drop(world);
                self.send("CreateUser", who, is_new, "", false, delivery);
            }
            Step::GivePassword { who, by_oneself, unseen, delivery } => {
                let given = self.change(who, |user| {
                    let has_none = user.password.is_none();
                    if has_none {
                        user.set_password(now);
                        user.unseen_for = user.unseen_for.max(*unseen);
                    }
                    has_none
                });
                self.send("CreateLoginProfile", who, given, "", *by_oneself, delivery);
            }
            Step::ChangePassword { who, delivery } => {
                let changed = self.change(who, |user| {
                    user.password_changed = user.password.map(|_| now);
                    user.password.is_some()
                });
                self.send("UpdateLoginProfile", who, changed, "", false, delivery);
            }
            Step::RemovePassword { who, delivery } => {
                let removed = self.change(who, |user| user.password.take().is_some());
                self.send("DeleteLoginProfile", who, removed, "", false, delivery);
            }
            Step::Rename { who, to, delivery } => {
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
                self.send("UpdateUser", who, renamed, "", false, delivery);
            }
            Step::Delete { who, delivery } => {
                let mut world = self.account.world();
                let deleted = world.users.remove(*who).is_some();
                world.groups.values_mut().for_each(|group| group.members.retain(|member| member != who));
                drop(world);
                self.send("DeleteUser", who, deleted, "", false, delivery);
            }
            Step::ChangeAttributes { who, traits } => {
                self.change(who, |user| {
                    traits.apply(user);
                    true
                });
            }
            Step::Detach { who, delivery } => {
                let detached = self.change(who, |user| user.policies.remove(POLICY));
                self.send("DetachUserPolicy", who, detached, "", false, delivery);
            }
            Step::Leave { who, group, delivery } => {
                let left = self.account.world().groups.get_mut(*group).is_some_and(|group| group.members.remove(*who));
                self.send("RemoveUserFromGroup", who, left, group, false, delivery);
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
        delivery: &EventDelivery,
    ) {
        let at = self.account.world().now;
        let who = if delivery.capitals { who.to_ascii_uppercase() } else { who.to_owned() };
        let record = Record { name, who, at, group, by_oneself, failed: !succeeded };
        for seconds in &delivery.copies {
            let due = at + TimeDelta::seconds((*seconds).into());
            self.under_way.push(PendingInvocation { due, tries: 0, record: record.clone() });
        }
    }

    /// The event as it is sent now. Its age is real, while the history's clock is not.
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
            let PendingInvocation { due, tries, record } = self.under_way.remove(0);
            {
                let mut world = self.account.world();
                world.now = world.now.max(due);
            }
            let payload = self.payload(&record);
            if self.deliver(&record, &payload).await? {
                if tries < 2 {
                    let due = due + TimeDelta::minutes(i64::from(tries) + 1);
                    self.under_way.push(PendingInvocation { due, tries: tries + 1, record });
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
        self.log(&format!("  {} {}, {age} s old: {}", record.name, record.who, done.summary()));
        self.event_promises(record, age, &before, &done)?;
        Ok(!done.error_type.is_empty())
    }

    async fn sweep(&mut self) -> Result<(), Broken> {
        let before = self.before();
        let done = self.invoke(&json!({ "sweep": {} })).await;
        let what = if done.error_type.is_empty() { done.reply.to_string() } else { done.message.clone() };
        self.log(&format!("  sweep: {what}"));
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

    fn log(&mut self, line: &str) {
        let since = self.account.world().now - self.began;
        let (days, hours, minutes) = (since.num_days(), since.num_hours() % 24, since.num_minutes() % 60);
        let _ = writeln!(self.log, "day {days:>3} {hours:02}:{minutes:02}  {line}");
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
            let may_be = self.installation.all_users || proves;
            let has_password = user.is_none_or(|user| user.password.is_some());
            require(may_be || has_password, "nobody without a password is written to")
        })?;
        let outcome = done.summary();
        let user = world.users.get(&name);
        let covered = world.is_covered(&name);
        if outcome == "attached" || outcome.starts_with("added_to_group") {
            require(covered, "what is reported as done is done")?;
        }
        let Some(user) = user.filter(|_| done.error_type.is_empty()) else { return Ok(()) };
        if user.password.is_none() || self.is_exempt(user) {
            return Ok(());
        }
        if before.unseen.contains(&name) {
            // A history's users are shown late by a number of calls, IAM's by seconds: an old event does not meet them.
            let looked_up = record.name != "CreateLoginProfile" || age >= 15 * 60;
            let no_password_seen = outcome == "ignored not_a_console_user" && looked_up;
            // The user of a removal existed before it.
            let removed = ["DetachUserPolicy", "RemoveUserFromGroup"].contains(&record.name);
            let gone = outcome == "ignored user_gone" && (age >= 119 || removed);
            let well = covered || no_password_seen || gone || outcome == "would_attach";
            return require(well, "a young event of a user who is not visible yet fails");
        }
        if self.installation.enforces {
            require(covered, "an event that ends well leaves its user covered")
        } else {
            require(outcome == "would_attach", "report mode reports what would be done")
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
                // A sweep keeps a young row of the report although no list shows its user. If no password is needed,
                // only AttachUserPolicy can then say that the user is gone.
                let row = self.report.get(written);
                let young = row.is_some_and(|(created, _)| world.now - *created < TimeDelta::minutes(5));
                return require(self.installation.all_users && young, "a sweep writes to nobody who is gone");
            };
            let in_scope = user.password.is_some() || self.installation.all_users;
            require(in_scope, "a sweep writes to nobody without a password, unless all users are in scope")?;
            require(!before.covered.contains(written), "a sweep writes to nobody who is covered")?;
            require(self.installation.existing || is_new(&world, user), "existing users are left alone where reported")
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
        // The users whom the sweep can find: the report has no row of the user, or has its present password.
        let in_question = world.users.iter().filter(|(name, user)| {
            let row = self.report.get(*name).filter(|(created, _)| *created == user.created);
            let known = row.is_none_or(|(_, password)| *password == user.password);
            known && !before.unseen.contains(*name) && self.should_be_covered(&world, user)
        });
        let uncovered: Vec<&String> =
            in_question.map(|(name, _)| name).filter(|name| !world.is_covered(name)).collect();
        if self.installation.enforces {
            let left: Vec<_> = uncovered.into_iter().filter(|name| !unwell.contains(*name)).collect();
            require(left.is_empty(), &format!("a complete sweep covers everybody it can know of, not {left:?}"))?;
            let newly = world.users.keys().filter(|name| world.is_covered(name) && !before.covered.contains(*name));
            let counted = report["attached"].as_u64().zip(report["added_to_group"].as_u64()).map(|(a, b)| a + b);
            require(
                counted.is_none_or(|counted| counted == newly.count() as u64),
                "a sweep counts those it has covered, no more and no less",
            )
        } else {
            let counted = report["would_attach"].as_u64();
            require(
                counted.is_none_or(|counted| counted >= uncovered.len() as u64),
                "report mode reports what would be done",
            )
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
            require(self.installation.enforces, "report mode writes nothing")?;
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
    fn no_user_is_left_out(&self) -> Result<(), Broken> {
        let world = self.account.world();
        for (name, user) in &world.users {
            let full = user.other_policies >= 10 && (user.other_groups >= 10 || !self.overflow_group);
            let covered = world.is_covered(name) || !self.should_be_covered(&world, user);
            require(covered || full || !self.installation.enforces, &format!("{name} is left out"))?;
        }
        Ok(())
    }

    fn is_exempt(&self, user: &User) -> bool {
        let by_tag = user.tags.get(EXEMPT_TAG.0).is_some_and(|value| value == EXEMPT_TAG.1);
        user.name == EXEMPT_NAME || self.exempt_by_attributes && (user.path.starts_with(EXEMPT_PATH) || by_tag)
    }

    fn should_be_covered(&self, world: &World, user: &User) -> bool {
        let in_scope = user.password.is_some() || self.installation.all_users;
        in_scope && !self.is_exempt(user) && (self.installation.existing || is_new(world, user))
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

impl UserTraits {
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

// How a history reads.

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Installation { enforces, existing, all_users } = self.installation;
        let word = |set: bool, word: &'static str| if set { word } else { "" };
        writeln!(
            f,
            "\nthe installation {}{}{}{}{}, pages of {}, report ready after {} calls",
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
        write!(f, "{} is there since {} h before{:?}", self.who, self.created, self.traits)?;
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
            Self::Create { who, traits, unseen: calls, delivery } => {
                write!(f, "{who} is created{traits:?}{}{delivery:?}", unseen(*calls))
            }
            Self::GivePassword { who, by_oneself, unseen: calls, delivery } => {
                let giver = if *by_oneself { "gives itself" } else { "is given" };
                write!(f, "{who} {giver} a password{}{delivery:?}", unseen(*calls))
            }
            Self::ChangePassword { who, delivery } => write!(f, "{who}'s password is changed{delivery:?}"),
            Self::RemovePassword { who, delivery } => write!(f, "{who}'s password is removed{delivery:?}"),
            Self::Rename { who, to, delivery } => write!(f, "{who} is renamed {to}{delivery:?}"),
            Self::Delete { who, delivery } => write!(f, "{who} is deleted{delivery:?}"),
            Self::ChangeAttributes { who, traits } => write!(f, "{who} is changed{traits:?}"),
            Self::Detach { who, delivery } => write!(f, "the policy is detached from {who}{delivery:?}"),
            Self::Leave { who, group, delivery } => write!(f, "{who} is removed from {group}{delivery:?}"),
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

impl fmt::Debug for UserTraits {
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

impl fmt::Debug for EventDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.copies.as_slice() {
            [] => write!(f, "; the event is lost")?,
            [seconds] => write!(f, "; the event comes after {seconds} s")?,
            copies => write!(f, "; the event comes after each of {copies:?} s")?,
        }
        if self.capitals { write!(f, ", with the name in capitals") } else { Ok(()) }
    }
}
