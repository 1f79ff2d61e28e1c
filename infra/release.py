"""Builds and publishes a release of force-mfa: the function's zip and the account template, each under a key that
holds the sha256 of its content. So publishing twice changes nothing, and an older release is a pair of older keys."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from aws_calls import RolloutError, WrongUsage
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "infra" / "template.yaml"
PACKAGES = ROOT / "target" / "package"
# Of every file of a release, as `sha256sum` writes it.
SUMS = "SHA256SUMS"
# The names of the architectures: Lambda's, and the compiler's.
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}


@dataclass
class Release:
    """A release as it stands, or will stand, in the artifact bucket."""

    template_key: str
    code_key: str
    template: str
    # What is still to be uploaded: key and file.
    files: dict = field(default_factory=dict)

    @property
    def architecture(self):
        return self.code_key.split("/")[1]

    def keys(self):
        return {"template_key": self.template_key, "code_key": self.code_key}


def package(architecture, folder=PACKAGES):
    """Builds the function and returns its zip, which depends on the sources alone."""
    binaries = folder / "lambda"
    if shutil.which("rustup"):
        run("rustup", "target", "add", TARGETS[architecture])
    run(
        "cargo", "lambda", "build", "--release", "--locked", "--bin", "function",
        "--target", TARGETS[architecture], "--lambda-dir", str(binaries / architecture),
        env={**os.environ, "RUSTFLAGS": rust_flags()},
    )  # fmt: skip
    target = folder / f"force-mfa-{architecture}.zip"
    write_zip(target, (binaries / architecture / "function" / "bootstrap").read_bytes())
    print(f"{sha256(target)}  {target}")
    return target


def run(*command, **options):
    print("+", *command, flush=True)
    try:
        subprocess.run(command, check=True, cwd=ROOT, **options)
    except subprocess.CalledProcessError as error:
        raise RolloutError(f"{' '.join(command)} ended with {error.returncode}. Nothing was sent to AWS.") from error
    except FileNotFoundError as error:
        raise WrongUsage(f"{error.filename} was not found: docs/rollout.md lists what must be installed.") from error


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
    return f"force-mfa/{architecture}/{sha256(zip_path)}.zip"


def template_key(template=TEMPLATE):
    return f"force-mfa/template/{sha256(template)}.yaml"


def of_files(architecture, zip_path, template=TEMPLATE):
    """The release of files on this machine."""
    files = {code_key(architecture, zip_path): zip_path, template_key(template): template}
    code, text = files
    return Release(text, code, template.read_text("utf-8"), files)


def of_folder(architecture, folder):
    """The release of a folder that `make release` wrote, or that was downloaded, checked against its SHA256SUMS."""
    check_sums(folder, [f"force-mfa-{architecture}.zip", "template.yaml"])
    return of_files(architecture, folder / f"force-mfa-{architecture}.zip", folder / "template.yaml")


def check_sums(folder, names):
    """An error unless these files are in the folder with the sums that its SHA256SUMS says."""
    sums = folder / SUMS
    if not sums.is_file():
        raise WrongUsage(
            f"{folder} has no {SUMS}, so it is not a release. Name the folder that was downloaded, or run make release."
        )
    listed = dict(reversed(line.split("  ", 1)) for line in sums.read_text("utf-8").splitlines() if line)
    for name in names:
        path = folder / name
        if name not in listed or not path.is_file():
            raise WrongUsage(f"{folder} has no {name}, or {SUMS} does not list it. Download the whole release again.")
        if sha256(path) != listed[name]:
            raise WrongUsage(
                f"{path} is not the file that {SUMS} lists. Nothing was deployed. Download the release again."
            )


def of_bucket(aws, bucket, keys):
    """A release that was published before. Its content is checked against its keys."""
    for key in keys.values():
        if not is_published(aws, bucket, key):
            raise WrongUsage(
                f"There is no {key} in {bucket}. `aws s3 ls --recursive s3://{bucket}/force-mfa/` lists what there is."
            )
    body = aws.read("s3", "get_object", Bucket=bucket, Key=keys["template_key"])["Body"].read()
    return Release(keys["template_key"], keys["code_key"], body.decode("utf-8"))


def is_published(aws, bucket, key):
    """Whether the key is there. An error if its content is not what the key says."""
    answer = aws.read("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    if answer is None:
        return False
    digest = bytes.fromhex(re.search("[0-9a-f]{64}", key)[0])
    if answer.get("ChecksumSHA256") != base64.b64encode(digest).decode():
        raise RolloutError(
            f"s3://{bucket}/{key} does not have the sha256 that its key says. Somebody replaced it, or it was not uploaded "
            "by make. Deploy nothing from it, and find out who wrote it (CloudTrail, the object's versions)."
        )
    return True


def publish(aws, bucket, files, is_new=False):
    """Uploads the files that are not there yet. S3 checks each against the sha256 and never overwrites. A bucket that
    `is_new` does not even exist, in a dry run."""
    for key, path in files.items():
        if not is_new and is_published(aws, bucket, key):
            print(f"s3://{bucket}/{key} is published already.")
            continue
        print(f"s3://{bucket}/{key}: upload ...")
        checksum = base64.b64encode(bytes.fromhex(sha256(path))).decode()
        try:
            aws.change(
                "s3", "put_object", {"Body": path}, Bucket=bucket, Key=key, IfNoneMatch="*", ChecksumSHA256=checksum
            )  # fmt: skip
        except RolloutError as error:
            # Another run uploaded it between our look and our upload.
            is_taken = (
                isinstance(error.__cause__, ClientError)
                and error.__cause__.response["Error"]["Code"] == "PreconditionFailed"
            )
            if not (is_taken and is_published(aws, bucket, key)):
                raise
