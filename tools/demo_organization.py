"""`make demo-organization`: an organization of 40 accounts on an emulator, as an auditor sees it.

The emulator is moto, inside this process, with some corrections: it refuses the role of
one account, because moto lets everybody assume every role; its credential report is of
now, not of 2015; users have an age; and account ids are none that AWS gives. Then
`force-mfa status --organization` reads it: as a table here, and as a page for a browser.

It listens on the loopback interface only. Exit status: 0 all as expected, else 1.
Usage: demo_organization.py [PROGRAM PAGE]
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
from moto.iam.models import iam_backends
from moto.iam.responses import IamResponse
from moto.organizations import utils
from moto.server import ThreadedMotoServer
from moto.sts.exceptions import STSClientError
from moto.sts.models import STSBackend

from demo import target_directory
from emulator import POLICY, TEMPLATE, templates

REGION = "us-east-1"
# Organizational units, each below the one before the slash.
UNITS = ["workloads", "workloads/production", "workloads/production/europe", "workloads/test", "sandboxes"]
TEAMS = "billing catalog checkout data-platform identity logistics mobile network payments pricing search".split()
PEOPLE = "alice bob carol dave erin frank grace heidi ivan judy ken laura".split()
NOW = datetime.now(timezone.utc)
INSTALLED = NOW - timedelta(days=40)


class Organization:
    """Creates accounts and what is in them."""

    def __init__(self, url: str):
        self.url = url
        self.organizations = self.client("organizations")
        self.organizations.create_organization(FeatureSet="ALL")
        self.units = {"": self.organizations.list_roots()["Roots"][0]["Id"]}
        for path in UNITS:
            above, _, name = path.rpartition("/")
            unit = self.organizations.create_organizational_unit(ParentId=self.units[above], Name=name)
            self.units[path] = unit["OrganizationalUnit"]["Id"]
        self.accounts: dict[str, str] = {}
        self.count = 0

    def client(self, service: str, **credentials: str):
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **credentials)

    def account(self, name: str, unit: str) -> None:
        email = f"{name}@example.com"
        status = self.organizations.create_account(AccountName=name, Email=email)["CreateAccountStatus"]
        account = self.accounts[name] = status["AccountId"]
        self.organizations.move_account(
            AccountId=account, SourceParentId=self.units[""], DestinationParentId=self.units[unit]
        )

    def inside(self, name: str, service: str):
        """A client that acts in the account."""
        if name not in self.accounts:
            return self.client(service)
        role = f"arn:aws:iam::{self.accounts[name]}:role/setup"
        given = self.client("sts").assume_role(RoleArn=role, RoleSessionName="setup")["Credentials"]
        return self.client(
            service,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )

    def install(self, name: str, **parameters: str) -> None:
        """The template's policy, as a stack."""
        template = templates.parse(TEMPLATE.read_text())
        defaults = {key: "unused" for key, it in template["Parameters"].items() if "Default" not in it}
        stack = {
            "Parameters": template["Parameters"],
            "Conditions": template["Conditions"],
            "Resources": {
                key: {"Type": resource["Type"], "Properties": resource["Properties"]}
                for key, resource in template["Resources"].items()
                if resource["Type"] == "AWS::IAM::ManagedPolicy"
            },
            "Outputs": {key: template["Outputs"][key] for key in ("PolicyArn", "Release") if key in template["Outputs"]},
        }
        self.inside(name, "cloudformation").create_stack(
            StackName=POLICY,
            TemplateBody=json.dumps(stack),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in (defaults | parameters).items()
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        arn = f"arn:aws:iam::{self.number(name)}:policy/{POLICY}"
        self.backend(name).managed_policies[arn].create_date = INSTALLED

    def users(self, name: str, number: int, covered: int, path: str = "/") -> None:
        """Users with a password, of whom so many have the policy. Two of three have MFA."""
        iam = self.inside(name, "iam")
        for place in range(number):
            person = PEOPLE[(self.count + place) % len(PEOPLE)]
            user = person if path == "/" else f"{path.strip('/')}-{place + 1}"
            if user in (it.name for it in self.backend(name).users.values()):
                user = f"{user}.{place}"
            iam.create_user(UserName=user, Path=path)
            iam.create_login_profile(UserName=user, Password="An-example-only-1")
            if (self.count + place) % 3:
                device = iam.create_virtual_mfa_device(VirtualMFADeviceName=user)["VirtualMFADevice"]["SerialNumber"]
                iam.enable_mfa_device(
                    UserName=user, SerialNumber=device, AuthenticationCode1="123456", AuthenticationCode2="654321"
                )
            if place < covered:
                policy = f"arn:aws:iam::{self.number(name)}:policy/{POLICY}"
                iam.attach_user_policy(UserName=user, PolicyArn=policy)
            # Who has the policy came after the installation, and the others before.
            stored = next(it for it in self.backend(name).users.values() if it.name == user)
            stored.create_date = NOW - timedelta(days=20 if place < covered else 400)
        self.count += number

    def number(self, name: str) -> str:
        return self.accounts.get(name, "123456789012")

    def backend(self, name: str):
        return iam_backends[self.number(name)]["aws"]


def correct_moto(refused: set[str]) -> None:
    assume_role, report = STSBackend.assume_role, IamResponse.get_credential_report

    def assume(self, *arguments, **named):
        account = named["role_arn"].split(":")[4]
        if account in refused:
            raise STSClientError("AccessDenied", f"You are not authorized to perform sts:AssumeRole on {named['role_arn']}")
        return assume_role(self, *arguments, **named)

    def report_of_now(self):
        answer = report(self)
        answer.result["GeneratedTime"] = (NOW - timedelta(minutes=37)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return answer

    STSBackend.assume_role, IamResponse.get_credential_report = assume, report_of_now
    ids = itertools.count(1)
    utils.make_random_account_id = lambda: f"{next(ids):012}"


def create(organization: Organization) -> None:
    """40 accounts: the management account, and 39 others."""
    for team in TEAMS:
        organization.account(f"{team}-production", "workloads/production/europe" if team < "m" else "workloads/production")
        organization.account(f"{team}-test", "workloads/test")
    for number in range(1, 15):
        organization.account(f"sandbox-{number}", "sandboxes")
    for name, unit in [("acquired-shop", "workloads"), ("legacy-erp", "workloads"), ("closed-trial", "sandboxes")]:
        organization.account(name, unit)
    assert len(organization.accounts) == 39, len(organization.accounts)

    organization.install("")
    organization.users("", 2, 2)
    for place, name in enumerate(organization.accounts):
        if name in ("acquired-shop", "closed-trial"):
            continue
        if name in ("legacy-erp", "sandbox-13"):
            organization.users(name, 9 if name == "legacy-erp" else 2, 0)
            continue
        service = name.endswith("-production") and place % 4 == 0
        organization.install(name, **({"ExemptPaths": "/service/"} if service else {}))
        if service:
            organization.users(name, 2, 0, path="/service/")
        users = 4 + place * 7 % 9
        organization.users(name, users, users - (place % 11 == 0) * 3 - (place % 7 == 2))
    organization.organizations.close_account(AccountId=organization.accounts["closed-trial"])


def main() -> int:
    # A name and a key that cannot be of anybody; nothing of this goes further than the loopback interface.
    os.environ |= {"AWS_ACCESS_KEY_ID": "example", "AWS_SECRET_ACCESS_KEY": "example", "AWS_EC2_METADATA_DISABLED": "true"}
    for variable in [name for name in os.environ if name.startswith(("AWS_PROFILE", "AWS_SESSION", "FORCE_MFA_", "MOTO_"))]:
        del os.environ[variable]
    # The server writes a line for each call, and moto does not know the error of `correct_moto`.
    logging.getLogger("werkzeug").disabled = True
    warnings.filterwarnings("ignore", module="moto")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    print("Creating an organization of 40 accounts on an emulator ...", flush=True)
    refused: set[str] = set()
    correct_moto(refused)
    organization = Organization(url)
    create(organization)
    refused.add(organization.accounts["acquired-shop"])

    built = target_directory() / "debug" / "force-mfa"
    program, page = sys.argv[1:] if sys.argv[1:] else (built, target_directory() / "organization.html")
    status = [program, "--endpoint-url", url, "status", "--organization"]
    print("\n$ force-mfa status --organization --uncovered\n", flush=True)
    table = subprocess.run([*status, "--uncovered"], check=False)
    print("\n$ force-mfa status --organization --format html --output organization.html\n", flush=True)
    written = subprocess.run([*status, "--format", "html", "--output", page], check=False)
    print(f"\nOpen this page in a browser: {page}")
    # 1: somebody is uncovered, an account cannot be read, and two have no stack.
    return int((table.returncode, written.returncode) != (1, 1))


if __name__ == "__main__":
    sys.exit(main())
