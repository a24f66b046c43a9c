"""Output on its way from a host to whoever wants it."""

from opskit.drivers.session import Write
from opskit.drivers.wire import Stream


class Capture:
    """Passes output on up to a limit for each stream, and keeps the beginning of stdout.

    A stream may be told more than once from its beginning (a change is read while it runs and again
    when it has ended): `at` says from where on what follows is told.
    """

    def __init__(self, write: Write, *, limit: int, keep: int) -> None:
        self._write = write
        self._limit = limit
        self._keep = keep
        self._kept = bytearray()
        self.seen: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self._at: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self.cut: set[Stream] = set()

    @property
    def stdout(self) -> bytes:
        return bytes(self._kept)

    def told(self, stream: Stream) -> int:
        """How far the stream was told, in bytes from its beginning."""
        return self._at[stream]

    def rewind(self, *, beginning: bool) -> None:
        """What follows is told from the beginning, or from where it was last passed on."""
        for stream in self._at:
            self._at[stream] = 0 if beginning else self.seen[stream]

    def __call__(self, stream: Stream, data: bytes) -> None:
        start = self._at[stream]
        self._at[stream] = start + len(data)
        fresh = data[max(0, self.seen[stream] - start) :] if start < self.seen[stream] else data
        if not fresh or stream in self.cut:
            return
        room = self._limit - self.seen[stream]
        if len(fresh) > room:
            fresh = fresh[:room]
            self.cut.add(stream)
        self.seen[stream] += len(fresh)
        if stream == "stdout" and len(self._kept) < self._keep:
            self._kept += fresh[: self._keep - len(self._kept)]
        if fresh:
            self._write(stream, fresh)
