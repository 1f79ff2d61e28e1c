"""The steps of `make deploy-org`, and of what looks at it or takes it away. Each step finds what is done already."""

import json
import shlex
import sys

import accounts
import overrides
import release
import report
import stack_sets
import stacks
from applied_record import AppliedRecord
from aws_calls import WrongUsage
from management_account import ManagementStacks, wanted_stacks
from rollout_run import INFRA, Run
from stack_set_operations import OperationFailed
from templates import Deployable


class Rollout(Run):
    """Everything that a run needs to know. All of it is read here, before anything is changed."""

    def __init__(self, arguments):
        super().__init__(arguments)
        document, aws = self.document, self.aws
        accounts.check_caller(aws, self.organization, document["call_as"])
        self.canary = set(document["canary_accounts"]) if arguments.canary else None
        if arguments.canary and not self.canary:
            raise WrongUsage(f'{self.file} names no "canary_accounts", which CANARY=1 deploys to.')
        if arguments.canary and arguments.remove:
            raise WrongUsage(
                "CANARY=1 changes the canary accounts only, and REMOVE=1 deletes stacks of others: give one."
            )
        self.stack = stacks.Deployment(aws, f"{self.prefix}-organization")
        self.use_outputs(stacks.outputs(self.stack.stack))
        self.record = AppliedRecord(aws, self.bucket if self.stack.stack else None)
        options = document | {"poll_seconds": arguments.poll_seconds}
        units, root = document["organizational_units"], self.organization.root()
        self.names = self.organization.accounts_of([*units, root])
        below = {account: unit for unit in units for account in self.organization.accounts_below(unit)}
        everywhere = dict.fromkeys(self.organization.accounts_below(root), root)
        self.installation = stack_sets.StackSet(
            aws, self.prefix, options, units, below, document["excluded_accounts"], active=self.names
        )
        self.auditor = stack_sets.StackSet(aws, f"{self.prefix}-auditor", options, [root], everywhere)
        self.overrides = self.resolved_overrides()
        self.management = ManagementStacks(self) if self.is_management else None

    def use_outputs(self, outputs):
        # In a dry run before the first deployment these names stand for what the stack will create.
        self.use(outputs.get("ArtifactBucket", "ARTIFACT-BUCKET"), outputs.get("AlarmTopicArn", "ALARM-TOPIC-ARN"))

    def wanted_release(self):
        """The release of the file, of the folder that RELEASE names, or of this checkout. Nothing is uploaded yet."""
        wanted, folder = self.document["release"], self.arguments.release
        if folder and wanted["code_key"]:
            raise WrongUsage(f"{self.file} names a release in the bucket, and RELEASE another: take one of them out.")
        if folder:
            return release.of_folder(wanted["architecture"], folder)
        if not wanted["code_key"]:
            return release.of_files(
                wanted["architecture"], release.package(wanted["architecture"], self.arguments.folder)
            )
        if self.stack.stack is None:
            raise WrongUsage(
                "There is no artifact bucket yet, so no release in it: leave template_key and code_key empty."
            )
        return self.published({key: wanted[key] for key in ("template_key", "code_key")})

    def read_overrides(self):
        """What the accounts have that may have overrides: those that the file or the record names."""
        named = self.record.overridden() | set(self.overrides)
        # These are created with overrides that are taken from them in the same run.
        named |= self.installation.created_first(self.canary)
        self.installation.want_overrides({account: self.overrides.get(account, {}) for account in named})

    def may_have_overrides(self):
        """The accounts that the next run asks for their overrides: those of the file, and those that still have some.
        A suspended or excluded account, or one whose reset failed, must not be forgotten."""
        return set(self.overrides) | {account for account, has in self.installation.overrides_now.items() if has}

    def check_accounts(self):
        """An account id with a typing error would leave its account without the override that was meant for it."""
        management = self.organization.management_account
        if self.document["canary_accounts"] == [management]:
            raise WrongUsage(
                f'{self.file} names only {management} in "canary_accounts". It is the management account, which '
                "StackSets never reach: name another account."
            )
        known = set(self.installation.accounts) | {management}
        named = {account for override in self.document["overrides"] for account in override.get("accounts", [])}
        unknown = sorted((named | set(self.document["canary_accounts"])) - known)
        if unknown:
            raise WrongUsage(
                f"{self.file} names accounts that are not active, or not below its units: {', '.join(unknown)}. Correct "
                "their ids, or take them out of canary_accounts and overrides."
            )
        self.check_units_of_overrides()
        nobody = sorted(set(self.document["excluded_accounts"]) - self.names.keys() - {management})
        if nobody:
            print(f"{self.file} excludes accounts that are not active in the organization: {', '.join(nobody)}.")

    def check_units_of_overrides(self):
        """A unit that has none of our accounts, and is not below our units, is a typing error or the wrong unit."""
        document, ours = self.document, set(self.installation.everybody)
        if document["management_account"]:
            ours.add(self.organization.management_account)
        for unit in sorted({unit for one in document["overrides"] for unit in one.get("organizational_units", [])}):
            alone = {"overrides": [{"organizational_units": [unit], "parameters": {}}]}
            is_ours = self.organization.is_below(unit, document["organizational_units"])
            if not is_ours and not overrides.resolve(self.organization, alone).keys() & ours:
                raise WrongUsage(
                    f"{self.file} has an override for {unit}, which is not below its organizational_units: it would "
                    "hold for nobody. Correct the unit, or add it to organizational_units."
                )

    def left_over(self):
        """What stands in AWS although the file does not have it: words, and what deletes it, if that is possible."""
        installation, units = self.installation, self.document["organizational_units"]
        gone = {unit for unit in installation.target_units if not self.organization.is_below(unit, units)}
        # Deleting the stacks of a whole unit would take those of accounts that are still meant with it.
        kept = {
            i.get("OrganizationalUnitId")
            for account, i in installation.instances.items()
            if account in installation.accounts
        }
        # An account's instance can belong to another unit than the one above it that is gone.
        kept |= {unit for unit in gone if self.organization.below_unit.get(unit, {}).keys() & installation.accounts}
        for unit in sorted(gone & kept):
            yield f"automatic deployment to {unit}, which cannot end while accounts below it are in the file", None
        for unit in sorted(gone - kept):
            yield f"stacks and automatic deployment of {unit}", lambda unit=unit: installation.remove(units=[unit])
        # A suspended account is none of ours: it has no name here, and its stack stays.
        extra = {
            account for account, i in installation.instances.items()
            if account in self.names and account not in installation.accounts
            and i.get("OrganizationalUnitId") not in gone - kept
        }  # fmt: skip
        if extra:
            yield f"the stacks of {', '.join(sorted(extra))}", lambda: installation.remove(accounts=extra)
        if not self.document["auditor"] and self.auditor.definition:
            yield f"the StackSet {self.auditor.name}", self.auditor.delete
        if self.management:
            yield from self.management.left_over()


def deploy_org(arguments):
    """Deploys to the organization what rollout.json says."""
    rollout = Rollout(arguments)
    document, folder = rollout.document, arguments.folder
    rollout.check_accounts()
    rollout.read_overrides()
    wanted = rollout.wanted_release()
    # All is read and built. From here on AWS is changed.
    own = {
        "OrganizationId": rollout.organization.id,
        "AlarmEmail": document["alarm_email"],
        "NamePrefix": rollout.prefix,
    }
    organization = Deployable(INFRA / "organization.yaml", own, rollout.tags)
    rollout.use_outputs(rollout.stack.deploy(organization, arguments.poll_seconds))
    release.publish(rollout.aws, rollout.bucket, wanted.files, is_new=rollout.stack.stack is None)
    # The record is written before anything is sent, with all that there may be until the run ends: a run that is
    # interrupted in between must not forget any of it.
    said = {"rollout": document, "release": wanted.keys(), "canary": sorted(rollout.canary or [])}
    management_stacks = wanted_stacks(document) | rollout.record.management_stacks()
    rollout.record.write(
        rollout.bucket, folder, **said,
        overridden=sorted(rollout.installation.overrides_wanted), management_stacks=sorted(management_stacks),
    )  # fmt: skip
    problems = bring(rollout, wanted)
    is_whole = rollout.canary is None and not problems
    if rollout.management and rollout.canary is None:
        if problems:
            print("The management account's own stacks are left as they are, since an operation failed.")
        else:
            rollout.management.deploy(rollout.management.wanted(wanted, rollout.overrides))
    print(f"release: {json.dumps(wanted.keys())}")
    # A canary's release, or one that failed, is not for the management account.
    remains = is_whole and management_stacks and not rollout.management
    code = finish(rollout, problems, management_command(rollout, wanted) if remains else "")
    # Last, so that whatever ends the run before forgets nothing that was not shown.
    if is_whole and not rollout.aws.dry_run:
        rollout.record.write(
            rollout.bucket, folder, **said,
            overridden=sorted(rollout.may_have_overrides()), management_stacks=sorted(wanted_stacks(document)),
        )  # fmt: skip
    return code


def bring(rollout, wanted):
    """Both StackSets to what they should be. Returns what failed."""
    problems = []
    try:
        if rollout.arguments.remove:
            for remove in [remove for _, remove in rollout.left_over() if remove]:
                remove()
        problems += rollout.installation.bring(rollout.installation_of(wanted), rollout.canary)
    except OperationFailed as error:
        problems.append(error)
    # To see an account does not depend on its installation. A canary is about the release alone.
    if rollout.document["auditor"] and rollout.canary is None:
        problems += rollout.auditor.bring(rollout.auditor_role())
    return problems


def management_command(rollout, wanted):
    """What is to be run with the management account's credentials: no other account can change or see its stacks."""
    named = {"ROLLOUT": rollout.file, "ARTIFACT_BUCKET": rollout.bucket, "ALARM_TOPIC_ARN": rollout.topic}
    named |= {"TEMPLATE_KEY": wanted.template_key, "CODE_KEY": wanted.code_key}
    named |= {"REMOVE": "1"} if rollout.arguments.remove else {}
    return "make deploy-management " + " ".join(f"{name}={shlex.quote(value)}" for name, value in named.items())


def finish(rollout, problems, remaining_command):
    """Shows what is not as it should be, and the command that remains, if any. Returns the exit code."""
    if rollout.aws.dry_run:
        if not rollout.arguments.remove:
            report.show_left_over(rollout.file, rollout.left_over(), "make deploy-org")
        print("Dry run: nothing was changed.")
        return 0
    for problem in problems:
        print(problem, file=sys.stderr)
    is_behind = report.show(rollout)
    if remaining_command:
        print("What remains, with the management account's credentials, since StackSets never reach that account:")
        print(f"  {remaining_command}")
    return 1 if problems or is_behind else 0


def status(arguments):
    """Shows how far a running operation is, and every account that is not current. Reads only."""
    rollout = Rollout(arguments)
    rollout.canary = set(rollout.record.last.get("canary", [])) or None
    rollout.read_overrides()
    for stack_set in (rollout.installation, rollout.auditor):
        running = stack_set.running_operation()
        if running:
            print(f"{stack_set.name}: an operation is running, {stack_set.operations.progress(running)[0]}.")
    differing = list(not_applied(rollout))
    for what in differing:
        print(f"Not as {rollout.file} and the last run say: {what}. Run make deploy-org.")
    return 1 if report.show(rollout) or differing else 0


def not_applied(rollout):
    """What the file or the last run changed, but AWS does not have: the file was edited since, or the run was
    interrupted. In words."""
    installation, document = rollout.installation, rollout.document
    keys = document["release"] if document["release"]["code_key"] else rollout.record.last.get("release")
    if not keys or not installation.definition:
        return  # The report says that there is no StackSet.
    names = ("template_key", "code_key")
    wanted = release.of_bucket(rollout.aws, rollout.bucket, {name: keys[name] for name in names})
    yield from installation.differences(rollout.installation_of(wanted), rollout.canary)
    if rollout.canary is not None:
        return
    if document["auditor"]:
        yield from rollout.auditor.differences(rollout.auditor_role())
    if rollout.management:
        for stack, deployable in rollout.management.wanted(wanted, rollout.overrides):
            if not stack.stack or not deployable.is_same(stack.template, stack.stack):
                yield f"the stack {stack.name} of the management account"


def remove_org(arguments):
    """Deletes both StackSets with their stacks."""
    rollout = Rollout(arguments)
    organization = rollout.organization.id
    if organization != arguments.confirm and not rollout.aws.dry_run:
        raise WrongUsage(
            f"This deletes the stacks of {len(rollout.installation.instances)} accounts: new users are not covered any "
            f"more. It also deletes the auditor's role in {len(rollout.auditor.instances)} accounts. To take the policy "
            "from users first, see docs/rollout.md. DRY_RUN=1 shows every call. To go on: make remove-org "
            f"CONFIRM={organization}"
        )
    problems = []
    for stack_set in (rollout.installation, rollout.auditor):
        try:
            if stack_set.definition:
                stack_set.delete(arguments.retain)
        except OperationFailed as error:
            problems.append(error)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    prefix = rollout.prefix
    print(f"""What stays:
  in every account: the policy {prefix} and the group {prefix}-overflow, so that users stay covered.{
        '''
  in every account: the stack, as RETAIN=1 says. It cannot be put into a StackSet again.'''
        if arguments.retain
        else ""
    }
  in the management account: its stacks {prefix}, {prefix}-auditor and {prefix}-scp, if they exist.
  here: the stack {rollout.stack.name}. If you delete it, its bucket {rollout.bucket} stays with every release.""")
    return 0
