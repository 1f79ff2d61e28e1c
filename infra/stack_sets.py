"""A service-managed StackSet, driven by API calls: defined, and brought to the accounts that it is for.

As a resource of a stack, one failed account would roll all others back, failures under the tolerance would pass
unnoticed, and a canary could not be told apart."""

import sys

import overrides
import templates
from stack_set_operations import NO_REASON, OperationFailed, Operations

# "If set to true, stack resources are retained when an account is removed from a target organization or OU": an
# account that is moved must not lose the function.
AUTO_DEPLOYMENT = {"Enabled": True, "RetainStacksOnAccountRemoval": True}


class StackSet:
    """A StackSet as it is when it is read, and after each operation."""

    def __init__(self, aws, name, options, units, everybody, excluded=(), active=()):
        self.aws, self.name = aws, name
        self.operations = Operations(aws, name, options)
        self.itself = self.operations.itself
        # `everybody` are all accounts below the units, each with its unit; `accounts` those that get a stack.
        self.units, self.unit_of, self.excluded = set(units), everybody, set(excluded)
        self.everybody = set(everybody)
        self.accounts = self.everybody - self.excluded
        # All active accounts that we know, also outside of the units.
        self.active = self.everybody | set(active)
        # The overrides that accounts should have, and those that they have, of the accounts that may have some.
        self.overrides_wanted, self.overrides_now = {}, {}
        self.read()

    def read(self):
        answer = self.aws.read("cloudformation", "describe_stack_set", **self.itself)
        self.definition = answer and answer["StackSet"]
        self.instances, self.target_units, self.overrides_now = {}, set(), {}
        if self.definition:
            self.read_instances()
            pages = self.aws.pages(
                "cloudformation", "list_stack_set_auto_deployment_targets", "Summaries", **self.itself
            )
            self.target_units = {page["OrganizationalUnitId"] for page in pages}

    def read_instances(self):
        summaries = self.aws.pages("cloudformation", "list_stack_instances", "Summaries", **self.itself)
        self.instances = {summary["Account"]: summary for summary in summaries}
        self.overrides_now = {a: has for a, has in self.overrides_now.items() if a in self.instances}
        self.read_overrides(self.overrides_wanted.keys() - self.overrides_now.keys())

    def want_overrides(self, wanted):
        """Tells which overrides accounts should have (none: an empty mapping), and reads those that they have."""
        self.overrides_wanted = wanted
        self.read_overrides(wanted)

    def read_overrides(self, accounts):
        """What the accounts have. Only DescribeStackInstance shows it, one account a call, so we do not ask for all."""
        for account in sorted(self.instances.keys() & accounts):
            answer = self.aws.read(
                "cloudformation", "describe_stack_instance", **self.itself,
                StackInstanceAccount=account, StackInstanceRegion=self.aws.region,
            )  # fmt: skip
            listed = answer["StackInstance"].get("ParameterOverrides", []) if answer else []
            found = {one["ParameterKey"]: one["ParameterValue"] for one in listed}
            # `override` sends the name's prefix to an account that has no overrides.
            self.overrides_now[account] = {n: v for n, v in found.items() if (n, v) != ("NamePrefix", self.name)}

    def overrides_of(self, accounts):
        """The overrides of those accounts that an operation can change. Of an INOPERABLE one: "Stacks in this state are
        excluded from further UpdateStackSet operations." """
        return {
            account: self.overrides_now[account]
            for account in self.overrides_now.keys() & accounts
            if self.instances[account]["Status"] != "INOPERABLE"
        }

    def differences(self, wanted, canary=None):
        """What the StackSet does not have of `wanted`, in words; with `canary`, of what such a run brings."""
        if self.definition is None:
            yield f"the StackSet {self.name}, which does not exist"
            return
        differing = wanted.differences(self.definition["TemplateBody"], self.definition)
        if differing:
            yield f"{', '.join(differing)} of the StackSet {self.name}"
        if not self.is_auto():
            yield f"automatic deployment of the StackSet {self.name}"
        if canary is None and self.units - self.target_units:
            yield f"the units of the StackSet {self.name}, which lack {', '.join(sorted(self.units - self.target_units))}"

    def is_auto(self):
        return AUTO_DEPLOYMENT.items() <= self.definition.get("AutoDeployment", {}).items()

    def not_current(self):
        return {account for account, instance in self.instances.items() if instance["Status"] != "CURRENT"}

    def outside(self):
        """The active accounts that have a stack, although they are not among those that get one."""
        return self.instances.keys() & self.active - self.accounts

    def created_first(self, canary=None):
        """Accounts whose stack is created before the definition is updated, since an update that is not for all must be
        sent to at least one stack: canary accounts, or one account if only accounts that left the file have stacks."""
        missing = self.accounts - self.instances.keys()
        if self.definition is None:
            return set()
        if canary is not None:
            return missing & canary
        is_none_there = self.outside() and missing == self.accounts
        return set(sorted(missing)[:1]) if is_none_there else set()

    def bring(self, wanted, canary=None):
        """The definition to what it should be, and a stack with its overrides to every account; with `canary` to those
        accounts only. Returns the failures."""
        scope = self.accounts if canary is None else self.accounts & canary
        self.wait_for_running_operation()
        if self.definition is None:
            print(f"{self.name}: create StackSet ...", flush=True)
            self.operations.start(
                "create_stack_set", wanted.files, PermissionModel="SERVICE_MANAGED", AutoDeployment=AUTO_DEPLOYMENT,
                # Operations that conflict are queued, as automatic deployments may be under way.
                ManagedExecution={"Active": True}, **wanted.request,
            )  # fmt: skip
            if not self.aws.dry_run:
                self.read()
            return self.create(scope, wanted.parameters)
        # "You can only override the parameter values that are specified in the StackSet."
        present = {p["ParameterKey"]: p["ParameterValue"] for p in self.definition.get("Parameters", [])}
        pinned = overrides.pinned(self.definition["TemplateBody"], present, wanted.parameters)
        failures = []
        first = self.created_first(canary)
        if first:
            failures = self.create(first, present, pinned)
            if failures:
                return failures
        for_all, wanted_overrides = wanted.parameters, self.overrides_wanted
        to_send = overrides.before_update(self.overrides_of(scope), wanted_overrides, for_all, present, pinned)
        failures += self.override(to_send)
        # The update leaves out two kinds of accounts. These could not be given their overrides: the update would give
        # them other values than the file, which may be stricter. The overrides that are sent after it deploy both.
        unprotected = overrides.not_as_wanted(self.overrides_of(scope), wanted_overrides, for_all, present)
        # Accounts that were excluded, or whose unit was taken out of the file, keep their stacks as they are until
        # REMOVE=1.
        is_for_some = canary is not None or self.outside() or unprotected
        targets = scope & (self.instances.keys() - unprotected) if is_for_some else None
        failed = self.update(wanted, targets)
        if failed:
            return failures + failed
        failures += self.override(self.override_differences(scope))
        if canary is None:
            # The definition first: if the older release is what fails in the missing accounts, the new one is the cure.
            failures += self.create(scope, wanted.parameters)
        return failures

    def override_differences(self, accounts):
        return overrides.differences(self.overrides_of(accounts), self.overrides_wanted)

    def update(self, wanted, accounts):
        """The definition, and with it all stacks, or those of `accounts` only: the others stay as they are, OUTDATED.
        "Repeating this StackSet operation with a new operation ID retries all stack instances whose status is
        OUTDATED." A template that is sent makes all others OUTDATED, also if it is the same. Returns the failures."""
        behind = self.not_current() & (self.accounts if accounts is None else accounts)
        is_auto = self.is_auto()
        if wanted.is_same(self.definition["TemplateBody"], self.definition) and is_auto and not behind:
            print(f"{self.name}: the StackSet is up to date.")
            return []
        if accounts is not None and not accounts:
            return [
                OperationFailed(
                    f"{self.name}: the StackSet was not updated, since no account of this run has a stack that can be "
                    "updated. Fix the failures above. If all stacks are of accounts that left the file, add an account "
                    "to the file, or delete these stacks with REMOVE=1."
                )
            ]
        request = wanted.request | {"OperationPreferences": self.operations.preferences}
        if accounts is not None:
            request |= self.operations.in_region(self.only(accounts))
        elif not is_auto:
            # "If you specify AutoDeployment, don't specify DeploymentTargets or Regions."
            request |= {"AutoDeployment": AUTO_DEPLOYMENT}
        few = accounts is not None and len(accounts) <= 10
        some = ", ".join(sorted(accounts)) if few else number_of(accounts or ())
        who = "all stacks" if accounts is None else f"the stacks of {some}"
        print(f"{self.name}: update {who} ...", flush=True)
        return self.attempt("update_stack_set", request, wanted.files)

    def create(self, accounts, names, pinned=None):
        """Stacks where they are missing, with their overrides of the parameters `names`, and with `pinned` where these
        give no value. The call also makes its units targets of automatic deployment. Returns the failures."""
        missing, failures = accounts - set(self.instances), []
        wanted = {
            account: (pinned or {}) | overrides.of_template(self.overrides_wanted.get(account, {}), names)
            for account in missing
        }
        for parameters, group in overrides.grouped(wanted):
            print(f"{self.name}: create stacks in {number_of(group)} with {in_words(parameters)} ...", flush=True)
            # Accounts that join just now must not get the overrides of others, so the accounts are named.
            targets = intersection(self.units, group) if parameters else self.targets(group)
            request = self.operations.in_region(targets)
            if parameters:
                request |= {"ParameterOverrides": templates.as_list(parameters)}
            failures += self.attempt("create_stack_instances", request)
            if self.aws.dry_run:  # So that what follows is shown too.
                self.instances |= {
                    account: {"Status": "CURRENT", "OrganizationalUnitId": self.unit_of[account]} for account in group
                }
                self.overrides_now |= dict.fromkeys(self.overrides_wanted.keys() & group, parameters)
        if not missing and accounts == self.accounts and self.units - self.target_units:
            units = sorted(self.units - self.target_units)
            print(f"{self.name}: {', '.join(units)}: deploy to accounts that join ...", flush=True)
            targets = {"OrganizationalUnitIds": units, "AccountFilterType": "NONE"}
            if self.excluded:
                targets |= {"Accounts": sorted(self.excluded), "AccountFilterType": "DIFFERENCE"}
            failures += self.attempt("create_stack_instances", self.operations.in_region(targets))
        return failures

    def override(self, to_send):
        """Sends overrides to accounts that have a stack; an account that is sent none follows the parameters for all.
        Overrides belong to the instance and survive updates. Returns the failures."""
        failures = []
        for parameters, group in overrides.grouped(to_send):
            print(f"{self.name}: give {number_of(group)} {in_words(parameters)} ...", flush=True)
            # "To set an overridden parameter back to the value specified in the StackSet, specify a parameter list but
            # don't include the parameter in the list." AWS does not document what an empty list means for boto3, which
            # sends it as an empty value. NamePrefix is the same in all accounts.
            listed = templates.as_list(parameters or {"NamePrefix": self.name})
            request = self.operations.in_region(self.only(group)) | {"ParameterOverrides": listed}
            failures += self.attempt("update_stack_instances", request)  # The next group is other accounts.
            # AWS does not document what an account has after a failure.
            if self.aws.dry_run:  # So that what follows is shown as a run would send it.
                self.overrides_now |= dict.fromkeys(group, parameters)
                self.instances |= {account: self.instances[account] | {"Status": "CURRENT"} for account in group}
            else:
                self.read_overrides(group)
        return failures

    def remove(self, accounts=(), units=(), retain=False):
        """Deletes the stacks of some accounts, or of whole units, which ends automatic deployment to them."""
        if units:
            targets = {"OrganizationalUnitIds": sorted(units), "AccountFilterType": "NONE"}
        else:
            targets = self.only(accounts)
        print(f"{self.name}: delete stacks of {', '.join(sorted(accounts or units))} ...", flush=True)
        self.operate("delete_stack_instances", self.operations.in_region(targets) | {"RetainStacks": retain})
        self.target_units -= set(units)
        if self.aws.dry_run:
            self.instances = {
                account: instance
                for account, instance in self.instances.items()
                if account not in accounts and instance.get("OrganizationalUnitId") not in units
            }

    def only(self, accounts):
        """DeploymentTargets for some accounts, each of which has a stack. An operation takes units that are targets
        only, so the accounts are named beside them. A unit of the file may not be a target yet; these are, as "the
        organization root ID or organizational unit (OU) IDs that you specified for DeploymentTargets"."""
        units = {self.instances[account].get("OrganizationalUnitId") for account in accounts} - {None}
        return intersection(units or self.units, accounts)

    def targets(self, accounts):
        """The same for accounts without a stack. These may be nearly all, so the shorter list is named: the accounts
        that are meant, or those that are not."""
        units, others = sorted(self.units), self.everybody - accounts
        if not others:
            return {"OrganizationalUnitIds": units, "AccountFilterType": "NONE"}
        if len(accounts) <= len(others):
            return intersection(self.units, accounts)
        return {"OrganizationalUnitIds": units, "Accounts": sorted(others), "AccountFilterType": "DIFFERENCE"}

    def attempt(self, operation, request, files=None):
        """An operation whose failure is returned, in a list."""
        try:
            self.operate(operation, request, files)
        except OperationFailed as error:
            return [error]
        return []

    def operate(self, operation, request, files=None):
        """Starts an operation and waits for it. Afterwards the instances are read again."""
        started = self.operations.start(operation, files, **request)
        if started is None:
            return
        try:
            self.operations.wait(started)
        except OperationFailed:
            self.read_instances()
            raise
        self.read_instances()

    def delete(self, retain=False):
        """All stacks, then the StackSet. An active account whose stack is left keeps the StackSet."""
        self.wait_for_running_operation()
        units = {i.get("OrganizationalUnitId") for i in self.instances.values()} - {None} | self.target_units
        # An operation in a suspended account "has been skipped". To take its stack out of the StackSet needs RetainStacks
        # (https://repost.aws/knowledge-center/cloudformation-removal-stacksets).
        suspended = self.instances.keys() - self.active
        try:
            if suspended:
                print(f"{self.name}: suspended and closed accounts keep their stacks.")
                self.remove(accounts=suspended, retain=True)
            if units:
                self.remove(units=units, retain=retain)
        except OperationFailed as error:
            print(error, file=sys.stderr)  # What is left is named below.
        if self.instances and not self.aws.dry_run:
            raise OperationFailed(self.stacks_left())
        print(f"{self.name}: delete StackSet ...", flush=True)
        self.operations.start("delete_stack_set")
        self.definition = None

    def stacks_left(self):
        """Which stacks could not be deleted, why, and what to do."""
        request = self.operations.in_region(self.only(self.instances)) | {"RetainStacks": True}
        command = self.aws.as_command("cloudformation", "delete_stack_instances", {}, self.itself | request)
        lines = [f"  {account}: {why_left(instance)}" for account, instance in sorted(self.instances.items())]
        return "\n".join([
            f"{self.name}: the StackSet stays, since these accounts still have their stacks:", *lines,
            "Fix the cause, then run this again. Or take the stacks out of the StackSet, and delete them in the accounts:",
            f"  {command}",
        ])  # fmt: skip

    def wait_for_running_operation(self):
        """An operation that an earlier run left, or an automatic deployment."""
        while (running := self.running_operation()) and not self.aws.dry_run:
            print(f"{self.name}: an operation is still running; waiting for it ...", flush=True)
            self.operations.wait_for_other_operation(running)
            self.read()

    def running_operation(self):
        return self.operations.running() if self.definition else None


def why_left(instance):
    status = instance["Status"]
    no_reason = "the operation stopped before this account" if status == "CURRENT" else NO_REASON
    return f"{status}, {instance.get('StatusReason') or no_reason}"


def intersection(units, accounts):
    return {"OrganizationalUnitIds": sorted(units), "Accounts": sorted(accounts), "AccountFilterType": "INTERSECTION"}


def number_of(accounts):
    return f"{len(accounts)} account{'' if len(accounts) == 1 else 's'}"


def in_words(parameters):
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) or "no overrides"
