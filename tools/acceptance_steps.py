"""The steps of `make acceptance`, in order. Each says what is expected, and returns what was seen or raises `Differs`."""

import datetime
import json
from dataclasses import dataclass
from typing import Callable

import boto3
import release as releases
import stacks
import templates
from acceptance_account import NAME, POLL_SECONDS, PREFIX, Differs
from botocore.exceptions import ClientError, WaiterError


@dataclass
class Step:
    name: str
    expected: str
    run: Callable
    is_needed: bool = False


def deploy(account, clean_up):
    """Bucket, release, topic with a queue behind it, stack."""
    aws, prefix = account.aws, f"{PREFIX}{account.run}"
    bucket = f"{prefix}-{aws.account}"
    # us-east-1 takes no LocationConstraint.
    place = {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
    aws.change("s3", "create_bucket", Bucket=bucket, **place)
    clean_up.callback(account.delete_bucket, bucket)
    zip_path = account.zip_path or releases.package("arm64")
    release = releases.of_files("arm64", zip_path)
    releases.publish(aws, bucket, release.files)

    topic = aws.change("sns", "create_topic", Name=f"{prefix}-alarms")["TopicArn"]
    clean_up.callback(aws.change, "sns", "delete_topic", TopicArn=topic)
    account.inbox = aws.change("sqs", "create_queue", QueueName=f"{prefix}-inbox")["QueueUrl"]
    clean_up.callback(aws.change, "sqs", "delete_queue", QueueUrl=account.inbox)
    queue = f"arn:{aws.partition}:sqs:{aws.region}:{aws.account}:{prefix}-inbox"
    let_in = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
                "Resource": queue, "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
            }
        ],
    }  # fmt: skip
    aws.change("sqs", "set_queue_attributes", QueueUrl=account.inbox, Attributes={"Policy": json.dumps(let_in)})
    # A queue of the same account is subscribed without a confirmation.
    aws.change("sns", "subscribe", TopicArn=topic, Protocol="sqs", Endpoint=queue)

    clean_up.callback(account.uninstall)
    clean_up.callback(account.delete_stack)
    # It has nearly as many characters as a call may carry, so CloudFormation reads it from the bucket.
    account.source = {"TemplateURL": f"https://{bucket}.s3.{aws.region}.amazonaws.com/{release.template_key}"}
    account.parameters = {"CodeBucket": bucket, "CodeKey": release.code_key, "Architecture": "arm64", "AlarmTopicArn": topic}
    account.deployed_at = datetime.datetime.now(datetime.timezone.utc)
    wanted = templates.Deployable(account.source, account.parameters, {}, account.template)
    stacks.Deployment(aws, NAME).deploy(wanted, POLL_SECONDS)
    return "CREATE_COMPLETE"


def finished_sweeps(account):
    """The sweeps that have finished since the deployment, by the function's own metric."""
    now = datetime.datetime.now(datetime.timezone.utc)
    answer = account.aws.read(
        "cloudwatch", "get_metric_statistics", Namespace="ForceMfa", MetricName="SweepFinished", Period=60,
        Dimensions=[{"Name": "FunctionName", "Value": NAME}], Statistics=["Sum"],
        StartTime=account.deployed_at, EndTime=now + datetime.timedelta(minutes=1),
    )  # fmt: skip
    return sum(point["Sum"] for point in answer["Datapoints"])


def first_sweep(account, clean_up):
    try:
        took = account.wait_until(lambda: finished_sweeps(account) > 0, 10, "a sweep finished by itself")
    except Differs:
        answer = account.sweep()
        raise Differs(f"no sweep by itself within 10 minutes; one that was started answered {answer}") from None
    return f"a sweep finished {took} s after the stack"


def doctor(account, clean_up):
    code, out, err = account.force_mfa("doctor", "--format", "json")
    if not out:
        raise Differs(f"exit code {code}: {err}")
    report = json.loads(out)
    not_ok = [f"{c['check']} {c['state']}: {c['detail']}" for c in report["checks"] if c["state"] != "ok"]
    if code != 0 or not_ok:
        raise Differs(f"exit code {code}; {'; '.join(not_ok)}")
    return f"all {len(report['checks'])} checks are ok"


def canary(account, clean_up):
    code, out, err = account.force_mfa("doctor", "--canary", "--yes", "--format", "json")
    if not out:
        raise Differs(f"exit code {code}: {err}")
    check = json.loads(out)["checks"][-1]
    if check["check"] != "canary" or check["state"] != "ok":
        raise Differs(check["detail"])
    return check["detail"]


def detach(account, clean_up):
    account.user = account.create_user(clean_up, "detached")
    account.give_password(account.user)
    attached = account.wait_until(lambda: account.is_attached(account.user), 15, "the policy was attached")
    account.aws.change("iam", "detach_user_policy", UserName=account.user, PolicyArn=account.policy)
    again = account.wait_until(lambda: account.is_attached(account.user), 15, "the policy was put back")
    return f"attached after {attached} s, put back after {again} s"


def quota(account, clean_up):
    full = account.create_user(clean_up, "full")
    # The default quota is 10; where it was raised, up to 20 go on.
    for number in range(20):
        arn = account.create_deny_policy(clean_up, number)
        try:
            account.aws.client("iam").attach_user_policy(UserName=full, PolicyArn=arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "LimitExceeded":
                raise
            break
        # Undone before the policy is deleted.
        clean_up.callback(account.delete_user, full)
    account.give_password(full)
    took = account.wait_until(lambda: account.is_in_group(full), 15, "the user was in the overflow group")
    return f"in {account.group} after {took} s, with {number} policies attached"


def sweep(account, clean_up):
    rule = f"{NAME}-console-users"
    account.aws.change("events", "disable_rule", Name=rule)
    try:
        lost = account.create_user(clean_up, "lost")
        account.give_password(lost)
        # Longer than an event takes, so that it is lost for good.
        for _ in range(60):
            account.sleep()
        if account.is_attached(lost):
            raise Differs("the policy was attached although the rule was disabled")
    finally:
        account.aws.change("events", "enable_rule", Name=rule)
    answer = account.sweep()
    if not account.is_attached(lost):
        raise Differs(f"the sweep answered {answer}, and the user is without the policy")
    return f"attached by the sweep, which answered {answer}"


def access_key(account, clean_up):
    key = account.aws.change("iam", "create_access_key", UserName=account.user)["AccessKey"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=account.aws.region)

    def answer(service, operation):
        try:
            getattr(session.client(service), operation)()
            return "allowed"
        except ClientError as error:
            return error.response["Error"]["Code"]

    # A new key is unknown for some seconds.
    account.wait_until(lambda: answer("sts", "get_caller_identity") == "allowed", 2, "the key was known")
    account.wait_until(lambda: answer("iam", "list_mfa_devices") != "InvalidClientTokenId", 2, "the key was known to IAM")
    devices, users = answer("iam", "list_mfa_devices"), answer("iam", "list_users")
    account.aws.change("iam", "delete_access_key", UserName=account.user, AccessKeyId=key["AccessKeyId"])
    seen = f"ListMFADevices without a name: {devices}; ListUsers: {users}"
    if devices != "allowed" or users != "AccessDenied":
        raise Differs(seen)
    return seen


def policy_text(account, clean_up):
    harmless = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"}]}
    back = account.set_policy_text(harmless)
    try:
        answer = account.sweep()
        took = {}
        for name in (f"{NAME}-policy-broken", f"{NAME}-changed"):
            took[name] = account.wait_until(lambda name=name: account.alarm_state(name) == "ALARM", 15, f"{name} in ALARM")
        mails = account.aws.change("sqs", "receive_message", QueueUrl=account.inbox, MaxNumberOfMessages=10, WaitTimeSeconds=20)
    finally:
        back()
    if answer["policy"] != "not_enforcing" or not mails.get("Messages"):
        raise Differs(f"the sweep said {answer['policy']}, and {len(mails.get('Messages', []))} notifications came")
    return f"the sweep said {answer['policy']}; in ALARM after {took}; the topic notified"


def delete_stack(account, clean_up):
    account.delete_stack()
    if not account.exists("get_policy", PolicyArn=account.policy) or not account.exists("get_group", GroupName=account.group):
        raise Differs("the policy or the group went with the stack")
    if not account.is_attached(account.user):
        raise Differs("the user lost the policy")
    return "policy and group are there, and the user has the policy"


def install_again(account, clean_up):
    aws = account.aws
    cut_down = templates.import_template(account.template)
    names = templates.parse(cut_down)["Parameters"]
    aws.change(
        "cloudformation", "create_change_set", StackName=NAME, ChangeSetName="import", ChangeSetType="IMPORT",
        TemplateBody=cut_down, Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=templates.as_list(templates.complete(names, {})),
        ResourcesToImport=[
            {"ResourceType": "AWS::IAM::ManagedPolicy", "LogicalResourceId": "ForceMfaPolicy",
             "ResourceIdentifier": {"PolicyArn": account.policy}},
            {"ResourceType": "AWS::IAM::Group", "LogicalResourceId": "OverflowGroup",
             "ResourceIdentifier": {"GroupName": account.group}},
        ],
    )  # fmt: skip
    client = aws.client("cloudformation")
    try:
        client.get_waiter("change_set_create_complete").wait(StackName=NAME, ChangeSetName="import")
        aws.change("cloudformation", "execute_change_set", StackName=NAME, ChangeSetName="import")
        client.get_waiter("stack_import_complete").wait(StackName=NAME)
    except WaiterError as error:
        raise Differs(f"the import: {error}") from error
    wanted = templates.Deployable(account.source, account.parameters, {}, account.template)
    stacks.Deployment(aws, NAME).deploy(wanted, POLL_SECONDS)
    code, out, _ = account.force_mfa("doctor", "--format", "json")
    failed = [c["check"] for c in json.loads(out)["checks"] if c["state"] == "fail"] if out else ["doctor"]
    if failed:
        raise Differs(f"imported and updated, but doctor ends with {code}: {', '.join(failed)}")
    return "imported, updated, and doctor finds nothing that fails"


def uninstall(account, clean_up):
    account.delete_stack()
    account.uninstall()
    if account.exists("get_policy", PolicyArn=account.policy) or account.exists("get_group", GroupName=account.group):
        raise Differs("the policy or the group is still there")
    return "policy and group are gone, and no user has the policy"


STEPS = [
    Step("deploy", "the stack is created", deploy, is_needed=True),
    Step("first sweep", "the function sweeps by itself when its stack is complete", first_sweep),
    Step("doctor", "every check is ok", doctor),
    Step("canary", "a new console user gets the policy", canary),
    Step("detach by hand", "the policy comes back", detach),
    Step("quota full", "the user gets the policy through the overflow group", quota),
    Step("lost event", "a sweep covers a user whose event was lost", sweep),
    Step("access key under the policy", "it lists its own MFA devices without a user name, and no users", access_key),
    Step("change the policy's text", "two alarms go off and the topic notifies", policy_text),
    Step("delete the stack", "policy, group and coverage stay", delete_stack),
    Step("install again by import", "policy and group are taken into a new stack", install_again),
    Step("uninstall", "nothing is left", uninstall),
]
