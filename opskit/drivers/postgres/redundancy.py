"""Indexes that are there twice, are covered by others, or that nobody uses; and keys without one.

Pure: values of the catalog in, findings out.
"""

from collections.abc import Collection, Iterator, Sequence

from opskit.drivers.postgres.catalog import Actual, Relation
from opskit.drivers.postgres.findings import Found

_PAGE = 8192


def twins(indexes: Sequence[Actual], expected: Collection[int]) -> Iterator[tuple[Actual, Actual]]:
    """Yield each index that is there already, with the one to keep."""
    alike: dict[str, list[Actual]] = {}
    for one in indexes:
        if one.valid:
            alike.setdefault(one.columns, []).append(one)
    groups: dict[tuple[object, ...], list[Actual]] = {}
    for one in (one for same in alike.values() if len(same) > 1 for one in same):
        groups.setdefault(_what(one), []).append(one)
    for group in groups.values():
        first, *others = sorted(group, key=lambda one: _worth(one, expected))
        for one in others:
            if not (one.constraint or one.identity or one.child):
                yield one, first


def _what(one: Actual) -> tuple[object, ...]:
    words = (one.columns, one.classes, one.collations, one.options, one.width)
    return (*words, one.method, one.expressions, one.where)


def _worth(one: Actual, expected: Collection[int]) -> tuple[bool, bool, bool, bool, int]:
    """Order twins: what a constraint needs first, then what enforces something or is expected."""
    kept = one.oid in expected
    return (not one.constraint, not one.identity, not one.unique, not kept, one.oid)


def covered(one: Actual, indexes: Sequence[Actual]) -> Actual | None:
    """Return an index whose leading keys are all that this one has."""
    if one.unique or one.constraint or one.identity or one.child or not _plain(one):
        return None
    if one.width != len(one.columns.split()):  # it carries columns
        return None
    return next((other for other in indexes if _plain(other) and _begins(one, other)), None)


def _plain(one: Actual) -> bool:
    ordinary = one.method == "btree" and one.valid
    return ordinary and one.expressions is None and one.where is None


def _begins(one: Actual, other: Actual) -> bool:
    """Tell whether another one has these keys and then some; numbers have spaces between them."""
    return (
        one.width < other.width
        and other.columns.startswith(one.columns + " ")
        and other.classes.startswith(one.classes + " ")
        and other.collations.startswith(one.collations + " ")
        and other.options.startswith(one.options + " ")
    )


def unused(
    relation: Relation, idle: Collection[int], counted: float, standbys: Sequence[str] = ()
) -> Iterator[Found]:
    """Yield indexes that nobody has used since that was counted, and that enforce nothing.

    `standbys`: those on which nobody has used them either.
    """
    days = int(counted // 86400)
    where, more = "on this server", "; each standby counts for itself"
    if standbys:
        where, more = f"here nor on {', '.join(standbys)}", ""
    for one in relation.indexes if idle else ():
        enforces = one.unique or one.constraint or one.identity or one.child
        if one.oid not in idle or enforces or not one.valid:
            continue
        size = one.pages * _PAGE // (1024 * 1024)
        yield Found(
            check="unused",
            table=relation.name,
            name=one.name,
            text=f"nobody has used it {where} for {days} days ({size} MiB){more}",
        )


def unindexed(relation: Relation) -> Iterator[Found]:
    """Yield foreign keys whose columns no index begins with."""
    if not relation.foreign_keys:
        return
    leading = [
        [int(column) for column in one.columns.split()][: one.width]
        for one in relation.indexes
        if one.valid and one.where is None
    ]
    names = relation.names()
    for key in relation.foreign_keys:
        wanted = set(key.columns)
        if not any(set(columns[: len(wanted)]) == wanted for columns in leading):
            columns = ", ".join(names.get(number, "?") for number in key.columns)
            yield Found(
                check="foreign_key_index",
                table=relation.name,
                name=key.name,
                text=f"no index begins with ({columns}): a delete in {key.references} reads all",
            )
