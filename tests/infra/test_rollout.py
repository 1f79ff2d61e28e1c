"""`make deploy-org` and its companions against an organization in memory: what is sent, and what comes of it."""

import json
import shlex

import pytest
from botocore import client, exceptions

import stack_set_operations
from aws_stand_in import BUCKET, LATER, MANAGEMENT, ROOT, SANDBOX, SECURITY, TOPIC, WORK, AwsError

THREE, FOUR, FIVE = "333333333333", "444444444444", "555555555555"


def installed(organization, name="force-mfa"):
    return organization.stack_sets[name]


def changes(organization):
    """The changing calls, without the uploads."""
    return [operation for operation, _ in organization.calls if operation != "PutObject"]


# ------------------------------------------------------------------------------------------------ deploying


def test_a_first_run_deploys_to_every_account(organization, operator):
    said = operator.deploy()

    assert changes(organization) == ["CreateStack", "CreateStackSet", "CreateStackInstances"]
    stack_set = installed(organization)
    assert set(stack_set.instances) == {SECURITY, THREE, FOUR, FIVE}
    assert {i.status for i in stack_set.instances.values()} == {"CURRENT"}
    assert "4 of 4 accounts are current" in said
    parameters = stack_set.effective(THREE)
    assert parameters["ExemptPaths"] == "/service/"
    assert parameters["CodeBucket"] == BUCKET
    assert parameters["AlarmTopicArn"] == TOPIC
    assert parameters["Architecture"] == "arm64"
    assert (BUCKET, parameters["CodeKey"]) in organization.objects


def test_the_stack_set_follows_new_accounts_and_keeps_stacks_of_moved_ones(organization, operator):
    operator.deploy()

    [created] = organization.sent("CreateStackSet")
    assert created["AutoDeployment"] == {"Enabled": True, "RetainStacksOnAccountRemoval": True}
    assert created["ManagedExecution"] == {"Active": True}
    assert installed(organization).units == {WORK, SANDBOX}


def test_automatic_deployment_that_was_turned_off_is_turned_on(organization, operator):
    operator.deploy()
    installed(organization).auto_deployment = {"Enabled": False}
    operator.deploy()

    assert installed(organization).auto_deployment["Enabled"] is True


def test_a_second_run_changes_nothing(organization, operator):
    operator.deploy()
    operator.deploy()

    assert organization.calls == []


def test_a_new_release_goes_to_all_accounts(organization, operator):
    operator.deploy()
    operator.binary("release 2")
    operator.deploy()

    [update] = organization.sent("UpdateStackSet")
    assert "DeploymentTargets" not in update
    assert {i.status for i in installed(organization).instances.values()} == {"CURRENT"}


def test_a_parameter_taken_out_goes_back_to_its_default(organization, operator):
    operator.change(parameters={"ExistingUsers": "enforce"})
    operator.deploy()
    operator.change(parameters={})
    operator.deploy()

    assert installed(organization).effective(FIVE)["ExistingUsers"] == "report"


def test_the_organizations_stack_has_the_address_and_the_organization(organization, operator):
    operator.change(alarm_email="security@example.com", tags={"owner": "security"})
    operator.deploy()

    [stack] = organization.sent("CreateStack")
    assert {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]} == {
        "AlarmEmail": "security@example.com",
        "NamePrefix": "force-mfa",
        "OrganizationId": "o-exampleorgid",
    }
    assert stack["Tags"] == [{"Key": "owner", "Value": "security"}]
    assert installed(organization).tags == {"owner": "security"}


def test_an_excluded_account_gets_no_stack(organization, operator):
    operator.change(excluded_accounts=[FOUR])
    operator.deploy()

    assert set(installed(organization).instances) == {SECURITY, THREE, FIVE}


def test_a_suspended_account_is_no_failure(organization, operator):
    organization.states[FOUR] = "SUSPENDED"

    assert "3 of 3 accounts are current" in operator.deploy()


def test_a_unit_without_accounts_becomes_a_target(organization, operator):
    operator.deploy()
    operator.change(organizational_units=[WORK, SANDBOX, LATER])
    operator.deploy()

    assert LATER in installed(organization).units


def test_a_unit_of_excluded_accounts_becomes_a_target_without_them(organization, operator):
    operator.change(organizational_units=[WORK])
    operator.deploy()
    operator.change(organizational_units=[WORK, SANDBOX], excluded_accounts=[FIVE])
    operator.deploy()

    assert SANDBOX in installed(organization).units
    assert FIVE not in installed(organization).instances


def test_a_caller_that_is_no_delegated_administrator_is_told_how(organization, operator):
    said = "You must be the management account or delegated admin account of an organization before operating"
    organization.faults = {"DescribeOrganizationsAccess": [AwsError("ValidationError", said)]}

    assert "organizations:ListDelegatedAdministrators" in operator.deploy(expect=2)


def test_another_alarm_topic_of_the_file_is_kept(organization, operator):
    topic = "arn:aws:sns:us-east-1:123456789012:security"
    operator.change(parameters={"AlarmTopicArn": topic})
    operator.deploy()

    assert installed(organization).effective(THREE)["AlarmTopicArn"] == topic


# ---------------------------------------------------------------------------------------------------- canary


def test_a_canary_alone_gets_the_release(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.binary("release 2")
    said = operator.deploy("--canary")

    [update] = organization.sent("UpdateStackSet")
    assert update["DeploymentTargets"] == {
        "OrganizationalUnitIds": [WORK],
        "Accounts": [THREE],
        "AccountFilterType": "INTERSECTION",
    }
    statuses = {account: i.status for account, i in installed(organization).instances.items()}
    assert statuses == {SECURITY: "OUTDATED", THREE: "CURRENT", FOUR: "OUTDATED", FIVE: "OUTDATED"}
    assert "3 accounts wait for the release" in said


def test_a_canary_after_a_unit_was_added_names_targets_only(organization, operator):
    operator.change(organizational_units=[WORK], canary_accounts=[THREE])
    operator.deploy()
    operator.binary("release 2")
    operator.change(organizational_units=[WORK, SANDBOX])
    operator.deploy("--canary")

    assert {a for a, i in installed(organization).instances.items() if i.status == "CURRENT"} == {THREE}
    operator.deploy()
    assert {i.status for i in installed(organization).instances.values()} == {"CURRENT"}


def test_the_run_after_a_canary_gives_the_release_to_all(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.binary("release 2")
    operator.deploy("--canary")
    operator.deploy()

    stack_set = installed(organization)
    assert {i.status for i in stack_set.instances.values()} == {"CURRENT"}
    assert len({stack_set.effective(account)["CodeKey"] for account in stack_set.instances}) == 1


def test_a_first_run_with_canary_deploys_to_the_canary_only(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy("--canary")
    assert set(installed(organization).instances) == {THREE}

    operator.deploy()
    [created] = organization.sent("CreateStackInstances")
    # The shorter list: the one account that is there.
    assert created["DeploymentTargets"]["AccountFilterType"] == "DIFFERENCE"
    assert created["DeploymentTargets"]["Accounts"] == [THREE]
    assert len(installed(organization).instances) == 4


def test_going_back_reaches_the_canary_too(organization, operator):
    operator.change(canary_accounts=[THREE])
    first = keys_of(operator.deploy())
    operator.binary("release 2")
    operator.deploy("--canary")
    operator.change(release=first)
    said = operator.deploy()

    stack_set = installed(organization)
    assert {stack_set.effective(account)["CodeKey"] for account in stack_set.instances} == {first["code_key"]}
    assert "cargo" not in said
    # And the canary alone can go back, too.
    operator.binary("release 3")
    operator.change(release={})
    operator.deploy("--canary")
    operator.change(release=first)
    operator.deploy("--canary")
    assert stack_set.effective(THREE)["CodeKey"] == first["code_key"]


def keys_of(said):
    return json.loads(
        next(line for line in said.splitlines() if line.startswith("release: ")).removeprefix("release: ")
    )


def test_status_after_a_canary_says_that_the_others_wait(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.binary("release 2")
    operator.deploy("--canary")

    assert "3 accounts wait for the release" in operator.run("rollout-status")
    assert organization.calls == []


def test_canary_without_canary_accounts_is_wrong_usage(organization, operator):
    assert "canary_accounts" in operator.deploy("--canary", expect=2)
    assert organization.calls == []


# ------------------------------------------------------------------------------------------------- overrides


def test_one_unit_enforces_while_the_others_report(organization, operator):
    operator.change(organizational_units=[ROOT])
    operator.change(overrides=[{"organizational_units": [SANDBOX], "parameters": {"ExistingUsers": "enforce"}}])
    operator.deploy()

    stack_set = installed(organization)
    assert stack_set.effective(FIVE)["ExistingUsers"] == "enforce"
    assert stack_set.effective(THREE)["ExistingUsers"] == "report"
    # The unit is no target of its own, so CloudFormation would refuse it.
    [_, sent] = organization.sent("CreateStackInstances")
    assert sent["DeploymentTargets"] == {
        "OrganizationalUnitIds": [ROOT],
        "Accounts": [FIVE],
        "AccountFilterType": "INTERSECTION",
    }


def test_the_later_override_wins(organization, operator):
    operator.change(
        overrides=[
            {"organizational_units": [WORK], "parameters": {"ExistingUsers": "enforce", "Mode": "enforce"}},
            {"accounts": [THREE], "parameters": {"Mode": "report"}},
        ]
    )
    operator.deploy()

    stack_set = installed(organization)
    assert (stack_set.effective(THREE)["Mode"], stack_set.effective(THREE)["ExistingUsers"]) == ("report", "enforce")
    assert stack_set.effective(FOUR)["Mode"] == "enforce"


def test_an_override_that_is_removed_follows_the_parameters_for_all(organization, operator):
    operator.change(overrides=[{"accounts": [THREE, FOUR], "parameters": {"ExistingUsers": "enforce"}}])
    operator.deploy()
    operator.change(overrides=[{"accounts": [FOUR], "parameters": {"ExistingUsers": "enforce"}}])
    operator.deploy()
    operator.change(parameters={"Mode": "report"})
    operator.deploy()

    stack_set = installed(organization)
    assert stack_set.effective(THREE)["ExistingUsers"] == "report"
    assert stack_set.effective(THREE)["Mode"] == "report"
    assert "ExistingUsers" not in stack_set.instances[THREE].overrides
    assert stack_set.effective(FOUR)["ExistingUsers"] == "enforce"


def test_a_parameter_taken_out_of_an_override_is_reset(organization, operator):
    operator.change(overrides=[{"accounts": [THREE], "parameters": {"ExistingUsers": "enforce", "Mode": "report"}}])
    operator.deploy()
    operator.change(overrides=[{"accounts": [THREE], "parameters": {"Mode": "report"}}])
    operator.deploy()

    assert installed(organization).instances[THREE].overrides == {"Mode": "report"}


def test_overrides_survive_a_new_release(organization, operator):
    operator.change(overrides=[{"accounts": [THREE], "parameters": {"Mode": "report"}}])
    operator.deploy()
    operator.binary("release 2")
    operator.deploy()

    assert installed(organization).effective(THREE)["Mode"] == "report"


@pytest.mark.parametrize(
    "changes",
    [
        {"canary_accounts": ["999999999999"]},
        {"overrides": [{"accounts": ["999999999999"], "parameters": {"Mode": "report"}}]},
    ],
)
def test_an_account_that_is_not_there_is_refused(organization, operator, changes):
    operator.change(**changes)

    assert "999999999999" in operator.deploy(expect=2)
    assert organization.calls == []


def test_an_account_that_joins_later_gets_the_overrides_at_the_next_run(organization, operator):
    operator.change(overrides=[{"organizational_units": [SANDBOX], "parameters": {"ExistingUsers": "enforce"}}])
    operator.deploy()
    organization.join("666666666666", SANDBOX)
    assert installed(organization).effective("666666666666")["ExistingUsers"] == "report"
    assert "666666666666 does not have the overrides" in operator.run("rollout-status", expect=1)
    operator.deploy()

    assert installed(organization).effective("666666666666")["ExistingUsers"] == "enforce"


def test_an_account_that_joins_during_the_run_is_named(organization, operator):
    operator.deploy()
    operator.change(overrides=[{"organizational_units": [SANDBOX], "parameters": {"ExistingUsers": "enforce"}}])
    organization.hooks["UpdateStackInstances"] = lambda: organization.join("666666666666", SANDBOX)
    said = operator.deploy(expect=1)

    assert "666666666666 joined meanwhile" in said
    operator.deploy()
    assert installed(organization).effective("666666666666")["ExistingUsers"] == "enforce"


def test_an_interrupted_run_forgets_no_override(organization, operator):
    operator.change(overrides=[{"accounts": [THREE], "parameters": {"Mode": "report"}}])
    # The overrides arrive, and the credentials expire before the run sees it.
    organization.faults["DescribeStackSetOperation"] = [None, None, AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)
    organization.faults.clear()
    operator.change(overrides=[])
    operator.deploy()

    assert "Mode" not in installed(organization).instances[THREE].overrides


def test_a_failed_override_does_not_keep_the_others_back(organization, operator):
    operator.deploy()
    organization.failing[THREE] = "AccessDenied by an SCP"
    operator.change(
        overrides=[
            {"accounts": [THREE], "parameters": {"Mode": "report"}},
            {"accounts": [FIVE], "parameters": {"ExistingUsers": "enforce"}},
        ]
    )
    operator.deploy(expect=1)

    assert installed(organization).effective(FIVE)["ExistingUsers"] == "enforce"


# ---------------------------------------------------------------------------------------- failures and waiting


def test_a_failed_account_ends_in_the_table_with_reason_and_remedy(organization, operator):
    operator.change(failure_tolerance_percentage=50)
    organization.failing[FOUR] = "force-mfa already exists"
    said = operator.deploy(expect=1)

    assert f"{FOUR} failed: force-mfa already exists" in said
    assert "3 of 4 accounts are current" in said
    assert "docs/rollout.md#install-again" in said


def test_a_failure_over_the_tolerance_stops_and_can_be_resumed(organization, operator):
    organization.failing[THREE] = "not authorized"
    said = operator.deploy(expect=1)
    assert "the operation failed" in said
    assert "CANCELLED" in said

    organization.failing.clear()
    operator.deploy()
    assert {i.status for i in installed(organization).instances.values()} == {"CURRENT"}


def test_one_failed_account_takes_nothing_from_the_others(organization, operator):
    operator.deploy()
    operator.binary("release 2")
    organization.failing[FIVE] = "not authorized"
    operator.change(failure_tolerance_percentage=50)
    operator.deploy(expect=1)

    assert not organization.sent("DeleteStackInstances")
    newest = installed(organization).parameters["CodeKey"]
    current = [
        a for a in installed(organization).instances if installed(organization).effective(a)["CodeKey"] == newest
    ]
    assert set(current) == {SECURITY, THREE, FOUR}


def test_waiting_shows_how_many_accounts_are_done(operator):
    said = operator.deploy()

    assert "2 of 4 accounts, 0 failed" in said
    assert "4 of 4 accounts, 0 failed" in said


def test_a_throttle_while_waiting_is_waited_out(organization, operator):
    organization.faults["DescribeStackSetOperation"] = [AwsError("Throttling", "Rate exceeded"), None]

    assert "4 of 4 accounts are current" in operator.deploy()


def test_credentials_that_expire_while_waiting_leave_the_operation_running(organization, operator):
    organization.steps = 3
    organization.faults["DescribeStackSetOperation"] = [None, AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)
    organization.faults.clear()
    organization.calls.clear()
    assert "an operation is running" in operator.run("rollout-status", expect=1)

    said = operator.deploy()
    assert "waiting for it" in said
    assert not organization.sent("CreateStackInstances")


def test_an_account_that_joined_and_failed_is_named_by_status(organization, operator):
    operator.deploy()
    organization.failing["666666666666"] = "explicit deny in a service control policy"
    organization.join("666666666666", SANDBOX)
    said = operator.run("rollout-status", expect=1)

    assert "666666666666" in said
    assert "An SCP denies it" in said
    assert organization.calls == []


# ------------------------------------------------------------------------------------------- reads that fail

FAULTS = [
    (AwsError("ExpiredToken", "The security token has expired", 403), 3),
    (AwsError("AccessDenied", "not authorized to perform this", 403), 3),
    (AwsError("Throttling", "Rate exceeded"), 1),
    (AwsError("InternalFailure", "try again", 500), 1),
    # The code of a missing stack, but not its message.
    (AwsError("ValidationError", "1 validation error detected"), 1),
]
READS = [
    "GetCallerIdentity", "DescribeOrganization", "DescribeOrganizationsAccess", "DescribeStacks", "DescribeStackSet",
    "ListAccountsForParent", "ListChildren", "ListRoots",
]  # fmt: skip
LATER_READS = ["GetTemplate", "ListStackInstances", "ListStackSetAutoDeploymentTargets", "ListObjectsV2", "GetObject"]
LATER_READS += ["DescribeStackInstance"]


@pytest.mark.parametrize("operation", READS)
def test_a_read_that_fails_at_first_is_no_absence(organization, operator, operation):
    for error, code in FAULTS:
        organization.faults = {operation: [error]}
        operator.deploy(expect=code)
        assert organization.calls == []


@pytest.mark.parametrize("operation", LATER_READS)
def test_a_read_that_fails_later_is_no_absence(organization, operator, operation):
    operator.change(overrides=[{"accounts": [THREE], "parameters": {"Mode": "report"}}])
    operator.deploy()
    operator.binary("release 2")
    for error, code in FAULTS:
        organization.faults = {operation: [error]}
        operator.deploy(expect=code)
        assert organization.calls == []


def test_no_credentials_is_not_allowed(organization, operator):
    operator.account = "SECURITY"
    environment = operator.environment
    operator.environment = lambda: {k: v for k, v in environment().items() if "KEY" not in k}

    assert "Sign in" in operator.deploy(expect=3)


# ------------------------------------------------------------------------------------------- the right account


def test_trusted_access_that_is_off_is_explained(organization, operator):
    organization.access = "DISABLED"
    said = operator.deploy(expect=2)

    assert said.index("activate-organizations-access") < said.index("register-delegated-administrator")
    assert organization.calls == []


def test_the_wrong_account_is_refused(organization, operator):
    operator.account = "MANAGEMENT"
    assert '"call_as" is DELEGATED_ADMIN' in operator.deploy(expect=2)
    operator.change(call_as="SELF")
    operator.account = "SECURITY"
    assert '"call_as" is SELF' in operator.deploy(expect=2)
    assert organization.calls == []


def test_from_the_management_account_its_own_stack_is_deployed_too(organization, operator):
    operator.account = "MANAGEMENT"
    operator.change(
        call_as="SELF",
        management_account=True,
        overrides=[{"accounts": [MANAGEMENT], "parameters": {"Mode": "report"}}],
    )
    said = operator.deploy()

    stack = organization.stacks[MANAGEMENT, "force-mfa"]
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    assert parameters["CodeKey"] == installed(organization).parameters["CodeKey"]
    assert parameters["Mode"] == "report"
    assert "What remains" not in said
    operator.deploy()
    assert organization.calls == []


@pytest.mark.parametrize(("unit", "mode"), [(ROOT, "report"), (WORK, "enforce")])
def test_an_override_of_its_unit_holds_for_the_management_account(organization, operator, unit, mode):
    operator.account = "MANAGEMENT"
    operator.change(
        call_as="SELF",
        management_account=True,
        overrides=[{"organizational_units": [unit], "parameters": {"Mode": "report"}}],
    )
    operator.deploy()

    assert mode_of_management(organization) == mode


def test_an_override_of_its_unit_holds_when_the_management_account_is_deployed_alone(organization, operator):
    operator.change(
        management_account=True, overrides=[{"organizational_units": [ROOT], "parameters": {"Mode": "report"}}]
    )
    keys = options_that_remain(operator.deploy())
    operator.account = "MANAGEMENT"
    operator.run("deploy-management", *keys)

    assert mode_of_management(organization) == "report"


def mode_of_management(organization):
    parameters = organization.stacks[MANAGEMENT, "force-mfa"]["Parameters"]
    return {p["ParameterKey"]: p["ParameterValue"] for p in parameters}["Mode"]


def test_the_management_account_cannot_be_excluded_and_meant(organization, operator):
    operator.change(excluded_accounts=[MANAGEMENT], management_account=True)
    said = operator.deploy(expect=2)
    assert f"excludes {MANAGEMENT}, which is the management account" in said
    assert organization.calls == []

    operator.change(management_account=False)
    operator.deploy()


def test_the_management_account_alone_is_no_canary(organization, operator):
    operator.change(canary_accounts=[MANAGEMENT])

    assert "StackSets never reach" in operator.deploy("--canary", expect=2)
    assert organization.calls == []


def test_from_another_account_the_command_that_remains_is_named(organization, operator):
    operator.change(management_account=True, auditor=AUDITOR)
    said = operator.deploy()
    operator.account = "MANAGEMENT"
    keys = options_that_remain(said)
    operator.run("deploy-management", *keys)
    assert (MANAGEMENT, "force-mfa") in organization.stacks
    assert (MANAGEMENT, "force-mfa-auditor") in organization.stacks
    operator.run("deploy-management", *keys)
    assert organization.calls == []


def options_that_remain(said):
    """The options of the `make deploy-management` command that a run prints."""
    command = next(line for line in said.splitlines() if "make deploy-management" in line).split()
    named = dict(word.split("=", 1) for word in command[2:])
    options = [option for name in ("ARTIFACT_BUCKET", "ALARM_TOPIC_ARN", "TEMPLATE_KEY", "CODE_KEY")
               for option in (f"--{name.lower().replace('_', '-')}", named[name])]  # fmt: skip
    return [*options, *(["--remove"] if "REMOVE" in named else [])]


OF_MANAGEMENT = ["force-mfa", "force-mfa-auditor", "force-mfa-scp"]


def stacks_of_management(organization):
    return sorted(name for account, name in organization.stacks if account == MANAGEMENT and name in OF_MANAGEMENT)


def test_what_leaves_the_file_leaves_the_management_account_when_told(organization, operator):
    operator.account = "MANAGEMENT"
    operator.change(call_as="SELF", management_account=True, auditor=AUDITOR, scp={"enabled": True})
    operator.deploy()
    assert stacks_of_management(organization) == OF_MANAGEMENT
    operator.change(management_account=False, scp={})
    del operator.document["auditor"]
    operator.change()
    said = operator.deploy(expect=1)
    for name in OF_MANAGEMENT:
        assert f"the stack {name} of the management account. make deploy-org REMOVE=1 deletes it." in said
    assert operator.run("rollout-status", expect=1).count("of the management account") == 3
    assert stacks_of_management(organization) == OF_MANAGEMENT

    operator.deploy("--remove")
    assert stacks_of_management(organization) == []


def test_from_another_account_the_command_that_remains_names_what_left_the_file(organization, operator):
    operator.change(management_account=True, auditor=AUDITOR, scp={"enabled": True})
    keys = options_that_remain(operator.deploy())
    operator.account = "MANAGEMENT"
    operator.run("deploy-management", *keys)
    assert stacks_of_management(organization) == OF_MANAGEMENT

    operator.account = "SECURITY"
    operator.change(management_account=False, scp={})
    del operator.document["auditor"]
    operator.change()
    keys = options_that_remain(operator.deploy("--remove"))
    operator.account = "MANAGEMENT"
    said = operator.run("deploy-management", *keys[:-1], expect=1)
    for name in OF_MANAGEMENT:
        assert f"the stack {name} of the management account. make deploy-management REMOVE=1 deletes it." in said
    assert organization.calls == []
    assert operator.run("deploy-management", *keys, dry_run=True).count("aws cloudformation delete-stack") == 3
    operator.run("deploy-management", *keys)
    assert stacks_of_management(organization) == []


def test_a_canary_names_no_command_for_the_management_account(organization, operator):
    operator.change(management_account=True, scp={"enabled": True}, canary_accounts=[THREE])
    operator.deploy()
    operator.binary("release 2")
    operator.change(management_account=False, scp={})
    assert "deploy-management" not in operator.deploy("--canary")

    # What left the file with the canary is not forgotten.
    assert "deploy-management" in operator.deploy()
    assert "deploy-management" not in operator.deploy()


def test_a_run_that_stops_does_not_forget_the_management_account(organization, operator):
    operator.change(management_account=True, scp={"enabled": True})
    operator.deploy()
    operator.binary("release 2")
    operator.change(management_account=False, scp={})
    organization.faults["UpdateStackSet"] = [AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)

    del organization.faults["UpdateStackSet"]
    assert "deploy-management" in operator.deploy()


def test_a_run_that_stops_at_its_end_does_not_forget_the_management_account(organization, operator):
    operator.change(management_account=True)
    operator.deploy()
    operator.change(management_account=False, overrides=[{"organizational_units": [WORK], "parameters": {"Mode": "report"}}])
    # The last read: whether accounts joined meanwhile.
    operation, reads = "ListAccountsForParent", 1 + sum(len(accounts) or 1 for accounts in organization.units.values())
    organization.faults[operation] = [*[None] * reads, AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)
    assert organization.sent("UpdateStackInstances")

    organization.faults.clear()
    assert "deploy-management" in operator.deploy()


def test_a_canary_deletes_no_stacks(organization, operator):
    operator.account = "MANAGEMENT"
    operator.change(call_as="SELF", management_account=True, canary_accounts=[THREE])
    operator.deploy()
    operator.change(excluded_accounts=[FOUR], management_account=False)

    assert "give one" in operator.deploy("--canary", "--remove", expect=2)
    assert organization.calls == []


def test_after_a_failed_update_the_management_account_gets_no_command(organization, operator):
    operator.change(management_account=True)
    operator.deploy()
    operator.binary("release 2")
    organization.failing[FIVE] = "not authorized"
    assert "deploy-management" not in operator.deploy(expect=1)

    organization.failing.clear()
    assert "deploy-management" in operator.deploy()


# --------------------------------------------------------------------------------------------------- auditor

AUDITOR = {"trusted_role": f"arn:aws:iam::{SECURITY}:role/security-audit", "external_id": "force-mfa-audit"}


def test_the_auditor_goes_to_every_account_of_the_organization(organization, operator):
    operator.change(organizational_units=[SANDBOX], auditor=AUDITOR)
    operator.deploy()

    assert set(installed(organization).instances) == {FIVE}
    auditor = installed(organization, "force-mfa-auditor")
    assert set(auditor.instances) == {SECURITY, THREE, FOUR, FIVE}
    assert auditor.units == {ROOT}
    assert auditor.parameters["TrustedRoleArn"] == AUDITOR["trusted_role"]


# ------------------------------------------------------------------------------------------------------- SCP


def test_the_scp_is_deployed_in_the_management_account(organization, operator):
    operator.account = "MANAGEMENT"
    operator.change(call_as="SELF", scp={"enabled": True, "exempt_role": "security-operator"})
    operator.deploy()

    stack = organization.stacks[MANAGEMENT, "force-mfa-scp"]
    assert {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]} == {
        "TargetIds": f"{WORK},{SANDBOX}",
        "ScpExemptRole": "security-operator",
        "NamePrefix": "force-mfa",
        "DeploymentRole": "stacksets-exec-*",
    }
    operator.change(scp={"enabled": False})
    assert "force-mfa-scp" in operator.deploy(expect=1)
    operator.deploy("--remove")
    assert (MANAGEMENT, "force-mfa-scp") not in organization.stacks


def test_the_scp_is_no_part_of_a_canary(organization, operator):
    operator.account = "MANAGEMENT"
    operator.change(
        call_as="SELF", canary_accounts=[THREE], scp={"enabled": True}, auditor=AUDITOR, management_account=True
    )
    operator.deploy("--canary")

    assert changes(organization) == ["CreateStack", "CreateStackSet", "CreateStackInstances"]


# --------------------------------------------------------------------------------------------------- removing


def test_what_the_file_no_longer_has_is_deleted_only_when_told(organization, operator):
    operator.change(auditor=AUDITOR)
    operator.deploy()
    operator.change(organizational_units=[WORK], excluded_accounts=[FOUR], auditor={})
    operator.write({k: v for k, v in operator.document.items() if k != "auditor"})
    said = operator.deploy(expect=1)
    assert "REMOVE=1" in said
    assert not organization.sent("DeleteStackInstances")

    operator.deploy("--remove")
    assert set(installed(organization).instances) == {SECURITY, THREE}
    assert installed(organization).units == {WORK}
    assert "force-mfa-auditor" not in organization.stack_sets


def test_narrower_units_never_delete_a_stack_that_is_still_meant(organization, operator):
    operator.change(organizational_units=[ROOT])
    operator.deploy()
    operator.change(organizational_units=[WORK])
    said = operator.deploy("--remove", expect=1)

    assert set(installed(organization).instances) == {SECURITY, THREE, FOUR}
    assert [sent["DeploymentTargets"]["Accounts"] for sent in organization.sent("DeleteStackInstances")] == [[FIVE]]
    assert f"automatic deployment to {ROOT}, which cannot end" in said


def test_wider_units_keep_the_stacks_that_are_there(organization, operator):
    operator.change(organizational_units=[WORK])
    operator.deploy()
    operator.change(organizational_units=[ROOT])
    operator.deploy("--remove")

    assert not organization.sent("DeleteStackInstances")
    assert set(installed(organization).instances) == {SECURITY, THREE, FOUR, FIVE}


def test_removing_the_organization_needs_its_id(organization, operator):
    operator.deploy()
    said = operator.run("remove-org", expect=2)
    assert "CONFIRM=o-exampleorgid" in said
    assert "deletes the stacks of 4 accounts" in said
    assert organization.calls == []


def test_removing_the_organization_deletes_both_stack_sets(organization, operator):
    operator.change(auditor=AUDITOR)
    operator.deploy()
    said = operator.run("remove-org", "--confirm", "o-exampleorgid")

    assert organization.stack_sets == {}
    assert [sent["RetainStacks"] for sent in organization.sent("DeleteStackInstances")] == [False, False]
    assert "users stay covered" in said
    assert BUCKET in said


def test_stacks_can_be_kept_when_the_stack_set_goes(organization, operator):
    operator.deploy()
    operator.run("remove-org", "--confirm", "o-exampleorgid", "--retain")

    assert [sent["RetainStacks"] for sent in organization.sent("DeleteStackInstances")] == [True]


def test_a_stack_that_cannot_be_deleted_keeps_the_stack_set(organization, operator):
    operator.change(failure_tolerance_percentage=50)
    operator.deploy()
    organization.failing[FIVE] = "denied"
    operator.run("remove-org", "--confirm", "o-exampleorgid", expect=1)
    assert set(installed(organization).instances) == {FIVE}
    assert "INOPERABLE" in operator.run("rollout-status", expect=1)

    organization.failing.clear()
    operator.run("remove-org", "--confirm", "o-exampleorgid")
    assert organization.stack_sets == {}


def test_the_stacks_of_suspended_accounts_stay_when_the_stack_sets_go(organization, operator):
    operator.change(auditor=AUDITOR)
    operator.deploy()
    organization.states[FOUR] = "SUSPENDED"
    said = operator.run("remove-org", "--confirm", "o-exampleorgid")

    assert organization.stack_sets == {}
    assert "suspended and closed accounts keep their stacks" in said
    retained = [sent["DeploymentTargets"]["Accounts"] for sent in organization.sent("DeleteStackInstances") if sent["RetainStacks"]]
    assert retained == [[FOUR], [FOUR]]


def test_a_suspended_account_gets_no_update(organization, operator):
    operator.deploy()
    organization.states[FOUR] = "SUSPENDED"
    operator.binary("release 2")

    assert "3 of 3 accounts are current" in operator.deploy()


def test_the_auditor_goes_although_a_stack_is_left(organization, operator):
    operator.change(auditor=AUDITOR, failure_tolerance_percentage=50)
    operator.deploy()
    organization.failing[FIVE] = "denied"
    installed(organization, "force-mfa-auditor").instances.pop(FIVE)
    said = operator.run("remove-org", "--confirm", "o-exampleorgid", expect=1)

    assert organization.stack_sets.keys() == {"force-mfa"}
    assert f"{FIVE}: INOPERABLE, " in said
    command = next(line for line in said.splitlines() if "aws cloudformation delete-stack-instances" in line)
    assert json.loads(shlex.split(command)[-1])["RetainStacks"] is True


# ---------------------------------------------------------------------------------------------------- dry run


def test_a_dry_run_changes_nothing_and_prints_commands(organization, operator):
    said = operator.deploy(dry_run=True)

    assert organization.calls == []
    # There is no bucket to look into.
    assert not {"HeadObject", "ListObjectsV2"} & {operation for operation, _ in organization.all_calls}
    commands = [line for line in said.splitlines() if line.startswith("aws ")]
    assert [" ".join(command.split()[1:3]) for command in commands] == [
        "cloudformation create-stack", "s3api put-object", "s3api put-object", "s3api put-object",
        "cloudformation create-stack-set", "cloudformation create-stack-instances",
    ]  # fmt: skip
    for command in commands:
        assert "--region us-east-1" in command
        assert json.loads(command.split("--cli-input-json ")[1].strip("'"))


def test_a_dry_run_after_that_prints_what_a_run_sends(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.binary("release 2")
    printed = [
        json.loads(line.split("--cli-input-json ")[1].strip("'"))
        for line in operator.deploy("--canary", dry_run=True).splitlines()
        if line.startswith("aws cloudformation update-stack-set")
    ]
    operator.deploy("--canary")

    assert printed == organization.sent("UpdateStackSet")


# ---------------------------------------------------------------------------------------------------- release


def test_an_object_whose_content_is_not_its_key_is_refused(organization, operator):
    first = keys_of(operator.deploy())
    organization.objects[BUCKET, first["code_key"]] = b"an attacker's"
    operator.binary("release 2")
    operator.change(release=first)

    assert "Somebody replaced it" in operator.deploy(expect=1)
    assert organization.calls == []


def test_a_release_that_is_not_there_is_refused(organization, operator):
    operator.deploy()
    digest = "0" * 64
    operator.change(
        release={"template_key": f"force-mfa/template/{digest}.yaml", "code_key": f"force-mfa/arm64/{digest}.zip"}
    )

    assert "There is no force-mfa/template" in operator.deploy(expect=2)
    assert organization.calls == []


def test_the_architecture_is_that_of_the_zip(organization, operator):
    operator.change(release={"architecture": "x86_64"})
    operator.deploy()
    parameters = installed(organization).parameters
    assert parameters["Architecture"] == "x86_64"
    assert parameters["CodeKey"].startswith("force-mfa/x86_64/")

    operator.change(parameters={"Architecture": "arm64"})
    assert "Architecture" in operator.deploy(expect=2)


def test_uploads_never_overwrite(organization, operator):
    operator.deploy()

    uploads = organization.sent("PutObject")
    assert {upload["IfNoneMatch"] for upload in uploads} == {"*"}
    assert all(upload["Checksum"] for upload in uploads if upload["Key"].startswith("force-mfa/"))


def test_another_roll_out_at_the_same_time_ends_this_one(organization, operator):
    operator.deploy()
    operator.binary("release 2")
    number = max(int(key[8:14]) for _, key in organization.objects if key.startswith("rollout/")) + 1

    def other():
        organization.objects[BUCKET, f"rollout/{number:06}.json"] = b"{}"

    organization.hooks["PutObject"] = other
    assert "Somebody else wrote this object" in operator.deploy(expect=1)
    assert not organization.sent("UpdateStackSet")


# --------------------------------------------------------------------------------------------------- by make


def test_make_rolls_out_looks_and_removes(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.make("deploy-org", "CANARY=1")
    assert set(installed(organization).instances) == {THREE}
    operator.make("deploy-org", "DRY_RUN=1")
    assert organization.calls == []
    operator.make("deploy-org")
    operator.make("rollout-status")
    operator.make("remove-org", expect=2)
    operator.make("remove-org", "CONFIRM=o-exampleorgid", "RETAIN=1")

    assert organization.stack_sets == {}


def test_ctrl_c_leaves_the_operation_running(organization, operator, monkeypatch):
    operator.deploy()
    operator.binary("release 2")

    def interrupt(*_):
        raise KeyboardInterrupt

    # The signal arrives while the run waits for its next look.
    monkeypatch.setattr(stack_set_operations.time, "sleep", interrupt)
    said = operator.deploy(expect=130)
    assert "make rollout-status" in said
    monkeypatch.undo()

    said = operator.deploy()
    assert "waiting for it" in said
    assert {i.status for i in installed(organization).instances.values()} == {"CURRENT"}


def test_a_stack_that_is_being_changed_is_left_alone(organization, operator):
    operator.deploy()
    for status in ("UPDATE_IN_PROGRESS", "ROLLBACK_COMPLETE"):
        organization.stacks[SECURITY, "force-mfa-organization"]["StackStatus"] = status
        assert status in operator.deploy(expect=1)
        assert organization.calls == []


def test_the_management_account_waits_for_the_others(organization, operator):
    operator.account = "MANAGEMENT"
    operator.change(call_as="SELF", management_account=True)
    organization.failing[FIVE] = "not authorized"
    operator.deploy(expect=1)
    assert (MANAGEMENT, "force-mfa") not in organization.stacks

    organization.failing.clear()
    operator.deploy()
    assert (MANAGEMENT, "force-mfa") in organization.stacks


def test_a_stack_that_fails_is_reported_with_its_reason(organization, operator):
    organization.stack_status = "ROLLBACK_COMPLETE"
    said = operator.deploy(expect=1)

    assert "Policy: it already exists" in said
    assert changes(organization) == ["CreateStack"]


def test_the_reason_is_of_the_newest_operation(organization, operator):
    organization.stack_status = "ROLLBACK_COMPLETE"
    organization.events = [
        ("force-mfa-organization", "ROLLBACK_COMPLETE", ""),
        ("Topic", "CREATE_FAILED", "Resource creation cancelled"),
        ("Rule", "CREATE_FAILED", "the second failure"),
        ("Bucket", "CREATE_FAILED", "the first failure"),
        ("force-mfa-organization", "CREATE_IN_PROGRESS", "User Initiated"),
        ("Policy", "UPDATE_FAILED", "a failure of last year"),
        ("force-mfa-organization", "UPDATE_IN_PROGRESS", "User Initiated"),
    ]

    assert "Bucket: the first failure Fix it" in operator.deploy(expect=1)


def test_what_aws_finds_before_it_deploys_is_reported(organization, operator):
    organization.stack_status = "ROLLBACK_COMPLETE"
    sentence = "Validation failed with 1 error(s). Call DescribeEvents to retrieve the full list of issues."
    organization.validation_errors = [("AlarmTopic", "a topic of this name exists")]
    for status in ("ROLLBACK_COMPLETE", "CREATE_FAILED"):
        organization.stacks.clear()
        organization.events = [("force-mfa-organization", status, sentence)]
        assert "AlarmTopic: a topic of this name exists. Fix it" in operator.deploy(expect=1)


def test_a_validation_in_an_account_is_explained(organization, operator):
    organization.failing[FIVE] = "Validation failed with 1 error(s). Call DescribeEvents to retrieve the full list of issues."

    assert "docs/rollout.md#install-again" in operator.deploy(expect=1)


def test_an_operation_that_begins_meanwhile_is_waited_for(organization, operator):
    operator.deploy()
    in_progress = AwsError("OperationInProgressException", "another operation is running", 409)
    for operation in ("UpdateStackSet", "DeleteStackSet"):
        organization.faults[operation] = [in_progress, AwsError("StaleRequestException", "stale", 409), None]
    operator.binary("release 2")
    assert "another operation is running" in operator.deploy()
    operator.run("remove-org", "--confirm", "o-exampleorgid")
    assert organization.stack_sets == {}


def test_an_operation_that_never_ends_is_reported(organization, operator):
    operator.deploy()
    organization.faults["UpdateStackSet"] = [AwsError("OperationInProgressException", "another one is running", 409)]
    operator.binary("release 2")

    assert "run the same command again when it has ended" in operator.deploy(expect=1)


def test_a_change_set_that_nobody_executed_is_explained(organization, operator):
    operator.deploy()
    organization.stacks[SECURITY, "force-mfa-organization"]["StackStatus"] = "REVIEW_IN_PROGRESS"
    said = operator.deploy(expect=1)

    assert "delete-stack --region us-east-1 --stack-name force-mfa-organization" in said
    assert "Execute the change set" in said
    assert organization.calls == []


def test_a_failed_way_back_names_the_command_that_continues_it(organization, operator):
    operator.deploy()
    organization.stacks[SECURITY, "force-mfa-organization"]["StackStatus"] = "UPDATE_ROLLBACK_FAILED"
    said = operator.deploy(expect=1)

    assert "continue-update-rollback --region us-east-1 --stack-name force-mfa-organization" in said
    assert organization.calls == []


def test_a_unit_that_does_not_exist_is_named(organization, operator):
    operator.change(organizational_units=[WORK, "ou-abcd-nowhere99"])

    assert "has no unit ou-abcd-nowhere99. Correct it" in operator.deploy(expect=2)
    assert organization.calls == []


def test_a_template_that_differs_in_a_comment_is_up_to_date(operator, organization):
    operator.deploy()
    [(key, stack)] = [(key, stack) for key, stack in organization.stacks.items() if key[1] == "force-mfa-organization"]
    stack["Template"] += "# A comment of an earlier release.\n"

    assert "force-mfa-organization: the stack is up to date." in operator.deploy()
    assert organization.stacks[key] is stack


@pytest.mark.parametrize(
    ("error", "code"),
    [(exceptions.LoginRefreshRequired(), 3), (exceptions.UnauthorizedSSOTokenError(), 3), (exceptions.ParamValidationError(report="x"), 1)],
)
def test_only_a_lost_connection_is_waited_for(operator, monkeypatch, error, code):
    """Anything else would be asked for again without an end."""
    real = client.BaseClient._make_api_call

    def call(self, operation, parameters):
        if operation == "DescribeStackSetOperation":
            raise error
        return real(self, operation, parameters)

    def sleep(_):
        raise AssertionError("it waits")

    monkeypatch.setattr(client.BaseClient, "_make_api_call", call)
    monkeypatch.setattr(stack_set_operations.time, "sleep", sleep)
    operator.deploy(expect=code)


def test_a_connection_that_is_lost_while_waiting_is_tried_again(operator, monkeypatch):
    real, lost = client.BaseClient._make_api_call, []

    def call(self, operation, parameters):
        if operation == "DescribeStackSetOperation" and len(lost) < 2:
            lost.append(operation)
            raise exceptions.EndpointConnectionError(endpoint_url="https://example.com")
        return real(self, operation, parameters)

    monkeypatch.setattr(client.BaseClient, "_make_api_call", call)
    operator.deploy()
    assert len(lost) == 2


def test_an_account_that_nothing_failed_in_is_told_to_run_again(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.binary("2")
    operator.deploy("--canary")
    organization.faults["UpdateStackSet"] = [AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)

    assert "Fix: Run make deploy-org, if no operation is running" in operator.run("rollout-status", expect=1)


def test_a_stack_that_cannot_be_deleted_is_called_that(organization, operator, monkeypatch):
    operator.account = "MANAGEMENT"
    operator.change(call_as="SELF", management_account=True)
    operator.deploy()
    operator.change(management_account=False)

    def fail(caller, StackName):
        organization.stacks[caller, StackName]["StackStatus"] = "DELETE_FAILED"
        return {}

    monkeypatch.setattr(organization, "DeleteStack", fail, raising=False)
    assert "could not be deleted" in operator.deploy("--remove", expect=1)
