"""`payouts`: act on what a report says was paid twice, and see that it was done.

Plan sees to it that the argument `database` names one of the inventory, and puts the description of
the ledger, and what the report says, in the place of their files' names.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from opskit.errors import InputError
from opskit.model.codec import digest, from_json, to_json
from opskit.model.evidence import Manifest
from opskit.model.ledger import Ledger
from opskit.model.payouts import Caps, Payouts, Report, Switch
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_number,
    a_word,
    an_amount,
    problem,
    refuse,
    texts,
)

DEEDS = ("freeze", "hold", "reverse", "guard", "quiet", "held", "reversed")
READS = ("quiet", "held", "reversed")
VERDICTS: Mapping[str, str] = {"hold": "HOLD", "reverse": "MONEY_SENT_REVIEW"}
"""What the report must say of a row for it to be acted on."""
MOST = 10_000
"""So many rows are acted on at once at most, whatever a runbook says."""
SUMMARY = (
    "Act on payments that a report of `duplicates` says were made twice: switch payouts off; hold "
    "what is still pending, or write rows that reverse what was sent; keep a key from being "
    "used again; prove that no payment is made meanwhile; read back that it was done."
)
KEYS = (
    Key(
        "do",
        "enum",
        required=True,
        choices=DEEDS,
        reads=READS,
        help="`freeze`: the switch at which workers look is turned off (its undo turns it on where "
        "no other run and nobody else has it off); `hold`: pending rows get the status that holds "
        "them (its undo gives them back what they had); `reverse`: a new row for each of `ids`, "
        "never twice (no undo); `quiet`: fail unless nothing is written for `period`; `held`, "
        "`reversed`: fail unless that was done, and nothing else",
    ),
    Key("ledger", "ledger", required=True, help="path of the file that describes the ledger"),
    Key("report", "report", help="path of the report's `manifest.json`; what was found twice"),
    Key(
        "ids",
        "text",
        default="",
        help="rows of the report, with commas between; `reverse` needs it, `hold` takes all "
        "without it",
    ),
    Key("max_rows", "int", default=100, minimum=1, help="more rows than this are refused"),
    Key(
        "max_amount",
        "text",
        help="more money than this is refused: `EUR 5000, USD 2000`; a currency that is not here "
        "may not occur",
    ),
    Key(
        "max_age", "duration", default=3600.0, help="an older report is refused, by the database's "
        "clock",
    ),
    Key(
        "approved_by",
        "text",
        help="who has looked at the report and agrees, besides whoever begins the run; `hold` and "
        "`reverse` need it",
    ),
    Key(
        "triggers",
        "list",
        help="triggers of the table that may decide about a status though they know nothing of "
        "the one that holds",
    ),
    Key(
        "since",
        "text",
        help="with `guard`: a fixed time, such as `2026-02-01`; what is older stays out of the "
        "index",
    ),
    Key("switch", "text", default="payouts", help="with `freeze`: `name` of the switch"),
    Key(
        "table",
        "text",
        default="payout_switch",
        help="its table, as the server calls it, with columns `name` and `enabled`",
    ),
    Key("schema", "text", default="public", help="the schema of that table"),
    Key("period", "duration", default=60.0, help="for how long nothing may be written (`quiet`)"),
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "done_when", "creates", "unless", "stdin", "cwd", "sudo", "secrets")
    yield from refuse(step, "silent", "for_each", "save")
    do = str(step.args.get("do"))
    if do in DEEDS and (step.effect == "read") != (do in READS):
        told = f"`{do}` {'changes nothing' if do in READS else 'changes something'}"
        yield problem(step, "effect", told, "take `effect` out")
    if step.undo:
        told = "opskit takes back by itself what it has held and built; what was reversed is not"
        yield problem(step, "undo", told, "take it out, or write undo: []")
    for key in _NEEDED.get(do, ()):
        if key not in step.args:
            yield problem(step, "do", f"`{do}` needs `{key}`", f"add {key}: …")


_NEEDED: Mapping[str, tuple[str, ...]] = {
    "freeze": (),
    "quiet": (),
    "guard": ("since",),
    "hold": ("report", "approved_by"),
    "reverse": ("report", "approved_by", "ids"),
    "held": ("report",),
    "reversed": ("report",),
}


def work(args: Mapping[str, Value], step: Step) -> Payouts:
    """`ledger` has come as JSON, and so has `report`."""
    given = json.loads(a_word(args["ledger"], step, "ledger"))
    ledger = from_json(Ledger, given["ledger"])
    do = a_word(args["do"], step, "do")
    assert do in DEEDS
    made = Payouts(
        do=do,  # type: ignore[arg-type]  # it is one of them
        database=a_word(args["database"], step, "database"),
        ledger=ledger,
        file=given["file"],
        caps=_caps(args, step),
        approved=_word(args, step, "approved_by").strip(),
        triggers=tuple(one.fixed() for one in texts(args.get("triggers"), "triggers")),
        period=a_number(args["period"], step, "period"),
    )
    try:
        if do == "quiet":
            return made
        if do == "freeze":
            return replace(made, switch=_switch(args, step))
        if do == "guard":
            return replace(made, since=_moment(_word(args, step, "since")))
        return _about(made, args, step)
    except _WrongError as error:
        place = str(step.places.get(f"{step.kind}.{error.key}", step.place))
        raise InputError(error.what, where=place, hint=error.hint) from None


class _WrongError(Exception):
    """What is asked for can't be done by this report or this ledger."""

    def __init__(self, key: str, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.key, self.what, self.hint = key, what, hint


def _word(args: Mapping[str, Value], step: Step, key: str) -> str:
    return a_word(args[key], step, key) if args.get(key) is not None else ""


def _switch(args: Mapping[str, Value], step: Step) -> Switch:
    words = {key: _word(args, step, key).strip() for key in ("schema", "table", "switch")}
    for key, word in words.items():
        if not word:
            raise _WrongError(key, f"`{key}` came to nothing", "say which switch is meant")
    return Switch(schema=words["schema"], table=words["table"], name=words["switch"])


def _moment(written: str) -> str:
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        told = f"{written[:60]!r} is no fixed time"
        raise _WrongError("since", told, "write 2026-02-01 or 2026-02-01T12:00+01:00") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found.astimezone(UTC).isoformat(sep=" ")


_AMOUNT = re.compile(r"([A-Za-z0-9]{1,16})\s+([0-9]{1,18}(?:\.[0-9]{1,18})?)")


def _caps(args: Mapping[str, Value], step: Step) -> Caps:
    amounts: dict[str, str] = {}
    for entry in filter(None, map(str.strip, _word(args, step, "max_amount").split(","))):
        found = _AMOUNT.fullmatch(entry)
        if found is None or found[1] in amounts:
            place = str(step.places.get(f"{step.kind}.max_amount", step.place))
            told = f"{entry[:60]!r} is no amount, or its currency stands here twice"
            raise InputError(told, where=place, hint="write EUR 5000, USD 2000.50")
        amounts[found[1]] = found[2]
    rows = int(an_amount(args["max_rows"], step, "max_rows"))
    return Caps(rows=min(rows, MOST), amounts=amounts, age=a_number(args["max_age"], step, "age"))


def _about(made: Payouts, args: Mapping[str, Value], step: Step) -> Payouts:
    """Add what the report says; refuse where nothing may be done by it."""
    ledger, do = made.ledger, made.do
    if args.get("report") is None:
        raise _WrongError("report", f"`{do}` needs a report", "name its manifest.json")
    given = json.loads(a_word(args["report"], step, "report"))
    manifest = from_json(Manifest, given["manifest"])
    if manifest.source.description != digest(to_json(ledger)):
        told = f"the report is of {manifest.source.ledger} as it was described differently"
        raise _WrongError("report", told, "make the report again with this description")
    deed = {"held": "hold", "reversed": "reverse"}.get(do, do)
    _able(ledger, deed)
    ids = [one for one in map(str.strip, _word(args, step, "ids").split(",")) if one]
    if deed == "reverse" and not ids:
        raise _WrongError("ids", "it must be said which rows are to be reversed", "ids: 17, 23")
    if do in ("hold", "reverse") and not made.approved:
        told = f"`{do}` needs somebody who approves of it besides whoever begins the run"
        raise _WrongError("approved_by", told, "approved_by: NAME")
    report = _report(manifest, given, ledger, _chosen(given["rows"], deed, ids))
    if do in VERDICTS:
        _capped(report, ledger, made.caps)
    return replace(made, report=report)


def _able(ledger: Ledger, deed: str) -> None:
    if deed == "hold" and (ledger.status is None or not ledger.status.held):
        raise _WrongError("ledger", f"{ledger.name} has no status that holds a row",
                          "say under `status` which: held: …")  # fmt: skip
    if deed == "hold" and ledger.status is not None and not ledger.status.pending:
        raise _WrongError("ledger", f"{ledger.name} has no status of what is pending")
    if deed == "reverse" and ledger.reversal is None:
        raise _WrongError("ledger", f"nothing says how a row of {ledger.name} is reversed",
                          "add reversal: {reverses: COLUMN, …}")  # fmt: skip


def _chosen(
    rows: list[dict[str, str]], deed: str, ids: list[str]
) -> list[dict[str, str]]:  # fmt: skip
    """Return the rows that are acted on; each that is named must be one that the report found."""
    wanted = VERDICTS[deed]
    found = {row["id"]: row for row in rows if row["verdict"] == wanted}
    if not ids:
        if not found:
            raise _WrongError("report", f"the report has no row to {deed} ({wanted})")
        return list(found.values())
    said = {row["id"]: row["verdict"] for row in rows}
    for one in ids:
        if one not in found:
            told = f"the report says of row {one[:60]}: {said.get(one, 'nothing')}"
            raise _WrongError("ids", told, f"only what it calls {wanted} can be named here")
    if len(set(ids)) < len(ids):
        raise _WrongError("ids", "a row is named twice")
    return [found[one] for one in ids]


def _report(
    manifest: Manifest, given: Mapping[str, str], ledger: Ledger, rows: list[dict[str, str]]
) -> Report:
    """Keep what tells whether a row is still as it was."""
    fields = [ledger.key, *ledger.scope, *([ledger.payee] if ledger.payee else [])]
    wanted = ["id", "survivor", "created_at"]
    wanted += ["status"] if ledger.status is not None else []
    wanted += ["amount", "currency"] if ledger.amount else []
    wanted += [str(one) for one in fields if str(one) not in wanted]
    source = manifest.source
    return Report(
        manifest=given["path"], sha256=given["sha256"], system=source.system,
        catalog=source.catalog, lsn=source.lsn, snapshot=source.snapshot, now=source.now,
        columns=tuple(wanted), rows=tuple(tuple(row[one] for one in wanted) for row in rows),
        since=manifest.asked.get("since", ""), until=manifest.asked.get("until", ""),
        totals=manifest.totals, run=source.run,
    )  # fmt: skip


_MONEY_FIRST = "correct the row, and make the report again; or name other rows (`ids`)"


def _capped(report: Report, ledger: Ledger, caps: Caps) -> None:
    """Refuse more than a person has said; it is looked at again when it is done."""
    if len(report.rows) > caps.rows:
        told = f"the report has {len(report.rows)} rows to act on, and max_rows is {caps.rows}"
        raise _WrongError("max_rows", told, "name some of them (`ids`), or raise it knowingly")
    if not ledger.amount:
        return
    if not caps.amounts:
        told = "it must be said how much money this may be about"
        raise _WrongError("max_amount", told, "max_amount: EUR 5000, USD 2000")
    from decimal import Decimal  # few plans are about money

    sums: dict[str, Decimal] = {}
    columns = (report.column(one) for one in ("id", "amount", "currency"))
    for id_, amount, currency in zip(*columns, strict=True):
        if not (amount and currency):
            told = f"row {id_} has no {'currency' if amount else 'amount'}: no cap can hold it"
            raise _WrongError("report", told, _MONEY_FIRST)
        sums[currency] = sums.get(currency, Decimal(0)) + abs(Decimal(amount))
    for currency, total in sorted(sums.items()):
        most = caps.amounts.get(currency)
        if not total.is_finite():
            told = f"an amount in {currency} is {total}: that is no money"
            raise _WrongError("report", told, _MONEY_FIRST)
        if most is None or total > Decimal(most):
            limit = f"max_amount is {most}" if most else f"max_amount names no {currency}"
            told = f"this is about {total} {currency}, and {limit}"
            raise _WrongError("max_amount", told, "name some rows (`ids`), or raise it knowingly")
