"""The stores that the contract holds for; a new one is one more line in `STORES`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit import audit
from opskit.audit import Store

STORES: dict[str, Callable[[Path], str]] = {"a file": lambda folder: str(folder / "store.db")}
"""Name → where to open it, given a folder of the test's own."""


@pytest.fixture(params=list(STORES))
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    opened = audit.open(location)
    yield opened
    opened.close()
