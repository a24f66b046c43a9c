"""`colours`: give one of two colours a share of a pool's traffic, or tell which has it.

Plan adds to the arguments what the inventory says, as for `traffic`: `balancer`, the target's entry
for the pool; `page` and `site`, where servers say how they are. The work is opskit's own shell text
(colours.sh on top of nginx.sh, which say how they prove what they do).
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from opskit.errors import InputError
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import Fixed, Late, Text
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
    a_text,
    a_word,
    mapping,
    problem,
    refuse,
    texts,
)

SUMMARY = (
    "Give one of two colours a share of a pool's traffic, put back what the run found, or tell "
    "which colour has it."
)
KEYS = (
    Key("to", "text", help="colour that gets `share` of the traffic; the other one gets the rest"),
    Key("share", "int", default=100, help="percent, 0 to 100"),
    Key(
        "backwards",
        "bool",
        default=False,
        help="allow a share for `to` that is smaller than the one it has",
    ),
    Key(
        "back",
        "bool",
        default=False,
        help="put back what this run found before it changed anything, byte for byte",
    ),
    Key(
        "of",
        "text",
        help="back: put back what another run found, by its id, if nobody has changed it since and "
        "the colour that gets its traffic back is well and still the release that it was then",
    ),
    Key(
        "found",
        "text",
        help="id of a run: print what it found, such as `blue 100`; fail unless `back` with `of` "
        "could put that back now; a read (write `effect: read`)",
    ),
    Key(
        "show",
        "bool",
        default=False,
        help="print which colour has the traffic, such as `blue 100` or `blue 90 green 10`, if the "
        "file and the answers agree; a read (write `effect: read`)",
    ),
    Key(
        "ready",
        "text",
        help="colour that is to get traffic later: fail unless it could now; a read (write "
        "`effect: read`)",
    ),
    Key(
        "warm",
        "text",
        help="colour that is to get traffic later: ask each of its servers for the pages of "
        "`smoke`, one after the other, so that its caches are warm; fail as `ready` does. No read, "
        "as a dry run must not ask for them (write `undo: []`: nothing is to be taken back)",
    ),
    Key(
        "alone",
        "text",
        help="colour that has all the traffic: wait until nginx has no connection to the other; a "
        "read (write `effect: read`)",
    ),
    Key(
        "smoke",
        "text",
        help="to, ready and warm: pages, apart by blanks, that every server of the colour must "
        "answer well before it gets more, besides its health page",
    ),
    Key(
        "answer_within",
        "duration",
        default=5.0,
        help="to, ready and warm: how long one of these pages may take to come whole",
    ),
    Key(
        "release",
        "text",
        help="to, ready and warm: what each of them must say in the header `X-Release`",
    ),
    Key("pool", "text", required=True, help="pool, by its name under `balancers` in the inventory"),
    Key(
        "sample",
        "int",
        default=200,
        minimum=20,
        help="fresh connections to measure the shares with; more where so few could not tell",
    ),
    Key("drain_timeout", "duration", default=30.0, help="alone: fail when connections last longer"),
    Key("reload_timeout", "duration", default=10.0, help="how soon nginx must run new workers"),
    Key("lock_timeout", "duration", default=30.0, help="how long to wait for another change"),
    Key(
        "max_old",
        "int",
        default=16,
        minimum=0,
        help="refuse a reload while more workers of earlier ones have connections to finish",
    ),
)
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "each"

ACTIONS = ("to", "back", "show", "ready", "warm", "alone", "found")
LOOKS = ("show", "ready", "alone", "found")


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "secrets", "creates", "unless")
    asked = [key for key in ACTIONS if step.args.get(key) not in (None, False)]
    if len(asked) != 1:
        yield problem(
            step,
            asked[1] if asked else "colours",
            "one of to, back, show, ready, warm, alone and found is needed, not "
            + (" and ".join(asked) or "none"),
            "write for example {to: green, share: 10, pool: web}",
        )
    elif asked[0] in LOOKS and step.effect != "read":
        yield problem(step, asked[0], "looking at a pool changes nothing", "add effect: read")
    elif asked[0] not in LOOKS and step.effect == "read":
        yield problem(step, "effect", f"{asked[0]} changes the balancer", "take `effect: read` out")
    if "of" in step.args and asked != ["back"]:
        yield problem(step, "of", "only back is of another run", "take it out")
    share = step.args.get("share")
    if isinstance(share, int) and not 0 <= share <= 100:
        yield problem(step, "share", f"{share} is no percentage", "write a number from 0 to 100")


def work(args: Mapping[str, Value], step: Step) -> Command:
    entry = mapping(args.get("balancer"))
    pool = a_word(args["pool"], step, "pool")
    kind = said(entry, "type", pool, step) or "nginx"
    steering = _haproxy if kind == "haproxy" else _nginx
    files, words = steering(entry, pool, step)
    words |= {
        "colours_awk": data("words.awk") + data("colours.awk"),
        "members_awk": data("members.awk"),
        "pool": pool,
        **_asked(args, step),
        **(asked := _health(args, entry, pool, step)),
        **_site(entry, pool, step, asked["site"]),
        **limits(KEYS, args, step),
    }
    assignments = "".join(f"{key}={shlex.quote(value)}\n" for key, value in words.items())
    text = "".join(map(data, ("common.sh", "members.sh", "answers.sh", "shares.sh", *files)))
    run: Late | Fixed = Fixed(text="-")  # a look leaves nothing that would be called by it
    if words["action"] in ("to", "back"):
        run = Late(source="{{ run.id }}", names=("run",), context="word")
    meant = args.get("found" if words["action"] == "found" else "of")
    return Command(
        text=Text(
            parts=(
                *(Fixed(text=f"{assignments}run="), run, Fixed(text="\nof=")),
                *_of(meant),
                Fixed(text=f"\n{text}"),
            )
        ),
        sudo=sudo_of(args.get("sudo"), entry.get("sudo"), step),
        summary=_summary(words, pool),
    )


def _of(meant: Value) -> tuple[Late | Fixed, ...]:
    """Return a run's id, which another step may have found, as part of a shell word."""
    parts = a_text(meant, "of").parts if meant is not None else ()
    found = (
        replace(part, context="word")
        if isinstance(part, Late)
        else Fixed(text=shlex.quote(part.text))
        for part in parts
        if isinstance(part, (Fixed, Late))
    )
    return tuple(found)


def _summary(words: Mapping[str, str], pool: str) -> str:
    match words["action"]:
        case "found":
            return f"ask whether pool {pool} can go back to what a run found"
        case "to":
            return f"give {words['to']} {words['share']} % of pool {pool}"
        case "back":
            return f"put back the shares of pool {pool} that the run found"
        case "alone":
            return f"wait until only {words['to']} has connections of pool {pool}"
        case "warm":
            count = len(words["smoke"].split())
            return f"ask each server of {words['to']} for {count} page{'s' * (count != 1)}"
        case "ready":
            return f"ask whether {words['to']} can have traffic of pool {pool}"
        case _:
            return f"tell which colour has the traffic of pool {pool}"


def _asked(args: Mapping[str, Value], step: Step) -> dict[str, str]:
    """Return what to do, and what is said about it."""
    share = a_number(args.get("share", 100), step, "share")
    if not 0 <= share <= 100 or share != int(share):
        raise InputError(
            f"`share` came to {share:g}, which is no percentage",
            where=str(step.places.get("colours.share", step.place)),
            hint="write a whole number from 0 to 100",
        )
    found = {"to": "", "share": str(int(share))} | _wanted(args, step)
    found["backwards"] = str(a_flag(args.get("backwards", False), step, "backwards")).lower()
    if args.get("found") is not None:
        return {**found, "action": "found"}
    for action in ("back", "show"):
        if a_flag(args.get(action, False), step, action):
            return {**found, "action": action}
    action = next(one for one in ("to", "ready", "warm", "alone") if args.get(one) is not None)
    return {**found, "action": action, "to": a_word(args[action], step, action)}


def _wanted(args: Mapping[str, Value], step: Step) -> dict[str, str]:
    """Return what servers must answer before they get more traffic."""
    found = {}
    for key, right in (("smoke", r"(/[!-~]*( +/[!-~]*)*)?"), ("release", r"[!-~]*")):
        value = args.get(key)
        found[key] = "" if value is None else a_word(value, step, key)
        if not re.fullmatch(right, found[key]):
            raise InputError(
                f"`{key}` came to {found[key][:80]!r}",
                where=str(step.places.get(f"colours.{key}", step.place)),
                hint="write pages such as /api/v1/, apart by blanks"
                if key == "smoke"
                else "a release has no blanks",
            )
    return found


def _nginx(
    entry: Mapping[str, Value], pool: str, step: Step
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the texts that steer nginx, and what they must be told."""
    words = {
        "nginx_awk": data("words.awk") + "function directive(how) {}\n",
        **where_nginx_is(entry, pool, step),
        **_colours(entry, pool, step, "{blue: app_blue, green: app_green}, each with its upstream"),
    }
    if " " in words["first"] + words["second"]:
        raise InputError(
            f"a colour of balancers.{pool} has several upstreams",
            where=str(step.place),
            hint="with nginx, each colour is one upstream",
        )
    return ("sockets.sh", "nginx.sh", "colours.sh"), words


def _haproxy(
    entry: Mapping[str, Value], pool: str, step: Step
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the text that steers HAProxy, and what it must be told."""
    words = {
        "haproxy_awk": data("haproxy.awk"),
        "nginx_awk": data("words.awk") + "function directive(how) {}\n",
        **where_haproxy_is(entry, pool, step),
        **_colours(entry, pool, step, "{blue: [blue1], green: [green1]}, each with its servers"),
    }
    return ("sockets.sh", "socket.sh", "states.sh", "haproxy.sh"), words


def _colours(entry: Mapping[str, Value], pool: str, step: Step, example: str) -> dict[str, str]:
    """Return the names of the two colours, and by which names the balancer has them."""
    colours = {
        name: tuple(a_word(each, step, "pool") for each in texts(inner, "colours"))
        for name, inner in mapping(entry.get("colours")).items()
    }
    every = [each for inner in colours.values() for each in inner]
    if len(colours) != 2 or not all(colours.values()) or len(set(every)) != len(every):
        raise InputError(
            f"balancers.{pool} of the inventory has no two colours",
            where=str(step.place),
            hint=f"write for example colours: {example}",
        )
    for name in (*colours, *every):
        if not re.fullmatch(r"[0-9A-Za-z_.-]+", name):
            raise InputError(
                f"{name[:80]!r} can't be the name of a colour or of what it is",
                where=str(step.place),
                hint="letters, digits and the signs _ . - may stand in it",
            )
    (one, first), (other, second) = colours.items()
    return {"one": one, "first": " ".join(first), "other": other, "second": " ".join(second)}


def _health(
    args: Mapping[str, Value], entry: Mapping[str, Value], pool: str, step: Step
) -> dict[str, str]:
    """Return where servers say how they are; a colour gets no traffic without having been asked."""
    found = pages(args, entry, step)
    if not found["health"] and "health" not in entry:
        raise InputError(
            f"balancers.{pool} of the inventory has no health",
            where=str(step.place),
            hint="name the page on which servers say how they are, such as /health/, or write "
            "health: null if nobody is to be asked",
        )
    return found


def _site(entry: Mapping[str, Value], pool: str, step: Step, site: str) -> dict[str, str]:
    """Return where on the balancer requests are made, and which header tells who answered."""
    listen = said(entry, "listen", pool, step)
    url = urlsplit(listen)
    header = said(entry, "header", pool, step) or "X-Pool"
    page = url.path or "/"
    right = url.scheme in ("http", "https") and re.fullmatch(r"[0-9A-Za-z.:-]+", url.hostname or "")
    if not right or url.query or not re.fullmatch(r"/[!-~]*", page):
        raise InputError(
            f"balancers.{pool}.listen is {listen[:80] or 'missing'}",
            where=str(step.place),
            hint="shares are measured on the balancer itself; write for example "
            "listen: http://127.0.0.1:8080/health/ (or https://), with the same proxy_pass",
        )
    if not re.fullmatch(r"[0-9A-Za-z-]+", header):
        raise InputError(f"{header[:80]!r} is no name of a header", where=str(step.place))
    return {
        "at_scheme": url.scheme,
        "at_host": url.hostname or "",
        "at_url": f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or "",
        "at_port": str(url.port or (443 if url.scheme == "https" else 80)),
        "at_site": site or url.netloc,
        "page": page,
        "header": header.lower(),
    }
