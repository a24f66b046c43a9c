"""The stores that the contract holds for; a new one is one more line in `STORES`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit import audit
from opskit.audit import Store
from tests.support.postgres import Server

STORES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "a file": lambda request: str(_folder(request) / "store.db"),
    "PostgreSQL": lambda request: _server(request).database(),
}
"""Name → where to open it, made anew for each test."""


def _folder(request: pytest.FixtureRequest) -> Path:
    folder = request.getfixturevalue("tmp_path")
    assert isinstance(folder, Path)
    return folder


def _server(request: pytest.FixtureRequest) -> Server:
    server = request.getfixturevalue("postgres")
    assert isinstance(server, Server)
    return server


@pytest.fixture(params=["a file", pytest.param("PostgreSQL", marks=pytest.mark.acceptance)])
def location(request: pytest.FixtureRequest) -> str:
    return STORES[str(request.param)](request)


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    opened = audit.open(location)
    yield opened
    opened.close()
