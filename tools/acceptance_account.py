"""The sandbox account of `make acceptance`: what its steps do in it, look at, and delete again."""

import json
import secrets
import subprocess
import time
from pathlib import Path

import release as releases
import stacks
import templates
from aws_calls import Aws, RolloutError

NAME = "force-mfa"
# Everything that a run creates beside the installation begins so.
PREFIX = "force-mfa-acceptance-"
POLL_SECONDS = 5


class Differs(Exception):
    """What was seen is not what was expected."""


class SandboxAccount:
    def __init__(self, command, zip_path=None, aws=None):
        self.command, self.zip_path = Path(command), zip_path
        self.aws = aws or Aws()
        self.run = secrets.token_hex(3)
        self.template = releases.TEMPLATE.read_text("utf-8")
        self.policy = f"arn:{self.aws.partition}:iam::{self.aws.account}:policy/{NAME}"
        self.group = f"{NAME}-overflow"

    # ---- looking

    def release(self):
        return templates.parse(self.template)["Outputs"]["Release"]["Value"]

    def exists(self, operation, key="NoSuchEntity", service="iam", **parameters):
        """Whether there is such a thing. Only the answer that says so means that there is none."""
        try:
            getattr(self.aws.client(service), operation)(**parameters)
        except self.aws.client(service).exceptions.ClientError as error:
            if key in error.response["Error"]["Code"]:
                return False
            raise
        return True

    def has_installation(self):
        return (
            self.aws.read("cloudformation", "describe_stacks", StackName=NAME) is not None
            or self.exists("get_policy", PolicyArn=self.policy)
            or self.exists("get_group", GroupName=self.group)
        )

    def console_users(self):
        users = [user["UserName"] for user in self.aws.pages("iam", "list_users", "Users")]
        return [user for user in users if self.exists("get_login_profile", UserName=user)]

    def is_attached(self, user):
        attached = self.aws.pages("iam", "list_attached_user_policies", "AttachedPolicies", UserName=user)
        return any(policy["PolicyArn"] == self.policy for policy in attached)

    def is_in_group(self, user):
        return any(g["GroupName"] == self.group for g in self.aws.pages("iam", "list_groups_for_user", "Groups", UserName=user))

    def alarm_state(self, name):
        [alarm] = self.aws.read("cloudwatch", "describe_alarms", AlarmNames=[name])["MetricAlarms"]
        return alarm["StateValue"]

    def wait_until(self, probe, minutes, what):
        """Looks again and again until `probe` is true. Returns the seconds that it took."""
        began = time.monotonic()
        while not probe():
            if time.monotonic() - began > minutes * 60:
                raise Differs(f"{what} not within {minutes} minutes")
            self.sleep()
        return round(time.monotonic() - began)

    def sleep(self):
        time.sleep(POLL_SECONDS)

    # ---- doing

    def force_mfa(self, *words):
        """Runs the command; its exit code, and what it printed."""
        ended = subprocess.run(
            [self.command, "--region", self.aws.region, *words], capture_output=True, text=True, check=False
        )
        return ended.returncode, ended.stdout, ended.stderr

    def sweep(self):
        """Has the function sweep, and returns its answer."""
        answer = self.aws.change("lambda", "invoke", FunctionName=NAME, Payload=b'{"sweep": {}}')
        payload = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise Differs(f"the function failed: {payload}")
        return payload

    def create_user(self, clean_up, what):
        """A user without permissions, and without a password yet."""
        name = f"{PREFIX}{self.run}-{what}"
        clean_up.callback(self.delete_user, name)
        self.aws.change("iam", "create_user", UserName=name)
        return name

    def give_password(self, user):
        """A random one that nobody learns."""
        password = "Aa0-" + secrets.token_urlsafe(80)
        self.aws.change("iam", "create_login_profile", UserName=user, Password=password[:120])

    def create_deny_policy(self, clean_up, number):
        """A policy that allows nothing, to fill a user's quota with."""
        name = f"{PREFIX}{self.run}-{number}"
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:ListAllMyBuckets", "Resource": "*"}]}
        answer = self.aws.change("iam", "create_policy", PolicyName=name, PolicyDocument=json.dumps(document))
        arn = answer["Policy"]["Arn"]
        clean_up.callback(self.aws.change, "iam", "delete_policy", PolicyArn=arn)
        return arn

    def set_policy_text(self, document):
        """Makes a new default version, and returns what brings the old one back."""
        before = self.aws.read("iam", "get_policy", PolicyArn=self.policy)["Policy"]["DefaultVersionId"]
        answer = self.aws.change(
            "iam", "create_policy_version", PolicyArn=self.policy, PolicyDocument=json.dumps(document), SetAsDefault=True
        )
        version = answer["PolicyVersion"]["VersionId"]

        def back():
            if self.exists("get_policy", PolicyArn=self.policy):
                self.aws.change("iam", "set_default_policy_version", PolicyArn=self.policy, VersionId=before)
                self.aws.change("iam", "delete_policy_version", PolicyArn=self.policy, VersionId=version)

        return back

    # ---- deleting

    def delete_user(self, user):
        """Deletes a user with everything that a step gave it. The password goes first: the function puts its policy back
        only to a user that has one."""
        if not self.exists("get_user", UserName=user):
            return
        if self.exists("get_login_profile", UserName=user):
            self.aws.change("iam", "delete_login_profile", UserName=user)
        for key in self.aws.pages("iam", "list_access_keys", "AccessKeyMetadata", UserName=user):
            self.aws.change("iam", "delete_access_key", UserName=user, AccessKeyId=key["AccessKeyId"])
        for group in self.aws.pages("iam", "list_groups_for_user", "Groups", UserName=user):
            self.aws.change("iam", "remove_user_from_group", UserName=user, GroupName=group["GroupName"])
        for policy in self.aws.pages("iam", "list_attached_user_policies", "AttachedPolicies", UserName=user):
            self.aws.change("iam", "detach_user_policy", UserName=user, PolicyArn=policy["PolicyArn"])
        self.aws.change("iam", "delete_user", UserName=user)

    def delete_stack(self):
        if self.aws.read("cloudformation", "describe_stacks", StackName=NAME) is not None:
            self.aws.change("cloudformation", "delete_stack", StackName=NAME)
            stacks.wait(self.aws, NAME, "stack_delete_complete", POLL_SECONDS)

    def uninstall(self):
        """Takes policy and group away, which outlive their stack."""
        if self.exists("get_policy", PolicyArn=self.policy):
            code, out, err = self.force_mfa("uninstall", "--yes", "--account", self.aws.account)
            if code != 0:
                raise RolloutError(f"force-mfa uninstall ended with {code}: {err or out}")

    def delete_bucket(self, bucket):
        for kind in ("Versions", "DeleteMarkers"):
            for item in self.aws.pages("s3", "list_object_versions", kind, Bucket=bucket):
                self.aws.change("s3", "delete_object", Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
        self.aws.change("s3", "delete_bucket", Bucket=bucket)

    def left_behind(self):
        """What is still there of this run, by name."""
        users = [user["UserName"] for user in self.aws.pages("iam", "list_users", "Users")]
        policies = [policy["PolicyName"] for policy in self.aws.pages("iam", "list_policies", "Policies", Scope="Local")]
        groups = [group["GroupName"] for group in self.aws.pages("iam", "list_groups", "Groups")]
        buckets = [bucket["Name"] for bucket in self.aws.read("s3", "list_buckets")["Buckets"]]
        queues = self.aws.pages("sqs", "list_queues", "QueueUrls", QueueNamePrefix=f"{NAME}-")
        topics = [topic["TopicArn"] for topic in self.aws.pages("sns", "list_topics", "Topics")]
        left = [f"user {name}" for name in users if name.startswith((PREFIX, "force-mfa-canary-"))]
        left += [f"policy {name}" for name in policies if name == NAME or name.startswith(PREFIX)]
        left += [f"group {name}" for name in groups if name == self.group]
        left += [f"bucket {name}" for name in buckets if name.startswith(PREFIX)]
        left += [f"queue {url}" for url in queues]
        left += [f"topic {arn}" for arn in topics if arn.rsplit(":", 1)[1].startswith(f"{NAME}-")]
        if self.aws.read("cloudformation", "describe_stacks", StackName=NAME) is not None:
            left.append(f"stack {NAME}")
        return left
