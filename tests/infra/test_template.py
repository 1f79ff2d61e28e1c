"""What infra/template.yaml says beside its policy, the role and the rule's pattern, which have tests of their own."""

import json
import re

import pytest

import cfn

TEMPLATE = cfn.load("template.yaml")
PARAMETERS = TEMPLATE["Parameters"]
CODE = {"CodeBucket": "artifacts", "CodeKey": "force-mfa/arm64/0123.zip"}
HOME_REGIONS = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}


def stack(**parameters):
    return cfn.Stack(TEMPLATE, **CODE | parameters)


def resources_of(kind):
    return {name: r for name, r in TEMPLATE["Resources"].items() if r["Type"] == kind}


def test_a_service_managed_stack_set_takes_the_template():
    text = (cfn.ROOT / "infra" / "template.yaml").read_text(encoding="utf-8")

    assert "Transform" not in TEMPLATE
    assert not resources_of("AWS::CloudFormation::Stack")
    # What CloudFormation takes without a bucket.
    assert len(text.encode()) <= 51_200


def test_sam_knows_how_to_build_the_function():
    metadata = TEMPLATE["Resources"]["Function"]["Metadata"]

    assert metadata["BuildMethod"] == "rust-cargolambda"
    assert metadata["BuildProperties"] == {"Binary": "function"}
    assert (cfn.ROOT / "infra" / metadata["aws:asset:path"] / "Cargo.toml").is_file()
    assert metadata["aws:asset:property"] == "Code"


def test_every_setting_of_the_function_comes_from_the_template():
    changed = stack(
        Mode="report",
        Scope="all-users",
        ExistingUsers="enforce",
        ExemptUsers="break-glass,ci-*",
        ExemptPaths="/service/",
        ExemptTag="mfa=exempt",
    )

    assert changed.resource("Function")["Environment"]["Variables"] == {
        "FORCE_MFA_POLICY_ARN": "<ForceMfaPolicy>",
        "FORCE_MFA_MODE": "report",
        "FORCE_MFA_SCOPE": "all-users",
        "FORCE_MFA_EXISTING_USERS": "enforce",
        "FORCE_MFA_EXEMPT_USERS": "break-glass,ci-*",
        "FORCE_MFA_EXEMPT_PATHS": "/service/",
        "FORCE_MFA_EXEMPT_TAG": "mfa=exempt",
        "FORCE_MFA_OVERFLOW_GROUP": "force-mfa-overflow",
    }


def test_the_defaults_are_the_settings_defaults():
    variables = stack().resource("Function")["Environment"]["Variables"]

    assert variables["FORCE_MFA_MODE"] == "enforce"
    assert variables["FORCE_MFA_SCOPE"] == "console-users"
    assert variables["FORCE_MFA_EXISTING_USERS"] == "report"
    for name in ("USERS", "PATHS", "TAG"):
        assert variables[f"FORCE_MFA_EXEMPT_{name}"] == ""


def test_the_function_runs_as_it_was_measured():
    function = stack().resource("Function")

    assert function["Runtime"] == "provided.al2023"
    assert function["Architectures"] == ["arm64"]
    assert function["MemorySize"] == 128
    assert 300 <= function["Timeout"] <= 900
    assert function["Code"] == {"S3Bucket": "artifacts", "S3Key": "force-mfa/arm64/0123.zip"}
    assert function["LoggingConfig"]["LogFormat"] == "JSON"
    assert "ReservedConcurrentExecutions" not in function
    assert stack(ReservedConcurrency="2").resource("Function")["ReservedConcurrentExecutions"] == "2"


def test_the_log_is_kept_for_as_long_as_was_said():
    log = stack(LogRetentionDays=30).resource("LogGroup")

    assert log == {"LogGroupName": "/aws/lambda/force-mfa", "RetentionInDays": 30}
    assert stack().resource("Function")["LoggingConfig"]["LogGroup"] == "<LogGroup>"


def test_the_rules_reach_the_function_and_may():
    for rule, permission in [
        ("ConsoleUserRule", "ConsoleUserRulePermission"),
        ("SweepRule", "SweepRulePermission"),
        ("ChangeRule", "ChangeRulePermission"),
    ]:
        [target] = stack().resource(rule)["Targets"]
        assert target["Arn"] == "<Function.Arn>"
        assert target["DeadLetterConfig"] == {"Arn": "<RuleDeadLetterQueue.Arn>"}
        assert stack().resource(permission) == {
            "FunctionName": "<Function.Arn>",
            "Action": "lambda:InvokeFunction",
            "Principal": "events.amazonaws.com",
            "SourceArn": f"<{rule}.Arn>",
        }


def test_a_sweep_runs_every_six_hours():
    rule = stack().resource("SweepRule")

    assert rule["ScheduleExpression"] == "rate(6 hours)"
    # A dead letter is the event that the rule had, whatever it would have sent in its place: a constant input would be
    # lost with it.
    assert not {"Input", "InputPath", "InputTransformer"} & set(rule["Targets"][0])


def test_an_event_gets_two_more_tries_and_then_the_failure_queue():
    config = stack().resource("FunctionFailures")

    assert config["Qualifier"] == "$LATEST"
    assert config["MaximumRetryAttempts"] == 2
    assert config["MaximumEventAgeInSeconds"] == 6 * 3600
    assert config["DestinationConfig"] == {"OnFailure": {"Destination": "<FailureQueue.Arn>"}}


@pytest.mark.parametrize("queue", ["RuleDeadLetterQueue", "FailureQueue"])
def test_the_queues_are_encrypted_keep_two_weeks_and_take_tls_alone(queue):
    properties = stack().resource(queue)
    policy = stack().resource(f"{queue}Policy")

    assert properties["SqsManagedSseEnabled"] is True
    assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert policy["Queues"] == [f"<{queue}>"]
    denied = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    assert [(s["Principal"], s["Action"], s["Condition"]) for s in denied] == [
        ("*", "sqs:*", {"Bool": {"aws:SecureTransport": "false"}})
    ]


def test_only_our_rules_may_send_to_the_dead_letter_queue():
    policy = stack().resource("RuleDeadLetterQueuePolicy")["PolicyDocument"]
    allowed = [s for s in policy["Statement"] if s["Effect"] == "Allow"]

    assert [(s["Principal"], s["Action"], s["Condition"]) for s in allowed] == [
        (
            {"Service": "events.amazonaws.com"},
            "sqs:SendMessage",
            {"ArnEquals": {"aws:SourceArn": ["<ConsoleUserRule.Arn>", "<SweepRule.Arn>", "<ChangeRule.Arn>"]}},
        )
    ]


def test_the_policy_and_the_group_outlive_the_stack():
    for name in ("ForceMfaPolicy", "OverflowGroup"):
        assert TEMPLATE["Resources"][name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert TEMPLATE["Resources"][name]["UpdateReplacePolicy"] == "Retain"
    assert stack().resource("OverflowGroup") == {
        "GroupName": "force-mfa-overflow",
        "ManagedPolicyArns": ["<ForceMfaPolicy>"],
    }


def test_a_permissions_boundary_is_set_where_one_is_named():
    assert "PermissionsBoundary" not in stack().resource("FunctionRole")
    role = stack(PermissionsBoundaryName="boundaries/function").resource("FunctionRole")
    assert role["PermissionsBoundary"] == "arn:aws:iam::123456789012:policy/boundaries/function"


def test_a_prefix_names_everything():
    other = stack(NamePrefix="mfa-test")

    for name, resource in TEMPLATE["Resources"].items():
        properties = other.resource(name)
        for key in ("ManagedPolicyName", "GroupName", "RoleName", "Name", "QueueName", "AlarmName"):
            # `FunctionName` refers to a function in some resources, and names it in one.
            if key in properties:
                assert properties[key].startswith("mfa-test"), name
        assert "force-mfa-" not in json.dumps(properties), name
    assert other.resource("Function")["FunctionName"] == "mfa-test"


ALARMS = {
    "RuleDeadLettersAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "notBreaching"),
    "FailuresAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "notBreaching"),
    "UndeliverableAlarm": ("AWS/Lambda", "DestinationDeliveryFailures", "notBreaching"),
    "SilenceAlarm": ("AWS/Lambda", "Invocations", "breaching"),
    "UncoveredAlarm": ("ForceMfa", "Uncovered", "notBreaching"),
    "FailedAlarm": ("ForceMfa", "Failed", "notBreaching"),
    "ErrorsAlarm": ("AWS/Lambda", "Errors", "notBreaching"),
    "ChangesAlarm": ("AWS/Events", "TriggeredRules", "notBreaching"),
}


def test_there_is_an_alarm_for_each_way_to_fail():
    found = {}
    for name in resources_of("AWS::CloudWatch::Alarm"):
        alarm = stack().resource(name)
        found[name] = (alarm["Namespace"], alarm["MetricName"], alarm["TreatMissingData"])
        if alarm["Namespace"] == "ForceMfa":
            assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": "<Function>"}]
    assert found == ALARMS


def test_a_day_without_an_invocation_is_an_alarm():
    alarm = stack().resource("SilenceAlarm")

    assert alarm["Period"] * alarm["EvaluationPeriods"] == 24 * 3600
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Sum", "LessThanThreshold")
    assert alarm["Threshold"] == 1


def test_one_change_of_the_guard_is_an_alarm():
    alarm = stack().resource("ChangesAlarm")

    assert alarm["Dimensions"] == [{"Name": "RuleName", "Value": "<ChangeRule>"}]
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Sum", "GreaterThanThreshold", 0)


@pytest.mark.parametrize("alarm", ALARMS)
def test_alarms_go_where_they_were_told_to(alarm):
    topic = "arn:aws:sns:us-east-1:123456789012:security"

    assert "AlarmActions" not in stack().resource(alarm)
    assert stack(AlarmTopicArn=topic).resource(alarm)["AlarmActions"] == [topic]
    by_mail = stack(AlarmEmail="security@example.com")
    assert by_mail.resource(alarm)["AlarmActions"] == ["<AlarmTopic>"]
    assert by_mail.exists("AlarmTopic") and by_mail.exists("AlarmTopicPolicy")
    assert not stack(AlarmTopicArn=topic).exists("AlarmTopic")


def test_the_dashboard_is_off_unless_wanted_and_is_json():
    assert not stack().exists("DashboardOfTheAccount")
    wanted = stack(Dashboard="yes")
    assert wanted.exists("DashboardOfTheAccount")
    widgets = json.loads(wanted.resource("DashboardOfTheAccount")["DashboardBody"])["widgets"]
    ours = [metric for widget in widgets for metric in widget["properties"]["metrics"] if metric[0] == "ForceMfa"]
    assert len(ours) >= 8
    # Without the dimension that the function sends, a metric of the dashboard has no data.
    assert {tuple(metric[2:]) for metric in ours} == {("FunctionName", "<Function>")}


@pytest.mark.parametrize("name", ["template.yaml", "organization.yaml"])
@pytest.mark.parametrize("partition", HOME_REGIONS)
def test_only_the_home_region_is_taken(name, partition):
    template = cfn.load(name)
    given = {p: "x" for p, v in template["Parameters"].items() if "Default" not in v}

    home = cfn.Stack(template, partition=partition, region=HOME_REGIONS[partition], **given)
    assert home.refused() == []
    for region in ("eu-central-1", "us-west-2", "us-gov-east-1", "cn-northwest-1"):
        [sentence] = cfn.Stack(template, partition=partition, region=region, **given).refused()
        assert HOME_REGIONS[partition] in sentence and "EventBridge" in sentence


def test_two_receivers_of_alarms_are_refused():
    both = stack(
        AlarmEmail="security@example.com",
        AlarmTopicArn="arn:aws:sns:us-east-1:123456789012:security",
    )

    assert len(both.refused()) == 1


@pytest.mark.parametrize("name", ["template.yaml", "organization.yaml"])
def test_every_parameter_is_described_constrained_and_grouped(name):
    template = cfn.load(name)
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [parameter for group in groups for parameter in group["Parameters"]]

    assert sorted(grouped) == sorted(template["Parameters"])
    for parameter, definition in template["Parameters"].items():
        description = definition["Description"]
        assert description.endswith(".") and len(description.split()) >= 5, parameter
        if "AllowedPattern" in definition:
            assert definition["ConstraintDescription"].startswith("must be"), parameter
            if "Default" in definition:
                assert re.fullmatch(definition["AllowedPattern"], definition["Default"]), parameter
        elif "AllowedValues" in definition:
            assert definition.get("Default") in definition["AllowedValues"], parameter
        else:
            assert definition["Type"] == "Number" and "MinValue" in definition, parameter


def accepts(template, parameter, value):
    definition = template["Parameters"][parameter]
    if "AllowedValues" in definition:
        return value in definition["AllowedValues"]
    longest = definition.get("MaxLength", 4096)
    return len(value) <= longest and re.fullmatch(definition["AllowedPattern"], value) is not None


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("ExemptUsers", ["alice", "ci-*", "*-bot,break-glass", "a@b.c"], ["*", "a,,b", "a, b", "a/b", "a;b", ",a", "a,*"]),
        ("ExemptPaths", ["/service/", "/ci/,/a/b/"], ["/", "service", "/service", "//", "/a//b/", "/a/,", "/a/, /b/"]),
        ("ExemptTag", ["mfa", "mfa=exempt", "team:mfa=not needed"], ["=x", "mfa=", " mfa", "mfa,x"]),
        ("SweepSchedule", ["rate(6 hours)", "rate(1 hour)", "rate(1 day)", "cron(0 6 * * ? *)"], ["6 hours", "rate(0 hours)", "rate(2 days)", "rate(7 days)", "", "cron()"]),
        ("ReservedConcurrency", ["", "1", "100"], ["0", "-1", "two", "01"]),
        ("AlarmEmail", ["", "security@example.com"], ["security", "a b@example.com", "a@b"]),
        ("AlarmTopicArn", ["", "arn:aws-cn:sns:cn-north-1:123456789012:t"], ["t", "arn:aws:sqs:us-east-1:123456789012:q"]),
        ("CodeBucket", ["artifacts", "a.b-c"], ["", "A", "a_b", "-a", "s3://a"]),
        ("CodeKey", ["force-mfa/arm64/0123.zip"], ["", "/a.zip", "a.tar", "a b.zip"]),
        ("NamePrefix", ["force-mfa", "Mfa1"], ["", "1mfa", "a_b", "a" * 41]),
        ("PermissionsBoundaryName", ["", "boundary", "a/b/boundary"], ["/boundary", "arn:aws:iam::123456789012:policy/b", "a b"]),
        ("Mode", ["enforce", "report"], ["", "Enforce", "on"]),
        ("CredentialScope", ["all", "console-only"], ["", "none"]),
        ("LogLevel", ["INFO"], ["info"]),
    ],
)  # fmt: skip
def test_parameters_refuse_nonsense(parameter, good, bad):
    assert [value for value in good if not accepts(TEMPLATE, parameter, value)] == []
    assert [value for value in bad if accepts(TEMPLATE, parameter, value)] == []
