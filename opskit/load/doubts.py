"""Values of which only the run will tell whether they are there when a step uses them.

A step whose `when` waits for the run, or that `creates` or `unless` may skip, may leave unsaved
what it saves. A step that uses the value without the same condition, and says nothing for the case
that it is missing, would fail in the middle of a run. Where nothing keeps that from happening it is
an error; where a condition of another wording may well do so, lint warns.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from opskit.load.names import SyntaxProblemError, expression_names, expressions_with, terms
from opskit.load.reading import Written
from opskit.load.step import Draft
from opskit.model.runbook import Runbook, Step

_LATE = frozenset({"run", "by_host"})
_GUARDS = re.compile(r"\bdefined\b|\|\s*(?:default|d)\b")
"""Words of an expression that says itself what holds without the value."""


class Doubt(NamedTuple):
    """Why a value may be missing; `terms`: conditions that hold wherever it is there.

    `names` are the late ones in these; `sure`: it is missing whenever the conditions are false.
    """

    why: str
    terms: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    sure: bool = True


class Found(NamedTuple):
    """What is to be said of a use of such a value."""

    what: str
    write: str
    warn: bool


def saves(step: Step) -> frozenset[str]:
    """Return the names that a step saves for those after it."""
    if step.include is not None:
        return frozenset(step.include.export)
    return frozenset({step.save.name}) if step.save else frozenset()


class Doubts:
    """What may be missing where the steps of a runbook have come to, in their order."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Doubt, Draft]] = {}
        self._sure: set[str] = set()
        self._asserted: tuple[str, ...] = ()

    def uses(self, names: Collection[str]) -> list[str]:
        """Return which of these names may be missing."""
        return sorted(self._found.keys() & names) if self._found else []

    def after(self, draft: Draft, saved: Collection[str]) -> None:
        """Go past a step; `saved`: what was saved before it."""
        step = draft.step
        for name in saves(step):
            doubted = _doubt(step, name, saved)
            if doubted is None or name in self._found or name in self._sure:
                self._found.pop(name, None)  # of several steps that save it one will have
                self._sure.add(name)
            else:
                self._found[name] = (doubted, draft)
        if step.kind == "assert" and step.when is None and step.on_failure != "continue":
            said = [w.text for w in draft.written if w.key.partition(".")[0] == "that"]
            self._asserted += tuple(term for one in said for term in terms(one))

    def about(
        self, written: Written, name: str, step: Step, outer: Sequence[str], *, secret: bool
    ) -> Found | None:
        """Say what is wrong where a template uses a name; `outer`: conditions around its step."""
        doubted, saver = self._found[name]
        own, uses = _uses(written, name, step)
        given = [*(term for when in outer for term in terms(when)), *own]
        known = [*given, *self._asserted]
        if all(_cared_for(text, name, doubted, known) for text in uses):
            return None
        conditions = given or _touching(self._asserted, doubted.names)
        by = f"step {saver.step.position} (line {saver.node.line})"
        return Found(
            what=f"`{name}` may not be there: {by} saves it, and {doubted.why}",
            write=_cure(written, name, doubted, secret=secret),
            warn=not doubted.sure or bool(conditions) or step.on_failure == "continue",
        )


def _doubt(step: Step, name: str, saved: Collection[str]) -> Doubt | None:
    """Say why a value that a step saves may be missing after it."""
    for key, written in (("creates", step.creates), ("unless", step.unless)):
        if written is not None:
            return Doubt(f"is skipped where its `{key}` holds")
    late = _late_names(step.when, saved)
    if step.when is not None and late:
        return Doubt(f"is skipped unless `{_short(step.when)}`", frozenset(terms(step.when)), late)
    if step.on_failure == "continue":
        return Doubt("may fail, which `on_failure: continue` lets pass", sure=False)
    return _inner_doubt(step.include, name) if step.include is not None else None


def _inner_doubt(include: Runbook, name: str) -> Doubt | None:
    """Say why a value that an include exports may be missing although the include was done."""
    saved: set[str] = set()
    found: Doubt | None = None
    for step in (*include.steps, *include.always):
        if name in saves(step):
            inner = _doubt(step, name, saved)
            if inner is None or found is not None:
                return None
            found = Doubt(f"under a condition of its own, at {step.place}", sure=inner.sure)
        saved |= saves(step)
    return found


def _late_names(when: str | None, saved: Collection[str]) -> frozenset[str]:
    """Return the names in a condition that only the run knows."""
    if when is None:
        return frozenset()
    try:
        return expression_names(when) & (_LATE | frozenset(saved))
    except SyntaxProblemError:
        return frozenset()  # that is reported where it stands


def _uses(written: Written, name: str, step: Step) -> tuple[list[str], list[str]]:
    """Return what the step asks before a template is needed, and the expressions with a name."""
    if written.key != "when":
        own = [] if step.when is None else list(terms(step.when))
        return own, list(expressions_with(written, name))
    asked = list(terms(written.text))
    first = next((n for n, term in enumerate(asked) if name in expression_names(term)), 0)
    return asked[:first], asked[first : first + 1]


def _cared_for(text: str, name: str, doubted: Doubt, given: Sequence[str]) -> bool:
    """Tell whether an expression is safe: what is `given` says that the value is there, or it."""
    if doubted.terms and doubted.terms <= set(given):
        return True
    if _GUARDS.search(text) or _touching(given, {name}):
        return True
    return any(re.search(rf"(?<![\w.]){re.escape(other)}\b", text) for other in doubted.names)


def _touching(given: Sequence[str], names: Collection[str]) -> list[str]:
    return [term for term in given if expression_names(term) & frozenset(names)]


def _cure(written: Written, name: str, doubted: Doubt, *, secret: bool) -> str:
    if written.key == "when":
        return f"{name} is defined and …"
    same = "give this step the same `when`" if doubted.terms else ""
    default = "" if secret else f"write {name} | default('')"
    return ", or ".join(filter(None, (same, default))) or "save it without a condition"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"
