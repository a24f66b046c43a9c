"""What an inventory program prints for `--list`: groups, and the vars of hosts under `_meta`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from opskit.load.ansible.gathered import Gathered, Var
from opskit.load.ansible.program import Program
from opskit.load.ansible.values import ValueProblemError, value_of
from opskit.model.problem import Place

_PARTS = ("hosts", "vars", "children")


def asked(program: Program, into: Gathered) -> str | None:
    """Ask a program for its inventory; return it as one text, with the vars of all hosts in it.

    One that does not give these with `--list` is asked for each host; it is the old way.
    """
    printed = program.output("--list")
    found = _parsed(printed, program.place, into) if printed is not None else None
    if printed is None or found is None or "_meta" in found:
        return printed if found is not None else None
    scratch = Gathered(str(program.path), [])
    _groups(found, scratch, program.place)
    hostvars: dict[str, Any] = {}
    for name in scratch.hosts:
        said = program.output("--host", name)
        if said is None:
            return None
        own = _parsed(said, program.place, into) if said.strip() else {}
        if own is None:
            return None
        hostvars[name] = own
    return json.dumps({**found, "_meta": {"hostvars": hostvars}}, ensure_ascii=False, indent=1)


def read_listed(path: Path, source: str, into: Gathered) -> None:
    """Read what was printed; every problem is collected."""
    place = Place(file=f"{path} --list")
    found = _parsed(source, place, into)
    if found is None:
        return
    meta = found.get("_meta", {})
    hostvars = meta.get("hostvars", {}) if isinstance(meta, Mapping) else None
    if not isinstance(hostvars, Mapping):
        into.error(place, "`_meta.hostvars` is no mapping", "print {HOST: {NAME: VALUE}}")
        hostvars = {}
    groups = {name: data for name, data in found.items() if name != "_meta"}
    for name in _groups(groups, into, place):
        own = hostvars.get(name, {})
        if not isinstance(own, Mapping):
            into.error(place, f"the vars of {name[:80]!r} are no mapping", "print {NAME: VALUE}")
        else:
            _set(into, name, own, place)


def _parsed(text: str, place: Place, into: Gathered) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        into.error(place, f"what it printed is not JSON{at}", "print nothing else on stdout")
        return None
    if not isinstance(found, dict):
        into.error(place, "what it printed is no mapping", 'print {"GROUP": {"hosts": […]}}')
        return None
    return cast(Mapping[str, Any], found)


def _groups(found: Mapping[str, Any], into: Gathered, place: Place) -> list[str]:
    """Read groups; return the hosts that are named in them."""
    named: dict[str, None] = {}
    for name, data in found.items():
        if not name:
            into.error(place, "a group without a name", "name it")
            continue
        into.group(name, place)
        if not isinstance(data, Mapping):
            data = {"hosts": data}
        elif not data.keys() & set(_PARTS):
            data = {"hosts": [name], "vars": data}
        named |= dict.fromkeys(_hosts(name, data.get("hosts", []), into, place))
        own = data.get("vars", {})
        if isinstance(own, Mapping):
            _set(into, name, own, place)
        else:
            into.error(
                place, f"the vars of the group {name[:80]!r} are no mapping", "{NAME: VALUE}"
            )
        _children(name, data.get("children", []), into, place)
    return [*named]


def _hosts(group: str, hosts: object, into: Gathered, place: Place) -> list[str]:
    names = hosts if isinstance(hosts, list) else None
    if names is None or not all(isinstance(name, str) and name for name in names):
        into.error(place, f"the hosts of {group[:80]!r} are no list of names", '["NAME"]')
        return []
    return [name for name in names if into.named(name, group, place)]


def _children(group: str, children: object, into: Gathered, place: Place) -> None:
    names = children if isinstance(children, list) else None
    if names is None or not all(isinstance(name, str) and name for name in names):
        into.error(place, f"the children of {group[:80]!r} are no list of names", '["NAME"]')
        return
    for name in names:
        into.group(name, place)
        into.child(group, name, place)


def _set(into: Gathered, entity: str, found: Mapping[str, Any], place: Place) -> None:
    for name, value in found.items():
        try:
            data, unknown = value_of(value)
        except ValueProblemError as error:
            told = f"the value of `{name[:60]}` of {entity[:80]} {error}"
            into.error(place, told, "print a simpler one")
        else:
            into.set(entity, name, Var(data, place, unknown))
