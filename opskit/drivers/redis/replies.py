"""What commands answer: as text for the record, and as a value to save."""

import json
import re
from collections.abc import Iterator
from typing import Literal

from opskit.drivers.capture import Capture
from opskit.drivers.redis.connection import Refusal, Reply
from opskit.drivers.session import Write
from opskit.model.value import Json

NULL = b"\\N"
"""For nothing; a backslash in a value is doubled, so that this is nothing else."""
_ESCAPES = {b"\\": b"\\\\", b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r"}
_SPECIAL = re.compile(rb"[\\\t\n\r]")


class Returned:
    """Collects what the commands of a step answer. `last` is the answer of the last."""

    def __init__(
        self, write: Write, *, limit: int, keep: int, rows: Literal["text", "json"]
    ) -> None:
        self._capture = Capture(write, limit=limit, keep=0)
        self._keep = keep
        self.json = rows == "json"
        self.last: Reply = None
        self.count = 0

    def take(self, reply: Reply) -> None:
        self.last = reply
        self.count += 1
        self._capture("stdout", b"".join(row + b"\n" for row in _rows(reply)))

    @property
    def first(self) -> bytes | None:
        """The first value of the last answer."""
        return next(_values(self.last), None)

    def value(self) -> bytes:
        """Return what is saved, with the newline at its end that saving takes away."""
        if self.json:
            text = json.dumps(_plain(self.last), ensure_ascii=False)
            return text.encode("utf-8", "surrogateescape")[: self._keep]
        return ((self.first or b"") + b"\n")[: self._keep]

    def flaw(self) -> str:
        """Return why the last answer can't be taken at its word; "" where it can."""
        return next(_refusals(self.last), "")

    def evidence(self) -> dict[str, Json]:
        return {"answers": self.count, **({"cut": ["stdout"]} if self._capture.cut else {})}


def _rows(reply: Reply) -> Iterator[bytes]:
    """Yield the lines of an answer: one for each value, or for each list within a list."""
    if isinstance(reply, list):
        yield from (b"\t".join(map(_shown, _flat(one))) for one in reply)
    else:
        yield _shown(reply)


def _flat(reply: Reply) -> Iterator[Reply]:
    if isinstance(reply, list):
        for one in reply:
            yield from _flat(one)
    else:
        yield reply


def _shown(reply: Reply) -> bytes:
    value = _bytes(reply)
    return NULL if value is None else _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)


def _bytes(reply: Reply) -> bytes | None:
    match reply:
        case bytes():
            return reply
        case None:
            return None
        case bool():
            return b"true" if reply else b"false"
        case Refusal():
            return f"(error) {reply.what}".encode()
        case _:
            return str(reply).encode()


def _values(reply: Reply) -> Iterator[bytes | None]:
    return map(_bytes, _flat(reply))


def _refusals(reply: Reply) -> Iterator[str]:
    return (one.what for one in _flat(reply) if isinstance(one, Refusal))


def _plain(reply: Reply) -> Json:
    """Return an answer as JSON; bytes that are not UTF-8 stay what they are."""
    match reply:
        case bytes():
            return reply.decode("utf-8", "surrogateescape")
        case list():
            return [_plain(one) for one in reply]
        case Refusal():
            return {"error": reply.what}
        case _:
            return reply


def as_expected(wanted: str, returned: Returned) -> str:
    """Return how what is saved differs from what it must be; "" where it does not."""
    if returned.json:
        return _as_json(wanted, _plain(returned.last))
    if returned.first is None:
        return f"it is nothing, expected {wanted[:80]!r}"
    found = returned.first.decode("utf-8", "surrogateescape")
    shown = returned.first[:320].decode(errors="replace")[:80]
    return "" if found == wanted else f"it is {shown!r}, expected {wanted[:80]!r}"


def _as_json(wanted: str, found: Json) -> str:
    try:
        same = json.loads(wanted) == found
    except ValueError:
        return f"what is expected is no JSON: {wanted[:80]!r}"
    shown = json.dumps(found)[:80]
    return "" if same else f"it is {shown}, expected {wanted[:80]}"
