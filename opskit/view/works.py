"""What an action will do, as text: exactly what is sent, less what must not be seen."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import assert_never

from opskit.model.activity import Activity, Sessions
from opskit.model.bloat import Bloat
from opskit.model.keys import Keys
from opskit.model.payouts import Payouts
from opskit.model.plan import Action
from opskit.model.queues import Messages, Queues
from opskit.model.rows import Rows
from opskit.model.text import Late, Text
from opskit.model.value import Json, SecretRef
from opskit.model.warm import Warm
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
from opskit.steps.units import duration
from opskit.view import amounts, blocks, safe
from opskit.view.servers import REDIS, at_server

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
            yield from filter(None, (work.text, work.expect))
        case RedisCall():
            yield from (word for row in work.commands for word in row)
            yield from filter(None, (*work.keys, *work.args, work.expect))
        case Check() | Notify():
            yield work.message
            yield from work.that if isinstance(work, Check) else filter(None, (work.severity,))
        case Remove(dest=text) | Ask(question=text):
            yield text
        case (
            Recall(run=Text() as text)
            | Repair(free=Text() as text)
            | Queues(answers=Text() as text)
        ):
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
            | Rows()
            | Keys()
            | Warm()
            | Messages()
            | Queues()
            | Activity()
            | Sessions()
            | Bloat()
            | None
        ):
            return
        case _:
            assert_never(work)


def _request_texts(work: Request) -> Iterator[Text]:
    yield work.url
    expect = work.expect
    given = (*work.headers.values(), *expect.headers.values(), *expect.has.values())
    for value in (*given, work.body, expect.body):
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
        case (
            Query()
            | RedisCall()
            | Keys()
            | Warm()
            | Queues()
            | Messages()
            | Verify()
            | Duplicates()
            | Repair()
            | Payouts()
            | Rows()
            | Activity()
            | Sessions()
            | Bloat()
        ):
            return at_server(work, full=full)
        case Remove() | Wait() | Recall() | Survey() | RedisLook():
            return [_sentence(work)]
        case Check():
            return _check(work)
        case Ask():
            verb = "a person does" if work.manual else "ask"
            return blocks.block(f"{verb}: ", str(work.question), full=full)
        case Notify():
            return blocks.block(_addressed(work), str(work.message), full=full)
        case _:
            assert_never(work)


def _addressed(work: Notify) -> str:
    """Say whom a message is for, besides the screen and the record."""
    severity = f" ({work.severity})" if work.severity is not None else ""
    to = f" {safe.one_line(', '.join(work.to))}{severity}" if work.to else ""
    return f"tell{to}, and wait until they have it: " if to and work.required else f"tell{to}: "


def _sentence(work: Remove | Wait | Recall | Survey | RedisLook) -> str:
    match work:
        case Remove():
            return f"put back what stood at {blocks.shown(work.dest)} before, or remove it"
        case Wait():
            return f"wait {duration(work.seconds)}"
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


def _command(work: Command, *, full: bool) -> list[str]:
    if work.summary:
        about = [*_text(work, full=True), *_around(work, full=True)] if full else []
        return [safe.one_line(work.summary), *about]
    return [*_text(work, full=full), *_around(work, full=full)]


def _text(work: Command, *, full: bool) -> list[str]:
    if work.shell:
        return blocks.block(blocks.SENT, str(work.text), full=full)
    arguments = " ".join(shlex.quote(blocks.shown(arg)) for arg in work.args)
    head = f"script with arguments {arguments}" if arguments else "script"
    return [head, *blocks.block(blocks.QUOTED, str(work.text), full=full)]


def _around(work: Command, *, full: bool) -> list[str]:
    """Say where, as whom and with what besides its text a command runs; `full` has all it reads."""
    about, read = [], []
    if work.cwd is not None:
        about.append(f"in {blocks.shown(work.cwd)}")
    if work.sudo:
        about.append(f"as {safe.one_line(work.sudo)}")
    if isinstance(work.stdin, SecretRef):
        about.append(f"stdin: secret {work.stdin.name}")
    elif work.stdin is not None:
        about.append(f"stdin: {amounts.size(len(str(work.stdin).encode()))} of text")
        read = blocks.block(blocks.QUOTED, str(work.stdin), full=True) if full else []
    about += [f"${variable}: secret {name}" for variable, name in work.secrets.items()]
    return [" · ".join(about), *read] if about else []


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
        return [f"put {safe.one_line(what)} at {blocks.shown(work.dest)}{tail}"]
    content = str(work.content)
    head = f"write {amounts.size(len(content.encode()))} of text to {blocks.shown(work.dest)}{tail}"
    return [head, *blocks.block(blocks.QUOTED, content, full=full)]


def _request(work: Request, *, full: bool) -> list[str]:
    via = " from the host" if work.via == "host" else ""
    shown = [f"{work.method} {blocks.shown(work.url)}{via}"]
    for name, value in work.headers.items():
        text = f"secret {value.name}" if isinstance(value, SecretRef) else blocks.shown(value)
        shown.append(f"{name}: {text}")
    if work.body is not None:
        shown += blocks.block("body: ", str(work.body), full=full)
    return [*shown, f"expects {expectation(work.expect)}"]


def expectation(expect: Expect) -> str:
    """Say what an answer must be."""
    wanted = [" or ".join(map(str, expect.status)) or "any 2xx"]
    wanted += [f"{name}: {blocks.shown(text)}" for name, text in expect.headers.items()]
    wanted += [f"{name} with {blocks.shown(text)}" for name, text in expect.has.items()]
    wanted += [f"{name} of at most {most:g}" for name, most in expect.at_most.items()]
    wanted += [f"{name} of at least {least:.0f}" for name, least in expect.at_least.items()]
    wanted += [f"json {path} = {_plain(value)}" for path, value in expect.json.items()]
    if expect.body is not None:
        wanted.append(f"body with {blocks.shown(expect.body)}")
    if expect.latency is not None:
        wanted.append(f"within {amounts.duration(expect.latency)}")
    return ", ".join(wanted)


def _plain(value: "Json | Text") -> str:
    if isinstance(value, Text):
        return blocks.shown(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
    return safe.one_line(str(value))


def _check(work: Check) -> list[str]:
    shown = []
    for text in work.that:
        if text.late:
            shown.append(f"check that {blocks.shown(text)}")
        else:
            holds = str(text) == "True"
            shown.append(f"check: {'holds' if holds else 'DOES NOT HOLD'} already now")
    return [*shown, f"otherwise: {blocks.shown(work.message)}"] if str(work.message) else shown


def _recall(work: Recall) -> str:
    origin = (
        f"run {blocks.shown(work.run)}" if work.run else f"the newest {'/'.join(work.status)} run"
    )
    default = "" if work.default is None else f", else {safe.one_line(work.default)!r}"
    value = "" if work.planned is None else f": {safe.one_line(work.planned)!r}"
    return f"recall {work.value} from {origin} of {work.runbook} on {work.host}{default}{value}"
