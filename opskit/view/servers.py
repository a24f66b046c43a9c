"""What an action will do at a database or a Redis, as text: exactly what is sent."""

import re
from typing import assert_never

from opskit.model.activity import Activity, Sessions
from opskit.model.bloat import Bloat
from opskit.model.expected import Expected, Lookup
from opskit.model.keys import Keys
from opskit.model.payouts import Payouts
from opskit.model.queues import Messages, Queues
from opskit.model.rows import Rows
from opskit.model.text import Fixed, Text
from opskit.model.warm import Warm
from opskit.model.work import Duplicates, Limits, Query, RedisCall, Repair, Verify
from opskit.render.building import created
from opskit.steps.units import duration
from opskit.view import amounts, blocks, safe

SQL = "sql> "
REDIS = "redis> "


def at_server(
    work: Query
    | RedisCall
    | Keys
    | Warm
    | Queues
    | Messages
    | Verify
    | Duplicates
    | Repair
    | Payouts
    | Rows
    | Activity
    | Sessions
    | Bloat,
    *,
    full: bool,
) -> list[str]:
    """Describe what is done at a server by its name."""
    match work:
        case Query():
            return _query(work, full=full)
        case RedisCall():
            return _redis(work, full=full)
        case Keys() | Warm() | Queues() | Messages():
            return _many(work, full=full)
        case Verify():
            return _verify(work, full=full)
        case Duplicates():
            return _duplicates(work)
        case Repair():
            return _repair(work)
        case Payouts():
            from opskit.view.deeds import deed  # few plans have one

            return deed(work, full=full)
        case Rows():
            from opskit.view.removals import removal

            return removal(work, full=full)
        case Activity() | Sessions() | Bloat():
            from opskit.view.sessions import about

            return about(work)
        case _:
            assert_never(work)


def _many(work: Keys | Warm | Queues | Messages, *, full: bool) -> list[str]:
    from opskit.view import keys, queues, warming  # few plans have one

    match work:
        case Keys():
            return keys.deed_on_keys(work, full=full)
        case Warm():
            return warming.warming(work, full=full)
        case Queues():
            return queues.looked(work)
        case Messages():
            return queues.moved(work)


def _query(work: Query, *, full: bool) -> list[str]:
    """Show a statement with its bound values as literals; they are sent beside it."""
    about = [] if work.transaction else ["not in a transaction"]
    about += [f"expects {blocks.shown(work.expect)}"] if work.expect is not None else []
    about += _weighed(work.check)
    shown = blocks.block(SQL, str(work.text), full=full)
    return [*shown, *([" · ".join(about)] if about else [])]


def _weighed(check: Limits | None) -> list[str]:
    """Say what a health check weighs, and when it is wrong."""
    if check is None:
        return []
    sides = [("WARN", check.warn), ("CRIT", check.crit)]
    return [f"{check.label}: " + ", ".join(f"{level} {side}" for level, side in sides if side)]


def _redis(work: RedisCall, *, full: bool) -> list[str]:
    """Show each command with its arguments as redis-cli takes them; or a script with its own."""
    if work.script is not None:
        keys, args = (" ".join(map(_argument, texts)) for texts in (work.keys, work.args))
        given = "".join([f", keys {keys}" if keys else "", f", arguments {args}" if args else ""])
        rows = [f"script{given}", *blocks.block(blocks.QUOTED, str(work.script), full=full)]
    else:
        shown = [" ".join(map(_argument, row)) for row in work.commands]
        rows = [REDIS + (row if full else blocks.narrow(row)) for row in shown]
        if len(rows) > blocks.LINES and not full:
            more = amounts.count(len(rows) - blocks.LINES + 4, "more command")
            rows = [*rows[: blocks.LINES - 4], f"… {more} (--full shows them)"]
    about = [] if work.transaction else ["alone, without a mark"]
    about += [f"expects {blocks.shown(work.expect)}"] if work.expect is not None else []
    about += [work.figure] if work.figure else []
    about += [f"within {amounts.duration(work.window)}"] if work.window else []
    about += _weighed(work.check)
    return [*rows, *([" · ".join(about)] if about else [])]


def _argument(text: Text) -> str:
    """Write an argument so that where it begins and ends can be seen."""
    fixed = "".join(part.text for part in text.parts if isinstance(part, Fixed))
    if (fixed or text.late) and not re.search(_SPECIAL, fixed):
        return safe.visible(str(text))
    parts = (
        "".join(map(_quoted, part.text)) if isinstance(part, Fixed) else str(Text(parts=(part,)))
        for part in text.parts
    )
    return f'"{safe.visible("".join(parts))}"'


def _quoted(letter: str) -> str:
    """Spell a letter out as redis-cli reads it; a byte that is not UTF-8 is a lone surrogate."""
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return _QUOTES.get(letter, letter)


_SPECIAL = r"[\s\"'\\\x00-\x1f\udc80-\udcff]"
_QUOTES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _verify(work: Verify, *, full: bool) -> list[str]:
    """Say with what a database is compared; each object of it, where all shall be shown."""
    expected = work.expected
    counts = [
        amounts.count(sum(not one.view for one in expected.relations), "table"),
        amounts.count(sum(len(one.indexes) for one in expected.relations), "index", "indexes"),
        amounts.count(sum(one.view for one in expected.relations), "view"),
        amounts.count(len(expected.functions), "function"),
        amounts.count(len(expected.extensions), "extension"),
        amounts.count(len(_lookups(expected)), "query", "queries"),
    ]
    what = ", ".join(count for count in counts if not count.startswith("0 "))
    shown = [safe.one_line(f"compare it with {work.file}: {what}")]
    if work.leave_out:
        shown.append(f"without the checks {', '.join(work.leave_out)}")
    shown += [f"{check} weighs {level}" for check, level in work.levels.items()]
    shown += _beyond(work)
    if full:
        shown += [
            safe.one_line(f"{blocks.QUOTED}{one.name} {index}")
            for one in expected.relations
            for index in one.indexes
        ]
        shown += [
            safe.one_line(blocks.QUOTED + name) for name in expected.functions + expected.extensions
        ]
        shown += [safe.one_line(f"{SQL}EXPLAIN {one.query}") for one in _lookups(expected)]
    return shown


def _lookups(expected: Expected) -> list[Lookup]:
    every = (index for one in expected.relations for index in one.indexes)
    return [lookup for index in every for lookup in index.used_by]


def _beyond(work: Verify) -> list[str]:
    """Say what is read or called beyond the catalog."""
    expected = work.expected
    timed = [one for one in expected.traits if one.within and (work.writers or not one.writes)]
    called = [f"{one.signature} (rolled back)" if one.writes else one.signature for one in timed]
    called += [one.name for one in expected.relations if one.within]
    shown = []
    if work.timing and called:
        shown.append(safe.one_line(f"times 21 calls of each: {', '.join(called)}"))
    if work.amcheck:
        tables = ", with their tables" if work.amcheck == "rows" else ""
        shown.append(f"reads all B-trees to see whether they are whole{tables} (amcheck)")
    if work.standbys:
        shown.append(safe.one_line(f"asks {', '.join(work.standbys)} who uses indexes there"))
    if work.pgstatindex:
        shown.append("reads all large B-trees to see how full they are (pgstatindex)")
    return shown


def _duplicates(work: Duplicates) -> list[str]:
    """Say which table is searched, over which time, and where the evidence goes."""
    period = [f"{word} {_moment(at)}" for word, at in (("since", work.since), ("until", work.until))
              if at]  # fmt: skip
    shown = [
        f"search {work.ledger.name} ({work.file}) for what was paid twice",
        f"{' '.join(period) or 'all of it'}, alike within {duration(work.window)}",
    ]
    if work.as_of:
        shown.append(f"as of {_moment(work.as_of)}")
    if work.provider is not None:
        shown.append(f"compare it with {work.provider.path} sha256 {work.provider.sha256[:12]}")
    shown.append(f"evidence in {work.evidence or 'the state directory'}")
    if work.leave_out:
        shown.append(f"without the checks {', '.join(work.leave_out)}")
    shown += [f"{check} weighs {level}" for check, level in work.levels.items()]
    return [safe.one_line(line) for line in shown]


def _moment(written: str) -> str:
    """Write a time, or how long before the run it is."""
    if not written.isdigit():
        return written
    days, rest = divmod(int(written), 86400)
    return f"{duration(int(written)) if rest else f'{days}d'} ago"


def _repair(work: Repair) -> list[str]:
    """Say what becomes of an index; in the server's words where they are known."""
    about = f"{work.relation} {work.index}" if work.index is not None else work.relation
    match work.do:
        case _ if work.probe:
            return [safe.one_line(f"see whether there is anything to do: {work.do} {about}")]
        case "create":
            assert work.index is not None
            made = created(work.relation, work.index)
            return [safe.one_line(SQL + made), "a broken one of it is dropped first"]
        case "rebuild":
            times = f"more than {work.bloat:g} times as large as it must be"
            return [safe.one_line(f"REINDEX INDEX CONCURRENTLY {about}, if it is {times}")]
        case "tidy":
            return [safe.one_line(f"drop what a REINDEX CONCURRENTLY has left behind on {about}")]
        case "drop":
            also = "" if work.leftover else ", if it is invalid"
            return [safe.one_line(f"DROP INDEX CONCURRENTLY {work.name}{also}")]
        case "undo":
            what = f"the index {about}" if work.index is not None else work.name
            return [safe.one_line(f"take back what was done about {what}")]
        case _:
            assert_never(work.do)
