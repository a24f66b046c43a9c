"""What a template asks for and nobody has: named as it is written, with what there is instead."""

from collections.abc import Mapping, Sequence

import jinja2
from jinja2 import nodes

from opskit.render.views import HostView

_MOST = 12
"""So many names are told of; of more only the nearest."""
_OF_HOST = ("name", "address", "vars", "groups")


class Gap(str):
    """What Jinja says of a value that is not there; `owner` was asked for `name`."""

    __slots__ = ("owner", "name")
    owner: object
    name: object


class Missing(jinja2.StrictUndefined):
    """A value that is not there: whatever is done with it says so."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        gap = Gap(super()._undefined_message)
        gap.owner, gap.name = self._undefined_obj, self._undefined_name
        return gap

    def gap(self) -> str:
        return self._undefined_message


def worded(said: str, tree: nodes.Template, values: Mapping[str, object]) -> str:
    """Say what is not there by the expression in a template that asks for it.

    `said`: what was raised; what is no gap, or one of a name that nobody knows, is left as it is.
    """
    if not isinstance(said, Gap) or said.owner is jinja2.utils.missing:
        return str(said)
    asking: list[nodes.Getattr | nodes.Getitem] = [
        *tree.find_all(nodes.Getattr),
        *tree.find_all(nodes.Getitem),
    ]
    found = [node for node in asking if _asks_for(node, said.name)]
    exact = (one for one in found if _value(one.node, values) is said.owner)
    node = next(exact, found[0] if found else None)
    if node is None:
        what, whole = f"`{said.name}`", "what it is looked for in"
    else:
        what, whole = f"`{_written(node)}`", f"`{_written(node.node)}`"
    near = _nearest(said)
    return f"{what} is not there: {whole} {_has(said.owner)}" + (f" → {near}" if near else "")


def _asks_for(node: nodes.Getattr | nodes.Getitem, name: object) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr == name
    return not isinstance(node.arg, nodes.Const) or _constant(node.arg) == name


def _constant(node: nodes.Node) -> object:
    return node.value if isinstance(node, nodes.Const) else None


def _written(node: nodes.Node) -> str:
    """Write an expression as its author has."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Getattr():
            return f"{_written(node.node)}.{node.attr}"
        case nodes.Getitem(arg=nodes.Const()):
            return f"{_written(node.node)}[{_constant(node.arg)!r}]"
        case nodes.Getitem():
            return f"{_written(node.node)}[{_written(node.arg)}]"
        case _:
            return "(…)"


def _value(node: nodes.Node, values: Mapping[str, object]) -> object:
    """Return what an expression of names alone comes to; None where it is another one."""
    match node:
        case nodes.Name():
            return values.get(node.name)
        case nodes.Getattr():
            return _part(_value(node.node, values), node.attr)
        case nodes.Getitem():
            return _part(_value(node.node, values), _constant(node.arg))
        case _:
            return None


def _part(owner: object, name: object) -> object:
    if isinstance(owner, Mapping):
        return owner.get(name)
    if isinstance(owner, HostView):
        return getattr(owner, str(name), None)
    if isinstance(owner, (list, tuple)) and isinstance(name, int):
        return owner[name] if -len(owner) <= name < len(owner) else None
    return None


def _names(owner: object) -> Sequence[str]:
    if isinstance(owner, Mapping):
        return [str(key) for key in owner]
    return _OF_HOST if isinstance(owner, HostView) else ()


def _has(owner: object) -> str:
    """Say what an object has that could have been meant."""
    names = _names(owner)
    match owner:
        case HostView():
            return f"is the host {owner}, which has {', '.join(names)}"
        case Mapping() if len(names) > _MOST:
            return f"has {len(names)} other names"
        case Mapping():
            return f"has {', '.join(names)}" if names else "is empty"
        case list() | tuple():
            return f"is a list of {len(owner)}"
        case str():
            return "is a text"
        case None:
            return "is null"
        case _:
            return f"is a {type(owner).__name__}"


def _nearest(gap: Gap) -> str:
    """Return the name that was probably meant."""
    from difflib import get_close_matches

    folded = {name.lower(): name for name in _names(gap.owner)}
    near = get_close_matches(str(gap.name).lower(), folded, n=1)
    return folded[near[0]] if near else ""
