"""The account template, deployed into two emulators. What they leave out, test_template.py reads in the file."""

import ast
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

import cfn
import rule_table

TEMPLATE = (cfn.ROOT / "infra" / "template.yaml").read_text(encoding="utf-8")
POLICY = f"arn:aws:iam::{cfn.ACCOUNT}:policy/force-mfa"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": cfn.ACCOUNT,
    "AWS_SECRET_ACCESS_KEY": "made-up",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def zip_of(binary):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o100755 << 16
        file.writestr(entry, binary)
    return archive.getvalue()


def for_ministack():
    """The template less what ministack refuses, as JSON: groups, and alarms on metric math."""
    template = cfn.load("template.yaml")
    for resource in ("OverflowGroup", "NoSweepAlarm", "ChangedAlarm"):
        del template["Resources"][resource]
    return json.dumps(template)


def deploy(client, template, architecture, code):
    """Deploys a template, with a zip in a bucket."""
    s3 = client("s3")
    s3.create_bucket(Bucket="artifacts")
    s3.put_object(Bucket="artifacts", Key="force-mfa/function.zip", Body=code)
    cloudformation = client("cloudformation")
    parameters = {
        "CodeBucket": "artifacts",
        "CodeKey": "force-mfa/function.zip",
        "Architecture": architecture,
    }
    cloudformation.create_stack(
        StackName="force-mfa",
        TemplateBody=template,
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
    )
    for _ in range(120):
        [stack] = cloudformation.describe_stacks(StackName="force-mfa")["Stacks"]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            break
        time.sleep(0.5)
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack


def check_what_was_deployed(client):
    expected = cfn.Stack(
        cfn.load("template.yaml"),
        resources={
            "ForceMfaPolicy": POLICY,
            "FailureQueue.Arn": f"arn:aws:sqs:us-east-1:{cfn.ACCOUNT}:force-mfa-failures",
        },
        CodeBucket="artifacts",
        CodeKey="force-mfa/function.zip",
    )
    iam = client("iam")
    version = iam.get_policy(PolicyArn=POLICY)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=POLICY, VersionId=version)["PolicyVersion"]["Document"]
    assert as_json(document) == expected.resource("ForceMfaPolicy")["PolicyDocument"]

    [inline] = expected.resource("FunctionRole")["Policies"]
    found = iam.get_role_policy(RoleName="force-mfa-function", PolicyName=inline["PolicyName"])
    assert as_json(found["PolicyDocument"]) == inline["PolicyDocument"]
    names = iam.list_role_policies(RoleName="force-mfa-function")["PolicyNames"]
    assert names == [inline["PolicyName"]]
    assert not iam.list_attached_role_policies(RoleName="force-mfa-function")["AttachedPolicies"]

    events = client("events")
    function = client("lambda").get_function_configuration(FunctionName="force-mfa")
    rules = {rule["Name"]: rule for rule in events.list_rules()["Rules"]}
    for rule in rule_table.patterns(expected):
        properties = expected.resource(rule)
        pattern = json.loads(rules[properties["Name"]]["EventPattern"])
        # The emulators make stack ids up.
        stack_id = pattern["detail"].get("stack-id", [expected.pseudo["AWS::StackId"]])
        assert [text.split("/")[:2] for text in stack_id] == [expected.pseudo["AWS::StackId"].split("/")[:2]]
        pattern["detail"] |= {"stack-id": [expected.pseudo["AWS::StackId"]]} if "stack-id" in pattern["detail"] else {}
        assert pattern == properties["EventPattern"]
    assert rules["force-mfa-sweep"]["ScheduleExpression"] == "rate(6 hours)"
    assert len(rules) == 6
    for name in rules:
        [target] = events.list_targets_by_rule(Rule=name)["Targets"]
        assert target["Arn"] == function["FunctionArn"]
    assert function["Environment"]["Variables"] == (
        expected.resource("Function")["Environment"]["Variables"]
    )


def as_json(document):
    """boto3 reads policies, except one of moto's that is in Python's spelling and no JSON."""
    return ast.literal_eval(document) if isinstance(document, str) else document


# What moto skips of the template is looked at in test_template.py.
@pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")
def test_moto_deploys_the_template(monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():

        def client(service):
            return boto3.client(service, "us-east-1")

        deploy(client, TEMPLATE, "arm64", zip_of(b"not run here"))

        check_what_was_deployed(client)


@pytest.fixture
def ministack(tmp_path):
    """A client factory for an emulator of its own, which is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    with (tmp_path / "ministack.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            env={
                **os.environ,
                "GATEWAY_PORT": str(port),
                "BIND_HOST": "127.0.0.1",
                "MINISTACK_ACCOUNT_ID": cfn.ACCOUNT,
                "SFTP_ENABLED": "0",
                "TMPDIR": str(tmp_path),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(endpoint, server)
        session = boto3.Session(
            aws_access_key_id=cfn.ACCOUNT, aws_secret_access_key="made-up"
        )
        yield lambda service, region="us-east-1": session.client(service, region, endpoint_url=endpoint)
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(endpoint, server):
    for _ in range(240):
        assert server.poll() is None, "ministack ended"
        try:
            urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=5)
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError("ministack does not answer")


@pytest.fixture(scope="session")
def native_binary():
    """The function, built for this machine."""
    build = subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--features", "shared-features/on", "--bin", "function", "--message-format", "json"],
        cwd=cfn.ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    made = [json.loads(line) for line in build.stdout.splitlines()]
    [path] = [m["executable"] for m in made if m.get("executable")]
    with open(path, "rb") as file:
        return file.read()


def test_the_deployed_function_attaches_the_policy(ministack, native_binary):
    deploy(ministack, for_ministack(), "x86_64", zip_of(native_binary))
    check_what_was_deployed(ministack)
    iam, function = ministack("iam"), ministack("lambda")
    # The emulator does not tell the functions it runs where it is; without this they would call AWS.
    variables = function.get_function_configuration(FunctionName="force-mfa")["Environment"]["Variables"]
    endpoint = iam.meta.endpoint_url
    function.update_function_configuration(
        FunctionName="force-mfa",
        Environment={"Variables": {**variables, "AWS_ENDPOINT_URL_IAM": endpoint}},
    )
    iam.create_user(UserName="alice")
    iam.create_login_profile(UserName="alice", Password="Correct-Horse-9")
    event = {
        "version": "0",
        "id": "b1a6d1f0-0000-4000-8000-000000000001",
        "source": "aws.iam",
        "detail-type": "AWS API Call via CloudTrail",
        "account": cfn.ACCOUNT,
        "region": "us-east-1",
        "time": "2026-01-01T00:00:00Z",
        "detail": {
            "eventSource": "iam.amazonaws.com",
            "eventName": "CreateLoginProfile",
            "eventTime": "2026-01-01T00:00:00Z",
            "requestParameters": {"userName": "alice", "passwordResetRequired": True},
        },
    }

    answer = function.invoke(FunctionName="force-mfa", Payload=json.dumps(event))

    reply = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, reply
    assert reply["outcome"] == "attached" and reply["user"] == "alice"
    attached = iam.list_attached_user_policies(UserName="alice")["AttachedPolicies"]
    assert [policy["PolicyArn"] for policy in attached] == [POLICY]


def test_another_region_is_refused_with_the_reason(ministack):
    cloudformation = ministack("cloudformation", "eu-central-1")
    with pytest.raises(ClientError, match="EventBridge gets its events in the partition's home region only"):
        cloudformation.create_stack(
            StackName="force-mfa",
            TemplateBody=for_ministack(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": "CodeBucket", "ParameterValue": "artifacts"},
                {"ParameterKey": "CodeKey", "ParameterValue": "function.zip"},
            ],
        )
