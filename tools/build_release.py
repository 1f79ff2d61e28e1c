#!/usr/bin/env python3
"""`make release`: everything that a release consists of, in one folder, with its sums.

    force-mfa-arm64.zip, force-mfa-x86_64.zip      the function
    force-mfa-linux-arm64.tar.gz, …-x86_64.tar.gz  the operator's command, with shell completions
    template.yaml, organization.yaml, auditor.yaml, scp.yaml
    force-mfa-rollout.tar.gz                       the scripts of the roll-out, which need Python alone
    function.cdx.json, force-mfa.cdx.json          what each binary is built from (from `make sbom`)
    SHA256SUMS

The same commit gives the same bytes, wherever it is built.
"""

import gzip
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "infra"))
import release  # noqa: E402

TEMPLATES = ["template.yaml", "organization.yaml", "auditor.yaml", "scp.yaml"]
ROLLOUT = ["*.yaml", "*.json", "README.md"]
# It belongs to the checks, and needs what only a checkout has.
NOT_ROLLOUT = {"lint_policies.py"}
SBOMS = ["function.cdx.json", "force-mfa.cdx.json"]
SHELLS = {"bash": "force-mfa.bash", "zsh": "_force-mfa", "fish": "force-mfa.fish"}
# What Python calls the architectures that Lambda calls otherwise.
MACHINES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "AMD64": "x86_64"}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    dist = Path(sys.argv[1]).resolve()
    dist.mkdir(parents=True, exist_ok=True)
    sboms = {name: (dist / name).read_text("utf-8") for name in SBOMS}
    for path in dist.iterdir():
        path.unlink()
    for name, text in sboms.items():
        (dist / name).write_text(reproducible(text, commit_time()), "utf-8")
    for architecture in release.TARGETS:
        shutil.copyfile(release.package(architecture), dist / f"force-mfa-{architecture}.zip")
    commands = {architecture: build_command(architecture) for architecture in release.TARGETS}
    completions = completions_of(commands[MACHINES[platform.machine()]])
    for architecture, binary in commands.items():
        files = {"force-mfa": (binary.read_bytes(), 0o755)} | completions | licence()
        write_tar(dist / f"force-mfa-linux-{architecture}.tar.gz", "force-mfa", files)
    for name in TEMPLATES:
        shutil.copyfile(ROOT / "infra" / name, dist / name)
    write_tar(dist / "force-mfa-rollout.tar.gz", "force-mfa-rollout", rollout_files())
    write_sums(dist)
    for path in sorted(dist.iterdir()):
        print(f"{path.stat().st_size:>10}  {path.name}")


def build_command(architecture):
    """The operator's command, built against the same old glibc as the function."""
    folder = release.PACKAGES / "command" / architecture
    release.run(
        "cargo", "lambda", "build", "--release", "--locked", "--features", "cli", "--bin", "force-mfa",
        "--target", release.TARGETS[architecture], "--lambda-dir", str(folder),
        env={**os.environ, "RUSTFLAGS": release.rust_flags()},
    )  # fmt: skip
    return folder / "force-mfa" / "bootstrap"


def completions_of(binary):
    files = {}
    for shell, name in SHELLS.items():
        script = subprocess.run([binary, "completions", shell], check=True, capture_output=True).stdout
        files[f"completions/{name}"] = (script, 0o644)
    return files


def licence():
    return {"LICENSE": ((ROOT / "LICENSE").read_bytes(), 0o644)}


def rollout_files():
    """The scripts with the files that they read, as `infra/` beside a list of what they need of PyPI."""
    infra = ROOT / "infra"
    scripts = [path for path in infra.glob("*.py") if path.name not in NOT_ROLLOUT]
    others = [path for pattern in ROLLOUT for path in infra.glob(pattern)]
    files = {f"infra/{path.name}": (path.read_bytes(), 0o644) for path in (*scripts, *others)}
    return files | {"requirements.txt": (b"boto3\njsonschema\nPyYAML\n", 0o644)} | licence()


def write_tar(target, folder, files):
    """Entries in order, with a fixed time and owner, in a gzip without time or name: the same files give the same bytes."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))


def commit_time():
    """When the commit was made, in UTC."""
    command = ["git", "log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}
    ).stdout.strip()


def reproducible(text, time):
    """An SBOM without what differs at each run: its serial number, its time, and the folder of the sources."""
    document = json.loads(text.replace(f"path+file://{ROOT}", "path+file:///force-mfa"))
    document.pop("serialNumber", None)
    document["metadata"]["timestamp"] = time
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def write_sums(dist):
    paths = sorted(path for path in dist.iterdir() if path.name != release.SUMS)
    lines = [f"{release.sha256(path)}  {path.name}\n" for path in paths]
    (dist / release.SUMS).write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
