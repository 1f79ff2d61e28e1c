"""rollout.json: everything that is wrong with it is reported at once, and nothing is sent."""

import json

import jsonschema
import pytest

import cfn
from aws_stand_in import SANDBOX, WORK

THREE = "333333333333"


def refused(organization, operator, **changes):
    operator.change(**changes)
    said = operator.deploy(expect=2)
    assert organization.all_calls == []
    return said


def test_every_problem_is_reported_at_once_with_its_place(organization, operator):
    said = refused(
        organization, operator, organisational_units=[WORK], canary_accounts=["12"], max_concurrent_percentage=0,
        release={"template_key": "x"}, overrides=[{"accounts": [THREE]}], parameters={"Mode": "off", "CodeKey": "x"},
    )  # fmt: skip

    for place in (
        "organisational_units", "$.canary_accounts[0]", "$.max_concurrent_percentage", "$.overrides[0]", "$.release",
        "$.parameters.Mode", "CodeKey",
    ):  # fmt: skip
        assert place in said


def test_parameters_are_checked_against_the_template(organization, operator):
    said = refused(
        organization, operator,
        parameters={
            "Mode": "off", "ExemptPath": "/x/", "ExemptPaths": "service", "LogRetentionDays": "2", "NamePrefix": "x" * 41,
        },
        overrides=[{"accounts": [THREE], "parameters": {"ExistingUsers": "yes"}}],
    )  # fmt: skip

    assert "$.parameters.Mode: 'off' is not one of enforce, report" in said
    assert "$.parameters.ExemptPath: the template has no such parameter; ExemptPaths?" in said
    assert "$.parameters.ExemptPaths: 'service' must be IAM paths" in said
    assert "$.parameters.LogRetentionDays: '2' is not one of" in said
    assert "$.parameters.NamePrefix" in said
    assert "$.overrides[0].parameters.ExistingUsers" in said


@pytest.mark.parametrize("name", ["CodeBucket", "CodeKey", "Architecture", "AlarmEmail"])
def test_what_the_roll_out_fills_in_cannot_be_set(organization, operator, name):
    assert name in refused(organization, operator, parameters={name: "x"})


@pytest.mark.parametrize("name", ["NamePrefix", "AlarmTopicArn"])
def test_what_is_the_same_for_all_cannot_be_overridden(organization, operator, name):
    assert name in refused(organization, operator, overrides=[{"accounts": [THREE], "parameters": {name: "x"}}])


def test_the_parameters_of_auditor_and_scp_are_checked_too(organization, operator):
    said = refused(
        organization, operator, auditor={"trusted_role": "security-audit", "external_id": "x"},
        scp={"enabled": True, "exempt_role": "*"},
    )  # fmt: skip

    assert "$.auditor.TrustedRoleArn" in said
    assert "$.auditor.ExternalId" in said
    assert "$.scp.ScpExemptRole" in said


def test_an_account_cannot_be_excluded_and_named(organization, operator):
    said = refused(
        organization, operator, excluded_accounts=[THREE], canary_accounts=[THREE],
        overrides=[{"accounts": [THREE], "parameters": {"Mode": "report"}}],
    )  # fmt: skip

    assert "$.canary_accounts" in said
    assert "$.overrides[0].accounts" in said


def test_a_key_that_is_given_twice_is_refused(organization, operator):
    (operator.folder / "rollout.json").write_text('{"call_as": "SELF", "call_as": "DELEGATED_ADMIN"}')

    assert "'call_as' is given twice" in operator.deploy(expect=2)


def test_what_is_no_json_is_refused_with_its_line(organization, operator):
    (operator.folder / "rollout.json").write_text('{"call_as": "SELF",\n}')

    assert "line 2" in operator.deploy(expect=2)


def test_an_older_release_is_checked_against_its_own_template(organization, operator):
    operator.deploy()
    [uploaded] = [key for _, key in organization.objects if key.startswith("force-mfa/template/")]
    [zip_key] = [key for _, key in organization.objects if key.endswith(".zip")]
    operator.change(parameters={"NotInThatRelease": "x"}, release={"template_key": uploaded, "code_key": zip_key})

    assert "$.parameters.NotInThatRelease: the template has no such parameter" in operator.deploy(expect=2)
    assert organization.calls == []


def test_a_missing_file_is_explained(organization, operator):
    (operator.folder / "rollout.json").unlink()

    assert "infra/rollout.example.json" in operator.deploy(expect=2)
    assert organization.all_calls == []


def test_the_example_is_one(organization, operator):
    example = json.loads((cfn.ROOT / "infra" / "rollout.example.json").read_text())
    operator.write(example | {"organizational_units": [WORK], "canary_accounts": [], "overrides": []})
    assert "current" in operator.deploy()
    schema = json.loads((cfn.ROOT / "infra" / "rollout.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(example)
    # It shows every setting that there is.
    assert set(schema["properties"]) - {"$schema"} == set(example)


def test_numbers_are_taken_as_text(organization, operator):
    operator.change(parameters={"LogRetentionDays": 90}, organizational_units=[SANDBOX])
    operator.deploy()

    assert organization.stack_sets["force-mfa"].parameters["LogRetentionDays"] == "90"
