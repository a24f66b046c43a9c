"""Host expressions: `web`, `web:db`, `web:!web3`, `web:&eu`, `web*`.

Terms stand between colons (or commas). Whatever their order, the plain ones are united first (all
hosts when there is none), then `&` keeps only what is in its term too, then `!` takes away: a host
that is excluded stays excluded. The result has the order of the inventory.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from opskit.errors import InputError
from opskit.load.suggest import nearest
from opskit.model.inventory import Inventory

_TERM = re.compile(r"([!&]?)([A-Za-z0-9*?\[][A-Za-z0-9._*?\[\]-]*)")
_GLOB = re.compile(r"[*?\[]")


SHOWN = 10
"""So many names are listed in a hint."""


class ExpressionError(ValueError):
    """A host expression can't be read, or names what is not there."""

    def __init__(self, what: str, write: str) -> None:
        super().__init__(what)
        self.what = what
        self.write = write


def select(inventory: Inventory, expression: str) -> tuple[str, ...]:
    """Return the hosts that an expression names, in the order of the inventory.

    Raises InputError for what can't be read, for unknown names and when no host is left.
    """
    try:
        found = resolve(tuple(inventory.hosts), inventory.groups, expression)
    except ExpressionError as error:
        hint = f"{error.write} ({_there(inventory)})"
        raise InputError(error.what, where=inventory.file, hint=hint) from error
    if not found:
        raise InputError(
            f"{expression!r} selects no host", where=inventory.file, hint=_there(inventory)
        )
    return found


def _there(inventory: Inventory) -> str:
    """Say which hosts there are; of many the first."""
    names = list(inventory.hosts)
    return f"hosts: {', '.join(names[:SHOWN])}{' …' if len(names) > SHOWN else ''}"


def resolve(
    hosts: Sequence[str], groups: Mapping[str, Iterable[str]], expression: str
) -> tuple[str, ...]:
    """Return the hosts that an expression names, possibly none; raises ExpressionError."""
    united: set[str] = set()
    kept = set(hosts)
    gone: set[str] = set()
    terms = [_term(term) for term in re.split(r"[:,]", expression)]
    for sign, name in terms:
        match = _named(hosts, groups, name)
        if sign == "!":
            gone |= match
        elif sign == "&":
            kept &= match
        else:
            united |= match
    if all(sign for sign, _ in terms):
        united = set(hosts)
    named = united & kept - gone
    return tuple(host for host in hosts if host in named)


def check_terms(expression: str) -> None:
    """Check that an expression can be read; raises ExpressionError."""
    for term in re.split(r"[:,]", expression):
        _term(term)


def _term(written: str) -> tuple[str, str]:
    match = _TERM.fullmatch(written.strip())
    if match is None:
        told = f"{written.strip()[:80]!r} is no term of a host expression"
        raise ExpressionError(told, "a host, a group or all, such as web, web:!web3 or web:&eu")
    return match[1], match[2]


def _named(hosts: Sequence[str], groups: Mapping[str, Iterable[str]], name: str) -> set[str]:
    if name == "all":
        return set(hosts)
    if name in groups:
        return set(groups[name])
    if name in hosts:
        return {name}
    found = {host for host in hosts if fnmatchcase(host, name)} if _GLOB.search(name) else set()
    if not found:
        near = nearest(name, [*groups, *hosts])
        what = f"no host matches {name!r}" if _GLOB.search(name) else f"no host or group {name!r}"
        raise ExpressionError(what, near or f"one of the groups {', '.join(groups) or 'all'}")
    return found
