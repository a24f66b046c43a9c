"""What a step kind is, and what kinds share."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from importlib import import_module
from typing import Literal, Protocol, TypeAlias, cast

from opskit.errors import InputError
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import Text
from opskit.model.value import Json
from opskit.model.work import FileRef, Work
from opskit.steps.units import amount_of, instead_of, seconds_of

KeyType = Literal[
    "text",
    "shell",
    "sql",
    "predicate",
    "sqlfile",
    "commands",
    "words",
    "glob",
    "expectations",
    "ledger",
    "report",
    "url",
    "expression",
    "verbatim",
    "file",
    "script",
    "template",
    "runbook",
    "name",
    "literal",
    "int",
    "number",
    "bool",
    "duration",
    "size",
    "enum",
    "mode",
    "list",
    "map",
    "data",
    "value",
    "table",
    "step",
    "steps",
]
"""What may stand under a key, and what becomes of it when a plan is made.

text        template; rendered as it is                      → Text
shell       template; each expression one shell word         → Text
sql         template; each expression a bound value          → Text
predicate   a condition in SQL; each expression a bound value → Text
sqlfile     path; the file's text, as `sql`                  → Text
commands    one or several, each a text or a list of words  → tuple of tuples of Text
words       templates; each is one argument                 → tuple of Text
glob        template; an expression stands for itself only   → Text
expectations  template for the path of such a file          → Text (JSON of its name and content)
ledger      template for the path of such a file             → Text (JSON of its name and content)
report      template for the path of a manifest of evidence   → Text (JSON of what it says)
url         template; each expression URL-encoded            → Text
expression  condition without braces                         → Text ("True", "False" or late)
verbatim    never rendered: braces in it stay                → Text
file        template for a path beside the person who runs   → FileRef
script      path; the file's text, not rendered              → Text
template    path; the file's text, rendered                  → Text
runbook     name of a runbook or its path; read into Step.include
name        a name: letters, digits, `_`                     → Text
literal     text without templates                           → Text
int, number, bool, size, enum, mode                          → as they are, enum and mode as Text
duration    `90`, `10s`, `1h30m`                              → seconds (float)
list        texts                                            → tuple of Text
map         name → text                                      → Mapping of Text
data        anything; each string in it a template           → the same shape
table       a mapping with the keys of `Key.keys`            → Mapping
value, step, steps, and tables with a `main` key occur among the common keys only

A scalar other than name, literal, script, template, sqlfile and runbook may be a template
(`{{ … }}`); it then arrives as Text and the kind reads it with the helpers below.
"""

Scope = Literal["each", "once", "batch", "controller"]
Value: TypeAlias = (
    "Text | FileRef | int | float | bool | tuple[Value, ...] | Mapping[str, Value] | None"
)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Key:
    """One key of a table in a file. These tables alone give validation, schema and docs.

    `main`: for a table, the key that a bare value stands for. `many`: a list of such values is
    fine too. `reads`: values of this key that make the step a read. `rendered`: a number may be a
    template although the key is no kind's own.
    """

    name: str
    type: KeyType
    _: KW_ONLY
    help: str
    required: bool = False
    default: Json = None
    choices: tuple[str, ...] = ()
    keys: tuple["Key", ...] = ()
    main: str | None = None
    many: bool = False
    reads: tuple[str, ...] = ()
    pattern: str | None = None
    minimum: float | None = None
    rendered: bool = False


class StepKind(Protocol):
    """A module that says what one kind of step means. It describes; only a driver acts."""

    @property
    def SUMMARY(self) -> str: ...  # noqa: N802 - a module's constant

    @property
    def KEYS(self) -> tuple[Key, ...]: ...  # noqa: N802

    @property
    def MAIN(self) -> str | None: ...  # noqa: N802

    @property
    def EFFECT(self) -> Effect: ...  # noqa: N802

    @property
    def SCOPE(self) -> Scope: ...  # noqa: N802

    def check(self, step: Step) -> Iterable[Problem]:
        """Yield what is wrong with a step of this kind, beyond the types of its keys."""

    def work(self, args: Mapping[str, Value], step: Step) -> Work:
        """Say what a driver shall do; strings in `args` have been rendered to Text.

        Common keys are not its business: `cwd`, `stdin`, `secrets` and `sudo` mean the same for
        every kind, so plan puts them on the work that this returns.
        """


class Later:
    """Stands for the module `opskit.steps.NAME`, which is loaded where a step is of that kind."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _kind(self) -> StepKind:
        return cast(StepKind, import_module(f"opskit.steps.{self._name}"))

    @property
    def SUMMARY(self) -> str:  # noqa: N802 - as the module has it
        return self._kind.SUMMARY

    @property
    def KEYS(self) -> tuple[Key, ...]:  # noqa: N802
        return self._kind.KEYS

    @property
    def MAIN(self) -> str | None:  # noqa: N802
        return self._kind.MAIN

    @property
    def EFFECT(self) -> Effect:  # noqa: N802
        return self._kind.EFFECT

    @property
    def SCOPE(self) -> Scope:  # noqa: N802
        return self._kind.SCOPE

    def check(self, step: Step) -> Iterable[Problem]:
        return self._kind.check(step)

    def work(self, args: Mapping[str, Value], step: Step) -> Work:
        return self._kind.work(args, step)


def problem(step: Step, key: str, what: str, write: str = "") -> Problem:
    """State a problem at a key of a step (at the step where the key isn't written)."""
    place = step.places.get(f"{step.kind}.{key}") or step.places.get(key) or step.place
    return Problem(place=place, what=what, write=write)


def refuse(step: Step, *keys: str) -> Iterator[Problem]:
    """Refuse common keys that mean nothing for this kind, rather than ignore them."""
    for key in keys:
        if key in step.places:
            yield problem(
                step, key, f"`{key}` means nothing in a `{step.kind}` step", f"take `{key}` out"
            )


def environment_problems(step: Step) -> Iterator[Problem]:
    """Check the names under `secrets:` where they become environment variables."""
    for name in step.secrets:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
            told = f"{name[:80]!r} can't name an environment variable"
            yield problem(step, "secrets", told, "letters, digits and _")


def is_template(value: Json) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def a_text(value: Value, key: str) -> Text:
    """Return an argument that must be a text."""
    if not isinstance(value, Text):
        raise TypeError(f"{key}: {value!r} should have been rendered to a text")
    return value


def optional(value: Value, key: str) -> Text | None:
    return None if value is None else a_text(value, key)


def a_word(value: Value, step: Step, key: str) -> str:
    """Return an argument that must be known when the plan is made."""
    written = a_text(value, key)
    if written.late:
        raise InputError(
            f"`{key}` must be known when planning, but waits for {', '.join(written.names)}",
            where=str(step.places.get(f"{step.kind}.{key}", step.place)),
            hint="use parameters, vars and facts of the host here, not saved values",
        )
    return written.fixed()


def a_flag(value: Value, step: Step, key: str) -> bool:
    if isinstance(value, bool):
        return value
    word = a_word(value, step, key)
    if word not in ("true", "false"):
        raise _wrong(step, key, word, "true or false")
    return word == "true"


def a_number(value: Value, step: Step, key: str) -> float:
    """Return a number of seconds or a plain number, also where a template gave it."""
    if isinstance(value, (int, float)):
        return float(value)
    word = a_word(value, step, key)
    seconds = seconds_of(word)
    if seconds is None:
        usual = "a number or a duration such as 10s or 1h30m"
        raise _wrong(step, key, word, instead_of(word, usual))
    return seconds


def an_amount(value: Value, step: Step, key: str) -> float:
    """Return a number of things, however large, or a duration; also where a template gave it."""
    if isinstance(value, (int, float)):
        return float(value)
    word = a_word(value, step, key)
    found = amount_of(word)
    return a_number(value, step, key) if found is None else found


def _wrong(step: Step, key: str, word: str, write: str) -> InputError:
    place = step.places.get(f"{step.kind}.{key}", step.place)
    return InputError(f"`{key}` came to {word[:80]!r}", where=str(place), hint=f"write {write}")


def one_of(value: Value, step: Step, key: str, choices: tuple[str, ...]) -> str:
    """Return a choice, also where a template gave it; the first when nothing is written."""
    word = choices[0] if value is None else a_word(value, step, key)
    if word not in choices:
        raise InputError(
            f"`{key}` came to {word[:80]!r}",
            where=str(step.place),
            hint=f"write one of {', '.join(choices)}",
        )
    return word


def texts(value: Value, key: str) -> tuple[Text, ...]:
    """Return a list of texts; a single one counts as a list of one."""
    if value is None:
        return ()
    if isinstance(value, tuple):
        return tuple(a_text(item, key) for item in value)
    return (a_text(value, key),)


def mapping(value: Value) -> Mapping[str, Value]:
    return value if isinstance(value, Mapping) else {}
