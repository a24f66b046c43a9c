"""What is switched on at the services of hosts, by host or by group (a colour, or all `web`)."""

import json
import os
from collections.abc import Iterable, Mapping

from opskit.errors import InputError
from opskit.lab import ground, texts
from opskit.lab.layout import Host, Layout, Role

FILE = f"{texts.SERVICE_ROOT.lstrip('/')}/shared/switches.json"
Value = float | bool | str | Mapping[str, str]
EXAMPLES = {
    "unhealthy": "true, or quiet",
    "slow_ms": "500",
    "error_share": "0.1",
    "socket_seconds": "5",
    "checks": '{"cache": "degraded"}',
}


def parse(words: Iterable[str]) -> dict[str, Value]:
    """Read words of the form NAME=VALUE; raises InputError for what is no switch."""
    found: dict[str, Value] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in EXAMPLES or not text:
            raise InputError(
                f"no switch: {word!r}",
                hint="write " + "; ".join(f"{n}={example}" for n, example in EXAMPLES.items()),
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if not _fits(name, value):
            raise InputError(f"{name} can't be {text}", hint=f"write {name}={EXAMPLES[name]}")
        found[name] = value
    return found


def _fits(name: str, value: object) -> bool:
    match name:
        case "unhealthy":
            return value in (True, False, "quiet")
        case "checks":
            return isinstance(value, dict)
        case _:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and 0 <= float(str(value)) <= (1 if name == "error_share" else 60_000)


def hosts(layout: Layout, name: str) -> tuple[Host, ...]:
    """The web hosts that a name stands for."""
    groups = {"web": layout.of(Role.WEB), **layout.colours}
    if name in groups:
        return groups[name]
    host = layout.host(name)
    if host.role is not Role.WEB:
        raise InputError(f"{name} has no service", hint=f"name one of {', '.join(groups)}")
    return (host,)


def put(layout: Layout, name: str, values: Mapping[str, Value]) -> None:
    """Switch exactly these on, and all else off; a request sees the old ones or the new ones."""
    for host in hosts(layout, name):
        file = ground.of(layout).files(layout, host) / FILE
        new = file.with_suffix(".new")
        new.write_text(json.dumps(values) + "\n", encoding="utf-8")
        owner = file.parent.stat()
        os.chown(new, owner.st_uid, owner.st_gid)
        new.replace(file)
