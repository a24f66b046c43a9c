"""What a change prints, kept beside its mark: for whoever finds the mark and saw no answer."""

import json
import zlib
from collections.abc import Collection, Mapping

from opskit.drivers.session import Write
from opskit.drivers.wire import Stream
from opskit.model.frozen import frozen
from opskit.model.value import Json

MOST = 1024 * 1024
"""Bytes of each stream that are kept; what is more is told in the record alone."""
_HIDDEN = b"[secret]"


class Printed:
    """Passes on what a change prints, and keeps the beginning of it.

    `hidden`: values that the run keeps secret. The record masks them; here they are not kept.
    """

    def __init__(self, write: Write, hidden: Collection[str]) -> None:
        self._write = write
        self._hidden = [value.encode() for value in hidden if value]
        self._kept: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._cut = False

    def __call__(self, stream: Stream, data: bytes) -> None:
        kept = self._kept[stream]
        room = MOST - len(kept)
        kept += data[:room]
        self._cut = self._cut or len(data) > room
        self._write(stream, data)

    def packed(self, evidence: Mapping[str, Json]) -> bytes:
        """Return all of it with what the change came to, compressed."""
        out, notes = (self._masked(self._kept[stream]) for stream in ("stdout", "stderr"))
        head = {"evidence": dict(evidence), "cut": self._cut, "notes": len(notes)}
        return zlib.compress(json.dumps(head).encode() + b"\n" + notes + out, 1)

    def _masked(self, data: bytes | bytearray) -> bytes:
        whole = bytes(data)
        for value in self._hidden:
            whole = whole.replace(value, _HIDDEN)
        return whole


@frozen
class Told:
    """What was kept: the same as was told when it was done."""

    stdout: bytes
    stderr: bytes
    evidence: Mapping[str, Json]


def unpacked(packed: bytes) -> Told:
    """Return what was kept; of a change that an older opskit made nothing was, and it says so."""
    if not packed:
        return Told(stdout=b"", stderr=b"", evidence={"printed": "not kept beside the mark"})
    head, _, rest = zlib.decompress(packed).partition(b"\n")
    told = json.loads(head)
    evidence: dict[str, Json] = dict(told["evidence"])
    if told["cut"]:
        evidence["printed"] = f"of each stream the first {MOST} bytes were kept beside the mark"
    notes = told["notes"]
    return Told(stdout=rest[notes:], stderr=rest[:notes], evidence=evidence)
