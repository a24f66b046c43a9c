"""How much of the tables of a database holds no rows: by statistics, then by a look into some.

Looks are short and one by one: whoever wants to lock the table waits for them.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from opskit.drivers.postgres.bulk import HIDDEN, NEVER, Air, Bulk, bulks, estimate
from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.drivers.postgres.doing import SNAPSHOT
from opskit.drivers.postgres.findings import Found, evidence, told, weighed
from opskit.drivers.postgres.findings import table as findings
from opskit.drivers.postgres.looking import looked
from opskit.drivers.postgres.marks import quoted
from opskit.drivers.postgres.session import Access, Session, as_reader, limit
from opskit.drivers.postgres.told import aligned
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.model.bloat import Bloat
from opskit.model.job import Job, Output
from opskit.model.value import Json
from opskit.steps.bloat import CHECKS

_EXTENSION = """
    SELECT /* opskit */ n.nspname FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pgstattuple'
"""
_LOOK = """
    SELECT /* opskit */ table_len, approx_free_space + dead_tuple_len
    FROM {schema}.pgstattuple_approx($1::oid::regclass)
"""
_LONGEST = 5
"""Seconds for a look into one table: what would lock the table waits for so long."""
_LIMITS = f"SET LOCAL statement_timeout = '{_LONGEST}s'; SET LOCAL lock_timeout = '200ms'"
_DENIED = "42501"
_WHY = {
    _DENIED: "the role may not: GRANT pg_stat_scan_tables TO it",
    "57014": f"it was not over within {_LONGEST} s",
    "55P03": "somebody holds a lock on it",
}
_SHOWN = 20
_NAMED = 5
_CATALOG = "pg_catalog"
_SUGGESTED = """\
What holds no rows takes new ones after VACUUM. What makes a table smaller, none of which is done here:
- pg_repack copies it while others go on. That needs the room named, and a primary key or unique index without NULL.
- VACUUM FULL and CLUSTER lock everybody out, readers too, until they have written it anew.
"""  # noqa: E501
_CURES = {
    HIDDEN: "the role does not see their statistics: GRANT it SELECT, or pg_read_all_data",
    NEVER: "they were never counted: ANALYZE them (VACUUM for TOAST)",
}


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Look and tell. What goes wrong outside is in the output, never raised."""
    work = job.work
    assert isinstance(work, Bloat)
    return looked(access, job, running, lambda s: _looked(access, s, job, work, write), checks=True)


def _looked(access: Access, session: Session, job: Job, work: Bloat, write: Write) -> Output:
    connection = session.connection
    until = time.monotonic() + job.timeout / 2
    role = as_reader(session, access)
    limit(connection, job.timeout, ends_with_us=True)
    connection.own(SNAPSHOT)
    page = int(connection.one("SHOW block_size")[0] or 8192)
    every = bulks(connection, work.least, page)
    connection.own("ROLLBACK")
    airs = [air for one in every if (air := estimate(one, page)) is not None]
    airs = list(_seen(connection, work, sorted(airs, key=lambda air: -air.bytes), until))
    found = weighed(_findings(work, every, airs, page), work.leave_out, (), CHECKS)
    summary = f"{len(every)} tables and indexes of {_size(work.least)} or more"
    line = told(found, access.database.name, summary)
    cure = _SUGGESTED if any(w.found.check == "bloat" and w.level == "WARN" for w in found) else ""
    last = line.partition("; ")[0]
    write("stdout", f"{_table(airs)}{findings(found)}{cure}{last}\n".encode())
    data: list[Json] = [
        {"table": air.bulk.shown, "bytes": int(air.size), "air": round(air.share, 3),
         "by": air.how}
        for air in airs[:_SHOWN]
    ]  # fmt: skip
    return Output(
        outcome="succeeded", reason=line, status=0,
        evidence={**evidence(found), "tables": data, "role": role},
    )  # fmt: skip


# --- the look into a table


def _over(air: Air, work: Bloat) -> bool:
    return 100 * air.share > work.share and air.bytes > work.least


def _seen(connection: Connection, work: Bloat, airs: Sequence[Air], until: float) -> Iterator[Air]:
    """Look into the tables that the estimate tells of, where it can be; else say why it can't."""
    todo = any(_over(air, work) and air.bulk.kind != "i" for air in airs)
    extension = connection.one(_EXTENSION) if todo and work.exact else ()
    schema = quoted(extension[0] or "") if extension else ""
    note = "" if extension else "the extension pgstattuple is not in this database"
    for air in airs:
        if not _over(air, work) or not work.exact or air.bulk.kind == "i":
            yield air
        elif air.size > work.exact:
            yield replace(air, note=f"it has more than {_size(work.exact)}")
        elif note or time.monotonic() > until:
            yield replace(air, note=note or "there was no time left")
        else:
            made = _read(connection, schema, air)
            note = made.note if made.note == _WHY[_DENIED] else ""
            yield made


def _read(connection: Connection, schema: str, air: Air) -> Air:
    """Look into a table: what is not free or dead would need fewer pages, were they as full."""
    try:
        connection.own(f"BEGIN READ ONLY; {_LIMITS}")
        size, free = connection.one(_LOOK.replace("{schema}", schema), str(air.bulk.oid))
    except ServerError as error:
        return replace(air, note=_WHY.get(error.code, error.what))
    finally:
        connection.own("ROLLBACK")
    whole = float(size or 0)
    taken = (1 - float(free or 0) / whole) / (1 - air.slack) if whole else 1.0
    share = max(0.0, 1 - taken)
    return replace(air, share=share, size=whole, how="look")


# --- what is told


def _findings(
    work: Bloat, every: Sequence[Bulk], airs: Sequence[Air], page: int
) -> Iterator[Found]:
    for air in airs:
        if _over(air, work):
            yield _bloated(air, page)
        elif air.how == "look":
            text = f"the estimate told of it; a look says {air.share:.0%} of {_size(air.size)}"
            yield Found(check="bloat", table=air.bulk.shown, text=text, weight="INFO")
    for lack, cure in _CURES.items():
        # Of catalogs few may see what they hold, and of some the server counts nothing itself.
        lacking = [one for one in every if one.lacks == lack]
        own = [one.shown for one in lacking if one.schema != _CATALOG]
        if own:
            yield Found(check="unclear", name=_some(own), text=cure, unknown=True)
        if len(lacking) > len(own):
            left = [one.shown for one in lacking if one.schema == _CATALOG]
            yield Found(check="unclear", name=_some(left), text="these catalogs can't be estimated")
    if stale := [one.shown for one in every if one.stale]:
        text = "many rows were changed since they were counted, so this may be wrong: ANALYZE"
        yield Found(check="unclear", name=_some(stale), text=text)


def _bloated(air: Air, page: int) -> Found:
    by = "by a look into it" if air.how == "look" else "by an estimate from statistics"
    if air.note:
        by += f"; no look: {air.note}"
    text = f"{_size(air.bytes)} of {_size(air.size)} ({air.share:.0%}) holds no rows ({by}); "
    return Found(check="bloat", table=air.bulk.shown, text=text + _cure(air.bulk, page))


def _cure(one: Bulk, page: int) -> str:
    """Say what would make it smaller, and what that takes."""
    if one.kind == "i":
        return f"REINDEX INDEX CONCURRENTLY, with {_size(one.copy * page)} free"
    if one.kind == "m":
        return "matview-refresh -p blocking=true writes it anew, in a window"
    if one.schema == _CATALOG:
        return "nothing but VACUUM FULL makes a catalog smaller"
    key = "" if one.key else ", and a unique key, which it lacks"
    return f"pg_repack needs {_size(one.copy * page)} free, for table and indexes once more{key}"


def _table(airs: Sequence[Air]) -> str:
    if not airs:
        return ""
    rows = [("SIZE", "AIR", "SHARE", "BY", "TABLE OR INDEX")]
    rows += [
        (_size(air.size), _size(air.bytes), f"{air.share:.0%}", air.how, air.bulk.shown)
        for air in airs[:_SHOWN]
    ]
    return aligned(rows)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(sorted(names)[:_NAMED]) + more


def _size(size: float) -> str:
    mib = size / 2**20
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
