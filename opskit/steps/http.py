"""`http`: one request, and what its answer must be."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from opskit.errors import InputError
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.text import Text
from opskit.model.value import Json, SecretRef
from opskit.model.work import Expect, Request
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_text,
    an_amount,
    mapping,
    one_of,
    optional,
    problem,
    refuse,
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
EXPECT = (
    Key("status", "int", many=True, help="status, or a list of them; without it any 2xx"),
    Key("headers", "map", help="header → value that it must have"),
    Key(
        "has",
        "map",
        help="header → text that each of its values must contain, in any case: "
        "`{Set-Cookie: Secure}`",
    ),
    Key("at_most", "map", help="header → the largest number that it may be: `{X-Query-Count: 20}`"),
    Key(
        "at_least",
        "map",
        help="header → the least that the first number in it may be: "
        "`{Strict-Transport-Security: 31536000}`",
    ),
    Key("json", "data", help="dotted path (`checks.0.state`) → value that must stand there"),
    Key("body", "text", help="text that the body must contain"),
    Key("latency", "duration", help="the answer must come within this time"),
)
LONGEST_URL = 65536
"""What the HTTP library takes; servers take much less."""
_PASSWORD = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]*:[^/?#]*@")
SUMMARY = "Send an HTTP request and check the answer; redirects are answers, not followed."
KEYS = (
    Key("url", "url", required=True, help="http:// or https://; expressions are URL-encoded"),
    Key(
        "method",
        "enum",
        choices=METHODS,
        default="GET",
        reads=("GET", "HEAD", "OPTIONS"),
        help="GET, HEAD and OPTIONS are reads",
    ),
    Key("headers", "map", help="header → value; a secret goes in `secrets:`"),
    Key("body", "text", help="what to send"),
    Key("expect", "table", keys=EXPECT, help="what the answer must be"),
    Key(
        "via",
        "enum",
        choices=("controller", "host"),
        default="controller",
        help="send it from where opskit runs, or through the host's SSH connection",
    ),
    Key(
        "idempotency_key",
        "bool",
        default=False,
        help="the server honours `Idempotency-Key`, so a lost answer may be asked for again",
    ),
)
MAIN = "url"
EFFECT: Effect = "change"
SCOPE: Scope = "each"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "creates", "unless")
    url = step.args.get("url")
    if isinstance(url, str) and not url.startswith(("http://", "https://", "{{", "{%")):
        yield problem(
            step, "url", f"{url[:80]!r} is not a URL", "begin it with http:// or https://"
        )
    if "body" in step.args and step.args.get("method", "GET") in ("GET", "HEAD"):
        yield problem(step, "body", "a GET or HEAD request has no body", "write method: POST")
    headers = step.args.get("headers")
    written = {name.lower() for name in headers} if isinstance(headers, Mapping) else set()
    for name in step.secrets:
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", name):
            yield problem(step, "secrets", f"{name[:80]!r} can't name a header", "write its name")
        if name.lower() in written:
            yield problem(
                step, "secrets", f"the header {name} is in `headers` too", "write it once"
            )
    yield from _status_problems(step)


def _status_problems(step: Step) -> Iterable[Problem]:
    expect = step.args.get("expect")
    status = expect.get("status") if isinstance(expect, Mapping) else None
    for one in status if isinstance(status, list | tuple) else [status]:
        if isinstance(one, int) and not 100 <= one <= 599:
            yield problem(step, "expect", f"{one} is not an HTTP status", "write one of 100 to 599")


def work(args: Mapping[str, Value], step: Step) -> Request:
    headers: dict[str, Text | SecretRef] = {
        name: a_text(value, name) for name, value in mapping(args.get("headers")).items()
    }
    headers.update({header: SecretRef(name=secret) for header, secret in step.secrets.items()})
    return Request(
        url=_url(a_text(args["url"], "url"), step),
        method=one_of(args.get("method"), step, "method", METHODS),
        headers=headers,
        body=optional(args.get("body"), "body"),
        expect=_expect(mapping(args.get("expect")), step),
        via=_via(args.get("via"), step),
        idempotency_key=a_flag(args.get("idempotency_key", False), step, "idempotency_key"),
    )


def _url(url: Text, step: Step) -> Text:
    """Refuse what can't be asked for while nothing is done yet, where it is known by now."""
    written = "" if url.late else url.fixed()
    if len(written) > LONGEST_URL:
        raise InputError(
            f"the URL has {len(written)} characters ({written[:60]}…)",
            where=str(step.places.get("http.url", step.place)),
            hint=f"at most {LONGEST_URL}; send a long value as the `body`",
        )
    if _PASSWORD.match(str(url)):
        raise InputError(
            "the URL has a password, which would be shown and recorded",
            where=str(step.places.get("http.url", step.place)),
            hint="take it out; give the header in `secrets`: {Authorization: NAME}",
        )
    return url


def _via(value: Value, step: Step) -> Literal["controller", "host"]:
    return "host" if one_of(value, step, "via", ("controller", "host")) == "host" else "controller"


def _expect(args: Mapping[str, Value], step: Step) -> Expect:
    latency = args.get("latency")
    return Expect(
        status=_statuses(args.get("status"), step),
        headers={n: a_text(v, n) for n, v in mapping(args.get("headers")).items()},
        has={n: a_text(v, n) for n, v in mapping(args.get("has")).items()},
        at_most={n: an_amount(v, step, "expect") for n, v in mapping(args.get("at_most")).items()},
        at_least={
            n: an_amount(v, step, "expect") for n, v in mapping(args.get("at_least")).items()
        },
        json={path: _datum(value) for path, value in mapping(args.get("json")).items()},
        body=optional(args.get("body"), "body"),
        latency=None if latency is None else a_number(latency, step, "expect"),
    )


def _statuses(value: Value, step: Step) -> tuple[int, ...]:
    if value is None:
        return ()
    many = value if isinstance(value, tuple) else (value,)
    return tuple(int(a_number(one, step, "expect")) for one in many)


def _datum(value: Value) -> "Json | Text":
    """Keep a leaf as it is; inside lists and mappings only texts known when planning can stand."""
    if isinstance(value, Text):
        return value
    return _plain(value)


def _plain(value: Value) -> Json:
    if isinstance(value, Text):
        return value.fixed()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise TypeError("a file can't be expected in JSON")
