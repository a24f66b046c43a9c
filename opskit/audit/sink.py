"""The output of one attempt, on its way into the record: masked, counted, deflated, in parts."""

import hashlib
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import cache
from importlib import import_module
from typing import Literal, TypeAlias, cast

from opskit.audit.masking import MARK, Masker
from opskit.model.frozen import frozen, mutable
from opskit.model.value import Json

Stream: TypeAlias = Literal["stdout", "stderr"]

PART = 128 * 1024
"""Bytes of output that go into one part; also the most that a stream keeps in memory."""

STALE = 1.0
"""Seconds after which even a small part is handed on, so that a slow command's output is there."""

STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

_SMALL = 128


@frozen
class Part:
    """The next piece of a stream. Who writes it packs it: hosts need not wait for that."""

    key: str
    attempt: int
    stream: Stream
    part: int
    data: bytes


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


@mutable
class Stored:
    """What the record has of a stream whose output is told once more."""

    parts: int = 0
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, data: bytes) -> None:
        """Take in the next part."""
        self.parts += 1
        self.size += len(data)
        self.digest.update(data)


class Sink:
    """Takes the output of one attempt. `secret` hides all of standard output: it is one.

    `stored`: what the record has of it already, where it is told from its beginning once more.
    """

    def __init__(
        self,
        *,
        key: str,
        attempt: int,
        secret: bool,
        masker: Callable[[], Masker],
        hand_on: Callable[[Part], None],
        stored: Mapping[Stream, Stored] | None = None,
    ) -> None:
        self._key = key
        self._attempt = attempt
        self._secret = secret
        self._masker = masker
        self._hand_on = hand_on
        self._streams: dict[Stream, _Stream] = {}
        self._stored = dict(stored or {})
        self._ended: Mapping[str, Json] | None = None

    def write(self, stream: Stream, data: bytes) -> None:
        """Take the next bytes as they came."""
        if data:
            self._of(stream).write(data)

    def close(self) -> Mapping[str, Json]:
        """End both streams: stream → {bytes, sha256, cut} of what is stored."""
        if self._ended is None:
            for stream in self._stored:
                self._of(stream)
            self._ended = {name: stream.close() for name, stream in sorted(self._streams.items())}
        return self._ended

    def _of(self, stream: Stream) -> "_Stream":
        if stream not in self._streams:
            secret = self._secret and stream == "stdout"

            def hand_on(number: int, data: bytes) -> None:
                part = Part(
                    key=self._key, attempt=self._attempt, stream=stream, part=number, data=data
                )
                self._hand_on(part)

            stored = self._stored.get(stream)
            self._streams[stream] = _Stream(self._masker, hand_on, secret=secret, stored=stored)
        return self._streams[stream]


class _Stream:
    """One stream: masks, counts, and hands parts on."""

    def __init__(
        self,
        masker: Callable[[], Masker],
        hand_on: Callable[[int, bytes], None],
        *,
        secret: bool,
        stored: Stored | None,
    ) -> None:
        self._masker = masker
        self._masked = masker().stream()
        self._hand_on = hand_on
        self._secret = secret
        self._pieces: list[bytes] = []
        self._waiting = 0
        stored = stored or Stored()
        self._bytes, self._parts, self._digest = stored.size, stored.parts, stored.digest
        self._over = stored.size
        """How many masked bytes are still to be passed over: they are stored."""
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
        # Told again, it was shorter than what is stored: the host had thrown the beginning away.
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest(), "cut": bool(self._over)}

    def _keep(self, data: bytes) -> None:
        if self._over:
            data, self._over = data[self._over :], max(0, self._over - len(data))
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
