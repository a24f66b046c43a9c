"""`warm`: put rows of a file or of a query into a Redis, so that it can be taken back.

Plan sees to it that the argument `server` is there, and names one of the inventory; and `database`
where there is a query.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import cast

from opskit.errors import InputError
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import Text
from opskit.model.value import Json
from opskit.model.warm import Deed, Format, Source, Warm
from opskit.model.work import FileRef
from opskit.steps import globs, looks
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_text,
    a_word,
    an_amount,
    is_template,
    one_of,
    problem,
    refuse,
    texts,
)
from opskit.steps.units import seconds_of

DEEDS = ("show", "fill", "refresh", "hits")
READS = ("show", "hits")
FORMATS = ("seen", "json", "raw")
MOST = 2_000_000
"""So many keys are written at once at most, whatever a runbook says."""
SUFFIXES = (".jsonl", ".ndjson", ".csv")
FIELD = re.compile(r"\{(\w+)\}")
SUMMARY = (
    "Put rows of a file or of a query into a Redis, each as a key with a value and an end: what is "
    "not there yet, or all of it. Or tell how much of what is asked for is there. opskit takes "
    "back by itself what it has written when the run is undone."
)
KEYS = (
    Key(
        "do",
        "enum",
        required=True,
        choices=DEEDS,
        reads=READS,
        help="`show`: what would be written; `fill`: write what is not there yet; `refresh`: write "
        "all of it; `hits`: count lookups for a while",
    ),
    Key("server", "text", help="its name in the inventory; needed where that has several"),
    Key("file", "file", help="rows: JSON, an object a line (`.jsonl`), or CSV with a heading"),
    Key("sql", "sql", help="instead, or where no file is named: a query; values are bound"),
    Key("database", "text", help="of `sql`: its name in the inventory"),
    Key("key", "text", default="{key}", help="the key of a row; `{name}` is a column of it"),
    Key(
        "value",
        "text",
        default="{value}",
        help="the value of a row; a column that is no text is written as JSON",
    ),
    Key(
        "format",
        "enum",
        choices=FORMATS,
        default="seen",
        help="what readers take. `seen`: text, as far as can be seen: nothing is written where "
        "what is there is pickled, compressed or no string, nor under names of Django's cache; "
        "`json`: JSON, which each value must be; `raw`: whatever is written",
    ),
    Key("ttl", "text", help="how long a key stays: `1h`, or `{ttl}` where a column says it"),
    Key("jitter", "number", default=0.1, minimum=0, help="so much of it longer or shorter, by lot"),
    Key("allow", "list", help="the beginnings that a key may have; any other is refused"),
    Key("max_keys", "int", default=100_000, minimum=1, help="more than this are refused"),
    Key(
        "max_memory",
        "number",
        default=80,
        minimum=1,
        help="of the memory that the server may use, so much at most; percent",
    ),
    Key(
        "max_wait",
        "duration",
        default=0.2,
        minimum=0,
        help="where another client waits longer than that for an answer before it begins (the 99th "
        "of a hundred), nothing is written; 0: not looked at",
    ),
    Key(
        "max_cpu",
        "number",
        default=80,
        minimum=0,
        help="where the server's processor is busier than so many percent before it begins, "
        "nothing is written; with `rate` it also ends where that stays so; 0: not looked at",
    ),
    Key(
        "rate",
        "number",
        default=0,
        minimum=0,
        help="so many keys a second, fewer where it slows others down; 0: as many as go",
    ),
    Key("breaches", "int", default=10, minimum=1, help="with `rate`: so often, then it ends"),
    Key(
        "keep_old",
        "bool",
        default=True,
        help="of `refresh`: keep what is overwritten, so that undo puts it back",
    ),
    Key("override", "text", default="", help="a reason for which keys may stay over 30 days"),
    Key("digest", "text", default="", help="what `show` has told: other rows are refused"),
    Key(
        "evidence",
        "text",
        help="the folder in which each list gets one of its own, a whole path; without it "
        "`evidence` beside the local record",
    ),
    Key("window", "duration", default=300.0, help="of `hits`: for so long"),
    Key("warn", "number", default=0, minimum=0, help="of `hits`: fewer are told of; percent"),
    Key("crit", "number", default=0, minimum=0, help="of `hits`: fewer fail; percent"),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "controller"
_COUNTING = ("window", "warn", "crit")
_WRITING = (
    "file", "sql", "database", "key", "value", "format", "ttl", "jitter", "allow", "max_keys",
    "max_memory", "max_wait", "max_cpu", "rate", "breaches", "keep_old", "override", "digest",
    "evidence",
)  # fmt: skip


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "done_when", "creates", "unless", "stdin", "cwd", "sudo", "secrets")
    yield from refuse(step, "silent")
    do = str(step.args.get("do", ""))
    if do in DEEDS and (step.effect == "read") != (do in READS):
        told = f"`{do}` {'changes nothing' if do in READS else 'changes something'}"
        yield problem(step, "effect", told, "take `effect` out")
    if step.undo:
        told = "opskit takes back by itself what it has written"
        yield problem(step, "undo", told, "take it out, or write undo: []")
    if step.save is not None and step.save.secret:
        yield problem(step, "save", "this returns no secret", "take `secret` out")
    for key in _WRITING if do == "hits" else _COUNTING:
        if f"{step.kind}.{key}" in step.places:
            told = f"`{key}` means nothing with do: {do}"
            yield problem(step, key, told, f"take `{key}` out")
    if do != "hits":
        yield from _written(step)


def _written(step: Step) -> Iterable[Problem]:
    """Check what is to be written."""
    both = {"file", "sql"} <= step.args.keys()
    if both and not is_template(step.args["file"]):
        yield problem(step, "sql", "rows are in either `file` or `sql`", "write one of them")
    if not {"file", "sql"} & step.args.keys():
        yield problem(step, "do", "it does not say where rows are", "add file: or sql:")
    if "database" in step.args and "sql" not in step.args:
        yield problem(step, "database", "no query goes to a database", "take `database` out")
    if "ttl" not in step.args:
        told = "it does not say how long the keys stay"
        yield problem(step, "do", told, "add ttl: 1h, or ttl: '{ttl}' where a column says it")
    elif _endless(step.args["ttl"]):
        told = (
            f"`ttl` came to {str(step.args['ttl'])[:40]!r}: nobody knows how long keys would stay"
        )
        yield problem(step, "ttl", told, "write seconds, or 10s, 1h30m, at most 366 days")
    if "allow" not in step.args:
        told = "it does not say which keys may be written at all"
        yield problem(step, "do", told, "add allow: [BEGINNING], such as [':1:team:']")
    for one in _listed(step.args.get("allow")):
        if one and not is_template(one) and (wrong := globs.unfit_prefix(one)):
            yield problem(step, "allow", wrong, "write what is meant")


def _endless(value: Json) -> bool:
    """Tell whether this is certainly no time that a key could stay."""
    if not isinstance(value, (str, int, float)) or is_template(value) or FIELD.search(str(value)):
        return False
    return not seconds_of(str(value).strip())


def _listed(value: Json) -> list[str]:
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else []


def work(args: Mapping[str, Value], step: Step) -> Warm:
    """Say what is written; refuse what could not be meant."""
    do = cast(Deed, one_of(args["do"], step, "do", DEEDS))
    server = a_word(args["server"], step, "server")
    if do == "hits":
        window = looks.window({"window": args.get("window", 300.0)}, step)
        warn, crit = (_within(args, step, key, 0, 100) for key in ("warn", "crit"))
        return Warm(do=do, server=server, window=window, warn=warn, crit=crit)
    return Warm(
        do=do,
        server=server,
        source=_source(args, step),
        allow=_allow(args, step),
        format=cast(Format, one_of(args.get("format"), step, "format", FORMATS)),
        jitter=_within(args, step, "jitter", 0, 0.99),
        most=min(int(_within(args, step, "max_keys", 1, 10**12)), MOST),
        memory=_within(args, step, "max_memory", 1, 100),
        wait=_within(args, step, "max_wait", 0, 3600),
        cpu=_within(args, step, "max_cpu", 0, 100),
        rate=_within(args, step, "rate", 0, 10**7),
        breaches=int(_within(args, step, "breaches", 1, 10**6)),
        keep=a_flag(args.get("keep_old", True), step, "keep_old"),
        override=_word(args, step, "override").strip(),
        digest=_word(args, step, "digest").strip(),
        evidence=_folder(args, step),
    )


def _wrong(step: Step, key: str, what: str, hint: str) -> InputError:
    place = step.places.get(f"{step.kind}.{key}", step.place)
    return InputError(what, where=str(place), hint=hint)


def _within(args: Mapping[str, Value], step: Step, key: str, least: float, most: float) -> float:
    found = an_amount(args[key], step, key)
    if not least <= found <= most:  # nor is what is no number at all
        told = f"`{key}` came to {found:g}"
        raise _wrong(step, key, told, f"write a number from {least:g} to {most:g}")
    return found


def _word(args: Mapping[str, Value], step: Step, key: str) -> str:
    return a_word(args[key], step, key) if args.get(key) is not None else ""


def _folder(args: Mapping[str, Value], step: Step) -> str:
    written = _word(args, step, "evidence")
    if written and not (PurePath(written).is_absolute() or written.startswith("~/")):
        told = f"{written[:80]!r} is no whole path"
        raise _wrong(step, "evidence", told, "/var/lib/… or ~/…: it is to be found again")
    return written


def _allow(args: Mapping[str, Value], step: Step) -> tuple[str, ...]:
    found = (a_word(one, step, "allow") for one in texts(args.get("allow"), "allow"))
    allow = tuple(dict.fromkeys(one for one in found if one))
    for one in allow:
        if wrong := globs.unfit_prefix(one):
            raise _wrong(step, "allow", wrong, "write what is meant")
    if not allow:
        raise _wrong(step, "allow", "no key may be written at all", "name a beginning of keys")
    return allow


def _source(args: Mapping[str, Value], step: Step) -> Source:
    key, value, ttl = (_word(args, step, name) for name in ("key", "value", "ttl"))
    if not ttl.strip():
        raise _wrong(step, "ttl", "`ttl` came to nothing: keys would stay for ever", "write 1h")
    if not FIELD.search(key):
        told = f"`key` is the same for each row: {key[:80]!r}"
        raise _wrong(step, "key", told, "name a column in it: team:{id}")
    if not FIELD.search(ttl):
        seconds = a_number(args["ttl"], step, "ttl")
        if seconds <= 0:
            raise _wrong(step, "ttl", "`ttl` came to 0: nothing would stay", "write 1h")
        ttl = repr(seconds)
    how = Source(key=key, value=value, ttl=ttl)
    file, query = args.get("file"), args.get("sql")
    if isinstance(file, FileRef) and query is None:
        if not file.path.endswith(SUFFIXES):
            told = f"{file.path} is neither JSON lines nor CSV by its name"
            raise _wrong(step, "file", told, f"call it one of {', '.join(SUFFIXES)}")
        return replace(how, path=file.path, size=file.size, sha256=file.sha256)
    if file is not None or query is None or not str(query).strip():
        raise _wrong(step, "file", "rows are in either `file` or `sql`", "name one of them")
    return _queried(args, step, a_text(query, "sql"), how)


def _queried(args: Mapping[str, Value], step: Step, query: Text, how: Source) -> Source:
    if query.late:
        told = f"`sql` must be known when planning, but waits for {', '.join(query.names)}"
        raise _wrong(step, "sql", told, "use parameters, vars and facts of the host here")
    return replace(how, database=a_word(args["database"], step, "database"), query=query)
