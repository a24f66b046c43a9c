"""The machine that opskit runs on: the same shim, in a local `sh`."""

import os
import selectors
import socket
import subprocess
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from opskit.drivers.wire import LostError, Pipe, Wire

_CHUNK = 64 * 1024


class LocalWire:
    """A child process in a session of its own."""

    def __init__(self, words: tuple[str, ...], environ: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            words,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._selector = selectors.DefaultSelector()
        self._open = 0
        for stream, name in ((self._process.stdout, 0), (self._process.stderr, 1)):
            assert stream is not None
            self._selector.register(stream, selectors.EVENT_READ, name)
            self._open += 1
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        os.set_blocking(self._stdin.fileno(), False)

    def send(self, data: bytes, timeout: float) -> None:
        end = time.monotonic() + timeout
        view = memoryview(data)
        with selectors.DefaultSelector() as ready:
            ready.register(self._stdin, selectors.EVENT_WRITE)
            while view:
                if not ready.select(max(0.0, end - time.monotonic())):
                    raise LostError("the local shell takes no input")
                try:
                    view = view[os.write(self._stdin.fileno(), view[:_CHUNK]) :]
                except BlockingIOError:
                    continue
                except (OSError, ValueError) as error:
                    raise LostError(f"the local shell is gone ({error})") from None

    def receive(self, timeout: float) -> tuple[bytes, bytes]:
        if not self._open:
            raise LostError("the local shell has ended")
        got = [b"", b""]
        for key, _ in self._selector.select(timeout):
            data = os.read(key.fd, _CHUNK)
            if not data:
                self._selector.unregister(key.fileobj)
                self._open -= 1
            got[key.data] = data
        return got[0], got[1]

    @property
    def alive(self) -> bool:
        return self._open == 2 and self._process.poll() is None

    def close(self) -> None:
        """Close its input, on which a shell ends; one that is busy is left to end by itself."""
        with suppress(OSError):
            self._stdin.close()
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
            return
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LocalLink:
    """Shells on this machine."""

    address = "localhost"

    def __init__(self, hidden: Collection[str] = ()) -> None:
        """`hidden`: variables that were meant for opskit alone, as they hold secrets."""
        import getpass

        self.user = getpass.getuser()
        self._hidden = frozenset(hidden)

    @property
    def alive(self) -> bool:
        return True

    def shell(self, become: str | None) -> Wire:
        words = ("sudo", "-n", "-H", "-u", become, "sh") if become else ("sh",)
        return LocalWire(words, {k: v for k, v in os.environ.items() if k not in self._hidden})

    def tunnel(self, host: str, port: int, timeout: float) -> Pipe:
        return socket.create_connection((host, port), timeout)

    def close(self) -> None:
        """Nothing is held between shells."""
