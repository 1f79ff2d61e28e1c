"""Parameter overrides: what accounts have, what the file gives them, and what an account is sent when.

An override protects its account from the parameters for all, and both can change in one run. The parameters of an
account act together: if one becomes stricter and another softer, both must arrive in one step. So an account with
overrides is brought to exactly what the file says before the parameters for all change. Every function takes and
returns values; each account's overrides are a mapping of names to texts."""

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


def not_as_wanted(has, wanted, for_all, names):
    """The accounts to which the parameters `for_all` of the file would give other values than the file gives to them,
    because of an override that they lack or still have; of the parameters `names`."""
    return {
        account
        for account in has.keys() & wanted.keys()
        if of_template(for_all | has[account], names) != of_template(for_all | wanted[account], names)
    }


def pinned(template, present, wanted):
    """The file's value of every parameter in which the definition differs, as far as its template takes that value: the
    file has changed, or a canary or a failed update left other values in the definition. An account that is deployed
    to before the definition changes is sent these too. Code and template belong together: they stay."""
    differing = {
        name: value
        for name, value in wanted.items()
        if name in present and present[name] != value and name not in RELEASE_PARAMETERS
    }
    definitions = templates.parse(template)["Parameters"]
    return {name: value for name, value in differing.items() if not templates.problems_of(definitions, {name: value})}


def before_update(has, wanted, for_all, names, pinned):
    """What to send to these accounts before the definition changes: what makes their stacks exactly what the file
    says, with the definition as it is."""
    return {
        account: pinned | of_template(wanted[account], names) for account in not_as_wanted(has, wanted, for_all, names)
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
