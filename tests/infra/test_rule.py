"""The event rules let through what they are for: events go through their patterns."""

import json

import pytest
from moto.events.models import EventPattern

import cfn

EVENTS = cfn.ROOT / "events"
# What the function acts on, or fails on loudly. The folder says what comes of the events in it.
ACTED_ON = {
    "attached", "added_to_group", "would_attach", "exempt", "user_not_visible", "malformed_event",
}  # fmt: skip
# The rule drops these and nothing is lost: they show the function's care, and AWS never sends them.
NEVER_SENT = {
    # CloudTrail leaves out what it has no value for, and a template cannot hold the null that would match.
    "attached/error_fields_that_are_null",
    # An event's detail is an object.
    "malformed_event/a_detail_that_is_a_list",
    "malformed_event/a_detail_that_is_text",
    # A change of a stack has a status.
    "malformed_event/a_stack_status_change_without_a_status",
}
# The rule lets these through, since it takes more than the rule to see that there is nothing to do.
IGNORED_BY_THE_FUNCTION = {
    # Nobody of the account is named: who is meant stands in one of several places.
    "ignored/roots_own_password",
    "ignored/roots_own_password_with_a_response",
    "ignored/roots_password_in_an_assume_root_session",
    # Only IAM knows whether the user is there and has a password.
    "ignored/a_user_that_is_gone",
    "ignored/a_user_without_a_password_removed_from_the_overflow_group",
    "ignored/create_user_that_is_not_visible_yet",
    "ignored/create_user_with_a_path_and_no_password",
    "ignored/create_user_without_a_password",
    "ignored/the_policy_was_detached_from_a_user_without_a_password",
    # A failed call, of the few that carry no errorCode.
    "ignored/error_message_without_a_code",
    # EventBridge always fills in the account that is missing here.
    "ignored/another_recipient_account_without_an_envelope_account",
}


POLICY = f"arn:aws:iam::{cfn.ACCOUNT}:policy/force-mfa"


def pattern(rule, prefix="force-mfa", partition="aws"):
    resources = {"ForceMfaPolicy": f"arn:{partition}:iam::{cfn.ACCOUNT}:policy/{prefix}"}
    stack = cfn.Stack(cfn.load("template.yaml"), resources, NamePrefix=prefix)
    return json.dumps(stack.resource(rule)["EventPattern"])


@pytest.fixture(scope="module")
def matches():
    return EventPattern.load(pattern("ConsoleUserRule")).matches_event


def files():
    return sorted(EVENTS.glob("*/*.json"))


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def from_event_bridge(event):
    """Not a sweep, an OnFailure message or a stray payload, which come another way."""
    return isinstance(event, dict) and "detail-type" in event and "source" in event


def test_there_are_events_of_every_kind():
    assert {path.parent.name for path in files()} >= ACTED_ON | {"ignored"}


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_the_rule_lets_through_what_the_function_acts_on(path, matches):
    event = json.loads(path.read_text(encoding="utf-8"))
    if not from_event_bridge(event):
        pytest.skip("does not come through the rule")
    name = name_of(path)
    expected = path.parent.name in ACTED_ON - NEVER_SENT or name in IGNORED_BY_THE_FUNCTION

    assert matches(event) == (expected and name not in NEVER_SENT)


FUNCTION = f"arn:aws:lambda:us-east-1:{cfn.ACCOUNT}:function:force-mfa"
QUEUES = f"https://sqs.us-east-1.amazonaws.com/{cfn.ACCOUNT}"
CLOUDFORMATION = "cloudformation.amazonaws.com"
CHANGES = [
    # The policy's text, by whomever.
    ("iam", "CreatePolicyVersion", {"policyArn": POLICY, "setAsDefault": True}),
    ("iam", "SetDefaultPolicyVersion", {"policyArn": POLICY, "versionId": "v2"}),
    ("iam", "DeletePolicy", {"policyArn": POLICY}),
]
CHANGES_BY_HAND = [
    ("iam", "DetachGroupPolicy", {"groupName": "force-mfa-overflow", "policyArn": POLICY}),
    ("iam", "DeleteGroup", {"groupName": "Force-MFA-overflow"}),
    ("iam", "AttachRolePolicy", {"roleName": "force-mfa-function", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
    ("iam", "PutRolePolicy", {"roleName": "force-mfa-function", "policyName": "more"}),
    ("iam", "UpdateAssumeRolePolicy", {"roleName": "force-mfa-function"}),
    ("lambda", "UpdateFunctionConfiguration20150331v2", {"functionName": "force-mfa"}),
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": FUNCTION}),
    ("lambda", "DeleteFunction20150331", {"functionName": f"{cfn.ACCOUNT}:force-mfa"}),
    ("lambda", "PutFunctionConcurrency", {"functionName": "force-mfa", "reservedConcurrentExecutions": 0}),
    ("lambda", "PutFunctionEventInvokeConfig", {"functionName": "force-mfa:$LATEST"}),
    ("lambda", "DeleteFunctionEventInvokeConfig", {"functionName": f"{FUNCTION}:$LATEST"}),
    ("lambda", "AddPermission20150331v2", {"functionName": "force-mfa", "principal": "*"}),
    ("events", "DisableRule", {"name": "force-mfa-console-users"}),
    ("events", "DeleteRule", {"name": "force-mfa-sweep"}),
    ("events", "PutRule", {"name": "force-mfa-changes"}),
    ("events", "RemoveTargets", {"rule": "force-mfa-sweep", "ids": ["function"]}),
    ("sqs", "DeleteQueue", {"queueUrl": f"{QUEUES}/force-mfa-failures"}),
    ("sqs", "PurgeQueue", {"queueUrl": f"{QUEUES}/force-mfa-rule-dead-letters"}),
    ("logs", "DeleteLogGroup", {"logGroupName": "/aws/lambda/force-mfa"}),
    ("sns", "DeleteTopic", {"topicArn": f"arn:aws:sns:us-east-1:{cfn.ACCOUNT}:force-mfa-alarms"}),
    ("monitoring", "DeleteAlarms", {"alarmNames": ["other", "force-mfa-silence"]}),
    ("monitoring", "PutMetricAlarm", {"alarmName": "force-mfa-silence", "threshold": 0}),
]
NO_CHANGES = [
    ("iam", "CreatePolicyVersion", {"policyArn": f"{POLICY}-2"}),
    ("iam", "AttachUserPolicy", {"userName": "alice", "policyArn": POLICY}),
    ("iam", "AddUserToGroup", {"userName": "alice", "groupName": "force-mfa-overflow"}),
    ("iam", "RemoveUserFromGroup", {"userName": "alice", "groupName": "force-mfa-overflow"}),
    ("iam", "DetachGroupPolicy", {"groupName": "developers", "policyArn": POLICY}),
    ("iam", "PutRolePolicy", {"roleName": "function", "policyName": "force-mfa"}),
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": "not-force-mfa"}),
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": f"{FUNCTION}-2"}),
    ("events", "DisableRule", {"name": "nightly"}),
    ("sqs", "PurgeQueue", {"queueUrl": f"{QUEUES}/other"}),
    ("logs", "DeleteLogGroup", {"logGroupName": "/aws/lambda/other"}),
    ("sns", "DeleteTopic", {"topicArn": f"arn:aws:sns:us-east-1:{cfn.ACCOUNT}:other"}),
    ("monitoring", "DeleteAlarms", {"alarmNames": ["other"]}),
]


def change(service, name, parameters, **detail):
    return {
        "version": "0",
        "id": "c3f5e0d1-0000-4000-8000-000000000001",
        "source": f"aws.{service}",
        "detail-type": "AWS API Call via CloudTrail",
        "account": cfn.ACCOUNT,
        "detail": {
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "sourceIPAddress": "198.51.100.7",
            "managementEvent": True,
            "requestParameters": parameters,
            **detail,
        },
    }


@pytest.fixture(scope="module")
def is_change():
    return EventPattern.load(pattern("ChangeRule")).matches_event


@pytest.mark.parametrize("call", CHANGES + CHANGES_BY_HAND, ids=lambda call: call[1])
def test_a_change_of_the_guard_is_noticed(call, is_change):
    assert is_change(change(*call))
    assert not is_change(change(*call, errorCode="AccessDenied"))
    # Such as Lambda's Invoke, where a trail logs data events.
    assert not is_change(change(*call, managementEvent=False))


@pytest.mark.parametrize("call", NO_CHANGES, ids=lambda call: call[1])
def test_what_changes_something_else_is_no_change_of_the_guard(call, is_change):
    assert not is_change(change(*call))


def test_cloudformation_goes_unnoticed_but_for_the_policys_text(is_change):
    assert all(is_change(change(*call, sourceIPAddress=CLOUDFORMATION)) for call in CHANGES)
    assert not any(is_change(change(*call, sourceIPAddress=CLOUDFORMATION)) for call in CHANGES_BY_HAND)


def test_the_patterns_are_not_longer_than_event_bridge_takes():
    for rule in ("ConsoleUserRule", "ChangeRule"):
        assert len(pattern(rule, prefix="a" * 40, partition="aws-us-gov")) <= 2048
