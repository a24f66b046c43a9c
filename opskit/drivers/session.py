"""A conversation with the shim: requests out, output and answers back."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib import resources
from itertools import count

from opskit.drivers.wire import LostError, Stream, Wire

Write = Callable[[Stream, bytes], None]

_LINE = 64 * 1024
_LAST_WORDS = 2.0
"""Seconds to wait for what a shell still says that takes nothing more."""
_NOISE = 1024 * 1024


def quote(word: str) -> str:
    """Return `word` as one single-quoted word of a POSIX shell."""
    return "'" + word.replace("'", "'\\''") + "'"


def drop(_stream: Stream, _data: bytes) -> None:
    """Be the writer of what nobody wants."""


@cache
def shim() -> bytes:
    """Return the shim's text, without its comments: it is sent over every channel."""
    text = resources.files("opskit.drivers").joinpath("shim.sh").read_text("utf-8")
    lines = (line.lstrip() if line.startswith(" ") else line for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#")).encode() + b"\n"


def _line(call: str, words: Iterable[str]) -> bytes:
    """Return a request. The braces keep one that was cut short from being a command."""
    return f"{{ {' '.join([call, *map(quote, words)])}; }}\n".encode("utf-8", "surrogateescape")


class Scanner:
    """One stream up to its mark. What could be the mark's beginning is held back."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held = b""
        self._after: bytes | None = None

    @property
    def found(self) -> bool:
        return self._after is not None

    @property
    def line(self) -> bytes | None:
        """What follows the mark up to the end of its line, once it is there."""
        if self._after is None or b"\n" not in self._after:
            return None
        return self._after.partition(b"\n")[0]

    def feed(self, data: bytes) -> bytes:
        """Take what came, return what belongs to the output."""
        if self._after is not None:
            if len(self._after) > _LINE:
                raise LostError("the shell answers with an endless line")
            self._after += data
            return b""
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self._held, self._after = b"", data[at + len(self._mark) :]
            return data[:at]
        keep = self._overlap(data)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def _overlap(self, data: bytes) -> int:
        """How many bytes at the end of `data` may be the beginning of the mark."""
        size = min(len(self._mark) - 1, len(data))
        at = data.find(self._mark[:1], len(data) - size)
        while at >= 0:
            if self._mark.startswith(data[at:]):
                return len(data) - at
            at = data.find(self._mark[:1], at + 1)
        return 0


def _marks() -> Iterator[str]:
    """Yield words which none can be guessed of from all those before it.

    Random bytes would do as well; but to ask the system for them lets another thread go first.
    """
    key = secrets.token_bytes(32)
    for number in count():
        yield blake2b(number.to_bytes(8, "big"), key=key, digest_size=16).hexdigest()


class Session:
    """One shim, one request at a time. `clean` turns False when it must not be used again."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.clean = True
        self.pid = 0
        self.boot_id = ""
        self.nonce = ""
        self.state_dir = ""
        self.why_closed = ""
        self.fenced_by = ""
        """Who has a lock of this run on the host."""
        self._marks = _marks()
        self._out = self._err = Scanner(b"-")
        self.busy = False

    def begin(self, function: str, *words: str, timeout: float = 30.0) -> None:
        """Send a request; `poll` brings its answer."""
        mark = next(self._marks)
        self._expect(mark)
        self._send(_line(f"_o {mark} {function}", words), timeout)

    def poll(self, write: Write, timeout: float) -> tuple[str, ...] | None:
        """Pass on what has come within `timeout` seconds; return the answer when it is complete."""
        try:
            out, err = self.wire.receive(timeout)
            if err and (data := self._err.feed(err)):
                write("stderr", data)
            if out and (data := self._out.feed(out)):
                write("stdout", data)
            return self._answer()
        except LostError:
            self.clean = False
            raise

    def call(
        self, function: str, *words: str, timeout: float, write: Write = drop
    ) -> tuple[str, ...]:
        """Send a request and wait for its answer; TimeoutError leaves the session unclean."""
        self.begin(function, *words, timeout=timeout)
        return self.wait(write, timeout)

    def wait(self, write: Write, timeout: float) -> tuple[str, ...]:
        """Wait for the answer to what was sent."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            answer = self.poll(write, left)
            if answer is not None:
                return answer
        self.clean = False
        raise TimeoutError

    def give(self, path: str, data: Iterable[bytes], size: int, timeout: float) -> str:
        """Send `size` raw bytes into a new file at `path`; return why that failed, or nothing."""
        end = time.monotonic() + timeout
        second = next(self._marks)
        noise = bytearray()
        answer = self.call(
            "_o_take",
            second,
            str(size),
            path,
            timeout=timeout,
            write=lambda _stream, part: noise.extend(part),
        )
        if answer != ("ready",):
            return tail(noise) or "the file can't be made"
        self._expect(second)
        try:
            for part in data:
                self._send(part, max(0.0, end - time.monotonic()))
            self.wait(lambda _stream, part: noise.extend(part), end - time.monotonic())
        except LostError as error:
            return tail(noise) or error.what
        except BaseException:
            self.clean = False  # it still waits for bytes: nothing else may be sent to it
            raise
        return ""

    def hello(self, become: str | None, mine: tuple[str, ...], timeout: float) -> None:
        """Send the shim and hear from it. `mine`: state_dir, run, nonce where it may write."""
        mark = next(self._marks)
        noise = bytearray()
        words = (mark[:16], mark[16:], become or "", *mine)
        self._expect(mark)

        def hear(_stream: Stream, data: bytes) -> None:
            noise.extend(data)
            if len(noise) > _NOISE:
                raise LostError("it prints without end")

        try:
            self._greet(shim() + _line("_o_hello", words), hear, timeout)
            answer = self.wait(hear, timeout)
        except TimeoutError:
            raise LostError(f"no answer in {timeout:.0f} s{said(noise)}") from None
        except LostError as error:
            raise LostError(f"{error.what}{said(noise)}") from None
        if len(answer) < 4 or answer[0] != "opskit":
            raise LostError(f"not a POSIX shell{said(noise)}")
        self.pid, self.boot_id = int(answer[1]), answer[2]
        self._opened(answer[3:], noise)

    def _greet(self, data: bytes, hear: Write, timeout: float) -> None:
        """Send the first bytes. What does not take them says why as it ends: that is heard."""
        try:
            self._send(data, timeout)
        except LostError as error:
            with suppress(TimeoutError):
                self.wait(hear, min(timeout, _LAST_WORDS))
            raise error from None

    def open(self, mine: tuple[str, ...], timeout: float) -> None:
        """Let the shim make the run's directory, unless it has."""
        noise = bytearray()
        answer = self.call(
            "_o_open", *mine, timeout=timeout, write=lambda _stream, data: noise.extend(data)
        )
        self._opened(answer, noise)

    def _opened(self, words: tuple[str, ...], noise: bytes | bytearray) -> None:
        if words[0] == "open":
            self.nonce, self.state_dir = words[1], " ".join(words[2:])
        elif words[0] == "fenced":
            self.fenced_by = tail(noise)
        else:
            self.why_closed = tail(noise)

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self.clean and not self.busy and self.wire.alive

    def close(self) -> None:
        self.clean = False
        self.wire.close()

    def _expect(self, mark: str) -> None:
        self._out, self._err = Scanner(mark.encode()), Scanner(mark.encode())
        self.busy = True

    def _send(self, data: bytes, timeout: float) -> None:
        try:
            self.wire.send(data, timeout)
        except LostError:
            self.clean = False
            raise

    def _answer(self) -> tuple[str, ...] | None:
        line = self._out.line
        if line is None or (line.startswith(b" 1") and not self._err.found):
            return None
        self.busy = False
        return tuple(line.decode("utf-8", "replace").split(" ")[2:])


def tail(noise: bytes | bytearray) -> str:
    """Return the last two lines that say something, made fit for a message."""
    text = bytes(noise[-2000:]).decode("utf-8", "replace")
    shown = "".join(c if c == "\n" or c.isprintable() else "?" for c in text)
    lines = [line.strip() for line in shown.split("\n") if line.strip()]
    return " / ".join(line[:200] for line in lines[-2:])


def said(noise: bytes | bytearray) -> str:
    """Return what was heard, as the end of a sentence."""
    return f'; it said "{tail(noise)}"' if tail(noise) else ""
