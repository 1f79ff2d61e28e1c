#!/usr/bin/env python3
"""Runs parliament over every policy in CloudFormation templates, which it cannot read by itself."""

import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import templates

# parliament imports a module that says at every start that it is deprecated.
warnings.filterwarnings("ignore", category=UserWarning)
from parliament import analyze_policy_string  # noqa: E402

# Findings that are no fault.
ACCEPTED = {
    # What CredentialScope=console-only means: a request without the key, signed by an access key, passes.
    (
        "BAD_PATTERN_FOR_MFA",
        'The condition {"Bool": {"aws:MultiFactorAuthPresent":"false"}} is bad because '
        "aws:MultiFactorAuthPresent may not exist so it does not enforce MFA. You likely want to use a Deny "
        "with BoolIfExists.",
    ),
    # The stack is asked for by what it created, so that there is no name to confine the call to.
    ("RESOURCE_STAR", "['cloudformation:DescribeStackResources']"),
    # Newer than parliament's list of actions and of global condition keys.
    ("UNKNOWN_CONDITION_FOR_ACTION", "Unknown condition aws:SourceOrgID for action sns:Publish"),
    ("UNKNOWN_ACTION", "Unknown action cloudwatch:GetAlarmMuteRule"),
    ("UNKNOWN_ACTION", "Unknown action cloudwatch:ListAlarmMuteRules"),
    ("UNKNOWN_ACTION", "Unknown action cloudwatch:PutAlarmMuteRule"),
    ("UNKNOWN_ACTION", "Unknown action signin:AuthorizeOAuth2Access"),
    ("UNKNOWN_ACTION", "Unknown action signin:CreateOAuth2Token"),
    *(
        ("UNKNOWN_CONDITION_FOR_ACTION", f"Unknown condition aws:ViaAWSService for action iam:{action}")
        for action in (
            "ChangePassword",
            "EnableMFADevice",
            "GetMFADevice",
            "GetUser",
            "ListMFADevices",
            "ResyncMFADevice",
        )
    ),
}


def policies(template) -> Iterator[tuple[str, dict]]:
    """The name of each resource that holds a policy, and the policy with either branch of its choices."""
    for name, resource in template["Resources"].items():
        for policy in documents(resource.get("Properties", {})):
            for branch in (1, 2):
                yield name, plain(policy, branch)


def documents(node):
    """Every policy document below a node but trust policies, which parliament does not know."""
    if isinstance(node, dict):
        if "Statement" in node:
            yield node
        else:
            for key, value in node.items():
                if key != "AssumeRolePolicyDocument":
                    yield from documents(value)
    elif isinstance(node, list):
        for item in node:
            yield from documents(item)


def plain(node, branch):
    """The document with intrinsic functions replaced by values of the right shape."""
    if isinstance(node, list):
        return [value for item in node if (value := plain(item, branch)) is not None]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        return plain(node["Fn::If"][branch], branch)
    if "Ref" in node:
        return None if node["Ref"] == "AWS::NoValue" else reference(node["Ref"])
    if "Fn::GetAtt" in node:
        return reference(node["Fn::GetAtt"][0])
    if "Fn::Sub" in node:
        text = node["Fn::Sub"].replace("${!", "${")
        return re.sub(r"\$\{(?!aws:)([^}]+)\}", lambda match: reference(match[1]), text)
    return {key: value for key, item in node.items() if (value := plain(item, branch)) is not None}


def reference(name):
    known = {
        "AWS::Partition": "aws",
        "AWS::AccountId": "123456789012",
        "AWS::Region": "us-east-1",
        "NamePrefix": "force-mfa",
        "ForceMfaPolicy": "arn:aws:iam::123456789012:policy/force-mfa",
        "FailureQueue": "arn:aws:sqs:us-east-1:123456789012:force-mfa-failures",
        "RuleDeadLetterQueue": "arn:aws:sqs:us-east-1:123456789012:force-mfa-rule-dead-letters",
        "ConsoleUserRule": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-console-users",
        "SweepRule": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-sweep",
        "FirstSweepRule": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-first-sweep",
        "PolicyChangeRule": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-changed-policy",
        "FunctionChangeRule": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-changed-function",
        "AlarmChangeRule": "arn:aws:events:us-east-1:123456789012:rule/force-mfa-changed-alarms",
        "AlarmTopic": "arn:aws:sns:us-east-1:123456789012:force-mfa-alarms",
        "ArtifactBucket": "arn:aws:s3:::force-mfa-artifacts",
        "ArtifactBucket.Arn": "arn:aws:s3:::force-mfa-artifacts",
        "OrganizationId": "o-exampleorgid",
        "ScpExemptRole": "security-operator",
        "DeploymentRole": "stacksets-exec-*",
    }
    return known[name]


def main(paths):
    count = 0
    faults = set()
    for path in paths:
        for name, policy in policies(templates.parse(Path(path).read_text(encoding="utf-8"))):
            count += 1
            for finding in analyze_policy_string(json.dumps(policy)).findings:
                if (finding.issue, str(finding.detail)) not in ACCEPTED:
                    faults.add(f"{path}: {name}: {finding.issue}: {finding.detail} {finding.location}")
    for fault in sorted(faults):
        print(fault)
    print(f"parliament read {count} policies and found {len(faults)} faults")
    return 1 if faults or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
