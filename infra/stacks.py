"""One CloudFormation stack: read, created or updated if anything differs, waited for, deleted."""

from aws_calls import RolloutError, explained
from botocore.exceptions import ClientError, WaiterError

# Nothing can be updated in these: what CloudFormation left has to be deleted first.
FAILED_CREATION = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
NO_UPDATE = "No updates are to be performed"


def read(aws, name):
    """The stack; None if there is none. An error if it cannot be changed now."""
    answer = aws.read("cloudformation", "describe_stacks", StackName=name)
    if answer is None:
        return None
    stack = answer["Stacks"][0]
    status = stack["StackStatus"]
    # "The stack will be in the REVIEW_IN_PROGRESS state until you execute the change set." It has "no template or
    # resources" (API reference, CreateChangeSet).
    if status == "REVIEW_IN_PROGRESS":
        raise RolloutError(
            f"The stack {name} is in REVIEW_IN_PROGRESS: somebody created a change set for a new stack and did not "
            "execute it. Execute the change set (aws cloudformation list-change-sets "
            f"--region {aws.region} --stack-name {name} shows it), or delete the stack, which has no resources (aws "
            f"cloudformation delete-stack --region {aws.region} --stack-name {name}). Then run this again."
        )
    if status in FAILED_CREATION:
        raise RolloutError(
            f"The stack {name} is in {status}. Read its events for the cause, delete it (aws cloudformation "
            f"delete-stack --region {aws.region} --stack-name {name}), then run this again."
        )
    if status == "UPDATE_ROLLBACK_FAILED":
        raise RolloutError(
            f"The stack {name} is in UPDATE_ROLLBACK_FAILED: an update failed, and so did the way back. Read its events "
            "for the cause, fix it, continue the way back (aws cloudformation continue-update-rollback --region "
            f"{aws.region} --stack-name {name}), then run this again."
        )
    if status.endswith("_IN_PROGRESS") and status != "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS":
        raise RolloutError(
            f"The stack {name} is being changed ({status}). Wait until that is done, then run this again."
        )
    return stack


def outputs(stack):
    return {output["OutputKey"]: output["OutputValue"] for output in (stack or {}).get("Outputs", [])}


class Deployment:
    """A stack as it is. All reads are made here, so that `deploy` only changes."""

    def __init__(self, aws, name):
        self.aws, self.name, self.stack = aws, name, read(aws, name)
        self.template = self.stack and aws.read("cloudformation", "get_template", StackName=name)["TemplateBody"]

    def deploy(self, wanted, poll_seconds):
        """Creates or updates the stack and returns its outputs."""
        if self.stack and wanted.is_same(self.template, self.stack):
            print(f"{self.name}: the stack is up to date.")
            return outputs(self.stack)
        operation = "update_stack" if self.stack else "create_stack"
        print(f"{self.name}: {operation.replace('_', ' ')} ...", flush=True)
        try:
            self.aws.change("cloudformation", operation, wanted.files, StackName=self.name, **wanted.request)
        except RolloutError as error:
            # CloudFormation compares what it would change, not the text: a new comment in a template is no update. It
            # refuses the call in these words, for which the AWS CLI's `deploy` looks too (its deployer.py).
            if NO_UPDATE not in str(error):
                raise
            print(f"{self.name}: the stack is up to date.")
            return outputs(self.stack)
        if not self.aws.dry_run:
            wait(self.aws, self.name, f"stack_{operation.split('_')[0]}_complete", poll_seconds)
            self.stack = read(self.aws, self.name)
        return outputs(self.stack)

    def delete(self, poll_seconds):
        print(f"{self.name}: delete stack ...", flush=True)
        self.aws.change("cloudformation", "delete_stack", StackName=self.name)
        if not self.aws.dry_run:
            wait(self.aws, self.name, "stack_delete_complete", poll_seconds)
            self.stack = None


def wait(aws, name, condition, poll_seconds):
    try:
        # Stacks of force-mfa take minutes; after a day the credentials have expired anyway.
        config = {"Delay": poll_seconds, "MaxAttempts": 86400 // max(int(poll_seconds), 1)}
        aws.client("cloudformation").get_waiter(condition).wait(StackName=name, WaiterConfig=config)
    except WaiterError as error:
        if "Error" in error.last_response:  # We could not look; the stack goes on.
            raise explained(ClientError(error.last_response, "DescribeStacks")) from error
        reason = first_failure(aws.pages("cloudformation", "describe_stack_events", "StackEvents", StackName=name))
        if not reason or "Validation failed" in reason:
            reason = validation_errors(aws, name) or reason
        done = "deleted" if condition == "stack_delete_complete" else "deployed"
        raise RolloutError(
            f"The stack {name} could not be {done}.{reason or f' {error}'} Fix it, then run this again."
        ) from error


def validation_errors(aws, name):
    """What CloudFormation found before it deployed anything, such as a policy of that name. The stack's own events only
    say that there is something (docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/validate-stack-deployments.html)."""
    events = aws.pages(
        "cloudformation", "describe_events", "OperationEvents", StackName=name, Filters={"FailedEvents": True}
    )
    errors = [e for e in events if e["EventType"] == "VALIDATION_ERROR" and e.get("ValidationFailureMode") != "WARN"]
    return "".join(f" {e.get('LogicalResourceId', name)}: {e.get('ValidationStatusReason', '')}." for e in errors)


def first_failure(events):
    """What failed first in the newest operation on a stack, and why. The events are of all operations, the newest
    first ("in reverse chronological order"); each operation begins with an event whose reason is "User Initiated"."""
    reason = ""
    for event in events:
        says = event.get("ResourceStatusReason", "")
        if says == "User Initiated":
            break
        # What CloudFormation cancelled because of another failure is no cause.
        if event["ResourceStatus"].endswith("_FAILED") and "ancelled" not in says:
            reason = f" {event['LogicalResourceId']}: {says}"
    return reason
