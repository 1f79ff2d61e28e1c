#!/usr/bin/env python3
"""`make sbom`: what each binary is built from, as CycloneDX files in dist/.

cargo-cyclonedx takes all of the workspace together, and so it also names crates that only the tests have, such as
criterion, or that only they switch on, such as h2. Here each binary keeps the crates that `cargo tree` names for it."""

import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARGO = os.environ.get("CARGO", "cargo")
VERSION = "0.5.9"
TOOL = ROOT / ".tools" / f"cargo-cyclonedx-{VERSION}"
TARGET = "aarch64-unknown-linux-gnu"
FEATURES = {"function": ["--no-default-features"], "force-mfa": ["--features", "cli"]}


def main():
    if not (TOOL / "bin" / "cargo-cyclonedx").exists():
        print(f"Building cargo-cyclonedx {VERSION}: some minutes, once ...", flush=True)
        install = [CARGO, "install", "--locked", "--quiet", "--version", VERSION, "--root", TOOL, "cargo-cyclonedx"]
        subprocess.run(install, check=True)
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    for binary, features in FEATURES.items():
        document = only(crates_of(features), everything(binary, features))
        (dist / f"{binary}.cdx.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        print(f"dist/{binary}.cdx.json: {len(document['components'])} crates")


def everything(binary, features):
    """What cargo-cyclonedx writes. It writes a file beside each Cargo.toml of the workspace; the root's is ours."""
    name = f"{binary}.cdx"
    command = [
        CARGO, "cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--target", TARGET, *features,
        "--override-filename", name,
    ]  # fmt: skip
    path = os.pathsep.join([str(TOOL / "bin"), os.environ["PATH"]])
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PATH": path})
    written = ROOT / f"{name}.json"
    document = json.loads(written.read_text("utf-8"))
    for path in (written, *ROOT.glob(f"*/*/{name}.json")):
        path.unlink()
    return document


def crates_of(features):
    """Name and version of each crate that the binary is built from, build scripts and macros included."""
    tree = [CARGO, "tree", "--locked", "--package=force-mfa", "--edges=normal,build", f"--target={TARGET}", *features]
    lines = subprocess.run(
        [*tree, "--prefix=none", "--no-dedupe", "--format={p}"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return set(re.findall(r"^(\S+) v(\S+)", lines, re.MULTILINE))


def only(crates, document):
    """The document with these crates alone."""
    components = [c for c in document["components"] if (c["name"], c["version"]) in crates]
    refs = {c["bom-ref"] for c in components} | {document["metadata"]["component"]["bom-ref"]}
    dependencies = [
        one | {"dependsOn": [ref for ref in one["dependsOn"] if ref in refs]} if "dependsOn" in one else one
        for one in document["dependencies"]
        if one["ref"] in refs
    ]
    return document | {"components": components, "dependencies": dependencies}


if __name__ == "__main__":
    main()
