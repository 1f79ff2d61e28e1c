"""The event rule lets through what the function acts on: every test event goes through its pattern."""

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
}
# The rule lets these through, since it takes more than the rule to see that there is nothing to do.
IGNORED_BY_THE_FUNCTION = {
    # Nobody of the account is named: who is meant stands in one of several places.
    "ignored/a_role_that_names_nobody",
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


def pattern():
    stack = cfn.Stack(
        cfn.load("template.yaml"),
        resources={
            "ForceMfaPolicy": f"arn:aws:iam::{cfn.ACCOUNT}:policy/force-mfa",
        },
    )
    return stack.resource("ConsoleUserRule")["EventPattern"]


@pytest.fixture(scope="module")
def matches():
    return EventPattern.load(json.dumps(pattern())).matches_event


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
