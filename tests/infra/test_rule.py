"""The event rules let through what they are for: events go through their patterns."""

import json

import pytest
from moto.events.models import EventPattern

import cfn
import rule_table

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


@pytest.fixture(scope="module")
def matches():
    return MATCHERS["ConsoleUserRule"]


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


MATCHERS = {
    name: EventPattern.load(json.dumps(pattern)).matches_event
    for name, pattern in rule_table.patterns(rule_table.account_stack()).items()
}
ROWS = list(rule_table.rows())
CHANGES = [row for row in ROWS if any(rule.endswith("ChangeRule") for rule in row[2])]


def matching(event):
    return [rule for rule, matches in MATCHERS.items() if matches(event)]


@pytest.mark.parametrize(("what", "event", "expected"), ROWS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_event_matches_the_rules_that_the_table_names(what, event, expected):
    assert matching(event) == expected


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_no_test_event_is_a_change_of_the_installation(path):
    event = json.loads(path.read_text(encoding="utf-8"))

    assert not from_event_bridge(event) or set(matching(event)) <= {"ConsoleUserRule", "FirstSweepRule"}


def test_the_table_has_changes_of_each_kind():
    assert {rule for _, _, rules in CHANGES for rule in rules} == {
        "PolicyChangeRule", "FunctionChangeRule", "AlarmChangeRule",
    }  # fmt: skip
    assert len(CHANGES) > 100


@pytest.mark.parametrize(("what", "event", "expected"), CHANGES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_failed_change_is_dropped(what, event, expected):
    assert matching(with_detail(event, errorCode="AccessDenied")) == []
    assert matching(with_detail(event, managementEvent=False)) == []


def test_only_the_policys_text_is_watched_in_cloudformation():
    by_cloudformation = {
        event["detail"]["eventName"]
        for _, event, _ in CHANGES
        if matching(with_detail(event, sourceIPAddress="cloudformation.amazonaws.com"))
    }

    assert by_cloudformation == {
        "CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "SetDefaultPolicyVersion",
    }  # fmt: skip


def with_detail(event, **fields):
    return {**event, "detail": {**event["detail"], **fields}}


def test_every_named_resource_has_a_call_that_a_rule_watches():
    stack = rule_table.account_stack()
    types = {resource["Type"] for resource in stack.template["Resources"].values()}
    watched = {row["each"] for row in rule_table.TABLE["rows"] if "each" in row}

    # A new type must be put into one of the two lists, and a named one into the table.
    assert types == rule_table.NAMED.keys() | rule_table.UNNAMED.keys()
    assert watched == rule_table.NAMED.keys()


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_the_patterns_are_not_longer_than_event_bridge_takes(partition):
    # The longest name of a stack has 128 characters.
    longest = rule_table.account_stack(prefix="a" * 40, partition=partition, region="us-gov-west-1")
    longest.pseudo["AWS::StackId"] += "a" * (128 + 36)

    for rule, pattern in rule_table.patterns(longest).items():
        assert len(json.dumps(pattern, separators=(",", ":"))) <= 2048, rule


def test_a_rule_keeps_its_names_within_the_limit():
    for kind, name, _ in rule_table.named_resources(rule_table.account_stack(prefix="a" * 40)):
        # A rule's name and a role's name have at most 64 characters.
        assert len(name) <= (64 if kind in ("AWS::Events::Rule", "AWS::IAM::Role") else 80), name
