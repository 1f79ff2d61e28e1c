"""Expands rule_table.json: which event rule of the account template must match which event.

Run by itself it prints patterns, events and expectations as one JSON document, for another matching engine than the one
of the tests: `.venv/bin/python tests/infra/rule_table.py`.
"""

import json
from pathlib import Path

import cfn

TABLE = json.loads((Path(__file__).parent / "rule_table.json").read_text(encoding="utf-8"))
# By type: the property that names the resource, and its ARN.
NAMED = {
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName", "arn:{partition}:iam::{account}:policy/{name}"),
    "AWS::IAM::Group": ("GroupName", "arn:{partition}:iam::{account}:group/{name}"),
    "AWS::IAM::Role": ("RoleName", "arn:{partition}:iam::{account}:role/{name}"),
    "AWS::Lambda::Function": ("FunctionName", "arn:{partition}:lambda:{region}:{account}:function:{name}"),
    "AWS::Events::Rule": ("Name", "arn:{partition}:events:{region}:{account}:rule/{name}"),
    "AWS::SQS::Queue": ("QueueName", "arn:{partition}:sqs:{region}:{account}:{name}"),
    "AWS::SNS::Topic": ("TopicName", "arn:{partition}:sns:{region}:{account}:{name}"),
    "AWS::Logs::LogGroup": ("LogGroupName", "arn:{partition}:logs:{region}:{account}:log-group:{name}"),
    "AWS::CloudWatch::Alarm": ("AlarmName", "arn:{partition}:cloudwatch:{region}:{account}:alarm:{name}"),
}
# Types that no rule watches and no SCP protects by a name of their own, and why.
UNNAMED = {
    "AWS::Lambda::Permission": "changed by calls on the function",
    "AWS::Lambda::EventInvokeConfig": "changed by calls on the function",
    "AWS::SQS::QueuePolicy": "changed by calls on the queue",
    "AWS::SNS::TopicPolicy": "changed by calls on the topic",
    "AWS::CloudWatch::Dashboard": "shows figures; nothing depends on it",
}


def account_stack(prefix="force-mfa", partition="aws", region="us-east-1"):
    resources = {"ForceMfaPolicy": f"arn:{partition}:iam::{cfn.ACCOUNT}:policy/{prefix}"}
    code = {"CodeBucket": "artifacts", "CodeKey": "force-mfa/arm64/0123.zip"}
    return cfn.Stack(cfn.load("template.yaml"), resources, partition, region, NamePrefix=prefix, **code)


def named_resources(stack):
    """Type, name and ARN of each resource of the stack that has a name."""
    for logical_id, resource in stack.template["Resources"].items():
        kind = resource["Type"]
        if kind in NAMED:
            name_property, arn = NAMED[kind]
            name = stack.resource(logical_id)[name_property]
            yield kind, name, arn.format(
                partition=stack.pseudo["AWS::Partition"],
                region=stack.pseudo["AWS::Region"],
                account=cfn.ACCOUNT,
                name=name,
            )


def patterns(stack):
    """The event pattern of each rule that has one."""
    return {
        name: stack.resource(name)["EventPattern"]
        for name, resource in stack.template["Resources"].items()
        if resource["Type"] == "AWS::Events::Rule" and "EventPattern" in resource["Properties"]
    }


def rows():
    """A description, the event, and the rules that must match it."""
    stack = account_stack()
    resources = list(named_resources(stack))
    for row in TABLE["rows"]:
        event = row["event"] if "event" in row else call(row)
        if "each" in row:
            for kind, name, arn in resources:
                if kind == row["each"]:
                    url = f"https://sqs.us-east-1.amazonaws.com/{cfn.ACCOUNT}/{name}"
                    values = {"$NAME": name, "$ARN": arn, "$URL": url}
                    yield f"{row['call']} of {name} by {row['by']}", replaced(event, values), row["matches"]
        else:
            what = row.get("ordinary") or f"{row['call']} by {row['by']}"
            yield what, replaced(event, {"$STACK": stack.pseudo["AWS::StackId"]}), row["matches"]


def call(row):
    """A CloudTrail record in EventBridge's envelope."""
    service = row["service"]
    assert service in TABLE["shapes"], f"say where AWS shows a record of {service}"
    account = row.get("account", cfn.ACCOUNT)
    return {
        "version": "0",
        "id": "c3f5e0d1-0000-4000-8000-000000000001",
        "detail-type": "AWS API Call via CloudTrail",
        "source": f"aws.{service}",
        "account": account,
        "time": "2026-11-25T06:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "eventTime": "2026-11-25T06:00:00Z",
            "eventSource": f"{service}.amazonaws.com",
            "eventName": row["call"],
            "awsRegion": "us-east-1",
            "requestParameters": row["request"],
            "responseElements": None,
            "eventID": "c3f5e0d1-0000-4000-8000-000000000002",
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": account,
            "eventCategory": "Management",
            **TABLE["callers"][row["by"]],
            **row.get("detail", {}),
        },
    }


def replaced(node, values):
    text = json.dumps(node)
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return json.loads(text)


if __name__ == "__main__":
    document = {
        "patterns": patterns(account_stack()),
        "rows": [{"name": name, "event": event, "expected": expected} for name, event, expected in rows()],
    }
    print(json.dumps(document))
