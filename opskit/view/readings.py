"""What a dry run read, beside the plan: values, differences, and what could not be read."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from opskit.model.event import Outcome
from opskit.model.plan import Action
from opskit.model.text import Text
from opskit.model.value import Json
from opskit.model.work import FileRef, Repair, Upload
from opskit.view import names, safe
from opskit.view.fold import Group

DIFF_LINES = 60
Contents = Callable[[FileRef], str | None]
"""Gives the text of a file beside the person, or None where it is not (short) text."""


class Reading(Protocol):
    """What one read or probe came to; `at` in UTC seconds, `evidence` public JSON."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def text(self) -> str: ...
    @property
    def evidence(self) -> Mapping[str, Json]: ...
    @property
    def at(self) -> float: ...


Readings = Mapping[str, Reading]


def shown(group: Group, readings: Readings, contents: Contents, *, full: bool) -> Iterator[str]:
    """Say what is on the hosts of a group now; hosts with the same answer share it."""
    answers: dict[tuple[str, ...], list[str]] = {}
    for action in group.actions:
        for key in keys(action):
            if key in readings:
                answer = tuple(_said(action, key, readings[key], contents, full=full))
                answers.setdefault(answer, []).append(action.target)
    for answer, targets in answers.items():
        where = f" on {names.listed(targets)}" if len(group.targets) > 1 else ""
        lead = f"now{where}: "
        yield lead + answer[0]
        yield from (" " * 5 + line for line in answer[1:])


def keys(action: Action) -> tuple[str, str, str]:
    """Return the keys under which a dry run keeps what it found about an action."""
    return action.key, f"{action.key}?skip", f"{action.key}?dest"


def _said(
    action: Action, key: str, reading: Reading, contents: Contents, *, full: bool
) -> list[str]:
    if key.endswith("?skip"):
        return [_effect(action, reading)]
    if isinstance(action.work, Upload):
        return _upload(action.work, reading, contents, full=full)
    return _answer(reading, full=full)


def _effect(action: Action, reading: Reading) -> str:
    """Say whether a change has its effect already; of an index, what there is to do or forbids it.

    What a command prints that tells is about something else, and the step shows what it would do.
    """
    if reading.outcome == "succeeded":
        return "its effect is there already"
    why = reading.text.strip().partition("\n")[0] if isinstance(action.work, Repair) else ""
    return f"its effect is not there yet{f': {safe.one_line(why)}' if why else ''}"


def _answer(reading: Reading, *, full: bool) -> list[str]:
    rows = safe.stripped(reading.text).strip("\n").split("\n")
    if len(rows) > 6 and not full:
        rows = [*rows[:5], f"… {len(rows) - 5} more lines (--full shows them)"]
    if reading.outcome == "succeeded":
        return rows if rows != [""] else ["succeeds (no output)"]
    word = "FAILED" if reading.outcome == "failed" else "UNKNOWN"
    reason = reading.evidence.get("reason")
    return [f"{word}{f': {safe.one_line(str(reason))}' if reason else ''}", *filter(None, rows)]


def _upload(work: Upload, reading: Reading, contents: Contents, *, full: bool) -> list[str]:
    found = reading.evidence
    if reading.outcome != "succeeded":
        return _answer(reading, full=full)
    if found.get("same"):
        return ["the same is there already"]
    if not found.get("exists"):
        return ["nothing is there"]
    old = found.get("text")
    new = str(work.content) if isinstance(work.content, Text) else contents(work.content)
    if not isinstance(old, str) or new is None:
        return [f"something else is there ({_thing(found)})"]
    return ["it would change as follows", *difference(old, new, full=full)]


def _thing(found: Mapping[str, Json]) -> str:
    """Say what stands at a destination that is no text to compare with."""
    if found.get("kind") in ("directory", "link"):
        return f"a {found['kind']}"
    mark = found.get("sha256")
    return f"sha256 {str(mark)[:12]}" if mark else "what it holds is not known"


def difference(old: str, new: str, *, full: bool = False, labels: Sequence[str] = ()) -> list[str]:
    """Return a unified diff, harmless and of bounded length; `labels` name the two sides."""
    before, after = labels or ("on the host now", "after the run")
    diff = difflib.unified_diff(_rows(old), _rows(new), before, after, n=2, lineterm="")
    rows = [safe.visible(row) for row in diff]
    if not rows:
        return ["(only the end of the last line differs)"]
    if full or len(rows) <= DIFF_LINES:
        return rows
    return [*rows[:DIFF_LINES], f"… {len(rows) - DIFF_LINES} more lines (--full shows them)"]


def _rows(text: str) -> list[str]:
    return text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
