"""How old what a materialized view shows is at least.

No server notes when a view was refreshed. But each refresh writes the view's row of the catalog,
also one that is CONCURRENTLY and finds nothing new, and where times of commits are kept it is known
when that was. Other things write the row, too (GRANT, ALTER): so the refresh was then or earlier.
A view that has not been touched for too long is stale for certain; of another one that is not said.
"""

import json
from collections.abc import Iterator, Mapping

from opskit.drivers.postgres.catalog import Relation
from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.drivers.postgres.findings import Found
from opskit.model.frozen import frozen
from opskit.model.value import Json
from opskit.steps.units import duration

_TOUCHED = """
    SELECT pg_catalog.json_object_agg(c.oid::text, extract(epoch FROM
        pg_catalog.clock_timestamp() - pg_catalog.pg_xact_commit_timestamp(c.xmin)))
    FROM pg_catalog.pg_class c WHERE c.relkind = 'm' AND c.oid IN (
        SELECT value::oid FROM pg_catalog.json_array_elements_text($1::json) value)
"""
_BEGIN = "SAVEPOINT opskit_touched"
_END = "ROLLBACK TO SAVEPOINT opskit_touched"
_OFF = "55000"
"""The server keeps no times of commits."""


@frozen
class Touched:
    """A view that was refreshed or else changed so many seconds ago, and not since."""

    view: str
    seconds: float

    def as_json(self) -> Json:
        return {"view": self.view, "seconds": round(self.seconds, 1)}


def aged(
    connection: Connection, limits: Mapping[str, float], relations: Mapping[str, Relation]
) -> Iterator[Found | Touched]:
    """Look at each view that has a limit; the transaction is the caller's."""
    there = {name: relations[name] for name in limits if name in relations}
    connection.own(_BEGIN)
    try:
        (text,) = connection.one(_TOUCHED, json.dumps([one.oid for one in there.values()]))
    except ServerError as error:
        connection.own(_END)
        yield from (_unknown(name, _why(error)) for name in there)
        return
    ages = json.loads(text or "{}")
    for name, one in there.items():
        age = ages.get(str(one.oid))
        if not one.populated:
            continue  # that it was never filled is told anyway
        if age is None:
            why = "it was before the server began to keep such times, or they are gone by now"
            yield _unknown(name, why)
        elif age > limits[name]:
            told = f"it was refreshed {duration(round(age))} ago or earlier"
            text = f"{told}, and {duration(limits[name])} ago is expected"
            yield Found(check="fresh", table=name, text=text)
        else:
            yield Touched(view=name, seconds=age)


def _unknown(name: str, why: str) -> Found:
    text = f"when it was refreshed is not known: {why}"
    return Found(check="fresh", table=name, text=text, unknown=True)


def _why(error: ServerError) -> str:
    if error.code == _OFF:
        return "the server keeps no times of commits (track_commit_timestamp)"
    return error.what
