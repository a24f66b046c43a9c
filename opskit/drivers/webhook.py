"""One POST to a webhook, whose address is a secret: nothing that is said here shows any of it."""

from urllib.parse import urlsplit

from opskit.drivers.http import Requester
from opskit.model.frozen import frozen
from opskit.model.inventory import CONTROLLER, Host
from opskit.model.job import Job
from opskit.model.text import text as known
from opskit.model.value import Secret
from opskit.model.work import Request

_LEAST = 4
"""So long a piece of an address must be to be taken out of what is said of a failure."""
_SPARE = 0.5


@frozen
class Answer:
    """What came of a try: a status, or in words why there is none. `again`: another may do.

    `after`: how many seconds the server wants to be left alone.
    """

    status: int = 0
    error: str = ""
    again: bool = False
    after: float = 0.0

    @property
    def well(self) -> bool:
        return not self.error


def post(address: Secret, body: str, ident: str, seconds: float) -> Answer:
    """Send a body of JSON once. A redirect is not followed: its end is not the one that is meant.

    What the server writes is not read: many repeat the address that they were asked for.
    """
    url = address.reveal().strip()
    if not _whole(url):
        return Answer(error=f"the secret {address.name} is no http:// or https:// address")
    requester = Requester()
    try:
        exchange = requester.start(
            _job(url, body, ident, seconds), _request(url, body, ident), None
        )
        if not exchange.done.wait(seconds + _SPARE):
            return Answer(error=f"no answer within {seconds:.3g} s", again=True)
    finally:
        requester.close()
    if exchange.error:
        return Answer(error=_without(url, exchange.error), again=True)
    status = exchange.status
    if 200 <= status < 300:
        return Answer(status=status)
    if 300 <= status < 400:
        told = f"it answered {status}, a redirect, which is not followed"
        return Answer(status=status, error=told)
    again = status in (408, 425, 429) or status >= 500
    after = exchange.headers.get("retry-after", "")
    seconds = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0
    return Answer(status=status, error=f"it answered {status}", again=again, after=seconds)


def _whole(url: str) -> bool:
    """Tell whether an address is one; what is wrong with it is not told, it is a secret."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and not any(map(str.isspace, url))
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def _request(url: str, body: str, ident: str) -> Request:
    headers = {"Content-Type": "application/json", "Idempotency-Key": ident}
    return Request(
        url=known(url),
        method="POST",
        headers={name: known(value) for name, value in headers.items()},
        body=known(body),
    )


def _job(url: str, body: str, ident: str, seconds: float) -> Job:
    return Job(
        run="",
        key=ident,
        attempt=1,
        host=Host(name=CONTROLLER, address="localhost"),
        work=_request(url, body, ident),
        effect="change",
        timeout=seconds,
    )


def _without(url: str, text: str) -> str:
    """Take every piece of an address out of a text."""
    parts = urlsplit(url)
    pieces = [
        url,
        parts.netloc,
        parts.hostname or "",
        parts.path,
        parts.query,
        parts.username or "",
    ]
    pieces += [parts.password or "", *parts.path.split("/")]
    for piece in sorted({p for p in pieces if len(p) >= _LEAST}, key=len, reverse=True):
        text = text.replace(piece, "…")
    return text
