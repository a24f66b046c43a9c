"""What an action will do, as text: exactly what is sent, less what must not be seen."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import assert_never

from opskit.model.expected import Expected, Lookup
from opskit.model.payouts import Payouts
from opskit.model.plan import Action
from opskit.model.text import Fixed, Late, Text
from opskit.model.value import Json, SecretRef
from opskit.model.work import (
    Ask,
    Check,
    Command,
    Duplicates,
    Expect,
    FileRef,
    Notify,
    Query,
    Recall,
    RedisCall,
    RedisLook,
    Remove,
    Repair,
    Request,
    Survey,
    Upload,
    Verify,
    Wait,
    Work,
)
from opskit.render.building import created
from opskit.steps.units import duration
from opskit.view import amounts, safe

LINES = 12
COLUMNS = 240
QUOTED = "| "
SQL = "sql> "
REDIS = "redis> "
_ATTRIBUTE = r"\brun\.\w+"


def texts(work: Work | None) -> Iterator[Text]:
    """Yield every text in a piece of work."""
    match work:
        case Command():
            yield from (work.text, *work.args)
            yield from (t for t in (work.cwd, work.stdin) if isinstance(t, Text))
        case Upload():
            yield from (t for t in (work.content, work.dest) if isinstance(t, Text))
        case Request():
            yield from _request_texts(work)
        case Query():
            yield from (work.text, *((work.expect,) if work.expect else ()))
        case RedisCall():
            yield from (word for row in work.commands for word in row)
            yield from (*work.keys, *work.args, *((work.expect,) if work.expect else ()))
        case Check():
            yield from (*work.that, work.message)
        case Remove(dest=text) | Ask(question=text) | Notify(message=text):
            yield text
        case Recall(run=Text() as text) | Repair(free=Text() as text):
            yield text
        case (
            Wait()
            | Survey()
            | RedisLook()
            | Verify()
            | Duplicates()
            | Recall()
            | Repair()
            | Payouts()
            | None
        ):
            return
        case _:
            assert_never(work)


def _request_texts(work: Request) -> Iterator[Text]:
    yield work.url
    expect = work.expect
    for value in (*work.headers.values(), work.body, *expect.headers.values(), expect.body):
        if isinstance(value, Text):
            yield value
    yield from (value for value in expect.json.values() if isinstance(value, Text))


def late_names(action: Action) -> tuple[str, ...]:
    """Return what an action waits for, each once: names of saved values, `run.id` and the like."""
    found: dict[str, None] = {}
    for text in (*texts(action.work), *texts(action.skip_if), action.when):
        for part in text.parts if text is not None else ():
            if isinstance(part, Late):
                found.update(dict.fromkeys(_waits(part)))
    return tuple(found)


def _waits(part: Late) -> Iterator[str]:
    for name in part.names:
        if name == "run":
            yield from re.findall(_ATTRIBUTE, part.source) or (name,)
        else:
            yield name


def lines(work: Work, *, full: bool = False) -> list[str]:
    """Describe a piece of work; long texts are shortened, with a count, unless `full`."""
    match work:
        case Command():
            return _command(work, full=full)
        case Upload():
            return _upload(work, full=full)
        case Request():
            return _request(work, full=full)
        case Query() | RedisCall() | Verify() | Duplicates() | Repair() | Payouts():
            return _at_server(work, full=full)
        case Remove() | Wait() | Recall() | Survey() | RedisLook():
            return [_sentence(work)]
        case Check():
            return _check(work)
        case Ask():
            verb = "a person does" if work.manual else "ask"
            return _block(f"{verb}: ", str(work.question), full=full)
        case Notify():
            return _block("tell: ", str(work.message), full=full)
        case _:
            assert_never(work)


def _sentence(work: Remove | Wait | Recall | Survey | RedisLook) -> str:
    match work:
        case Remove():
            return f"put back what stood at {_shown(work.dest)} before, or remove it"
        case Wait():
            return f"wait {amounts.duration(work.seconds)}"
        case Recall():
            return _recall(work)
        case Survey():
            marks = ", and marks can be left there" if work.marks else ""
            return f"see that database {work.database} is the one that is meant{marks}"
        case RedisLook():
            return f"see that redis {work.server} is the one that is meant"
        case _:
            assert_never(work)


def headline(work: Work) -> str:
    """Describe a piece of work in one line, for a table."""
    if isinstance(work, Query):
        return safe.one_line(" ".join(str(work.text).split()))
    if isinstance(work, RedisCall):
        return lines(work)[0].removeprefix(REDIS)
    if isinstance(work, Command) and not work.summary:
        kept = (line.strip() for line in str(work.text).splitlines())
        return safe.one_line(next((line for line in kept if line and line[0] != "#"), ""))
    return lines(work)[0]


def _shown(text: Text | str) -> str:
    return safe.one_line(str(text))


def _block(lead: str, text: str, *, full: bool) -> list[str]:
    """Indent a text under its first words; a quoted one has its mark on every line."""
    rows = [safe.visible(row).expandtabs(4) for row in text.rstrip("\n").split("\n")]
    kept = rows if full or len(rows) <= LINES else rows[: LINES - 4]
    shown = [row if full else _narrow(row) for row in kept]
    if len(kept) < len(rows):
        shown.append(f"… {amounts.count(len(rows) - len(kept), 'more line')} (--full shows them)")
    rest = lead if lead == QUOTED else " " * len(lead)
    return [(lead if n == 0 else rest) + row for n, row in enumerate(shown)]


def _narrow(row: str) -> str:
    if len(row) <= COLUMNS:
        return row
    return f"{row[: COLUMNS - 40]}… {len(row) - COLUMNS + 40} more characters (--full)"


def _command(work: Command, *, full: bool) -> list[str]:
    if work.summary:
        return [safe.one_line(work.summary), *(_text(work, full=True) if full else ())]
    return [*_text(work, full=full), *_around(work)]


def _text(work: Command, *, full: bool) -> list[str]:
    if work.shell:
        return _block("$ ", str(work.text), full=full)
    arguments = " ".join(shlex.quote(_shown(arg)) for arg in work.args)
    head = f"script with arguments {arguments}" if arguments else "script"
    return [head, *_block(QUOTED, str(work.text), full=full)]


def _around(work: Command) -> list[str]:
    """Say where, as whom and with what besides its text a command runs."""
    about = []
    if work.cwd is not None:
        about.append(f"in {_shown(work.cwd)}")
    if work.sudo:
        about.append(f"as {safe.one_line(work.sudo)}")
    if isinstance(work.stdin, SecretRef):
        about.append(f"stdin: secret {work.stdin.name}")
    elif work.stdin is not None:
        about.append(f"stdin: {amounts.size(len(str(work.stdin).encode()))} of text")
    about += [f"${variable}: secret {name}" for variable, name in work.secrets.items()]
    return [" · ".join(about)] if about else []


def _upload(work: Upload, *, full: bool) -> list[str]:
    tail = "".join(
        [
            ", unpacked" if work.unpack else "",
            f", mode {work.mode}" if work.mode else "",
            f", as {work.sudo}" if work.sudo else "",
        ]
    )
    if isinstance(work.content, FileRef):
        file = work.content
        what = f"{file.path} ({amounts.size(file.size)}, sha256 {file.sha256[:12]})"
        return [f"put {safe.one_line(what)} at {_shown(work.dest)}{tail}"]
    content = str(work.content)
    head = f"write {amounts.size(len(content.encode()))} of text to {_shown(work.dest)}{tail}"
    return [head, *_block(QUOTED, content, full=full)]


def _request(work: Request, *, full: bool) -> list[str]:
    via = " from the host" if work.via == "host" else ""
    shown = [f"{work.method} {_shown(work.url)}{via}"]
    for name, value in work.headers.items():
        text = f"secret {value.name}" if isinstance(value, SecretRef) else _shown(value)
        shown.append(f"{name}: {text}")
    if work.body is not None:
        shown += _block("body: ", str(work.body), full=full)
    return [*shown, f"expects {expectation(work.expect)}"]


def _at_server(
    work: Query | RedisCall | Verify | Duplicates | Repair | Payouts, *, full: bool
) -> list[str]:
    match work:
        case Query():
            return _query(work, full=full)
        case RedisCall():
            return _redis(work, full=full)
        case Verify():
            return _verify(work, full=full)
        case Duplicates():
            return _duplicates(work)
        case Repair():
            return _repair(work)
        case Payouts():
            from opskit.view.deeds import deed  # few plans have one

            return deed(work, full=full)
        case _:
            assert_never(work)


def _query(work: Query, *, full: bool) -> list[str]:
    """Show a statement with its bound values as literals; they are sent beside it."""
    about = [] if work.transaction else ["not in a transaction"]
    about += [f"expects {_shown(work.expect)}"] if work.expect is not None else []
    shown = _block(SQL, str(work.text), full=full)
    return [*shown, *([" · ".join(about)] if about else [])]


def _redis(work: RedisCall, *, full: bool) -> list[str]:
    """Show each command with its arguments as redis-cli takes them; or a script with its own."""
    if work.script is not None:
        keys, args = (" ".join(map(_argument, texts)) for texts in (work.keys, work.args))
        given = "".join([f", keys {keys}" if keys else "", f", arguments {args}" if args else ""])
        rows = [f"script{given}", *_block(QUOTED, str(work.script), full=full)]
    else:
        shown = [" ".join(map(_argument, row)) for row in work.commands]
        rows = [REDIS + (row if full else _narrow(row)) for row in shown]
        if len(rows) > LINES and not full:
            more = amounts.count(len(rows) - LINES + 4, "more command")
            rows = [*rows[: LINES - 4], f"… {more} (--full shows them)"]
    about = [] if work.transaction else ["alone, without a mark"]
    about += [f"expects {_shown(work.expect)}"] if work.expect is not None else []
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
            safe.one_line(f"{QUOTED}{one.name} {index}")
            for one in expected.relations
            for index in one.indexes
        ]
        shown += [safe.one_line(QUOTED + name) for name in expected.functions + expected.extensions]
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


def expectation(expect: Expect) -> str:
    """Say what an answer must be."""
    wanted = [" or ".join(map(str, expect.status)) or "any 2xx"]
    wanted += [f"{name}: {_shown(text)}" for name, text in expect.headers.items()]
    wanted += [f"json {path} = {_plain(value)}" for path, value in expect.json.items()]
    if expect.body is not None:
        wanted.append(f"body with {_shown(expect.body)}")
    if expect.latency is not None:
        wanted.append(f"within {amounts.duration(expect.latency)}")
    return ", ".join(wanted)


def _plain(value: "Json | Text") -> str:
    if isinstance(value, Text):
        return _shown(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
    return safe.one_line(str(value))


def _check(work: Check) -> list[str]:
    shown = []
    for text in work.that:
        if text.late:
            shown.append(f"check that {_shown(text)}")
        else:
            holds = str(text) == "True"
            shown.append(f"check: {'holds' if holds else 'DOES NOT HOLD'} already now")
    return [*shown, f"otherwise: {_shown(work.message)}"] if str(work.message) else shown


def _recall(work: Recall) -> str:
    origin = f"run {_shown(work.run)}" if work.run else f"the newest {'/'.join(work.status)} run"
    default = "" if work.default is None else f", else {safe.one_line(work.default)!r}"
    value = "" if work.planned is None else f": {safe.one_line(work.planned)!r}"
    return f"recall {work.value} from {origin} of {work.runbook} on {work.host}{default}{value}"
