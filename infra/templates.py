"""CloudFormation templates: their parameters, values checked against them, and the part that an import takes."""

import difflib
import functools
import re

import yaml


# The parser in C, where PyYAML has it, is ten times faster.
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with CloudFormation's short tags written out: `!Ref x` is `{"Ref": "x"}`."""


def long_form(loader, tag, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        value = value.split(".", 1) if tag == "GetAtt" else value
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


Loader.add_multi_constructor("!", long_form)
# A version such as 2012-10-17 is text.
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@functools.cache
def parse(text):
    return yaml.load(text, Loader)  # noqa: S506 - Loader is a SafeLoader.


def problems_of(definitions, given, place=""):
    """All that is wrong with the given parameters, each with its place."""
    problems = []
    for name, value in given.items():
        definition, text = definitions.get(name), str(value)
        if definition is None:
            close = difflib.get_close_matches(name, definitions, 1)
            problems.append(f"{place}.{name}: the template has no such parameter" + "".join(f"; {c}?" for c in close))
            continue
        items = text.split(",") if definition["Type"] == "CommaDelimitedList" else [text]
        says = definition.get("ConstraintDescription")
        allowed = [str(one) for one in definition.get("AllowedValues", [])]
        if definition["Type"] == "Number" and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
            problems.append(f"{place}.{name}: {text!r} is not a number")
        elif allowed and not set(items) <= set(allowed):
            problems.append(f"{place}.{name}: {text!r} is not one of {', '.join(allowed)}")
        elif not all(re.fullmatch(definition.get("AllowedPattern", "(?s:.*)"), item) for item in items):
            problems.append(f"{place}.{name}: {text!r} {says or 'does not match ' + definition['AllowedPattern']}")
        elif not definition.get("MinLength", 0) <= len(text) <= definition.get("MaxLength", 4096):
            problems.append(f"{place}.{name}: has {len(text)} characters; at most {definition.get('MaxLength', 4096)}")
        elif "MinValue" in definition and float(text) < definition["MinValue"]:
            problems.append(f"{place}.{name}: {text} is less than {definition['MinValue']}")
        elif "MaxValue" in definition and float(text) > definition["MaxValue"]:
            problems.append(f"{place}.{name}: {text} is more than {definition['MaxValue']}")
    return problems


def complete(definitions, given):
    """Every parameter of the template with its value or its default, as text. We send all of them, so that a
    parameter that was taken out of the file goes back to its default."""
    values = {name: definition["Default"] for name, definition in definitions.items() if "Default" in definition}
    return {name: str(value) for name, value in (values | given).items() if name in definitions}


def as_list(parameters):
    return [{"ParameterKey": name, "ParameterValue": str(value)} for name, value in sorted(parameters.items())]


class Deployable:
    """What a stack or a StackSet should be: a template, all its parameters, and tags."""

    def __init__(self, source, parameters, tags, text=None):
        """`source` is where CloudFormation gets the template: a file, or {"TemplateURL": ...} of the given `text`."""
        self.files = {"TemplateBody": source} if text is None else {}
        self.text = source.read_text("utf-8") if text is None else text
        self.parameters = complete(parse(self.text)["Parameters"], parameters)
        self.tags = tags
        self.request = {
            **({} if text is None else source),
            "Parameters": as_list(self.parameters),
            "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
        }

    def is_same(self, text, described):
        """Whether AWS has it already, by the template's text and the answer that describes the rest."""
        return not self.differences(text, described)

    def differences(self, text, described):
        """What AWS does not have of it: names of parameters, the template, the tags."""
        has = {p["ParameterKey"]: p["ParameterValue"] for p in described.get("Parameters", [])}
        names = sorted(name for name in has.keys() | self.parameters if has.get(name) != self.parameters.get(name))
        # A template that differs in a comment is no update for CloudFormation.
        is_other_template = str(text).strip() != self.text.strip() and parse(str(text)) != parse(self.text)
        is_other_tags = {t["Key"]: t["Value"] for t in described.get("Tags", [])} != self.tags
        return [*names, *["the template"] * is_other_template, *["the tags"] * is_other_tags]


def import_template(text):
    """The account template cut down to what outlives its stack. An IMPORT change set may hold nothing else: no other
    resource, no output."""
    whole = parse(text)
    kept = {
        "ForceMfaPolicy": whole["Resources"]["ForceMfaPolicy"],
        "OverflowGroup": whole["Resources"]["OverflowGroup"],
    }
    conditions, parameters, names = {}, {}, names_in(kept)
    while names:
        name = names.pop()
        if name in whole["Conditions"] and name not in conditions:
            conditions[name] = whole["Conditions"][name]
            names |= names_in(conditions[name])
        elif name in whole["Parameters"]:
            parameters[name] = whole["Parameters"][name]
    template = {
        "AWSTemplateFormatVersion": whole["AWSTemplateFormatVersion"],
        "Description": "force-mfa, cut down to the policy and the group, to import them into a new stack",
        "Parameters": parameters,
        "Conditions": conditions,
        "Resources": kept,
    }
    return yaml.safe_dump(template, sort_keys=False, width=110)


def names_in(node):
    """Every name that a part of a template refers to."""
    if isinstance(node, list):
        return {name for item in node for name in names_in(item)}
    if not isinstance(node, dict):
        return set()
    names = set()
    for key, value in node.items():
        if key in ("Ref", "Condition") and isinstance(value, str):
            names.add(value)
        elif key == "Fn::If":
            names |= {value[0]} | names_in(value[1:])
        elif key == "Fn::Sub":
            names |= set(re.findall(r"\$\{([A-Za-z0-9:]+)", value if isinstance(value, str) else value[0]))
        else:
            names |= names_in(value)
    return names
