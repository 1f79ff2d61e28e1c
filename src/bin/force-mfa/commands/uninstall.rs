//! `force-mfa uninstall`: detaches the policy from everyone and deletes it, with the overflow group. The function may do
//! none of that, and deleting the stack does not: enforcement must not end by accident.

mod plan;

use std::time::Duration;

use aws_sdk_eventbridge::types::RuleState;
use force_mfa::iam::{Iam, IamError};
use force_mfa::identifiers::{GroupName, PolicyArn, UserName};
use force_mfa::pace;
use tokio::time::Instant;

use self::plan::{OverflowGroup, Plan};
use crate::error::{CliError, ExitStatus, FailedCall};
use crate::session::{Flags, Session, TIME_LIMIT};
use crate::stack_name::Purpose;
use crate::terminal::{Interrupt, ask, can_ask, note, note_dry_run, one_line, print};

/// IAM may count something as in use for a while after its last use has ended.
const CONFLICT_PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// The rules of infra/template.yaml, whose names begin with the `NamePrefix`. The account that owns the StackSets has
/// another rule with that prefix, of infra/organization.yaml, which does not call the function.
const RULES: [&str; 6] =
    ["console-users", "sweep", "first-sweep", "changed-policy", "changed-function", "changed-alarms"];

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
        let name = flags.stack_name().name();
        return nothing(&format!("there is neither a stack nor a policy named {name} in this account"));
    };
    let policy = &session.settings.policy;
    let by_name = || GroupName::new(&format!("{}-overflow", policy.name()));
    let overflow_group = session.settings.overflow_group.clone().or_else(by_name);
    let plan = async {
        let rules = enabled_rules(&session, policy).await?;
        Ok((rules, Plan::read(&session.iam, policy, overflow_group).await?))
    };
    let (rules, plan) = interrupt.unless_stopped(plan).await?;
    let Some(plan) = plan else {
        return nothing(&format!("the policy {policy} does not exist"));
    };
    note(&session.summary());
    print(&plan.summary())?;
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
    carry_out(plan, &iam, interrupt).await
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

/// The rules of the stack that are on: the policy's name begins theirs.
async fn enabled_rules(session: &Session, policy: &PolicyArn) -> Result<Vec<String>, CliError> {
    let prefix = policy.name();
    let config = aws_sdk_eventbridge::config::Builder::from(&session.config).region(session.home.clone()).build();
    let client = aws_sdk_eventbridge::Client::from_conf(config);
    let mut rules = Vec::new();
    let mut token = None;
    loop {
        let call = client.list_rules().name_prefix(prefix).set_next_token(token);
        let page = call.send().await.map_err(|error| FailedCall::new("events:ListRules", &error))?;
        for rule in page.rules.unwrap_or_default() {
            let name = rule.name.unwrap_or_default();
            let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
            if rest.is_some_and(|rest| RULES.contains(&rest)) && rule.state != Some(RuleState::Disabled) {
                rules.push(name);
            }
        }
        token = page.next_token;
        if token.is_none() {
            return Ok(rules);
        }
    }
}

/// Carries the plan out. Each step can be repeated, and the policy goes last, since it shows what is left.
async fn carry_out(plan: Plan, iam: &Iam, interrupt: &Interrupt) -> Result<ExitStatus, CliError> {
    let mut exit = ExitStatus::default();
    let policy = &plan.policy;
    let call = |user: UserName| {
        let (iam, policy) = (iam.clone(), policy.clone());
        async move { iam.detach_user_policy(&user, &policy).await }
    };
    each(&plan.users, interrupt, &mut exit, call, |user| format!("detached from user {user}")).await?;
    let call = |group: GroupName| {
        let (iam, policy) = (iam.clone(), policy.clone());
        async move { iam.detach_group_policy(&group, &policy).await }
    };
    each(&plan.groups, interrupt, &mut exit, call, |group| format!("detached from group {group}")).await?;
    if let Some(OverflowGroup { name, members, .. }) = plan.overflow.filter(|group| group.others.is_empty()) {
        let call = |user: UserName| {
            let (iam, name) = (iam.clone(), name.clone());
            async move { iam.remove_user_from_group(&user, &name).await }
        };
        let done = |user: &UserName| format!("removed user {user} from group {name}");
        each(&members, interrupt, &mut exit, call, done).await?;
        if !exit.incomplete {
            retry_on_delete_conflict(interrupt, || iam.delete_group(&name)).await?;
            print(&format!("deleted group {name}"))?;
        }
    }
    if exit.incomplete {
        note("The policy is kept until it is detached everywhere. Fix what failed, then run this again for the rest.");
        return Ok(exit);
    }
    if !plan.kept_for.is_empty() {
        note(&format!("The policy is kept: {}. Detach it there, then run this again.", plan.kept_for.join("; ")));
        return Ok(ExitStatus { incomplete: true, ..exit });
    }
    for version in &plan.old_versions {
        retry_on_delete_conflict(interrupt, || iam.delete_policy_version(policy, version)).await?;
        print(&format!("deleted version {version} of the policy"))?;
    }
    retry_on_delete_conflict(interrupt, || iam.delete_policy(policy)).await?;
    print(&format!("deleted policy {policy}"))?;
    Ok(exit)
}

/// Makes one call for each of `all`, and prints a line for each that is done.
async fn each<T, F>(
    all: &[T],
    interrupt: &Interrupt,
    exit: &mut ExitStatus,
    call: impl Fn(T) -> F,
    done_line: impl Fn(&T) -> String,
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
            let line = print(&done_line(&item));
            if printed.is_ok() {
                printed = line;
            }
        }
        Err(error) => {
            exit.incomplete = true;
            let error = CliError::from(error);
            exit.denied |= matches!(error, CliError::NotAllowed(_));
            note(&format!("FAILED {item}: {}", one_line(&error.to_string())));
        }
    };
    pace::for_each(all.iter().cloned(), || interrupt.stopped(), call, done).await;
    go_on(interrupt)?;
    printed
}

fn go_on(interrupt: &Interrupt) -> Result<(), CliError> {
    if interrupt.stopped() {
        return Err(CliError::Interrupted("stopped; the steps above are done. Run this again for the rest".to_owned()));
    }
    Ok(())
}

/// Deletes something that IAM may count as in use for a moment longer.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_those_of_the_template() {
        let template = include_str!("../../../../infra/template.yaml");
        let rules = template.split("    Type: AWS::Events::Rule\n").skip(1);
        let name = |rule: &'static str| rule.split("Name: !Sub ${NamePrefix}-").nth(1)?.lines().next();
        let names: Vec<&str> = rules.filter_map(name).collect();
        assert_eq!(names, RULES);
    }
}
