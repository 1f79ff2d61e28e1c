//! `force-mfa uninstall`: takes the policy from everyone and deletes it, with the overflow group. The function may do
//! none of that, and deleting the stack does not: an account must not be disarmed by the way.

use std::time::Duration;

use aws_sdk_eventbridge::types::RuleState;
use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::{GroupName, PolicyArn, UserName};
use force_mfa::pace;
use tokio::time::Instant;

use crate::error::{CliError, ExitStatus, FailedCall};
use crate::session::{Flags, Purpose, Session, TIME_LIMIT};
use crate::terminal::{Interrupt, ask, can_ask, note, note_dry_run, one_line, print};

/// Users and groups named in the plan; `--dry-run` goes through them all.
const NAMED: usize = 3;
/// IAM may hold something for in use for a while after its last use has ended.
const CONFLICT_PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Show what would be done, with every name, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Skip the confirmation prompt; needs --account
    #[arg(long, short, requires = "account")]
    yes: bool,
    /// The number of the account. If the credentials are of another account, nothing is done
    #[arg(long, value_name = "NUMBER")]
    account: Option<String>,
}

/// Uninstalls.
///
/// # Errors
/// If the account cannot be read, a rule would undo it, or the operator does not want it.
pub async fn run(flags: &Flags, arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    let purpose = if arguments.dry_run { Purpose::Read } else { Purpose::Uninstall };
    let open = Session::open(flags, purpose, arguments.account.as_deref());
    let Some(session) = interrupt.unless_stopped(open).await? else {
        return nothing("there is neither a stack nor a policy of that name in this account");
    };
    let policy = &session.settings.policy;
    let overflow_group = session.settings.overflow_group.clone().or_else(|| {
        let name = policy.as_str().rsplit('/').next()?;
        GroupName::new(&format!("{name}-overflow"))
    });
    let plan = async {
        let rules = enabled_rules(&session, policy).await?;
        Ok((rules, Plan::read(&session.iam, policy, overflow_group).await?))
    };
    let (rules, plan) = interrupt.unless_stopped(plan).await?;
    let Some(plan) = plan else {
        return nothing(&format!("the policy {policy} does not exist"));
    };
    note(&session.summary());
    print(&plan.told())?;
    if !rules.is_empty() {
        return Err(CliError::Failed(format!(
            "refused: the function would attach the policy again, for in {} its rules are enabled: {}. Delete the stack \
             first (`aws cloudformation delete-stack --stack-name {} --region {}`, or its StackSet instance), then run \
             this again",
            session.home,
            rules.join(", "),
            session.stack.as_ref().and_then(|stack| stack.stack_name()).unwrap_or("NAME"),
            session.home,
        )));
    }
    if arguments.dry_run {
        print(&plan.steps().join("\n"))?;
        note_dry_run();
        return Ok(ExitStatus::default());
    }
    if !arguments.yes {
        agree(policy, interrupt).await?;
    }
    let stopped = interrupt.clone();
    let iam = session.iam.paced(Instant::now() + TIME_LIMIT, move || stopped.stopped());
    plan.carry_out(&iam, interrupt).await
}

fn nothing(why: &str) -> Result<ExitStatus, CliError> {
    print(&format!("Nothing to uninstall: {why}."))?;
    Ok(ExitStatus::default())
}

async fn agree(policy: &PolicyArn, interrupt: &Interrupt) -> Result<(), CliError> {
    if !can_ask() {
        return Err(CliError::Usage(
            "there is no terminal to ask on: give --yes and --account NUMBER, or --dry-run to see what would be done"
                .to_owned(),
        ));
    }
    let question = "This policy will no longer require MFA for any user. Type the account ID to continue:";
    if ask(question, interrupt).await? == policy.account() {
        Ok(())
    } else {
        Err(CliError::Failed("that is not the account's number: nothing was changed".to_owned()))
    }
}

/// The rules of the stack: the policy's name begins theirs.
async fn enabled_rules(session: &Session, policy: &PolicyArn) -> Result<Vec<String>, CliError> {
    let prefix = policy.as_str().rsplit('/').next().unwrap_or_default();
    let config = aws_sdk_eventbridge::config::Builder::from(&session.config).region(session.home.clone()).build();
    let client = aws_sdk_eventbridge::Client::from_conf(config);
    let mut rules = Vec::new();
    let mut token = None;
    loop {
        let call = client.list_rules().name_prefix(prefix).set_next_token(token);
        let page = call.send().await.map_err(|error| FailedCall::new("events:ListRules", &error))?;
        for rule in page.rules.unwrap_or_default() {
            let name = rule.name.unwrap_or_default();
            let ours = name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            if ours && rule.state != Some(RuleState::Disabled) {
                rules.push(name);
            }
        }
        token = page.next_token;
        if token.is_none() {
            return Ok(rules);
        }
    }
}

/// What there is to take away.
#[derive(Debug)]
struct Plan {
    policy: PolicyArn,
    users: Vec<UserName>,
    groups: Vec<GroupName>,
    overflow: Option<OverflowGroup>,
    old_versions: Vec<String>,
    /// Why the policy cannot be deleted, if it cannot: somebody else uses it for something else.
    kept_for: Vec<String>,
}

#[derive(Debug)]
struct OverflowGroup {
    name: GroupName,
    members: Vec<UserName>,
    /// Policies that it has beside ours: somebody uses it for something else, and it stays with its members.
    others: Vec<String>,
}

impl Plan {
    /// `None` if there is no such policy.
    async fn read(iam: &Iam, policy: &PolicyArn, overflow_group: Option<GroupName>) -> Result<Option<Self>, IamError> {
        let Some(bounded) = iam.permissions_boundary_count(policy).await? else { return Ok(None) };
        let (mut users, groups) = iam.entities_for_policy(policy).await?;
        users.sort_by_key(UserName::folded);
        let roles = iam.roles_with_policy(policy).await?;
        let mut kept_for: Vec<String> = roles.iter().map(|role| format!("it is attached to role {role}")).collect();
        if bounded > 0 {
            kept_for.push(format!("it is the permissions boundary of {bounded} user(s) or role(s)"));
        }
        let overflow = match overflow_group {
            Some(name) => match iam.other_group_policies(&name, policy).await? {
                Some(others) => Some(OverflowGroup { members: iam.group_members(&name).await?, name, others }),
                None => None,
            },
            None => None,
        };
        let old_versions = iam.old_policy_versions(policy).await?;
        Ok(Some(Self { policy: policy.clone(), users, groups, overflow, old_versions, kept_for }))
    }

    /// The plan in short.
    fn told(&self) -> String {
        let mut lines = vec![
            format!("Account {}, uninstall of {}:", self.policy.account(), self.policy),
            line("detach from users", &self.users),
            line("detach from groups", &self.groups),
        ];
        match &self.overflow {
            Some(OverflowGroup { name, members, others }) if others.is_empty() => {
                lines.push(line("remove from overflow group", members));
                lines.push(format!("  {:<26}       {name}", "delete overflow group"));
            }
            Some(OverflowGroup { name, others, .. }) => {
                let others = others.join(", ");
                lines.push(format!("  {:<26}       {name}: it has other policies ({others})", "keep overflow group"));
            }
            None => {}
        }
        if self.kept_for.is_empty() {
            lines.push(line("delete old versions", &self.old_versions));
            lines.push("  delete the policy".to_owned());
        } else {
            lines.push(format!("  {:<26}       {}", "keep the policy", self.kept_for.join("; ")));
        }
        lines.join("\n")
    }

    /// The plan in full, step by step.
    fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self.users.iter().map(|user| format!("would detach from user {user}")).collect();
        steps.extend(self.groups.iter().map(|group| format!("would detach from group {group}")));
        if let Some(OverflowGroup { name, members, .. }) =
            self.overflow.as_ref().filter(|group| group.others.is_empty())
        {
            steps.extend(members.iter().map(|user| format!("would remove user {user} from group {name}")));
            steps.push(format!("would delete group {name}"));
        }
        if self.kept_for.is_empty() {
            let versions = self.old_versions.iter();
            steps.extend(versions.map(|version| format!("would delete version {version} of the policy")));
            steps.push(format!("would delete policy {}", self.policy));
        }
        steps
    }

    /// Does it in an order in which each step can be repeated, and what finds the rest goes last.
    async fn carry_out(self, iam: &Iam, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
        let mut exit = ExitStatus::default();
        let policy = &self.policy;
        let call = |user: UserName| {
            let (iam, policy) = (iam.clone(), policy.clone());
            async move { iam.detach_user_policy(&user, &policy).await }
        };
        each(&self.users, interrupt, &mut exit, call, |user| format!("detached from user {user}")).await?;
        let call = |group: GroupName| {
            let (iam, policy) = (iam.clone(), policy.clone());
            async move { iam.detach_group_policy(&group, &policy).await }
        };
        each(&self.groups, interrupt, &mut exit, call, |group| format!("detached from group {group}")).await?;
        if let Some(OverflowGroup { name, members, .. }) = self.overflow.filter(|group| group.others.is_empty()) {
            let call = |user: UserName| {
                let (iam, name) = (iam.clone(), name.clone());
                async move { iam.remove_user_from_group(&user, &name).await }
            };
            let told = |user: &UserName| format!("removed user {user} from group {name}");
            each(&members, interrupt, &mut exit, call, told).await?;
            if !exit.incomplete {
                retry_on_delete_conflict(interrupt, || iam.delete_group(&name)).await?;
                print(&format!("deleted group {name}"))?;
            }
        }
        if exit.incomplete {
            note("The policy is kept until nobody carries it. Mend what failed, then run this again for the rest.");
            return Ok(exit);
        }
        if !self.kept_for.is_empty() {
            note(&format!("The policy is kept: {}. Detach it there, then run this again.", self.kept_for.join("; ")));
            return Ok(ExitStatus { incomplete: true, ..exit });
        }
        for version in &self.old_versions {
            retry_on_delete_conflict(interrupt, || iam.delete_policy_version(policy, version)).await?;
            print(&format!("deleted version {version} of the policy"))?;
        }
        retry_on_delete_conflict(interrupt, || iam.delete_policy(policy)).await?;
        print(&format!("deleted policy {policy}"))?;
        Ok(exit)
    }
}

/// One line of the plan: how many, and the first of them.
fn line<T: std::fmt::Display>(what: &str, all: &[T]) -> String {
    let mut names: Vec<String> = all.iter().take(NAMED).map(T::to_string).collect();
    if all.len() > NAMED {
        names.push("…".to_owned());
    }
    format!("  {what:<26} {:>4}  {}", all.len(), names.join(", ")).trim_end().to_owned()
}

/// One call for each of `all`; tells each as it is done.
async fn each<T, F>(
    all: &[T],
    interrupt: &Interrupt,
    exit: &mut ExitStatus,
    call: impl Fn(T) -> F,
    told: impl Fn(&T) -> String,
) -> Result<(), CliError>
where
    T: Clone + std::fmt::Display + Send + 'static,
    F: Future<Output = Result<(), IamError>> + Send + 'static,
{
    let mut printed = Ok(());
    let call = |item: T| {
        let answer = call(item.clone());
        async move { (item, answer.await) }
    };
    let done = |(item, result)| match result {
        Ok(()) => {
            let line = print(&told(&item));
            if printed.is_ok() {
                printed = line;
            }
        }
        Err(error) => {
            exit.incomplete = true;
            let stop = CliError::from(error);
            exit.denied |= matches!(stop, CliError::NotAllowed(_));
            note(&format!("FAILED {item}: {}", one_line(&stop.to_string())));
        }
    };
    pace::for_each(all.iter().cloned(), || interrupt.stopped(), call, done).await;
    go_on(interrupt)?;
    printed
}

fn go_on(interrupt: &Interrupt) -> Result<(), CliError> {
    if interrupt.stopped() {
        return Err(CliError::Interrupted(
            "stopped; what is told above is done. Run this again for the rest".to_owned(),
        ));
    }
    Ok(())
}

/// Deletes something that IAM may hold for in use for a moment longer.
async fn retry_on_delete_conflict<F>(interrupt: &Interrupt, delete: impl Fn() -> F) -> Result<(), CliError>
where
    F: Future<Output = Result<(), IamError>>,
{
    let mut pauses = CONFLICT_PAUSES.iter();
    loop {
        go_on(interrupt)?;
        let Err(error) = delete().await else { return Ok(()) };
        let call = FailedCall::from(&error);
        match pauses.next() {
            Some(pause) if call.code() == Some("DeleteConflict") => tokio::time::sleep(*pause).await,
            _ => return Err(call.into()),
        }
    }
}
