"""Searching a standby: how far it is behind matters, and what the primary does meanwhile."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from opskit.lab.fixtures import Amount
from tests.support import datasets, postgres
from tests.support.database import ROLES, until
from tests.support.postgres import Server, rows
from tests.support.searching import described, kept, planted, readable, said, searched

pytestmark = pytest.mark.acceptance
ALERT = {"max_standby_streaming_delay": "0", "wal_receiver_status_interval": "1s"}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server, str, str]]:
    """A primary with payouts, its standby, and the URL of the database at each."""
    with postgres.server(**datasets.SETTINGS) as primary:
        with psycopg.connect(primary.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        url, _ = datasets.load(primary, "payouts", Amount(rows=300, planted=True))
        readable(url)
        with postgres.standby(primary, **datasets.SETTINGS, **ALERT) as copy:
            name = url.rpartition("@/")[2].partition("?")[0]
            yield primary, copy, url, copy.url(name)


def follow(primary: str, copy: str) -> None:
    """Wait until the standby has all that the primary has."""
    ((there,),) = rows(primary, "SELECT pg_current_wal_lsn()")
    until(lambda: rows(copy, f"SELECT pg_last_wal_replay_lsn() >= '{there}'") == [(True,)])


def test_a_standby_that_is_behind_is_refused_unless_it_has_what_is_asked_for(
    pair: tuple[Server, Server, str, str], tmp_path: Path
) -> None:
    _, _, primary, copy = pair
    of = described("payouts", tmp_path)
    follow(primary, copy)
    output, _ = searched(copy, of, tmp_path / "e", standby=True)
    assert output.evidence["level"] == "CRIT"
    assert kept(output).manifest.source.standby
    assert kept(output).manifest.source.lsn
    mark = datetime.now(UTC).isoformat()
    rows(primary, "UPDATE public.payouts SET task_id = task_id WHERE id = 1")
    follow(primary, copy)
    rows(copy, "SELECT pg_wal_replay_pause()")
    try:
        rows(primary, "UPDATE public.payouts SET task_id = task_id WHERE id = 1")
        received = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
        until(lambda: rows(copy, received) == [(True,)])
        time.sleep(0.3)
        output, printed = searched(copy, of, tmp_path / "late", standby=True, max_lag=0.2)
        assert (output.evidence, printed) == ({"refused": True, "level": "UNKNOWN"}, "")
        assert "the standby is behind" in output.reason
        assert not (tmp_path / "late").exists()
        late = datetime.now(UTC).isoformat()
        output, _ = searched(copy, of, tmp_path / "e", standby=True, max_lag=0.2, as_of=late)
        assert "has not come to" in output.reason
        output, _ = searched(copy, of, tmp_path / "e", standby=True, max_lag=0.2, as_of=mark)
        assert output.evidence["level"] == "CRIT", output
    finally:
        rows(copy, "SELECT pg_wal_replay_resume()")
    output, _ = searched(copy, of, tmp_path / "e")
    assert (output.sent, "a standby answers" in output.reason) == (False, True)


def test_a_search_that_has_to_give_way_to_the_primary_is_begun_again(
    pair: tuple[Server, Server, str, str], tmp_path: Path
) -> None:
    _, _, primary, copy = pair
    of = described("payouts", tmp_path)
    slow = "SELECT * FROM public.payouts WHERE pg_sleep(0.004 + id * 0) IS NOT NULL"
    rows(primary, f"CREATE VIEW public.slow AS {slow}")
    readable(primary)
    follow(primary, copy)
    found = []

    def search() -> None:
        of_view = replace(of, table="slow", business_keys=(), task=None, provider_ref=None)
        found.append(searched(copy, of_view, tmp_path / "e", standby=True))

    thread = threading.Thread(target=search)
    thread.start()
    try:
        asking = (
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'WITH again%' AND state = 'active'"
        )
        until(lambda: found or rows(copy, asking))
        assert not found, found
        rows(primary, "UPDATE public.payouts SET task_id = task_id || 'x'")
        rows(primary, "UPDATE public.payouts SET task_id = rtrim(task_id, 'x')")
        rows(primary, "VACUUM public.payouts")
        conflicts = "SELECT confl_snapshot > 0 FROM pg_stat_database_conflicts"
        conflicts += " WHERE datname = current_database()"
        until(lambda: rows(copy, conflicts) == [(True,)])
    finally:
        thread.join(60)
    ((output, printed),) = found
    assert output.evidence["level"] == "CRIT", output
    assert "same_key" in printed
    assert len(list((tmp_path / "e").iterdir())) == 1
    assert len(said(output, "same-key.csv")) == len(planted(datasets_of(primary), "A"))


def datasets_of(url: str) -> dict[str, list[dict[str, object]]]:
    """Return what rule A has to say, by plain SQL at the primary."""
    sql = """SELECT id FROM (SELECT id, count(*) OVER (PARTITION BY merchant_id, idempotency_key) n
        FROM public.payouts WHERE status IN ('paid', 'processing', 'pending')
        AND btrim(idempotency_key, e' \\t\\n') <> '') one WHERE n > 1"""
    found = [{"id": id_, "verdict": ""} for (id_,) in rows(url, sql)]
    return {"groups": [{"rule": "A", "within": [], "rows": found}]}
