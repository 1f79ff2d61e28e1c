"""The builds of the function for the demo, of the command, and of the tests share their compiled crates."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def features(*options):
    """Each crate of the build with its features."""
    tree = ["cargo", "tree", "--locked", "--prefix=none", "--no-dedupe", "--format={p} [{f}]", *options]
    lines = subprocess.run(tree, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return dict(re.match(r"(\S+ v\S+).*\[(.*)\]", line).groups() for line in lines if line)


@pytest.mark.parametrize("option", ["--features=shared-features/on", "--all-features"])
def test_no_crate_is_compiled_twice(option):
    without_tests = features("--edges=normal,build", option)
    tests = features("--edges=normal,build,dev", "--all-features")
    shared = {crate for crate in without_tests.keys() & tests.keys() if not crate.startswith("force-mfa ")}
    different = {crate: (without_tests[crate], tests[crate]) for crate in shared if without_tests[crate] != tests[crate]}
    assert len(shared) > 150
    assert not different, "see tools/shared-features/Cargo.toml: what switches these features on is missing there"


def test_a_release_has_none_of_the_tests_features():
    plain = features("--package=force-mfa", "--edges=normal,build")
    as_built = features("--edges=normal,build")
    assert {crate: as_built[crate] for crate in plain} == plain
    assert "test-util" not in as_built[next(crate for crate in as_built if crate.startswith("tokio v"))]
