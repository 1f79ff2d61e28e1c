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


def test_the_release_is_the_crates():
    cargo = (cfn.ROOT / "Cargo.toml").read_text(encoding="utf-8")
    [version] = re.findall(r'^version = "(.+)"$', cargo, re.MULTILINE)

    assert TEMPLATE["Outputs"]["Release"]["Value"] == version


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


RULES = sorted(resources_of("AWS::Events::Rule"))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_may_invoke_the_function(rule):
    [target] = stack().resource(rule)["Targets"]
    assert target["Arn"] == "<Function.Arn>"
    assert target["DeadLetterConfig"] == {"Arn": "<RuleDeadLetterQueue.Arn>"}
    # A dead letter is the event that the rule had, whatever it would have sent in its place: a constant input would be
    # lost with it.
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)
    assert stack().resource(f"{rule}Permission") == {
        "FunctionName": "<Function.Arn>",
        "Action": "lambda:InvokeFunction",
        "Principal": "events.amazonaws.com",
        "SourceArn": f"<{rule}.Arn>",
    }


def test_each_permission_belongs_to_a_rule():
    assert sorted(resources_of("AWS::Lambda::Permission")) == [f"{rule}Permission" for rule in RULES]


@pytest.mark.parametrize("hours", PARAMETERS["SweepEveryHours"]["AllowedValues"])
def test_a_sweep_runs_as_often_as_the_parameter_says(hours):
    schedule = stack(SweepEveryHours=hours).resource("SweepRule")["ScheduleExpression"]

    # EventBridge refuses `rate(1 hours)`.
    assert schedule == f"rate({hours} {'hour' if hours == '1' else 'hours'})"
    assert 24 % int(hours) == 0


def test_a_sweep_runs_every_six_hours_by_default():
    assert stack().resource("SweepRule")["ScheduleExpression"] == "rate(6 hours)"


def test_the_mapping_has_a_row_for_each_schedule():
    assert list(TEMPLATE["Mappings"]["Sweep"]) == PARAMETERS["SweepEveryHours"]["AllowedValues"]


def dependencies(name):
    """What CloudFormation creates before a resource."""
    resource = TEMPLATE["Resources"][name]
    found = set(listed(resource.get("DependsOn", []))) | set(references(resource["Properties"]))
    found &= TEMPLATE["Resources"].keys()
    return found.union(*map(dependencies, found))


def listed(value):
    return [value] if isinstance(value, str) else value


def references(node):
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value.split(".")[0] if isinstance(value, str) else value[0]
            elif key == "Fn::Sub":
                yield from (name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", value))
            else:
                yield from references(value)


@pytest.mark.parametrize("alarm", resources_of("AWS::CloudWatch::Alarm"))
def test_the_first_sweeps_rule_is_there_before_an_alarm(alarm):
    # A rule that is created last may miss the CREATE_COMPLETE of its own stack.
    assert dependencies(alarm) >= {
        "FirstSweepRule", "FirstSweepRulePermission", "FunctionFailures", "RuleDeadLetterQueuePolicy",
    }  # fmt: skip


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
            {"ArnEquals": {"aws:SourceArn": policy["Statement"][0]["Condition"]["ArnEquals"]["aws:SourceArn"]}},
        )
    ]
    sources = policy["Statement"][0]["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert sorted(sources) == [f"<{rule}.Arn>" for rule in RULES]


def test_the_rollout_guide_lists_what_a_boundary_must_allow():
    statements = stack().resource("ForceMfaPolicy")["PolicyDocument"]["Statement"]
    [needed] = [s["NotAction"] for s in statements if "NotAction" in s]
    guide = (cfn.ROOT / "docs" / "rollout.md").read_text(encoding="utf-8")
    [prerequisite] = [line for line in guide.splitlines() if line.startswith("- **No permissions boundary")]

    assert [action for action in needed if f"`{action}`" not in prerequisite] == []


@pytest.mark.parametrize("partition", HOME_REGIONS)
@pytest.mark.parametrize("scope", PARAMETERS["CredentialScope"]["AllowedValues"])
def test_the_policy_is_not_longer_than_iam_takes(scope, partition):
    longest = cfn.Stack(
        TEMPLATE, partition=partition, region=HOME_REGIONS[partition], NamePrefix="a" * 40, CredentialScope=scope, **CODE
    )
    document = longest.resource("ForceMfaPolicy")["PolicyDocument"]
    [inline] = longest.resource("FunctionRole")["Policies"]

    # White space is not counted: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    assert len(re.sub(r"\s", "", json.dumps(document))) <= 6144
    assert len(re.sub(r"\s", "", json.dumps(inline["PolicyDocument"]))) <= 10240


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


# What an alarm rests on: it goes off if the statistic is more than 0 in five minutes.
COUNTS = {
    "FailureQueueAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "<FailureQueue.QueueName>", "ignore"),
    "RuleQueueAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "<RuleDeadLetterQueue.QueueName>", "ignore"),
    "UndeliverableAlarm": ("AWS/Lambda", "DestinationDeliveryFailures", "FunctionName", "<Function>", "notBreaching"),
    "UncoveredAlarm": ("ForceMfa", "Uncovered", "FunctionName", "<Function>", "ignore"),
    "PolicyBrokenAlarm": ("ForceMfa", "PolicyBroken", "FunctionName", "<Function>", "ignore"),
}  # fmt: skip
ALARMS = list(resources_of("AWS::CloudWatch::Alarm"))


def test_there_is_an_alarm_for_each_thing_to_do():
    assert [stack().resource(alarm)["AlarmName"] for alarm in ALARMS] == [
        "force-mfa-no-sweep",
        "force-mfa-failure-queue-not-empty",
        "force-mfa-rule-queue-not-empty",
        "force-mfa-failures-undeliverable",
        "force-mfa-user-uncovered",
        "force-mfa-changed",
        "force-mfa-policy-broken",
    ]
    assert set(ALARMS) - set(COUNTS) == {"NoSweepAlarm", "ChangedAlarm"}


def test_the_runbook_has_a_section_for_each_alarm():
    runbook = (cfn.ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (force-mfa-.+)$", runbook, re.MULTILINE)

    assert sections == [stack().resource(alarm)["AlarmName"] for alarm in ALARMS]
    for section in re.split(r"^## ", runbook, flags=re.MULTILINE):
        if section.startswith("force-mfa-"):
            for part in ("Meaning", "Diagnose", "Fix", "Verify"):
                assert section.count(f"**{part}**") == 1, section


def test_the_alarms_cost_what_the_document_says():
    # An alarm on metric math is charged for each metric that it watches: docs/cost.md.
    metrics = sum(
        sum("MetricStat" in metric for metric in stack().resource(alarm).get("Metrics", [{"MetricStat": None}]))
        for alarm in ALARMS
    )
    cost = (cfn.ROOT / "docs" / "cost.md").read_text(encoding="utf-8")

    assert f"| Alarms | {metrics * 0.10:.2f} |" in cost


@pytest.mark.parametrize("alarm", COUNTS)
def test_one_of_what_an_alarm_counts_sets_it_off(alarm):
    namespace, metric, dimension, value, missing = COUNTS[alarm]
    properties = stack().resource(alarm)

    assert (properties["Namespace"], properties["MetricName"]) == (namespace, metric)
    assert properties["Dimensions"] == [{"Name": dimension, "Value": value}]
    assert properties["Statistic"] in ("Maximum", "Sum")
    assert (properties["Period"], properties["EvaluationPeriods"]) == (300, 1)
    assert (properties["ComparisonOperator"], properties["Threshold"]) == ("GreaterThanThreshold", 0)
    assert properties["TreatMissingData"] == missing


def test_two_missing_sweeps_are_an_alarm():
    for hours in map(int, PARAMETERS["SweepEveryHours"]["AllowedValues"]):
        alarm = stack(SweepEveryHours=str(hours)).resource("NoSweepAlarm")
        filled, sweeps = alarm["Metrics"]
        statistic = sweeps["MetricStat"]

        assert (filled["Expression"], filled["ReturnData"]) == (f"FILL({sweeps['Id']}, 0)", True)
        assert statistic["Metric"] == {
            "Namespace": "ForceMfa",
            "MetricName": "SweepFinished",
            "Dimensions": [{"Name": "FunctionName", "Value": "<Function>"}],
        }
        assert (statistic["Stat"], sweeps["ReturnData"]) == ("SampleCount", False)
        silent = statistic["Period"] * alarm["EvaluationPeriods"]
        assert silent == (2 * hours + 1) * 3600
        # How far back CloudWatch looks with periods of an hour: EvaluationPeriods in botocore's PutMetricAlarm.
        assert silent <= 7 * 24 * 3600
        # All of the periods must be empty, which is the default.
        assert "DatapointsToAlarm" not in alarm
        assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
        # No data before the first sweep; a fresh stack is no alarm.
        assert alarm["TreatMissingData"] == "missing"


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_says_which_command_to_run_first(alarm):
    description = stack().resource(alarm)["AlarmDescription"]

    # How long CloudWatch lets it be: AlarmDescription in botocore's PutMetricAlarm.
    assert len(description) <= 1024
    assert re.search(r"`(aws|force-mfa|filter) [^`]+`", description)
    # A mail to every account at its installation, when there is data for the first time.
    assert "OKActions" not in stack().resource(alarm)


def test_one_change_of_the_installation_is_an_alarm():
    alarm = stack().resource("ChangedAlarm")
    sum_of, *counted = alarm["Metrics"]

    assert sum_of["Expression"] == " + ".join(metric["Id"] for metric in counted)
    assert sum_of["ReturnData"] and not any(metric["ReturnData"] for metric in counted)
    statistics = [metric["MetricStat"] for metric in counted]
    assert {(s["Metric"]["Namespace"], s["Metric"]["MetricName"], s["Stat"]) for s in statistics} == {
        ("AWS/Events", "TriggeredRules", "Sum")
    }
    dimensions = [dimension for s in statistics for dimension in s["Metric"]["Dimensions"]]
    assert dimensions == [
        {"Name": "RuleName", "Value": f"<{rule}>"} for rule in ("PolicyChangeRule", "FunctionChangeRule", "AlarmChangeRule")
    ]
    assert sorted(d["Value"] for d in dimensions) == [f"<{rule}>" for rule in RULES if rule.endswith("ChangeRule")]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)


@pytest.mark.parametrize("alarm", ALARMS)
def test_alarms_go_where_they_were_told_to(alarm):
    topic = "arn:aws:sns:us-east-1:123456789012:security"

    assert stack().resource(alarm)["AlarmActions"] == []
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
        assert HOME_REGIONS[partition] in sentence


def test_two_receivers_of_alarms_are_refused():
    both = stack(
        AlarmEmail="security@example.com",
        AlarmTopicArn="arn:aws:sns:us-east-1:123456789012:security",
    )

    assert len(both.refused()) == 1


@pytest.mark.parametrize("name", ["template.yaml", "organization.yaml"])
def test_every_parameter_is_described_and_constrained(name):
    template = cfn.load(name)

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


def test_every_parameter_of_an_account_is_in_a_group():
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [parameter for group in groups for parameter in group["Parameters"]]

    assert sorted(grouped) == sorted(TEMPLATE["Parameters"])


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
        ("SweepEveryHours", ["1", "6", "24"], ["0", "5", "48", "rate(6 hours)"]),
        ("ReservedConcurrency", ["", "1", "100"], ["0", "-1", "two", "01"]),
        ("AlarmEmail", ["", "security@example.com"], ["security", "a b@example.com", "a@b"]),
        ("AlarmTopicArn", ["", "arn:aws-cn:sns:cn-north-1:123456789012:t"], ["t", "arn:aws:sqs:us-east-1:123456789012:q"]),
        ("CodeBucket", ["artifacts", "a.b-c"], ["", "A", "a_b", "-a", "s3://a"]),
        ("CodeKey", ["force-mfa/arm64/0123.zip"], ["", "/a.zip", "a.tar", "a b.zip"]),
        ("NamePrefix", ["force-mfa", "Mfa1"], ["", "1mfa", "a_b", "a" * 41]),
        ("PermissionsBoundaryName", ["", "boundary", "a/b/boundary"], ["/boundary", "arn:aws:iam::123456789012:policy/b", "a b"]),
        ("Mode", ["enforce", "report"], ["", "Enforce", "on"]),
        ("CredentialScope", ["all", "console-only"], ["", "none"]),
        ("LogLevel", ["INFO", "WARN", "ERROR"], ["info", "DEBUG", "TRACE"]),
    ],
)  # fmt: skip
def test_parameters_refuse_nonsense(parameter, good, bad):
    assert [value for value in good if not accepts(TEMPLATE, parameter, value)] == []
    assert [value for value in bad if accepts(TEMPLATE, parameter, value)] == []
