"""rollout.json: the record of what was decided. It is checked as a whole before anything is sent."""

import json
from pathlib import Path

import jsonschema

import templates
from aws_calls import WrongUsage

INFRA = Path(__file__).resolve().parent
FILLED_IN = "is filled in by the roll-out, or is the same for all accounts: remove it here"


def load(path, account_template):
    """The file with every default filled in. All problems are reported together, those of the parameters too, unless an
    older release is named, whose template has yet to be read."""
    schema = json.loads((INFRA / "rollout.schema.json").read_text("utf-8"))
    document = read_json(path, "Copy infra/rollout.example.json to it and change it: docs/rollout.md says how.")
    found = sorted(jsonschema.Draft202012Validator(schema).iter_errors(document), key=lambda error: error.json_path)
    filled_in = [error for error in found if error.validator == "not"]
    malformed = [error for error in found if error.validator != "not"]
    problems = [f"{error.json_path}: {error.instance} {FILLED_IN}" for error in filled_in]
    problems += [f"{error.json_path}: {error.message}" for error in malformed]
    # What is well-formed is looked at further.
    broken = {error.absolute_path[0] for error in malformed if error.absolute_path}
    sound = {name: value for name, value in document.items() if name in schema["properties"] and name not in broken}
    filled = with_defaults(schema, sound)
    excluded = set(filled["excluded_accounts"])
    problems += [
        f"$.canary_accounts: {account} is excluded" for account in filled["canary_accounts"] if account in excluded
    ]
    for i, override in enumerate(filled["overrides"]):
        both = excluded & set(override.get("accounts", []))
        problems += [f"$.overrides[{i}].accounts: {account} is excluded" for account in sorted(both)]
    if not filled["release"]["code_key"]:
        problems += parameter_problems(filled, account_template)
    refuse(path, problems)
    return filled


def read_json(path, if_missing=""):
    """A JSON object. A key that is given twice is refused: JSON's readers would take the last one."""
    repeated = []

    def once(pairs):
        names = [name for name, _ in pairs]
        repeated.extend(f"{name!r} is given twice" for name in sorted({n for n in names if names.count(n) > 1}))
        return dict(pairs)

    try:
        document = json.loads(Path(path).read_text("utf-8"), object_pairs_hook=once)
    except FileNotFoundError:
        raise WrongUsage(f"{path} does not exist. {if_missing}".strip()) from None
    except json.JSONDecodeError as error:
        raise WrongUsage(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    refuse(path, repeated if isinstance(document, dict) else ["it is not a JSON object"])
    return document


def parameter_problems(document, account_template):
    """All parameters against the templates that they are for: the account template is a text."""
    definitions = templates.parse(account_template)["Parameters"]
    problems = templates.problems_of(definitions, document["parameters"], "$.parameters")
    for i, override in enumerate(document["overrides"]):
        problems += templates.problems_of(definitions, override["parameters"], f"$.overrides[{i}].parameters")
    if document["auditor"]:
        problems += templates.problems_of(parameters_of("auditor.yaml"), auditor_parameters(document), "$.auditor")
    if document["scp"]["enabled"] and document["organizational_units"]:
        problems += templates.problems_of(parameters_of("scp.yaml"), scp_parameters(document), "$.scp")
    return problems


def auditor_parameters(document):
    auditor = document["auditor"]
    return {
        "TrustedRoleArn": auditor["trusted_role"],
        "ExternalId": auditor["external_id"],
        "RoleName": auditor.get("role_name", "force-mfa-auditor"),
        "PermissionsBoundaryName": auditor.get("permissions_boundary", ""),
        "NamePrefix": prefix(document),
    }


def scp_parameters(document):
    return {
        "TargetIds": ",".join(document["organizational_units"]),
        "ScpExemptRole": document["scp"]["exempt_role"],
        "NamePrefix": prefix(document),
    }


def parameters_of(template):
    return templates.parse((INFRA / template).read_text("utf-8"))["Parameters"]


def prefix(document):
    return document["parameters"].get("NamePrefix", "force-mfa")


def refuse(path, problems):
    if problems:
        raise WrongUsage("\n".join([f"{path} cannot be used; nothing was sent:", *(f"  {p}" for p in problems)]))


def with_defaults(schema, document):
    empty = {"array": [], "object": {}}
    filled = {}
    for name, definition in schema["properties"].items():
        if "$ref" in definition:
            definition = schema["$defs"][definition["$ref"].rsplit("/", 1)[1]]
        filled[name] = document.get(name, definition.get("default", empty.get(definition.get("type"), "")))
    for name in ("scp", "release"):
        inner = schema["properties"][name]["properties"]
        filled[name] = {key: value["default"] for key, value in inner.items()} | filled[name]
    return filled
