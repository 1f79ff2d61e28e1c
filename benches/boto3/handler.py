"""The same task as most published solutions do it: boto3, one client, one call an event, and nothing else."""

import os

import boto3

iam = boto3.client("iam")
policy_arn = os.environ["FORCE_MFA_POLICY_ARN"]


def handler(event, _context):
    user = event["detail"]["requestParameters"]["userName"]
    iam.attach_user_policy(UserName=user, PolicyArn=policy_arn)
    return {"outcome": "attached", "user": user}
