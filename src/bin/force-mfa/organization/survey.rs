//! Reads the accounts of an organization, several at the same time, and makes the [`Report`].

use std::sync::Arc;
use std::time::Duration;

use force_mfa::iam::{Iam, IamError, IamErrorKind};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::account_status;
use crate::error::CliError;
use crate::organization::access::{Access, Place};
use crate::organization::accounts::{Member, Organization, Selection};
use crate::organization::report::{Account, Report};
use crate::session::{Flags, Session, TIME_LIMIT};
use crate::setting_sources::{GivenSettings, SettingFlags};
use crate::sign_in::{self, SignedIn};
use crate::stack;
use crate::stack_name::{self, StackName};
use crate::terminal::{Interrupt, account_bar, note, one_line, spinner, under_way};

/// How many accounts are begun for each place. Those without a place wait, mostly for IAM to make a report.
const BEGUN_PER_PLACE: usize = 8;
/// The time between two looks whether IAM has made the credential report, and how often to look before the account is
/// read all the same: the reading waits too.
const REPORT_PAUSE: Duration = Duration::from_secs(2);
const REPORT_LOOKS: usize = 5;
/// The time between two attempts if CloudFormation throttles.
const THROTTLE_PAUSE: Duration = Duration::from_secs(2);

/// The accounts, and the way into them.
#[derive(Debug)]
pub struct Survey {
    /// The accounts.
    pub organization: Organization,
    access: Arc<Access>,
}

impl Survey {
    /// Signs in and lists the accounts.
    ///
    /// # Errors
    /// If settings are given by flags, there are no credentials, or the accounts cannot be listed.
    pub async fn begin(flags: &Flags, selection: &Selection) -> Result<Self, CliError> {
        refuse_settings(flags)?;
        let operator = SignedIn::new(&flags.sign_in).await?;
        let bar = spinner("Listing the accounts");
        let organization = Organization::list(&operator.config, selection).await;
        bar.finish_and_clear();
        Ok(Self { organization: organization?, access: Arc::new(Access::new(operator, selection)) })
    }

    /// The ARN of the operator.
    pub fn made_by(&self) -> &str {
        self.access.operator_arn()
    }

    /// Works on each account in a task of its own, and returns a row for each. `unread` makes the row of an account whose
    /// work was not done, because of Ctrl-C or a mistake of ours: it takes the reason.
    pub async fn rows<T, F>(
        &self,
        interrupt: &Interrupt,
        work: impl Fn(Arc<Access>, Member) -> F,
        unread: impl Fn(&Member, &str) -> T,
    ) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let at_once = BEGUN_PER_PLACE * self.access.concurrency();
        let members = &self.organization.members;
        let mut rows: Vec<Option<T>> = members.iter().map(|_| None).collect();
        let (mut begun, mut ended) = (0, 0);
        let mut running = JoinSet::new();
        let bar = account_bar(members.len());
        loop {
            while running.len() < at_once && begun < members.len() {
                let (place, row) = (begun, work(Arc::clone(&self.access), members[begun].clone()));
                running.spawn(async move { (place, row.await) });
                begun += 1;
            }
            under_way(&bar, ended, running.len());
            tokio::select! {
                task = running.join_next() => match task {
                    Some(Ok((place, row))) => rows[place] = Some(row),
                    // The task panicked, and has said so on stderr. Its account has no row yet.
                    Some(Err(_)) => {}
                    None => break,
                },
                () = interrupt.wait() => break,
            }
            ended += 1;
        }
        bar.finish_and_clear();
        let why = if interrupt.stopped() {
            "not read: the command was stopped before"
        } else {
            "force-mfa failed while it read this account: please report this, with what stands above"
        };
        let rows = rows.into_iter().zip(members);
        rows.map(|(row, member)| row.unwrap_or_else(|| unread(member, why))).collect()
    }
}

/// Reads every account. What goes wrong in one account is in its row.
pub async fn report(survey: Survey, flags: &Flags, interrupt: &Interrupt) -> Report {
    let stack = flags.stack.clone();
    let work = |access: Arc<Access>, member: Member| {
        let (stack, interrupt) = (stack.clone(), interrupt.clone());
        async move { Box::pin(account(&access, &member, StackName::of(stack.as_deref()), &interrupt)).await }
    };
    let accounts = survey.rows(interrupt, work, |member, why| Account::failed(member, why.to_owned())).await;
    Report::new(survey.organization.id, accounts, interrupt.stopped())
}

async fn account(access: &Access, member: &Member, stack: StackName<'_>, interrupt: &Interrupt) -> Account {
    if !member.is_active {
        return Account::suspended(member);
    }
    let mut place = access.place().await;
    let signed_in = match access.enter(member, &mut place).await {
        Ok(signed_in) => signed_in,
        Err(error) => return Account::failed(member, one_line(&error.to_string())),
    };
    let role = access.role(member);
    request_report(&signed_in.iam, &mut place).await;
    match place.finish(read(signed_in, member, stack, interrupt)).await {
        Ok(account) => account,
        Err(error) => {
            let old_role = role.filter(|_| matches!(error, CliError::NotAllowed(_)));
            let hint = old_role.map(|role| format!(". Here that is {role}: deploy the newest infra/auditor.yaml"));
            Account::failed(member, one_line(&format!("{error}{}", hint.unwrap_or_default())))
        }
    }
}

/// Has IAM make the credential report, and waits for it without a place. A failure is met again by the reading, which
/// describes it.
async fn request_report(iam: &Iam, place: &mut Place) {
    let iam = iam.paced(Instant::now() + TIME_LIMIT, || false);
    for _ in 0..REPORT_LOOKS {
        match iam.generate_credential_report().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(IamError { kind, .. }) => match kind {
                IamErrorKind::LimitExceeded | IamErrorKind::Throttled | IamErrorKind::Unavailable => {}
                IamErrorKind::NoSuchEntity | IamErrorKind::AccessDenied | IamErrorKind::Other => return,
            },
        }
        place.leave_for(REPORT_PAUSE).await;
    }
}

async fn read(
    signed_in: SignedIn,
    member: &Member,
    stack: StackName<'_>,
    interrupt: &Interrupt,
) -> Result<Account, CliError> {
    let until = Instant::now() + TIME_LIMIT;
    let session = loop {
        match open(&signed_in, stack).await {
            Err(CliError::Throttled(_)) if Instant::now() < until => tokio::time::sleep(THROTTLE_PAUSE).await,
            session => break session?,
        }
    };
    if let Some(session) = session {
        let status = account_status::read(&session, interrupt, |_, _| {}).await?;
        let mut account = Account::read(member, status, session.stack.is_some());
        account.warnings.extend(session.stack.as_ref().and_then(stack_name::unfinished));
        return Ok(account);
    }
    let policy = stack.policy(&signed_in.caller)?;
    let defaults = GivenSettings::default().or_policy_by_name(&policy).resolve(None)?.settings;
    let status = account_status::read_without_policy(&signed_in.iam, &defaults, interrupt).await?;
    Ok(Account::read(member, status, false))
}

/// The account with the settings of its stack. `None` if there is neither a stack nor a policy.
async fn open(signed_in: &SignedIn, stack: StackName<'_>) -> Result<Option<Session>, CliError> {
    let SignedIn { config, caller, .. } = signed_in;
    let home = sign_in::home_region(config.region());
    let found = match stack.find(config, &home, caller, None).await? {
        Some(stack) => {
            let values = stack::settings(config, &home, &stack).await?;
            Some((stack, values))
        }
        None => None,
    };
    Session::with_stack(signed_in.clone(), found, &stack.policy_names(), GivenSettings::default()).await
}

/// The settings of an account are those of its own stack: one account's exemptions for all would be wrong.
fn refuse_settings(flags: &Flags) -> Result<(), CliError> {
    let given = flags.settings.flags();
    if flags.no_stack || !given.is_empty() {
        let given = if flags.no_stack { "--no-stack".to_owned() } else { given.join(", ") };
        return Err(CliError::Usage(format!(
            "--organization reads each account with the settings of its own stack: leave out {given}. Nothing was done"
        )));
    }
    let variables = SettingFlags::variables();
    if !variables.is_empty() {
        note(&format!("Ignored with --organization, which uses the settings of each stack: {}", variables.join(", ")));
    }
    Ok(())
}
