"""How much of tables is air: what is estimated beside what is so, and what is not known."""

from typing import Any

import psycopg
import pytest

from opskit.model.bloat import Bloat
from opskit.model.inventory import Database
from opskit.model.job import Output
from opskit.steps.health import judge
from tests.support.database import Base, base
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance

TABLES = {
    "sound": "(id bigint, name text, at timestamptz, ok bool)",
    "holed": "(id bigint PRIMARY KEY, name text, at timestamptz, ok bool)",
    "wide": "(id int, doc text)",
    "nullable": "(a int, b text, c bigint, d text, e numeric, f timestamptz, g int, h text)",
    "loose": "(id bigint, name text) WITH (fillfactor = 70)",
    "padded": "(a bool, b bigint, c bool, d bigint, e int2, f uuid, g bool, h timestamptz)",
    "parent": "(id bigint, name text)",
    "child": "() INHERITS (parent)",
    "emptied": "(id bigint) WITH (vacuum_truncate = off)",
    "longs": "(id int PRIMARY KEY, doc text)",
}
GAUGER = """
    CREATE EXTENSION pgstattuple;
    DO $$ BEGIN CREATE ROLE gauger LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
    REVOKE pg_stat_scan_tables FROM gauger
"""
ROWS = {
    "sound": "n, md5(n::text), now(), true",
    "holed": "n, md5(n::text), now(), true",
    "wide": "n, repeat('x', 1000 + (n * 7919) % 3000)",
    "nullable": "CASE WHEN n % 2 = 0 THEN n END, CASE WHEN n % 3 = 0 THEN md5(n::text) END,"
    " CASE WHEN n % 5 = 0 THEN n END, CASE WHEN n % 7 = 0 THEN repeat('y', n % 90) END,"
    " CASE WHEN n % 2 = 0 THEN n / 7.0 END, CASE WHEN n % 4 = 0 THEN now() END, 1,"
    " NULL",
    "loose": "n, md5(n::text)",
    "padded": "true, n, true, n, 1, gen_random_uuid(), true, now()",
    "parent": "n, md5(n::text)",
    "child": "n, md5(n::text) || md5(n::text)",
    "emptied": "n",
    "longs": "n, repeat('z', 9000)",
}
MANY = {"wide": 1000, "longs": 200}
HOLED = {"holed": "id % 4 <> 0", "loose": "id % 2 = 0", "wide": "id % 3 <> 0", "emptied": "true",
         "longs": "id % 3 <> 0"}  # fmt: skip
SOUND = ("sound", "nullable", "padded", "parent", "child")


@pytest.fixture(scope="module")
def db(postgres: Server) -> Base:
    made = base(postgres)
    made.sql(GAUGER)
    for name, columns in TABLES.items():
        own = "autovacuum_enabled = off"
        made.sql(f"CREATE TABLE {name} {columns}")
        made.sql(f"ALTER TABLE {name} SET ({own}, toast.{own})")
        if "doc" in columns:
            how = "EXTERNAL" if name == "longs" else "PLAIN"
            made.sql(f"ALTER TABLE {name} ALTER doc SET STORAGE {how}")
        count = MANY.get(name, 8000)
        made.sql(f"INSERT INTO {name} SELECT {ROWS[name]} FROM generate_series(1, {count}) n")
    made.sql("CREATE TABLE never AS SELECT n FROM generate_series(1, 8000) n")
    made.sql("ALTER TABLE never SET (autovacuum_enabled = off)")
    made.sql("CREATE TABLE nothing (n int); CREATE INDEX padded_h ON padded (h, b)")
    made.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO gauger")
    return made.use(Database(name="main", url=made.owner.replace("//owner@", "//gauger@")))


def clean(db: Base, *names: str, how: str = "ANALYZE") -> None:
    with psycopg.connect(db.owner, autocommit=True) as connection:
        for name in names:
            connection.execute(f"VACUUM ({how}) {name}".encode())


def look(db: Base, **how: Any) -> Output:  # noqa: ANN401 - a Bloat's
    work = Bloat(database="main", **{"least": 100_000.0, "exact": 0.0, "share": 40.0, **how})
    return judge(work, db.do(work, "read"))


def airs(output: Output) -> dict[str, float]:
    found: Any = output.evidence["tables"]
    return {one["table"]: one["air"] for one in found}


def told(output: Output, level: str, check: str = "bloat") -> dict[str, str]:
    found: Any = output.evidence["findings"]
    chosen = [one for one in found if (one["level"], one["check"]) == (level, check)]
    return {one["table"] or one["name"]: one["text"] for one in chosen}


def test_the_estimate_comes_near_to_what_is_so(db: Base) -> None:
    """True is what a copy of the table takes, as VACUUM FULL writes one."""
    clean(db, *TABLES)
    before = airs(look(db))
    assert {name: air for name in SOUND if (air := before[f"public.{name}"]) > 0.06} == {}
    for name, holes in HOLED.items():
        db.sql(f"DELETE FROM {name} WHERE {holes}")
    clean(db, *HOLED)
    output = look(db)
    found, errors = airs(output), {}
    warned = {"public.holed", "public.holed_pkey", "public.loose", "public.wide",
              "public.emptied", "TOAST of public.longs"}  # fmt: skip
    assert told(output, "WARN").keys() == warned
    assert "and a unique key, which it lacks" in told(output, "WARN")["public.loose"]
    assert "unique" not in told(output, "WARN")["public.holed"]
    with psycopg.connect(db.owner, autocommit=True) as connection:
        for name in ("holed", "loose", "wide"):
            pages = [size(db, name)]
            connection.execute(f"CREATE TABLE copy (LIKE {name} INCLUDING STORAGE)".encode())
            if name == "loose":
                connection.execute("ALTER TABLE copy SET (fillfactor = 70)")
            connection.execute(f"INSERT INTO copy SELECT * FROM {name}".encode())
            pages.append(size(db, "copy"))
            connection.execute("DROP TABLE copy")
            errors[name] = round(found[f"public.{name}"] - (1 - pages[1] / pages[0]), 3)
    assert all(abs(error) < 0.08 for error in errors.values()), errors
    assert found["public.emptied"] == 1.0


def size(db: Base, name: str) -> int:
    return int(db.sql(f"SELECT pg_relation_size('{name}')")[0][0])


def test_only_what_the_estimate_tells_of_is_read_and_only_where_it_may_be(db: Base) -> None:
    for name, holes in HOLED.items():
        db.sql(f"DELETE FROM {name} WHERE {holes}")
    clean(db, *TABLES)
    db.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO gauger")
    output = look(db, exact=2.0**30)
    assert all("GRANT pg_stat_scan_tables TO it" in text
               for name, text in told(output, "WARN").items() if "pkey" not in name)  # fmt: skip
    db.sql("GRANT pg_stat_scan_tables TO gauger")
    estimated = airs(output)
    output = look(db, exact=2.0**30)
    tables: Any = output.evidence["tables"]
    by = {one["table"]: one["by"] for one in tables}
    looks = {"public.holed", "public.loose", "public.wide", "public.emptied"}
    looks |= {"TOAST of public.longs"} if db.server.version >= 14 else set()
    assert {name for name, how in by.items() if how == "look"} == looks
    for name, how in by.items():
        if how == "look":
            assert abs(airs(output)[name] - estimated[name]) < 0.1, name
    small = look(db, exact=500_000.0)
    assert "no look: it has more than 0 MiB" in told(small, "WARN")["public.holed"]
    db.sql("DROP EXTENSION pgstattuple")
    try:
        without = told(look(db, exact=2.0**30), "WARN")["public.holed"]
    finally:
        db.sql("CREATE EXTENSION pgstattuple")
    assert "no look: the extension pgstattuple is not in this database" in without


def test_a_look_tells_that_an_estimate_was_wrong(db: Base) -> None:
    db.sql("GRANT pg_stat_scan_tables TO gauger")
    clean(db, "sound")
    db.sql("UPDATE pg_class SET reltuples = reltuples / 3 WHERE relname = 'sound'")
    try:
        assert "public.sound" in told(look(db), "WARN")
        output = look(db, exact=2.0**30)
        assert "public.sound" not in told(output, "WARN")
        assert "the estimate told of it; a look says" in told(output, "INFO")["public.sound"]
    finally:
        clean(db, "sound")


def test_a_look_waits_for_nobody_for_long(db: Base) -> None:
    db.sql("GRANT pg_stat_scan_tables TO gauger")
    db.sql("DELETE FROM holed WHERE id % 4 <> 0")
    clean(db, "holed")
    with psycopg.connect(db.owner) as holder:
        holder.execute("LOCK TABLE holed")
        output = look(db, exact=2.0**30)
    assert "no look: somebody holds a lock on it" in told(output, "WARN")["public.holed"]


def test_what_was_never_counted_or_is_hidden_is_unknown(db: Base) -> None:
    clean(db, "sound")
    output = look(db)
    assert (output.outcome, output.evidence["level"]) == ("unknown", "UNKNOWN")
    never = told(output, "UNKNOWN", "unclear")
    assert "never counted: ANALYZE" in never["public.never"]
    assert "nothing" not in db.printed  # an empty table is too small to be looked at
    db.sql("REVOKE SELECT ON sound FROM gauger")
    try:
        hidden = told(look(db), "UNKNOWN", "unclear")
        assert "does not see their statistics" in hidden["public.sound"]
    finally:
        db.sql("GRANT SELECT ON sound TO gauger")
    clean(db, "never")
    output = look(db, share=99.9)
    assert output.evidence["level"] != "UNKNOWN", output.reason
    db.sql("UPDATE never SET n = 1; SELECT pg_stat_force_next_flush()")
    stale = told(look(db), "INFO", "unclear")
    assert any("public.never" in names for names in stale)


def test_it_changes_nothing_and_leaves_nothing(db: Base) -> None:
    look(db, exact=2.0**30)
    assert db.quiet()
