"""Whole runs on a real database: the command line, the record, and opskit killed in the middle."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.support.database import base, until
from tests.support.desk import Desk
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def owner(postgres: Server) -> str:
    return postgres.database(empty=True)


@pytest.fixture
def desk(postgres: Server, owner: str, tmp_path: Path) -> Desk:
    return Desk(base(postgres, owner=owner), tmp_path)


COUNT = "  - {name: look, sql: SELECT count(*) FROM item, effect: read, save: before}\n"
ADD = (
    "  - name: add\n    sql: INSERT INTO item (name, n) VALUES ({{ word }}, {{ before }})"
    " RETURNING n\n    save: got\n    undo: {sql: 'DELETE FROM item WHERE name = {{ word }}'}\n"
)
TELL = "  - {name: tell, notify: 'got {{ got }}', on: controller}\n"
WORD = "params: {word: {type: string}}\n"
HOSTILE = '\'; DROP TABLE item; -- $(id) 100% \\ "ü"'


def test_a_run_reads_changes_and_takes_back(desk: Desk) -> None:
    desk.write(COUNT + ADD + TELL, WORD)
    shown = desk.opskit("plan", "t.yaml", "-p", f"word={HOSTILE}")
    assert "sql> INSERT INTO item (name, n) VALUES ('''; DROP TABLE item;" in shown
    assert "see that database main is the one that is meant, and marks can be left there" in shown
    assert desk.db.items() == []
    said = desk.run("-p", f"word={HOSTILE}")
    assert "got 0" in said
    assert desk.db.items() == [HOSTILE]
    assert desk.opskit("output", "last", "look", "db:main") == "count\n0\n"
    assert "db:main: this output" in desk.opskit("output", "last", "look")
    (survey,) = [e for e in desk.events("step ended") if e["key"] == "0:main/"]
    assert survey["evidence"]["user"] == "app"
    desk.opskit("undo", "last", "--yes")
    assert desk.db.items() == []
    desk.proved()


def test_a_dry_run_reads_and_never_changes(desk: Desk) -> None:
    desk.write(COUNT + ADD, WORD)
    said = desk.opskit("run", "t.yaml", "--dry-run", "-p", "word=x")
    assert "now: count" in said
    assert "undetermined: after step 1 (before)" in said
    assert desk.db.items() == []
    assert desk.db.sql("SELECT count(*) FROM opskit_db.marker") == [(0,)]


HIDDEN = "WITH x AS (DELETE FROM item RETURNING 1) SELECT count(*) FROM x"


@pytest.mark.parametrize(("how", "status"), [("--dry-run", 5), ("--yes", 1)])
def test_a_change_that_is_called_a_read_is_refused(desk: Desk, how: str, status: int) -> None:
    desk.db.sql("INSERT INTO item VALUES ('kept')")
    desk.write(f"  - {{name: look, sql: {HIDDEN}, effect: read, phase: preflight}}\n")
    said = desk.opskit("run", "t.yaml", how, status=status)
    assert "would change something" in said
    assert desk.db.items() == ["kept"]
    desk.write("  - {name: look, sql: DELETE FROM item, effect: read}\n")
    assert "a read can't begin with DELETE" in desk.opskit("run", "t.yaml", how, status=2)


NO_MARKS = "DROP SCHEMA opskit_db CASCADE"


def test_without_a_place_for_marks_nothing_is_begun(desk: Desk) -> None:
    desk.db.sql(NO_MARKS)
    desk.write("  - {run: touch touched, on: controller}\n" + COUNT + ADD, WORD)
    said = desk.run("-p", "word=x", status=5)
    assert "opskit db init main" in said
    assert not (desk.folder / "touched").exists()
    ddl = desk.opskit("db", "init", "main", "--role", "app", "--print")
    assert "GRANT SELECT, INSERT ON" in ddl
    desk.db.sql(ddl)
    desk.run("-p", "word=x")
    assert desk.db.items() == ["x"]


def test_the_place_for_marks_is_made(desk: Desk) -> None:
    desk.db.sql(NO_MARKS)
    desk.db.changed(url=desk.db.owner)
    desk.write(COUNT)
    assert "opskit_db.marker" in desk.opskit("db", "init", "main", "--role", "app")
    desk.opskit("db", "init", "main")
    assert desk.db.sql("SELECT count(*) FROM opskit_db.marker") == [(0,)]
    desk.opskit("db", "init", "other", status=2)


def test_another_database_than_the_one_meant_is_refused(desk: Desk) -> None:
    add = ADD.replace("{{ before }}", "1")
    desk.write(add, WORD, ", system_identifier: '7000000000000000001'")
    assert "another cluster answers" in desk.run("-p", "word=x", status=5)
    desk.write(add, WORD, ", standby: true")
    assert "the database main is a standby" in desk.run("-p", "word=x", status=2)
    assert desk.db.items() == []


KILLS = ["before-commit", "after-commit", "before-begin"]


@pytest.mark.parametrize("point", KILLS)
def test_opskit_killed_around_the_commit_does_it_once(desk: Desk, point: str) -> None:
    desk.write(COUNT + ADD + TELL, WORD)
    desk.opskit(
        "run", "t.yaml", "--yes", "-p", "word=x",
        program=("tests.support.deadly", f"sql-{point}", "0"), status=-signal.SIGKILL,
    )  # fmt: skip
    until(lambda: desk.db.sessions() == [])
    assert desk.db.items() == (["x"] if point == "after-commit" else [])
    said = desk.opskit("resume", "last")
    assert "got 0" in said
    assert desk.db.items() == ["x"]
    marks = desk.db.sql("SELECT attempt, barred FROM opskit_db.marker WHERE part = 0 ORDER BY 1")
    assert marks == ([(1, False)] if point == "after-commit" else [(1, True), (2, False)])
    desk.proved()


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(200))
def test_opskit_killed_at_any_time_does_it_once(desk: Desk, turn: int) -> None:
    slow = ADD.replace("INSERT", "SELECT pg_sleep(0.02); INSERT")
    desk.write(COUNT + slow + TELL, WORD)
    after = random.Random(turn).randrange(0, 60)
    subprocess.run(
        [sys.executable, "-m", "tests.support.deadly", "sql-time", str(after),
         "run", "t.yaml", "--yes", "-p", "word=x"],
        env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    desk.opskit("resume", "last", status=None)  # unless it had come to its end
    assert desk.db.items() == ["x"]
    assert "got 0" in desk.opskit("report", "last")
    desk.proved()


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(60))
def test_a_run_killed_at_any_moment_of_it_changes_once(desk: Desk, turn: int) -> None:
    """From its start on: while it plans, writes its record, connects, changes, or tells."""
    desk.write(COUNT + ADD + TELL, WORD)
    desk.cut(random.Random(turn).uniform(0.05, 1.6), "run", "t.yaml", "--yes", "-p", "word=x")
    desk.opskit("resume", "last", status=None)  # unless there is none yet, or it is over
    if "no run" in desk.opskit("status", "last", status=None):
        assert desk.db.items() == []
        desk.run("-p", "word=x")
    assert desk.db.items() == ["x"]
    assert "got 0" in desk.opskit("report", "last")
    desk.proved()


INDEX = (
    "  - name: index\n"
    "    sql: {query: CREATE INDEX CONCURRENTLY item_n ON item (n), transaction: none}\n"
    '    done_when: {sql: {query: "SELECT coalesce((SELECT indisvalid FROM pg_index WHERE'
    " indexrelid = to_regclass('item_n')), false)\", expect: 'true'}}\n"
)


def test_what_goes_on_at_the_server_without_opskit_is_followed_to_its_end(desk: Desk) -> None:
    desk.db.sql("ALTER TABLE item OWNER TO app")
    desk.write(INDEX)

    def background(*words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            desk.words(*words), env=desk.settings, cwd=desk.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    with psycopg.connect(desk.db.owner) as other:
        other.execute(b"INSERT INTO item VALUES ('a')")  # which the index waits for
        first = background("run", "t.yaml", "--yes")
        try:
            until(lambda: any("CONCURRENTLY" in row[2] for row in desk.db.sessions()))
        finally:
            first.kill()
            first.communicate()
        second = background("resume", "last")
        try:
            until(lambda: desk.events("run resumed"))
            time.sleep(1)  # it has asked by then, and waits
            other.commit()
            said = second.communicate(timeout=60)[0]
        finally:
            second.kill()
            second.communicate()
    assert second.returncode == 0, said
    ended = [e for e in desk.events("step ended") if e["step"] == "index"][-1]
    assert ended["outcome"] == "succeeded"
    assert ended["evidence"]["settled"] == "done_when"
    built = "SELECT count(*) FROM pg_class WHERE relname LIKE 'item_n%'"
    assert desk.db.sql(built) == [(1,)]


def test_a_stop_ends_what_runs_at_the_server(desk: Desk) -> None:
    desk.write("  - sql: INSERT INTO item VALUES ('a'); SELECT pg_sleep(60)\n    name: long\n")
    running = subprocess.Popen(
        desk.words("run", "t.yaml", "--yes"), env=desk.settings, cwd=desk.folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        until(lambda: any("pg_sleep" in row[2] for row in desk.db.sessions()))
        running.send_signal(signal.SIGINT)
        time.sleep(0.5)  # two at once may arrive as one
        running.send_signal(signal.SIGINT)
        until(lambda: desk.db.sessions() == [])
        assert running.wait(60) == 130
    finally:
        running.kill()
        running.communicate()
    (ended,) = [e for e in desk.events("step ended") if e["step"] == "long"]
    assert ended["evidence"]["stopped"] == "confirmed gone"
    assert desk.db.items() == []


def test_nothing_of_the_database_library_is_loaded_without_an_sql_step(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom opskit.cli.root import call\ncall(sys.argv[1:])\n"
        "sys.exit(any(name.split('.')[0] == 'psycopg' for name in sys.modules))\n"
    )
    (tmp_path / "t.yaml").write_text(
        "opskit: 1\nname: t\nversion: 1.0.0\nsummary: a test\n"
        "steps:\n  - {run: 'true', on: controller}\n"
    )
    (tmp_path / "i.yaml").write_text("opskit: 1\nhosts: {nowhere: 127.0.0.1}\n")
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "t.yaml", "--yes", "-i", "i.yaml"],
        env={**os.environ, "OPSKIT_STORE": str(tmp_path / "store.db"), "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# --- taken over while it stands still


def stopped(process: "subprocess.Popen[str]") -> bool:
    text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()[0] == "T"


OTHER = (
    "opskit: 1\nname: other\nversion: 1.0.0\nsummary: a test\nlock: books\nsteps:\n"
    "  - {name: other, sql: INSERT INTO item VALUES ('other')}\n"
)
NO_SQL = OTHER.replace("sql: INSERT INTO item VALUES ('other')", "run: 'true', on: controller")


TAKEN = [("before-begin", "another"), ("before-commit", "another"), ("before-commit", "elsewhere")]
MORE = [("before-begin", "elsewhere"), ("before-begin", "resume"), ("before-commit", "resume")]


@pytest.mark.parametrize(
    ("point", "how"), [*TAKEN, *(pytest.param(*one, marks=pytest.mark.soak) for one in MORE)]
)
def test_who_stands_still_and_is_overtaken_commits_nothing(
    desk: Desk, point: str, how: str
) -> None:
    """It wakes in the middle of a change, whose lock another run has by then, or its own resume."""
    desk.write("  - {name: add, sql: INSERT INTO item VALUES ('x')}\n", "lock: books\n")
    (desk.folder / "other.yaml").write_text(OTHER)
    first = desk.background(
        "run", "t.yaml", "--yes", program=("tests.support.deadly", f"sql-{point}", "0"),
        DEADLY="SIGSTOP",
    )  # fmt: skip
    try:
        until(lambda: stopped(first))
        run = json.loads(desk.opskit("status", "last", "--json", status=None).splitlines()[-1])[
            "run"
        ]
        if how == "another":
            desk.opskit("run", "other.yaml", "--yes", "--steal", run)
            wanted = ["other"]
        elif how == "elsewhere":  # it works on no database, and shows the other's who has the lock
            (desk.folder / "other.yaml").write_text(NO_SQL)
            desk.opskit("run", "other.yaml", "--yes", "--steal", run)
            wanted = []
        else:
            desk.opskit("resume", run, "--steal", run)
            wanted = ["x"]
        assert desk.db.items() == wanted
        first.send_signal(signal.SIGCONT)
        said = first.communicate(timeout=60)[0]
    finally:
        first.kill()
        first.communicate()
    assert first.returncode == 130, said
    assert f"run {run} was taken over by " in said
    assert desk.db.items() == wanted
    until(lambda: desk.db.sessions() == [])
    free = desk.db.sql("SELECT DISTINCT free FROM opskit_db.lease")
    assert free == [(True,)]


# --- undo


def test_an_undo_leaves_all_rows_as_they_were_while_others_write(desk: Desk) -> None:
    """By hash: those that the run touched, and those that others write and count meanwhile."""
    db = desk.db
    db.sql("INSERT INTO item SELECT 'mine' || x, x FROM generate_series(1, 200) x")
    db.sql("INSERT INTO item SELECT 'still' || x, x FROM generate_series(1, 200) x")
    db.sql("INSERT INTO item VALUES ('count', 0); CREATE TABLE log (n integer)")
    db.sql("CREATE TABLE kept (name text, n integer); GRANT ALL ON kept TO app")
    desk.write(
        "  - name: keep\n"
        "    sql: INSERT INTO kept SELECT name, n FROM item WHERE name LIKE 'mine%'\n"
        "    undo: {sql: DELETE FROM kept}\n"
        "  - name: change\n"
        "    sql: UPDATE item SET n = -n WHERE name LIKE 'mine%'; DELETE FROM item WHERE n < -150\n"
        "    undo:\n"
        "      sql: |\n"
        "        DELETE FROM item i USING kept k WHERE i.name = k.name;\n"
        "        INSERT INTO item SELECT name, n FROM kept\n"
    )

    def hashed() -> object:
        return db.sql(
            "SELECT md5(string_agg(i::text, ';' ORDER BY name)) FROM item i WHERE name <> 'count'"
        )

    before, halt, written = hashed(), threading.Event(), [0]

    def others() -> None:
        with psycopg.connect(db.owner, autocommit=True) as connection:
            while not halt.is_set():
                connection.execute(b"UPDATE item SET n = n + 1 WHERE name = 'count'")
                connection.execute(b"INSERT INTO log VALUES (1)")
                written[0] += 1

    thread = threading.Thread(target=others)
    thread.start()
    try:
        desk.run()
        assert hashed() != before
        desk.opskit("undo", "last", "--yes")
    finally:
        halt.set()
        thread.join(20)
    assert hashed() == before
    assert db.sql("SELECT n FROM item WHERE name = 'count'") == [(written[0],)]
    assert db.sql("SELECT count(*) FROM log") == [(written[0],)]
    assert db.sql("TABLE kept") == []
