"""The output of one attempt, on its way into the record: masked, counted, deflated, in parts."""

import hashlib
import time
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Literal, TypeAlias, cast

from opskit.audit.masking import MARK, Masker
from opskit.model.frozen import frozen
from opskit.model.value import Json

Stream: TypeAlias = Literal["stdout", "stderr"]

PART = 128 * 1024
"""Bytes of output that go into one part; also the most that a stream keeps in memory."""

STALE = 1.0
"""Seconds after which even a small part is handed on, so that a slow command's output is there."""

_SMALL = 128


@frozen
class Part:
    """The next piece of a stream, as it is stored."""

    key: str
    attempt: int
    stream: Stream
    part: int
    size: int
    packed: bool
    body: bytes


@cache
def _deflate() -> Callable[[bytes, int], bytes]:
    """Return the quickest deflate there is: isal's writes the same format at some five times the
    speed, and whoever reads needs only zlib."""
    try:
        return cast(Callable[[bytes, int], bytes], import_module("isal.isal_zlib").compress)
    except ImportError:
        return zlib.compress


def pack(data: bytes) -> tuple[bool, bytes]:
    """Deflate what gets smaller by it; return whether it did, and the bytes to store."""
    if len(data) < _SMALL:
        return False, data
    packed = _deflate()(data, 1)
    return (True, packed) if len(packed) < len(data) else (False, data)


def unpack(packed: bool, body: bytes) -> bytes:
    """Return what `pack` was given; zlib.error when it is damaged."""
    return zlib.decompress(body) if packed else body


class Sink:
    """Takes the output of one attempt. `secret` hides all of standard output: it is one."""

    def __init__(
        self,
        *,
        key: str,
        attempt: int,
        secret: bool,
        masker: Callable[[], Masker],
        hand_on: Callable[[Part], None],
    ) -> None:
        self._key = key
        self._attempt = attempt
        self._secret = secret
        self._masker = masker
        self._hand_on = hand_on
        self._streams: dict[Stream, _Stream] = {}
        self._ended: Mapping[str, Json] | None = None

    def write(self, stream: Stream, data: bytes) -> None:
        """Take the next bytes as they came."""
        if data:
            self._of(stream).write(data)

    def close(self) -> Mapping[str, Json]:
        """End both streams: stream → {bytes, sha256, cut} of what is stored."""
        if self._ended is None:
            self._ended = {name: stream.close() for name, stream in sorted(self._streams.items())}
        return self._ended

    def _of(self, stream: Stream) -> "_Stream":
        if stream not in self._streams:
            secret = self._secret and stream == "stdout"

            def hand_on(number: int, data: bytes) -> None:
                packed, body = pack(data)
                part = Part(
                    key=self._key,
                    attempt=self._attempt,
                    stream=stream,
                    part=number,
                    size=len(data),
                    packed=packed,
                    body=body,
                )
                self._hand_on(part)

            self._streams[stream] = _Stream(self._masker, hand_on, secret=secret)
        return self._streams[stream]


class _Stream:
    """One stream: masks, counts, and hands parts on."""

    def __init__(
        self,
        masker: Callable[[], Masker],
        hand_on: Callable[[int, bytes], None],
        *,
        secret: bool,
    ) -> None:
        self._masker = masker
        self._masked = masker().stream()
        self._hand_on = hand_on
        self._secret = secret
        self._pieces: list[bytes] = []
        self._waiting = self._bytes = self._parts = 0
        self._digest = hashlib.sha256()
        self._since = time.monotonic()

    def write(self, data: bytes) -> None:
        if self._secret:
            return
        self._masked.masker = self._masker()  # the run may have learnt another secret
        self._keep(self._masked.feed(data))
        if self._waiting >= PART or (self._waiting and time.monotonic() - self._since > STALE):
            self._flush()

    def close(self) -> Mapping[str, Json]:
        self._keep(MARK if self._secret else self._masked.finish())
        self._flush()
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest(), "cut": False}

    def _keep(self, data: bytes) -> None:
        if data:
            if not self._waiting:
                self._since = time.monotonic()
            self._pieces.append(data)
            self._waiting += len(data)

    def _flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._waiting = [], 0
        self._bytes += len(data)
        self._digest.update(data)
        for start in range(0, len(data), PART):
            self._hand_on(self._parts, data[start : start + PART])
            self._parts += 1
