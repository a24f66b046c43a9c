"""`sessions`: end what some sessions of a database run, or the sessions themselves.

Plan sees to it that the argument `database` names one of the inventory.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from opskit.errors import InputError
from opskit.model.activity import Sessions, Target, target
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.steps.activity import names
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    an_amount,
    is_template,
    problem,
    refuse,
)

DEEDS = ("cancel", "terminate")
MOST = 50
"""So many are ended at once at most, whatever a runbook says."""
SUMMARY = (
    "End what sessions of a PostgreSQL database run (`cancel`), or the sessions (`terminate`): "
    "those that `activity` has listed, as they were then, all or none. There is no undo."
)
KEYS = (
    Key(
        "do",
        "enum",
        required=True,
        choices=DEEDS,
        help="`cancel`: end the statement, and with it what its transaction has done; "
        "`terminate`: end the session",
    ),
    Key(
        "sessions",
        "text",
        required=True,
        help="what `activity` lists under SESSION, with commas or spaces between; one that has "
        "done something else since is refused, and so are all then",
    ),
    Key("users", "text", required=True, help="whose sessions these may be, with commas between"),
    Key(
        "older",
        "duration",
        default=30.0,
        minimum=0,
        help="for how long each must have run its statement, or stood still in its transaction",
    ),
    Key("max_sessions", "int", default=5, minimum=1, help=f"more are refused; {MOST} at most"),
    Key(
        "max_share",
        "number",
        default=0.5,
        minimum=0,
        help="several that are a larger part of the database's client sessions are refused "
        "(0.5: half of them); a single one never is",
    ),
    Key("wait", "duration", default=5.0, help="how long they have to be gone; then it has failed"),
    Key(
        "rest",
        "bool",
        default=False,
        help="with `cancel`: terminate those that are as they were listed even after `wait`",
    ),
    Key(
        "database",
        "text",
        help="name of the database in the inventory; needed where that has several",
    ),
)
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "done_when", "creates", "unless", "stdin", "cwd", "sudo", "secrets")
    yield from refuse(step, "silent", "for_each", "save", "until")
    if step.effect != "change":
        yield problem(step, "effect", "this changes something", "take `effect` out")
    written = step.args.get("sessions")
    if isinstance(written, str) and not is_template(written):
        for one in _split(written):
            if target(one) is None:
                yield problem(step, "sessions", f"{one[:60]!r} is no session", _LISTED)
    if step.undo:
        told = "nothing brings back what a session was about"
        yield problem(step, "undo", told, "take it out, or write undo: []")


def work(args: Mapping[str, Value], step: Step) -> Sessions:
    users = names(a_word(args["users"], step, "users"))
    if not users:
        raise _wrong(step, "users", "it must be said whose sessions these may be", "name roles")
    wait = a_number(args["wait"], step, "wait")
    rest = a_flag(args["rest"], step, "rest")
    if not isinstance(step.timeout, str) and wait * (2 if rest else 1) >= step.timeout:
        raise _wrong(step, "wait", "the step is over before the wait is", "make `timeout` longer")
    share = a_number(args["max_share"], step, "max_share")
    if not 0 < share <= 1:
        raise _wrong(step, "max_share", f"{share:g} is no part of all sessions", "0.5, at most 1")
    do: Literal["cancel", "terminate"] = (
        "terminate" if a_word(args["do"], step, "do") == "terminate" else "cancel"
    )
    return Sessions(
        do=do,
        database=a_word(args["database"], step, "database"),
        targets=_targets(args, step),
        users=users,
        older=a_number(args["older"], step, "older"),
        wait=wait,
        share=share,
        rest=rest and do == "cancel",
    )


_LISTED = "take what `activity` lists under SESSION; a number alone may mean another one"


def _split(written: str) -> list[str]:
    return written.replace(",", " ").split()


def _targets(args: Mapping[str, Value], step: Step) -> tuple[Target, ...]:
    found: list[Target] = []
    for one in _split(a_word(args["sessions"], step, "sessions")):
        read = target(one)
        if read is None:
            told = f"{one[:60]!r} is no session"
            raise _wrong(step, "sessions", told, _LISTED)
        if any(read.pid == other.pid for other in found):
            raise _wrong(step, "sessions", f"process {read.pid} is named twice", "name it once")
        found.append(read)
    if not found:
        raise _wrong(step, "sessions", "no session is named", "list them: `activity`")
    most = min(MOST, int(an_amount(args["max_sessions"], step, "max_sessions")))
    if len(found) > most:
        told = f"{len(found)} sessions are named, and {most} are allowed at once"
        raise _wrong(step, "sessions", told, f"name fewer, or raise max_sessions (up to {MOST})")
    return tuple(found)


def _wrong(step: Step, key: str, what: str, hint: str) -> InputError:
    place = str(step.places.get(f"sessions.{key}", step.place))
    return InputError(what, where=place, hint=hint)
