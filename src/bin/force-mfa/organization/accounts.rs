//! Which accounts there are: from Organizations, or from a file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_organizations::Client;
use aws_sdk_organizations::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_organizations::types::{AccountState, AccountStatus};

use crate::error::{CliError, FailedCall};
use crate::terminal::note;

/// Which accounts to read, and the role that reads them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Organization")]
pub struct Selection {
    /// Read every account of the organization. Settings come from the stack of each account only
    #[arg(long)]
    pub organization: bool,
    /// Only the accounts of this organizational unit or root, at any depth. Repeatable
    #[arg(long, value_name = "ID", requires = "organization", conflicts_with = "accounts_file")]
    ou: Vec<String>,
    /// Only this account, or with --ou this account too. Repeatable
    #[arg(long, value_name = "ID", requires = "organization", value_parser = account_id)]
    include_account: Vec<String>,
    /// Not this account. Repeatable
    #[arg(long, value_name = "ID", requires = "organization", value_parser = account_id)]
    exclude_account: Vec<String>,
    /// Take the accounts from a file instead of Organizations: on each line an account ID and, optionally, a comma and a
    /// name
    #[arg(long, value_name = "FILE", requires = "organization")]
    accounts_file: Option<PathBuf>,
    /// Role to assume in each account
    #[arg(long, value_name = "NAME", requires = "organization", default_value = "force-mfa-auditor")]
    pub role_name: String,
    /// External ID that the role requires
    #[arg(long, value_name = "ID", requires = "organization")]
    pub external_id: Option<String>,
    /// How many accounts to read at the same time
    #[arg(long, value_name = "NUMBER", requires = "organization", default_value_t = 16,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub concurrency: u8,
}

fn account_id(text: &str) -> Result<String, &'static str> {
    let valid = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if valid { Ok(text.to_owned()) } else { Err("an account ID has 12 digits, such as 123456789012") }
}

/// The accounts of an organization that were asked for.
#[derive(Debug)]
pub struct Organization {
    /// Its id; `None` if the accounts come from a file.
    pub id: Option<String>,
    /// Its accounts.
    pub members: Vec<Member>,
}

/// An account of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The number of the account.
    pub account: String,
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Whether Organizations calls it active. `true` for an account from a file.
    pub is_active: bool,
}

impl Organization {
    /// Lists the accounts.
    ///
    /// # Errors
    /// If Organizations does not answer or refuses, the file cannot be read, or an account or an OU that is asked for
    /// does not exist: a mistyped ID must not leave an account out.
    pub async fn list(config: &SdkConfig, selection: &Selection) -> Result<Self, CliError> {
        let (mut organization, in_ous) = match &selection.accounts_file {
            Some(file) => (Self { id: None, members: from_file(file)? }, None),
            None => Box::pin(from_organizations(config, &selection.ou)).await?,
        };
        let is_member = |id: &&String| organization.members.iter().any(|member| member.account == **id);
        if let Some(unknown) = selection.include_account.iter().find(|id| !is_member(id)) {
            return Err(CliError::Usage(format!(
                "the account {unknown} of --include-account is not in the {}: nothing was done",
                if organization.id.is_some() { "organization" } else { "file" }
            )));
        }
        // An account that was closed disappears 90 days later: then the option has no effect, and does no harm.
        for unknown in selection.exclude_account.iter().filter(|id| !is_member(id)) {
            note(&format!("The account {unknown} of --exclude-account does not exist here."));
        }
        let included: HashSet<&str> = selection.include_account.iter().map(String::as_str).collect();
        let excluded: HashSet<&str> = selection.exclude_account.iter().map(String::as_str).collect();
        organization.members.retain(|member| {
            let id = member.account.as_str();
            let wanted = match &in_ous {
                Some(in_ous) => in_ous.contains(id) || included.contains(id),
                None => included.is_empty() || included.contains(id),
            };
            wanted && !excluded.contains(id)
        });
        if organization.members.is_empty() {
            return Err(CliError::Usage("no account is left to read: correct the options that narrow them".to_owned()));
        }
        Ok(organization)
    }
}

/// All accounts of the organization, and the ids of those in the OUs, if there are any OUs.
async fn from_organizations(
    config: &SdkConfig,
    ous: &[String],
) -> Result<(Organization, Option<HashSet<String>>), CliError> {
    // Organizations throttles early: an organization of 2,000 accounts is 100 pages.
    let retries = RetryConfig::standard().with_max_attempts(10);
    let client = Client::from_conf(aws_sdk_organizations::config::Builder::from(config).retry_config(retries).build());
    let mut organization = Organization { id: None, members: Vec::new() };
    let mut pages = client.list_accounts().into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| refused("organizations:ListAccounts", &error))?;
        for account in page.accounts.unwrap_or_default() {
            let Some(id) = account.id else {
                return Err(CliError::Failed("organizations:ListAccounts: an account has no ID".to_owned()));
            };
            // arn:aws:organizations::123456789012:account/o-exampleorgid/111111111111
            let of_arn = account.arn.as_deref().and_then(|arn| arn.split('/').nth(1));
            organization.id = organization.id.or_else(|| of_arn.map(str::to_owned));
            let is_active = is_active(account.state.as_ref(), account.status.as_ref());
            organization.members.push(Member { account: id, name: account.name, is_active });
        }
    }
    let in_ous = if ous.is_empty() { None } else { Some(accounts_below(&client, ous).await?) };
    Ok((organization, in_ous))
}

/// Organizations retires `Status` in favour of `State` in September 2026
/// (<https://docs.aws.amazon.com/organizations/latest/APIReference/API_Account.html>). An account with neither is read.
fn is_active(state: Option<&AccountState>, status: Option<&AccountStatus>) -> bool {
    match (state, status) {
        (Some(state), _) => *state == AccountState::Active,
        (None, Some(status)) => *status == AccountStatus::Active,
        (None, None) => true,
    }
}

/// The ids of the accounts in these OUs, and in the OUs below them at any depth.
async fn accounts_below(client: &Client, ous: &[String]) -> Result<HashSet<String>, CliError> {
    const ACCOUNTS: &str = "organizations:ListAccountsForParent";
    const UNITS: &str = "organizations:ListOrganizationalUnitsForParent";
    let mut below = HashSet::new();
    let mut open = ous.to_vec();
    while let Some(parent) = open.pop() {
        let mut pages = client.list_accounts_for_parent().parent_id(&parent).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused_for(&parent, ACCOUNTS, &error))?;
            below.extend(page.accounts.unwrap_or_default().into_iter().filter_map(|account| account.id));
        }
        let mut pages = client.list_organizational_units_for_parent().parent_id(&parent).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused_for(&parent, UNITS, &error))?;
            open.extend(page.organizational_units.unwrap_or_default().into_iter().filter_map(|unit| unit.id));
        }
    }
    Ok(below)
}

fn refused<E>(action: &str, error: &SdkError<E>) -> CliError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let call = FailedCall::new(action, error);
    if call.code() == Some("AWSOrganizationsNotInUseException") {
        return CliError::Usage(
            "the account that you are signed in to is in no organization: nothing was done. Correct --profile, or pass \
             --accounts-file"
                .to_owned(),
        );
    }
    match call.into() {
        CliError::NotAllowed(message) => CliError::NotAllowed(format!(
            "{message}. Only the management account and delegated administrators may list the accounts: sign in to one \
             of them, or pass --accounts-file"
        )),
        error => error,
    }
}

fn refused_for<E>(parent: &str, action: &str, error: &SdkError<E>) -> CliError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.code() {
        Some("ParentNotFoundException" | "InvalidInputException") => {
            CliError::Usage(format!("there is no organizational unit {parent}: nothing was done. Correct --ou"))
        }
        Some(_) | None => refused(action, error),
    }
}

/// Reads a file of accounts. Empty lines and lines that begin with `#` do not count, nor does an account twice.
fn from_file(path: &Path) -> Result<Vec<Member>, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::Usage(format!("--accounts-file {} cannot be read: {error}", path.display())))?;
    parse(&text).map_err(|line| {
        CliError::Usage(format!(
            "--accounts-file {}: line {line} does not begin with an account ID of 12 digits, such as \
             123456789012,production",
            path.display()
        ))
    })
}

/// The accounts of a file, or the number of the first line that is wrong.
fn parse(text: &str) -> Result<Vec<Member>, usize> {
    let mut members: Vec<Member> = Vec::new();
    for (place, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (id, name) = line.split_once(',').unwrap_or((line, ""));
        let account = account_id(id.trim()).map_err(|_| place + 1)?;
        let name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        if members.iter().all(|member| member.account != account) {
            members.push(Member { account, name, is_active: true });
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_account_outranks_its_retired_status() {
        use AccountState as State;
        for (state, status, active) in [
            (Some(State::Active), Some(AccountStatus::Suspended), true),
            (Some(State::Closed), Some(AccountStatus::Active), false),
            (Some(State::PendingActivation), None, false),
            (None, Some(AccountStatus::Active), true),
            (None, Some(AccountStatus::Suspended), false),
            (None, None, true),
        ] {
            assert_eq!(is_active(state.as_ref(), status.as_ref()), active, "{state:?} {status:?}");
        }
    }

    #[test]
    fn a_file_has_an_account_and_a_name_on_each_line() {
        let text = "\u{feff}# accounts\n\n123456789012, production, EU\r\n 000000000012\n123456789012,again\n";
        let member = |account: &str, name: Option<&str>| Member {
            account: account.to_owned(),
            name: name.map(str::to_owned),
            is_active: true,
        };
        assert_eq!(parse(text), Ok(vec![member("123456789012", Some("production, EU")), member("000000000012", None)]));
        // A spreadsheet drops leading zeros: an account must not be lost with them.
        assert_eq!(parse("123456789012\n12,dev"), Err(2));
    }
}
