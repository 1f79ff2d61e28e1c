"""The GitHub workflows: least permissions, pinned actions, and a gate before a release."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import release_notes  # noqa: E402

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CARGO = '[package]\nname = "force-mfa"\nversion = "0.2.0"\n\n[dependencies]\nversion_check = "0.9"\n'
CHANGELOG = "# Changelog\n\n## Unreleased\n\n- later\n\n## 0.2.0 - 2026-01-01\n\n- now\n\n## 0.1.0\n\n- before\n"


def test_there_are_workflows():
    assert [path.name for path in WORKFLOWS] == ["advisories.yml", "ci.yml", "release.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    for used in re.findall(r"uses: *(\S+)", path.read_text()):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), f"{used} can be moved by whoever owns the action"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_read_only_by_default(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    writing = {name for name, job in workflow["jobs"].items() if "permissions" in job}
    assert writing == ({"publish"} if path.name == "release.yml" else set())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_run_step_holds_an_expression(path):
    # A tag or branch name in an expression would be run as shell.
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        for step in job["steps"]:
            expressions = re.findall(r"\$\{\{(.*?)\}\}", step.get("run", ""))
            assert all(expression.strip().startswith("matrix.") for expression in expressions)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_ends_by_itself(path):
    assert all("timeout-minutes" in job for job in yaml.safe_load(path.read_text())["jobs"].values())


def test_the_notes_of_a_release_are_its_section():
    assert release_notes.notes("v0.2.0", CARGO, CHANGELOG) == "- now\n"


@pytest.mark.parametrize(
    ("tag", "changelog", "words"),
    [
        ("v0.3.0", CHANGELOG, "Cargo.toml's version is 0.2.0"),
        ("0.2.0", CHANGELOG, "Tag v0.2.0"),
        ("v0.2.0", CHANGELOG.replace("## 0.2.0 - 2026-01-01", "## 0.2.00"), "no section '## 0.2.0'"),
        ("v0.2.0", CHANGELOG.replace("- now\n", ""), "no section '## 0.2.0'"),
    ],
)
def test_a_tag_without_version_or_section_is_refused(tag, changelog, words):
    with pytest.raises(release_notes.NotReady, match=re.escape(words)):
        release_notes.notes(tag, CARGO, changelog)
