"""The stacks of the management account, which StackSets never reach: the installation, the auditor's role, the SCP."""

import functools

import report
import rollout_file
import stacks
from aws_calls import WrongUsage
from rollout_run import INFRA, Run
from templates import Deployable


def wanted_stacks(document):
    """The names of the stacks that the file gives to the management account."""
    prefix = rollout_file.prefix(document)
    is_wanted = {
        prefix: document["management_account"],
        f"{prefix}-auditor": document["auditor"],
        f"{prefix}-scp": document["scp"]["enabled"],
    }
    return {name for name, wanted in is_wanted.items() if wanted}


class ManagementStacks:
    """These stacks as they are. All are read before one is changed."""

    def __init__(self, run):
        self.run, aws, prefix = run, run.aws, run.prefix
        self.installation, self.auditor, self.scp = (
            stacks.Deployment(aws, name) for name in (prefix, f"{prefix}-auditor", f"{prefix}-scp")
        )

    def wanted(self, release, overrides):
        """Each stack that the file has, and what it should be."""
        run, names = self.run, wanted_stacks(self.run.document)
        if self.installation.name in names:
            yield self.installation, run.installation_of(release, overrides.get(run.aws.account))
        if self.auditor.name in names:
            yield self.auditor, run.auditor_role()
        if self.scp.name in names:
            yield self.scp, Deployable(INFRA / "scp.yaml", rollout_file.scp_parameters(run.document), run.tags)

    def deploy(self, wanted):
        for stack, deployable in wanted:
            stack.deploy(deployable, self.run.arguments.poll_seconds)

    def left_over(self):
        """The stacks that are there although the file does not have them: words, and what deletes each."""
        wanted = wanted_stacks(self.run.document)
        for stack in (self.installation, self.auditor, self.scp):
            if stack.stack and stack.name not in wanted:
                delete = functools.partial(stack.delete, self.run.arguments.poll_seconds)
                yield f"the stack {stack.name} of the management account", delete


def deploy_management(arguments):
    """Deploys the management account's own stacks, from the bucket of the account that owns the StackSets."""
    run = Run(arguments)
    if not run.is_management:
        raise WrongUsage(f"This takes credentials of the management account, {run.organization.management_account}.")
    run.use(arguments.artifact_bucket, arguments.alarm_topic_arn)
    wanted = run.published({"template_key": arguments.template_key, "code_key": arguments.code_key})
    management = ManagementStacks(run)
    if arguments.remove:
        for _, remove in management.left_over():
            remove()
    management.deploy(management.wanted(wanted, run.resolved_overrides()))
    if run.aws.dry_run:
        print("Dry run: nothing was changed.")
        return 0
    return 1 if report.show_left_over(run.file, management.left_over(), "make deploy-management") else 0
