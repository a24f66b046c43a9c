"""Examples of the how-to pages, carried out as they stand there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.drivers.postgres.marks import ddl
from opskit.lab import release
from opskit.lab.fixtures import Amount
from opskit.model.inventory import MARKERS, Database
from tests.support import datasets, postgres
from tests.support.database import ROLES, Base, base
from tests.support.desk import Desk

pytestmark = pytest.mark.acceptance
PAGES = Path(__file__).parents[2] / "docs" / "how-to"
CONFLICTS = """
    CREATE TABLE sync_conflict_log (id integer PRIMARY KEY, status text NOT NULL,
        created_at timestamptz NOT NULL, expires_at timestamptz);
    CREATE INDEX ON sync_conflict_log (created_at);
    GRANT SELECT, INSERT, UPDATE, DELETE ON sync_conflict_log TO app;
    INSERT INTO sync_conflict_log
        SELECT n, CASE WHEN n % 5 = 0 THEN 'open' ELSE 'resolved' END,
            now() - n * interval '1 day', now() - interval '1 hour' FROM generate_series(1, 170) n;
    UPDATE sync_conflict_log SET expires_at = now() + interval '1 day' WHERE id = 91
"""
HASH = "SELECT md5(string_agg(c::text, ';' ORDER BY id)) FROM sync_conflict_log AS c"


def example(page: str, line: str) -> str:
    """Return the example of a page that has this line."""
    found = re.findall(r"```yaml\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    (text,) = [text for text in found if line in text.splitlines()]
    return str(text)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(**datasets.SETTINGS) as found:
        yield found


def test_old_conflict_logs_go_and_come_back(server: postgres.Server, tmp_path: Path) -> None:
    desk = Desk(base(server), tmp_path)
    desk.write("  - {notify: x, on: controller}\n")
    desk.db.sql(CONFLICTS)
    before = desk.db.sql(HASH)
    (tmp_path / "conflict-logs.yaml").write_text(example("clean-up", "name: conflict-logs"))
    said = desk.opskit("run", "conflict-logs.yaml", "--yes", status=5)
    assert "1 of the rows meant are still needed" in " ".join(said.split())
    assert desk.db.sql(HASH) == before
    desk.db.sql("UPDATE sync_conflict_log SET expires_at = now() - interval '1 hour'")
    before = desk.db.sql(HASH)
    said = desk.opskit("run", "conflict-logs.yaml", "--yes")
    assert "64 of 170 rows of public.sync_conflict_log are removed" in said
    left = "SELECT status, count(*) FROM sync_conflict_log WHERE id > 90 GROUP BY 1"
    assert desk.db.sql(left) == [("open", 16)]
    assert desk.db.sql("SELECT count(*) FROM sync_conflict_log") == [(106,)]
    desk.opskit("undo", "last", "--yes")
    assert desk.db.sql(HASH) == before
    desk.proved()


def test_functions_that_delete_are_timed_and_delete_nothing(
    server: postgres.Server, tmp_path: Path
) -> None:
    url, _ = datasets.load(server, "youtility", Amount(rows=100))
    made = Base(server, url, "none", Database(name="app", url=url.replace("//owner@", "//app@")))
    desk = Desk(made, tmp_path)
    made.sql(";".join([ROLES, *ddl(MARKERS, "app")]))
    made.sql("GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO app")
    lines = example("index-verify", "- name: Time the clean-up, too").splitlines()
    desk.write("".join(f"  {line}\n" for line in lines), "on_failure: stop\n")
    inventory = tmp_path / "i.yaml"
    inventory.write_text(inventory.read_text().replace("main:", "app:"))
    (tmp_path / "youtility.yaml").write_bytes(release.data("expect/youtility.yaml"))
    counts = "SELECT (SELECT count(*) FROM django_session), (SELECT count(*) FROM select2_cache)"
    before = made.sql(counts)
    assert made.sql("SELECT count(*) > 0 FROM django_session WHERE expire_date < now()") == [
        (True,)
    ]
    said = desk.opskit("run", "t.yaml", "--yes", "--json", status=None)
    (ended,) = [e for e in map(json.loads, said.splitlines()) if e.get("event") == "step ended"]
    timed = {one["name"]: one["p95_ms"] for one in ended["evidence"]["timed"]}
    assert min(timed["cleanup_expired_sessions()"], timed["cleanup_select2_cache(integer)"]) > 0
    assert made.sql(counts) == before
    assert "did nothing that can be taken back" in desk.opskit("undo", "last", "--yes", status=2)
