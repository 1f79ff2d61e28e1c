"""infra/scp.yaml: who can change the installation, and that the function still works."""

import json
import re
from fnmatch import fnmatchcase

import pytest

import cfn
import rule_table

TEMPLATE = cfn.load("scp.yaml")
GIVEN = {"TargetIds": ["ou-abcd-example1"]}
DEPLOYMENT = "arn:aws:iam::123456789012:role/stacksets-exec-0123456789abcdef"
OPERATOR = "arn:aws:iam::123456789012:role/security-operator"
ADMINISTRATOR = "arn:aws:iam::123456789012:role/Admin"
FUNCTION = "arn:aws:iam::123456789012:role/force-mfa-function"


def scp(partition="aws", **parameters):
    given = GIVEN | {"ScpExemptRole": "security-operator"} | parameters
    return cfn.Stack(TEMPLATE, partition=partition, **given).resource("Scp")


def denied(action, resource, principal=ADMINISTRATOR, namespace=None, **parameters):
    """Whether the SCP denies it; its statements are all Deny, with one condition: on who asks, or on the namespace."""
    return any(
        matches(statement["Action"], action)
        and matches(statement["Resource"], resource)
        and holds(statement["Condition"], principal, namespace)
        for statement in scp(**parameters)["Content"]["Statement"]
    )


def holds(condition, principal, namespace=None):
    [operator] = condition
    match operator:
        case "ArnNotLike":
            return not matches(condition[operator]["aws:PrincipalArn"], principal)
        case "StringEquals":
            return condition[operator]["cloudwatch:namespace"] == namespace
    raise AssertionError(f"the tests do not know the operator {operator}")


def matches(patterns, text):
    return any(fnmatchcase(text, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))


UNLESS_EXEMPT = {
    "ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::*:role/stacksets-exec-*", "arn:aws:iam::*:role/security-operator"]}
}
CONDITIONS = {
    "DenyForgedMetrics": {"StringEquals": {"cloudwatch:namespace": "ForceMfa"}},
    "DenyForgedLog": {"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/force-mfa-function"}},
}


def test_each_statement_has_the_shape_evaluated_here():
    for statement in scp()["Content"]["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert statement["Effect"] == "Deny"
        assert statement["Condition"] == CONDITIONS.get(statement["Sid"], UNLESS_EXEMPT)
        assert not any("?" in text for text in json.dumps(statement))


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_the_longest_scp_fits(partition):
    longest = scp(
        partition,
        NamePrefix="a" * 40,
        ScpExemptRole="a" * TEMPLATE["Parameters"]["ScpExemptRole"]["MaxLength"],
        DeploymentRole="AWSCloudFormationStackSetExecutionRole",
    )

    # https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
    assert len(json.dumps(longest["Content"], separators=(",", ":"))) <= 5120


def calls_that_the_rules_watch():
    """What the table of the rules has for every named resource, as IAM action and ARN."""
    resources = list(rule_table.named_resources(rule_table.account_stack()))
    for row in rule_table.TABLE["rows"]:
        for kind, _, arn in resources:
            if row.get("each") == kind:
                service = {"monitoring": "cloudwatch"}.get(row["service"], row["service"])
                # CloudTrail appends the API's version to Lambda's names.
                yield f"{service}:{re.sub(r'20[0-9]{6}(v[0-9])?$', '', row['call'])}", arn


@pytest.mark.parametrize(("action", "arn"), sorted(set(calls_that_the_rules_watch())))
def test_what_the_rules_watch_is_denied_to_others(action, arn):
    assert denied(action, arn)
    assert not denied(action, arn, principal=DEPLOYMENT)
    assert not denied(action, arn, principal=OPERATOR)
    assert denied(action, arn, principal=OPERATOR, ScpExemptRole="")


IN = "us-east-1:123456789012"
STACK_SET = f"arn:aws:cloudformation:{IN}:stack/StackSet-force-mfa-0a1b2c3d/0123"
STACK_ACTIONS = "CreateChangeSet DeleteStack ExecuteChangeSet SetStackPolicy UpdateStack".split()


@pytest.mark.parametrize("action", STACK_ACTIONS)
@pytest.mark.parametrize("stack", [f"arn:aws:cloudformation:{IN}:stack/force-mfa/0123", STACK_SET])
def test_only_the_deployment_changes_the_stack(stack, action):
    assert denied(f"cloudformation:{action}", stack)
    assert not denied(f"cloudformation:{action}", stack, principal=DEPLOYMENT)


@pytest.mark.parametrize("action", STACK_ACTIONS)
@pytest.mark.parametrize("stack", ["force-mfa-organization", "force-mfa-scp", "StackSet-other-0a1b2c3d", "other"])
def test_other_stacks_can_be_changed(stack, action):
    assert not denied(f"cloudformation:{action}", f"arn:aws:cloudformation:{IN}:stack/{stack}/0123")


@pytest.mark.parametrize(
    "action",
    "AttachRolePolicy CreateRole DeleteRole DeleteRolePolicy DetachRolePolicy "
    "PutRolePermissionsBoundary PutRolePolicy UpdateAssumeRolePolicy".split(),
)
def test_nobody_else_becomes_or_weakens_an_exempt_role(action):
    for role in (DEPLOYMENT, OPERATOR):
        assert denied(f"iam:{action}", role)
    assert not denied(f"iam:{action}", ADMINISTRATOR)
    china = "arn:aws:iam::123456789012:role/AWSCloudFormationStackSetExecutionRole"
    assert denied(f"iam:{action}", china, DeploymentRole="AWSCloudFormationStackSetExecutionRole")


@pytest.mark.parametrize(
    ("resource", "actions"),
    [
        (FUNCTION, "iam:PassRole"),
        (f"arn:aws:lambda:{IN}:function:force-mfa:$LATEST", "lambda:PutFunctionEventInvokeConfig lambda:UpdateFunctionCode"),
        (f"arn:aws:logs:{IN}:log-group:/aws/lambda/force-mfa:log-stream:a", "logs:DeleteLogStream"),
        (f"arn:aws:logs:{IN}:log-group:/aws/lambda/force-mfa:*", "logs:PutRetentionPolicy logs:DeleteLogGroup"),
    ],
)
def test_other_forms_of_an_arn_are_denied_too(resource, actions):
    for action in actions.split():
        assert denied(action, resource), action


@pytest.mark.parametrize(
    ("resource", "actions"),
    [
        ("arn:aws:iam::123456789012:user/alice", "iam:DetachUserPolicy iam:AttachUserPolicy iam:DeleteUser"),
        ("arn:aws:iam::123456789012:group/force-mfa-overflow", "iam:RemoveUserFromGroup iam:AddUserToGroup"),
        ("arn:aws:iam::123456789012:policy/force-mfa", "iam:GetPolicyVersion iam:ListEntitiesForPolicy"),
        (f"arn:aws:lambda:{IN}:function:force-mfa", "lambda:InvokeFunction lambda:GetFunction"),
        (f"arn:aws:lambda:{IN}:function:force-mfa-report", "lambda:UpdateFunctionCode"),
        (f"arn:aws:sqs:{IN}:force-mfa-failures", "sqs:ReceiveMessage sqs:DeleteMessage"),
        (f"arn:aws:logs:{IN}:log-group:/aws/lambda/force-mfa-report", "logs:DeleteLogGroup logs:PutRetentionPolicy"),
        (f"arn:aws:logs:{IN}:log-group:/aws/lambda/force-mfa", "logs:StartQuery logs:FilterLogEvents"),
        # Other teams mute their own alarms.
        (f"arn:aws:cloudwatch:{IN}:alarm-mute-rule:nightly", "cloudwatch:PutAlarmMuteRule"),
        (f"arn:aws:cloudwatch:{IN}:alarm:other", "cloudwatch:PutAlarmMuteRule cloudwatch:DeleteAlarms"),
        ("arn:aws:iam::123456789012:role/developer", "iam:PassRole iam:DeleteRole"),
        (f"arn:aws:events:{IN}:rule/nightly", "events:DisableRule"),
    ],
)
def test_the_scp_leaves_the_rest_alone(resource, actions):
    for action in actions.split():
        assert not denied(action, resource), action


ALARM_TOPIC = f"arn:aws:sns:{IN}:force-mfa-alarms"


def test_the_alarm_topic_gets_no_policy_that_blocks_messages():
    assert denied("sns:PutDataProtectionPolicy", ALARM_TOPIC)
    assert not denied("sns:PutDataProtectionPolicy", ALARM_TOPIC, principal=DEPLOYMENT)
    assert not denied("sns:PutDataProtectionPolicy", f"arn:aws:sns:{IN}:other")
    assert not denied("sns:Publish", ALARM_TOPIC)


@pytest.mark.parametrize("principal", [ADMINISTRATOR, OPERATOR, DEPLOYMENT, FUNCTION])
def test_nobody_sends_the_functions_metrics(principal):
    assert denied("cloudwatch:PutMetricData", "*", principal, namespace="ForceMfa")
    for namespace in ("Other", "ForceMfa/Other", None):
        assert not denied("cloudwatch:PutMetricData", "*", principal, namespace=namespace)


def test_the_namespace_is_that_of_the_alarms():
    stack = rule_table.account_stack()
    alarms = [name for name, kind in stack.template["Resources"].items() if kind["Type"] == "AWS::CloudWatch::Alarm"]
    namespaces = set(re.findall('"Namespace": "([^"]+)"', json.dumps([stack.resource(name) for name in alarms])))

    # PutMetricData refuses names that begin with AWS/.
    ours = {namespace for namespace in namespaces if not namespace.startswith("AWS/")}
    assert ours == {"ForceMfa"}
    assert denied("cloudwatch:PutMetricData", "*", namespace="ForceMfa")


def stream(partition, log_group):
    region = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}[partition]
    return f"arn:{partition}:logs:{region}:123456789012:log-group:{log_group}:log-stream:2026/01/31/[$LATEST]0a1b"


@pytest.mark.parametrize("prefix", ["force-mfa", "a" * 40])
@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_only_the_function_writes_its_log(partition, prefix):
    account = rule_table.account_stack(prefix, partition)
    log = stream(partition, account.resource("LogGroup")["LogGroupName"])
    function = account.resource("FunctionRole")["RoleName"]
    given = {"partition": partition, "NamePrefix": prefix}
    roles = f"arn:{partition}:iam::123456789012:role"

    for role in ("Admin", "security-operator", "stacksets-exec-0a1b", f"{function}-2", f"x-{function}"):
        assert denied("logs:PutLogEvents", log, principal=f"{roles}/{role}", **given), role
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        assert not denied(action, log, principal=f"{roles}/{function}", **given)


@pytest.mark.parametrize("log_group", ["/aws/lambda/force-mfa-report", "/aws/lambda/other", "other"])
def test_others_write_other_logs(log_group):
    assert not denied("logs:PutLogEvents", stream("aws", log_group))


def test_the_function_can_do_all_that_its_role_allows():
    [inline] = rule_table.account_stack().resource("FunctionRole")["Policies"]
    allowed = [
        (action, resource)
        for statement in inline["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    ]
    assert ("logs:PutLogEvents", f"arn:aws:logs:{IN}:log-group:/aws/lambda/force-mfa:log-stream:*") in allowed
    for action, resource in allowed:
        # Whatever a `*` of the role's resource stands for: no statement that names the action, unless it exempts the role.
        for statement in scp()["Content"]["Statement"]:
            if matches(statement["Action"], action) and holds(statement["Condition"], FUNCTION):
                pytest.fail(f"{statement['Sid']} names {action}, which the role may do on {resource}")


def as_list(value):
    return [value] if isinstance(value, str) else value


def test_the_targets_are_those_that_were_given():
    assert scp(TargetIds=["r-abcd", "123456789012"])["TargetIds"] == ["r-abcd", "123456789012"]


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (
            "ScpExemptRole",
            [
                "", "ops", "security-operator", "security/operator", "security-operator-*",
                "aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_SecurityAdmin_*",
                "aws-reserved/sso.amazonaws.com/AWSReservedSSO_SecurityAdmin_0123456789abcdef",
            ],
            [
                "*", "a*", "securit*", "security/*", "aws-reserved/sso.amazonaws.com/*", "aws-reserved/*/AWSReservedSSO_SecurityAdmin_*",
                "AWSReservedSSO_*", "aws-reserved/sso.amazonaws.com/AWSReservedSSO*", "AWSReserved*", "/operator",
                "arn:aws:iam::123456789012:role/security-operator", "security-operator?",
            ],
        ),
        ("TargetIds", ["r-abcd", "ou-abcd-example1", "123456789012"], ["", "o-exampleorgid", "abcd"]),
        ("NamePrefix", ["force-mfa"], ["", "a_b", "a" * 41]),
    ],
)  # fmt: skip
def test_parameters_refuse_nonsense(parameter, good, bad):
    pattern = TEMPLATE["Parameters"][parameter]["AllowedPattern"]

    assert [value for value in good if not re.fullmatch(pattern, value)] == []
    assert [value for value in bad if re.fullmatch(pattern, value)] == []
