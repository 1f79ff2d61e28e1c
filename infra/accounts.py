"""The organization: its accounts, and which of them are below an organizational unit."""

from aws_calls import UnitNotFound, WrongUsage


class Organization:
    """Looks accounts up by organizational unit, each unit once."""

    def __init__(self, aws):
        self.aws = aws
        answer = aws.read("organizations", "describe_organization")["Organization"]
        self.id, self.management_account = answer["Id"], answer["MasterAccountId"]
        self.below_unit, self.parents = {}, {}

    def root(self):
        return self.aws.pages("organizations", "list_roots", "Roots")[0]["Id"]

    def accounts_below(self, unit):
        """Id and name of the accounts of the unit and all units below it that StackSets can deploy to: neither
        the management account, which they never reach, nor one that is suspended or closed."""
        if unit not in self.below_unit:
            try:
                accounts = self.aws.pages("organizations", "list_accounts_for_parent", "Accounts", ParentId=unit)
            except UnitNotFound as error:
                raise WrongUsage(
                    f"The organization has no unit {unit}. Correct it in rollout.json: aws organizations list-roots "
                    "and list-organizational-units-for-parent show the units."
                ) from error
            if any(account["Id"] == self.management_account for account in accounts):
                self.parents[self.management_account] = unit
            found = {
                account["Id"]: account.get("Name", "")
                for account in accounts
                # Status is retired since 2026-09-09 in favour of State; an older botocore knows only Status.
                if account.get("State", account.get("Status")) == "ACTIVE" and account["Id"] != self.management_account
            }
            children = self.aws.pages(
                "organizations", "list_children", "Children", ParentId=unit, ChildType="ORGANIZATIONAL_UNIT"
            )
            for child in children:
                self.parents[child["Id"]] = unit
                found |= self.accounts_below(child["Id"])
            self.below_unit[unit] = found
        return self.below_unit[unit]

    def accounts_of(self, units):
        return {account: name for unit in units for account, name in self.accounts_below(unit).items()}

    def is_below(self, unit, units):
        """Whether a unit, or the management account, is one of the units or below one. Only units that were looked at
        are known."""
        return unit is not None and (unit in units or self.is_below(self.parents.get(unit), units))


def check_caller(aws, organization, call_as):
    """Service-managed StackSets, driven from the right account, with trusted access on."""
    if aws.partition == "aws-cn":
        raise WrongUsage("China has no service-managed StackSets: docs/rollout.md has a recipe for self-managed ones.")
    is_management = aws.account == organization.management_account
    if is_management != (call_as == "SELF"):
        raise WrongUsage(
            f"These credentials are of {aws.account}; the management account is {organization.management_account}. "
            f'"call_as" is {call_as}: SELF is for the management account, DELEGATED_ADMIN for any other. Use the '
            "other credentials, or correct rollout.json."
        )
    access = aws.read("cloudformation", "describe_organizations_access", CallAs=call_as)["Status"]
    if access != "ENABLED":
        raise WrongUsage(
            f"Trusted access of StackSets is {access}. As administrator of the management account "
            f"{organization.management_account}: aws cloudformation activate-organizations-access --region {aws.region}; "
            "then, for a delegated administrator: aws organizations register-delegated-administrator --account-id "
            f"{aws.account} --service-principal member.org.stacksets.cloudformation.amazonaws.com"
        )
