"""An included runbook as its step wants it: typed values, secrets under the outer names."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from opskit.load.params import WrongValueError, value_of
from opskit.load.yaml import Node, Scalar, Table, plain
from opskit.model.runbook import Param, Runbook, Step
from opskit.model.value import Json
from opskit.steps.base import is_template

_SOLE = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")


def hand_over(include: Runbook, node: Node | None, folder: Path) -> tuple[Runbook, dict[str, Json]]:
    """Return an include that uses the outer names of its secrets, and the values for the rest.

    `node` is what stands under `with`; values that don't fit are left out (load.rules tells).
    Relative files are beside the runbook that hands them over, in `folder`.
    """
    entries = node.entries if isinstance(node, Table) else {}
    params = {param.name: param for param in include.params}
    outer: dict[str, str] = {}
    values: dict[str, Json] = {}
    for name, (_, value) in entries.items():
        if name not in params:
            continue
        if params[name].type != "secret":
            _value(values, params[name], value, folder)
        elif isinstance(value, Scalar) and (sole := _SOLE.fullmatch(value.text)):
            outer[name] = sole[1]
    return (_renamed(include, outer) if outer else include), values


def _value(values: dict[str, Json], param: Param, node: Node, folder: Path) -> None:
    if not isinstance(node, Scalar) or is_template(node.text):
        values[param.name] = plain(node)
        return
    try:
        value = value_of(param, node.text)
    except WrongValueError:
        return
    if param.type == "file":
        value = str((folder / Path(str(value)).expanduser()).absolute())
    values[param.name] = value


def _renamed(runbook: Runbook, outer: Mapping[str, str]) -> Runbook:
    """Use the outer names wherever a step (of an include inside, too) takes one of its secrets."""
    return replace(
        runbook,
        steps=tuple(_step(step, outer) for step in runbook.steps),
        always=tuple(_step(step, outer) for step in runbook.always),
    )


def _step(step: Step, outer: Mapping[str, str]) -> Step:
    sole = _SOLE.fullmatch(step.stdin) if step.stdin else None
    return replace(
        step,
        secrets={variable: outer.get(name, name) for variable, name in step.secrets.items()},
        stdin=f"{{{{ {outer[sole[1]]} }}}}" if sole and sole[1] in outer else step.stdin,
        undo=tuple(_step(undo, outer) for undo in step.undo),
        done_when=_step(step.done_when, outer) if step.done_when else None,
        include=_renamed(step.include, outer) if step.include else None,
    )
