# ruff: noqa: ANN401 - keywords are those of a Selection, a Limits, a Rows
"""A table of sessions, most of them over, and removals from it by the real driver."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import psycopg

from opskit.model.job import Output
from opskit.model.rows import Limits, Rows, Selection
from opskit.render import text
from tests.support.database import Base

SESSIONS = """
    CREATE TABLE session (
        key text PRIMARY KEY,
        data jsonb,
        note character(8),
        weight double precision DEFAULT random(),
        blob bytea,
        size integer GENERATED ALWAYS AS (length(key)) STORED,
        number bigint GENERATED ALWAYS AS IDENTITY,
        expire_date timestamptz NOT NULL);
    CREATE INDEX session_expire ON session (expire_date);
    GRANT SELECT, INSERT, UPDATE, DELETE ON session TO app;
    GRANT SELECT ON session TO reader
"""
FILL = """
    INSERT INTO session (key, data, note, blob, expire_date)
    SELECT 's' || n, (ARRAY[NULL, 'null', '{"a": [1, "x\\u00e9"]}'])[1 + n %% 3]::jsonb,
        'n ' || n %% 10, decode(md5(n::text), 'hex'),
        now() + CASE WHEN n <= %s THEN -1 ELSE 1440 END * (1 + n %% 97) * interval '1 minute'
    FROM generate_series(1, %s) AS n
"""
HASH = "SELECT md5(string_agg(s::text, ';' ORDER BY key)) FROM session AS s WHERE key LIKE 's%%'"
LIMITS = Limits(rows=10**6, share=0.95, first=100, batch=500, pause=0.0)
OVER = Selection(table="session", time="expire_date", older=0.0)
ALL = Rows(do="remove", database="main", chosen=OVER, limits=LIMITS, archive=True)


def rows(**how: Any) -> Rows:
    """Return a removal of what is over, with other words than usual."""
    limits = {f.name: how.pop(f.name) for f in fields(Limits) if f.name in how}
    chosen = {f.name: how.pop(f.name) for f in fields(Selection) if f.name in how}
    for name in ("where", "live"):
        if isinstance(chosen.get(name), str):
            chosen[name] = text(chosen[name], how.pop("given", {}), context="sql")
    return replace(ALL, limits=replace(LIMITS, **limits), chosen=replace(OVER, **chosen), **how)


def back(work: Rows, of: str = "1/") -> Rows:
    return replace(work, do="restore", of=of)


@dataclass
class Attic:
    """A database with sessions."""

    db: Base

    def fill(self, over: int = 3000, of: int = 4000) -> None:
        self.db.sql("DROP TABLE IF EXISTS session; " + SESSIONS)
        self.db.sql(FILL, over, of)
        self.db.sql("ANALYZE session")

    def do(self, work: Rows, **how: Any) -> Output:
        return self.db.do(work, **how)

    def see(self, work: Rows) -> Output:
        return self.db.do(replace(work, probe=True), "read")

    def hash(self) -> object:
        return self.db.sql(HASH.replace("%%", "%"))[0][0]

    def keys(self, where: str = "true") -> int:
        return int(self.db.sql(f"SELECT count(*) FROM session WHERE {where}")[0][0])

    def kept(self) -> int:
        found = self.db.sql(
            "SELECT count(*) FROM opskit_db.removed_row WHERE run = %s", self.db.run
        )
        return int(found[0][0])


@dataclass
class Writer:
    """Another client: it makes sessions, prolongs them and ends them, all the time."""

    url: str
    stop: threading.Event = field(default_factory=threading.Event)
    made: int = 0
    errors: list[str] = field(default_factory=list)

    def go(self) -> None:
        chance = random.Random(1)
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stop.wait(0.001):
                key = f"w{chance.randrange(300)}"
                try:
                    connection.execute(
                        "INSERT INTO session (key, expire_date) VALUES (%s, now() + interval '1h')"
                        " ON CONFLICT (key) DO UPDATE SET expire_date = excluded.expire_date",
                        (key,),
                    )
                    connection.execute("DELETE FROM session WHERE key = %s", (f"x{key}",))
                except psycopg.Error as error:
                    self.errors.append(str(error))
                self.made += 1


@contextmanager
def writing(db: Base) -> Iterator[Writer]:
    writer = Writer(db.owner)
    thread = threading.Thread(target=writer.go)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop.set()
        thread.join(20)
