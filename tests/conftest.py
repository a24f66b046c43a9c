"""What holds for all tests, wherever they are started from."""

import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.postgres import Server, server

if TYPE_CHECKING:
    from tests.support import redis as keyed


settings.register_profile("opskit", deadline=None)  # how long it takes says how busy a machine is
settings.load_profile("opskit")


def pytest_configure() -> None:
    """Take signals as a terminal would give them.

    What is started in the background, or by nohup, ignores some, and all that it starts does too.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


ACCEPTANCE = re.compile(r"^pytestmark = pytest\.mark\.acceptance$", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, for the quick tests, files that have none: loading them takes each worker long."""
    if config.option.markexpr.startswith("not acceptance") and collection_path.suffix == ".py":
        return bool(ACCEPTANCE.search(collection_path.read_text())) or None
    return None


LONG = (
    "runbooks/test_migrations", "steps/test_colours_haproxy", "runbooks/test_deploy",
    "acceptance/test_lost_hosts", "steps/test_colours_traps", "runbooks/test_deploy_refused",
    "acceptance/test_payouts", "acceptance/test_queues", "runbooks/test_rollback",
    "steps/test_colours", "acceptance/test_order", "runbooks/test_blue_green",
    "acceptance/test_aborted", "acceptance/test_leases", "acceptance/test_decide",
    "contract/test_drivers", "acceptance/test_keys", "runbooks/test_health_check",
    "acceptance/test_crash", "acceptance/test_secrets", "drivers/test_rejoin",
    "acceptance/test_crash_matrix", "drivers/test_rows_standby", "lab/test_life",
    "runbooks/test_sync_outage", "drivers/test_frames", "drivers/test_commands",
    "acceptance/test_checks", "acceptance/test_payout_freezes", "acceptance/test_dry_run",
    "acceptance/test_attempts", "acceptance/test_refusals", "acceptance/test_slow_query",
    "acceptance/test_vacuum_check", "acceptance/test_channels", "acceptance/test_again",
    "acceptance/test_store_away", "runbooks/test_no_failed_request", "acceptance/test_stop",
    "acceptance/test_payouts_killed", "runbooks/test_blue_green_broken",
    "runbooks/test_postgres_restart", "steps/test_gate_reads", "lab/test_traffic",
)  # fmt: skip
"""Files that take longest, in turn those that wait and those that work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: no worker is left with it when the others have ended."""
    number = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        name = f"{item.path.parent.name}/{item.path.stem}"
        return LONG.index(name) if name in LONG else len(LONG), -number[item.path]

    items.sort(key=place)


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
