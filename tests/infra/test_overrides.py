"""Overrides and the parameters for all in one run: what is sent when, and which parameters each stack had meanwhile."""

import json

import pytest

import templates
from aws_stand_in import BUCKET, LATER, ROOT, SANDBOX, SECURITY, WORK, AwsError

THREE, FOUR, FIVE = "333333333333", "444444444444", "555555555555"
STRICT = {"ExistingUsers": "enforce"}
AUDITOR = {"trusted_role": f"arn:aws:iam::{SECURITY}:role/security-audit", "external_id": "force-mfa-audit"}


def protect(*accounts, **parameters):
    return {"accounts": list(accounts), "parameters": parameters or {"Mode": "report"}}


def stack_set(organization):
    return organization.stack_sets["force-mfa"]


def history(organization, account, *names):
    """The values that the account's stack had, one after the other, each once."""
    values = [tuple(p[name] for name in names) for p in stack_set(organization).instances[account].history]
    values = [value for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    return [value[0] for value in values] if len(names) == 1 else values


def sent(organization):
    """Each operation on the StackSet: its name, the accounts that it names, its overrides."""
    return [
        (
            operation,
            call.get("DeploymentTargets", {}).get("Accounts"),
            {p["ParameterKey"]: p["ParameterValue"] for p in call.get("ParameterOverrides", [])},
        )
        for operation, call in organization.calls
        if operation in ("CreateStackInstances", "UpdateStackInstances", "UpdateStackSet")
    ]


def test_new_accounts_are_created_with_their_overrides(organization, operator):
    operator.change(parameters=STRICT, overrides=[protect(THREE), protect(FIVE, ExistingUsers="report")])
    operator.deploy()

    assert sent(organization) == [
        ("CreateStackInstances", [SECURITY, FOUR], {}),
        ("CreateStackInstances", [FIVE], {"ExistingUsers": "report"}),
        ("CreateStackInstances", [THREE], {"Mode": "report"}),
    ]
    assert history(organization, THREE, "Mode") == ["report"]
    assert history(organization, FIVE, "ExistingUsers") == ["report"]


def test_accounts_with_overrides_are_named_one_by_one(organization, operator):
    # With the units alone, an account that joins just now would get overrides that the file does not give to it.
    operator.change(organizational_units=[SANDBOX], overrides=[protect(FIVE)])
    operator.deploy()

    [created] = organization.sent("CreateStackInstances")
    assert created["DeploymentTargets"] == {
        "OrganizationalUnitIds": [SANDBOX],
        "Accounts": [FIVE],
        "AccountFilterType": "INTERSECTION",
    }


def test_a_failed_group_does_not_keep_the_next_one_from_its_stacks(organization, operator):
    organization.failing[FIVE] = "not authorized"
    operator.change(overrides=[protect(FIVE, ExistingUsers="enforce"), protect(THREE)])
    operator.deploy(expect=1)

    assert history(organization, THREE, "Mode") == ["report"]


def test_a_protected_account_never_has_the_stricter_parameters(organization, operator):
    operator.deploy()
    operator.change(parameters=STRICT, overrides=[protect(THREE)])
    operator.deploy()

    # First all that the file says, since the StackSet does not have it yet.
    assert sent(organization) == [
        ("UpdateStackInstances", [THREE], STRICT | {"ExemptPaths": "", "Mode": "report"}),
        ("UpdateStackSet", None, {}),
        ("UpdateStackInstances", [THREE], {"Mode": "report"}),
    ]
    assert ("enforce", "enforce") not in history(organization, THREE, "Mode", "ExistingUsers")
    assert history(organization, FOUR, "ExistingUsers") == ["report", "enforce"]


def test_a_failed_update_does_not_take_the_protection(organization, operator):
    operator.deploy()
    organization.failing[FIVE] = "not authorized"
    operator.change(parameters=STRICT, overrides=[protect(THREE)])
    operator.deploy(expect=1)

    assert stack_set(organization).effective(THREE)["Mode"] == "report"
    assert ("enforce", "enforce") not in history(organization, THREE, "Mode", "ExistingUsers")


@pytest.mark.parametrize("tolerance", [0, 100])
def test_an_account_without_its_protection_is_left_out_of_the_update(organization, operator, tolerance):
    operator.change(failure_tolerance_percentage=tolerance)
    operator.deploy()
    organization.failing[THREE] = "explicit deny in a service control policy"
    operator.change(parameters=STRICT, overrides=[protect(THREE), protect(FOUR, ExistingUsers="report")])
    said = operator.deploy(expect=1)

    [update] = organization.sent("UpdateStackSet")
    assert THREE not in update["DeploymentTargets"]["Accounts"]
    assert f"{THREE} failed: explicit deny in a service control policy" in said
    assert f"{THREE} does not have the overrides" in said
    # One account does not keep the others from what the file says.
    assert stack_set(organization).instances[FOUR].overrides == {"ExistingUsers": "report"}
    assert history(organization, SECURITY, "ExistingUsers") == ["report", "enforce"]

    organization.failing.clear()
    operator.deploy()
    assert ("enforce", "enforce") not in history(organization, THREE, "Mode", "ExistingUsers")
    assert history(organization, FOUR, "ExistingUsers") == ["report"]


def test_an_override_with_the_value_for_all_keeps_nobody_back(organization, operator):
    operator.deploy()
    organization.failing[THREE] = "a fault of the old release"
    operator.binary("release 2")
    operator.change(overrides=[protect(THREE, ExistingUsers="report")], failure_tolerance_percentage=100)
    organization.hooks["UpdateStackSet"] = organization.failing.clear
    operator.deploy()

    assert stack_set(organization).instances[THREE].overrides == {"ExistingUsers": "report"}


def test_an_override_that_is_there_although_its_operation_failed_is_enough(organization, operator):
    operator.deploy()
    organization.keeps_overrides_of_failures = True
    organization.failing[THREE] = "Rate exceeded"
    operator.change(parameters=STRICT, overrides=[protect(THREE)], failure_tolerance_percentage=50)
    organization.hooks["UpdateStackSet"] = organization.failing.clear
    operator.deploy(expect=1)

    assert organization.sent("UpdateStackSet")
    assert ("enforce", "enforce") not in history(organization, THREE, "Mode", "ExistingUsers")


def test_an_account_that_no_update_reaches_keeps_nobody_back(organization, operator):
    operator.deploy()
    stack_set(organization).instances[THREE].status = "INOPERABLE"
    operator.change(parameters=STRICT, overrides=[protect(THREE)])
    operator.deploy(expect=1)

    assert history(organization, FOUR, "ExistingUsers") == ["report", "enforce"]


def test_what_leaves_an_override_never_has_the_old_value_for_all(organization, operator):
    operator.change(parameters=STRICT, overrides=[protect(THREE, ExistingUsers="report")])
    operator.deploy()
    operator.change(parameters={}, overrides=[protect(THREE, CredentialScope="console-only")])
    operator.deploy()

    assert sent(organization) == [
        ("UpdateStackInstances", [THREE], {"CredentialScope": "console-only", "ExistingUsers": "report"}),
        ("UpdateStackSet", None, {}),
        ("UpdateStackInstances", [THREE], {"CredentialScope": "console-only"}),
    ]
    assert history(organization, THREE, "ExistingUsers") == ["report"]


def test_a_failed_update_keeps_what_leaves_an_override(organization, operator):
    operator.change(parameters=STRICT, overrides=[protect(THREE, ExistingUsers="report")])
    operator.deploy()
    organization.failing[FIVE] = "not authorized"
    operator.change(parameters={}, overrides=[])
    operator.deploy(expect=1)
    assert not organization.sent("UpdateStackInstances")

    organization.failing.clear()
    operator.deploy()
    assert stack_set(organization).instances[THREE].overrides.keys() == {"NamePrefix"}
    assert history(organization, THREE, "ExistingUsers") == ["report"]


def test_an_override_never_meets_the_old_value_for_all(organization, operator):
    operator.deploy()
    operator.change(parameters={"Mode": "report"}, overrides=[protect(THREE, ExistingUsers="enforce")])
    operator.deploy()

    assert history(organization, THREE, "Mode", "ExistingUsers") == [("enforce", "report"), ("report", "enforce")]
    assert stack_set(organization).instances[THREE].overrides == {"ExistingUsers": "enforce"}


def test_an_override_that_leaves_never_meets_the_new_value_for_all(organization, operator):
    operator.change(parameters={"Mode": "report"}, overrides=[protect(THREE, ExistingUsers="enforce")])
    operator.deploy()
    organization.failing[FOUR] = "not authorized"
    operator.change(parameters={}, overrides=[])
    operator.deploy(expect=1)

    assert history(organization, THREE, "Mode", "ExistingUsers") == [("report", "enforce"), ("enforce", "report")]


def test_an_override_of_a_failed_operation_holds_for_nobody_once_it_left_the_file(organization, operator):
    operator.deploy()
    organization.keeps_overrides_of_failures = True
    organization.failing[THREE] = "Rate exceeded"
    operator.change(overrides=[protect(THREE, ExistingUsers="enforce")])
    operator.deploy(expect=1)
    organization.failing.clear()
    operator.change(overrides=[])
    operator.deploy()

    assert history(organization, THREE, "ExistingUsers") == ["report"]


def test_an_account_that_only_the_new_release_can_deploy_gets_its_override_with_it(organization, operator):
    operator.deploy()
    organization.failing[THREE] = "a fault of the old release"
    operator.binary("release 2")
    operator.change(parameters=STRICT, overrides=[protect(THREE)], failure_tolerance_percentage=100)
    organization.hooks["UpdateStackSet"] = organization.failing.clear
    operator.deploy()

    assert ("enforce", "enforce") not in history(organization, THREE, "Mode", "ExistingUsers")
    assert stack_set(organization).instances[THREE].overrides == {"Mode": "report"}


def test_a_parameter_that_only_the_new_template_has_follows_the_update(organization, operator):
    operator.deploy()
    one = stack_set(organization)
    one.template = one.template.replace("ExemptTag", "ExemptLabel")
    del one.parameters["ExemptTag"]
    operator.change(overrides=[protect(THREE, Mode="report", ExemptTag="mfa-exempt")])
    operator.deploy()

    assert sent(organization) == [
        ("UpdateStackInstances", [THREE], {"Mode": "report"}),
        ("UpdateStackSet", None, {}),
        ("UpdateStackInstances", [THREE], {"Mode": "report", "ExemptTag": "mfa-exempt"}),
    ]


def test_a_run_that_changes_nothing_sends_nothing(organization, operator):
    operator.change(overrides=[protect(THREE), protect(FIVE, LogRetentionDays=90)])
    operator.deploy()
    operator.change(overrides=[protect(THREE)])
    operator.deploy()
    operator.deploy()

    assert organization.calls == []


def test_only_accounts_that_may_have_overrides_are_asked_for_them(organization, operator):
    operator.change(overrides=[protect(THREE)])
    operator.deploy()
    organization.all_calls.clear()
    operator.deploy()

    asked = [call["StackInstanceAccount"] for name, call in organization.all_calls if name == "DescribeStackInstance"]
    assert set(asked) == {THREE}


def test_an_override_that_somebody_took_away_is_put_back(organization, operator):
    operator.change(overrides=[protect(THREE)])
    operator.deploy()
    stack_set(organization).instances[THREE].overrides = {}
    assert f"{THREE} does not have the overrides" in operator.run("rollout-status", expect=1)
    operator.deploy()

    assert stack_set(organization).instances[THREE].overrides == {"Mode": "report"}


def test_overrides_that_cannot_be_seen_keep_the_stricter_parameters_back(organization, operator):
    operator.deploy()
    operator.change(parameters=STRICT, overrides=[protect(THREE)])
    organization.faults["DescribeStackInstance"] = [None, AwsError("Throttling", "Rate exceeded")]
    operator.deploy(expect=1)

    assert not organization.sent("UpdateStackSet")


# ------------------------------------------------------------------------------------ accounts to ask next time


def recorded(organization):
    key = max(key for _, key in organization.objects if key.startswith("rollout/"))
    return json.loads(organization.objects[BUCKET, key])["overridden"]


def exclude(organization, operator):
    operator.change(excluded_accounts=[FOUR])


def include(organization, operator):
    operator.change(excluded_accounts=[])


def suspend(organization, operator):
    organization.states[FOUR] = "SUSPENDED"


def reactivate(organization, operator):
    organization.states.clear()


def fail(organization, operator):
    organization.failing[FOUR] = "explicit deny"
    operator.change(failure_tolerance_percentage=100)


def recover(organization, operator):
    organization.failing.clear()


@pytest.mark.parametrize(
    ("leave", "come_back", "code"), [(exclude, include, 1), (suspend, reactivate, 0), (fail, recover, 1)]
)
def test_an_override_that_cannot_be_reset_now_is_reset_later(organization, operator, leave, come_back, code):
    operator.change(overrides=[protect(THREE, FOUR)])
    operator.deploy()
    operator.change(overrides=[])
    leave(organization, operator)
    operator.deploy(expect=code)
    assert recorded(organization) == [FOUR]

    come_back(organization, operator)
    operator.deploy()
    assert "Mode" not in stack_set(organization).instances[FOUR].overrides
    assert recorded(organization) == []


def test_an_account_whose_stack_is_gone_is_not_asked_again(organization, operator):
    operator.change(overrides=[protect(FOUR)])
    operator.deploy()
    operator.change(overrides=[], excluded_accounts=[FOUR])
    operator.deploy("--remove")

    assert recorded(organization) == []


# ---------------------------------------------------------------------------------------------------- canary


def test_a_canary_gets_its_overrides_first_and_the_others_are_not_touched(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.change(parameters=STRICT, overrides=[protect(THREE, FOUR)])
    operator.deploy("--canary")

    assert sent(organization) == [
        ("UpdateStackInstances", [THREE], STRICT | {"ExemptPaths": "", "Mode": "report"}),
        ("UpdateStackSet", [THREE], {}),
        ("UpdateStackInstances", [THREE], {"Mode": "report"}),
    ]
    assert ("enforce", "enforce") not in history(organization, THREE, "Mode", "ExistingUsers")
    assert history(organization, FOUR, "Mode", "ExistingUsers") == [("enforce", "report")]

    operator.deploy()
    assert ("enforce", "enforce") not in history(organization, FOUR, "Mode", "ExistingUsers")


def test_a_new_canary_account_is_created_with_its_overrides_then_updated(organization, operator):
    operator.change(organizational_units=[WORK], canary_accounts=[THREE])
    operator.deploy()
    operator.change(
        organizational_units=[WORK, SANDBOX], canary_accounts=[FIVE], parameters=STRICT, overrides=[protect(FIVE)]
    )
    operator.deploy("--canary")

    # With the values of the file, also for all, which the StackSet does not have yet.
    assert sent(organization) == [
        ("CreateStackInstances", [FIVE], STRICT | {"ExemptPaths": "", "Mode": "report"}),
        ("UpdateStackSet", [FIVE], {}),
        ("UpdateStackInstances", [FIVE], {"Mode": "report"}),
    ]
    assert history(organization, FIVE, "Mode", "ExistingUsers") == [("report", "enforce")]


def test_a_canary_without_its_protection_is_not_updated(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    organization.failing[THREE] = "explicit deny"
    operator.change(parameters=STRICT, overrides=[protect(THREE)])
    said = operator.deploy("--canary", expect=1)

    assert not organization.sent("UpdateStackSet")
    assert f"{THREE} failed: explicit deny" in said


def test_what_a_canary_left_reaches_nobody_through_an_override(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.change(parameters=STRICT)
    operator.deploy("--canary")
    operator.change(parameters={}, overrides=[protect(FOUR, CredentialScope="console-only")])
    operator.deploy()

    assert history(organization, FOUR, "ExistingUsers") == ["report"]
    assert stack_set(organization).instances[FOUR].overrides == {"CredentialScope": "console-only"}


def test_what_a_failed_update_left_reaches_nobody_through_an_override(organization, operator):
    operator.deploy()
    organization.failing[THREE] = "not authorized"
    operator.change(parameters=STRICT)
    operator.deploy(expect=1)
    assert history(organization, FOUR, "ExistingUsers") == ["report"]

    organization.failing.clear()
    operator.change(parameters={}, overrides=[protect(FOUR, CredentialScope="console-only")])
    operator.deploy()
    assert history(organization, FOUR, "ExistingUsers") == ["report"]
    assert stack_set(organization).instances[FOUR].overrides == {"CredentialScope": "console-only"}


def test_a_value_that_the_present_template_refuses_is_not_sent_to_it(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    one = stack_set(organization)
    one.template = one.template.replace("AllowedValues: [enforce, report]", "AllowedValues: [enforce]", 1)
    one.parameters["Mode"] = "enforce"
    one.instances[FOUR].status = "OUTDATED"
    operator.change(parameters={"Mode": "report"}, overrides=[protect(FOUR, CredentialScope="console-only")])
    operator.deploy()

    assert sent(organization)[0] == ("UpdateStackInstances", [FOUR], {"CredentialScope": "console-only", "ExemptPaths": ""})


@pytest.mark.parametrize("overrides", [[], [protect(FIVE, CredentialScope="console-only")]], ids=["none", "its own"])
def test_a_new_canary_account_never_has_the_old_parameters(organization, operator, overrides):
    operator.change(organizational_units=[WORK], parameters=STRICT)
    operator.deploy()
    softer = {"organizational_units": [WORK, SANDBOX], "canary_accounts": [FIVE], "parameters": {}}
    operator.change(**softer, overrides=overrides)
    operator.deploy("--canary")

    assert history(organization, FIVE, "ExistingUsers") == ["report"]
    wanted = {"CredentialScope": "console-only"} if overrides else {"NamePrefix": "force-mfa"}
    assert stack_set(organization).instances[FIVE].overrides == wanted


def test_a_new_canary_account_whose_run_stopped_is_reset_later(organization, operator):
    operator.change(organizational_units=[WORK], parameters=STRICT)
    operator.deploy()
    operator.change(organizational_units=[WORK, SANDBOX], canary_accounts=[FIVE], parameters={})
    organization.faults["UpdateStackSet"] = [AwsError("ExpiredToken", "expired", 403)]
    operator.deploy("--canary", expect=3)
    assert stack_set(organization).instances[FIVE].overrides["ExistingUsers"] == "report"

    del organization.faults["UpdateStackSet"]
    operator.deploy()
    assert stack_set(organization).instances[FIVE].overrides == {"NamePrefix": "force-mfa"}
    assert history(organization, FIVE, "ExistingUsers") == ["report"]


# --------------------------------------------------------------------------------------------------- dry run


def printed(said):
    commands = [line.split(maxsplit=3) for line in said.splitlines() if line.startswith("aws cloudformation")]
    return [
        (name.title().replace("-", ""), json.loads(rest.split("--cli-input-json ")[1].strip("'")))
        for _, _, name, rest in commands
    ]


@pytest.mark.parametrize(("options", "calls"), [((), 4), (("--canary",), 5)])
def test_a_dry_run_prints_all_that_a_run_sends(organization, operator, options, calls):
    operator.change(organizational_units=[WORK], overrides=[protect(THREE)])
    operator.deploy()
    operator.change(
        organizational_units=[WORK, SANDBOX, LATER],
        canary_accounts=[THREE, FIVE],
        parameters=STRICT,
        overrides=[protect(THREE, ExistingUsers="report"), protect(FIVE)],
    )
    shown = printed(operator.deploy(*options, dry_run=True))
    assert organization.calls == []
    operator.deploy(*options)

    assert shown == [(name, call) for name, call in organization.calls if name != "PutObject"]
    assert len(shown) == calls


def test_a_first_dry_run_shows_the_overrides_too(operator):
    operator.change(overrides=[protect(THREE)])
    shown = printed(operator.deploy(dry_run=True))

    assert shown[-1][0] == "CreateStackInstances"
    assert shown[-1][1]["ParameterOverrides"] == templates.as_list({"Mode": "report"})


def test_a_dry_run_with_remove_prints_what_a_run_sends(organization, operator):
    operator.deploy()
    operator.change(parameters=STRICT, excluded_accounts=[FOUR])
    shown = printed(operator.deploy("--remove", dry_run=True))
    operator.deploy("--remove")

    assert shown == [(name, call) for name, call in organization.calls if name != "PutObject"]


def test_a_dry_run_after_a_failure_prints_what_a_run_sends(organization, operator):
    operator.change(overrides=[protect(THREE)])
    organization.failing[THREE] = "not authorized"
    operator.deploy(expect=1)
    organization.failing.clear()
    shown = printed(operator.deploy(dry_run=True))
    operator.deploy()

    assert shown == [(name, call) for name, call in organization.calls if name != "PutObject"]


@pytest.mark.parametrize(
    ("account", "leaves"),
    [(FOUR, {"excluded_accounts": [FOUR]}), (FIVE, {"organizational_units": [WORK]})],
    ids=["excluded", "unit taken out"],
)
def test_an_account_that_leaves_the_file_gets_no_stricter_parameters(organization, operator, account, leaves):
    operator.deploy()
    operator.change(parameters=STRICT, **leaves)
    assert account in operator.deploy(dry_run=True) or SANDBOX in operator.deploy(dry_run=True)
    operator.deploy(expect=1)
    operator.deploy(expect=1)

    assert history(organization, account, "ExistingUsers") == ["report"]
    assert history(organization, THREE, "ExistingUsers") == ["report", "enforce"]

    operator.deploy("--remove")
    assert account not in stack_set(organization).instances


def test_one_unit_can_be_replaced_by_another(organization, operator):
    operator.change(organizational_units=[SANDBOX], parameters=STRICT)
    operator.deploy()
    operator.change(organizational_units=[WORK], parameters={}, overrides=[protect(THREE, CredentialScope="console-only")])
    said = operator.deploy(expect=1)
    assert f"stacks and automatic deployment of {SANDBOX}" in said

    for account in (SECURITY, THREE, FOUR):
        assert set(history(organization, account, "ExistingUsers")) == {"report"}
        assert stack_set(organization).instances[account].status == "CURRENT"
    assert stack_set(organization).instances[THREE].overrides == {"CredentialScope": "console-only"}
    assert "ExistingUsers" not in stack_set(organization).instances[SECURITY].overrides
    assert history(organization, FIVE, "ExistingUsers") == ["enforce"]
    operator.deploy("--remove")


def test_a_stack_set_of_accounts_that_all_left_is_not_updated(organization, operator):
    operator.change(organizational_units=[SANDBOX])
    operator.deploy()
    operator.change(organizational_units=[LATER], parameters=STRICT)

    assert "add an account to the file" in operator.deploy(expect=1)
    assert history(organization, FIVE, "ExistingUsers") == ["report"]


def test_an_excluded_account_that_comes_back_gets_what_the_others_have(organization, operator):
    operator.deploy()
    operator.change(parameters=STRICT, excluded_accounts=[FOUR])
    operator.deploy(expect=1)
    operator.change(excluded_accounts=[])
    operator.deploy()

    assert history(organization, FOUR, "ExistingUsers") == ["report", "enforce"]


def test_a_unit_that_was_wider_for_a_time_loses_no_stack_that_is_meant(organization, operator):
    for units in ([WORK], [ROOT]):
        operator.change(organizational_units=units)
        operator.deploy()
    deployments = len(stack_set(organization).instances[FOUR].history)
    operator.change(organizational_units=[WORK])
    operator.run("deploy-org", "--remove", expect=1)  # Automatic deployment to the root cannot end.

    [deleted] = organization.sent("DeleteStackInstances")
    assert deleted["DeploymentTargets"]["Accounts"] == [FIVE]
    assert deleted["DeploymentTargets"]["AccountFilterType"] == "INTERSECTION"
    assert len(stack_set(organization).instances[FOUR].history) == deployments


def test_an_override_of_a_unit_that_has_none_of_our_accounts_is_refused(organization, operator):
    operator.change(organizational_units=[WORK], overrides=[{"organizational_units": [SANDBOX], "parameters": STRICT}])
    assert f"{SANDBOX}, which is not below its organizational_units" in operator.deploy(expect=2)
    assert organization.calls == []

    # A unit without accounts yet, and one that is above ours.
    overrides = [{"organizational_units": [unit], "parameters": STRICT} for unit in (LATER, ROOT)]
    operator.change(overrides=overrides)
    operator.deploy()


def test_an_excluded_account_that_is_not_there_is_named(operator):
    operator.change(excluded_accounts=["999999999999"])

    assert "excludes accounts that are not active in the organization: 999999999999" in operator.deploy()


def test_the_status_says_that_the_file_was_not_applied(organization, operator):
    operator.deploy()
    assert "Run make deploy-org" not in operator.run("rollout-status")

    operator.change(parameters=STRICT, overrides=[protect(THREE)])
    assert "say: ExemptPaths, ExistingUsers of the StackSet force-mfa. Run make deploy-org" in operator.run("rollout-status", expect=1)

    organization.faults["UpdateStackSet"] = [AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)
    del organization.faults["UpdateStackSet"]
    assert "say: ExemptPaths, ExistingUsers of the StackSet force-mfa. Run make deploy-org" in operator.run("rollout-status", expect=1)

    operator.deploy()
    operator.binary("a newer function")
    organization.faults["UpdateStackSet"] = [AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)
    del organization.faults["UpdateStackSet"]
    assert "say: CodeKey of the StackSet force-mfa. Run make deploy-org" in operator.run("rollout-status", expect=1)


@pytest.mark.parametrize(
    "changes", [{"auditor": AUDITOR}, {"organizational_units": [WORK, SANDBOX, LATER]}, {"tags": {"owner": "security"}}]
)
def test_the_status_says_that_a_setting_was_not_applied(operator, changes):
    operator.deploy()
    operator.change(**changes)

    assert "Not as " in operator.run("rollout-status", expect=1)


def test_the_status_says_that_the_auditor_is_not_as_the_file_says(organization, operator):
    operator.change(auditor=AUDITOR)
    organization.faults["CreateStackSet"] = [None, AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)
    organization.faults.clear()
    assert "the StackSet force-mfa-auditor, which does not exist" in operator.run("rollout-status", expect=1)

    operator.deploy()
    operator.change(auditor=AUDITOR | {"external_id": "another-id"})
    assert "ExternalId of the StackSet force-mfa-auditor" in operator.run("rollout-status", expect=1)


def test_the_status_says_that_the_management_account_has_no_stack(organization, operator):
    operator.account = "MANAGEMENT"
    operator.change(call_as="SELF", management_account=True)
    organization.faults["CreateStack"] = [None, AwsError("ExpiredToken", "expired", 403)]
    operator.deploy(expect=3)
    organization.faults.clear()
    assert "the stack force-mfa of the management account" in operator.run("rollout-status", expect=1)

    operator.deploy()
    operator.run("rollout-status")


def test_the_status_compares_the_template(organization, operator):
    operator.deploy()
    one = stack_set(organization)
    text = one.template
    one.template = text + "# a comment of an older release\n"
    operator.run("rollout-status")

    one.template = text.replace("a policy", "the policy", 1)
    assert "the template of the StackSet force-mfa" in operator.run("rollout-status", expect=1)


def test_the_status_says_that_the_file_names_another_release(organization, operator):
    operator.deploy()
    first = json.loads(organization.objects[BUCKET, "rollout/000001.json"])["release"]
    operator.binary("release 2")
    operator.deploy()
    operator.change(release=first)

    assert "CodeKey of the StackSet force-mfa" in operator.run("rollout-status", expect=1)


def test_the_status_after_a_canary_names_who_waits_for_overrides(organization, operator):
    operator.change(canary_accounts=[THREE])
    operator.deploy()
    operator.change(overrides=[protect(FOUR)])
    operator.deploy("--canary")

    assert f"{FOUR} wait for their overrides, as CANARY=1 meant" in operator.run("rollout-status")
