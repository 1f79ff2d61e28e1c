"""An IAM emulator for the demo: moto, with a proxy in front of it for what moto lacks.

The proxy refuses AttachUserPolicy for users whose quota is full, because moto has no
quotas, and it writes the credential report from the users that there are, because
moto's report is one fixed text of 2015.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import secrets
import sys
from datetime import datetime, timezone
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import boto3

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "infra"))
import templates  # noqa: E402

TEMPLATE = ROOT / "infra" / "template.yaml"
ACCOUNT_ID = "123456789012"
POLICY = "force-mfa"
GROUP = "force-mfa-overflow"
POLICY_ARN = f"arn:aws:iam::{ACCOUNT_ID}:policy/{POLICY}"
# The stack's outputs that the operator's command reads.
OUTPUTS = ("PolicyArn", "OverflowGroupName", "Release")

# Columns of a credential report:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html
KEY_COLUMNS = "active last_rotated last_used_date last_used_region last_used_service"
COLUMNS = [
    *"user arn user_creation_time password_enabled password_last_used".split(),
    *"password_last_changed password_next_rotation mfa_active".split(),
    *(f"access_key_{key}_{it}" for key in (1, 2) for it in KEY_COLUMNS.split()),
    *(f"cert_{cert}_{it}" for cert in (1, 2) for it in ("active", "last_rotated")),
]


class Emulator:
    """One account. `url` is the proxy's address, which stands for every AWS service."""

    def __init__(self, moto: str):
        """Puts the proxy in front of the moto server at this address."""
        self.moto = moto
        self.iam = boto3.client("iam", endpoint_url=moto)
        self.full_users: set[str] = set()
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        proxy.daemon_threads = True
        Thread(target=proxy.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{proxy.server_address[1]}"

    def install(self, parameters: dict[str, str]) -> None:
        """Creates the template's policy, as a stack, and the overflow group."""
        template = templates.parse(TEMPLATE.read_text())
        stack = {
            "Parameters": template["Parameters"],
            "Conditions": template["Conditions"],
            "Resources": {
                name: {key: resource[key] for key in ("Type", "Properties")}
                for name, resource in template["Resources"].items()
                if resource["Type"] == "AWS::IAM::ManagedPolicy"
            },
            "Outputs": {
                name: template["Outputs"][name]
                for name in OUTPUTS
                if name in template["Outputs"]
            },
        }
        # The parameters without a default are about the function's code.
        code = {
            name: "unused.zip"
            for name, parameter in template["Parameters"].items()
            if "Default" not in parameter
        }
        given = [
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in (code | parameters).items()
        ]
        boto3.client("cloudformation", endpoint_url=self.moto).create_stack(
            StackName=POLICY,
            TemplateBody=json.dumps(stack),
            Parameters=given,
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        # moto's CloudFormation has no groups.
        self.iam.create_group(GroupName=GROUP)
        self.iam.attach_group_policy(GroupName=GROUP, PolicyArn=POLICY_ARN)

    def create_user(self, user: dict) -> None:
        """Creates a user as events/account.json describes one."""
        name = user["name"]
        tags = [{"Key": k, "Value": v} for k, v in user.get("tags", {}).items()]
        self.iam.create_user(UserName=name, Path=user.get("path", "/"), Tags=tags)
        if user.get("password"):
            self.give_password(name)
        if user.get("mfa"):
            device = self.iam.create_virtual_mfa_device(VirtualMFADeviceName=name)
            self.iam.enable_mfa_device(
                UserName=name,
                SerialNumber=device["VirtualMFADevice"]["SerialNumber"],
                AuthenticationCode1="123456",
                AuthenticationCode2="654321",
            )
        if user.get("policy"):
            self.iam.attach_user_policy(UserName=name, PolicyArn=POLICY_ARN)
        if user.get("quota_full"):
            self.full_users.add(name)

    def give_password(self, name: str) -> None:
        self.iam.create_login_profile(UserName=name, Password=secrets.token_urlsafe(24))

    def coverage(self) -> dict[str, str]:
        """Who has the policy: user name to `direct` or `group`."""
        holders = self.iam.list_entities_for_policy(PolicyArn=POLICY_ARN)
        covered = {}
        for group in holders["PolicyGroups"]:
            members = self.iam.get_group(GroupName=group["GroupName"])["Users"]
            covered |= {member["UserName"]: "group" for member in members}
        return covered | {user["UserName"]: "direct" for user in holders["PolicyUsers"]}

    def credential_report(self) -> str:
        text = io.StringIO()
        report = csv.DictWriter(text, COLUMNS, restval="N/A", lineterminator="\n")
        report.writeheader()
        for user in self.iam.list_users()["Users"]:
            name = user["UserName"]
            try:
                profile = self.iam.get_login_profile(UserName=name)["LoginProfile"]
            except self.iam.exceptions.NoSuchEntityException:
                profile = None
            devices = self.iam.list_mfa_devices(UserName=name)["MFADevices"]
            row = {column: "false" for column in COLUMNS if column.endswith("_active")}
            row |= {
                "user": name,
                "arn": user["Arn"],
                "user_creation_time": iso(user["CreateDate"]),
                "password_enabled": "true" if profile else "false",
                "mfa_active": "true" if devices else "false",
            }
            if profile:
                changed = iso(profile["CreateDate"])
                row |= {"password_last_changed": changed, "password_last_used": "no_information"}
            report.writerow(row)
        return text.getvalue()


def iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")


def handler_for(emulator: Emulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_call(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = {key: values[0] for key, values in parse_qs(body.decode("latin-1")).items()}
            status, kind, answer = self.answer_of_ours(call) or self.answer_of_moto(body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = handle_call

        def answer_of_ours(self, call: dict) -> tuple[int, str, bytes] | None:
            action = call.get("Action")
            if action == "AttachUserPolicy" and call.get("UserName") in emulator.full_users:
                return xml(409, error("LimitExceeded", "Cannot exceed quota for PoliciesPerUser: 10"))
            if action == "GenerateCredentialReport":
                return xml(200, result(action, "<State>COMPLETE</State>"))
            if action == "GetCredentialReport":
                content = base64.b64encode(emulator.credential_report().encode()).decode()
                now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
                inner = (
                    f"<Content>{content}</Content><ReportFormat>text/csv</ReportFormat>"
                    f"<GeneratedTime>{now}</GeneratedTime>"
                )
                return xml(200, result(action, inner))
            return None

        def answer_of_moto(self, body: bytes) -> tuple[int, str, bytes]:
            moto = HTTPConnection(emulator.moto.removeprefix("http://"), timeout=30)
            try:
                moto.request(self.command, self.path, body, dict(self.headers))
                response = moto.getresponse()
                kind = response.getheader("Content-Type", "text/xml")
                return response.status, kind, response.read()
            finally:
                moto.close()

        def log_message(self, *_: object) -> None:
            """The demo has its own lines."""

    return Handler


def xml(status: int, text: str) -> tuple[int, str, bytes]:
    return status, "text/xml", text.encode()


def result(action: str, inner: str) -> str:
    return (
        f'<{action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><{action}Result>{inner}'
        f"</{action}Result><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>"
    )


def error(code: str, message: str) -> str:
    return (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        f"<RequestId>0</RequestId></ErrorResponse>"
    )
