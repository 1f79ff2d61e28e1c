"""`make acceptance` on an emulator, with a stand-in for what the emulator does not run: the function, and the alarms.

What only AWS can show (whether the first CREATE_COMPLETE reaches the rule, whether the group can be imported) shows here
as a row of the report that differs, and must leave nothing behind either."""

import io
import json
import sys
import zipfile
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

import cfn

sys.path[:0] = [str(cfn.ROOT / "infra"), str(cfn.ROOT / "tools")]
import acceptance  # noqa: E402
import acceptance_steps  # noqa: E402
from acceptance_account import PREFIX, Differs, SandboxAccount  # noqa: E402
from aws_calls import RolloutError, WrongUsage  # noqa: E402

POLICY = f"arn:aws:iam::{cfn.ACCOUNT}:policy/force-mfa"
GROUP = "force-mfa-overflow"


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield boto3


class EmulatedAccount(SandboxAccount):
    """The function attaches the policy whenever a step waits; a user with ten policies gets the group."""

    def __init__(self, zip_path):
        super().__init__("not run", zip_path)
        self.is_broken = False
        self.iam = boto3.client("iam", "us-east-1")
        # moto knows Retain, and not that it can be left out at a creation.
        self.template = self.template.replace("RetainExceptOnCreate", "Retain")

    def sleep(self):
        if not self.is_broken:
            self.cover()

    def cover(self):
        rules = boto3.client("events", "us-east-1")
        try:
            if rules.describe_rule(Name="force-mfa-console-users")["State"] == "DISABLED":
                return
        except rules.exceptions.ResourceNotFoundException:
            return
        self.sweep()

    def sweep(self):
        for user in self.console_users():
            attached = self.iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]
            if len(attached) >= 10 and not self.is_attached(user):
                self.iam.add_user_to_group(UserName=user, GroupName=GROUP)
            else:
                self.iam.attach_user_policy(UserName=user, PolicyArn=POLICY)
        version = self.iam.get_policy(PolicyArn=POLICY)["Policy"]["DefaultVersionId"]
        document = self.iam.get_policy_version(PolicyArn=POLICY, VersionId=version)["PolicyVersion"]["Document"]
        broken = "Deny" not in str(document)
        return {"outcome": "swept", "policy": "not_enforcing" if broken else "enforcing"}

    def alarm_state(self, name):
        boto3.client("sqs", "us-east-1").send_message(QueueUrl=self.inbox, MessageBody=name)
        return "ALARM"

    def force_mfa(self, *words):
        if words[0] == "uninstall":
            for user in [u["UserName"] for u in self.iam.list_users()["Users"]]:
                if self.is_attached(user):
                    self.iam.detach_user_policy(UserName=user, PolicyArn=POLICY)
                if self.is_in_group(user):
                    self.iam.remove_user_from_group(UserName=user, GroupName=GROUP)
            self.iam.detach_group_policy(GroupName=GROUP, PolicyArn=POLICY)
            self.iam.delete_group(GroupName=GROUP)
            for version in self.iam.list_policy_versions(PolicyArn=POLICY)["Versions"]:
                if not version["IsDefaultVersion"]:
                    self.iam.delete_policy_version(PolicyArn=POLICY, VersionId=version["VersionId"])
            self.iam.delete_policy(PolicyArn=POLICY)
            return 0, "", ""
        check = {"check": "canary", "state": "ok", "detail": "got the policy 38 s after the IAM call"}
        return 0, json.dumps({"checks": [check]}), ""


@pytest.fixture
def account(aws, tmp_path):
    zip_path = tmp_path / "function.zip"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("bootstrap", "not run here")
    zip_path.write_bytes(archive.getvalue())
    return EmulatedAccount(zip_path)


def run(account, tmp_path, steps=None, number=cfn.ACCOUNT):
    """Exit code and report."""
    given = {"account": number, "with_console_users": False, "report": tmp_path / "report.md"}
    code = acceptance.run(account, SimpleNamespace(**given), steps or STEPS)
    return code, (tmp_path / "report.md").read_text()


def deploy(account, clean_up):
    seen = acceptance_steps.deploy(account, clean_up)
    # moto leaves the group out of the template.
    account.iam.create_group(GroupName=GROUP)
    account.iam.attach_group_policy(GroupName=GROUP, PolicyArn=POLICY)
    return seen


def with_limit(step):
    """moto has no quota: the eleventh policy is refused here."""

    def quota(account, clean_up):
        from botocore.exceptions import ClientError

        client, attached = account.aws.client("iam"), []
        attach = client.attach_user_policy

        def limited(**parameters):
            if len(attached) == 10:
                raise ClientError({"Error": {"Code": "LimitExceeded", "Message": "10"}}, "AttachUserPolicy")
            attached.append(parameters)
            return attach(**parameters)

        client.attach_user_policy = limited
        try:
            return step(account, clean_up)
        finally:
            client.attach_user_policy = attach

    return quota


def first_sweep(account, clean_up):
    metric = {"MetricName": "SweepFinished", "Value": 1, "Dimensions": [{"Name": "FunctionName", "Value": "force-mfa"}]}
    boto3.client("cloudwatch", "us-east-1").put_metric_data(Namespace="ForceMfa", MetricData=[metric])
    return acceptance_steps.first_sweep(account, clean_up)


INSTEAD = {"deploy": deploy, "quota full": with_limit(acceptance_steps.quota), "first sweep": first_sweep}
STEPS = [
    acceptance_steps.Step(s.name, s.expected, INSTEAD.get(s.name, s.run), s.is_needed) for s in acceptance_steps.STEPS
]


@pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")
def test_every_step_that_an_emulator_can_do_is_as_expected(account, tmp_path):
    code, report = run(account, tmp_path)

    results = {line.split(" | ")[0].strip("| "): line.split(" | ")[3] for line in report.splitlines() if " s |" in line}
    assert list(results) == [step.name for step in STEPS]
    # moto enforces no policy on a key, and imports nothing.
    assert {name for name, result in results.items() if result != "as expected"} == {
        "access key under the policy", "install again by import",
    }  # fmt: skip
    assert code == 1
    assert "Left behind: nothing." in report
    assert cfn.ACCOUNT not in report.replace("123456789012", "") and account.left_behind() == []


@pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")
@pytest.mark.parametrize(
    "at", ["deploy", "quota full", "lost event", "change the policy's text", "delete the stack", "install again by import"]
)
def test_whatever_breaks_off_leaves_nothing_behind(account, tmp_path, at):
    def interrupted(*_):
        raise KeyboardInterrupt

    def after(step):
        def both(account, clean_up):
            try:
                step.run(account, clean_up)
            except (Differs, RolloutError):
                pass
            interrupted()

        return both

    index = [step.name for step in STEPS].index(at)
    steps = [*STEPS[:index], acceptance_steps.Step(at, "", after(STEPS[index]))]
    with pytest.raises(KeyboardInterrupt):
        run(account, tmp_path, steps)

    assert account.left_behind() == []


@pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")
def test_a_function_that_does_nothing_is_reported(account, tmp_path, monkeypatch):
    account.is_broken = True
    clock = iter(range(0, 10**9, 600))
    monkeypatch.setattr("acceptance_account.time.monotonic", lambda: next(clock))
    steps = [step for step in STEPS if step.name in ("deploy", "detach by hand")]

    code, report = run(account, tmp_path, steps)

    assert code == 1
    assert "the policy was attached not within 15 minutes | DIFFERS" in report
    assert account.left_behind() == []


def test_an_account_that_people_use_is_refused(account, tmp_path):
    account.iam.create_user(UserName="alice")
    account.iam.create_login_profile(UserName="alice", Password="An-example-only-1")

    with pytest.raises(WrongUsage, match="console users .alice."):
        run(account, tmp_path)

    assert not [b["Name"] for b in boto3.client("s3").list_buckets()["Buckets"] if b["Name"].startswith(PREFIX)]


def test_an_account_with_an_installation_is_refused(account, tmp_path):
    account.iam.create_policy(PolicyName="force-mfa", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}))

    with pytest.raises(WrongUsage, match="has a stack, a policy or a group"):
        run(account, tmp_path)


def test_another_account_than_the_one_named_is_refused(account, tmp_path):
    with pytest.raises(WrongUsage, match="210987654321 is not 123456789012"):
        run(account, tmp_path, number="210987654321")
    with pytest.raises(WrongUsage, match="no terminal"):
        run(account, tmp_path, number="")
