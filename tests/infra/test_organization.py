"""infra/organization.yaml: the bucket, the StackSet of infra/template.yaml, and the guard."""

import json
from fnmatch import fnmatchcase

import pytest

import cfn

TEMPLATE = cfn.load("organization.yaml")
ACCOUNT_TEMPLATE = cfn.load("template.yaml")
GIVEN = {
    "OrganizationId": "o-exampleorgid",
    "OrganizationalUnitIds": ["ou-abcd-example1"],
    "TemplateKey": "force-mfa/template/0123.yaml",
    "CodeKey": "force-mfa/arm64/0123.zip",
}


def stack(partition="aws", region="us-east-1", **parameters):
    return cfn.Stack(TEMPLATE, partition=partition, region=region, **GIVEN | parameters)


def test_the_first_deployment_makes_the_bucket_alone():
    first = stack(TemplateKey="", CodeKey="")

    assert [name for name in TEMPLATE["Resources"] if first.exists(name)] == [
        "ArtifactBucket",
        "ArtifactBucketPolicy",
    ]
    assert stack().exists("AccountStacks")
    assert TEMPLATE["Resources"]["AccountStacks"]["DependsOn"] == "ArtifactBucketPolicy"


def test_a_template_without_a_zip_is_refused():
    assert len(stack(CodeKey="").refused()) == 1


def test_every_parameter_of_the_account_template_is_passed_on_with_the_same_meaning():
    passed = {p["ParameterKey"]: p["ParameterValue"] for p in stack().resource("AccountStacks")["Parameters"]}

    assert set(passed) == set(ACCOUNT_TEMPLATE["Parameters"])
    for name, definition in ACCOUNT_TEMPLATE["Parameters"].items():
        if name not in ("CodeBucket", "CodeKey"):
            assert TEMPLATE["Parameters"][name] == definition, name
            assert passed[name] == definition["Default"], name
    assert passed["CodeBucket"] == "<ArtifactBucket>"
    assert passed["CodeKey"] == GIVEN["CodeKey"]


def test_a_parameter_reaches_the_functions_environment_through_the_stack_set():
    changed = stack(Mode="report", ExistingUsers="enforce", ExemptUsers="ci-*", ExemptPaths="/ci/", ExemptTag="mfa=no")
    passed = {p["ParameterKey"]: p["ParameterValue"] for p in changed.resource("AccountStacks")["Parameters"]}
    variables = cfn.Stack(ACCOUNT_TEMPLATE, **passed).resource("Function")["Environment"]["Variables"]

    assert variables["FORCE_MFA_MODE"] == "report"
    assert variables["FORCE_MFA_EXISTING_USERS"] == "enforce"
    assert variables["FORCE_MFA_EXEMPT_USERS"] == "ci-*"
    assert variables["FORCE_MFA_EXEMPT_PATHS"] == "/ci/"
    assert variables["FORCE_MFA_EXEMPT_TAG"] == "mfa=no"


def test_the_stack_set_follows_the_organizational_units():
    properties = stack(FailureTolerancePercentage=5, MaxConcurrentPercentage=20).resource("AccountStacks")

    assert properties["PermissionModel"] == "SERVICE_MANAGED"
    assert properties["AutoDeployment"] == {"Enabled": True, "RetainStacksOnAccountRemoval": True}
    assert properties["ManagedExecution"] == {"Active": True}
    assert properties["Capabilities"] == ["CAPABILITY_NAMED_IAM"]
    assert properties["OperationPreferences"] == {
        "FailureTolerancePercentage": 5,
        "MaxConcurrentPercentage": 20,
    }
    assert properties["StackInstancesGroup"] == [
        {
            "DeploymentTargets": {"OrganizationalUnitIds": ["ou-abcd-example1"]},
            "Regions": ["us-east-1"],
        }
    ]
    assert properties["TemplateURL"] == (
        "https://<ArtifactBucket>.s3.us-east-1.amazonaws.com/force-mfa/template/0123.yaml"
    )


def test_china_is_managed_by_the_account_itself():
    china = stack(partition="aws-cn", region="cn-north-1", AccountIds=["123456789012"])
    properties = china.resource("AccountStacks")

    assert properties["PermissionModel"] == "SELF_MANAGED"
    assert "AutoDeployment" not in properties
    assert properties["StackInstancesGroup"][0]["DeploymentTargets"] == {"Accounts": ["123456789012"]}


def test_the_bucket_is_private_versioned_encrypted_and_keeps_everything():
    bucket = stack().resource("ArtifactBucket")

    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "AES256" in json.dumps(bucket["BucketEncryption"])
    assert "LifecycleConfiguration" not in bucket
    assert TEMPLATE["Resources"]["ArtifactBucket"]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_the_organization_alone_reads_the_bucket_and_by_tls_alone():
    allow, deny = stack().resource("ArtifactBucketPolicy")["PolicyDocument"]["Statement"]

    assert (allow["Effect"], allow["Action"]) == ("Allow", "s3:GetObject")
    assert allow["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-exampleorgid"}}
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_guard_binds_everyone_but_the_deployment():
    assert not stack().exists("GuardPolicy")
    guard = stack(ProtectWithScp="yes", ScpExemptRole="security-operator").resource("GuardPolicy")
    statements = guard["Content"]["Statement"]

    assert guard["TargetIds"] == ["ou-abcd-example1"]
    # The most that a service control policy may hold.
    assert len(json.dumps(guard["Content"], separators=(",", ":"))) <= 5120
    assert {s["Effect"] for s in statements} == {"Deny"}
    deployment = ["arn:aws:iam::*:role/stacksets-exec-*", "arn:aws:iam::*:role/security-operator"]
    for statement in statements:
        assert statement["Condition"] == {"ArnNotLike": {"aws:PrincipalArn": deployment}}
    # Nor can anybody become one of those.
    assert statements[-1]["Resource"] == deployment
    china = stack(partition="aws-cn", region="cn-north-1", ProtectWithScp="yes").resource("GuardPolicy")
    assert china["Content"]["Statement"][-1]["Resource"] == [
        "arn:aws-cn:iam::*:role/AWSCloudFormationStackSetExecutionRole"
    ]


IN = "us-east-1:123456789012"


@pytest.mark.parametrize(
    ("resource", "actions"),
    [
        ("iam::123456789012:policy/force-mfa", "iam:CreatePolicyVersion iam:SetDefaultPolicyVersion iam:DeletePolicy"),
        ("iam::123456789012:group/force-mfa-overflow", "iam:DetachGroupPolicy iam:PutGroupPolicy iam:DeleteGroup"),
        ("iam::123456789012:role/force-mfa-function", "iam:PutRolePolicy iam:PutRolePermissionsBoundary iam:PassRole"),
        ("iam::123456789012:role/force-mfa-function", "iam:UpdateAssumeRolePolicy iam:DeleteRole"),
        (f"events:{IN}:rule/force-mfa-sweep", "events:DisableRule events:RemoveTargets events:PutRule"),
        (f"lambda:{IN}:function:force-mfa", "lambda:UpdateFunctionCode lambda:PutFunctionConcurrency"),
        (f"lambda:{IN}:function:force-mfa", "lambda:UpdateFunctionConfiguration lambda:PutRuntimeManagementConfig"),
        (f"lambda:{IN}:function:force-mfa:$LATEST", "lambda:PutFunctionEventInvokeConfig"),
        (f"lambda:{IN}:function:force-mfa:$LATEST", "lambda:DeleteFunctionEventInvokeConfig lambda:RemovePermission"),
        (f"sqs:{IN}:force-mfa-failures", "sqs:DeleteQueue sqs:SetQueueAttributes"),
        (f"logs:{IN}:log-group:/aws/lambda/force-mfa", "logs:DeleteLogGroup"),
        (f"logs:{IN}:log-group:/aws/lambda/force-mfa:log-stream:a", "logs:DeleteLogStream"),
        (f"cloudwatch:{IN}:alarm:force-mfa-uncovered", "cloudwatch:DeleteAlarms cloudwatch:DisableAlarmActions"),
        ("iam::123456789012:role/security-operator", "iam:CreateRole iam:UpdateAssumeRolePolicy"),
    ],
)
def test_the_guard_leaves_no_way_around(resource, actions):
    for action in actions.split():
        assert denied(action, f"arn:aws:{resource}"), action


@pytest.mark.parametrize(
    ("resource", "action"),
    [
        (f"lambda:{IN}:function:force-mfa", "lambda:InvokeFunction"),
        (f"lambda:{IN}:function:force-mfa-report", "lambda:UpdateFunctionCode"),
        (f"sqs:{IN}:force-mfa-failures", "sqs:ReceiveMessage"),
        (f"sqs:{IN}:force-mfa-failures", "sqs:DeleteMessage"),
        (f"logs:{IN}:log-group:/aws/lambda/force-mfa:log-stream:a", "logs:PutLogEvents"),
        (f"logs:{IN}:log-group:/aws/lambda/force-mfa-report", "logs:DeleteLogGroup"),
        ("iam::123456789012:role/developer", "iam:PassRole"),
    ],
)
def test_the_guard_leaves_the_rest_alone(resource, action):
    assert not denied(action, f"arn:aws:{resource}")


def denied(action, resource):
    """Whether the guard denies it to whom it does not except."""

    def meant(patterns, text):
        return any(fnmatchcase(text, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))

    guard = stack(ProtectWithScp="yes", ScpExemptRole="security-operator").resource("GuardPolicy")
    statements = guard["Content"]["Statement"]
    return any(meant(s["Action"], action) and meant(s["Resource"], resource) for s in statements)


def test_users_can_still_be_deleted_under_the_guard():
    guard = stack(ProtectWithScp="yes").resource("GuardPolicy")
    text = json.dumps(guard["Content"])

    for action in ("iam:DetachUserPolicy", "iam:RemoveUserFromGroup", "iam:AttachUserPolicy", "iam:AddUserToGroup"):
        assert action not in text


def test_the_example_of_a_parameter_file_is_one():
    path = cfn.ROOT / "infra" / "organization-parameters.example.json"
    example = json.loads(path.read_text(encoding="utf-8"))

    given = cfn.Stack(TEMPLATE, **example)
    assert given.refused() == []
    assert all(isinstance(value, str) for value in example.values())
