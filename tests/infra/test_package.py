"""The zip that `make package` makes: its content, and that the same sources give the same bytes."""

import hashlib
import os
import re
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

import cfn
import release

# What Amazon Linux 2023 has, which provided.al2023 is made of.
GLIBC = (2, 34)



@pytest.fixture(scope="session")
def arm64_zip(tmp_path_factory):
    return release.package("arm64", tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def arm64_bootstrap(arm64_zip, tmp_path_factory):
    with zipfile.ZipFile(arm64_zip) as archive:
        return Path(archive.extract("bootstrap", tmp_path_factory.mktemp("bootstrap")))


@pytest.mark.release_build
def test_the_zip_holds_an_executable_bootstrap_and_nothing_else(arm64_zip):
    with zipfile.ZipFile(arm64_zip) as archive:
        [entry] = archive.infolist()

    assert entry.filename == "bootstrap"
    assert entry.external_attr >> 16 == 0o100755
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.release_build
def test_the_bootstrap_is_for_graviton(arm64_bootstrap):
    with arm64_bootstrap.open("rb") as file:
        assert ELFFile(file)["e_machine"] == "EM_AARCH64"


@pytest.mark.release_build
def test_the_bootstrap_runs_with_the_glibc_of_amazon_linux_2023(arm64_bootstrap):
    with arm64_bootstrap.open("rb") as file:
        needed = [
            version.name
            for section in ELFFile(file).iter_sections()
            if isinstance(section, GNUVerNeedSection)
            for _, versions in section.iter_versions()
            for version in versions
        ]
    versions = [
        tuple(map(int, match[1].split(".")))
        for name in needed
        if (match := re.fullmatch(r"GLIBC_([0-9.]+)", name))
    ]

    assert versions, "a binary without a glibc would need another test"
    assert max(versions) <= GLIBC


@pytest.mark.release_build
def test_the_bootstrap_does_not_tell_where_it_was_built(arm64_bootstrap):
    content = arm64_bootstrap.read_bytes()

    for folder in (Path.home() / ".cargo", cfn.ROOT):
        assert str(folder).encode() not in content


def test_the_same_binary_gives_the_same_zip_whenever_it_is_written(tmp_path):
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    release.write_zip(first, b"the function")
    mask = os.umask(0o077)
    try:
        release.write_zip(second, b"the function")
    finally:
        os.umask(mask)

    assert first.read_bytes() == second.read_bytes()


def test_the_key_holds_the_zips_sha256(tmp_path):
    path = tmp_path / "function.zip"
    release.write_zip(path, b"the function")
    expected = hashlib.sha256(path.read_bytes()).hexdigest()

    assert release.code_key("arm64", path) == f"force-mfa/arm64/{expected}.zip"


def test_a_release_of_files_is_two_keys(tmp_path):
    path = tmp_path / "function.zip"
    release.write_zip(path, b"the function")
    found = release.of_files("x86_64", path)

    assert found.architecture == "x86_64"
    assert found.files == {found.code_key: path, found.template_key: release.TEMPLATE}
    assert found.template_key == f"force-mfa/template/{hashlib.sha256(release.TEMPLATE.read_bytes()).hexdigest()}.yaml"
