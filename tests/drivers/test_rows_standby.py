"""Rows are removed no faster than a standby can follow."""

from collections.abc import Iterator

import pytest

from tests.support import postgres
from tests.support.clearing import Attic, rows
from tests.support.database import base

pytestmark = pytest.mark.acceptance
WORK = rows(first=10, batch=10, pause=5.0, lag=0.5)


@pytest.fixture(scope="module")
def attic() -> Iterator[Attic]:
    with postgres.server() as primary:
        found = Attic(base(primary))
        with postgres.standby(primary, recovery_min_apply_delay="1500ms"):
            yield found


def test_a_batch_waits_until_a_standby_has_caught_up(attic: Attic) -> None:
    attic.fill(over=100)
    hidden = attic.do(WORK)
    assert hidden.outcome == "succeeded"
    assert hidden.evidence["standby_lag"] == "not told to this role"
    attic.db.sql("GRANT pg_monitor TO app")
    attic.fill(over=1000)
    seen = Attic(attic.db.as_run("seen"))
    found = seen.do(WORK, timeout=60.0)
    assert found.outcome == "succeeded", found
    assert float(str(found.evidence["most_lag"])) > 0.5
    assert "s behind: waiting" in seen.db.printed
