# ruff: noqa: S608 (names are quoted and of the catalog, values are bound)
"""The rules by which payments are told to be repeated → statements, with their values beside them.

Pure: a ledger whose table is known goes in, SQL comes out.
"""

from collections.abc import Callable, Sequence

from opskit.drivers.postgres.ledgers import Known
from opskit.drivers.postgres.query import BLANKS, OF, Period, Query, Statement, conjunction
from opskit.model.ledger import Field, Ledger
from opskit.render.ledgers import expression

DAY = 25 * 3600.0
"""Providers forget a key after a day: what comes again just after that looks new to them."""
LONGEST = 6
"""A chain of payments is cut where it gets longer than so many windows."""
MONEY = "MONEY_SENT_REVIEW"
SURVIVOR, REUSED, HOLD, DUPLICATE = (
    "SURVIVOR", "KEY_REUSED_DIFFERENT_PAYLOAD", "HOLD", "DUPLICATE",
)  # fmt: skip
"""What is said of a row that shares its key: it stays; it is another payment under a key that was
taken; it can still be stopped. MONEY: its money is gone; DUPLICATE: it is no money."""


def size(known: Known, most: int) -> Statement:
    """Count rows, but no further than `most`."""
    query = Query(known, Period())
    return query.made(f"SELECT count(*) FROM (SELECT FROM {query.table} LIMIT {most}) AS counted")


def undated(known: Known) -> Statement:
    """Count rows that no period has."""
    query = Query(known, Period())
    conditions = conjunction([*query.own(), f"{query.at} IS NULL"])
    return query.made(f"SELECT count(*) FROM {query.table} WHERE {conditions}")


def reversed_(known: Known, period: Period) -> Statement | None:
    """Count payments that another row reverses; None where none can be."""
    query = Query(known, period)
    conditions, again = query.live(), query.reversing()
    if not again:
        return None
    text = f"SELECT count(*) FROM {query.table}\nWHERE {conjunction([*conditions, again])}"
    return query.made(text)


def newest(known: Known) -> Statement:
    """Say when the newest row was made, whatever the period."""
    query = Query(known, Period())
    conditions = conjunction(query.own())
    return query.made(f"SELECT max({query.at})::text FROM {query.table} WHERE {conditions}")


CENSUS = ("status", "currency", "keyless", "may_repeat", "rows", "amount")


def census(known: Known, period: Period) -> Statement:
    """Count all rows of the period by status and currency, whether they have a key, may repeat."""
    query = Query(known, period)
    blank = f"({query.present(known.ledger.key)}) IS NOT TRUE"
    allowed = query.allowed() or "false"
    return query.made(
        f"SELECT {query.status}, {query.currency}, {blank}, {allowed}, count(*),"
        f" sum({query.amount})\n"
        f"FROM {query.table}\nWHERE {conjunction([*query.own(), *query.within()])}\n"
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
        CENSUS,
    )


_SELDOM = " AND ".join(["count(*) > 1"] * 6)
"""The planner takes it that a third of all groups passes each condition on a count: said once, it
would read the whole table again to look at what are a few rows."""
TWICE = ("verdict", "survivor", "rows")


def twice(
    known: Known, period: Period, fields: Sequence[Field], *, keyed: bool
) -> tuple[Statement, ...]:
    """Return statements for rows that have the same in all of some fields: they say the same.

    Which is quickest depends on the indexes: whoever runs one asks for what each would cost. With
    `keyed` the fields are one's own within the scope, and must come with the same payload.
    """
    firsts: list[Callable[[Query], list[str]]] = [Query.live, Query.own, lambda _: []]
    if not (known.ledger.where or period.since or period.until or known.ledger.status):
        firsts = firsts[:1]
    return tuple(_twice(Query(known, period), fields, first, keyed=keyed) for first in firsts)


def _twice(
    query: Query, fields: Sequence[Field], first: Callable[[Query], list[str]], *, keyed: bool
) -> Statement:
    """Find what occurs more than once by a pass that an index can answer; then look at that only.

    The first pass may find too much: rows that are no payments count in it where that spares the
    reading of the table.
    """
    scope = query.ledger.scope if keyed else ()
    by = [*scope, *fields]
    marks = [f"g{number}" for number in range(1, len(by) + 1)]
    early = [*first(query), *(f"{expression(field, OF)} IS NOT NULL" for field in fields)]
    again = ", ".join(f"{expression(f, OF)} AS {g}" for f, g in zip(by, marks, strict=True))
    numbers = ", ".join(str(n) for n in range(1, len(by) + 1))
    same = [
        f"{expression(field, OF)} {_equal(query, field, scope)} again.{mark}"
        for field, mark in zip(by, marks, strict=True)
    ]
    shown = query.shown()
    columns = ", ".join(f"{text} AS c{number}" for number, (_, text) in enumerate(shown))
    names = ", ".join(f"c{number}" for number in range(len(shown)))
    groups, differ = ", ".join(marks), _payload(query) if keyed else []
    late = [*query.standing(), *(query.present(field) for field in fields)]
    extra = "".join(f", {text} AS d{number}" for number, text in enumerate(differ))
    text = (
        f"WITH again AS MATERIALIZED (\n"
        f"  SELECT {again} FROM {query.table}\n  WHERE {conjunction(early)}\n"
        f"  GROUP BY {numbers} HAVING {_SELDOM}\n"
        f"), payment AS (\n"
        f"  SELECT {', '.join(f'again.{mark}' for mark in marks)}, {query.id} AS own_id,\n"
        f"    {query.at} AS own_at, {query.rank()} AS own_rank, {columns}{extra}\n"
        f"  FROM {query.table} JOIN again ON {' AND '.join(same)}\n  WHERE {conjunction(late)}\n"
        f"), judged AS (\n"
        f"  SELECT *, count(*) OVER same AS n, row_number() OVER best AS place,\n"
        f"    first_value(own_id) OVER best AS survivor, {_conflict(len(differ))} AS conflict\n"
        f"  FROM payment\n"
        f"  WINDOW same AS (PARTITION BY {groups}),\n"
        f"    best AS (PARTITION BY {groups} ORDER BY own_rank, own_at, own_id)\n"
        f")\n"
        f"SELECT {_verdict(query)} AS verdict, survivor::text, n, {names}\n"
        f"FROM judged WHERE n > 1 ORDER BY {groups}, place"
    )
    return query.made(text, [*TWICE, *(heading for heading, _ in shown)])


def _equal(query: Query, field: Field, scope: Sequence[Field]) -> str:
    """Compare so that a scope which is NULL is one, too; no index answers that."""
    certain = not field.path and query.known.columns[field.column].required
    return "=" if certain or field not in scope else "IS NOT DISTINCT FROM"


def _payload(query: Query) -> list[str]:
    """Return what rows of one key must have the same of, as values that have a least one."""
    ledger = query.ledger
    found = [f"{expression(ledger.payee, OF)}::text"] if ledger.payee else []
    if ledger.amount:
        found += [query.amount, *([f"{query.currency}::text"] if ledger.currency else [])]
    return found + [f"{expression(field, OF)}::text" for field in ledger.payload]


def _conflict(count: int) -> str:
    """Say that rows of a group differ; a value beside none at all is a difference."""
    found = [
        f"min(d{n}) OVER same <> max(d{n}) OVER same"
        f" OR count(d{n}) OVER same NOT IN (0, count(*) OVER same)"
        for n in range(count)
    ]
    return f"coalesce({' OR '.join(found)}, false)" if found else "false"


def _verdict(query: Query) -> str:
    gone = MONEY if query.ledger.amount else DUPLICATE
    return (
        f"CASE WHEN place = 1 THEN '{SURVIVOR}' WHEN conflict THEN '{REUSED}'"
        f" WHEN own_rank = 2 THEN '{HOLD}' ELSE '{gone}' END"
    )


NEAR = ("session", "rows", "span", "part", "part_rows")
"""What each of two passes says of a row, before what is shown of it."""


def near(known: Known, period: Period, window: float) -> Statement:
    """Find payments that look alike and are close to each other, in one pass over the table.

    Both for `window` and for a little more than a day (the columns NEAR twice): chains of payments
    each within that of the one before, where not all have one key. A chain that lasts longer than
    LONGEST windows is cut into parts.
    """
    query = Query(known, period)
    ledger = known.ledger
    by, conditions = _alike(query, ledger)
    marks = [f"g{number}" for number in range(1, len(by) + 1)]
    shown = query.shown(near=True)
    columns = ", ".join(f"{text} AS c{number}" for number, (_, text) in enumerate(shown))
    names = ", ".join(f"c{number}" for number in range(len(shown)))
    groups = ", ".join(marks)
    long = max(DAY, window)
    short, wide, wider = (query.value(f"{seconds:.6f} seconds") for seconds in (window, long, long))
    wides, lengths = query.value(f"{long:.6f} seconds"), [window * LONGEST, long * LONGEST]
    text = (
        f"WITH gap AS (\n"
        f"  SELECT {', '.join(f'{g} AS {m}' for g, m in zip(by, marks, strict=True))},\n"
        f"    {query.at} AS own_at, {query.id} AS own_id,\n"
        f"    {expression(ledger.key, OF)}::text AS written, {columns},\n"
        f"    {query.at} - lag({query.at}) OVER turn AS before,\n"
        f"    lead({query.at}) OVER turn - {query.at} AS after\n"
        f"  FROM {query.table}\n  WHERE {conjunction(conditions)}\n"
        f"  WINDOW turn AS (PARTITION BY {', '.join(by)} ORDER BY {query.at}, {query.id})\n"
        f"), chain AS (\n"
        f"  SELECT *, CASE WHEN pg_catalog.btrim(written, {BLANKS}) <> '' THEN written END"
        f" AS own_key,\n"
        f"    count(*) FILTER (WHERE before <= {short}::interval IS NOT TRUE) OVER turn AS s1,\n"
        f"    count(*) FILTER (WHERE before <= {wide}::interval IS NOT TRUE) OVER turn AS s2\n"
        f"  FROM gap WHERE before <= {wider}::interval OR after <= {wides}::interval\n"
        f"  WINDOW turn AS (PARTITION BY {groups} ORDER BY own_at, own_id"
        f" ROWS UNBOUNDED PRECEDING)\n"
        f"), session AS (\n"
        f"  SELECT *, {_session(1)},\n    {_session(2)}\n"
        f"  FROM chain\n"
        f"  WINDOW w1 AS (PARTITION BY {groups}, s1), w2 AS (PARTITION BY {groups}, s2)\n"
        f"), part AS (\n"
        f"  SELECT *, {_part(query, 1, lengths[0])}, {_part(query, 2, lengths[1])} FROM session\n"
        f")\n"
        f"SELECT {_said(groups, 1)},\n  {_said(groups, 2)},\n  differ1, differ2, {names}\n"
        f"FROM part WHERE (n1 > 1 AND differ1) OR (n2 > 1 AND differ2)\n"
        f"ORDER BY {groups}, own_at, own_id"
    )
    return query.made(text, [heading for heading, _ in shown])


def _alike(query: Query, ledger: Ledger) -> tuple[list[str], list[str]]:
    """Return what payments that look alike have in common, and what tells which come into it."""
    assert ledger.payee is not None
    by = [query.group(ledger.payee), query.amount]
    by += [query.group(ledger.currency)] if ledger.currency is not None else []
    by += [query.group(field) for field in ledger.scope]
    allowed = query.allowed()
    conditions = [
        *query.standing(), query.present(ledger.payee), f"{query.amount} IS NOT NULL",
        f"{query.at} IS NOT NULL", *([f"NOT {allowed}"] if allowed else []),
    ]  # fmt: skip
    return by, conditions


def _session(number: int) -> str:
    w = f"w{number}"
    return (
        f"count(*) OVER {w} AS n{number}, min(own_at) OVER {w} AS first{number},"
        f" max(own_at) OVER {w} - min(own_at) OVER {w} AS span{number},\n"
        f"    coalesce(min(own_key) OVER {w} <> max(own_key) OVER {w}, false)"
        f" OR count(own_key) OVER {w} < count(*) OVER {w} AS differ{number}"
    )


def _part(query: Query, number: int, longest: float) -> str:
    """Number the parts of a chain that is cut."""
    passed = f"extract(epoch FROM own_at - first{number})"
    limit = query.value(f"{longest:.6f}")
    return f"1 + floor({passed} / {limit}::numeric)::integer AS p{number}"


def _said(groups: str, number: int) -> str:
    return (
        f"dense_rank() OVER (ORDER BY {groups}, s{number}), n{number}, span{number}, p{number},"
        f" count(*) OVER (PARTITION BY {groups}, s{number}, p{number})"
    )


REFERENCES = ("reference", "id", "amount", "currency", "status", "created_at", "inside")


def references(known: Known, period: Period, inside: Period) -> Statement:
    """Return payments by their provider's reference, sorted as bytes; those sent count most.

    `inside`: when a payment was made that a provider's file must have.
    """
    query = Query(known, period)
    ledger = known.ledger
    assert ledger.provider_ref is not None
    written = f"{expression(ledger.provider_ref, OF)}::text"
    id_ = query.plain(Field(column=ledger.id))
    rank = query.rank()
    between = conjunction(query.within(inside))
    text = (
        f'SELECT pg_catalog.btrim({written}, {BLANKS}) COLLATE "C", {id_}, {query.amount},'
        f" {query.currency}, {query.status}, {query.at}, ({between}) AND {rank} < 2\n"
        f"FROM {query.table}\n"
        f"WHERE {conjunction([*query.live(), query.present(ledger.provider_ref)])}\n"
        f"ORDER BY 1, {query.rank()}, {query.at}, {query.id}"
    )
    return query.made(text, REFERENCES)
