"""What statements return: as text for the record, and as a value to save."""

import json
import re
from typing import Literal

from opskit.drivers.capture import Capture
from opskit.drivers.postgres.connection import Result, Row, ServerError, Taker
from opskit.drivers.session import Write
from opskit.model.value import Json

NULL = b"\\N"
"""As COPY writes it; a backslash in a value is doubled, so that this is nothing else."""
_ESCAPES = {b"\\": b"\\\\", b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r"}
_SPECIAL = re.compile(rb"[\\\t\n\r]")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_BOOL, _JSON = 16, (114, 3802)
_SENTENCE = 300
_NUMBERS = (20, 21, 23, 26, 700, 701, 1700)
_PIECE = 64 * 1024
_DONE = {
    "INSERT": " inserted", "UPDATE": " updated", "DELETE": " deleted", "MERGE": " merged",
    "COPY": " copied",
}  # fmt: skip
"""What a statement's tag begins with → what it has done to so many rows."""
_TOLD = 5
"""Of so many statements it is told, the last of a step."""


class Returned:
    """Collects what the statements of a step return. `value` is of the last that has rows."""

    def __init__(
        self, write: Write, *, limit: int, keep: int, rows: Literal["text", "json"]
    ) -> None:
        self._capture = Capture(write, limit=limit, keep=0)
        self._keep = keep
        self._json = rows == "json"
        self._result = Result()
        self._buffer = bytearray()
        self._rows: list[bytes] = []
        self._size = 0
        self.first: bytes | None = None
        self.seen = False
        self.row: dict[str, bytes | None] = {}
        """The first row of the last statement that has some."""
        self.tags: list[str] = []
        self.total = 0

    def taker(self) -> Taker:
        return Taker(begin=self._begin, row=self._row)

    def ended(self, result: Result) -> None:
        """Take in how a statement ended; what returns no rows says in words what it did."""
        self.tags.append(result.tag)
        self.total += result.rows
        if not result.columns:
            self._put(result.tag.encode() + b"\n")
        self._flush()

    def note(self, text: str) -> None:
        self._flush()
        self._capture("stderr", text.encode() + b"\n")

    @property
    def cut(self) -> bool:
        return bool(self._capture.cut)

    def value(self) -> bytes:
        """Return what is saved: the first value, or all rows as JSON."""
        if self._json:
            return b"[" + b",".join(self._rows) + b"]"
        return (self.first or b"")[: self._keep]

    def told(self) -> str:
        """Say what a change has done: in its own words (a column `told`), or in rows."""
        if said := self.row.get("told"):
            return said.decode(errors="replace")
        done = [tag.split() for tag in self.tags if tag[-1:].isdigit()]
        return ", ".join(_counted(words[0], words[-1]) for words in done[-_TOLD:])

    def evidence(self) -> dict[str, Json]:
        found: dict[str, Json] = {"did": list(self.tags[-20:]), "rows": self.total}
        return {**found, **({"cut": ["stdout"]} if self.cut else {})}

    def _begin(self, result: Result) -> None:
        self._result = result
        self.first, self._rows, self._size, self.seen = None, [], 0, False
        self.row = {}
        if self._json and len(set(result.columns)) < len(result.columns):
            raise ServerError("two columns have one name: give them names of their own with AS")
        self._put(b"\t".join(_escaped(name.encode()) for name in result.columns) + b"\n")

    def _row(self, row: Row) -> None:
        if not self.seen:
            self.first, self.seen = (self._plain(row[0]) if row else None), True
            self.row = dict(zip(self._result.columns, row, strict=True))
        if self._json and self._size < self._keep:
            self._rows.append(self._object(row))
            self._size += len(self._rows[-1]) + 1
        self._put(b"\t".join(NULL if v is None else _escaped(v) for v in row) + b"\n")

    def _plain(self, value: bytes | None) -> bytes | None:
        """Write truth as it is written in a runbook."""
        if value is not None and self._result.types[0] == _BOOL:
            return b"true" if value == b"t" else b"false"
        return value

    def _object(self, row: Row) -> bytes:
        pairs = zip(self._result.columns, self._result.types, row, strict=True)
        words = (f"{json.dumps(name)}: {_as_json(oid, value)}" for name, oid, value in pairs)
        return ("{" + ", ".join(words) + "}").encode()

    def _put(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._capture("stdout", bytes(self._buffer))
            self._buffer.clear()


def _escaped(value: bytes) -> bytes:
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)


def _as_json(oid: int, raw: bytes | None) -> str:
    """Write a value as JSON; a number keeps its digits."""
    if raw is None:
        return "null"
    text = raw.decode(errors="replace")
    if oid == _BOOL:
        return "true" if text == "t" else "false"
    if oid in _JSON or (oid in _NUMBERS and _NUMBER.fullmatch(text)):
        return text
    return json.dumps(text, ensure_ascii=False)


def as_expected(wanted: str, returned: Returned) -> str:
    """Return how the first value differs from what it must be; "" where it does not."""
    if not returned.seen:
        return f"it returned no row, expected {wanted[:80]!r}"
    if returned.first is None:
        return f"it is NULL, expected {wanted[:80]!r}"
    found = returned.first.decode(errors="replace")
    return "" if found == wanted else f"it is {_short(found)}, expected {wanted[:80]!r}"


def _short(found: str) -> str:
    """Leave room for a sentence that says what to do: a query may answer with one."""
    return repr(found) if len(found) <= _SENTENCE else f"{found[:_SENTENCE]!r}…"


def _counted(verb: str, number: str) -> str:
    return f"{number} {'row' if number == '1' else 'rows'}{_DONE.get(verb, '')}"
