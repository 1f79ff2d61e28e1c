"""An organization in memory that answers STS, Organizations, CloudFormation and S3 over HTTP, for the roll-out.

It keeps to what AWS documents: which call takes what, what an operation does to the instances, what the bucket's policy
refuses. Tests change its state, let calls fail, and read in `calls` what was sent. Moto answers StackSet calls, but
does none of it: no units, no tolerance, no overrides."""

import base64
import functools
import hashlib
import itertools
import json
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from moto.core.parse import QueryParser
from moto.core.serialize import QuerySerializer
from moto.core.utils import get_service_model as load_service_model

import templates

MANAGEMENT, SECURITY = "111111111111", "222222222222"
ROOT, WORK, SANDBOX, LATER = "r-abcd", "ou-abcd-workwork", "ou-abcd-sandboxes", "ou-abcd-laterlater"
REGION, BUCKET = "us-east-1", "force-mfa-organization-artifactbucket-1"
TOPIC = f"arn:aws:sns:{REGION}:{SECURITY}:force-mfa-organization-alarms"
get_service_model = functools.cache(load_service_model)
READS = ("Describe", "Get", "Head", "List")


class AwsError(Exception):
    def __init__(self, code, message="", status=400):
        super().__init__(message or code)
        self.code, self.message, self.status = code, message or code, status


@dataclass
class Instance:
    unit: str
    overrides: dict = field(default_factory=dict)
    template: str = ""
    parameters: dict = field(default_factory=dict)
    history: list = field(default_factory=list)  # the parameters that the stack had, one after the other
    status: str = "OUTDATED"
    detailed: str = "PENDING"
    reason: str = ""


@dataclass
class StackSet:
    template: str
    parameters: dict
    tags: dict
    auto_deployment: dict
    instances: dict = field(default_factory=dict)
    units: set = field(default_factory=set)
    operations: dict = field(default_factory=dict)

    def effective(self, account):
        """The parameters that the account's stack has."""
        return self.instances[account].parameters


@dataclass
class Operation:
    action: str
    work: list  # (account, function that does it)
    preferences: dict
    status: str = "RUNNING"
    results: dict = field(default_factory=dict)


class AwsStandIn:
    def __init__(self):
        # Unit, parent, accounts directly in it.
        self.units = {
            ROOT: [MANAGEMENT],
            WORK: [SECURITY, "333333333333", "444444444444"],
            SANDBOX: ["555555555555"],
            LATER: [],
        }
        self.parents = {WORK: ROOT, SANDBOX: ROOT, LATER: WORK}
        self.states = {}
        self.access = "ENABLED"
        self.stacks = {}  # (account, name)
        self.stack_sets = {}
        self.objects = {}  # (bucket, key): bytes
        self.calls, self.all_calls = [], []
        self.faults = {}  # operation: list of errors, one a call; the last one stays if it is not None
        self.failing = {}  # account: reason why its stack cannot be deployed
        # Whether an instance has the overrides of an operation that failed for it. AWS does not document it.
        self.keeps_overrides_of_failures = False
        self.hooks = {}  # operation: called before it, once
        self.stack_status = "CREATE_COMPLETE"  # of stacks that are created
        # The events of each stack, the newest first: resource, status, reason.
        self.events = [("Policy", "CREATE_FAILED", "it already exists")]
        self.validation_errors = []  # resource, reason
        self.steps = 2  # how many looks an operation takes
        self.numbers = itertools.count(1)
        self.lock = threading.RLock()

    # ------------------------------------------------------------------------------------------- HTTP

    def start(self):
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one packet: two of them cost a delayed acknowledgement of 40 ms at each call.
            wbufsize = -1
            disable_nagle_algorithm = True

            def handle_expect_100(self):
                done = super().handle_expect_100()
                self.wfile.flush()
                return done

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, content = stand_in.handle(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def handle(self, method, path, headers, body):
        credential = headers["Authorization"].split("Credential=")[1].split(",")[0].split("/")
        key, service = credential[0], credential[3]
        caller = {"AKIAMANAGEMENT": MANAGEMENT, "AKIASECURITY": SECURITY}[key]
        with self.lock:
            if service == "s3":
                return self.handle_s3(caller, method, path, headers, body)
            if service == "organizations":
                operation = headers["X-Amz-Target"].split(".")[1]
                try:
                    answer = self.call(caller, service, operation, json.loads(body))
                except AwsError as error:
                    return error.status, {}, json.dumps({"__type": error.code, "message": error.message}).encode()
                return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()
            values = {name: value[0] for name, value in parse_qs(body.decode(), keep_blank_values=True).items()}
            model = get_service_model(service).operation_model(values["Action"])
            parameters = QueryParser(model).parse(
                {"values": values, "method": "POST", "headers": {}, "body": b"", "url_path": "/"}
            )
            try:
                answer = self.call(caller, service, values["Action"], parameters)
            except AwsError as error:
                text = f"<ErrorResponse><Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error></ErrorResponse>"
                return error.status, {"Content-Type": "text/xml"}, text.encode()
            content = QuerySerializer(model).serialize(answer)["body"]
            return 200, {"Content-Type": "text/xml"}, content.encode() if isinstance(content, str) else content

    def handle_s3(self, caller, method, path, headers, body):
        url = urlsplit(path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = parse_qs(url.query)
        operation = {"HEAD": "HeadObject", "PUT": "PutObject", "GET": "GetObject" if key else "ListObjectsV2"}[method]
        parameters = {"Bucket": bucket, "Key": key, "IfNoneMatch": headers.get("If-None-Match")}
        parameters |= {
            "Checksum": headers.get("x-amz-checksum-sha256"),
            "Body": body,
            "Prefix": query.get("prefix", [""])[0],
        }
        try:
            return self.call(caller, "s3", operation, parameters)
        except AwsError as error:
            return (
                error.status,
                {},
                f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>".encode(),
            )

    def call(self, caller, service, operation, parameters):
        self.all_calls.append((operation, parameters))
        hook = self.hooks.pop(operation, None)
        if hook:
            hook()
        errors = self.faults.get(operation)
        if errors:
            error = errors.pop(0) if len(errors) > 1 else errors[0]
            if error is None and errors == [None]:
                del self.faults[operation]
            if error:
                raise error
        if not operation.startswith(READS):
            self.calls.append(
                (operation, {k: v for k, v in parameters.items() if k not in ("OperationId", "ClientRequestToken")})
            )
        return getattr(self, operation)(caller, **parameters)

    def sent(self, operation):
        return [parameters for name, parameters in self.calls if name == operation]

    # --------------------------------------------------------------------------------------- identities

    def GetCallerIdentity(self, caller):
        return {"Account": caller, "Arn": f"arn:aws:sts::{caller}:assumed-role/operator/alice", "UserId": "AROA:alice"}

    def DescribeOrganization(self, caller):
        return {"Organization": {"Id": "o-exampleorgid", "MasterAccountId": MANAGEMENT}}

    def ListRoots(self, caller):
        return {"Roots": [{"Id": ROOT}]}

    def ListAccountsForParent(self, caller, ParentId, NextToken="0", MaxResults=20):
        if ParentId not in self.units:
            raise AwsError("ParentNotFoundException", "You specified parent that doesn't exist.")
        # One account a page: a listing that is cut short shows.
        accounts, start = self.units[ParentId], int(NextToken)
        page = [
            {"Id": a, "Name": f"account {a[:3]}", "State": self.states.get(a, "ACTIVE")}
            for a in accounts[start : start + 1]
        ]
        return {"Accounts": page, **({"NextToken": str(start + 1)} if start + 1 < len(accounts) else {})}

    def ListChildren(self, caller, ParentId, ChildType):
        return {
            "Children": [{"Id": unit, "Type": ChildType} for unit, parent in self.parents.items() if parent == ParentId]
        }

    def below(self, unit):
        found = list(self.units[unit])
        for child, parent in self.parents.items():
            if parent == unit:
                found += self.below(child)
        return [account for account in found if account != MANAGEMENT]

    def join(self, account, unit):
        """An account joins a unit: automatic deployment gives it the newest definition, and no overrides."""
        self.units[unit].append(account)
        for stack_set in self.stack_sets.values():
            if any(account in self.below(target) for target in stack_set.units):
                target = next(target for target in stack_set.units if account in self.below(target))
                stack_set.instances[account] = Instance(target)
                self.deploy(stack_set, account)

    # ------------------------------------------------------------------------------------------- stacks

    def DescribeOrganizationsAccess(self, caller, CallAs="SELF"):
        self.check_call_as(caller, CallAs)
        return {"Status": self.access}

    def DescribeStacks(self, caller, StackName):
        stack = self.stacks.get((caller, StackName))
        if stack is None:
            raise AwsError("ValidationError", f"Stack with id {StackName} does not exist")
        return {"Stacks": [{k: v for k, v in stack.items() if k != "Template"}]}

    def GetTemplate(self, caller, StackName):
        return {"TemplateBody": self.stacks[caller, StackName]["Template"]}

    def CreateStack(self, caller, StackName, **given):
        if (caller, StackName) in self.stacks:
            raise AwsError("AlreadyExistsException")
        self.put_stack(caller, StackName, self.stack_status, given)
        return {"StackId": StackName}

    def UpdateStack(self, caller, StackName, **given):
        before = self.stacks[caller, StackName]
        after = given.get("Parameters", []), given.get("Tags", [])
        if templates.parse(self.template(given)) == templates.parse(before["Template"]) and after == (before["Parameters"], before["Tags"]):
            raise AwsError("ValidationError", "No updates are to be performed.")
        self.put_stack(caller, StackName, "UPDATE_COMPLETE", given)
        return {"StackId": StackName}

    def DeleteStack(self, caller, StackName):
        del self.stacks[caller, StackName]
        return {}

    def DescribeStackEvents(self, caller, StackName, NextToken="0"):
        # One event a page.
        place = int(NextToken)
        resource, status, reason = self.events[place]
        event = {
            "StackId": "1",
            "EventId": str(place),
            "StackName": StackName,
            "Timestamp": datetime.now(timezone.utc),
            "LogicalResourceId": resource,
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
        }
        more = {"NextToken": str(place + 1)} if place + 1 < len(self.events) else {}
        return {"StackEvents": [event], **more}

    def DescribeEvents(self, caller, StackName, Filters):
        assert Filters == {"FailedEvents": True}
        assert (caller, StackName) in self.stacks
        events = [
            {"EventType": "VALIDATION_ERROR", "LogicalResourceId": resource, "ValidationStatusReason": reason}
            for resource, reason in self.validation_errors
        ]
        return {"OperationEvents": events}

    def put_stack(self, caller, name, status, given):
        template = self.template(given)
        outputs = {}
        if name.endswith("-organization"):
            outputs = {"ArtifactBucket": BUCKET, "AlarmTopicArn": TOPIC}
            self.objects.setdefault((BUCKET, ""), b"")
        self.stacks[caller, name] = {
            "StackName": name,
            "StackStatus": status,
            "CreationTime": datetime.now(timezone.utc),
            "Template": template,
            "Parameters": given.get("Parameters", []),
            "Tags": given.get("Tags", []),
            "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        }
        self.check_parameters(template, given)

    def template(self, given):
        assert "CAPABILITY_NAMED_IAM" in given["Capabilities"]
        if "TemplateBody" in given:
            assert len(given["TemplateBody"]) <= 51200
            return given["TemplateBody"]
        bucket, key = given["TemplateURL"].removeprefix("https://").split(f".s3.{REGION}.amazonaws.com/")
        return self.objects[bucket, key].decode()

    def check_parameters(self, template, given):
        known = templates.parse(template)["Parameters"]
        names = {p["ParameterKey"] for p in given.get("Parameters", [])}
        missing = {name for name, one in known.items() if "Default" not in one} - names
        if missing or names - set(known):
            raise AwsError(
                "ValidationError", f"Parameters: [{missing}] must have values, {names - set(known)} do not exist"
            )

    # ---------------------------------------------------------------------------------------- StackSets

    def check_call_as(self, caller, call_as):
        if (caller == MANAGEMENT) != (call_as == "SELF"):
            raise AwsError(
                "ValidationError", "You must be the management account or delegated admin account of an organization"
            )

    def stack_set(self, caller, name, call_as):
        self.check_call_as(caller, call_as)
        if name not in self.stack_sets:
            raise AwsError("StackSetNotFoundException", f"StackSet {name} not found", 404)
        return self.stack_sets[name]

    def CreateStackSet(self, caller, StackSetName, CallAs="SELF", **given):
        self.check_call_as(caller, CallAs)
        assert given["PermissionModel"] == "SERVICE_MANAGED"
        template = self.template(given)
        self.check_parameters(template, given)
        self.stack_sets[StackSetName] = StackSet(
            template, pairs(given["Parameters"]), tags(given), given["AutoDeployment"]
        )
        return {"StackSetId": f"{StackSetName}:1"}

    def DescribeStackSet(self, caller, StackSetName, CallAs="SELF"):
        one = self.stack_set(caller, StackSetName, CallAs)
        parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in one.parameters.items()]
        listed = [{"Key": k, "Value": v} for k, v in one.tags.items()]
        return {
            "StackSet": {
                "StackSetName": StackSetName,
                "Status": "ACTIVE",
                "TemplateBody": one.template,
                "Parameters": parameters,
                "Tags": listed,
                "AutoDeployment": one.auto_deployment,
            }
        }

    def ListStackInstances(self, caller, StackSetName, CallAs="SELF", NextToken="0"):
        one = self.stack_set(caller, StackSetName, CallAs)
        instances = [
            {"Account": account, "Region": REGION, "Status": i.status, "StatusReason": i.reason, "OrganizationalUnitId": i.unit, "StackInstanceStatus": {"DetailedStatus": i.detailed}}
            for account, i in one.instances.items()
        ]  # fmt: skip
        start = int(NextToken)
        return {
            "Summaries": instances[start : start + 2],
            **({"NextToken": str(start + 2)} if start + 2 < len(instances) else {}),
        }

    def DescribeStackInstance(self, caller, StackSetName, StackInstanceAccount, StackInstanceRegion, CallAs="SELF"):
        one = self.stack_set(caller, StackSetName, CallAs)
        assert StackInstanceRegion == REGION
        if StackInstanceAccount not in one.instances:
            raise AwsError("StackInstanceNotFoundException", f"Stack instance of {StackInstanceAccount} not found", 404)
        instance = one.instances[StackInstanceAccount]
        overrides = [{"ParameterKey": k, "ParameterValue": v} for k, v in instance.overrides.items()]
        return {
            "StackInstance": {
                "Account": StackInstanceAccount,
                "Region": REGION,
                "Status": instance.status,
                "OrganizationalUnitId": instance.unit,
                "ParameterOverrides": overrides,
            }
        }

    def ListStackSetAutoDeploymentTargets(self, caller, StackSetName, CallAs="SELF"):
        one = self.stack_set(caller, StackSetName, CallAs)
        return {"Summaries": [{"OrganizationalUnitId": unit, "Regions": [REGION]} for unit in sorted(one.units)]}

    def ListStackSetOperations(self, caller, StackSetName, CallAs="SELF"):
        one = self.stack_set(caller, StackSetName, CallAs)
        return {
            "Summaries": [
                {"OperationId": key, "Status": o.status, "Action": o.action} for key, o in one.operations.items()
            ]
        }

    def UpdateStackSet(self, caller, StackSetName, CallAs="SELF", **given):
        one = self.stack_set(caller, StackSetName, CallAs)
        if "DeploymentTargets" in given and ("AutoDeployment" in given or "Regions" not in given):
            raise AwsError("ValidationError", "AutoDeployment and DeploymentTargets, or no Regions")
        template = self.template(given)
        self.check_parameters(template, given)
        # "If the update includes changes to the template (that is, if TemplateBody or TemplateURL is specified), or the
        # Parameters, CloudFormation marks all stack instances with a status of OUTDATED". They are also PENDING, and
        # stay so if the update is not for them (aws-cloudformation/cloudformation-coverage-roadmap#1751).
        for instance in one.instances.values():
            if instance.status != "INOPERABLE":
                instance.status, instance.detailed = "OUTDATED", "PENDING"
        one.template, one.parameters, one.tags = template, pairs(given["Parameters"]), tags(given)
        one.auto_deployment = given.get("AutoDeployment", one.auto_deployment)
        # "Stacks in this state are excluded from further UpdateStackSet operations."
        accounts = [a for a, i in one.instances.items() if i.status != "INOPERABLE" and self.is_active(a)]
        if "DeploymentTargets" in given:
            accounts = self.targeted(one, given["DeploymentTargets"])
            self.need_instances(one, accounts)
        return self.operate(one, "UPDATE", given, [(account, self.deploy) for account in accounts])

    def CreateStackInstances(self, caller, StackSetName, CallAs="SELF", ParameterOverrides=None, **given):
        one = self.stack_set(caller, StackSetName, CallAs)
        overrides = self.overrides(one, ParameterOverrides)
        assert given["Regions"] == [REGION]
        targets = given["DeploymentTargets"]
        if "Accounts" in targets and "AccountFilterType" not in targets:
            raise AwsError("ValidationError", "AccountFilterType must be specified")
        one.units |= set(targets["OrganizationalUnitIds"])
        accounts = self.targeted(one, targets)
        for account in accounts:
            unit = next(u for u in targets["OrganizationalUnitIds"] if account in self.below(u))
            one.instances.setdefault(account, Instance(unit))
        deploy = self.deployment_with(overrides)
        return self.operate(one, "CREATE", given, [(account, deploy) for account in accounts])

    def UpdateStackInstances(self, caller, StackSetName, CallAs="SELF", ParameterOverrides=None, **given):
        one = self.stack_set(caller, StackSetName, CallAs)
        accounts = self.targeted(one, given["DeploymentTargets"])
        self.need_instances(one, accounts)
        overrides = self.overrides(one, ParameterOverrides)
        deploy = self.deployment_with(overrides)
        return self.operate(one, "UPDATE", given, [(account, deploy) for account in accounts])

    def overrides(self, one, listed):
        if listed == []:
            raise AwsError("ValidationError", "an empty list")
        # "You can only override the parameter values that are specified in the StackSet."
        unknown = pairs(listed or []).keys() - one.parameters.keys()
        if unknown:
            raise AwsError("ValidationError", f"Parameters {unknown} are not specified in the StackSet")
        return None if listed is None else pairs(listed)

    def deployment_with(self, overrides):
        """With overrides, a parameter that is not among them goes back to the StackSet's value; with None all stay."""

        def deploy(stack_set, account):
            instance = stack_set.instances[account]
            before = instance.overrides
            instance.overrides = before if overrides is None else overrides
            reason = self.deploy(stack_set, account)
            if reason and not self.keeps_overrides_of_failures:
                instance.overrides = before
            return reason

        return deploy

    def DeleteStackInstances(self, caller, StackSetName, CallAs="SELF", RetainStacks=False, **given):
        one = self.stack_set(caller, StackSetName, CallAs)
        targets = given["DeploymentTargets"]
        # An instance of a suspended account can only be taken out of the StackSet.
        targeted = self.targeted(one, targets, suspended=RetainStacks)
        accounts = [account for account in targeted if account in one.instances]
        if targets.get("AccountFilterType", "NONE") == "NONE":
            one.units -= set(targets["OrganizationalUnitIds"])

        def delete(stack_set, account):
            if account in self.failing:
                stack_set.instances[account].status = stack_set.instances[account].detailed = "INOPERABLE"
                return self.failing[account]
            del stack_set.instances[account]
            return None

        return self.operate(one, "DELETE", given, [(account, delete) for account in accounts])

    def DeleteStackSet(self, caller, StackSetName, CallAs="SELF"):
        if self.stack_set(caller, StackSetName, CallAs).instances:
            raise AwsError("StackSetNotEmptyException")
        del self.stack_sets[StackSetName]
        return {}

    def targeted(self, one, targets, suspended=False):
        units = targets["OrganizationalUnitIds"]
        # A unit that is no target any more still counts while it has a stack: an INOPERABLE one can be deleted by its unit
        # (repost.aws/knowledge-center/cloudformation-removal-stacksets).
        unknown = set(units) - one.units - {instance.unit for instance in one.instances.values()}
        if unknown:
            raise AwsError("ValidationError", f"OrganizationalUnits {unknown} not found in StackSet")
        accounts, named = [a for unit in units for a in self.below(unit)], targets.get("Accounts", [])
        kept = {
            "NONE": accounts,
            "INTERSECTION": [a for a in accounts if a in named],
            "DIFFERENCE": [a for a in accounts if a not in named],
        }[targets.get("AccountFilterType", "NONE")]
        return [account for account in dict.fromkeys(kept) if suspended or self.is_active(account)]

    def is_active(self, account):
        return self.states.get(account, "ACTIVE") == "ACTIVE"

    def need_instances(self, one, accounts):
        if set(accounts) - set(one.instances):
            raise AwsError("StackInstanceNotFoundException", f"{set(accounts) - set(one.instances)}", 404)

    def deploy(self, stack_set, account):
        instance = stack_set.instances[account]
        if account in self.failing:
            instance.status, instance.detailed, instance.reason = "OUTDATED", "FAILED", self.failing[account]
            return self.failing[account]
        instance.template, instance.parameters = stack_set.template, stack_set.parameters | instance.overrides
        instance.history.append(instance.parameters)
        instance.status, instance.detailed, instance.reason = "CURRENT", "SUCCEEDED", ""
        return None

    def operate(self, one, action, given, work):
        operation = f"operation-{next(self.numbers)}"
        one.operations[operation] = Operation(action, work, given["OperationPreferences"])
        one.operations[operation].results = {account: ("PENDING", "") for account, _ in work}
        one.operations[operation].looks = 0
        return {"OperationId": operation}

    def DescribeStackSetOperation(self, caller, StackSetName, OperationId, CallAs="SELF"):
        one = self.stack_set(caller, StackSetName, CallAs)
        operation = one.operations[OperationId]
        operation.looks += 1
        share = len(operation.work) if operation.looks >= self.steps else len(operation.work) // 2
        tolerated = len(operation.results) * operation.preferences["FailureTolerancePercentage"] // 100
        for account, work in operation.work[:share]:
            if operation.results[account][0] != "PENDING":
                continue
            failed = sum(status == "FAILED" for status, _ in operation.results.values())
            if failed > tolerated:
                operation.results[account] = ("CANCELLED", "Cancelled since failure tolerance has exceeded")
                if account in one.instances:
                    one.instances[account].detailed = "CANCELLED"
                continue
            reason = work(one, account)
            operation.results[account] = ("FAILED", reason) if reason else ("SUCCEEDED", "")
        if operation.looks >= self.steps:
            failed = sum(status == "FAILED" for status, _ in operation.results.values())
            operation.status = "FAILED" if failed > tolerated else "SUCCEEDED"
        return {
            "StackSetOperation": {"OperationId": OperationId, "Action": operation.action, "Status": operation.status}
        }

    def ListStackSetOperationResults(self, caller, StackSetName, OperationId, CallAs="SELF"):
        results = self.stack_set(caller, StackSetName, CallAs).operations[OperationId].results
        return {
            "Summaries": [
                {"Account": a, "Region": REGION, "Status": s, "StatusReason": r} for a, (s, r) in results.items()
            ]
        }

    # ----------------------------------------------------------------------------------------------- S3

    def HeadObject(self, caller, Bucket, Key, **_):
        if (Bucket, Key) not in self.objects:
            raise AwsError("404", status=404)
        return 200, {"x-amz-checksum-sha256": checksum(self.objects[Bucket, Key]), "Content-Length": "1"}, b""

    def GetObject(self, caller, Bucket, Key, **_):
        if (Bucket, Key) not in self.objects:
            raise AwsError("NoSuchKey", status=404)
        return 200, {}, self.objects[Bucket, Key]

    def ListObjectsV2(self, caller, Bucket, Prefix, **_):
        keys = sorted(key for bucket, key in self.objects if bucket == Bucket and key.startswith(Prefix) and key)
        items = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
        return 200, {}, f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()

    def PutObject(self, caller, Bucket, Key, IfNoneMatch, Checksum, Body, **_):
        if IfNoneMatch != "*":
            raise AwsError("AccessDenied", "explicit deny in the bucket's policy", 403)
        if (Bucket, Key) in self.objects:
            raise AwsError("PreconditionFailed", status=412)
        if Checksum and Checksum != checksum(Body):
            raise AwsError("BadDigest")
        self.objects[Bucket, Key] = Body
        return 200, {}, b""


def checksum(body):
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def pairs(parameters):
    return {p["ParameterKey"]: p["ParameterValue"] for p in parameters}


def tags(given):
    return {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])}
