"""Rows are removed no faster than a standby can follow."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import postgres
from tests.support.clearing import Attic, rows, writing
from tests.support.database import base, until

pytestmark = pytest.mark.acceptance
WORK = rows(first=10, batch=10, lag=0.5)
LAG = "SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float FROM pg_stat_replication"


@pytest.fixture(scope="module")
def attic() -> Iterator[Attic]:
    """A primary whose standby does all a second late, and says soon that it has caught up."""
    with postgres.server() as primary:
        found = Attic(base(primary))
        slow = {"recovery_min_apply_delay": "1s", "wal_receiver_status_interval": "1s"}
        with postgres.standby(primary, **slow):
            yield found


def test_a_batch_waits_until_a_standby_has_caught_up(attic: Attic) -> None:
    attic.fill(over=100)
    hidden = attic.do(WORK)
    assert hidden.outcome == "succeeded"
    assert hidden.evidence["standby_lag"] == "not told to this role"
    attic.db.sql("GRANT pg_monitor TO app")
    attic.fill(over=100)
    seen = Attic(attic.db.as_run("seen"))
    with ThreadPoolExecutor(1) as pool:
        with writing(attic.db):  # it is behind for as long as somebody writes
            until(lambda: float(attic.db.sql(LAG)[0][0]) > 0.6, 60)
            doing = pool.submit(seen.do, WORK, timeout=60.0)
            until(lambda: doing.done() or "waiting: a standby is" in seen.db.printed, 60)
            assert not doing.done(), doing.result()
        found = doing.result()
    assert found.outcome == "succeeded", found
    assert float(str(found.evidence["most_lag"])) > 0.5
    assert found.evidence["removed"] == 100
