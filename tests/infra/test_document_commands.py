"""The check of the commands in the documents: it accepts what exists and names what does not."""

import sys

import cfn
import pytest

sys.path.insert(0, str(cfn.ROOT / "tools"))
from document_commands import problems_of_commands


@pytest.mark.parametrize(
    "shell",
    [
        "force-mfa --profile audit status --organization --external-id x --format csv > users.csv",
        "force-mfa uninstall --yes --account 123456789012 < /dev/null",
        "aws cloudformation wait stack-update-complete --stack-name x --region us-east-1",
        "URL=$(aws sqs get-queue-url \\\n  --queue-name x --query QueueUrl)  # --not-an-option",
        "$ force-mfa doctor --canary\nforce-mfa is a word of the output",
    ],
)
def test_a_command_that_exists_is_accepted(shell):
    assert list(problems_of_commands(shell)) == []


@pytest.mark.parametrize(
    "shell, named",
    [
        ("force-mfa staus", "force-mfa staus"),
        ("force-mfa sweep --uncovered", "--uncovered"),
        ("aws iam list-user", "aws iam list-user"),
        ("aws iam get-user --user alice", "--user"),
        ("aws cloudformation wait stack-finished", "stack-finished"),
        ("for x in a; do aws events disable-rule --rule x; done", "--rule"),
        ("x=$(aws sqs get-queue-url --queue-nam x)", "--queue-nam"),
    ],
)
def test_a_command_that_does_not_exist_is_named(shell, named):
    [problem] = problems_of_commands(shell)

    assert named in problem
