"""The shipped index-verify from the command line: plan, run, JSON, plug-in, and what is refused."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from opskit.lab import release
from opskit.lab.fixtures import Amount
from tests.support import datasets, postgres
from tests.support.database import ROLES
from tests.support.proxy import Proxy

pytestmark = pytest.mark.acceptance


@dataclass
class Desk:
    """A folder with an inventory that names the databases `sound` and `ill`."""

    folder: Path
    owners: dict[str, str]
    """Database → the URL of who may do anything there."""
    wire: Proxy
    """The way to the database `remote`, which is `ill` again."""

    @property
    def settings(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPSKIT_", "PG"))}
        kept |= {"OPSKIT_STORE": str(self.folder / "store.db"), "HOME": str(self.folder)}
        return kept | {"OPSKIT_INVENTORY": str(self.folder / "i.yaml"), "NO_COLOR": "1"}

    def opskit(self, *words: str, status: int) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "opskit", *words], env=self.settings, cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def verify(self, database: str, *words: str, status: int, file: str = "teams") -> str:
        given = ["-p", f"expect={self.folder / file}.yaml", "-p", f"database={database}"]
        return self.opskit("run", "index-verify", *given, *words, status=status)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with postgres.server(**datasets.SETTINGS) as server, ExitStack() as stack:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES.encode())
        postgres.let_read(server.url("template1"), "reader")
        urls, owners = {}, {}
        for name, planted in (("sound", False), ("ill", True)):
            url, _ = datasets.load(server, "teams", Amount(rows=20, planted=planted))
            urls[name] = url.replace("//owner@", "//reader@")
            owners[name] = url
        entries = "".join(f"  {name}: {{url: '{url}'}}\n" for name, url in urls.items())
        wire = stack.enter_context(closing(Proxy(server.socket)))
        remote = wire.url(str(conninfo_to_dict(owners["ill"])["dbname"]), "reader")
        entries += f"  remote: {{url: '{remote}'}}\n"
        entries += "  away: {url: 'postgresql://reader@127.0.0.1:9/x', connect_timeout: 1s}\n"
        text = f"opskit: 1\nhosts: {{nowhere: 127.0.0.1}}\ndatabases:\n{entries}"
        (folder / "i.yaml").write_text(text)
        (folder / "teams.yaml").write_bytes(release.data("expect/teams.yaml"))
        yield Desk(folder, owners, wire)


def test_a_plan_says_what_it_is_compared_with(desk: Desk) -> None:
    given = ["-p", f"expect={desk.folder}/teams.yaml", "-p", "database=ill"]
    said = desk.opskit("plan", "index-verify", "--no-reads", *given, status=0)
    assert "teams.yaml: 4 tables, 8 indexes, 1 function" in said
    said = desk.opskit("plan", "index-verify", "--no-reads", "--full", *given, status=0)
    assert "| teams_team (total_points DESC, name)" in said


def test_a_sound_database_is_ok_and_an_ill_one_is_not(desk: Desk) -> None:
    desk.verify("sound", status=0)
    said = desk.verify("ill", status=1)
    assert "CRIT ill: 4 CRIT" in said
    shown = desk.opskit("output", "last", "Compare", "db:ill", status=0)
    assert "missing" in shown
    assert "teams_pts_name_idx" in shown
    desk.opskit("audit", "verify", status=0)


def test_programs_read_each_finding(desk: Desk) -> None:
    lines = [json.loads(line) for line in desk.verify("ill", "--json", status=1).splitlines()]
    (found,) = [e["evidence"]["findings"] for e in lines if e.get("event") == "step ended"]
    assert {one["check"] for one in found} >= {"missing", "invalid", "duplicate", "name", "prefix"}
    assert {one["level"] for one in found} == {"CRIT", "WARN", "INFO"}


def test_a_monitoring_system_hears_one_line(desk: Desk) -> None:
    assert desk.verify("sound", "--nagios", status=0).startswith("INDEX-VERIFY OK")
    assert desk.verify("ill", "--nagios", status=2).startswith("INDEX-VERIFY CRITICAL")


def test_a_database_that_can_not_be_reached_is_unknown(desk: Desk) -> None:
    desk.verify("away", status=6)
    assert desk.verify("away", "--nagios", status=3).startswith("INDEX-VERIFY UNKNOWN")


@contextmanager
def under_way(
    desk: Desk, database: str, book: str = "index-verify"
) -> Iterator["subprocess.Popen[str]"]:
    """Give a look that waits for a table; it may go on once this is over."""
    given = ["-p", f"expect={desk.folder}/teams.yaml", "-p", f"database={database}", "--yes"]
    words = [sys.executable, "-m", "opskit", "run", book, *given]
    with psycopg.connect(desk.owners["ill"]) as other:
        other.execute("LOCK TABLE economy_cointransaction IN ACCESS EXCLUSIVE MODE")
        found = subprocess.Popen(
            words, env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        end = time.monotonic() + 60
        waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
        while other.execute(waiting, ["economy_cointransaction"]).fetchone() is None:
            assert time.monotonic() < end
        yield found


def test_a_look_that_was_killed_is_taken_again(desk: Desk) -> None:
    with under_way(desk, "ill") as killed:
        killed.kill()
        killed.communicate(timeout=60)
    assert "CRIT ill: 4 CRIT" in desk.opskit("resume", "last", status=1)
    desk.opskit("audit", "verify", status=0)


WRITERS = """\
opskit: 1
name: writers
version: 1.0.0
summary: A look that also times what writes
params: {expect: {type: file}, database: {}}
steps:
  - name: Compare
    indexes: {expect: '{{ expect }}', database: '{{ database }}', writers: true}
    effect: change
    on_unknown: fail
"""


def test_a_look_that_also_calls_what_writes_leaves_nothing_to_be_undone(desk: Desk) -> None:
    (desk.folder / "writers.yaml").write_text(WRITERS)
    (desk.folder / "bad.yaml").write_text(WRITERS.replace("effect: change", "effect: read"))
    assert "add effect: change" in desk.opskit("lint", "bad.yaml", status=2)
    book = str(desk.folder / "writers.yaml")
    with under_way(desk, "ill", book) as killed:
        killed.kill()
        killed.communicate(timeout=60)
    assert "CRIT ill: 4 CRIT" in desk.opskit("resume", "last", status=1)
    given = ["-p", f"expect={desk.folder}/teams.yaml", "-p", "database=sound", "--yes"]
    assert "opskit undo" not in desk.opskit("run", book, *given, status=0)
    desk.opskit("audit", "verify", status=0)


def test_a_look_whose_line_breaks_is_taken_again(desk: Desk) -> None:
    with under_way(desk, "remote") as broken:
        desk.wire.cut()
    said, _ = broken.communicate(timeout=60)
    assert (broken.returncode, "CRIT remote: 4 CRIT" in said) == (1, True), said
    assert "lost sight of" in said


def test_a_look_that_an_administrator_ends_is_unknown_and_not_begun_anew(desk: Desk) -> None:
    with under_way(desk, "ill") as ended, psycopg.connect(desk.owners["ill"]) as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE NOT granted AND relation = 'economy_cointransaction'::regclass"
        )
        said, _ = ended.communicate(timeout=60)
    assert (ended.returncode, "administrator command" in said) == (6, True), said
    assert "attempt 2" not in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tables: {t: {indexes: ['a; DROP TABLE teams_team']}}\n", "ends the statement"),
        ("tables: {t: {indexes: [{keys: a, drop: true}]}}\n", "unknown key 'drop'"),
        ("summary: Nothing\n", "nothing is expected"),
    ],
)
def test_bad_expectations_are_refused_before_anybody_is_asked(
    desk: Desk, text: str, told: str
) -> None:
    (desk.folder / "bad.yaml").write_text(f"opskit: 1\n{text}")
    said = desk.verify("away", status=2, file="bad")
    assert told in said
    assert re.search(r"bad\.yaml:\d+:\d+: ", said)


def test_a_table_that_is_not_there_is_refused(desk: Desk) -> None:
    """A file for another database: that all is missing there would tell nobody anything."""
    gone = "opskit: 1\ntables: {teams_team: {}, teams_ghost: {}, teams_gone: {}}\n"
    (desk.folder / "gone.yaml").write_text(gone)
    said = desk.verify("sound", status=5, file="gone")
    assert "teams_ghost: there is no such table; and 1 more" in said
    given = ["-p", f"expect={desk.folder}/gone.yaml", "-p", "database=sound"]
    assert "A run would be refused" in desk.opskit("plan", "index-verify", *given, status=5)
    said = desk.verify("sound", "--nagios", status=3, file="gone")
    assert said.startswith("INDEX-VERIFY UNKNOWN - ")
    assert "teams_ghost" in said
    assert "teams_gone: there is no such table" in desk.opskit(
        "output", "last", "Compare", "db:sound", status=0
    )


def test_indexes_are_read_where_that_is_asked_for(desk: Desk) -> None:
    given = ["-p", f"expect={desk.folder}/teams.yaml", "-p", "database=sound", "-p", "amcheck=rows"]
    said = desk.opskit("plan", "index-verify", "--no-reads", *given, status=0)
    assert "reads all B-trees" in said
    said = desk.verify("sound", "-p", "amcheck=rows", status=6)  # the role has no right to
    assert "GRANT EXECUTE ON FUNCTION bt_index_check" in said
    with psycopg.connect(desk.owners["sound"], autocommit=True) as owner:
        owner.execute("GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO reader")
    desk.verify("sound", "-p", "amcheck=rows", status=0)


def test_a_database_that_is_not_in_the_inventory_is_refused(desk: Desk) -> None:
    assert "has no database" in desk.verify("other", status=2)
    assert "does not say on which database" in desk.verify("", status=2)
    desk.verify("sound", status=2, file="nowhere")
