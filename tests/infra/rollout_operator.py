"""Somebody who runs the roll-out with credentials of an account of the organization in memory."""

import json
import os
import subprocess

import pytest

import cfn
import rollout
from aws_stand_in import SANDBOX, WORK

FILE = {
    "call_as": "DELEGATED_ADMIN",
    "organizational_units": [WORK, SANDBOX],
    "management_account": False,
    "failure_tolerance_percentage": 0,
    "parameters": {"ExemptPaths": "/service/"},
}


class Operator:
    """Runs the program as somebody with credentials would."""

    def __init__(self, organization, folder, capture):
        self.organization, self.folder, self.capture = organization, folder, capture
        self.bin = folder / "bin"
        self.bin.mkdir()
        # In place of a build of minutes: a "binary" whose content the test chooses.
        cargo = self.bin / "cargo"
        cargo.write_text(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ $1 = --lambda-dir ] && dir=$2; shift; done\n"
            f"mkdir -p $dir/function && cp {folder}/binary $dir/function/bootstrap\n"
        )
        cargo.chmod(0o755)
        (self.bin / "rustup").write_text("#!/bin/sh\n")
        (self.bin / "rustup").chmod(0o755)
        self.binary("release 1")
        self.account = "SECURITY"
        self.write(FILE)

    def binary(self, content):
        (self.folder / "binary").write_text(content)

    def write(self, document, **changes):
        self.document = document | changes
        (self.folder / "rollout.json").write_text(json.dumps(self.document))

    def change(self, **changes):
        self.write(self.document, **changes)

    def environment(self):
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "AWS_ENDPOINT_URL": self.organization.url,
            "AWS_ACCESS_KEY_ID": f"AKIA{self.account}",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "ROLLOUT": str(self.folder / "rollout.json"),
        }

    def run(self, command, *options, expect=0, dry_run=False):
        """What the command prints. `expect` is its exit code, or those that it may have."""
        self.organization.calls.clear()
        words = ["--folder", str(self.folder / "build"), "--poll-seconds", "0", *(["--dry-run"] if dry_run else [])]
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in self.environment().items():
                patch.setenv(name, value)
            code = rollout.main([*words, command, *options])
        captured = self.capture.readouterr()
        said = captured.out + captured.err
        assert code in (expect if isinstance(expect, tuple) else (expect,)), said
        return said

    def deploy(self, *options, **expected):
        return self.run("deploy-org", *options, **expected)

    def make(self, *words, expect=0):
        """The same through make. What make would install is there."""
        self.organization.calls.clear()
        # After `make check` there is a sam in .venv-check, which would come before the one of the test.
        stamps = ["-o", ".venv/.stamp", "CHECK_VENV=no-tools", "-o", "no-tools/.stamp"]
        done = subprocess.run(
            ["make", "--no-print-directory", *stamps, *words, "POLL_SECONDS=0"],
            env=self.environment(), cwd=cfn.ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        # make's own exit code is 2 for every failure; it names the one of the recipe.
        said = done.stdout + done.stderr
        code = 0 if done.returncode == 0 else int(said.rsplit("Error ", 1)[1].split()[0])
        assert code == expect, said
        return said
