#!/usr/bin/env python3
"""`make budget`: is the release build of the function within benches/budget.toml, and does a panic end it?"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import zlib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
FUNCTION = ROOT / "target/release/function"


def main():
    limits = re.findall(r"^(\w+) = ([\d_]+)$", (HERE / "budget.toml").read_text(), re.MULTILINE)
    measured = {"zip_bytes": zip_bytes(), "crates": crates()}
    problems = []
    for name, limit in ((name, int(limit)) for name, limit in limits):
        print(f"{name}: {measured[name]:,} of {limit:,}")
        if measured[name] > limit:
            problems.append(f"{name} is over its budget by {measured[name] - limit:,}: see benches/budget.toml")
    problems += panic_problems()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def zip_bytes():
    """The binary, deflated; the rest of a zip with one entry is about 120 bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(packer.compress(FUNCTION.read_bytes()) + packer.flush()) + 120


def crates():
    cargo = os.environ.get("CARGO", "cargo")
    tree = [cargo, "tree", "--locked", "--package", "force-mfa", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}"]
    names = subprocess.run(tree, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return len(set(names.split("\n")) - {""}) - 1  # without the function's own


def panic_problems():
    """Without its Runtime API the runtime panics. What a panic must do: one log line, and an end that Lambda sees."""
    environment = {
        "FORCE_MFA_POLICY_ARN": "arn:aws:iam::123456789012:policy/force-mfa",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    done = subprocess.run([FUNCTION], env=environment, capture_output=True, text=True, timeout=30)
    problems = []
    if done.returncode != -signal.SIGABRT:
        problems.append(f"after a panic the function ended with {done.returncode}, not by SIGABRT")
    try:
        line = json.loads(done.stdout)
        if (line["level"], line["message"]) != ("ERROR", "the function panicked"):
            problems.append(f"a panic is logged as {line}")
    except ValueError:
        problems.append(f"a panic is not logged as one JSON line: {done.stdout!r} {done.stderr!r}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
