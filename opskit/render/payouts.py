# ruff: noqa: S608 (names are quoted, values are bound)
"""A deed on a ledger → the statements of one transaction, with their values beside them.

A row is compared with what the report says of it as text, as the server writes it: so nothing has
to be known about types, and nothing is rounded. The last statement says in words what is wrong;
where it says anything, nothing is kept.
"""

import json
import re
from collections.abc import Mapping, Sequence

from opskit.model.payouts import Payouts, Report
from opskit.model.text import Bound, Fixed, Text
from opskit.render.ledgers import expression, name, table
from opskit.render.verdicts import EQUAL, counted, said, verdict

SHOWN = 20
"""So many ids are told of at most."""
_MARK = re.compile("\ue000(\\d+)\ue000")


class Script:
    """Statements being written, with the values that they bind."""

    def __init__(self, deed: Payouts, schema: str, run: str, action: str) -> None:
        self.deed = deed
        self.ledger = deed.ledger
        self.table = table(deed.ledger)
        self.holds = f"{name(schema)}.{name('payout_hold')}"
        self.run, self.action = run, action
        self._values: list[str] = []

    def value(self, text: str, cast: str = "") -> str:
        self._values.append(text)
        return f"\ue000{len(self._values) - 1}\ue000{cast}"

    def among(self, words: Sequence[str], cast: str = "") -> str:
        return f"ANY ({self.value(array(words), cast)})"

    def made(self, *statements: str) -> Text:
        pieces = _MARK.split(";\n".join(statements))
        parts = tuple(
            Bound(value=self._values[int(piece)]) if at % 2 else Fixed(text=piece)
            for at, piece in enumerate(pieces)
        )
        return Text(parts=parts)

    # --- pieces

    @property
    def report(self) -> Report:
        assert self.deed.report is not None
        return self.deed.report

    def id(self, of: str) -> str:
        return f"{of}.{name(self.ledger.id)}"

    def ids(self, of: str) -> str:
        """Say that a row is one that is acted on, so that an index can find it."""
        return f"{self.id(of)} {EQUAL} {self.among(self.deed.ids)}"

    def status(self, of: str) -> str:
        status = self.ledger.status
        return f"{of}.{name(status.column)}::text" if status is not None else "''::text"

    def version(self, of: str) -> str:
        """Write which version of a row it is: whatever writes it makes another one."""
        return f"{of}.xmin::text"

    def amount(self, of: str) -> str:
        return f"{of}.{name(self.ledger.amount)}::numeric" if self.ledger.amount else "0::numeric"

    def currency(self, of: str) -> str:
        if self.ledger.currency is not None:
            return f"coalesce({expression(self.ledger.currency, of)}::text, '')"
        return self.value(self.ledger.code, "::text")

    def own(self, of: str, holds: str = "h") -> str:
        """Say that a hold is of this action, and of this row."""
        return (
            f"{holds}.run = {self.value(self.run)} AND {holds}.action = {self.value(self.action)}"
            f" AND {holds}.payout = {self.id(of)}::text"
        )

    @property
    def survivors(self) -> tuple[str, ...]:
        """The payments that stand, which those that are acted on repeat."""
        return tuple(sorted(set(self.report.column("survivor"))))

    def locked(self, also: Sequence[str] = ()) -> str:
        """Lock the rows, and others on which it depends, in one order for all who do."""
        rows = f"{self.id('t')} {EQUAL} {self.among([*self.deed.ids, *also])}"
        return (
            f"SELECT count(*) AS locked FROM (\n  SELECT FROM {self.table} AS t"
            f" WHERE {rows}\n  ORDER BY {self.id('t')} FOR UPDATE) AS locked"
        )

    # --- what the report says, and what is there now

    def now(self) -> str:
        """Begin a query with `now`: each row of the report, and how it stands at this moment."""
        columns = self.report.columns
        rows = [{f"k{n}": cell for n, cell in enumerate(row)} for row in self.report.rows]
        told = ", ".join(f"k{n} text" for n in range(len(columns)))
        at = {heading: f"told.k{n}" for n, heading in enumerate(columns)}
        amount = f"{at['amount']}::numeric" if "amount" in at else "0::numeric"
        currency = at.get("currency", "''::text")
        return (
            f"WITH told AS MATERIALIZED (\n"
            f"  SELECT * FROM jsonb_to_recordset({self.value(json.dumps(rows), '::jsonb')})"
            f" AS told ({told})\n"
            f"), now AS MATERIALIZED (\n"
            f"  SELECT {at['id']} AS id, {amount} AS amount, {currency} AS currency,\n"
            f"    {self.id('t')} IS NULL AS gone, {self.status('t')} AS status,\n"
            f"    {self._same(at)} AS same, {self.id('s')} IS NOT NULL AS stands\n"
            f"  FROM told LEFT JOIN {self.table} AS t"
            f" ON {self.ids('t')} AND {self.id('t')}::text = {at['id']}\n"
            f"  LEFT JOIN {self.table} AS s ON {self.id('s')} {EQUAL} {self.among(self.survivors)}"
            f" AND {self.id('s')}::text = {at['survivor']}{self._stands()}\n)"
        )

    def _stands(self) -> str:
        """Say that the other payment counts, has the same key, and is not reversed itself."""
        ledger, found = self.ledger, ""
        if ledger.status is not None:
            found += f" AND {self.status('s')} = {self.among(ledger.status.live, '::text[]')}"
        fields = (ledger.key, *ledger.scope)
        one, other = (", ".join(expression(field, of) for field in fields) for of in "st")
        # As records: by the equality of each type, in which nothing is beside nothing.
        found += f"\n    AND ROW({one})::record = ROW({other})::record"
        if ledger.reversal is not None:
            at = f"x.{name(ledger.reversal.reverses)}"
            found += (
                f"\n    AND NOT EXISTS (SELECT FROM {self.table} AS x"
                f" WHERE {at} {EQUAL} {self.among(self.survivors)}"
                f" AND {at}::text = {self.id('s')}::text)"
            )
        return found

    def _same(self, at: Mapping[str, str]) -> str:
        """Say that a row is as the report has it, but for its status."""
        ledger = self.ledger
        hidden = {str(field) for field in ledger.mask}
        found = {"created_at": f"t.{name(ledger.created_at)}::text"}
        if ledger.amount:
            found |= {"amount": f"{self.amount('t')}::text", "currency": self.currency("t")}
        fields = [ledger.key, *ledger.scope, *([ledger.payee] if ledger.payee else [])]
        found |= {str(field): f"{expression(field, 't')}::text" for field in fields}
        return " AND ".join(
            f"{_masked(text) if heading in hidden else _plain(text)} = {at[heading]}"
            for heading, text in found.items()
        )

    def fit(self, words: Sequence[str]) -> str:
        """Say of a row in `now` that it is as the report has it, and has one of some statuses."""
        status = f" AND now.status = {self.among(words, '::text[]')}" if words else ""
        return f"(now.same AND now.stands{status}) IS TRUE"

    # --- what is wrong

    def fresh(self) -> list[str]:
        """Say what is wrong with the report as a whole."""
        report, caps = self.report, self.deed.caps
        made = self.value(report.now, "::timestamptz")
        age = self.value(f"{caps.age:g}", "::float8")
        of = f"'the report is of ' || {made}::text"
        found = [
            (
                f"CASE WHEN now() - {made} > pg_catalog.make_interval(secs => {age})"
                f" THEN {of} || ', which is too long ago: it is ' || now()::text END"
            ),
            (
                f"CASE WHEN {made} - now() > interval '5 seconds'"
                f" THEN {of} || ', and it is ' || now()::text || ' here' END"
            ),
        ]
        if report.lsn:
            found.append(
                f"CASE WHEN pg_catalog.pg_current_wal_lsn() < {self.value(report.lsn, '::pg_lsn')}"
                f" THEN 'the server has not come to where the report was made' END"
            )
        if report.catalog:
            found.append(
                f"CASE WHEN current_database()::text <> {self.value(report.catalog, '::text')}"
                f" THEN 'the report is of another database' END"
            )
        return found

    def rows(self) -> list[str]:
        """Say which rows are not what they were."""
        return [
            self.told("now.gone", "gone since the report"),
            self.told("NOT now.gone AND now.same IS NOT TRUE", "changed since the report"),
            self.told(
                "NOT now.gone AND NOT now.stands", "no longer repeated by a payment that stands"
            ),
        ]

    def told(self, condition: str, what: str, source: str = "now") -> str:
        """Name the rows of which something holds; NULL where there is none."""
        return (
            f"(SELECT count(*)::text || CASE count(*) WHEN 1 THEN ' row' ELSE ' rows' END"
            f" || ' {what}: ' || pg_catalog.array_to_string((pg_catalog.array_agg({source}.id"
            f" ORDER BY {source}.id))[1:{SHOWN}], ', ')"
            f" FROM {source} WHERE {condition} HAVING count(*) > 0)"
        )

    def capped(self, acted: str) -> list[str]:
        """Compare what is acted on with the caps; `acted` has amount and currency."""
        caps = self.deed.caps
        most = self.value(str(caps.rows), "::bigint")
        what = f"count(*)::text || ' rows, and max_rows is ' || ({most})::text"
        found = [f"(SELECT {what} FROM {acted} HAVING count(*) > {most})"]
        if self.ledger.amount:
            amounts = self.value(json.dumps(dict(caps.amounts)), "::jsonb")
            found.append(
                f"(SELECT pg_catalog.string_agg(sums.sum::text || ' ' || sums.currency"
                f" || ', and max_amount '"
                f" || coalesce('is ' || caps.value, 'does not name it'), '; ')\n"
                f"   FROM (SELECT currency, sum(abs(amount)) AS sum FROM {acted}\n"
                f"     GROUP BY 1) AS sums\n"
                f"   LEFT JOIN jsonb_each_text({amounts}) AS caps ON caps.key = sums.currency\n"
                f"   WHERE caps.value IS NULL OR sums.sum > caps.value::numeric)"
            )
        return found


def array(words: Sequence[str]) -> str:
    """Write texts as the server reads an array."""
    escaped = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
    return "{" + ",".join(f'"{word}"' for word in escaped) + "}"


def _plain(text: str) -> str:
    return f"coalesce({text}, '')"


def _masked(text: str) -> str:
    """Write a value as the evidence hides it: what can be compared is its end."""
    return (
        f"CASE WHEN coalesce({text}, '') = '' THEN '' WHEN length({text}) >= 8"
        f" THEN '****' || right({text}, 4) ELSE '****' END"
    )


# --- looking


def look(deed: Payouts, schema: str) -> Text:
    """Say what would be done and what is wrong, without doing it."""
    script = Script(deed, schema, "", "")
    status = deed.ledger.status
    words: Sequence[str] = ()
    if status is not None:
        words = status.pending if deed.do == "hold" else status.settled + status.sent
    fit = script.fit(words)
    acted = f", acted AS (SELECT * FROM now WHERE {fit})"
    moved = f"NOT now.gone AND now.same AND NOT {fit}"
    reasons = [*script.fresh(), *script.rows(), *script.capped("acted")]
    if deed.do == "reverse":
        reasons.append(script.told(moved, "with nothing to reverse by now"))
    elif deed.do == "hold":
        reasons.append(_none(script.told(moved, "moved on")))
    rows = script.value(f" of {len(deed.ids)} rows can be acted on", "::text")
    fits = f"(SELECT count(*) FROM acted)::text || {rows}"
    more = f",\n  {fits} AS fit, {script.told(moved, 'moved on')} AS told"
    return script.made(script.now() + acted + "\n" + verdict(reasons, more))


# --- holding and releasing


def hold(deed: Payouts, schema: str, run: str, action: str) -> Text:
    """Give pending rows the status that holds them, and keep what they had."""
    script = Script(deed, schema, run, action)
    status, report = deed.ledger.status, script.report
    assert status is not None
    holds, column = script.holds, name(status.column)
    fit = script.fit(status.pending)
    who = (
        f"{script.value(run)}, {script.value(action)}, {script.value(deed.ledger.name)},"
        f" now.id, now.status, now.amount, now.currency,"
        f" {script.value(report.sha256)}, {script.value(deed.approved)}"
    )
    before = (
        f"UPDATE {holds} SET ended_at = clock_timestamp(), ended_by = {script.value(run)},"
        f" ended = 'held anew'\nWHERE ledger = {script.value(deed.ledger.name)}"
        f" AND ended_at IS NULL\n  AND payout IN (SELECT {script.id('t')}::text"
        f" FROM {script.table} AS t WHERE {script.ids('t')}"
        f" AND {script.status('t')} = {script.among(status.pending, '::text[]')})"
    )
    kept = (
        f"{script.now()}\nINSERT INTO {holds}\n  (run, action, ledger, payout, old_status, amount,"
        f" currency, report, approved_by)\nSELECT {who}\nFROM now WHERE {fit}"
    )
    held = (
        f"UPDATE {script.table} AS t SET {column} = {script.value(status.held[0])}\n"
        f"FROM {holds} AS h WHERE {script.own('t')} AND {script.ids('t')}\n"
        f"  AND {script.status('t')} = h.old_status"
    )
    version = (
        f"UPDATE {holds} AS h SET version = {script.version('t')} FROM {script.table} AS t\n"
        f"WHERE {script.own('t')} AND {script.ids('t')}"
    )
    return script.made(
        script.locked(script.survivors), before, kept, held, version, _listed(script), _held(script)
    )


def _mine(script: Script) -> str:
    """Say which rows of `now` this action holds."""
    return (
        f"EXISTS (SELECT FROM {script.holds} AS h WHERE h.run = {script.value(script.run)}"
        f" AND h.action = {script.value(script.action)} AND h.payout = now.id)"
    )


def _listed(script: Script) -> str:
    return (
        f"{script.now()}\nSELECT now.id, now.amount, now.currency, CASE WHEN {_mine(script)}"
        f" THEN 'held' ELSE 'moved on' END AS what, now.status\nFROM now ORDER BY 4, 1"
    )


def _held(script: Script) -> str:
    """Read back: what is held is what was meant, and the rest of each row is what it was."""
    status = script.ledger.status
    assert status is not None
    word = script.value(status.held[0], "::text")
    acted = f", acted AS (SELECT * FROM now WHERE {_mine(script)})"
    reasons = [
        *script.fresh(),
        *script.rows(),
        *script.capped("acted"),
        script.told(f"acted.status IS DISTINCT FROM {word}", "not held in spite of it", "acted"),
        _none(script.told("true", "moved on")),
    ]
    moved = script.told(f"NOT {_mine(script)}", "moved on")
    more = f",\n  (SELECT count(*) FROM acted) AS held, {said(counted('acted', 'held'), moved)}"
    return script.now() + acted + "\n" + verdict(reasons, more)


def _none(moved: str) -> str:
    """Say that nothing can be held, and which rows somebody else has taken up or held before."""
    return (
        "CASE WHEN NOT EXISTS (SELECT FROM acted) THEN 'none can be held' || coalesce(': ' ||"
        f" {moved}, '') || ' (make a new report)' END"
    )


def release(deed: Payouts, schema: str, run: str) -> Text:
    """Give what an action has held the status that it had, where it still has what that gave it.

    Another word that holds is somebody's decision of their own, and stays; so is the same word,
    where the row has been written since (its version is another one).
    """
    script = Script(deed, schema, run, deed.of)
    status = deed.ledger.status
    assert status is not None
    holds, column = script.holds, name(status.column)
    mine = f"h.run = {script.value(run)} AND h.action = {script.value(deed.of)}"
    own = f"(h.version IS NULL OR {script.version('t')} = h.version)"
    back = [
        f"UPDATE {script.table} AS t SET {column} = {script.value(word)}\n"
        f"FROM {holds} AS h WHERE {script.own('t')} AND {script.ids('t')}\n"
        f"  AND h.ended_at IS NULL AND h.old_status = {script.value(word, '::text')}"
        f" AND {script.status('t')} = {script.value(status.held[0], '::text')} AND {own}"
        for word in status.pending
    ]
    word = script.value(status.held[0], "::text")
    at = f"{script.ids('t')} AND {script.id('t')}::text = h.payout"
    ended = (
        f"UPDATE {holds} AS h SET ended_at = clock_timestamp(), ended_by = {script.value(run)},\n"
        f"  ended = coalesce((SELECT CASE WHEN {script.status('t')} = h.old_status THEN 'released'"
        f" WHEN {script.status('t')} <> {word} THEN 'moved on' WHEN {own}\n"
        f"      OR t.xmin = pg_catalog.pg_current_xact_id()::xid THEN 'still held'"
        f" ELSE 'held by somebody' END FROM {script.table} AS t WHERE {at}), 'gone')\n"
        f"WHERE {mine} AND h.ended_at IS NULL"
    )
    left = f"SELECT h.payout, h.ended, h.old_status FROM {holds} AS h WHERE {mine} ORDER BY 2, 1"
    now = f"WITH now AS (SELECT h.payout AS id, h.ended FROM {holds} AS h WHERE {mine})\n"
    told = [
        counted("now", "released", "now.ended = 'released'"),
        script.told("now.ended = 'held by somebody'", _SINCE),
        script.told("now.ended = 'held anew'", "held by another run since"),
        script.told("now.ended IN ('moved on', 'gone')", "moved on"),
    ]
    wrong = [script.told("now.ended = 'still held'", "not released in spite of it")]
    last = now + verdict(wrong, f",\n  {said(*told)}")
    return script.made(script.locked(), *back, ended, left, last)


_SINCE = "left held, since somebody has written it after this run"
