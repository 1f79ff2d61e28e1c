"""Lets the tests of this folder import its modules and those of infra/, whichever folder pytest is started in."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "infra"))


def pytest_configure(config):
    config.addinivalue_line("markers", "release_build: needs a release build, which takes minutes (make check-package)")


@pytest.fixture
def organization():
    from aws_stand_in import AwsStandIn

    stand_in = AwsStandIn()
    stand_in.url = stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def operator(organization, tmp_path, capfd):
    from rollout_operator import Operator

    return Operator(organization, tmp_path, capfd)
