"""What a step may be, given where it stands; everything but names."""

from collections.abc import Iterator, Sequence

from opskit.load.keys import RESERVED
from opskit.load.params import WrongValueError, scalar_text, value_of
from opskit.load.reading import Reader
from opskit.load.step import Draft, Role
from opskit.load.suggest import advice
from opskit.load.yaml import Node, Scalar, Table
from opskit.model.runbook import Param, Runbook, Step
from opskit.steps import SELF_UNDOING
from opskit.steps.base import is_template

_NOT_IN_UNDO = ("phase", "on_failure", "prepares")
_NOT_IN_ALWAYS = ("phase", "undo", "prepares")
_NOT_IN_DONE_WHEN = (
    "phase",
    "prepares",
    "at_once",
    "on_failure",
    "save",
    "for_each",
    "on",
    "when",
    "creates",
    "unless",
)


def check_step(reader: Reader, draft: Draft, role: Role) -> None:
    """Check one step against the rules of its part of the runbook."""
    _misplaced(reader, draft, role)
    _reading(reader, draft, role)
    _where(reader, draft)
    _saving(reader, draft)
    step = draft.step
    if step.at_once != 1 and (step.effect != "read" or step.for_each is None):
        told = "`at_once` is for a read that is repeated (`for_each`)"
        reader.error(draft.at("at_once"), told, "take it out")
    if step.prepares and step.effect == "read":
        reader.error(draft.at("prepares"), "a read prepares nothing", "take it out")
    if step.on_unknown == "retry" and not step.repeatable:
        reader.error(
            draft.at("on_unknown"),
            "`on_unknown: retry` repeats what may have been done",
            "add repeatable: true if that is harmless",
        )


def _misplaced(reader: Reader, draft: Draft, role: Role) -> None:
    misplaced = {
        "undo": _NOT_IN_UNDO,
        "always": _NOT_IN_ALWAYS,
        "done_when": _NOT_IN_DONE_WHEN,
    }.get(role, ())
    for key in misplaced:
        if key in draft.node.entries and key != "undo":
            reader.error(draft.at(key), f"`{key}` means nothing in `{role}`", "take it out")


def _reading(reader: Reader, draft: Draft, role: Role) -> None:
    """What must be a read: preflight, done_when, and everything that is tried until it succeeds."""
    step = draft.step
    if step.include is not None and role in ("undo", "done_when"):
        told = f"`{role}` can't include a runbook"
        reader.error(draft.node, told, "write its steps here, or let a script do it")
        return
    if step.include is not None:
        changing = next(_changes(step.include), None) if step.phase == "preflight" else None
        if changing is not None:
            told = f"preflight only reads; {step.include.name} changes, at {changing.place}"
            reader.error(draft.at("phase"), told, "include it in the main phase")
        return
    if step.effect == "read":
        return
    said = "effect" in draft.node.entries
    cure = "take `effect: change` out" if said else "add effect: read, if it only reads"
    if role == "done_when":
        reader.error(draft.node, f"`done_when` must be a read; this `{step.kind}` changes", cure)
    elif step.phase == "preflight":
        at = draft.at("phase")
        reader.error(at, f"preflight only reads; this `{step.kind}` changes", cure)
    if step.until is not None:
        at = draft.at("until")
        reader.error(at, "`until` repeats reads only", f"{cure}; or write retry")


def _changes(runbook: Runbook) -> Iterator[Step]:
    """Yield the steps of a runbook, those of its includes too, that change something."""
    for step in runbook.steps:
        if step.include is not None:
            yield from _changes(step.include)
        elif step.effect == "change":
            yield step


def _where(reader: Reader, draft: Draft) -> None:
    entry = draft.node.entries.get("on")
    if entry is None or not isinstance(entry[1], Table):
        return
    on = entry[1].entries
    if on.keys() - {"group", "scope", "per"}:
        return  # reported as unknown keys
    if "group" not in on and "scope" not in on:
        reader.error(entry[0], "`on` says not where", "add group: NAME, or write on: each")
    elif "group" not in on and "per" in on:
        reader.error(on["per"][0], "`per` goes with `group`", "add group: NAME")
    elif "group" in on and "scope" in on:
        reader.error(on["scope"][0], "`group` and `scope` together", "write one of them")


def _saving(reader: Reader, draft: Draft) -> None:
    step = draft.step
    if step.save is None:
        return
    if step.save.name in RESERVED:
        at = draft.at("save")
        told = f"`{step.save.name}` has a meaning of its own in templates"
        reader.error(at, told, f"say {step.save.name}_value")
    if step.for_each is not None:
        reader.warn(draft.at("save"), "with `for_each` only the last value is kept")


def check_list(reader: Reader, drafts: Sequence[Draft], *, undoing: bool) -> None:
    """Check what shows only over a list of steps: names said twice, changes without an undo."""
    seen: dict[str, int] = {}
    for draft in drafts:
        entry = draft.node.entries.get("name")
        if entry and isinstance(entry[1], Scalar):
            name = entry[1].text
            if name in seen:
                told = f"two steps are called {name!r} (the other on line {seen[name]})"
                reader.warn(entry[1], told, "give them different names")
            seen.setdefault(name, entry[1].line)
        if lacks_undo(draft) and (undoing or draft.step.on_failure == "undo"):
            reader.warn(
                draft.node,
                f"{draft.step.name!r} changes something that a failed run won't take back",
                "add undo, or undo: [] if there is nothing to take back",
            )


def lacks_undo(draft: Draft) -> bool:
    step = draft.step
    return (
        step.effect == "change"
        and step.kind not in SELF_UNDOING
        and step.include is None
        and "undo" not in draft.node.entries
        and step.phase == "main"
    )


def check_with(reader: Reader, draft: Draft) -> None:
    """Check the values that an include hands over against the parameters that they are for."""
    step = draft.step
    if step.include is None:
        return
    value = draft.node.entries[step.kind][1]
    given = value.entries.get("with") if isinstance(value, Table) else None
    entries = given[1].entries if given and isinstance(given[1], Table) else {}
    params = {param.name: param for param in step.include.params}
    if given and not isinstance(given[1], Table):
        reader.error(given[1], "`with` must be a mapping", "{NAME: VALUE}")
    for name, (key, node) in entries.items():
        if name not in params:
            told = f"{step.include.name} has no parameter {name!r}"
            reader.error(key, told, advice(name, params))
        else:
            _given(reader, params[name], node)
    for param in _missing(step, entries):
        told = f"{step.include.name} needs the parameter `{param.name}`"
        reader.error(draft.at(step.kind), told, f"add with: {{{param.name}: …}}")


def _missing(step: Step, entries: dict[str, tuple[Scalar, Node]]) -> Iterator[Param]:
    assert step.include is not None
    for param in step.include.params:
        if param.required and param.name not in entries:
            yield param


def _given(reader: Reader, param: Param, node: Node) -> None:
    if isinstance(node, Scalar) and is_template(node.text):
        return
    if param.type == "secret":
        reader.error(node, "a secret can't stand in a runbook", "hand on a secret: '{{ NAME }}'")
        return
    try:
        value_of(param, scalar_text(node))
    except WrongValueError as error:
        reader.error(node, f"`{param.name}`: {error.what}", error.write)
