"""The operations on one StackSet: each is started, watched until it ends, and its failures are shown as they come.

The quotations in this file and in stack_sets.py are of AWS's API reference, as botocore has it."""

import collections
import itertools
import time

from aws_calls import OperationInProgress, Passing, RolloutError

NO_REASON = "CloudFormation gives no reason"
# How often a call is made that AWS refuses because another operation is running.
START_ATTEMPTS = 10


class OperationFailed(RolloutError):
    """CloudFormation stopped the operation: more accounts failed than are tolerated, or somebody stopped it."""


class Operations:
    """The calls that change a StackSet. AWS runs one operation after the other."""

    def __init__(self, aws, name, options):
        self.aws, self.name, self.poll_seconds = aws, name, options["poll_seconds"]
        self.itself = {"StackSetName": name, "CallAs": options["call_as"]}
        self.preferences = {
            "FailureTolerancePercentage": options["failure_tolerance_percentage"],
            "MaxConcurrentPercentage": options["max_concurrent_percentage"],
        }

    def in_region(self, targets):
        """What an operation on stacks takes: DeploymentTargets, the home region, and how many may fail."""
        return {"DeploymentTargets": targets, "Regions": [self.aws.region], "OperationPreferences": self.preferences}

    def start(self, operation, files=None, **request):
        """The id of the operation; None in a dry run, and for a call that is no operation."""
        for attempt in itertools.count(1):
            try:
                answer = self.aws.change("cloudformation", operation, files, **self.itself, **request)
                return answer.get("OperationId")
            except OperationInProgress as error:
                if attempt == START_ATTEMPTS:
                    raise
                print(f"  {error}", flush=True)
                # An automatic deployment has begun. The list is "eventually consistent" and may not have it yet.
                running = self.running()
                if running:
                    self.wait_for_other_operation(running)
                else:
                    time.sleep(self.poll_seconds)

    def running(self):
        """The id of an operation that has not ended; None if there is none."""
        operations = self.aws.pages("cloudformation", "list_stack_set_operations", "Summaries", **self.itself)
        running = [o["OperationId"] for o in operations if o["Status"] in ("RUNNING", "QUEUED", "STOPPING")]
        return running[0] if running else None

    def progress(self, operation):
        """How far the operation is in words, each account that failed with the reason, and how many accounts it has."""
        results = self.aws.pages(
            "cloudformation", "list_stack_set_operation_results", "Summaries", **self.itself, OperationId=operation
        )
        count = collections.Counter(result["Status"] for result in results)
        done = count["SUCCEEDED"] + count["FAILED"] + count["CANCELLED"]
        failed = {r["Account"]: r.get("StatusReason", "") for r in results if r["Status"] == "FAILED"}
        return f"{done} of {len(results)} accounts, {count['FAILED']} failed", failed, len(results)

    def wait_for_other_operation(self, operation):
        """Waits for an automatic deployment or an operation of another run. If it fails, this run goes on."""
        try:
            self.wait(operation)
        except OperationFailed as error:
            print(f"{error} Going on: this run tries again.", flush=True)

    def wait(self, operation):
        """Shows how far the operation is until it ends. The operation itself does not depend on this."""
        last_line, shown, count = "", set(), 0
        while True:
            try:
                status = self.aws.read(
                    "cloudformation", "describe_stack_set_operation", **self.itself, OperationId=operation
                )["StackSetOperation"]
                progress, failed, count = self.progress(operation)
            except Passing as error:
                print(f"  {error}")  # The operation goes on meanwhile.
                time.sleep(self.poll_seconds)
                continue
            for account in sorted(failed.keys() - shown):
                print(f"  {account} failed: {failed[account]}", flush=True)
            shown |= failed.keys()
            if progress != last_line:
                print(f"  {progress}", flush=True)
                last_line = progress
            if status["Status"] in ("FAILED", "STOPPED"):
                reason = status.get("StatusReason", "")
                raise OperationFailed(
                    f"{self.name}: the operation {status['Status'].lower()} ({progress}). {reason}".strip()
                )
            if status["Status"] == "SUCCEEDED":
                return
            # One page of results has 100 accounts: of many accounts we ask less often.
            time.sleep(self.poll_seconds * (1 + count // 100))
