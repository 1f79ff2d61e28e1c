"""Random files, runs and faults: whatever happens, an account's parameters are always those of a file, never a mix of
two, and in the end all accounts have what the file says."""

import random

import pytest

from aws_stand_in import LATER, SANDBOX, SECURITY, WORK, AwsError

THREE, FOUR, FIVE = "333333333333", "444444444444", "555555555555"
ACCOUNTS = [SECURITY, THREE, FOUR, FIVE]
VALUES = {"ExistingUsers": ["report", "enforce"], "Mode": ["report", "enforce"], "ExemptPaths": ["/a/", "/b/"]}
EXPIRED = AwsError("ExpiredToken", "expired", 403)
CHANGES = ["CreateStackInstances", "UpdateStackInstances", "UpdateStackSet", "DeleteStackInstances", "PutObject"]


def some_parameters(choose):
    names = choose.sample(list(VALUES), choose.randrange(1, len(VALUES) + 1))
    return {name: choose.choice(VALUES[name]) for name in names}


def some_overrides(choose):
    targets = [{"accounts": [account]} for account in ACCOUNTS] + [{"organizational_units": [WORK]}]
    return [target | {"parameters": some_parameters(choose)} for target in choose.sample(targets, choose.randrange(3))]


def edit(choose, operator):
    units = choose.choice([[WORK], [WORK, SANDBOX], [WORK, SANDBOX, LATER]])
    below = ACCOUNTS if SANDBOX in units else ACCOUNTS[:3]
    overrides = some_overrides(choose)
    operator.change(
        organizational_units=units,
        parameters=some_parameters(choose),
        # An override of an account that gets no stack is refused.
        overrides=[one for one in overrides if all(account in below for account in one.get("accounts", []))],
        canary_accounts=[choose.choice(below[:3])],
        failure_tolerance_percentage=choose.choice([0, 100]),
    )


def of_the_file(operator, account):
    """What the file gives to an account, of the parameters that change here."""
    values = {"ExistingUsers": "report", "Mode": "enforce", "ExemptPaths": ""} | operator.document["parameters"]
    for one in operator.document.get("overrides", []):
        if account in one.get("accounts", []) or (WORK in one.get("organizational_units", []) and account != FIVE):
            values |= one["parameters"]
    return values


def deploy(organization, operator, *options, expect=0):
    """A run. Each account that it deploys to gets exactly what the file says; a canary run deploys to the canary only."""
    instances = organization.stack_sets["force-mfa"].instances if organization.stack_sets else {}
    before = {account: len(instance.history) for account, instance in instances.items()}
    said = operator.deploy(*options, expect=expect)
    instances = organization.stack_sets["force-mfa"].instances if organization.stack_sets else {}
    units = operator.document["organizational_units"]
    for account, instance in instances.items():
        received = instance.history[before.get(account, 0) :]
        is_meant = (account != FIVE or SANDBOX in units) and (
            "--canary" not in options or account in operator.document["canary_accounts"]
        )
        assert is_meant or not received, said
        for parameters in received:
            assert {name: parameters[name] for name in VALUES} == of_the_file(operator, account), said


@pytest.mark.parametrize("seed", range(10))
def test_an_account_never_has_a_mix_of_two_files(organization, operator, seed):
    choose = random.Random(seed)
    # AWS does not document whether it keeps the overrides of an operation that failed.
    organization.keeps_overrides_of_failures = choose.random() < 0.5
    for _ in range(6):
        if choose.random() < 0.7:
            edit(choose, operator)
        if choose.random() < 0.3:
            operator.binary(f"release {choose.randrange(3)}")
        if choose.random() < 0.4:
            organization.failing[choose.choice(ACCOUNTS)] = "not authorized"
        if choose.random() < 0.4:
            organization.faults[choose.choice(CHANGES)] = [*[None] * choose.randrange(3), EXPIRED]
        is_canary = operator.document.get("canary_accounts") and choose.random() < 0.3
        deploy(organization, operator, *["--canary"] * bool(is_canary), expect=(0, 1, 3))
        organization.failing.clear()
        organization.faults.clear()

    deploy(organization, operator, "--remove")
    operator.run("rollout-status")
    for account, instance in organization.stack_sets["force-mfa"].instances.items():
        assert {name: instance.parameters[name] for name in VALUES} == of_the_file(operator, account)
    deploy(organization, operator)
    assert organization.calls == []
