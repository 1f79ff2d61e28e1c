"""`make deploy`, `import-template` and `publish`: one account."""

import json

import pytest

import cfn
import templates
from aws_stand_in import BUCKET


@pytest.fixture
def sam(operator):
    """What SAM was called with: a program of its name that notes its words."""
    program = operator.bin / "sam"
    program.write_text(f'#!/bin/sh\nfor word; do echo "$word" >> {operator.folder}/sam; done\n')
    program.chmod(0o755)

    def words():
        path = operator.folder / "sam"
        lines = path.read_text().splitlines() if path.exists() else []
        return lines[lines.index("deploy") :] if "deploy" in lines else []

    return words


def test_values_with_blanks_and_commas_reach_sam_whole(operator, sam):
    operator.make("deploy", """PARAMETERS=ExemptUsers=break-glass-1,ci-* ExemptTag='mfa exempt=yes' Mode=report""")

    words = sam()
    given = words[words.index("--parameter-overrides") + 1 :]
    # Otherwise an x86_64 of an earlier deployment would stay.
    assert 'Architecture="arm64"' in given
    assert given[:3] == ['ExemptUsers="break-glass-1,ci-*"', 'ExemptTag="mfa exempt=yes"', 'Mode="report"']


def test_parameters_come_from_a_file_too_and_the_command_line_wins(operator, sam):
    file = operator.folder / "parameters.json"
    file.write_text(json.dumps({"ExemptPaths": "/service/", "LogRetentionDays": 90, "Mode": "report"}))
    operator.make("deploy", f"PARAMETERS_FILE={file}", "PARAMETERS=Mode=enforce")

    assert {'ExemptPaths="/service/"', 'LogRetentionDays="90"', 'Mode="enforce"'} <= set(sam())


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("Architecture=x86_64", "built for arm64"),
        ("ExemptPath=/x/", "no such parameter; ExemptPaths?"),
        ("Mode=off", "'off' is not one of enforce, report"),
        ("CodeKey=force-mfa/arm64/0.zip", "SAM fills it in"),
        ("Mode", "'Mode' is not Name=value"),
        ("ExemptTag=mfa exempt=yes", "no such parameter"),
        ("ExemptTag='mfa exempt", "No closing quotation"),
    ],
)
def test_parameters_that_cannot_be_are_refused(operator, sam, parameters, said):
    assert said in operator.make("deploy", f"PARAMETERS={parameters}", expect=2)
    assert sam() == []


@pytest.mark.parametrize("content", [None, "[]", "{", '{"Mode": "report", "Mode": "enforce"}'])
def test_a_parameter_file_that_cannot_be_read_is_refused(operator, sam, content):
    file = operator.folder / "parameters.json"
    if content is not None:
        file.write_text(content)

    assert str(file) in operator.make("deploy", f"PARAMETERS_FILE={file}", expect=2)
    assert sam() == []


def test_a_dry_run_shows_the_command(operator, sam):
    said = operator.make("deploy", "PARAMETERS=ExemptUsers=a,b", "DRY_RUN=1")

    assert "sam deploy" in said
    assert 'ExemptUsers="a,b"' in said
    assert sam() == []


def test_the_import_template_holds_the_policy_and_the_group_only(operator):
    operator.run("import-template")
    text = (operator.folder / "build" / "import-template.yaml").read_text()
    cut, whole = cfn.parse(text), cfn.load("template.yaml")

    assert set(cut["Resources"]) == {"ForceMfaPolicy", "OverflowGroup"}
    assert "Outputs" not in cut
    assert all(resource["DeletionPolicy"] == "RetainExceptOnCreate" for resource in cut["Resources"].values())
    # CloudFormation compares what it imports with what is there: the documents are the same.
    for scope in ("all", "console-only"):
        given = {"CredentialScope": scope}
        ours = cfn.Stack(cut, **given)
        theirs = cfn.Stack(whole, CodeBucket="b", CodeKey="k.zip", **given)
        for resource in cut["Resources"]:
            assert ours.resource(resource) == theirs.resource(resource)
    # What nothing refers to would have to be given for nothing.
    assert "CodeKey" not in cut["Parameters"]
    assert templates.parse(text)


def test_publishing_uploads_both_zips_and_the_template_once(organization, operator):
    organization.objects[BUCKET, ""] = b""
    operator.run("publish", "--bucket", BUCKET)
    keys = [key for bucket, key in organization.objects if key]
    assert [key.rsplit("/", 1)[0] for key in keys] == ["force-mfa/arm64", "force-mfa/template", "force-mfa/x86_64"]

    operator.run("publish", "--bucket", BUCKET)
    assert organization.calls == []


def test_a_dry_run_of_publishing_uploads_nothing(organization, operator):
    said = operator.run("publish", "--bucket", BUCKET, dry_run=True)

    assert said.count("aws s3api put-object") == 3
    assert organization.calls == []


def test_a_build_that_fails_sends_nothing(organization, operator):
    (operator.bin / "cargo").write_text("#!/bin/sh\nexit 101\n")

    assert "ended with 101" in operator.deploy(expect=1)
    assert organization.calls == []
