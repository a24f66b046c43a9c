"""What the kinds that steer a balancer share: what its entry in the inventory says, for sh."""

import functools
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources

from opskit.errors import InputError
from opskit.model.runbook import Step
from opskit.model.text import Text
from opskit.steps.base import Key, Value, a_number, a_word

DEFAULTS = {
    "test": "nginx -t",
    "reload": "nginx -s reload",
    "pid": "/run/nginx.pid",
    "error_log": "/var/log/nginx/error.log",
}
"""What holds for an nginx as distributions package it; the inventory's entry may say otherwise."""


HAPROXY_TEST = "haproxy -c -f /etc/haproxy/haproxy.cfg"


def where_haproxy_is(entry: Mapping[str, Value], pool: str, step: Step) -> dict[str, str]:
    """Return the socket and the backend, and how the configuration is checked."""
    found = {
        "socket": said(entry, "socket", pool, step),
        "backend": said(entry, "backend", pool, step) or pool,
        "state_file": said(entry, "state_file", pool, step),
        "test": said(entry, "test", pool, step) or HAPROXY_TEST,
        "reloads_awk": data("reloads.awk"),
    }
    if not found["socket"]:
        raise InputError(
            f"balancers.{pool} of the inventory has no socket",
            where=str(step.place),
            hint="name HAProxy's socket, such as /run/haproxy/admin.sock; its level must be admin",
        )
    if not found["state_file"] and "state_file" not in entry:
        raise InputError(
            f"balancers.{pool} of the inventory has no state_file",
            where=str(step.place),
            hint="name HAProxy's server-state-file, or write state_file: null if a reload may undo "
            "the shares",
        )
    if not re.fullmatch(r"[0-9A-Za-z_.:-]+", found["backend"]):
        raise InputError(
            f"{found['backend'][:80]!r} is no name of a backend",
            where=str(step.place),
            hint="one backend is steered, by its name",
        )
    return found


def where_nginx_is(entry: Mapping[str, Value], pool: str, step: Step) -> dict[str, str]:
    """Return the file that is changed, and how nginx is had to read it."""
    kind = said(entry, "type", pool, step) or "nginx"
    if kind != "nginx":
        raise InputError(
            f"balancer {pool} is of type {kind[:40]!r}, which opskit can't steer",
            where=str(step.place),
            hint=f"of the types that the inventory may name, only nginx has {step.kind} steps",
        )
    found = {key: said(entry, key, pool, step) or DEFAULTS[key] for key in DEFAULTS}
    file = said(entry, "file", pool, step)
    if not file:
        raise InputError(
            f"balancers.{pool} of the inventory has no file",
            where=str(step.place),
            hint="name the file in which nginx has "
            + ("the shares" if step.kind == "colours" else "the pool's server lines"),
        )
    return {**found, "file": file}


def said(entry: Mapping[str, Value], key: str, pool: str, step: Step) -> str:
    """Return what the inventory's entry says under a key, "" when it says nothing."""
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, Text):
        raise InputError(f"balancers.{pool}.{key} is not a text", where=str(step.place))
    return a_word(value, step, "pool")


def pages(args: Mapping[str, Value], entry: Mapping[str, Value], step: Step) -> dict[str, str]:
    """Return the page on which servers say how they are ("": none is known), and how to ask."""
    page = entry["health"] if "health" in entry else args.get("page")
    site = args.get("site")
    found = {
        "health": a_word(page, step, "pool") if page is not None else "",
        "site": a_word(site, step, "pool") if site is not None else "",
    }
    for key, written in found.items():
        if not re.fullmatch(_IN_A_REQUEST[key], written):
            raise InputError(
                f"members of pool {a_word(args['pool'], step, 'pool')} can't be asked for their "
                f"health: {key} is {written[:80]!r}",
                where=str(step.place),
                hint="a page is a path such as /health/, a site a host name",
            )
    return {**found, "scheme": said(entry, "scheme", a_word(args["pool"], step, "pool"), step)}


_IN_A_REQUEST = {"health": r"(/[!-~]*)?", "site": r"[0-9A-Za-z.:_\[\]-]*"}
"""What may stand in the two lines of a request."""


def limits(keys: Iterable[Key], args: Mapping[str, Value], step: Step) -> dict[str, str]:
    """Return the numbers in whole seconds, as sh counts."""
    defaults = {key.name: key.default for key in keys if key.type in ("duration", "int")}
    return {
        name: str(math.ceil(a_number(args.get(name, default), step, name)))  # type: ignore[arg-type]
        for name, default in defaults.items()
    }


def sudo_of(own: Value, general: Value, step: Step) -> str | None:
    """The step's `sudo`, otherwise that of the balancer's entry (true: root)."""
    if isinstance(own, Text):
        return a_word(own, step, "sudo")
    if general is True:
        return "root"
    return a_word(general, step, "sudo") if isinstance(general, Text) else None


@functools.cache
def data(name: str) -> str:
    """Return a program that lies beside this module."""
    return resources.files("opskit.steps").joinpath(name).read_text(encoding="utf-8")
