"""What holds for all tests, wherever they are started from."""

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import Server, server

if TYPE_CHECKING:
    from tests.support import redis as keyed


def pytest_configure() -> None:
    """Take signals as a terminal would give them.

    What is started in the background, or by nohup, ignores some, and all that it starts does too.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server that all tests of a process share, each with databases of its own."""
    with server(max_prepared_transactions="4") as found:
        yield found


@pytest.fixture(scope="session")
def redis() -> "Iterator[keyed.Server]":
    """A Redis server that all tests of a process share; each empties it for itself."""
    from tests.support import redis as keyed

    with keyed.server() as found:
        yield found
