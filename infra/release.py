#!/usr/bin/env python3
"""Builds, publishes and rolls out a release of force-mfa; `make package`, `publish` and `deploy-org` call it.

A release is the function's zip for each architecture and the account template, each under a key that holds
the sha256 of its content. So publishing twice changes nothing, and deploying an older release is deploying
older keys.

With --dry-run every command is printed and none is run.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "infra" / "template.yaml"
ORGANIZATION = ROOT / "infra" / "organization.yaml"
# The names of the architectures: Lambda's, and the compiler's.
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}


class Shell:
    """Runs commands, or only shows them."""

    def __init__(self, dry_run):
        self.dry_run = dry_run

    def run(self, *command, **options):
        print("+", shlex.join(map(str, command)), flush=True)
        if not self.dry_run:
            subprocess.run(command, check=True, cwd=ROOT, **options)

    def ask(self, *command):
        """What a command that only reads prints; nothing in a dry run or if it fails."""
        if self.dry_run:
            print("+", shlex.join(map(str, command)), flush=True)
            return None
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None


def package(shell, architecture, folder):
    """Builds the function and returns its zip, which depends on the sources alone; nothing in a dry run."""
    binaries = folder / "lambda"
    if shutil.which("rustup") or shell.dry_run:
        shell.run("rustup", "target", "add", TARGETS[architecture])
    shell.run(
        "cargo", "lambda", "build", "--release", "--locked", "--bin", "function",
        "--target", TARGETS[architecture], "--lambda-dir", binaries / architecture,
        env={**os.environ, "RUSTFLAGS": rust_flags()},
    )  # fmt: skip
    target = folder / f"force-mfa-{architecture}.zip"
    if shell.dry_run:
        print(f"  would write {target}")
        return None
    write_zip(target, (binaries / architecture / "function" / "bootstrap").read_bytes())
    print(f"{sha256(target)}  {target}")
    return target


def rust_flags():
    """Flags by which the binary holds no folder of the machine that it is built on."""
    cargo_home = os.environ.get("CARGO_HOME", Path.home() / ".cargo")
    remap = [f"--remap-path-prefix={cargo_home}=cargo", f"--remap-path-prefix={ROOT}=force-mfa"]
    return " ".join(filter(None, [os.environ.get("RUSTFLAGS"), *remap]))


def write_zip(target, bootstrap):
    """One entry, `bootstrap`, with a fixed time and mode: the same binary gives the same zip."""
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, wherever it is written, so that the mode counts.
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(entry, bootstrap, compresslevel=9)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_key(architecture, zip_path):
    # In a dry run nothing was built.
    digest = sha256(zip_path) if zip_path else "SHA256-OF-THE-ZIP"
    return f"force-mfa/{architecture}/{digest}.zip"


def template_key():
    return f"force-mfa/template/{sha256(TEMPLATE)}.yaml"


def publish(shell, bucket, zips):
    """Puts zips and template into the bucket, where they are not there yet."""
    files = {code_key(architecture, path): path for architecture, path in zips.items()}
    files[template_key()] = TEMPLATE
    for key, path in files.items():
        if shell.ask("aws", "s3api", "head-object", "--bucket", bucket, "--key", key):
            print(f"  already there: s3://{bucket}/{key}")
            continue
        shell.run("aws", "s3api", "put-object", "--bucket", bucket, "--key", key, "--body", path or "ITS-ZIP")
    return list(files)


def deploy_org(shell, arguments, folder):
    """Bucket, then release, then StackSet. Each step finds what is done already."""
    parameters = read_parameters(shell, arguments.parameters)
    stack = arguments.stack_name
    if bucket_of(shell, stack) is None:
        # Without a TemplateKey there is no StackSet yet.
        deploy_stack(shell, stack, parameters)
    bucket = bucket_of(shell, stack) or "BUCKET-OF-THE-STACK"
    release = {"TemplateKey": arguments.template_key, "CodeKey": arguments.code_key}
    if not all(release.values()):
        path = package(shell, arguments.architecture, folder)
        publish(shell, bucket, {arguments.architecture: path})
        key = code_key(arguments.architecture, path)
        release = {"TemplateKey": template_key(), "CodeKey": key}
    release["Architecture"] = arguments.architecture
    if arguments.canary:
        update_canary(shell, stack, bucket, release, parameters, arguments.canary)
    else:
        deploy_stack(shell, stack, {**parameters, **release})
    print(f"this release: TEMPLATE_KEY={release['TemplateKey']} CODE_KEY={release['CodeKey']}")


def deploy_stack(shell, stack, parameters):
    overrides = [f"{name}={value}" for name, value in parameters.items()]
    shell.run(
        "aws", "cloudformation", "deploy", "--stack-name", stack,
        "--template-file", ORGANIZATION, "--no-fail-on-empty-changeset",
        *(["--parameter-overrides", *overrides] if overrides else []),
    )  # fmt: skip


def update_canary(shell, stack, bucket, release, parameters, unit):
    """Gives the release to the canary's accounts alone; the others stay on theirs, as OUTDATED."""
    name = parameters.get("NamePrefix", "force-mfa")
    call_as = parameters.get("CallAs", "SELF")
    region = home_region(bucket, shell)
    url = f"https://{bucket}.s3.{region}.amazonaws.com/{release['TemplateKey']}"
    changed = {"CodeKey": release["CodeKey"], "Architecture": release["Architecture"]}
    known = shell.ask(
        "aws", "cloudformation", "describe-stack-set", "--stack-set-name", name,
        "--call-as", call_as, "--query", "StackSet.Parameters[].ParameterKey", "--output", "json",
    )  # fmt: skip
    keep = [key for key in json.loads(known or "[]") if key not in changed]
    shell.run(
        "aws", "cloudformation", "update-stack-set", "--stack-set-name", name, "--call-as", call_as,
        "--template-url", url, "--capabilities", "CAPABILITY_NAMED_IAM",
        "--deployment-targets", f"OrganizationalUnitIds={unit}", "--regions", region,
        "--parameters",
        *(f"ParameterKey={key},UsePreviousValue=true" for key in keep),
        *(f"ParameterKey={key},ParameterValue={value}" for key, value in changed.items()),
    )  # fmt: skip
    print(f"  when the canary is well: make deploy-org, which gives stack {stack} the same release")


def home_region(bucket, shell):
    """The region of the bucket, which the template puts into the partition's home region."""
    answer = shell.ask("aws", "s3api", "get-bucket-location", "--bucket", bucket, "--output", "text")
    # us-east-1 has no location constraint.
    return answer if answer not in (None, "None") else "us-east-1"


def bucket_of(shell, stack):
    answer = shell.ask(
        "aws", "cloudformation", "describe-stacks", "--stack-name", stack, "--output", "text",
        "--query", "Stacks[0].Outputs[?OutputKey=='ArtifactBucket'].OutputValue",
    )  # fmt: skip
    return answer or None


def read_parameters(shell, path):
    """A JSON object of parameters; the file is the roll-out's record, so it belongs under version control."""
    if path is None:
        return {}
    if not Path(path).exists():
        missing = f"{path} does not exist: docs/rollout.md says what stands in it"
        if not shell.dry_run:
            sys.exit(missing)
        print(f"  {missing}")
        return {}
    parameters = json.loads(Path(path).read_text(encoding="utf-8"))
    not_text = [name for name, value in parameters.items() if not isinstance(value, str)]
    if not_text:
        sys.exit(f"{path}: the values of {', '.join(not_text)} must be text")
    return parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="show the commands and run none")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "target" / "package", help="where zips are built"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("package", help="build the zip of each architecture")
    commands.add_parser("rust-flags", help="print the compiler's flags, for builds by other tools")
    publishing = commands.add_parser("publish", help="package, and upload to a bucket")
    publishing.add_argument("--bucket", required=True)
    rolling = commands.add_parser("deploy-org", help="publish to the organization's bucket, and roll out")
    rolling.add_argument("--stack-name", default="force-mfa-organization")
    rolling.add_argument("--parameters", help="JSON file with the parameters of organization.yaml")
    rolling.add_argument("--architecture", choices=TARGETS, default="arm64")
    rolling.add_argument("--canary", help="an organizational unit to give the release to alone")
    rolling.add_argument("--template-key", help="a template that was published before; with --code-key nothing is built")
    rolling.add_argument("--code-key", help="a zip that was published before")
    arguments = parser.parse_args()

    shell = Shell(arguments.dry_run)
    folder = arguments.folder.resolve()
    try:
        if arguments.command == "rust-flags":
            print(rust_flags())
            return
        if arguments.command == "deploy-org":
            deploy_org(shell, arguments, folder)
            return
        zips = {architecture: package(shell, architecture, folder) for architecture in TARGETS}
        if arguments.command == "publish":
            for key in publish(shell, arguments.bucket, zips):
                print(f"s3://{arguments.bucket}/{key}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{shlex.join(map(str, error.cmd))} ended with {error.returncode}")
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} was not found: see docs/rollout.md for what must be installed")


if __name__ == "__main__":
    main()
