"""`gate`: watch the new side of a pool beside the old one, and go on only if it is as good.

Plan adds to the arguments what the inventory says, as for `traffic`, and `reached`, the hosts of
the run's batches up to this one. The work is opskit's own shell text (gate.sh), which counts
windows on the balancer itself: like a change it outlives the connection, and is found again.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from opskit.errors import InputError
from opskit.model.frozen import frozen
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import text
from opskit.model.value import Json
from opskit.model.work import Command
from opskit.steps.balancer import data, pages, said, sudo_of, where_haproxy_is, where_nginx_is
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_number,
    a_word,
    mapping,
    problem,
    refuse,
    texts,
)
from opskit.steps.traffic import with_port
from opskit.steps.units import duration, seconds_of

SUMMARY = (
    "Compare the new side of a pool with the old one over the same time, by errors, latency and "
    "health: it passes, fails, or is inconclusive and waits for a person."
)
KEYS = (
    Key("pool", "text", required=True, help="pool, by its name under `balancers` in the inventory"),
    Key(
        "new",
        "text",
        help="colour, or hosts apart by blanks, that is the new side; without it the hosts of the "
        "run's batches up to this one",
    ),
    Key(
        "old",
        "text",
        help="the other side; without it the other colour, or the pool's other members. `none`: "
        "there is none any more, and only the limits hold",
    ),
    Key("for", "duration", default=60.0, help="how long to watch; a failure ends it before"),
    Key("window", "duration", default=20.0, help="how long a window is, if it has its sample"),
    Key("windows", "int", default=3, help="so many bad windows in a row fail"),
    Key("sample", "int", default=200, help="requests of the new side that a window needs"),
    Key("old_sample", "int", default=50, help="requests of the old side that a window needs"),
    Key("max_errors", "number", default=0.01, help="share of errors (5xx) that is no fault"),
    Key("error_ratio", "number", default=2.0, help="times the old side's share that are no fault"),
    Key("hard_limit", "number", default=0.2, help="a share of errors above this fails at once"),
    Key(
        "p95_ratio",
        "number",
        default=1.5,
        help="times the old side's p95; 0: never mind. HAProxy's own counters tell none: see "
        "`latency` of the balancer",
    ),
    Key("p95_least", "duration", default=0.01, help="a p95 up to this is never too slow"),
)
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "each"
NOT_HERE = ("stdin", "cwd", "secrets", "creates", "unless", "until", "retry", "undo", "done_when")

_NUMBERS = {key.name: key for key in KEYS if key.type in ("duration", "int", "number")}
_FIELDS = {"side": "1", "status": "2", "time": "3", "unit": "s"}
_SPARE = 30.0
"""Seconds that a gate may take beyond its own, before its step is out of time."""


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, *NOT_HERE)
    if step.effect == "read":
        yield problem(
            step,
            "effect",
            "a gate is carried like a change, so that it outlives the connection",
            "take `effect: read` out",
        )
    values = {name: _literal(step.args.get(name, key.default)) for name, key in _NUMBERS.items()}
    for name, what, write in _faults(values, step):
        yield problem(step, name, what, write)


def _literal(written: Json) -> float | None:
    """Return a number that is written as one; None for a template, which only plan can judge."""
    if isinstance(written, (int, float)):
        return float(written)
    return seconds_of(written) if isinstance(written, str) else None


def _faults(values: Mapping[str, float | None], step: Step) -> Iterator[tuple[str, str, str]]:
    """Yield what makes no sense among the numbers: key, what is wrong, what to write."""
    yield from _amounts(values, step)
    yield from _limits(values)


def _of(values: Mapping[str, float | None]) -> Callable[[str, float], float]:
    """Return what reads a number, or takes another one where it is not known yet."""

    def of(name: str, default: float) -> float:
        value = values[name]
        return default if value is None else value

    return of


def _amounts(values: Mapping[str, float | None], step: Step) -> Iterator[tuple[str, str, str]]:
    of = _of(values)
    for name in ("windows", "sample", "old_sample"):
        if of(name, 1.0) < 1:
            yield name, f"{name} is {of(name, 1.0):g}: nothing seen would be enough", "at least 1"
    if of("window", 1.0) < 1:
        yield "window", f"a window of {duration(of('window', 1.0))} is too short", "at least 1s"
    if of("for", 1e9) < of("window", 1.0):
        yield "for", "it ends before its first window does", "at least as long as `window`"
    limit = step.timeout if isinstance(step.timeout, float) else 1e12
    if (needs := _longest(values)) > limit:
        yield "timeout", f"the gate may take {duration(needs)}", f"timeout: {duration(needs)}"


def _limits(values: Mapping[str, float | None]) -> Iterator[tuple[str, str, str]]:
    of = _of(values)
    if not 0 < of("max_errors", 0.01) < 1:
        yield "max_errors", f"{of('max_errors', 0.0):g} is no share", "such as 0.01 for 1 %"
    if not of("max_errors", 0.0) <= of("hard_limit", 1.0) <= 1:
        yield (
            "hard_limit",
            f"{of('hard_limit', 0.0):g} is no share above max_errors",
            "a share from max_errors to 1, such as 0.2",
        )
    if of("error_ratio", 1.0) < 1:
        yield "error_ratio", "the new side would have to be better than the old one", "1 or more"
    if of("p95_ratio", 2.0) < 1 and values["p95_ratio"] != 0:
        yield "p95_ratio", "the new side would have to be quicker", "1 or more; 0: never mind"


def _longest(values: Mapping[str, float | None]) -> float:
    """Return how long a gate may take: what is bad at its end is looked at for a while longer."""
    lasts, window, windows = values["for"], values["window"], values["windows"]
    if lasts is None or window is None or windows is None:
        return 0.0
    return lasts + window * windows + _SPARE


@frozen
class _Side:
    """One side: what it is called, what names it where requests are counted, and its servers."""

    label: str
    names: tuple[str, ...]
    servers: tuple[str, ...] = ()


def work(args: Mapping[str, Value], step: Step) -> Command:
    entry = mapping(args.get("balancer"))
    pool = a_word(args["pool"], step, "pool")
    numbers = _numbers(args, step)
    new, old = _sides(args, entry, pool, step)
    files, words = _steering(entry, pool, step)
    source = _source(entry, pool, step)
    alone = old is None or _none(args, step)
    means = source["source"] == "stats" and not alone and numbers["p95_ratio"] > 0
    if means and said(entry, "latency", pool, step) != "mean":
        raise _no_p95(pool, step)
    words |= {
        "action": "gate",
        "to": "",
        "of": "",
        "run": "-",
        "first": " ".join(new.names),
        "second": " ".join(old.names) if old else "",
        "one": new.label,
        "other": old.label if old else "",
        "alone": "1" if alone else "0",
        "means": "1" if means else "0",
        "members_of": " ".join(new.servers),
        "gate_awk": data("gate.awk"),
        "maths_awk": data("maths.awk"),
        "members_awk": data("members.awk"),
        **source,
        **{f"{name}_" if name == "for" else name: _plain(v) for name, v in numbers.items()},
        "p95_least": _plain(numbers["p95_least"] * 1000),
        **pages(args, entry, step),
    }
    assignments = "".join(f"{key}={shlex.quote(value)}\n" for key, value in words.items())
    body = "".join(map(data, ("common.sh", "members.sh", "shares.sh", "gate.sh", *files)))
    beside = f" beside {old.label}" if old and not alone else ""
    by = " (HAProxy tells no p95: mean times are compared)" if means else ""
    return Command(
        text=text(assignments + body + ("" if "colours.sh" in files else "gate\n")),
        sudo=sudo_of(args.get("sudo"), entry.get("sudo"), step),
        summary=f"watch {new.label}{beside} in pool {pool} for {duration(numbers['for'])}{by}",
        verdict=True,
    )


def _no_p95(pool: str, step: Step) -> InputError:
    """Say what HAProxy's counters lack: a limit of p95 would be held to something weaker."""
    return InputError(
        f"HAProxy's own counters tell no p95, so p95_ratio can't be held in pool {pool}",
        where=str(step.places.get("gate.p95_ratio", step.place)),
        hint=f"name its access log (log, log_fields of balancers.{pool}), or write latency: mean "
        "there to have mean times compared, which see a slow part of the requests later; "
        "p95_ratio: 0 compares none",
    )


def _plain(number: float) -> str:
    """Write a number as sh can count with it: a million seconds are no 1e+06."""
    return str(int(number)) if number == int(number) else repr(number)


def _numbers(args: Mapping[str, Value], step: Step) -> dict[str, float]:
    found = {
        name: a_number(args.get(name, key.default), step, name)  # type: ignore[arg-type]
        for name, key in _NUMBERS.items()
    }
    for name in ("for", "window", "windows", "sample", "old_sample"):
        found[name] = float(int(found[name]))
    for name, what, write in _faults(found, step):
        place = step.places.get(f"gate.{name}", step.place)
        raise InputError(f"`{name}`: {what}", where=str(place), hint=f"write {write}")
    return found


# --- the sides -----------------------------------------------------------------------------------


def _none(args: Mapping[str, Value], step: Step) -> bool:
    return args.get("old") is not None and a_word(args["old"], step, "old") == "none"


def _sides(
    args: Mapping[str, Value], entry: Mapping[str, Value], pool: str, step: Step
) -> tuple[_Side, _Side | None]:
    """Return the new side and the old one; None where all of the pool is new."""
    colours = {
        name: tuple(a_word(each, step, "pool") for each in texts(inner, "colours"))
        for name, inner in mapping(entry.get("colours")).items()
    }
    if colours:
        return _colours(args, colours, pool, step)
    members = _hosts(args.get("members"), step)
    if args.get("new") is not None:
        _must_be_hosts(args, pool, step)
    new = _named(args, "new", step) or tuple(m for m in _hosts(args.get("reached"), step))
    old = () if _none(args, step) else _named(args, "old", step)
    if not old and not _none(args, step):
        old = tuple(member for member in members if member not in new)
    if both := set(new) & set(old):
        raise _wrong(step, "old", f"{min(both)} is of both sides", "a host is new or old")
    return _of_hosts(args, entry, new, step), _of_hosts(args, entry, old, step) if old else None


def _colours(
    args: Mapping[str, Value], colours: Mapping[str, tuple[str, ...]], pool: str, step: Step
) -> tuple[_Side, _Side]:
    named = [] if args.get("new") is None else [a_word(args["new"], step, "new")]
    others = [name for name in colours if name not in named]
    if len(colours) != 2 or len(others) != 1:
        told = f"{(named or ['nothing'])[0][:80]!r} is none of the two colours of {pool}"
        raise _wrong(step, "new", told, " or ".join(colours))
    if args.get("old") is not None and a_word(args["old"], step, "old") not in ("none", others[0]):
        raise _wrong(step, "old", f"it is not the other colour of {pool}", others[0])
    one, other = named[0], others[0]
    return _Side(label=one, names=colours[one]), _Side(label=other, names=colours[other])


def _must_be_hosts(args: Mapping[str, Value], pool: str, step: Step) -> None:
    """Refuse a colour where the pool has none: it would be looked for among the hosts."""
    addresses = mapping(args.get("addresses"))
    unknown = [name for name in _named(args, "new", step) if name not in addresses]
    if unknown:
        what = f"pool {pool} has no colours, and {unknown[0][:80]!r} is no host of the inventory"
        hint = "hosts of the pool, or name a pool that has two colours"
        raise _wrong(step, "new", what, hint)


def _hosts(value: Value, step: Step) -> tuple[str, ...]:
    return tuple(a_word(one, step, "pool") for one in value) if isinstance(value, tuple) else ()


def _named(args: Mapping[str, Value], key: str, step: Step) -> tuple[str, ...]:
    return tuple(a_word(args[key], step, key).split()) if args.get(key) is not None else ()


def _of_hosts(
    args: Mapping[str, Value], entry: Mapping[str, Value], hosts: tuple[str, ...], step: Step
) -> _Side:
    addresses = mapping(args.get("addresses"))
    port = int(a_number(entry.get("port", 80), step, "pool"))
    unknown = [host for host in hosts if host not in addresses]
    if unknown or not hosts:
        what = f"{unknown[0][:80]!r} is no host of the inventory" if unknown else "it is nobody"
        raise _wrong(
            step, "new", what, "hosts of the pool, such as '{{ batch.hosts | join(\" \") }}'"
        )
    servers = tuple(with_port(a_word(addresses[h], step, "new"), port) for h in hosts)
    return _Side(label=", ".join(hosts), names=(*hosts, *servers), servers=servers)


def _wrong(step: Step, key: str, what: str, hint: str) -> InputError:
    where = str(step.places.get(f"gate.{key}", step.place))
    return InputError(f"`{key}`: {what}", where=where, hint=f"write {hint}")


# --- where requests are counted ------------------------------------------------------------------


def _steering(
    entry: Mapping[str, Value], pool: str, step: Step
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the texts that know the balancer's servers, and what they must be told."""
    if said(entry, "type", pool, step) == "haproxy":
        return ("socket.sh",), {
            "upstreams": "0",
            "haproxy": "1",
            "lock_timeout": "1",
            **where_haproxy_is(entry, pool, step),
        }
    if not mapping(entry.get("colours")):
        return (), {"upstreams": "0", "haproxy": "0"}
    return ("sockets.sh", "nginx.sh", "colours.sh"), {
        "upstreams": "1",
        "haproxy": "0",
        "reload_timeout": "1",
        "lock_timeout": "1",
        "nginx_awk": "",
        "header": said(entry, "header", pool, step) or "X-Pool",
        "colours_awk": data("words.awk") + data("colours.awk"),
        **where_nginx_is(entry, pool, step),
    }


def _source(entry: Mapping[str, Value], pool: str, step: Step) -> dict[str, str]:
    """Return who tells how requests ended: an access log, a page with counts, HAProxy itself."""
    found = {"log": said(entry, "log", pool, step), "gatelog_awk": "", "counts_awk": ""}
    counts = said(entry, "counts", pool, step)
    if counts:
        url = urlsplit(counts)
        if url.scheme != "http" or not url.hostname or " " in counts:
            raise InputError(
                f"balancers.{pool}.counts is {counts[:80]}",
                where=str(step.place),
                hint="write for example http://127.0.0.1:9000/counts.json",
            )
        page = (url.path or "/") + (f"?{url.query}" if url.query else "")
        return found | {
            "source": "counts",
            "counts_at": url.netloc if url.port else f"{url.netloc}:80",
            "counts_page": page,
            "counts_awk": data("gatecounts.awk"),
        }
    if found["log"]:
        return found | {"source": "log", "gatelog_awk": data("gatelog.awk"), **_fields(entry, step)}
    if said(entry, "type", pool, step) == "haproxy":
        return found | {"source": "stats"}
    raise InputError(
        f"balancers.{pool} of the inventory does not say where requests are counted",
        where=str(step.place),
        hint="name an access log whose lines have the side, the status and the time "
        "(log: /var/log/nginx/opskit.log, log_fields: {side: 1, status: 2, time: 3})",
    )


def _fields(entry: Mapping[str, Value], step: Step) -> dict[str, str]:
    given = mapping(entry.get("log_fields"))
    found = {}
    for name, default in _FIELDS.items():
        value = given.get(name, default)
        word = str(value) if isinstance(value, (int, str)) else a_word(value, step, "pool")
        if name == "unit" and word not in ("s", "ms"):
            raise InputError(f"log_fields.unit is {word[:40]!r}", where=str(step.place))
        found[f"log_{name}"] = word
    return found
