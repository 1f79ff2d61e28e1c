"""Reads CloudFormation templates, and renders parts of them as CloudFormation would."""

import copy
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
sys.path.insert(0, str(ROOT / "infra"))
import templates  # noqa: E402


def load(name):
    return parse((ROOT / "infra" / name).read_text(encoding="utf-8"))


def parse(text):
    # A test may change what it gets.
    return copy.deepcopy(templates.parse(text))


class Stack:
    """A template with parameters. Conditions and the functions that the templates use are resolved."""

    def __init__(self, template, resources=None, partition="aws", region="us-east-1", **parameters):
        self.template = template
        self.resources = resources or {}
        self.pseudo = {
            "AWS::Partition": partition,
            "AWS::Region": region,
            "AWS::AccountId": ACCOUNT,
            "AWS::StackId": f"arn:{partition}:cloudformation:{region}:{ACCOUNT}:stack/force-mfa/0123",
            "AWS::URLSuffix": "amazonaws.com",
        }
        unknown = set(parameters) - set(template["Parameters"])
        assert not unknown, f"no parameters {unknown}"
        self.parameters = {
            name: parameters.get(name, parameter.get("Default"))
            for name, parameter in template["Parameters"].items()
        }

    def resource(self, name):
        return self.value(self.template["Resources"][name]["Properties"])

    def exists(self, name):
        condition = self.template["Resources"][name].get("Condition")
        return condition is None or self.condition(condition)

    def value(self, node):
        """The rendered node; None where it is AWS::NoValue."""
        if isinstance(node, list):
            return [value for item in node if (value := self.value(item)) is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((key, argument),) = node.items()
            if key == "Ref":
                return None if argument == "AWS::NoValue" else self.reference(argument)
            if key == "Fn::GetAtt":
                parts = argument if isinstance(argument, list) else argument.split(".")
                return self.reference(".".join(parts))
            if key == "Fn::Sub":
                return self.substitute(argument)
            if key == "Fn::FindInMap":
                name, row, column = (self.value(part) for part in argument)
                return self.template["Mappings"][name][str(row)][column]
            if key == "Fn::If":
                name, yes, no = argument
                return self.value(yes if self.condition(name) else no)
            if key == "Fn::Select":
                return self.value(argument[1])[int(argument[0])]
            if key == "Fn::Split":
                return self.value(argument[1]).split(argument[0])
            assert not key.startswith("Fn::"), key
        return {key: value for key, item in node.items() if (value := self.value(item)) is not None}

    def condition(self, node):
        if isinstance(node, str):
            return self.condition(self.template["Conditions"][node])
        ((key, argument),) = node.items()
        if key == "Condition":
            return self.condition(argument)
        if key == "Fn::Equals":
            return self.value(argument[0]) == self.value(argument[1])
        if key == "Fn::Not":
            return not self.condition(argument[0])
        if key == "Fn::Or":
            return any(map(self.condition, argument))
        if key == "Fn::Contains":
            return self.value(argument[1]) in self.value(argument[0])
        raise AssertionError(key)

    def refused(self):
        """The sentences of the template's Rules that these parameters break."""
        return [
            assertion["AssertDescription"]
            for rule in self.template["Rules"].values()
            if "RuleCondition" not in rule or self.condition(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self.condition(assertion["Assert"])
        ]

    def reference(self, name):
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.parameters:
            value = self.parameters[name]
            assert value is not None, f"{name} has no default and was not given"
            return value
        # What stands for a resource, unless the test says.
        return self.resources.get(name, f"<{name}>")

    def substitute(self, text):
        def one(match):
            name = match[1]
            return f"${{{name[1:]}}}" if name.startswith("!") else str(self.reference(name))

        return re.sub(r"\$\{([^}]+)\}", one, text)
