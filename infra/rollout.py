#!/usr/bin/env python3
"""Rolls force-mfa out: to one account, or to an organization as rollout.json says. The make targets call it."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

try:
    import management_account
    import organization_rollout
    import release
    import rollout_file
    import stacks
    import templates
    from aws_calls import Aws, RolloutError, WrongUsage
except ImportError as error:
    sys.exit(f"{error}. This needs PyYAML, jsonschema and boto3: pip install PyYAML jsonschema boto3, or make setup in a checkout")

INFRA = Path(__file__).resolve().parent


def given_parameters():
    """The parameters of PARAMETERS_FILE and PARAMETERS. PARAMETERS wins."""
    file = os.environ.get("PARAMETERS_FILE")
    given = rollout_file.read_json(file) if file else {}
    try:
        words = shlex.split(os.environ.get("PARAMETERS", ""))
    except ValueError as error:
        raise WrongUsage(f"PARAMETERS: {error}") from None
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            raise WrongUsage(
                f'PARAMETERS: {word!r} is not Name=value. Quote a value with blanks: ExemptTag="mfa exempt=yes"'
            )
        given[name] = value
    return given


def check_parameters(given, template, filled_in_by):
    problems = templates.problems_of(templates.parse(template)["Parameters"], given, "PARAMETERS")
    problems += [
        f"PARAMETERS.{name}: {filled_in_by} fills it in" for name in ("CodeBucket", "CodeKey") if name in given
    ]
    return problems


def deploy(arguments):
    """One account: a release without a compiler, else through SAM, which has built the function for arm64."""
    if arguments.release:
        return deploy_release(arguments)
    given = given_parameters()
    problems = check_parameters(given, release.TEMPLATE.read_text("utf-8"), "SAM")
    if given.get("Architecture", "arm64") != "arm64":
        problems.append(
            "PARAMETERS.Architecture: the function is built for arm64, and would not start as anything else"
        )
    rollout_file.refuse("PARAMETERS", problems)
    # A parameter that is not named keeps its value: the stack may have been deployed for x86_64 by other means.
    given |= {"CodeBucket": "set-by-sam", "CodeKey": "set-by-sam.zip", "Architecture": "arm64"}
    # SAM splits at blanks outside of quotation marks. No value that the template allows holds one.
    quoted = [f'{name}="{value}"' for name, value in given.items()]
    command = [
        "sam",
        "deploy",
        "--template",
        arguments.template,
        "--config-file",
        str(INFRA / "samconfig.toml"),
        "--parameter-overrides",
        *quoted,
    ]
    if arguments.dry_run:
        print("+", shlex.join(command))
        return 0
    return subprocess.run(command, env={**os.environ, "SAM_CLI_TELEMETRY": "0"}, check=False).returncode


def deploy_release(arguments):
    """One account: uploads zip and template of a release to a bucket of the account, and deploys the stack."""
    if not arguments.bucket:
        raise WrongUsage(
            "A release needs BUCKET=name: a bucket in the home region that this account may read and write."
        )
    given = given_parameters()
    wanted = release.of_folder(given.get("Architecture", "arm64"), arguments.release)
    rollout_file.refuse("PARAMETERS", check_parameters(given, wanted.template, "the release"))
    aws = Aws(arguments.dry_run)
    stack = stacks.Deployment(aws, given.get("NamePrefix", "force-mfa"))
    if stack.stack:
        # As with SAM, parameters that are not named keep their values.
        given = {p["ParameterKey"]: p["ParameterValue"] for p in stack.stack.get("Parameters", [])} | given
    release.publish(aws, arguments.bucket, wanted.files)
    url = f"https://{arguments.bucket}.s3.{aws.region}.amazonaws.com/{wanted.template_key}"
    filled = {"CodeBucket": arguments.bucket, "CodeKey": wanted.code_key, "Architecture": wanted.architecture}
    tags = {tag["Key"]: tag["Value"] for tag in (stack.stack or {}).get("Tags", [])}
    stack.deploy(
        templates.Deployable({"TemplateURL": url}, given | filled, tags, wanted.template), arguments.poll_seconds
    )
    return 0


def import_template(arguments):
    target = arguments.folder / "import-template.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(templates.import_template(release.TEMPLATE.read_text("utf-8")), "utf-8")
    print(target)
    return 0


def package(arguments):
    for architecture in release.TARGETS:
        release.package(architecture, arguments.folder)
    return 0


def publish(arguments):
    files = {}
    for architecture in release.TARGETS:
        files |= release.of_files(architecture, release.package(architecture, arguments.folder)).files
    release.publish(Aws(arguments.dry_run), arguments.bucket, files)
    return 0


def print_rust_flags(_):
    print(release.rust_flags())
    return 0


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="read, build, and print what would change as commands")
    parser.add_argument(
        "--folder", type=lambda path: Path(path).resolve(), default=release.PACKAGES, help="where files are built"
    )
    parser.add_argument(
        "--release", type=lambda path: Path(path).resolve(), help="folder of a release: nothing is built"
    )
    rollout = os.environ.get("ROLLOUT", "rollout.json")
    parser.add_argument("--file", default=rollout, help="the record of what was decided")
    parser.add_argument("--poll-seconds", type=float, default=5, help="how often to look while waiting")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, function, *options):
        subparser = commands.add_parser(name, help=function.__doc__)
        subparser.set_defaults(function=function)
        for option, settings in options:
            subparser.add_argument(option, **settings)

    flag = {"action": "store_true"}
    command("deploy", deploy, ("--template", {}), ("--bucket", {}))
    command("deploy-org", organization_rollout.deploy_org, ("--canary", flag), ("--remove", flag))
    keys = [
        (f"--{name}", {"required": True}) for name in ("artifact-bucket", "alarm-topic-arn", "template-key", "code-key")
    ]
    command("deploy-management", management_account.deploy_management, ("--remove", flag), *keys)
    command("rollout-status", organization_rollout.status)
    command("remove-org", organization_rollout.remove_org, ("--confirm", {"default": ""}), ("--retain", flag))
    command("import-template", import_template)
    command("package", package)
    command("publish", publish, ("--bucket", {"required": True}))
    command("rust-flags", print_rust_flags)
    arguments = parser.parse_args(words)
    arguments.canary = getattr(arguments, "canary", False)
    arguments.remove = getattr(arguments, "remove", False)
    try:
        return arguments.function(arguments)
    except RolloutError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "\nStopped. If CloudFormation has begun an operation, it continues: make rollout-status shows its progress.",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
