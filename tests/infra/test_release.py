"""A release that was built before: written the same each time, checked before it is deployed, and deployed as it is."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import cfn
import release
from aws_stand_in import BUCKET

sys.path.insert(0, str(cfn.ROOT / "tools"))
import build_release  # noqa: E402
import sbom  # noqa: E402


@pytest.fixture
def dist(tmp_path):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for architecture in release.TARGETS:
        release.write_zip(folder / f"force-mfa-{architecture}.zip", f"built for {architecture}".encode())
    for name in build_release.TEMPLATES:
        shutil.copyfile(cfn.ROOT / "infra" / name, folder / name)
    build_release.write_sums(folder)
    return folder


def stack(organization):
    [created] = [call for call in organization.sent("CreateStack") if call["StackName"] == "force-mfa"]
    return created, {p["ParameterKey"]: p["ParameterValue"] for p in created["Parameters"]}


def test_a_release_is_deployed_without_a_compiler(operator, organization, dist):
    (operator.bin / "cargo").write_text("#!/bin/sh\nexit 1\n")
    operator.make("deploy", f"RELEASE={dist}", f"BUCKET={BUCKET}", "PARAMETERS=Mode=report Architecture=x86_64")

    created, parameters = stack(organization)
    key = release.code_key("x86_64", dist / "force-mfa-x86_64.zip")
    assert parameters["CodeKey"] == key
    assert (parameters["CodeBucket"], parameters["Mode"], parameters["Architecture"]) == (BUCKET, "report", "x86_64")
    assert created["TemplateURL"].endswith(release.template_key(dist / "template.yaml"))
    assert {call["Key"] for call in organization.sent("PutObject")} >= {key}


def test_a_second_deployment_keeps_parameters_that_are_not_named(operator, organization, dist):
    operator.make("deploy", f"RELEASE={dist}", f"BUCKET={BUCKET}", "PARAMETERS=ExemptUsers=break-glass-1")
    operator.make("deploy", f"RELEASE={dist}", f"BUCKET={BUCKET}", "PARAMETERS=Mode=report")

    [updated] = organization.sent("UpdateStack")
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in updated["Parameters"]}
    assert (parameters["ExemptUsers"], parameters["Mode"]) == ("break-glass-1", "report")


def test_an_organization_gets_the_release_of_the_folder(operator, organization, dist):
    (operator.bin / "cargo").write_text("#!/bin/sh\nexit 1\n")
    operator.make("deploy-org", f"RELEASE={dist}")

    [created] = [call for call in organization.sent("CreateStackSet") if call["StackSetName"] == "force-mfa"]
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in created["Parameters"]}
    assert parameters["CodeKey"] == release.code_key("arm64", dist / "force-mfa-arm64.zip")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda dist: (dist / "force-mfa-arm64.zip").write_bytes(b"another"), "is not the file that SHA256SUMS lists"),
        (lambda dist: (dist / "template.yaml").write_text("another"), "is not the file that SHA256SUMS lists"),
        (lambda dist: (dist / "force-mfa-arm64.zip").unlink(), "has no force-mfa-arm64.zip"),
        (lambda dist: (dist / "SHA256SUMS").unlink(), "so it is not a release"),
        (lambda dist: (dist / "SHA256SUMS").write_text(""), "does not list it"),
    ],
)
def test_a_folder_that_its_sums_do_not_match_changes_nothing(operator, organization, dist, break_it, said):
    break_it(dist)

    assert said in operator.make("deploy", f"RELEASE={dist}", f"BUCKET={BUCKET}", expect=2)
    assert not organization.sent("CreateStack") + organization.sent("PutObject")


def test_a_release_without_a_bucket_is_refused(operator, dist):
    assert "BUCKET=name" in operator.make("deploy", f"RELEASE={dist}", expect=2)


def test_an_archive_has_the_same_bytes_whenever_it_is_written(tmp_path):
    files = {"b": (b"two", 0o644), "a": (b"one", 0o755)}
    build_release.write_tar(tmp_path / "first.tar.gz", "force-mfa", files)
    build_release.write_tar(tmp_path / "second.tar.gz", "force-mfa", dict(reversed(files.items())))

    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "first.tar.gz") as archive:
        assert [(entry.name, entry.mode) for entry in archive] == [("force-mfa/a", 0o755), ("force-mfa/b", 0o644)]


def test_an_sbom_holds_nothing_of_the_machine_or_the_run():
    text = json.dumps(
        {
            "serialNumber": "urn:uuid:1",
            "metadata": {"timestamp": "now", "component": {"bom-ref": f"path+file://{build_release.ROOT}#0.1.0"}},
        }
    )
    document = json.loads(build_release.reproducible(text, "2026-01-01T00:00:00Z"))

    assert document == {
        "metadata": {"timestamp": "2026-01-01T00:00:00Z", "component": {"bom-ref": "path+file:///force-mfa#0.1.0"}}
    }


def test_an_sbom_names_what_the_binary_is_built_from_and_nothing_else():
    function = sbom.crates_of(sbom.FEATURES["function"])
    [own], crates = {c for c in function if c[0] == "force-mfa"}, {c for c in function if c[0] != "force-mfa"}
    of_tests = ("h2", "1.2.3")

    def ref(crate):
        return "#".join(crate)

    def component(crate):
        return {"name": crate[0], "version": crate[1], "bom-ref": ref(crate)}

    everything = sorted(crates | {of_tests})
    document = {
        "metadata": {"component": component(own)},
        "components": [component(crate) for crate in everything],
        "dependencies": [{"ref": ref(own), "dependsOn": [ref(c) for c in everything]}, {"ref": ref(of_tests)}],
    }
    kept = sbom.only(function, document)

    assert {"lambda_runtime", "aws-sdk-iam", "rustls"} <= {name for name, _ in function}
    assert not {"h2", "criterion", "wiremock", "aws-sdk-sso"} & {name for name, _ in function}
    assert kept["components"] == [component(crate) for crate in sorted(crates)]
    assert kept["dependencies"] == [{"ref": ref(own), "dependsOn": [ref(crate) for crate in sorted(crates)]}]


def test_the_scripts_of_the_release_run_outside_of_a_checkout(tmp_path):
    build_release.write_tar(tmp_path / "rollout.tar.gz", "force-mfa-rollout", build_release.rollout_files())
    with tarfile.open(tmp_path / "rollout.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    program = tmp_path / "force-mfa-rollout" / "infra" / "rollout.py"
    done = subprocess.run([sys.executable, program, "--folder", tmp_path, "import-template"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_file()


@pytest.mark.release_build
def test_the_same_sources_give_the_same_zip_at_another_path(tmp_path):
    files = subprocess.run(["git", "ls-files", "-z"], cwd=cfn.ROOT, check=True, capture_output=True, text=True).stdout
    other = tmp_path / "somewhere" / "else"
    for name in filter(None, files.split("\0")):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(cfn.ROOT / name, other / name)
    build = "import pathlib, release; release.package('arm64', pathlib.Path('built').resolve())"
    environment = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    subprocess.run([sys.executable, "-c", build], cwd=other / "infra", check=True, env=environment)

    here = release.package("arm64", tmp_path / "here")
    assert release.sha256(other / "infra" / "built" / here.name) == release.sha256(here)
