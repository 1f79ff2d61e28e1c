"""What every target for an organization starts from, and what each account should have by the file."""

from pathlib import Path

import accounts
import overrides
import release
import rollout_file
from aws_calls import Aws, WrongUsage
from templates import Deployable

INFRA = Path(__file__).resolve().parent


class Run:
    """What a run starts from: its arguments, the file, and whose credentials these are. Reads only."""

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
