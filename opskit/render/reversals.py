# ruff: noqa: S608 (names are quoted, values are bound)
"""The statements that reverse payments: a row for each, never twice, and nothing is changed."""

import json
from collections.abc import Mapping, Sequence

from opskit.model.ledger import Field, Ledger
from opskit.model.payouts import Payouts
from opskit.model.text import Text
from opskit.render.ledgers import expression, name
from opskit.render.payouts import Script
from opskit.render.verdicts import EQUAL, counted, said, verdict

KEY = "reversal:"
"""How the key of a row begins that reverses another; its id follows."""


def reverse(deed: Payouts, schema: str, run: str, action: str) -> Text:
    """Write a row for each that is reversed and has none yet; what was there stays as it is."""
    script = Script(deed, schema, run, action)
    ledger, reversal = deed.ledger, deed.ledger.reversal
    assert reversal is not None
    columns = inserted(ledger)
    status = ledger.status
    fit = script.fit(status.settled + status.sent if status is not None else ())
    at = name(reversal.reverses)
    given = dict(reversal.values)
    if status is not None:
        given[status.column] = reversal.status
    words = script.value(json.dumps(given), "::jsonb")
    typed = f"pg_catalog.jsonb_populate_record(NULL::{script.table}, {words})"
    made = (
        f"{script.now()}\nINSERT INTO {script.table}\n  ({', '.join(map(name, columns))})\n"
        f"SELECT {(',' + chr(10) + '  ').join(columns.values())}\n"
        f"FROM {script.table} AS o JOIN now ON now.id = {script.id('o')}::text\n"
        f"CROSS JOIN {typed} AS given\n"
        f"WHERE {script.ids('o')} AND {fit}\n"
        f"  AND NOT EXISTS (SELECT FROM {script.table} AS x"
        f" WHERE x.{at} {EQUAL} {script.among(deed.ids)} AND x.{at}::text = now.id)\n"
        f"RETURNING {name(ledger.id)}, {at} AS reverses"
    )
    return script.made(script.locked(script.survivors), made, _reversed(script, fit))


def _reversed(script: Script, fit: str) -> str:
    """Read back: each row has one that reverses it, with what it must have."""
    ledger, reversal = script.ledger, script.ledger.reversal
    assert reversal is not None
    at = f"x.{name(reversal.reverses)}"
    sign = "-" if reversal.negative else ""
    same = [f"{script.amount('x')} = {sign}{script.amount('o')}"]
    same.append(f"{script.currency('x')} = {script.currency('o')}")
    for field in (*([ledger.payee] if ledger.payee else []), *ledger.scope):
        one, other = expression(field, "x"), expression(field, "o")
        same.append(f"{one}::text IS NOT DISTINCT FROM {other}::text")
    back = (
        f", back AS (\n  SELECT {at}::text AS id, {script.amount('x')} AS amount,"
        f" {script.currency('x')} AS currency,\n    {' AND '.join(same)} AS same,"
        f" x.xmin = pg_catalog.pg_current_xact_id()::xid AS mine\n"
        f"  FROM {script.table} AS x JOIN {script.table} AS o ON {script.ids('o')}"
        f" AND {script.id('o')}::text = {at}::text\n"
        f"  WHERE {at} {EQUAL} {script.among(script.deed.ids)}\n"
        f"), acted AS (SELECT * FROM back WHERE mine)"
    )
    reasons = [
        *script.fresh(),
        *script.rows(),
        script.told(f"now.same AND NOT {fit}", "with nothing to reverse by now"),
        script.told("(SELECT count(*) FROM back WHERE back.id = now.id) <> 1", "not reversed once"),
        script.told("acted.same IS NOT TRUE", "reversed by another amount or payee", "acted"),
        *script.capped("acted"),
    ]
    again = script.told("NOT back.mine", "reversed before", "back")
    more = f",\n  (SELECT count(*) FROM acted) AS made, {said(counted('acted', 'reversed'), again)}"
    return script.now() + back + "\n" + verdict(reasons, more)


def inserted(ledger: Ledger) -> Mapping[str, str]:
    """Return the columns of a row that reverses another, `o`; what is fixed comes from `given`."""
    reversal = ledger.reversal
    assert reversal is not None
    found = {column: f"o.{name(column)}" for column in reversal.copy}
    fields: list[tuple[Field, str]] = [
        (field, expression(field, "o"))
        for field in (
            *ledger.scope,
            *([ledger.payee] if ledger.payee else []),
            *([ledger.currency] if ledger.currency is not None else []),
        )
    ]
    fields.append((ledger.key, f"'{KEY}' || o.{name(ledger.id)}::text"))
    for field, text in fields:
        if field.path:
            base = found.get(field.column, "'{}'")
            found[field.column] = _put(f"({base})::jsonb", field.path, text)
        else:
            found[field.column] = text
    if ledger.amount:
        # Of a `money` no sign can be changed, but any amount can be multiplied.
        found[ledger.amount] = f"o.{name(ledger.amount)}{' * -1' if reversal.negative else ''}"
    words = [*reversal.values, *([ledger.status.column] if ledger.status is not None else [])]
    found |= {column: f"given.{name(column)}" for column in words}
    found[ledger.created_at] = "now()"
    found[reversal.reverses] = f"o.{name(ledger.id)}"
    return found


def _put(base: str, path: Sequence[str], text: str) -> str:
    """Put a text under a path of keys into a JSON value."""
    key = "'" + path[0].replace("'", "''") + "'"
    if len(path) == 1:
        return f"({base} || pg_catalog.jsonb_build_object({key}, {text}))"
    inner = _put(f"coalesce({base} -> {key}, '{{}}'::jsonb)", path[1:], text)
    return f"({base} || pg_catalog.jsonb_build_object({key}, {inner}))"
