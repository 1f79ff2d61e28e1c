"""The table at the end: every account that is not current, why, and what to do."""

import collections

from stack_set_operations import NO_REASON

# What CloudFormation's reason says, in small letters, and what to do about it.
ADVICE = {
    # AWS checks names before it deploys, and says which one only in the account (docs.aws.amazon.com/AWSCloudFormation/
    # latest/UserGuide/validate-stack-deployments.html).
    "validation failed": "Most often the policy or group of an earlier installation: docs/rollout.md#install-again",
    "already exists": "The policy or group of an earlier installation is still there: docs/rollout.md#install-again",
    "explicit deny": "An SCP denies it: let arn:aws:iam::*:role/stacksets-exec-* pass",
    "not authorized": "An SCP or a boundary denies it: let arn:aws:iam::*:role/stacksets-exec-* pass",
    "accessdenied": "An SCP or a boundary denies it: let arn:aws:iam::*:role/stacksets-exec-* pass",
}
BY_STATUS = {
    "SUCCEEDED": "Run make deploy-org",
    "INOPERABLE": "Delete the instance (delete-stack-instances with RetainStacks), then the stack in the account",
    "CANCELLED": "The operation stopped before this account: fix the failed ones",
    "RUNNING": "Wait: make rollout-status",
    # Stays so if an update is sent to other accounts only:
    # https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/1751
    "PENDING": "Run make deploy-org, if no operation is running (make rollout-status)",
}


def advice(detailed, reason):
    by_reason = [todo for words, todo in ADVICE.items() if words in reason.lower()] if detailed == "FAILED" else []
    return (by_reason or [BY_STATUS.get(detailed, "Read the stack's events in that account, and fix the cause")])[0]


def show(rollout):
    """Prints the table, and what stands in AWS beside the file. Whether anything is not as it should be."""
    is_behind = rollout.installation.definition is None
    if is_behind:
        print(f"{rollout.installation.name}: there is no StackSet yet.")
    for stack_set in (rollout.installation, rollout.auditor):
        if stack_set.definition:
            is_behind |= show_accounts(rollout, stack_set)
    is_behind |= show_left_over(rollout.file, rollout.left_over(), "make deploy-org")
    if rollout.canary:
        others = rollout.installation.accounts - rollout.canary
        waiting = sorted(rollout.installation.override_differences(others))
        if waiting:
            print(f"  {', '.join(waiting)} wait for their overrides, as CANARY=1 meant.")
    for account, what in without_overrides(rollout):
        print(f"{account} {what}: run make deploy-org.")
        is_behind = True
    return is_behind


def show_left_over(file, left_over, command):
    """Prints what stands in AWS beside the file. Whether there is anything."""
    left_over = list(left_over)
    for what, remove in left_over:
        todo = f" {command} REMOVE=1 deletes it." if remove else " docs/rollout.md#take-accounts-out"
        print(f"Not in {file}, but still there: {what}.{todo}")
    return bool(left_over)


def without_overrides(rollout):
    """Accounts whose overrides are not those of the file, as far as this run was for them."""
    installation = rollout.installation
    differing = installation.override_differences(installation.accounts & (rollout.canary or installation.accounts))
    for account in sorted(differing):
        yield account, "does not have the overrides that the file gives to it"
    # Accounts that joined since the overrides were read have the stack, but not their overrides.
    rollout.organization.below_unit.clear()
    for account in sorted(rollout.resolved_overrides().keys() - installation.overrides_wanted.keys()):
        yield account, "joined meanwhile and does not have its overrides yet"


def show_accounts(rollout, stack_set):
    """Prints each account that is not current, below its state, CloudFormation's reason and what to do: hundreds of
    accounts can be cancelled because of one that failed, which comes first. Whether there is any."""
    groups, waiting = collections.defaultdict(list), 0
    for account in sorted(stack_set.accounts):
        instance = stack_set.instances.get(account, {})
        status = instance.get("Status", "NO STACK")
        detailed = instance.get("StackInstanceStatus", {}).get("DetailedStatus", "")
        if status == "CURRENT":
            continue
        is_meant = status == "NO STACK" or (status == "OUTDATED" and detailed in ("SUCCEEDED", "PENDING"))
        if is_meant and stack_set is rollout.installation and account not in (rollout.canary or stack_set.accounts):
            waiting += 1
            continue
        reason = " ".join(instance.get("StatusReason", "").split()) or NO_REASON
        todo = advice(detailed, reason) if instance else "Run make deploy-org"
        groups[detailed != "FAILED", f"{status} {detailed}".strip(), reason, todo].append(account)
    current = sum(i["Status"] == "CURRENT" for a, i in stack_set.instances.items() if a in stack_set.accounts)
    print(f"{stack_set.name}: {current} of {len(stack_set.accounts)} accounts are current.")
    for (_, state, reason, todo), accounts in sorted(groups.items()):
        print(f"  {state}: {reason}\n    Fix: {todo}")
        for account in accounts:
            print(f"      {account}  {rollout.names.get(account, '')}".rstrip())
    if waiting:
        print(f"  {waiting} accounts wait for the release, as CANARY=1 meant. make deploy-org gives it to them.")
    return bool(groups)
