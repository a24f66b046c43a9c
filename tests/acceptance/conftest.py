"""One practice fleet for all acceptance tests; each test has a folder and a record of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab import Lab
from tests.support.fleet import Fleet


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start a fleet of four web hosts and a balancer; release A is live."""
    folder = tmp_path_factory.mktemp("lab") / "fleet"
    try:
        yield labs.up(folder, web=4)
    finally:
        labs.down(folder)


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(lab=lab, folder=tmp_path)
    yield found
    found.release()
