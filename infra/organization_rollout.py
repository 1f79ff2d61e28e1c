"""The steps of `make deploy-org`, and of what looks at it or takes it away. Each step finds what is done already."""

import functools
import json
import shlex
import sys
from pathlib import Path

import accounts
import overrides
import release
import report
import rollout_file
import stack_sets
import stacks
import templates
from applied_record import AppliedRecord
from aws_calls import Aws, WrongUsage
from templates import Deployable

INFRA = Path(__file__).resolve().parent


class Account:
    """The file, and the account whose credentials these are. Reads only."""

    def __init__(self, arguments):
        self.arguments, self.file = arguments, arguments.file
        template = arguments.release / "template.yaml" if arguments.release else release.TEMPLATE
        self.document = rollout_file.load(arguments.file, template.read_text("utf-8"))
        self.prefix, self.tags = rollout_file.prefix(self.document), self.document["tags"]
        self.aws = Aws(arguments.dry_run)
        self.organization = accounts.Organization(self.aws)
        management = self.organization.management_account
        self.is_management = self.aws.account == management
        if self.document["management_account"] and management in self.document["excluded_accounts"]:
            raise WrongUsage(
                f"{self.file} excludes {management}, which is the management account. StackSets never reach it: take "
                'it out of "excluded_accounts", and set "management_account" to false if it shall have no stack.'
            )
        print(f"{self.aws.caller}, organization {self.organization.id}, region {self.aws.region}", flush=True)

    def use(self, bucket, topic):
        self.bucket, self.topic = bucket, topic

    def resolved_overrides(self):
        return overrides.resolve(self.organization, self.document)

    def published(self, keys):
        found = release.of_bucket(self.aws, self.bucket, keys)
        rollout_file.refuse(self.file, rollout_file.parameter_problems(self.document, found.template))
        return found

    def installation_of(self, wanted, own=None):
        """The account template of a release with the parameters of the file, what the roll-out fills in, and those
        that an account has of its `own`."""
        url = f"https://{self.bucket}.s3.{self.aws.region}.amazonaws.com/{wanted.template_key}"
        filled = {"CodeBucket": self.bucket, "CodeKey": wanted.code_key, "Architecture": wanted.architecture}
        given = self.document["parameters"]
        topic = {} if given.get("AlarmTopicArn") else {"AlarmTopicArn": self.topic}
        return Deployable({"TemplateURL": url}, given | filled | topic | (own or {}), self.tags, wanted.template)

    def auditor_role(self):
        return Deployable(INFRA / "auditor.yaml", rollout_file.auditor_parameters(self.document), self.tags)


class ManagementStacks:
    """The stacks of the management account, which StackSets never reach. All are read before one is changed."""

    def __init__(self, account):
        self.account, aws, prefix = account, account.aws, account.prefix
        self.installation, self.auditor, self.scp = (
            stacks.Deployment(aws, name) for name in (prefix, f"{prefix}-auditor", f"{prefix}-scp")
        )

    def deploy(self, wanted, resolved):
        account, document, poll_seconds = self.account, self.account.document, self.account.arguments.poll_seconds
        if document["management_account"]:
            own = resolved.get(account.aws.account)
            self.installation.deploy(account.installation_of(wanted, own), poll_seconds)
        if document["auditor"]:
            self.auditor.deploy(account.auditor_role(), poll_seconds)
        if document["scp"]["enabled"]:
            scp = Deployable(INFRA / "scp.yaml", rollout_file.scp_parameters(document), account.tags)
            self.scp.deploy(scp, poll_seconds)


    def left_over(self):
        """The stacks that are there although the file does not have them: words, and what deletes each."""
        document = self.account.document
        is_wanted = {
            self.installation: document["management_account"],
            self.auditor: document["auditor"],
            self.scp: document["scp"]["enabled"],
        }
        for stack in (stack for stack, wanted in is_wanted.items() if stack.stack and not wanted):
            delete = functools.partial(stack.delete, self.account.arguments.poll_seconds)
            yield f"the stack {stack.name} of the management account", delete


class Rollout(Account):
    """Everything that a run needs to know. All of it is read here, before anything is changed."""

    def __init__(self, arguments):
        super().__init__(arguments)
        document, aws = self.document, self.aws
        accounts.check_caller(aws, self.organization, document["call_as"])
        self.canary = set(document["canary_accounts"]) if arguments.canary else None
        if arguments.canary and not self.canary:
            raise WrongUsage(f'{self.file} names no "canary_accounts", which CANARY=1 deploys to.')
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
    # Written before the overrides are sent, with all accounts that may have some until they are: a run that is
    # interrupted in between must not forget any.
    overridden = sorted(rollout.installation.overrides_wanted)
    said = {"rollout": document, "release": wanted.keys(), "canary": sorted(rollout.canary or [])}
    rollout.record.write(rollout.bucket, folder, **said, overridden=overridden)
    problems = bring(rollout, wanted)
    if rollout.management and rollout.canary is None:
        if problems:
            print("The management account's own stacks are left as they are, since an operation failed.")
        else:
            rollout.management.deploy(wanted, rollout.overrides)
    if not problems and rollout.canary is None and not rollout.aws.dry_run:
        rollout.record.write(rollout.bucket, folder, **said, overridden=sorted(rollout.may_have_overrides()))
    print(f"release: {json.dumps(wanted.keys())}")
    return finish(rollout, problems, wanted)


def bring(rollout, wanted):
    """Both StackSets to what they should be. Returns what failed."""
    problems = []
    try:
        if rollout.arguments.remove:
            for remove in [remove for _, remove in rollout.left_over() if remove]:
                remove()
        problems += rollout.installation.bring(rollout.installation_of(wanted), rollout.canary)
    except stack_sets.OperationFailed as error:
        problems.append(error)
    # To see an account does not depend on its installation. A canary is about the release alone.
    if rollout.document["auditor"] and rollout.canary is None:
        problems += rollout.auditor.bring(rollout.auditor_role())
    return problems


def finish(rollout, problems, wanted):
    """Shows what is not as it should be, and the command that remains. Returns the exit code."""
    if rollout.aws.dry_run:
        if not rollout.arguments.remove:
            report.show_left_over(rollout.file, rollout.left_over(), "make deploy-org")
        print("Dry run: nothing was changed.")
        return 0
    for problem in problems:
        print(problem, file=sys.stderr)
    is_behind = report.show(rollout)
    needed, before = stacks_of_management(rollout.document), stacks_of_management(rollout.record.before)
    # What the file no longer has stays there too, and only that account can see it.
    remains = before - needed if rollout.canary is not None else before | needed
    if remains and rollout.management is None:
        named = {"ROLLOUT": rollout.file, "ARTIFACT_BUCKET": rollout.bucket, "ALARM_TOPIC_ARN": rollout.topic}
        named |= {"TEMPLATE_KEY": wanted.template_key, "CODE_KEY": wanted.code_key}
        named |= {"REMOVE": "1"} if rollout.arguments.remove else {}
        print("What remains, with the management account's credentials, since StackSets never reach that account:")
        print("  make deploy-management " + " ".join(f"{name}={shlex.quote(value)}" for name, value in named.items()))
    return 1 if problems or is_behind else 0


def stacks_of_management(document):
    """Which stacks a file gives to the management account."""
    installation, auditor = document.get("management_account"), document.get("auditor")
    is_wanted = {"installation": installation, "auditor": auditor, "scp": document.get("scp", {}).get("enabled")}
    return {name for name, wanted in is_wanted.items() if wanted}


def deploy_management(arguments):
    """Deploys the management account's own stacks, from the bucket of the account that owns the StackSets."""
    account = Account(arguments)
    if not account.is_management:
        raise WrongUsage(
            f"This takes credentials of the management account, {account.organization.management_account}."
        )
    account.use(arguments.artifact_bucket, arguments.alarm_topic_arn)
    wanted = account.published({"template_key": arguments.template_key, "code_key": arguments.code_key})
    management = ManagementStacks(account)
    if arguments.remove:
        for _, remove in management.left_over():
            remove()
    management.deploy(wanted, account.resolved_overrides())
    if account.aws.dry_run:
        print("Dry run: nothing was changed.")
        return 0
    return 1 if report.show_left_over(account.file, management.left_over(), "make deploy-management") else 0


def status(arguments):
    """Shows how far a running operation is, and every account that is not current. Reads only."""
    rollout = Rollout(arguments)
    rollout.canary = set(rollout.record.last.get("canary", [])) or None
    rollout.read_overrides()
    for stack_set in (rollout.installation, rollout.auditor):
        running = stack_set.running_operation()
        if running:
            print(f"{stack_set.name}: an operation is running, {stack_set.progress(running)[0]}.")
    differing = not_applied(rollout)
    if differing:
        print(
            f"{rollout.installation.name}: the StackSet does not have what {rollout.file} and the last run say "
            f"({', '.join(differing)}): run make deploy-org."
        )
    return 1 if report.show(rollout) or differing else 0


def not_applied(rollout):
    """The parameters in which the StackSet differs from the file, or from the release that the last run deployed: the
    file was edited since, or the run was interrupted."""
    definition = rollout.installation.definition
    if not definition:
        return []
    has = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in definition["Parameters"]}
    given = rollout.document["parameters"]
    should = templates.complete(templates.parse(definition["TemplateBody"])["Parameters"], given)
    keys = rollout.record.last.get("release", {})
    filled = {"CodeBucket": rollout.bucket, "CodeKey": keys.get("code_key", has.get("CodeKey"))}
    # The run takes these two from the zip and from the organization's stack.
    filled |= {name: has.get(name) for name in ("Architecture", "AlarmTopicArn") if not given.get(name)}
    return sorted(name for name, value in (should | filled).items() if has.get(name) != value)


def remove_org(arguments):
    """Deletes both StackSets with their stacks."""
    rollout = Rollout(arguments)
    organization, count = rollout.organization.id, len(rollout.installation.instances)
    if organization != arguments.confirm and not rollout.aws.dry_run:
        raise WrongUsage(
            f"This deletes the stacks of {count} accounts: new users are not covered any more. To take the policy from "
            f"users first, see docs/rollout.md. To go on: make remove-org CONFIRM={organization}"
        )
    for stack_set in (rollout.installation, rollout.auditor):
        if stack_set.definition:
            stack_set.delete(arguments.retain)
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
