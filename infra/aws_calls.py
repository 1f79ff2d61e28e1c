"""Calls to AWS: reads, whose failures are never taken for "nothing there", and changes, which a dry run prints."""

import json
import os
import shlex
from pathlib import Path

import boto3
from botocore import exceptions

# IAM's events reach EventBridge in one region of each partition, and the function is there.
HOME_REGIONS = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}
# The answers that say "does not exist". CloudFormation has no code of its own for a stack; HEAD has no body.
ABSENT = {
    "describe_stacks": ("ValidationError", "does not exist"),
    "describe_stack_set": ("StackSetNotFoundException", ""),
    "describe_stack_instance": ("StackInstanceNotFoundException", ""),
    "get_object": ("NoSuchKey", ""),
    "head_object": ("404", ""),
}
SIGN_IN = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "RequestExpired",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
DENIED = {"403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
PASSING = {
    "InternalFailure", "PriorRequestNotComplete", "RequestLimitExceeded", "ServiceException", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip


class RolloutError(Exception):
    """The run cannot go on. The exit codes are those of the command `force-mfa`."""

    exit_code = 1


class WrongUsage(RolloutError):
    """Wrong usage or the wrong account. Nothing was done."""

    exit_code = 2


class NotAllowed(RolloutError):
    """No credentials, or they may not."""

    exit_code = 3


class OperationInProgress(RolloutError):
    """Another operation on the StackSet is running: AWS takes this call when it has ended."""


class UnitNotFound(RolloutError):
    """There is no such organizational unit."""


class Passing(RolloutError):
    """AWS could not answer just now: throttled, not reachable, or an error of its own."""


class Aws:
    """One account with its credentials, in the home region of its partition."""

    def __init__(self, dry_run=False):
        os.environ.setdefault("AWS_RETRY_MODE", "standard")
        os.environ.setdefault("AWS_MAX_ATTEMPTS", "10")
        self.dry_run = dry_run
        self.clients = {}
        try:
            self.session = boto3.Session()
        except exceptions.ProfileNotFound as error:
            raise NotAllowed(f"{error}. Correct AWS_PROFILE.") from error
        # To ask whose credentials these are, any region will do that the partition has.
        self.region = self.session.region_name or HOME_REGIONS["aws"]
        caller = self.read("sts", "get_caller_identity")
        self.account, self.caller = caller["Account"], caller["Arn"]
        self.partition = self.caller.split(":")[1]
        if self.partition not in HOME_REGIONS:
            raise WrongUsage(
                f"These credentials are of the partition {self.partition}, whose home region is not known here."
            )
        self.region = HOME_REGIONS[self.partition]
        self.clients.clear()

    def client(self, service):
        if service not in self.clients:
            self.clients[service] = self.session.client(service, region_name=self.region)
        return self.clients[service]

    def read(self, service, operation, **parameters):
        """The answer; None only if AWS says that there is no such thing."""
        try:
            return getattr(self.client(service), operation)(**parameters)
        except exceptions.ClientError as error:
            code, text = ABSENT.get(operation, ("", ""))
            if code == error.response["Error"]["Code"] and text in str(error):
                return None
            raise explained(error) from error
        except exceptions.BotoCoreError as error:
            raise explained(error) from error

    def pages(self, service, operation, key, **parameters):
        """All items of all pages. One page that cannot be had is an error, never a shorter list."""
        client = self.client(service)
        if not client.can_paginate(operation):  # botocore knows no paginator for it.
            items, more = [], {}
            while True:
                page = self.read(service, operation, **parameters, **more)
                items += page.get(key, [])
                if not page.get("NextToken"):
                    return items
                more = {"NextToken": page["NextToken"]}
        try:
            pages = client.get_paginator(operation).paginate(**parameters)
            return [item for page in pages for item in page.get(key, [])]
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            raise explained(error) from error

    def change(self, service, operation, files=None, **parameters):
        """Makes a call that changes something; in a dry run prints it as a command and returns nothing.
        `files` are parameters whose value is a file's content."""
        files = files or {}
        if self.dry_run:
            print(self.as_command(service, operation, files, parameters))
            return {}
        content = {
            name: path.read_bytes() if name == "Body" else path.read_text("utf-8") for name, path in files.items()
        }
        try:
            return getattr(self.client(service), operation)(**parameters, **content)
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            raise explained(error) from error

    def as_command(self, service, operation, files, parameters):
        words = ["aws", "s3api" if service == "s3" else service, operation.replace("_", "-"), "--region", self.region]
        for name, path in files.items():
            path = os.path.relpath(path, Path.cwd())
            words += ["--body", path] if name == "Body" else ["--template-body", f"file://{path}"]
        return shlex.join([*words, "--cli-input-json", json.dumps(parameters)])


# botocore's errors that are no answer of AWS.
NOT_SIGNED_IN = (
    exceptions.CredentialRetrievalError,
    exceptions.LoginError,
    exceptions.NoAuthTokenError,
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.ProfileNotFound,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
    exceptions.UnknownCredentialError,
    exceptions.UnknownTokenProviderError,
)
NETWORK = (exceptions.ConnectionError, exceptions.HTTPClientError)


def explained(error):
    """The error by its meaning: which call, what AWS answered, what to do."""
    if not isinstance(error, exceptions.ClientError):
        said = str(error).rstrip(".")
        if isinstance(error, NOT_SIGNED_IN):
            return NotAllowed(f"{said}. Sign in (aws sso login, aws login), or set AWS_PROFILE, then run it again.")
        if isinstance(error, NETWORK):
            return Passing(f"{said}. Check the network, then run the same command again.")
        return RolloutError(f"{said}. Correct it, then run it again.")
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{error.operation_name} failed with {code}: {message}".rstrip(".")
    if code in SIGN_IN:
        return NotAllowed(f"{said}. The credentials have expired or are not valid: sign in, then run it again.")
    if code in DENIED:
        return NotAllowed(f"{said}. Allow the caller {error.operation_name}, then run it again.")
    if code in PASSING or status >= 500:
        return Passing(f"{said}. Run the same command again in some minutes.")
    if code in ("OperationInProgressException", "StaleRequestException"):
        return OperationInProgress(
            f"{said}. Another operation is running: run the same command again when it has ended."
        )
    if code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return RolloutError(f"{said}. Somebody else wrote this object at the same time: run the same command again.")
    if code == "ParentNotFoundException":
        return UnitNotFound(f"{said}.")
    if "delegated admin" in message.lower():
        return WrongUsage(
            f"{said}. In the management account, register this one: aws organizations register-delegated-administrator "
            "--service-principal member.org.stacksets.cloudformation.amazonaws.com --account-id ACCOUNT. If it is "
            "registered, allow the caller organizations:ListDelegatedAdministrators: without it, CloudFormation says the "
            "same. It also says so if trusted access was not turned on first: aws cloudformation "
            "describe-organizations-access."
        )
    return RolloutError(f"{said}.")
