"""`redis`: commands for a Redis server, each value an argument of its own.

Plan sees to it that the argument `server` is there, and names one of the inventory.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import Text
from opskit.model.value import Json
from opskit.model.work import RedisCall
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_text,
    a_word,
    one_of,
    optional,
    problem,
    refuse,
    texts,
)

TRANSACTIONS = ("default", "none")
ROWS = ("text", "json")
SUMMARY = (
    "Send commands to a Redis server. Each command of a read is looked up at the server before it "
    "is sent; a change is done as a whole, exactly once. An expression is always one argument."
)
KEYS = (
    Key(
        "command",
        "commands",
        help="a command, or a list of them; each is a text (`SET greeting {{ word }}`) or a list "
        "of words",
    ),
    Key("script", "verbatim", help="instead: a Lua script, never rendered, with KEYS and ARGV"),
    Key("file", "script", help="path of a file with it, beside the runbook"),
    Key("keys", "words", help="KEYS of the script"),
    Key("args", "words", help="ARGV of the script"),
    Key("server", "text", help="its name in the inventory; needed where that has several"),
    Key(
        "transaction",
        "enum",
        choices=TRANSACTIONS,
        default="default",
        help="`none` for one command that can't be part of a script, such as CONFIG SET; it needs "
        "`done_when`",
    ),
    Key(
        "rows",
        "enum",
        choices=ROWS,
        default="text",
        help="what `save` takes of the last answer: its first value, or all of it as `json`",
    ),
    Key(
        "expect",
        "text",
        help="what the first value of the last answer must be, as text (with `rows: json` all of "
        "it, as JSON); anything else fails the step, though a change has been made then",
    ),
)
MAIN = "command"
EFFECT: Effect = "change"
SCOPE: Scope = "controller"
_EXAMPLE = "write redis: {command: GET …, expect: …}"
_STATE_NAMES = """
    asking auth discard exec hello monitor multi psubscribe psync punsubscribe quit readonly
    readwrite reset select ssubscribe subscribe sunsubscribe swapdb sync unsubscribe unwatch
    watch
"""
_STATE = frozenset(_STATE_NAMES.split())
"""What would make another connection of the one that a step has."""


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "creates", "unless", "silent")
    given = _given(step)
    if len(given) != 1:
        told = "what to do is in one of `command`, `script` and `file`"
        yield problem(step, "redis", told, "write one of them")
    for key in ("keys", "args"):
        if key in step.args and "command" in given:
            told = f"`{key}` is for a script"
            yield problem(step, key, told, "write them as words of the command")
    script = step.args.get("script")
    if isinstance(script, str) and script.lstrip().startswith("#!"):
        told = "a script has no first line `#!` here: opskit makes it part of its own"
        yield problem(step, "script", told, "take it out")
    yield from _commands(step)
    yield from _done_when(step)
    if step.args.get("transaction") == "none":
        yield from _alone(step)
    if step.save is not None and step.save.secret and step.effect == "change":
        told = "a secret that a change returns could be lost with the answer"
        yield problem(step, "save", told, "fetch it by a read of its own")


def _given(step: Step) -> list[str]:
    """Return which of the keys that say what to do are written, well or badly."""
    short = not any(key.startswith("redis.") for key in step.places)
    if short:
        return ["command"]
    return [key for key in ("command", "script", "file") if f"redis.{key}" in step.places]


def commands_of(step: Step) -> list[list[str]]:
    """Return the words of each command, as templates."""
    written = step.args.get("command")
    rows: Json = written if isinstance(written, (list, tuple)) else ()
    assert isinstance(rows, (list, tuple))
    return [[str(word) for word in row] for row in rows if isinstance(row, (list, tuple))]


def _commands(step: Step) -> Iterator[Problem]:
    for words in commands_of(step):
        name = words[0]
        if "{{" in name or "{%" in name:
            told = "the name of a command can't be an expression"
            yield _at(step, told, "make a step of each that may be meant, with `when`")
        elif name.lower() == "keys":
            told = "KEYS walks through all keys while the server does nothing else"
            yield _at(step, told, "SCAN 0 MATCH … COUNT 1000")
        elif name.lower() in _STATE:
            told = f"{name.upper()} has no place here: opskit sees to its connection itself"
            yield _at(step, told, "take it out; a step is one transaction")


def _at(step: Step, told: str, write: str) -> Problem:
    return problem(step, "command" if "redis.command" in step.places else "redis", told, write)


def _done_when(step: Step) -> Iterator[Problem]:
    done = step.done_when
    if done is not None and done.kind == "redis" and "expect" not in done.args:
        yield problem(done, "redis", "`done_when` must say what tells that it is done", _EXAMPLE)
    if done is not None and done.kind != "redis":
        told = f"`done_when` of a `redis` step asks the server, and this is `{done.kind}`"
        yield problem(step, "done_when", told, _EXAMPLE)


def _alone(step: Step) -> Iterator[Problem]:
    if step.effect == "read":
        told = "a read is in no transaction anyhow"
        yield problem(step, "transaction", told, "take `transaction: none` out")
    elif step.done_when is None:
        told = "without a transaction nothing tells whether it was done"
        yield problem(step, "transaction", told, "add done_when, a read that tells")
    if len(commands_of(step)) != 1:
        told = "`transaction: none` is for one command"
        yield problem(step, "transaction", told, "make a step of each")
    if step.save is not None:
        told = "what it returns could be lost with the answer"
        yield problem(step, "save", told, "fetch it by a read of its own")


def work(args: Mapping[str, Value], step: Step) -> RedisCall:
    script = args["script"] if args.get("script") is not None else args.get("file")
    rows: Literal["text", "json"] = (
        "json" if one_of(args.get("rows"), step, "rows", ROWS) == "json" else "text"
    )
    return RedisCall(
        server=a_word(args["server"], step, "server"),
        commands=_rows(args.get("command")),
        script=optional(script, "script"),
        keys=texts(args.get("keys"), "keys"),
        args=texts(args.get("args"), "args"),
        transaction=one_of(args.get("transaction"), step, "transaction", TRANSACTIONS) != "none",
        rows=rows,
        expect=optional(args.get("expect"), "expect"),
        kept=step.save is not None,
        told=step.done_when is not None,
    )


def _rows(value: Value) -> tuple[tuple[Text, ...], ...]:
    rows = value if isinstance(value, tuple) else ()
    return tuple(
        tuple(a_text(word, "command") for word in row) for row in rows if isinstance(row, tuple)
    )
