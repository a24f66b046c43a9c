"""One practice fleet for all acceptance tests; each test has a folder and a record of its own."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab import Lab
from tests.support.fleet import STORE, Fleet
from tests.support.postgres import Server


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start a fleet of four web hosts and a balancer; release A is live."""
    folder = tmp_path_factory.mktemp("lab") / "fleet"
    try:
        yield labs.up(folder, web=4)
    finally:
        labs.down(folder)


@pytest.fixture(scope="session", autouse=True)
def stores(request: pytest.FixtureRequest) -> None:
    """Record in PostgreSQL where OPSKIT_TEST_STORE asks for it: whole runs hold on both stores."""
    if os.environ.get("OPSKIT_TEST_STORE") == "postgres":
        server: Server = request.getfixturevalue("postgres")
        STORE[0] = cache(lambda folder: server.database())


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(lab=lab, folder=tmp_path)
    yield found
    found.release()
