"""infra/organization.yaml: who may read and write the bucket, who may publish to the topic, what the rule tells it."""

import json

import pytest
from moto.events.models import EventPattern

import cfn

TEMPLATE = cfn.load("organization.yaml")
ACCOUNT_TEMPLATE = cfn.load("template.yaml")
ORGANIZATION = "o-exampleorgid"


def stack(**parameters):
    return cfn.Stack(TEMPLATE, OrganizationId=ORGANIZATION, **parameters)


def statements(resource):
    return {s["Sid"]: s for s in stack().resource(resource)["PolicyDocument"]["Statement"]}


def test_no_stack_set_and_no_parameter_of_the_accounts():
    types = {resource["Type"] for resource in TEMPLATE["Resources"].values()}

    assert "AWS::CloudFormation::StackSet" not in types
    # The prefix and the address are not passed on: they name and subscribe what stands in this template.
    assert set(TEMPLATE["Parameters"]) & set(ACCOUNT_TEMPLATE["Parameters"]) == {"NamePrefix", "AlarmEmail"}


def test_the_bucket_is_private_versioned_and_keeps_everything():
    bucket = stack().resource("ArtifactBucket")

    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "AES256" in json.dumps(bucket["BucketEncryption"])
    assert "LifecycleConfiguration" not in bucket
    assert TEMPLATE["Resources"]["ArtifactBucket"]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_only_the_organization_reads_releases_and_no_record():
    allowed = [s for s in statements("ArtifactBucketPolicy").values() if s["Effect"] == "Allow"]

    assert allowed == [
        {
            "Sid": "LetTheOrganizationReadReleases",
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": "<ArtifactBucket.Arn>/force-mfa/*",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}},
        }
    ]


def test_what_is_published_cannot_be_replaced():
    overwriting = statements("ArtifactBucketPolicy")["DenyOverwriting"]
    deleting = statements("ArtifactBucketPolicy")["DenyDeleting"]

    for statement in (overwriting, deleting):
        assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
        assert statement["Resource"] == "<ArtifactBucket.Arn>/*"
    assert overwriting["Action"] == "s3:PutObject"
    assert overwriting["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    # After a delete marker the same key could be written again.
    assert set(deleting["Action"]) == {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert "Condition" not in deleting


@pytest.mark.parametrize("resource", ["ArtifactBucketPolicy", "AlarmTopicPolicy"])
def test_requests_without_tls_are_denied(resource):
    deny = statements(resource)["DenyWithoutTls"]

    assert (deny["Effect"], deny["Principal"]) == ("Deny", "*")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_alarms_of_the_organization_reach_the_topic():
    statement = statements("AlarmTopicPolicy")["LetTheAlarmsOfTheOrganizationPublish"]

    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Action"] == "sns:Publish"
    # A service's request has no aws:PrincipalOrgID.
    assert statement["Condition"] == {"StringEquals": {"aws:SourceOrgID": ORGANIZATION}}


def test_the_statement_for_eventbridge_has_no_condition():
    statement = statements("AlarmTopicPolicy")["LetTheRulePublish"]

    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert "Condition" not in statement


def test_the_topic_has_a_subscription_only_if_there_is_an_address():
    assert "Subscription" not in stack().resource("AlarmTopic")
    assert stack(AlarmEmail="security@example.com").resource("AlarmTopic")["Subscription"] == [
        {"Protocol": "email", "Endpoint": "security@example.com"}
    ]


def instance_event(stack_set, detailed_status):
    return {
        "source": "aws.cloudformation",
        "detail-type": "CloudFormation StackSet StackInstance Status Change",
        "account": cfn.ACCOUNT,
        "detail": {
            "stack-set-arn": f"arn:aws:cloudformation:us-east-1:{cfn.ACCOUNT}:stackset/{stack_set}:11111111-aaaa",
            "stack-id": f"arn:aws:cloudformation:us-east-1:210987654321:stack/StackSet-{stack_set}-1/22222222-bbbb",
            "action": "CREATE",
            "status-details": {
                "status": "OUTDATED",
                "status-reason": 'Resource handler returned message: "no"',
                "detailed-status": detailed_status,
            },
        },
    }


@pytest.mark.parametrize(
    ("stack_set", "detailed_status", "told"),
    [
        ("force-mfa", "FAILED", True),
        ("force-mfa-auditor", "FAILED", True),
        ("force-mfa", "INOPERABLE", True),
        ("force-mfa", "FAILED_IMPORT", True),
        ("force-mfa", "SUCCEEDED", False),
        # One mail for each account that an operation did not come to would hide the one that failed.
        ("force-mfa", "CANCELLED", False),
        ("force-mfa-of-another-team", "FAILED", False),
        ("baseline", "FAILED", False),
    ],
)
def test_the_rule_tells_of_failed_accounts_only(stack_set, detailed_status, told):
    pattern = json.dumps(stack().resource("FailedAccountRule")["EventPattern"])

    assert EventPattern.load(pattern).matches_event(instance_event(stack_set, detailed_status)) is told


def test_the_message_names_what_the_event_has():
    [target] = stack().resource("FailedAccountRule")["Targets"]
    transformer = target["InputTransformer"]
    event = instance_event("force-mfa", "FAILED")

    assert target["Arn"] == "<AlarmTopic>"
    for name, path in transformer["InputPathsMap"].items():
        value = event
        for key in path.removeprefix("$.").split("."):
            value = value[key]
        # As a value of its own, a variable becomes a valid JSON string. In a string, its quotation marks may stay.
        assert transformer["InputTemplate"].count(f": <{name}>") == 1
        transformer["InputTemplate"] = transformer["InputTemplate"].replace(f"<{name}>", json.dumps(value))
    assert json.loads(transformer["InputTemplate"])["Reason"] == 'Resource handler returned message: "no"'
