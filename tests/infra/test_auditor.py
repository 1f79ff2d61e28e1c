"""infra/auditor.yaml: who may assume the role, and by which names. What it allows is in tests/policy/auditor.rs."""

import cfn

TEMPLATE = cfn.load("auditor.yaml")
TRUSTED = "arn:aws:iam::210987654321:role/security-audit"


def role(**parameters):
    return cfn.Stack(TEMPLATE, TrustedRoleArn=TRUSTED, ExternalId="force-mfa-audit", **parameters).resource(
        "AuditorRole"
    )


def test_only_the_trusted_role_assumes_it_and_with_the_external_id():
    assert role()["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "210987654321"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "ArnEquals": {"aws:PrincipalArn": TRUSTED},
                "StringEquals": {"sts:ExternalId": "force-mfa-audit"},
            },
        }
    ]


def test_the_external_id_cannot_be_left_out():
    assert "Default" not in TEMPLATE["Parameters"]["ExternalId"]
    assert TEMPLATE["Parameters"]["ExternalId"]["MinLength"] >= 2


def test_names_follow_the_parameters():
    assert role()["RoleName"] == "force-mfa-auditor"
    assert "PermissionsBoundary" not in role()

    other = role(RoleName="audit", PermissionsBoundaryName="limits/boundary", NamePrefix="mfa-test")

    assert other["RoleName"] == "audit"
    assert other["PermissionsBoundary"] == "arn:aws:iam::123456789012:policy/limits/boundary"
    statements = {s["Sid"]: s for s in other["Policies"][0]["PolicyDocument"]["Statement"]}
    assert statements["ReadThePolicy"]["Resource"] == "arn:aws:iam::123456789012:policy/mfa-test"


def test_it_can_be_deployed_by_stack_sets():
    # Service-managed StackSets take neither transforms nor the management account's own names.
    assert "Transform" not in TEMPLATE
    assert "Rules" not in TEMPLATE
