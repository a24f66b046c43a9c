"""One HTTP request, from where opskit runs or through a host, and its answer judged."""

import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx

from opskit.drivers.session import Write
from opskit.drivers.target import Running, Target
from opskit.drivers.tunnel import HostTransport, Open
from opskit.model.job import Job, Output
from opskit.model.text import Text
from opskit.model.value import Json, SecretRef
from opskit.model.work import Expect, Request

_BODY = 8 * 1024 * 1024
_EXCERPT = 2048
_LOOK = 0.2
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_GATEWAY = frozenset({502, 504})
"""The answers of a proxy that lost the answer itself."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(kw_only=True)
class Exchange:
    """A request on its way; filled by the thread that makes it, read by the one that waits."""

    done: threading.Event = field(default_factory=threading.Event)
    sent: bool = True
    error: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    several: Mapping[str, Sequence[str]] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False
    seconds: float = 0.0


class Requester:
    """Makes requests. Connections are never kept: a stale one would make a change look lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx.Client] = {}

    def start(self, job: Job, work: Request, through: Open | None) -> Exchange:
        """Start the request and return at once; `done` is set at its end."""
        exchange = Exchange()
        try:
            request = _build(job, work)
            client = self._client(request.url.scheme == "https", through)
        except (httpx.InvalidURL, ValueError) as error:
            exchange.sent, exchange.error = False, str(error)
            exchange.done.set()
            return exchange
        limit = min(_BODY, job.host.connection.max_output)
        threading.Thread(
            target=_exchange, args=(client, request, exchange, job.timeout, limit), daemon=True
        ).start()
        return exchange

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _client(self, secure: bool, through: Open | None) -> httpx.Client:
        if through is not None:
            context = _context() if secure else None
            return httpx.Client(transport=HostTransport(through, context))
        with self._lock:
            if secure not in self._clients:
                self._clients[secure] = httpx.Client(
                    verify=_context() if secure else False,
                    trust_env=False,
                    follow_redirects=False,
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                )
            return self._clients[secure]


def perform(
    requester: Requester, target: Target, job: Job, write: Write, *, through: Open | None
) -> Output:
    """Make the request, for at most the job's time-out or until somebody stops it."""
    assert isinstance(job.work, Request)
    work = job.work
    running = target.running = Running(key=job.key, attempt=job.attempt)
    end = time.monotonic() + job.timeout + 1
    try:
        exchange = requester.start(job, work, through)
        while not exchange.done.wait(_LOOK):
            if running.give_up.is_set() or time.monotonic() > end:
                # Its thread goes on to its own time-out; what it brings nobody reads any more.
                stopped = running.because if running.give_up.is_set() else "no answer in time"
                exchange = Exchange(done=exchange.done, error=stopped)
                break
        output = judge(job, work, exchange, write)
        if running.give_up.is_set() and output.outcome != "succeeded":
            return replace(output, evidence={**output.evidence, **running.proof("can't tell")})
        return output
    finally:
        target.running = None


def judge(job: Job, work: Request, exchange: Exchange, write: Write) -> Output:
    """Turn what came back into an outcome."""
    change = work.method not in _READS and job.effect == "change"
    if exchange.error:
        return _lost(work, exchange, change=change)
    if exchange.body:
        write("stdout", exchange.body)
    wrong = list(_wrong(work.expect, exchange))
    evidence: dict[str, Json] = {
        "status": exchange.status,
        "latency_ms": round(exchange.seconds * 1000, 1),
        "body": exchange.body[:_EXCERPT].decode("utf-8", "replace"),
    }
    if exchange.cut:
        evidence["cut"] = ["stdout"]
    unsure = change and exchange.status in _GATEWAY and not work.idempotency_key
    bad = "unknown" if unsure else "failed"
    hint = "; a proxy gave this answer and may have lost the server's own" if unsure else ""
    return Output(
        outcome=bad if wrong else "succeeded",  # type: ignore[arg-type]  # both are outcomes
        stdout=exchange.body[: job.capture],
        reason="; ".join(wrong) + hint if wrong else "",
        evidence=evidence,
    )


def _lost(work: Request, exchange: Exchange, *, change: bool) -> Output:
    if not exchange.sent:
        return Output(outcome="failed", sent=False, reason=exchange.error)
    if change and work.idempotency_key:
        again = "it may be sent again: the server honours Idempotency-Key"
        return Output(outcome="failed", reason=f"the answer was lost ({exchange.error}); {again}")
    if change:
        return Output(
            outcome="unknown",
            reason=f"the answer was lost ({exchange.error}); the server may have done it",
        )
    return Output(outcome="failed", reason=exchange.error)


def _build(job: Job, work: Request) -> httpx.Request:
    url = httpx.URL(work.url.fixed())
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"{str(url)[:200]!r} is not an http:// or https:// address")
    headers = {"User-Agent": "opskit", "Accept": "*/*"}
    for name, value in work.headers.items():
        plain = job.secrets[value.name].reveal() if isinstance(value, SecretRef) else value.fixed()
        if _CONTROL.search(name + plain):
            raise ValueError(f"the header {name!r} contains a line break or another control")
        headers[name] = plain
    if work.idempotency_key:
        headers["Idempotency-Key"] = hashlib.sha256(f"{job.run}\0{job.key}".encode()).hexdigest()
    content = work.body.fixed().encode("utf-8", "surrogateescape") if work.body else None
    pairs = [(n.encode(), v.encode("utf-8", "surrogateescape")) for n, v in headers.items()]
    return httpx.Request(work.method, url, headers=pairs, content=content)


def _exchange(
    client: httpx.Client, request: httpx.Request, exchange: Exchange, timeout: float, limit: int
) -> None:
    began = time.monotonic()
    exchange.error = "the request came to no end"
    request.extensions = {"timeout": httpx.Timeout(timeout).as_dict()}
    try:
        response = client.send(request, stream=True)
        try:
            _receive(response, exchange, began + timeout, limit)
        finally:
            response.close()
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        exchange.sent, exchange.error = (
            False,
            f"no connection to {request.url.host} ({_say(error)})",
        )
    except httpx.LocalProtocolError:
        # Its text shows the header that it dislikes, which can be a secret.
        exchange.sent, exchange.error = False, "a header can't be sent as it is written"
    except UnicodeDecodeError as error:
        exchange.error = f"the answer can't be read ({error.reason})"
    except UnicodeError:  # as the name is looked up
        exchange.sent, exchange.error = False, f"{request.url.host!r} can't name a host"
    except httpx.TimeoutException:
        exchange.error = f"no answer within {timeout:g} s"
    except (httpx.HTTPError, OSError, EOFError, RuntimeError) as error:
        exchange.error = _say(error)
    finally:
        exchange.seconds = time.monotonic() - began
        exchange.done.set()


def _receive(response: httpx.Response, exchange: Exchange, end: float, limit: int) -> None:
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > limit:
            exchange.cut = True
            break
        if time.monotonic() > end:
            exchange.error = "the answer did not end in time"
            return
    exchange.error = ""
    exchange.body = bytes(body[:limit])
    exchange.headers = {name.lower(): value for name, value in response.headers.items()}
    exchange.several = {name: response.headers.get_list(name) for name in exchange.headers}
    exchange.status = response.status_code


def _wrong(expect: Expect, got: Exchange) -> Iterator[str]:
    if expect.status and got.status not in expect.status:
        yield f"status {got.status}, expected {' or '.join(map(str, expect.status))}"
    if not expect.status and not 200 <= got.status < 300:
        yield f"status {got.status}, expected 2xx"
    for name, wanted in expect.headers.items():
        have = got.headers.get(name.lower())
        if have != wanted.fixed():
            yield f"header {name} is {_short(have)}, expected {_short(wanted.fixed())}"
    yield from _wrong_headers(expect, got)
    yield from _wrong_numbers(expect, got)
    yield from _wrong_body(expect, got)
    if expect.latency is not None and got.seconds > expect.latency:
        yield f"answered in {got.seconds:.3f} s, expected at most {expect.latency:g} s"


def _wrong_headers(expect: Expect, got: Exchange) -> Iterator[str]:
    """Look at what headers are besides whole values; those that come several times are each."""
    for name, wanted in expect.has.items():
        part = wanted.fixed()
        several = got.several.get(name.lower(), ())
        if not several:
            yield f"header {name} is missing, and must have {_short(part)}"
        for have in several:
            if part.casefold() not in have.casefold():
                yield f"header {name} is {_short(have)}, which has no {_short(part)}"


def _wrong_numbers(expect: Expect, got: Exchange) -> Iterator[str]:
    for name, most in expect.at_most.items():
        number = got.headers.get(name.lower())
        try:
            fits = float(number or "") <= most
        except ValueError:
            yield f"header {name} is {_short(number)}, expected a number up to {most:g}"
            continue
        if not fits:
            yield f"header {name} is {number}, expected at most {most:g}"
    for name, least in expect.at_least.items():
        have = got.headers.get(name.lower())
        first = re.search(r"\d+(\.\d+)?", have or "", re.ASCII)
        if first is None:
            yield f"header {name} is {_short(have)}, expected a number from {least:.0f} on"
        elif float(first[0]) < least:
            yield f"header {name} is {_short(have)}, expected at least {least:.0f}"


def _wrong_body(expect: Expect, got: Exchange) -> Iterator[str]:
    if expect.body is not None and expect.body.fixed().encode() not in got.body:
        yield f"the body does not contain {_short(expect.body.fixed())}"
    if not expect.json:
        return
    try:
        document = json.loads(got.body)
    except ValueError:
        yield "the body is not JSON"
        return
    for path, wanted in expect.json.items():
        found, value = _find(document, path)
        plain = wanted.fixed() if isinstance(wanted, Text) else wanted
        if not found:
            yield f"the body has no {path}, expected {_short(plain)}"
        elif not _equal(value, plain, text=isinstance(wanted, Text)):
            yield f"{path} is {_short(value)}, expected {_short(plain)}"


def _find(value: Json, path: str) -> tuple[bool, Json]:
    """Walk a dotted path; a key may contain dots itself, a list is indexed by number."""
    if not path:
        return True, value
    if isinstance(value, Mapping):
        if path in value:
            return True, value[path]
        for at in (i for i, letter in enumerate(path) if letter == "."):
            if path[:at] in value:
                found, inner = _find(value[path[:at]], path[at + 1 :])
                if found:
                    return found, inner
    elif isinstance(value, list):
        head, _, rest = path.partition(".")
        if head.isdigit() and int(head) < len(value):
            return _find(value[int(head)], rest)
    return False, None


def _equal(value: Json, wanted: Json, *, text: bool) -> bool:
    """A template always gives text; numbers and truth values are compared as JSON writes them."""
    if text and not isinstance(value, str) and not isinstance(value, (list, Mapping)):
        return json.dumps(value) == wanted
    return (type(value) is type(wanted) and value == wanted) or _same_number(value, wanted)


def _same_number(value: Json, wanted: Json) -> bool:
    numbers = (int, float)
    both = isinstance(value, numbers) and isinstance(wanted, numbers)
    return both and not isinstance(value, bool) and not isinstance(wanted, bool) and value == wanted


def _short(value: Json) -> str:
    shown = "missing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 100 else shown[:97] + "..."


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__


def _context() -> ssl.SSLContext:
    """Trust what this machine trusts."""
    return ssl.create_default_context()
