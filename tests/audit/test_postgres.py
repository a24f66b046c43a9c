"""The database: its guards, its formats, its roles, and what its errors say."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from opskit import audit
from opskit.audit import Store
from opskit.audit.postgres import guards, keep, schema
from opskit.audit.postgres.address import parse
from opskit.audit.postgres.schema import Migration
from opskit.errors import InputError, StoreError
from tests.contract.samples import begin, ended, finished, started, whole_run
from tests.support.postgres import Server, rows, server

pytestmark = pytest.mark.acceptance

LET_THROUGH = """
create or replace function opskit.refuse() returns trigger language plpgsql
as 'begin return old; end'
"""
FEWER = """
drop trigger runs_keep on runs;
create trigger runs_keep before delete on runs for each row execute function refuse();
alter table runs enable always trigger runs_keep
"""


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.database()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = audit.open(url)
    yield opened
    opened.close()


def as_role(postgres: Server, url: str, role: str) -> str:
    keep.init(parse(url), role)
    return url.replace("owner@", f"{role}@")


# ---- guards


@pytest.mark.parametrize(
    "statement",
    [
        "update runs set runbook = 'x'",
        "delete from runs",
        "truncate runs cascade",
        "insert into runs values (9, 'x', 'run', 'x', 0)",
        "update documents set body = ''",
        "delete from documents",
        "truncate documents",
        "update events set at = 0",
        "delete from events",
        "truncate events",
        "insert into events select run, 9, at, kind, key, host, body, hash from events limit 1",
        "insert into events select run, 1, at, kind, key, host, body, hash from events limit 1",
        "update outputs set body = ''",
        "delete from outputs",
        "truncate outputs",
        "update store set id = 'x'",
        "update store set runs = 7",
        "delete from store",
        "truncate store",
        "update heads set entries = 1",
        "delete from heads",
        "truncate heads",
        "update keys set body = ''",
        "delete from migrations",
    ],
)
def test_facts_are_not_changed_not_even_by_the_owner(
    store: Store, url: str, statement: str
) -> None:
    whole_run(store)
    with pytest.raises(psycopg.Error, match="append-only") as raised:
        rows(url, statement)
    assert raised.value.sqlstate in ("P0001", "23505")
    with pytest.raises(psycopg.Error, match="append-only"):
        rows(url, f"set session_replication_role = replica; {statement}")
    assert store.verify() == []


@pytest.mark.parametrize(
    "statement",
    [
        "drop trigger events_keep on events",
        "alter table outputs disable trigger outputs_stay",
        "alter table heads enable trigger heads_grow",
        LET_THROUGH,
        FEWER,
        "alter function count_event() reset search_path",
    ],
)
def test_a_guard_that_was_taken_away_is_missed(store: Store, url: str, statement: str) -> None:
    assert store.verify() == []
    rows(url, statement)
    found = [finding.what for finding in store.verify()]
    assert found
    assert all("was taken away or changed" in what for what in found)
    assert any(check.state == "bad" and check.name == "guards" for check in keep.check(parse(url)))


def test_every_table_of_facts_has_guards() -> None:
    expected = guards._expected()
    for table in ("runs", "documents", "events", "outputs", "keys", "migrations"):
        assert {f"{table}_keep", f"{table}_stay"} <= expected.keys()


# ---- roles


def test_a_role_may_run_things_and_can_not_change_what_happened(postgres: Server, url: str) -> None:
    mine = as_role(postgres, url, "worker")
    store = audit.open(mine)
    run = whole_run(store)
    with begin(store) as journal:
        journal.append(started(), ended(), finished())
    with store.reopen(run, who="bob", origin="desk"):
        pass
    assert store.verify() == []
    store.close()

    for statement in (
        "update events set at = 0", "delete from events", "truncate events",
        "delete from runs", "update outputs set body = ''", "update documents set body = ''",
        "alter table events disable trigger events_keep", "drop table events",
        "update store set id = 'x'", "insert into migrations values (3, 'x', 'x')",
        "create table opskit.mine (x int)", "delete from heads",
        LET_THROUGH,
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows(mine, statement)
    assert {check.state for check in keep.check(parse(mine)) if check.name != "durable"} == {"ok"}


def test_who_owns_the_record_is_warned_and_who_may_delete_is_told(
    postgres: Server, url: str
) -> None:
    (owner,) = [check for check in keep.check(parse(url)) if check.name == "rights"]
    assert owner.state == "warn"
    assert "could take the guards away" in owner.what
    mine = as_role(postgres, url, "deleter")
    rows(url, "grant delete on events to deleter")
    (rights,) = [check for check in keep.check(parse(mine)) if check.name == "rights"]
    assert (rights.state, "events" in rights.what) == ("bad", True)


def test_a_role_without_rights_is_told_what_to_ask_for(postgres: Server, url: str) -> None:
    rows(url, "create role outsider login")
    with pytest.raises(StoreError, match="too few rights") as raised:
        audit.open(url.replace("owner@", "outsider@"))
    assert "opskit store init --role" in str(raised.value)
    found = keep.check(parse(url.replace("owner@", "outsider@")))
    assert found[-1].state == "bad"


def test_a_role_can_not_put_words_of_its_own_into_the_mouths_of_guards(
    postgres: Server, url: str
) -> None:
    mine = as_role(postgres, url, "clever")
    with contextlib.closing(audit.open(mine)) as store:
        whole_run(store)
    rows(url, "create schema clever authorization clever")
    lie = (
        "create function clever.never(integer, integer) returns boolean"
        " language sql as 'select false';"
        "create operator clever.<> (function = clever.never, leftarg = integer,"
        " rightarg = integer);"
        "set search_path = clever, pg_catalog, opskit;"
        "insert into events select run, 99, at, kind, key, host, body, hash from events limit 1"
    )
    with pytest.raises(psycopg.Error, match="without a gap"):
        rows(mine, lie)


# ---- formats


def test_a_database_without_a_record_is_refused_until_it_is_made(postgres: Server) -> None:
    url = postgres.database(empty=True)
    with pytest.raises(StoreError, match="no record in this database") as raised:
        audit.open(url)
    assert "opskit store init" in str(raised.value)
    assert [check.what for check in keep.check(parse(url))][-1] == "there is none yet"

    assert keep.init(parse(url), None).new
    assert not keep.init(parse(url), None).new
    audit.open(url).close()


def test_a_record_of_a_newer_opskit_is_refused(url: str) -> None:
    rows(url, "insert into migrations values (99, 'later', 'x')")
    with pytest.raises(StoreError, match=r"newer opskit .*format 99; this one knows 2"):
        audit.open(url)
    with pytest.raises(StoreError, match="newer opskit"):
        keep.migrate(parse(url))
    assert any("newer" in check.what for check in keep.check(parse(url)))


def test_an_older_record_is_brought_up_to_date_step_by_step(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = schema.migrations()
    assert keep.migrate(parse(url)) == ()
    later = (
        Migration(number=3, name="colours", sql="alter table runs add column colour text;"),
        Migration(number=4, name="more", sql="create table more (x integer); -- ; \n"),
    )
    monkeypatch.setattr(schema, "migrations", lambda: (*known, *later))
    with pytest.raises(StoreError, match="older opskit") as raised:
        audit.open(url)
    assert "opskit store migrate" in str(raised.value)
    assert keep.migrate(parse(url)) == ("colours", "more")
    assert keep.migrate(parse(url)) == ()
    audit.open(url).close()


def test_a_step_that_fails_leaves_the_record_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = schema.migrations()
    bad = Migration(number=3, name="bad", sql="create table half (x integer); select 1/0;")
    monkeypatch.setattr(schema, "migrations", lambda: (*known, bad))
    with pytest.raises(StoreError):
        keep.migrate(parse(url))
    assert rows(url, "select max(number), to_regclass('opskit.half') from migrations") == [
        (2, None)
    ]


def test_a_script_is_split_where_its_statements_end() -> None:
    script = "a ';' b; -- c;\n$$ d; e $$ f; g-h;\n"
    assert schema.statements(script) == ["a ';' b", "$$ d; e $$ f", "g-h"]


def test_a_record_without_signs_of_life_gets_them_and_its_roles_may_give_them(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = schema.migrations()
    url = postgres.database(empty=True)
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "migrations", lambda: known[:1])
        earlier.setattr(schema, "GRANTS", schema.GRANTS[:-1])
        keep.init(parse(url), "veteran")
    with pytest.raises(StoreError, match="older opskit"):
        audit.open(url)
    assert keep.migrate(parse(url)) == ("signs of life",)
    mine = url.replace("owner@", "veteran@")
    with contextlib.closing(audit.open(mine)) as store, begin(store):
        until = time.monotonic() + 20
        while rows(url, "select max(beats) from holds") == [(0,)]:
            assert time.monotonic() < until
            time.sleep(0.1)
    assert {check.state for check in keep.check(parse(mine)) if check.name != "durable"} == {"ok"}
    rows(url, "revoke update (beats) on holds from veteran")
    (rights,) = [check for check in keep.check(parse(mine)) if check.name == "rights"]
    assert (rights.state, "sign of life" in rights.what) == ("bad", True)


# ---- passwords and errors


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server on TCP that wants a password from one of its users."""
    port = str(20000 + os.getpid() % 20000)
    with server(listen_addresses="127.0.0.1", port=port) as found:
        rows(found.url("postgres"), "create role guest login superuser password 'pa:ss w%rd'")
        hba = found.folder / "data" / "pg_hba.conf"
        hba.write_text("host all guest 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
        rows(found.url("postgres"), "select pg_reload_conf()")
        yield found


def test_a_password_comes_from_a_file_a_service_or_the_environment(
    guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = guarded.database().partition("?")[0].rpartition("/")[2]
    bare = f"postgresql://guest@127.0.0.1:{guarded.port}/{name}"
    passfile = tmp_path / "pass"
    passfile.write_text(f"127.0.0.1:{guarded.port}:*:guest:pa\\:ss w%rd\n")
    passfile.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(
        f"[ops]\nhost=127.0.0.1\nport={guarded.port}\ndbname={name}\nuser=guest\n"
        "password=pa:ss w%rd\n"
    )
    audit.open(bare.replace("guest@", "guest:pa%3Ass%20w%25rd@")).close()
    audit.open(f"{bare}?passfile={passfile}").close()
    monkeypatch.setenv("PGPASSWORD", "pa:ss w%rd")
    audit.open(bare).close()
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    store = audit.open("postgresql:///?service=ops")
    assert store._database.location == "postgresql:///?service=ops"
    store.close()


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://guest:hunter-two@127.0.0.1:{port}/postgres",
        "postgresql://guest@127.0.0.1:{port}/postgres?password=hunter-two",
        "postgresql://guest:hunter-two@127.0.0.1:{port}/nothing?sslmode=disable",
        "postgresql://guest:hunter-two@127.0.0.1:1/postgres",
        "postgresql://guest:hunter-two@127.0.0.1:x/postgres",
        "postgresql://guest:hunter-two@nowhere.invalid/postgres",
        "postgresql://guest:hunter-two@127.0.0.1/postgres?what=ever",
        "postgresql://guest:hunter-two%zz@127.0.0.1/postgres",
        "postgresql://guest:hunter-two@127.0.0.1/postgres?patience=long",
    ],
)
def test_no_message_shows_a_password(guarded: Server, place: str) -> None:
    where = place.format(port=guarded.port)
    with pytest.raises((StoreError, InputError)) as raised:
        audit.open(where)
    error: BaseException | None = raised.value
    while error is not None:
        assert "hunter" not in f"{error} {error!r}"
        error = error.__cause__
    # The traceback of a bug, as Python prints it:
    done = subprocess.run(
        [sys.executable, "-c", "import os; from opskit import audit; audit.open(os.environ['P'])"],
        env={**os.environ, "P": where}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "hunter" not in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("@127.0.0.1:", "@127.0.0.2:"), "can't be reached"),
        (("guest:secretly", "guest:otherwise"), "password authentication failed"),
        (("/postgres", "/nothing"), "does not exist"),
    ],
)
def test_what_is_wrong_is_said_with_where_and_what_to_do(
    guarded: Server, change: tuple[str, str], said: str
) -> None:
    rows(guarded.url("postgres"), "alter role guest password 'secretly'")
    place = f"postgresql://guest:secretly@127.0.0.1:{guarded.port}/postgres".replace(*change)
    with pytest.raises(StoreError, match=said) as raised:
        audit.open(place)
    assert raised.value.where.startswith("postgresql://127.0.0.")
    assert raised.value.hint
    rows(guarded.url("postgres"), "alter role guest password 'pa:ss w%rd'")


def test_an_address_is_shown_without_who_and_with_where() -> None:
    for place, shown in {
        "postgresql://ann:pw@db1:5433/ops": "postgresql://db1:5433/ops",
        "postgres://ann:pw@a:1,b:2/ops?sslmode=require": "postgresql://a:1,b:2/ops",
        "postgresql:///ops?host=/run/pg&password=x": "postgresql:///ops?host=/run/pg",
        "postgresql://ann:p%40w@/ops?host=db1": "postgresql://db1/ops",
        "postgresql://ann:p@w@db1/ops": "postgresql://db1/ops",
    }.items():
        assert parse(place).location == shown
    assert parse("postgresql://h/d?patience=7&sslmode=disable").url.endswith("?sslmode=disable")
    assert parse("postgresql://h/d?patience=7").patience == 7
