"""`traffic`: take a host out of a balancer's pool, put it back, or look at the pool.

Plan adds to the arguments what the inventory says: `balancer`, the target's entry for the pool, and
`addresses`, host name → address; `members`, the names of the pool's hosts, where it knows them;
`about`, the hosts of the run; `page` and `site`, where members say how they are.
The work is opskit's own shell text: pool.sh on nginx.sh, or backend.sh on socket.sh for HAProxy;
they say how they prove what they do.
"""

import ipaddress
import re
import shlex
from collections.abc import Iterable, Mapping

from opskit.errors import InputError
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import text
from opskit.model.work import Command
from opskit.steps.balancer import (
    data,
    limits,
    pages,
    said,
    sudo_of,
    where_haproxy_is,
    where_nginx_is,
)
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    mapping,
    one_of,
    problem,
    refuse,
)

HEALTHY = ("all", "others", "none")
SUMMARY = (
    "Take a host out of a balancer's pool, put it back, ask whether the pool can spare it, or "
    "check that all of it is in service."
)
KEYS = (
    Key("drain", "text", help="host to take out; waits until the balancer has no connection to it"),
    Key("ready", "text", help="host to put back"),
    Key(
        "check",
        "bool",
        default=False,
        help="fail unless every member is in service and the balancer runs what its configuration "
        "says; a read (write `effect: read`)",
    ),
    Key(
        "spare",
        "text",
        help="host that is to be taken out later: fail unless `drain` could now; a read (write "
        "`effect: read`)",
    ),
    Key("pool", "text", required=True, help="pool, by its name under `balancers` in the inventory"),
    Key("drain_timeout", "duration", default=30.0, help="fail when connections last longer"),
    Key("reload_timeout", "duration", default=10.0, help="how soon nginx must run new workers"),
    Key(
        "up_timeout",
        "duration",
        default=30.0,
        help="HAProxy: how soon its checks must say that a host that is put back is up",
    ),
    Key("lock_timeout", "duration", default=30.0, help="how long to wait for another change"),
    Key(
        "min_up",
        "text",
        default="1",
        help="servers that must stay (check: be) in service: a number, or a percentage of all that "
        "the pool has, rounded up",
    ),
    Key(
        "healthy",
        "enum",
        choices=HEALTHY,
        default="all",
        help="who must answer as healthy; drain and spare: `min_up` of the others, unless the host "
        "is not healthy itself; check: `all`, or the `others`, which the run is not about; `none`",
    ),
)
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "each"

ACTIONS = ("drain", "ready", "check", "spare")
LOOKS = ("check", "spare")


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "secrets", "creates", "unless")
    asked = [key for key in ACTIONS if step.args.get(key) not in (None, False)]
    if len(asked) != 1:
        yield problem(
            step,
            asked[1] if asked else "traffic",
            f"one of drain, ready, check and spare is needed, not {' and '.join(asked) or 'none'}",
            "write for example {drain: '{{ host }}', pool: web}",
        )
    elif asked[0] in LOOKS and step.effect != "read":
        yield problem(step, asked[0], "looking at a pool changes nothing", "add effect: read")
    elif asked[0] not in LOOKS and step.effect == "read":
        yield problem(step, "effect", f"{asked[0]} changes the balancer", "take `effect: read` out")


def work(args: Mapping[str, Value], step: Step) -> Command:
    entry = mapping(args.get("balancer"))
    pool = a_word(args["pool"], step, "pool")
    action, name = _asked(args, step)
    steering = _haproxy if said(entry, "type", pool, step) == "haproxy" else _nginx
    files, words = steering(entry, pool, step)
    words |= {"action": action, "pool": pool, "members_awk": data("members.awk")}
    words |= {**limits(KEYS, args, step), "min_up": _floor(args, step)}
    words |= _whom(args, entry, action, name, step) | _health(args, entry, action, step)
    assignments = "".join(f"{key}={shlex.quote(value)}\n" for key, value in words.items())
    return Command(
        text=text(assignments + "".join(map(data, ("common.sh", "members.sh", *files)))),
        sudo=sudo_of(args.get("sudo"), entry.get("sudo"), step),
        summary=f"{action} {name} in pool {pool}" if name else f"check pool {pool}",
    )


def _nginx(
    entry: Mapping[str, Value], pool: str, step: Step
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the texts that steer nginx, and what they must be told."""
    words = where_nginx_is(entry, pool, step)
    words["upstream"] = said(entry, "upstream", pool, step)
    words["nginx_awk"] = data("words.awk") + data("nginx.awk")
    return ("sockets.sh", "nginx.sh", "pool.sh"), words


def _haproxy(
    entry: Mapping[str, Value], pool: str, step: Step
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the texts that steer HAProxy, and what they must be told."""
    words = {**where_haproxy_is(entry, pool, step), "haproxy_awk": data("haproxy.awk")}
    words["nginx_awk"] = data("words.awk") + "function directive(how) {}\n"
    return ("sockets.sh", "socket.sh", "whole.sh", "backend.sh"), words


def _asked(args: Mapping[str, Value], step: Step) -> tuple[str, str]:
    """Return what to do, and with which host ("" for the whole pool)."""
    if a_flag(args.get("check", False), step, "check"):
        return "check", ""
    action = next(one for one in ("drain", "spare", "ready") if args.get(one) is not None)
    return action, a_word(args[action], step, action)


def _whom(
    args: Mapping[str, Value], entry: Mapping[str, Value], action: str, name: str, step: Step
) -> dict[str, str]:
    """Return the names and addresses of the members that the step is about."""
    addresses = mapping(args.get("addresses"))
    port = int(a_number(entry.get("port", 80), step, "pool"))

    def where(host: str) -> str:
        if host not in addresses:
            raise InputError(
                f"{host[:80]!r} is no host of the inventory",
                where=str(step.places.get(f"traffic.{action}", step.place)),
                hint="write for example '{{ host }}'",
            )
        return with_port(a_word(addresses[host], step, action), port)

    hosts = _members(args, entry, step) if action == "check" else ()
    return {
        "name": name,
        "member": where(name) if name else "",
        "members": " ".join(f"{host}={where(host)}" for host in hosts),
    }


def _health(
    args: Mapping[str, Value], entry: Mapping[str, Value], action: str, step: Step
) -> dict[str, str]:
    """Return where members say how they are ("": nobody is asked), and who of them is not asked."""
    who = one_of(args.get("healthy"), step, "healthy", HEALTHY)
    found = {**pages(args, entry, step), "besides": "", "healthy": who}
    if who == "none":
        found["health"] = ""
    if action == "check" and who == "others":
        about = args.get("about")
        hosts = about if isinstance(about, tuple) else ()
        found["besides"] = " ".join(a_word(one, step, "pool") for one in hosts)
    return found


def _floor(args: Mapping[str, Value], step: Step) -> str:
    """Return how many servers must stay, as a number or a percentage."""
    value = args.get("min_up", 1)
    word = f"{value:g}" if isinstance(value, (int, float)) else a_word(value, step, "min_up")
    if not re.fullmatch(r"[1-9][0-9]{0,3}|([1-9][0-9]?|100)%", word):
        raise InputError(
            f"`min_up` came to {word[:40]!r}",
            where=str(step.places.get("traffic.min_up", step.place)),
            hint="write a number from 1 on, or a percentage such as 50%",
        )
    return word


def with_port(address: str, port: int) -> str:
    """Write an address and a port as nginx does: an IPv6 address stands in brackets."""
    try:
        ip = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return f"{address}:{port}"
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def _members(args: Mapping[str, Value], entry: Mapping[str, Value], step: Step) -> tuple[str, ...]:
    """Return the pool's hosts by name; none when only a group's name is known."""
    given = args.get("members", entry.get("members"))
    if isinstance(given, tuple):
        return tuple(a_word(one, step, "pool") for one in given)
    return ()
