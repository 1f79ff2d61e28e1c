"""Check `force-mfa` and `aws` commands: does the command exist, and does it have the options?

The options of `force-mfa` are read from its clap definitions, those of `aws` from AWS's models in botocore. Values are not
checked, nor is what follows a nested command.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name
from botocore.exceptions import UnknownServiceError

SOURCE = Path(__file__).resolve().parent.parent / "src"
COMMAND = re.compile(r"(?:^|[;&|(!]|\b(?:do|then|if|while)\b)[ \t]*((?:aws|force-mfa)[ \t][^\n;&|()]*)", re.MULTILINE)
OPTION = re.compile(r"(?<=\s)--([a-z][a-z0-9-]*)")
# Options of every command: https://docs.aws.amazon.com/cli/latest/reference/index.html#global-options,
# and those of pagination: https://docs.aws.amazon.com/cli/latest/userguide/cli-usage-pagination.html
AWS_OPTIONS = set(
    "debug endpoint-url no-verify-ssl no-paginate output query profile region version color no-sign-request ca-bundle "
    "cli-read-timeout cli-connect-timeout cli-binary-format no-cli-pager cli-auto-prompt no-cli-auto-prompt "
    "cli-input-json cli-input-yaml generate-cli-skeleton max-items starting-token page-size".split()
)
# Commands of the AWS CLI itself, which no model of a service has.
AWS_CLI_ONLY = {"login", "sso", "configure"}


def problems_of_commands(shell: str) -> Iterator[str]:
    """Yield what is wrong with the commands in a shell script, or in a console's lines that begin with `$`."""
    if re.search(r"^\$ ", shell, re.MULTILINE):
        shell = "\n".join(re.findall(r"^\$ (.*)", shell, re.MULTILINE))
    shell = re.sub(r"(^|\s)#.*", r"\1", shell).replace("\\\n", " ")
    for command in COMMAND.findall(re.sub(r"'[^']*'", "''", shell)):
        program, *words = command.split()
        options = OPTION.findall(command)
        known = aws_options(words) if program == "aws" else force_mfa_options(words)
        if known is None:
            yield f"`{command.strip()}` is no command of {program}"
        for option in [] if known is None else sorted(set(options) - known - {"help"}):
            yield f"`--{option}` is no option of `{program} {' '.join(words[:2])}`"


@functools.cache
def session() -> botocore.session.Session:
    return botocore.session.get_session()


def aws_options(words: list[str]) -> set[str] | None:
    service, operation, *more = [*words, "", ""]
    if service in AWS_CLI_ONLY:
        return {"profile", "format", "remote"}
    service = {"s3api": "s3"}.get(service, service)
    try:
        model = session().get_service_model(service)
        if operation == "wait":
            waiters = session().get_waiter_model(service)
            names = {xform_name(name, "-"): waiters.get_waiter(name).operation for name in waiters.waiter_names}
            operation = names.get(more[0], "")
        else:
            operation = {xform_name(name, "-"): name for name in model.operation_names}.get(operation, "")
    except UnknownServiceError:
        return None
    if not operation:
        return None
    shape = model.operation_model(operation).input_shape
    names = {xform_name(name, "-") for name in shape.members} if shape else set()
    # A boolean has a negative form too.
    return AWS_OPTIONS | names | {f"no-{name}" for name in names}


@functools.cache
def flags(*files: str) -> set[str]:
    """The long flags that clap derives from the fields of these files."""
    found = "".join((SOURCE / "bin" / "force-mfa" / file).read_text() for file in files)
    fields = re.findall(r"#\[arg\((.*?)\)\]\s*(?:pub )?(\w+):", found, re.DOTALL)
    return {name.replace("_", "-") for attributes, name in fields if "long" in attributes}


def force_mfa_options(words: list[str]) -> set[str] | None:
    main = (SOURCE / "bin" / "force-mfa" / "main.rs").read_text()
    commands = {name.lower() for name in re.findall(r"^    (\w+)(?:\(\w+::Arguments\),| \{)$", main, re.MULTILINE)}
    settings = set(re.findall(r'flag: "([a-z-]+)"', (SOURCE / "settings.rs").read_text()))
    known = {"version"} | settings | flags("session.rs", "sign_in.rs")
    # A flag that is global may stand before the command, with its value. COMMAND and … are placeholders.
    named = [word for word in words if word in commands]
    if not named:
        return known if re.match(r"--|COMMAND|…", words[0]) else None
    files = [f"commands/{named[0]}{end}.rs" for end in ("", "/mod") if (SOURCE / f"bin/force-mfa/commands/{named[0]}{end}.rs").exists()]
    organization = ["organization/accounts.rs"] if named[0] in ("status", "doctor") else []
    return known | (flags(*files, *organization) if files else set())
