"""The shipped deploy and rollback with a real Django project on a real database."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.test_examples import example
from tests.support import django, ports, redis
from tests.support.database import until
from tests.support.django import ORDER, SEVEN, Project, create
from tests.support.postgres import Server
from tests.support.sshd import Sshd, sshd

pytestmark = pytest.mark.acceptance
APP = """
import http.server, pathlib, sys
seen = []
release = pathlib.Path("RELEASE").read_text().strip()
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(self.path)
        deep = self.path == "/health/detailed/"
        body = b'{"status": "%s"}' % (b"unhealthy" if deep and release == "ill" else b"healthy")
        over = self.path == "/api/" and seen.count("/api/") > 3 and release != "open"
        self.send_response(429 if over else 200)
        self.send_header("X-Release", release)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
pathlib.Path(sys.argv[2]).write_text(str(__import__("os").getpid()))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
STOP = "[ ! -s {pid} ] || kill $(cat {pid}) 2>/dev/null || :; : >{pid}"
START = (
    "cd -P current && {{ setsid {python} -IS app.py {port} {pid} </dev/null >/dev/null 2>&1 & }};"
    " n=0; until [ -s {pid} ] || [ $n -ge 100 ]; do sleep 0.1; n=$((n + 1)); done"
)


@dataclass
class Site:
    """A host with a service that runs a release, and the database of that service."""

    folder: Path
    project: Project
    host: Sshd
    url: str
    port: int
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "srv"

    def write(self, **migrations: object) -> None:
        """Write the inventory."""
        how = self.host.host().connection
        words = {"pid": self.folder / "pid", "python": sys.executable, "port": self.port}
        service = {
            "hosts": "web", "root": str(self.root), "port": self.port, "health": "/health/",
            "restart": f"cd {self.root} && {STOP} && {START}".format(**words),
            "stop": STOP.format(**words), "pids": f"cat {self.folder / 'pid'}",
            "migrations": {"manage": self.project.manage, "order": list(ORDER), **migrations},
            **self.more,
        }  # fmt: skip
        connection = {
            "user": how.user, "port": how.port, "key": how.key, "known_hosts": how.known_hosts,
            "state_dir": str(self.folder / "state"),
        }  # fmt: skip
        (self.folder / "i.yaml").write_text(
            json.dumps({
                "opskit": 1, "connection": connection, "hosts": {"web1": "127.0.0.1"},
                "groups": {"web": ["web1"], "lb": ["web1"]}, "services": {"app": service},
                "databases": {"app": {"url": self.url, "read_role": "pg_monitor"}},
                "balancers": {
                    "web": {"type": "nginx", "hosts": "lb", "members": "web", "file": "/none"}
                },
            })
        )  # fmt: skip

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPSKIT_", "PG"))}
        return subprocess.Popen(
            [sys.executable, "-m", "opskit", *words],
            env={
                **kept, "OPSKIT_STORE": str(self.folder / "store.db"), "HOME": str(self.folder),
                "OPSKIT_INVENTORY": str(self.folder / "i.yaml"), "NO_COLOR": "1",
            },
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def opskit(self, *words: str, status: int | None = 0) -> str:
        process = self.begin(*words)
        try:
            said, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(process.communicate()[0]) from None
        assert status in (None, process.returncode), f"exit {process.returncode}\n{said}"
        return said

    def words(self, release: str, path: Path, *more: str) -> list[str]:
        given = [f"release={release}", f"artifact={path}", "drain=false", "bake=0s"]
        quick = (
            [] if any(one.startswith("lock_timeout") for one in more) else ["lock_timeout=200ms"]
        )
        given += [*quick, *more]
        return ["run", "deploy", "--yes", *(w for one in given for w in ("-p", one))]

    def deploy(
        self,
        release: str,
        migrations: Mapping[str, str],
        *more: str,
        alone: tuple[str, ...] = (),
        status: int = 0,
    ) -> str:
        path = self.release(release, migrations, alone)
        return self.opskit(*self.words(release, path, *more), status=status)

    def release(
        self, name: str, migrations: Mapping[str, str], alone: tuple[str, ...] = ()
    ) -> Path:
        self.project.files = {"RELEASE": name, "app.py": APP}
        return self.project.release(name, migrations, alone)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def applied(self) -> list[str]:
        rows = self.sql("SELECT app || '.' || name FROM django_migrations ORDER BY id")
        return [row[0] for row in rows]

    @property
    def live(self) -> str:
        return (self.root / "current").readlink().name

    def saved(self, name: str) -> str:
        lines = self.opskit("audit", "log", "last", "--json").splitlines()
        found = [json.loads(line).get("saved", {}) for line in lines]
        return str(next(one[name] for one in found if name in one))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("host")) as found:
        yield found


ROWS = "INSERT INTO core_tenant (name) SELECT 'tenant ' || n FROM generate_series(1, 5) n"


@pytest.fixture(scope="module")
def base(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database as release A has left it."""
    url = postgres.database(empty=True)
    name = url.partition("@/")[2].partition("?")[0]
    folder = tmp_path_factory.mktemp("base")
    project = Project(folder, name, str(postgres.folder), postgres.port, postgres.binaries)
    project.release("A", {})
    line = f"cd {folder}/release.A && {project.manage} migrate --noinput -v 0"
    subprocess.run(["sh", "-c", line], check=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ROWS.encode())
    return name


@pytest.fixture
def site(postgres: Server, base: str, host: Sshd, tmp_path: Path) -> Iterator[Site]:
    """Release A is live, with the tables that the seven come upon."""
    name = f"{base}_{tmp_path.name[-20:]}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{base}"'.encode())
    project = Project(tmp_path, name, str(postgres.folder), postgres.port, postgres.binaries)
    with serving(Site(tmp_path, project, host, postgres.url(name), ports.free())) as site:
        yield site


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Release A is live meanwhile."""
    site.write()
    (site.root / "releases").mkdir(parents=True)
    pid = site.folder / "pid"
    try:
        site.release("A", {})
        (site.folder / "release.A").rename(site.root / "releases" / "A")
        (site.root / "current").symlink_to("releases/A")
        words = {"pid": pid, "python": sys.executable, "port": site.port}
        subprocess.run(["sh", "-c", f"cd {site.root} && {START.format(**words)}"], check=True)
        yield site
    finally:
        if pid.exists() and pid.read_text():
            os.kill(int(pid.read_text()), signal.SIGTERM)


GROWS = """
        migrations.AlterField("Tenant", "name", models.CharField(max_length=200)),"""
INDEX = {"core.0016_index": django.INDEX, "core.0017_note": django.NOTE + GROWS}
ALONE = ("core.0016_index",)
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'note_idx'::regclass"


def test_the_seven_are_applied_once_in_their_order_before_the_host_changes(site: Site) -> None:
    path = site.release("B", {**SEVEN, **INDEX}, ALONE)
    words = site.words("B", path)
    assert "[X]  core.0009_base" in site.opskit("plan", *words[1:2], *words[3:])
    assert site.applied() == ["core.0009_base"]
    said = site.opskit(*words)
    assert "SUCCEEDED" in said
    assert site.applied() == ["core.0009_base", *ORDER, *INDEX]
    assert site.sql(VALID) == [(True,)]
    assert site.live == "B"
    log = json.loads(site.saved("migrated"))["migrations"]
    assert [one["name"] for one in log] == [*ORDER, *INDEX]
    assert [one["class"] for one in log] == [*["additive"] * 8, "reversible"]
    assert log[1]["adds"] == ["core_tenantconflictpolicy", "core_tenant:sync_note"]
    assert site.opskit("output", "last", "Migrate", "web1").count("Running migrations") == 3
    site.opskit("audit", "verify")


WAITS = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"


def waiting(site: Site) -> bool:
    return bool(site.sql(WAITS.format(site.project.database)))


def migrate_pid(site: Site) -> int:
    """Return the process of `manage.py migrate` that works on a site."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            python = words[0] == sys.executable.encode()
            named = b"PGAPPNAME=opskit:migrate" in (entry / "environ").read_bytes()
            if python and named and (entry / "cwd").readlink().is_relative_to(site.root):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no migrate runs")


def test_behind_a_long_read_nobody_queues_and_a_killed_opskit_goes_on(site: Site) -> None:
    path = site.release("B", SEVEN)
    with psycopg.connect(site.url) as reader:
        reader.execute("SELECT count(*) FROM core_tenant")
        with site.begin(*site.words("B", path)) as process:
            until(lambda: waiting(site), 60)
            process.kill()
            process.communicate()
        began = time.monotonic()
        with psycopg.connect(site.url, options="-c statement_timeout=20s") as others:
            for _ in range(3):
                others.execute("SELECT count(*) FROM core_tenant")
                others.rollback()
        assert time.monotonic() - began < 20, "they wait behind the ALTER"
        until(lambda: not waiting(site), 60)
        assert site.applied() == ["core.0009_base", ORDER[0]]
        reader.rollback()
    site.opskit("resume", "last")
    assert site.applied() == ["core.0009_base", *ORDER]
    assert site.live == "B"
    site.opskit("audit", "verify")


SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'opskit:migrate'"


def test_a_migrate_that_is_killed_leaves_nothing_half_done(site: Site) -> None:
    path = site.release("B", SEVEN)
    with psycopg.connect(site.url) as reader:
        reader.execute("SELECT count(*) FROM core_tenant")
        with site.begin(*site.words("B", path, "lock_timeout=1m")) as process:
            until(lambda: waiting(site), 60)
            os.kill(migrate_pid(site), signal.SIGKILL)
            said, _ = process.communicate(timeout=60)
        assert process.returncode == 3, said
        assert "migrate has failed (exit status 137)" in said
        assert "these migrations stay, as far as they were applied" in said
        assert re.search(r"not taken back, its undo only tells of it: \d+ Migrate on web1", said)
        assert "No change is left" not in said
        assert site.applied() == ["core.0009_base", ORDER[0]]
        until(lambda: site.sql(SESSIONS) == [(0,)])
    assert site.live == "A"


RECORDS = (
    "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'django_migrations'::regclass"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def test_what_a_migration_does_and_that_it_is_done_are_there_together_or_not_at_all(
    site: Site,
) -> None:
    """Django alone records one that has left work for its end in a transaction of its own."""
    site.write(order=[])
    path = site.release("B", {"core.0010_policy": SEVEN[ORDER[1]]})
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'core_tenant'::regclass"
    before = site.sql(columns)
    with psycopg.connect(site.url) as reader, psycopg.connect(site.url) as holder:
        reader.execute("SELECT count(*) FROM core_tenant")
        with site.begin(*site.words("B", path, "lock_timeout=1m")) as process:
            until(lambda: waiting(site), 60)
            holder.execute("LOCK django_migrations IN SHARE ROW EXCLUSIVE MODE")
            reader.rollback()
            until(lambda: site.sql(RECORDS), 60)
            os.kill(migrate_pid(site), signal.SIGKILL)
            said, _ = process.communicate(timeout=60)
        assert process.returncode == 3, said
        until(lambda: site.sql(SESSIONS) == [(0,)])
    assert (site.applied(), site.sql(columns)) == (["core.0009_base"], before)


TURN = "pg_advisory_lock(x'6f70736b'::int, x'6d696772'::int)"
"""What deploy and rollback take while they migrate a database."""
DATA = django.sql("INSERT INTO core_tenant (name) VALUES ('once')")
BESIDE = {
    "core.0010_index": django.INDEX.replace("sync_note", "name"),
    "core.0011_note": django.NOTE,
    "core.0012_data": DATA + "\n        " + django.NOTE.replace("note", "late"),
}


def test_who_migrates_at_the_same_time_is_waited_for_and_what_was_done_twice_is_told(
    site: Site,
) -> None:
    site.write(order=[])
    path = site.release("B", BESIDE, ("core.0010_index",))
    by_hand = f"cd {site.folder}/release.B && {site.project.manage} migrate -v 0 core 0011_note"
    with (
        psycopg.connect(site.url, autocommit=True) as other,
        psycopg.connect(site.url) as person,
        site.begin(*site.words("B", path, "lock_timeout=1m", "old=1m")) as process,
    ):
        other.execute(f"SELECT {TURN}".encode())  # another deploy, which is about to migrate
        until(lambda: site.sql(SESSIONS) == [(1,)], 60)
        subprocess.run(["sh", "-c", by_hand], check=True)
        person.execute(b"INSERT INTO core_tenant (name) VALUES ('once')")
        person.execute(
            b"INSERT INTO django_migrations (app, name, applied)"
            b" VALUES ('core', '0012_data', now())"
        )
        other.execute(f"SELECT {TURN.replace('_lock', '_unlock')}".encode())
        until(lambda: waiting(site), 60)
        person.commit()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "core.0012_data was applied twice: somebody else has migrated at the same time" in said
    assert site.applied() == ["core.0009_base", *BESIDE, "core.0012_data"]
    printed = site.opskit("output", "last", "Migrate", "web1")
    assert re.findall(r"Applying (\S+)\.\.\.", printed) == ["core.0012_data"], printed
    assert site.sql(VALID) == [(True,)]
    assert site.live == "A"


def test_what_somebody_else_has_applied_since_the_migrate_began_is_not_applied_again(
    site: Site,
) -> None:
    site.write(order=[])
    path = site.release("B", {"core.0010_note": django.NOTE, "core.0011_data": DATA})
    with psycopg.connect(site.url) as reader:
        reader.execute("SELECT count(*) FROM core_tenant")
        with site.begin(*site.words("B", path, "lock_timeout=1m")) as process:
            until(lambda: waiting(site), 60)
            site.sql(
                "INSERT INTO django_migrations (app, name, applied)"
                " VALUES ('core', '0011_data', now())"
            )
            reader.rollback()
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    printed = site.opskit("output", "last", "Migrate", "web1")
    assert "somebody else has applied core.0011_data meanwhile" in printed
    assert site.sql("SELECT count(*) FROM core_tenant WHERE name = 'once'") == [(0,)]
    assert site.live == "B"


@pytest.fixture
def other(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A second service of the same database, deployed by somebody with a record of their own."""
    folder = tmp_path / "other"
    folder.mkdir()
    project = replace(site.project, folder=folder)
    with serving(replace(site, folder=folder, project=project, port=ports.free())) as found:
        yield found


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(5))
def test_of_two_deploys_at_once_one_waits_and_each_migration_is_applied_once(
    site: Site, other: Site, turn: int
) -> None:
    every = {**SEVEN, **INDEX, "core.0018_data": DATA}
    runs = [one.begin(*one.words("B", one.release("B", every, ALONE))) for one in (site, other)]
    said = [run.communicate(timeout=240)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], f"{turn}: {said}"
    assert site.applied() == ["core.0009_base", *every]
    assert site.sql("SELECT count(*) FROM core_tenant WHERE name = 'once'") == [(1,)]
    assert site.sql(VALID) == [(True,)]
    assert (site.live, other.live) == ("B", "B")


@pytest.mark.soak
def test_a_deploy_that_finds_another_at_it_is_refused_and_says_who(site: Site, other: Site) -> None:
    path = site.release("B", SEVEN)
    with psycopg.connect(site.url) as reader:
        reader.execute("SELECT count(*) FROM core_tenant")
        with site.begin(*site.words("B", path, "lock_timeout=1m")) as process:
            until(lambda: waiting(site), 60)
            said = other.deploy("B", SEVEN, "patience=1s", status=5)
            assert "opskit:migrate) holds what another migrate works on" in said
            reader.rollback()
            process.communicate(timeout=120)
        assert process.returncode == 0
    with psycopg.connect(site.url, application_name="another") as holder:
        holder.execute(f"SELECT {TURN}".encode())
        said = other.deploy("C", {**SEVEN, "core.0016_note": django.NOTE}, "patience=1s", status=3)
        assert "somebody else migrates this database: process" in said
        assert "(role owner, another). Wait until it has ended" in said
        said = rollback(site, "database=reverse", "patience=1s", status=1)
        assert "somebody else migrates this database: process" in said
    assert site.applied() == ["core.0009_base", *ORDER]
    assert "but its migrations were not taken back" in said
    assert re.search(r"opskit retry \S+ --hosts web1 +try its end again", said)
    site.opskit("retry", "last", "--yes", "--hosts", "web1")
    assert site.applied() == ["core.0009_base"]


WRITES = (
    "migrations.RunPython("
    'lambda apps, _: apps.get_model("core", "Tenant").objects.create(name="nested"))'
)
"""What `sqlmigrate` runs where it is inside of another operation."""
OWN = """type("Own", (migrations.operations.base.Operation,), {
            "state_forwards": lambda *_: None, "describe": lambda _: "own",
            "database_forwards": lambda self, app, editor, *_: editor.connection.cursor().execute(
                "DELETE FROM core_tenant"),
        })(),"""


def test_what_must_not_be_done_is_refused_before_anything_is(site: Site) -> None:
    bad = {
        "core.0010_rename": 'migrations.RenameField("Tenant", "name", "title"),',
        "core.0011_python": "migrations.RunPython(print, print),",
        "core.0012_nested": f"migrations.SeparateDatabaseAndState([{WRITES}]),",
        "core.0013_own": OWN,
    }
    said = site.deploy("B", bad, status=5)
    assert site.sql("SELECT count(*) FROM core_tenant") == [(5,)]
    assert "core.0012_nested: it runs Python inside of another operation" in said
    assert "core.0013_own: RuntimeError it would change the database instead of saying how" in said
    assert "core.0010_rename: RENAME takes the name away that running programs use" in said
    assert "core.0011_python: it runs Python, which has no SQL to be read" in said
    site.write(order=[*ORDER[1::-1], *ORDER[2:]])
    said = site.deploy("B", SEVEN, status=5)
    assert f"{ORDER[0]} would come before {ORDER[1]}" in said
    site.write()
    site.sql("BEGIN; LOCK core_tenant IN ACCESS SHARE MODE; PREPARE TRANSACTION 'left'")
    with psycopg.connect(site.url, application_name="report") as reader:
        reader.execute("SELECT count(*) FROM core_tenant")
        said = site.deploy("B", SEVEN, "patience=1s", "old=500ms", status=5)
        pid = reader.info.backend_pid
    assert f"process {pid} (role owner, report) holds core_tenant in a transaction that is" in said
    assert "a prepared transaction (role None, None) holds core_tenant" in said
    site.sql("ROLLBACK PREPARED 'left'")
    with pytest.raises(psycopg.errors.UniqueViolation):
        site.sql("CREATE UNIQUE INDEX CONCURRENTLY bad ON core_tenant ((1))")
    assert "index bad of core_tenant is INVALID" in site.deploy("B", SEVEN, status=5)
    site.write(check="WARNING")
    assert "(security.W009)" in site.deploy("B", {}, status=5)
    site.write(check="ERROR")
    site.project.options = "'options': '-c lock_timeout=200ms'"  # what the deploy asks for, too
    assert "PGOPTIONS does not get there" in site.deploy("B", SEVEN, status=5)
    assert site.applied() == ["core.0009_base"]
    assert site.live == "A"
    assert not (site.root / "releases" / "B").exists()


PLAIN = """
    DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'
        LOOP EXECUTE format('ALTER TABLE %I OWNER TO plain', name); END LOOP; END $$;
    GRANT ALL ON SCHEMA public TO plain
"""
"""The role of an application, which may not see what other roles do."""
SLOWLY = "autovacuum_vacuum_threshold = 1, autovacuum_vacuum_cost_limit = 1"


def test_autovacuum_at_work_on_a_table_is_nobody_in_the_way(site: Site) -> None:
    site.sql(PLAIN)
    site.project.role = "plain"
    site.sql("INSERT INTO core_tenant (name) SELECT repeat('x', 50) FROM generate_series(1, 9000)")
    site.sql(f"ALTER TABLE core_tenant SET ({SLOWLY}, autovacuum_vacuum_cost_delay = 100)")
    site.sql("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    site.sql("SELECT pg_reload_conf()")
    try:
        site.sql("DELETE FROM core_tenant WHERE id % 2 = 0")
        until(lambda: site.sql("SELECT 1 FROM pg_stat_progress_vacuum"))
        site.deploy("B", SEVEN, "patience=1s", "old=500ms", "lock_timeout=5s")
    finally:
        site.sql("ALTER SYSTEM RESET autovacuum_naptime")
        site.sql("SELECT pg_reload_conf()")
    assert site.applied() == ["core.0009_base", *ORDER]


def rollback(site: Site, *more: str, status: int = 0) -> str:
    given = ["drain=false", "bake=0s", "lock_timeout=200ms", *more]
    words = [word for one in given for word in ("-p", one)]
    return site.opskit("run", "rollback", "--yes", *words, status=status)


def test_a_rollback_leaves_the_database_or_takes_it_back_in_the_exact_reverse_order(
    site: Site,
) -> None:
    rate = site.folder / "rate"
    rate.write_text("91\n")
    site.more = {"after": [{"label": "rate", "run": f"cat {rate}", "crit": "< 70"}]}
    site.write()
    site.deploy("B", SEVEN)
    site.sql("UPDATE core_tenant SET sync_note = 'x' WHERE id < 3")
    said = rollback(site, "database=reverse", status=5)
    assert "these rows would be lost: 2 in core_tenant:sync_note" in said
    assert site.live == "B"
    assert "core.0011_tenant_conflict_policy additive" in site.opskit(
        "output", "last", "What each of the migrations is", "web1"
    )
    rate.write_text("2\n")
    said = rollback(site, "database=reverse", "accept_loss=true", status=1)
    assert "CRIT rate: 2 (< 70)" in said  # it is told, and nothing stops for it
    assert "rollback of pool web: succeeded after" in said
    assert site.live == "A"
    assert site.applied() == ["core.0009_base"]
    (kept,) = (site.root / "exports").glob("*/*")
    assert kept.name == "core_tenant:sync_note.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(row["id"], row["sync_note"]) for row in rows] == [(1, "x"), (2, "x")]
    said = site.opskit("output", "last", "Take the migrations back", "web1")
    back = re.findall(r"Unapplying (\S+)\.\.\. OK", said)
    assert back == list(reversed(ORDER))
    site.opskit("audit", "verify")


BOTH = (
    create("Note")
    + f"""
        {django.NOTE}
    ]
    replaces = [("core", "0010_create"), ("core", "0011_note"),"""
)


def test_a_squash_of_what_is_there_is_recorded_and_is_no_news_to_the_release_before(
    site: Site,
) -> None:
    site.write(order=[])
    site.deploy("B", {"core.0010_create": create("Note"), "core.0011_note": django.NOTE})
    site.deploy("C", {"core.0010_both": BOTH})
    assert site.applied()[-1] == "core.0010_both"
    rollback(site, "database=reverse")
    said = site.opskit("output", "last", "What each of the migrations is", "web1")
    assert said == "none came since"
    assert site.live == "B"
    assert "core.0010_both" in site.applied()


@pytest.mark.soak
def test_what_a_squash_of_the_release_before_stands_for_is_no_news_to_it(site: Site) -> None:
    site.write(order=[])
    site.deploy("D", {"core.0010_both": BOTH, "core.0012_more": create("More")})
    site.deploy("E", {"core.0010_create": create("Note"), "core.0011_note": django.NOTE})
    rollback(site, "database=reverse")  # D has a squash of what E has by its parts
    said = site.opskit("output", "last", "What each of the migrations is", "web1")
    assert said == "none came since"
    assert site.sql("SELECT to_regclass('core_note') IS NOT NULL") == [(True,)]


@pytest.mark.soak
def test_a_squash_that_is_there_by_its_parts_alone_is_taken_back(site: Site) -> None:
    site.write(order=[])
    site.deploy("B", {"core.0010_both": BOTH})
    site.sql("DELETE FROM django_migrations WHERE name = '0010_both'")
    rollback(site, "database=reverse")
    assert (site.live, site.applied()) == ("A", ["core.0009_base"])
    assert site.sql("SELECT to_regclass('core_note') IS NULL") == [(True,)]


@pytest.mark.soak
def test_nothing_is_taken_back_where_the_limits_do_not_get_to_the_server(site: Site) -> None:
    site.deploy("B", SEVEN)
    settings = site.root / "current" / "settings.py"
    options = '"OPTIONS": {"options": "-c lock_timeout=200ms"}'
    settings.write_text(settings.read_text().replace('"OPTIONS": {}', options))
    said = rollback(site, "database=reverse", status=5)
    assert "PGOPTIONS does not get to the server" in said
    assert (site.live, site.applied()) == ("B", ["core.0009_base", *ORDER])
    rollback(site)
    assert site.live == "A"


@pytest.mark.soak
def test_of_two_branches_of_an_app_the_one_that_came_since_is_taken_back(site: Site) -> None:
    site.write(order=[])
    both = {"core.0010_one": create("One"), "core.0010_two": create("Two")}
    after = {"core.0010_two": ["core.0009_base"], "core.0011_merge": list(both)}
    site.deploy("B", {"core.0010_one": both["core.0010_one"]})
    site.project.files = {"RELEASE": "C", "app.py": APP}
    path = site.project.release("C", {**both, "core.0011_merge": ""}, after=after)
    site.opskit(*site.words("C", path))
    assert site.applied()[-2:] == ["core.0010_two", "core.0011_merge"]
    restart = json.loads((site.folder / "i.yaml").read_text())["services"]["app"]["restart"]
    insert = f"{site.project.binaries}/psql -qc 'INSERT INTO core_two DEFAULT VALUES' '{site.url}'"
    site.more = {"restart": f"{insert}; {restart}"}  # comes after the rows were counted
    site.write(order=[])
    said = rollback(site, "database=reverse", status=1)
    assert "1 rows in core_two came since they were counted: nothing is taken back" in said
    assert (site.live, site.applied()[-1]) == ("B", "core.0011_merge")
    site.sql("DELETE FROM core_two")
    site.opskit("retry", "last", "--yes", "--hosts", "web1")
    assert (site.live, site.applied()) == ("B", ["core.0009_base", "core.0010_one"])
    assert site.sql("SELECT to_regclass('core_one') IS NULL, to_regclass('core_two') IS NULL") == [
        (False, True)
    ]


def test_f13_the_backup_that_is_named_is_the_one_of_the_record_and_nothing_goes_behind_a_drop(
    site: Site,
) -> None:
    backup = site.folder / "app-1.dump"
    tool = site.folder.parent / "none"
    site.write(backup={"file": str(site.folder / "app-*.dump"), "pg_restore": str(tool)})
    assert "there is no backup" in site.deploy("B", SEVEN, status=5)
    backup.write_text("")
    assert "can't be listed" in site.deploy("B", SEVEN, status=5)
    binaries = Path(site.project.binaries)
    words = [str(binaries / "pg_dump"), "-Fc", "-f", str(backup), site.url]
    subprocess.run(words, check=True)
    restore = {"file": str(site.folder / "app-*.dump"), "pg_restore": str(binaries / "pg_restore")}
    site.write(backup={**restore, "database": "other"})
    assert "is not of the database other" in site.deploy("B", SEVEN, status=5)
    site.write(backup={**restore, "min_size": "1GiB"})
    assert "bytes, and must have 1073741824" in site.deploy("B", SEVEN, status=5)
    site.write(backup={**restore, "max_age": "2h"})
    os.utime(backup, (long_ago := time.time() - 3 * 3600, long_ago))
    assert "min old, and may be 2 h old" in site.deploy("B", SEVEN, status=5)
    contract = {"core.0010_drop": 'migrations.RemoveField("Tenant", "name"),'}
    ours = {"database": site.project.database, "max_age": "5h"}
    site.write(backup={**restore, **ours}, order=[])
    site.deploy("B", contract, "phase=contract")
    newer = site.folder / "app-2.dump"
    backup.rename(newer)  # made after the deploy, and found by one that was refused and one without
    site.write(backup={**restore}, order=["core.0011_none", "core.0010_drop"])
    assert "the plan has no core.0011_none" in site.deploy("C", contract, status=5)
    site.write(backup={**restore}, order=[])
    os.utime(newer)
    site.deploy("C", contract)
    said = rollback(site, "to=A", status=5)
    assert "core.0010_drop has taken away what the release before may need" in said
    assert "Roll forward: deploy a release that mends" in said
    assert str(backup) in said
    assert str(newer) not in said
    assert site.live == "C"


def test_nothing_goes_behind_a_drop_of_a_deploy_that_was_taken_back(site: Site) -> None:
    site.deploy("B", {})
    deep = {"label": "deep", "path": "/health/detailed/", "json": {"status": "healthy"}}
    site.more = {"after": [deep]}
    site.write(order=[])
    drop = {"core.0010_drop": 'migrations.RemoveField("Tenant", "name"),'}
    assert "its undo only tells of it" in site.deploy("ill", drop, "phase=contract", status=3)
    assert (site.live, site.applied()[-1]) == ("B", "core.0010_drop")
    said = rollback(site, status=5)  # B, which is asked, has no such migration
    assert "core.0010_drop has taken away what the release before may need" in said


def test_what_must_hold_afterwards_is_asked_and_a_release_without_it_goes_back(site: Site) -> None:
    rate = site.folder / "rate"
    site.more = {
        "migrations": None,
        "limited": {"path": "/api/", "allowed": 3, "address": "192.0.2.9"},
        "before": [
            {"label": "certificate, days", "run": f"cat {rate} 2>/dev/null || :", "crit": "< 14"},
            {
                "label": "server",
                "sql": "SHOW server_version_num",
                "crit": "< 140002",
                "database": "app",
            },
        ],
        "after": [
            {"label": "deep", "path": "/health/detailed/", "json": {"status": "healthy"}},
            {"label": "hit rate, %", "run": f"cat {rate} 2>/dev/null || :", "crit": "< 70"},
        ],
    }
    site.write()
    said = site.deploy("B", {}, status=5)
    assert "UNKNOWN certificate, days: no number" in said
    assert "--hosts failed,unknown,not-started" in site.opskit("resume", "last", status=2)
    rate.write_text("2\n")
    said = site.deploy("B", {}, status=5)
    assert "CRIT certificate, days: 2 (< 14)" in said
    assert not (site.root / "releases" / "B").exists()
    rate.write_text("60\n")
    said = site.deploy("ill", {}, status=3)
    assert 'CRIT deep: status is "unhealthy", expected "healthy"' in said
    assert site.live == "A"
    said = site.deploy("B", {}, status=3)
    assert "CRIT hit rate, %: 60 (< 70)" in said
    assert site.live == "A"
    rate.write_text("91\n")
    said = site.deploy("open", {}, status=3)
    assert "status 200, expected 429" in said
    assert site.live == "A"
    book = example("cache-warm", "name: deploy-and-warm")
    book = book.replace("release }}', art", "release }}', drain: false, bake: 0s, art")
    (site.folder / "own.yaml").write_text(book)
    row = {"key": "sync_policy:acme:tasks", "value": {"wins": "server"}, "ttl": "1h"}
    (site.folder / "policies.jsonl").write_text(json.dumps(row))
    given = ["-p", "release=B", "-p", f"artifact={site.release('B', {})}"]
    with redis.server() as cache:
        inventory = json.loads((site.folder / "i.yaml").read_text())
        inventory["redis"] = {"cache": {"url": f"redis://127.0.0.1:{cache.port}/0"}}
        (site.folder / "i.yaml").write_text(json.dumps(inventory))
        said = site.opskit("run", "own.yaml", "--yes", *given)
        assert cache.call("GET", "sync_policy:acme:tasks") == b'{"wins":"server"}'
    assert "OK server: 18" in said
    assert site.live == "B"


HALF = (
    django.NOTE
    + """
        migrations.RunSQL("CREATE UNIQUE INDEX CONCURRENTLY one_idx ON core_tenant ((1))",
                          "DROP INDEX one_idx"),"""
)
LATER = 'migrations.RunSQL("SELECT 1/0", ""),'


@pytest.mark.soak
def test_a_migration_in_no_transaction_that_fails_midway_is_told_as_half_done(site: Site) -> None:
    site.write(order=[])
    half = {"core.0010_half": HALF}
    said = site.deploy("B", half, "reviewed=core.0010_half", alone=("core.0010_half",), status=3)
    assert "index one_idx of core_tenant is INVALID" in said
    assert "core.0010_half is in no transaction: what it had done before it failed is there" in said
    assert (site.live, site.applied()) == ("A", ["core.0009_base"])
    assert "index one_idx of core_tenant is INVALID" in site.deploy("C", SEVEN, status=5)
    site.sql("DROP INDEX one_idx")
    said = site.deploy("D", half, "reviewed=core.0010_half", alone=("core.0010_half",), status=3)
    assert 'column "note" of relation "core_tenant" already exists' in said
    whole = {"core.0010_late": django.NOTE.replace("note", "late") + LATER}
    site.sql("ALTER TABLE core_tenant DROP COLUMN note")
    said = site.deploy("E", whole, "reviewed=core.0010_late", status=3)
    assert "division by zero" in said
    assert "in no transaction" not in said
    raises = "migrations.RunPython(lambda *_: int('no number'))"
    said = site.deploy("F", {"core.0010_late": raises}, "reviewed=core.0010_late", status=3)
    assert "ValueError: invalid literal for int() with base 10: 'no number'" in said
    gone = "SELECT count(*) FROM pg_attribute WHERE attname = 'late' AND NOT attisdropped"
    assert site.sql(gone) == [(0,)]
    site.opskit("audit", "verify")


@pytest.mark.soak
def test_a_lock_is_tried_for_six_times_and_then_no_more(site: Site) -> None:
    path = site.release("B", SEVEN)
    with psycopg.connect(site.url) as reader:
        reader.execute("SELECT count(*) FROM core_tenant")
        said = site.opskit(*site.words("B", path, "lock_timeout=10ms"), status=3)
        assert "the lock was not to be had in 6 tries" in said
        assert site.applied() == ["core.0009_base", ORDER[0]]
        reader.rollback()
        reader.execute("SELECT count(*) FROM core_tenant")
        with site.begin(*site.words("B", path)) as process:
            until(lambda: waiting(site), 60)
            until(lambda: not waiting(site), 60)
            reader.rollback()
            process.communicate(timeout=120)
        assert process.returncode == 0
    assert "try 2 of 6 follows" in site.opskit("output", "last", "Migrate", "web1")
    assert site.applied() == ["core.0009_base", *ORDER]
    site.opskit("audit", "verify")


@pytest.mark.soak
def test_what_was_only_said_to_be_applied_or_made_by_hand_fails_before_a_host_changes(
    site: Site,
) -> None:
    site.sql("CREATE TABLE core_uploadsession (id int)")
    said = site.deploy("B", SEVEN, status=3)
    assert 'relation "core_uploadsession" already exists' in said
    assert (site.live, site.applied()[-1]) == ("A", ORDER[2])
    site.sql(
        "INSERT INTO django_migrations (app, name, applied)"
        f" VALUES ('core', '{ORDER[3].partition('.')[2]}', now()); DROP TABLE core_uploadsession"
    )
    site.deploy("B", SEVEN)
    assert site.live == "B"
    said = rollback(site, "database=reverse", status=5)
    assert 'relation "core_uploadsession" does not exist' in said
    assert site.live == "B"


FORGET = """
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
MigrationRecorder(connection).record_unapplied("core", "0009_base")
"""


@pytest.mark.parametrize(
    ("do", "why"),
    [
        ("exit 0", "migrate says that all is done, but these are not applied: core.0010_sync"),
        (
            '{manage} "$@" || exit; exec {manage} shell -c "$(cat {forget})"',
            "nobody has looked at migration core.0009_base, which is new here",
        ),
    ],
)
def test_a_migrate_that_does_something_else_than_it_says_is_told(
    site: Site, do: str, why: str
) -> None:
    """`manage` is the project's own, and so is what it does."""
    manage, forget = site.project.manage, site.folder / "forget.py"
    forget.write_text(FORGET)
    script = site.folder / "manage.sh"
    do = do.format(manage=manage, forget=forget)
    script.write_text(f'[ "$PGAPPNAME" != opskit:migrate ] || {{ {do}; }}\nexec {manage} "$@"\n')
    site.write(manage=f"sh {script}")
    assert why in site.deploy("B", SEVEN, status=3)
    assert site.live == "A"
