"""What has to be done next about an index, from how it stands. Only looks; changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, assert_never

from opskit.drivers.postgres.bloat import times
from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.ledger import Entry
from opskit.drivers.postgres.standing import (
    LEFT,
    StandError,
    Standing,
    Table,
    busy_on,
    forbidden,
    look,
    named,
)
from opskit.model.frozen import frozen
from opskit.model.work import Repair
from opskit.render.building import concurrently, created, full_name, index_name


@frozen
class Act:
    """A statement that comes next. `ruin`: it drops what is invalid and nobody works on.

    `table`: where something is built, for a look whether there is room.
    """

    statement: str
    entry: Entry | None
    ruin: bool = False
    table: Table | None = None


@frozen
class Busy:
    """Somebody builds or drops an index of the table at this moment."""

    process: int


@frozen
class Done:
    """There is nothing to do. `index`: the one that it is about, where it is there."""

    said: str
    index: Standing | None = None


Step: TypeAlias = Act | Busy | Done


def next_step(
    connection: Connection, work: Repair, past: Sequence[Entry], *, analyzed: bool = False
) -> Step:
    """Say what comes next. `past`: what this action, or the one to be undone, has written down.

    StandError says why nothing may be done.
    """
    match work.do:
        case "create":
            return _create(connection, work)
        case "rebuild":
            return _rebuild(connection, work, past, analyzed=analyzed)
        case "tidy":
            return _tidy(connection, work)
        case "drop":
            return _drop(connection, work, past)
        case "undo":
            return _undo(connection, work, past)
        case _:
            assert_never(work.do)


def dropped(index: Standing) -> Act:
    """Return how an index is dropped while others use its table."""
    entry = Entry(
        did="drop",
        schema=index.schema,
        name=index.name,
        definition=index.definition,
        oid=index.oid,
        valid=index.valid,
    )
    statement = f"DROP INDEX CONCURRENTLY {index.full}"
    return Act(statement=statement, entry=entry, ruin=not index.valid)


def _create(connection: Connection, work: Repair) -> Step:
    assert work.index is not None
    table = look(connection, work)
    match = table.match
    if match is not None and match.valid:
        return Done(said="it is there, valid and ready", index=match)
    if table.partitioned:
        raise StandError(_in_parts(work, match))
    if process := busy_on(connection, table.oid):
        return Busy(process=process)
    if match is not None:
        return _again(match, table)
    name = index_name(work.relation, work.index)
    if there := _called(connection, table.schema, name):
        raise StandError(
            f"{name} is something else there: {there} → rename that (ALTER INDEX … RENAME TO), drop"
            " it once nobody needs it, or take `name` out of the file or give another"
        )
    if why := forbidden(connection, table.oid):
        told = f"no index can be built on {work.relation}: {why}"
        raise StandError(f"{told} → connect as a role that owns it, or as a member of that")
    return Act(
        statement=created(work.relation, work.index, table.schema),
        entry=Entry(did="create", schema=table.schema, name=name),
        table=table,
    )


def _in_parts(work: Repair, match: Standing | None) -> str:
    """Say how an index of a partitioned table comes to be: the server builds none CONCURRENTLY."""
    there = f"{match.full} is there and waits for its parts" if match is not None else ""
    first = there or f"CREATE INDEX … ON ONLY {work.relation} (it reads nothing)"
    return (
        f"{work.relation} is partitioned, and CONCURRENTLY builds on its parts alone → {first};"
        " build it on each part (an entry for each in the file), then ALTER INDEX … ATTACH"
        " PARTITION each"
    )


def _again(match: Standing, table: Table) -> Act:
    """An invalid one is dropped, to be built again; where it can't be dropped, it is rebuilt."""
    if match.constraint or match.tied:
        return _reindex(match, table)
    return dropped(match)


def _reindex(index: Standing, table: Table) -> Act:
    entry = Entry(did="rebuild", schema=index.schema, name=index.name, oid=index.oid)
    return Act(statement=f"REINDEX INDEX CONCURRENTLY {index.full}", entry=entry, table=table)


def _called(connection: Connection, schema: str, name: str) -> str:
    """Say what has a name; "" for nothing."""
    found = connection.one(
        "SELECT CASE WHEN c.relkind IN ('i', 'I') THEN pg_catalog.pg_get_indexdef(c.oid)"
        " ELSE 'no index' END FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2",
        schema,
        name,
    )
    return (found[0] or "") if found else ""


def _rebuild(
    connection: Connection, work: Repair, past: Sequence[Entry], *, analyzed: bool
) -> Step:
    table = look(connection, work)
    match = table.match
    if match is None or not match.valid:
        what = "is invalid" if match is not None else "is not there"
        raise StandError(f"{work.relation} {work.index} {what}: it has to be created first")
    if table.partitioned:
        return Done(said=f"{work.relation} is partitioned: {_PARTS}", index=match)
    if process := busy_on(connection, table.oid):
        return Busy(process=process)
    for one in table.indexes:
        if _left(one) and match.name.startswith(LEFT.sub("", one.name)):
            return dropped(one)
    before = {entry.oid for entry in past if entry.did == "rebuild"}
    if before and match.oid not in before:
        return Done(said="it has been rebuilt", index=match)
    spared = _slim(connection, work, table, match, analyzed=analyzed) if work.bloat > 0 else None
    return spared or _reindex(match, table)


def _slim(
    connection: Connection, work: Repair, table: Table, match: Standing, *, analyzed: bool
) -> Step | None:
    """Say why an index needs no rebuilding, or what must be done to tell; None where it does."""
    if not analyzed and not work.probe:  # old statistics show bloat where there is none
        name = full_name(table.schema, table.name)
        return Act(statement=f"ANALYZE {name}", entry=None)
    ratio = times(connection, match)
    if ratio is None:
        return Done(said="nothing tells how large it must be", index=match)
    if ratio < work.bloat:
        return Done(said=f"it is {ratio:.1f} times as large as it must be", index=match)
    return None


def _left(one: Standing) -> bool:
    return bool(LEFT.search(one.name)) and not one.valid and not one.constraint and not one.tied


_PARTS = "what its parts have is looked at where the file has an entry for them"


def _tidy(connection: Connection, work: Repair) -> Step:
    table = look(connection, work)
    if table.partitioned:
        return Done(said=f"{work.relation} is partitioned: {_PARTS}")
    ruins = [one for one in table.indexes if _left(one)]
    if not ruins:
        return Done(said="nothing is left behind there")
    process = busy_on(connection, table.oid)
    return Busy(process=process) if process else dropped(ruins[0])


def _drop(connection: Connection, work: Repair, past: Sequence[Entry]) -> Step:
    found = named(connection, work.name)
    if not found:
        if any(entry.did == "drop" for entry in past):
            return Done(said="it is gone")
        raise StandError(f"there is no index {work.name}")
    if len(found) > 1:
        places = ", ".join(one.schema for one in found)
        raise StandError(f"{work.name} is in several schemas ({places}): write SCHEMA.NAME")
    (index,) = found
    _spared(index)
    if index.busy:
        return Busy(process=index.busy)
    begun = any(entry.oid == index.oid for entry in past)
    if index.valid and not work.leftover and not begun:
        raise StandError(f"{work.name} is valid: it is dropped only with `leftover: true`")
    return replace(dropped(index), ruin=False)  # a person has named it: it is waited for


def _spared(index: Standing) -> None:
    if index.constraint:
        raise StandError(
            f"the constraint {index.constraint} stands on {index.name}: ALTER TABLE"
            f" {index.table} DROP CONSTRAINT is another decision"
        )
    if index.tied:
        raise StandError(
            f"{index.name} is part of a partitioned index, or replication tells rows apart by it"
        )


def _undo(connection: Connection, work: Repair, past: Sequence[Entry]) -> Step:
    if not past:
        raise StandError(
            "what this run has written down is no longer in the database, so nothing tells what it"
            " has built or dropped: compare with its record, and do it by hand"
        )
    built = next((entry.oid for entry in reversed(past) if entry.did == "built"), 0)
    for entry in reversed(past):
        if entry.did == "create" and work.index is not None:
            return _unmade(connection, work, entry, built)
        if entry.did == "drop" and entry.valid:
            return _remade(connection, entry)
    return Done(said="this run has built or dropped nothing there")


def _unmade(connection: Connection, work: Repair, entry: Entry, built: int) -> Step:
    """Drop what was built, if it is still what was built; `built` is 0 where nobody saw its end."""
    table = look(connection, work)
    index = next((one for one in table.indexes if one.name == entry.name), None)
    if index is None:
        return Done(said="it is gone")
    same = table.match is not None and table.match.oid == index.oid
    if index.valid and not same:
        raise StandError(f"{entry.name} is another index by now: {index.definition}")
    if index.valid and built not in (0, index.oid):
        raise StandError(
            f"{entry.name} was built anew since this run has built it, by somebody else or by a"
            " REINDEX: it is left to whoever did that"
        )
    _spared(index)
    if process := busy_on(connection, table.oid):
        return Busy(process=process)
    return dropped(index)


def _remade(connection: Connection, entry: Entry) -> Step:
    """Build again what was dropped, as it was."""
    name = full_name(entry.schema, entry.name)
    index = next(iter(named(connection, name)), None)
    made = Entry(did="create", schema=entry.schema, name=entry.name)
    if index is None:
        if there := _called(connection, entry.schema, entry.name):
            raise StandError(f"{entry.name} is something else by now: {there}")
        return Act(statement=concurrently(entry.definition), entry=made)
    if index.busy:
        return Busy(process=index.busy)
    if not index.valid:
        return dropped(index)
    if index.definition != entry.definition:
        raise StandError(f"{entry.name} is another index by now: {index.definition}")
    return Done(said="it is there again", index=index)
