"""Parameter overrides: what accounts have, what the file gives them, and what an account is sent when.

An override protects its account from the parameters for all, and these may become stricter in the same run. So it is
in place before they are sent, and nothing is taken from an account until they are. Every function takes and returns
values; each account's overrides are a mapping of names to texts."""

import collections

import templates

# What a run fills in from the release.
RELEASE_PARAMETERS = {"CodeBucket", "CodeKey", "Architecture"}


def resolve(organization, document):
    """The overrides that the file gives to each account. StackSets take only units that are targets, so units are
    resolved to accounts here. If two overrides give an account the same parameter, the later one wins."""
    resolved = collections.defaultdict(dict)
    for override in document["overrides"]:
        units = override.get("organizational_units", [])
        accounts = {*override.get("accounts", []), *organization.accounts_of(units)}
        # StackSets never reach the management account, but its own stack follows its units too.
        if organization.is_below(organization.management_account, units):
            accounts.add(organization.management_account)
        for account in accounts:
            resolved[account] |= {name: str(value) for name, value in override["parameters"].items()}
    return dict(resolved)


def of_template(overrides, names):
    """Those of the parameters `names`, which a template has: CloudFormation refuses others."""
    return {name: value for name, value in overrides.items() if name in names}


def lacking(has, wanted, names):
    """What the file gives to an account, but the account does not have, of the parameters `names`."""
    return {name: value for name, value in of_template(wanted, names).items() if has.get(name) != value}


def pinned(template, present, wanted):
    """The file's value of every parameter in which the definition differs, as far as its template takes that value. A
    canary or a failed update may have left values in the definition that no file has any more. An account that is
    deployed to before the definition changes is sent these too. Code and template belong together: they stay."""
    differing = {
        name: value
        for name, value in wanted.items()
        if name in present and present[name] != value and name not in RELEASE_PARAMETERS
    }
    definitions = templates.parse(template)["Parameters"]
    return {name: value for name, value in differing.items() if not templates.problems_of(definitions, {name: value})}


def additions(has, wanted, names, pinned, behind):
    """What to send to each account before the definition changes: what the account has, and what it lacks. What the
    file no longer gives to it stays: it would go back to the old value for all, which may be stricter. The stack of an
    account that is `behind` would get all that the definition has, so `pinned` is sent too."""
    return {
        account: (pinned if account in behind else {}) | of_template(has[account], names) | more
        for account in has.keys() & wanted.keys()
        if (more := lacking(has[account], wanted[account], names))
    }


def differences(has, wanted):
    """What to send to each account once the definition is in place: exactly what the file gives to it."""
    return {account: wanted[account] for account in has.keys() & wanted.keys() if has[account] != wanted[account]}


def grouped(overrides):
    """The accounts by what they are sent, as one operation takes one list for all of its accounts."""
    groups = collections.defaultdict(set)
    for account, parameters in overrides.items():
        groups[tuple(sorted(parameters.items()))].add(account)
    return [(dict(parameters), accounts) for parameters, accounts in sorted(groups.items())]
