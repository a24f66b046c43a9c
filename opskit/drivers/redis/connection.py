"""One connection to a Redis server, at the level of its protocol; every wait has an end."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeAlias, cast
from urllib.parse import unquote, urlsplit

import hiredis

from opskit.drivers.relay import Open, Relay
from opskit.errors import OpskitError
from opskit.model.inventory import Redis

_LOOK = 0.1
"""How often a wait looks whether it shall go on; seconds."""
_PIECE = 64 * 1024
_MORE = 1024 * 1024
"""How much longer than what is kept of it an answer may be, for what is around its values."""
_PORT = 6379
_PENDING = object()

Reply: TypeAlias = "bytes | int | float | bool | list[Reply] | Refusal | None"
Watch = Callable[[], None]
"""Called while something is waited for; what it raises ends the wait."""


class Refusal(Exception):  # noqa: N818 - an answer, which may stand within another
    """What a server answers instead of what was asked for; `code` is its first word."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = " ".join(what.split())
        self.code = self.what.split(" ", 1)[0]


class ServerError(OpskitError):
    """The server refused a command; the connection is whole."""

    def __init__(self, what: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.code = code


class BrokenError(OpskitError):
    """The connection is gone; what was sent over it may have been done."""


class TooLongError(OpskitError):
    """An answer is longer than may be kept; the rest of it is not waited for."""


class EndedError(OpskitError):
    """The wait was ended: out of time, or stopped."""


class Connection:
    """Used by one thread at a time. `watch` is asked while something is waited for."""

    def __init__(self, raw: socket.socket, relay: Relay | None, limit: int, host: str = "") -> None:
        self.host = host
        self._raw = raw
        self._relay = relay
        self._limit = limit + _MORE
        self._reader = hiredis.Reader(replyError=Refusal, notEnoughData=_PENDING)
        self._ahead, self._owed = b"", 0
        self._early = b""
        self._foreseen: dict[bytes, list[Reply]] = {}
        """What was answered to commands that somebody is about to give."""
        self.watch: Watch = lambda: None

    def call(self, *words: bytes | str) -> Reply:
        """Send a command and return what is answered; ServerError where that is a refusal."""
        return self.ask(packed(words))

    def ask(self, data: bytes) -> Reply:
        """Send a command that is written out already; for the rest as `call`."""
        if self._foreseen and data in self._foreseen:
            return accepted(self._known(data))
        self._send(data)
        return accepted(self._receive())

    def ahead(self, data: bytes, count: int = 1) -> None:
        """Send commands that are written out already, to do something else while they are done."""
        self._send(data)
        self._ahead, self._owed = data, count

    def answered(self, data: bytes) -> Reply:
        """Return what is answered to a command that was sent ahead; for the rest as `call`.

        Where something else was asked meanwhile its answer is gone: then it is sent again.
        """
        return accepted(self.all_answered(data, 1)[0])

    def all_answered(self, data: bytes, count: int) -> list[Reply]:
        """Return what is answered to so many commands; for the rest as `calls` and `answered`."""
        if not self._owed or self._ahead is not data:
            self.ahead(data, count)
        return self._taken()

    def of_each(self, names: Sequence[bytes], *commands: str) -> Callable[[], list[Reply]]:
        """Send commands of one key each, all of them for each name; what is returned waits for the
        answers, as `calls` does.
        """
        if self._foreseen:
            each = [packed((one, name)) for name in names for one in commands]
            if all(data in self._foreseen for data in each):
                return lambda: [self._known(data) for data in each]
        data, count = of_each(names, commands), len(names) * len(commands)
        self.ahead(data, count)
        return lambda: self.all_answered(data, count)

    def calls(self, commands: Sequence[tuple[bytes | str, ...]]) -> list[Reply]:
        """Send commands together, some thousand at most; a refusal is among what is answered."""
        return self.all_answered(b"".join(map(packed, commands)), len(commands))

    def each(self, commands: Sequence[bytes]) -> Iterator[Reply]:
        """Send commands together that are written out; return what is answered, one by one."""
        self.ahead(b"".join(commands), len(commands))
        return self._owing()

    def foresee(self, commands: Sequence[bytes], said: Iterator[Reply]) -> None:
        """Take in what is answered to these, for whoever will ask the same: each answer once."""
        for data in commands:
            self._foreseen.setdefault(data, []).append(next(said))

    def forget(self) -> None:
        """Ask anew whatever is asked from now on."""
        self._foreseen = {}

    def send(self, data: bytes) -> None:
        """Send commands that are written out already."""
        self._send(data)

    def answers(self, expected: bytes, count: int) -> list[Reply] | None:
        """Return None where exactly this is answered to what was sent, else the so many answers.

        What comes after these is kept for whoever asks next: more may have been sent by then.
        """
        if self._reader.has_data():  # answers before these were others, and these came with them
            return [self._receive() for _ in range(count)]
        found = bytearray()
        while len(found) < len(expected) and expected.startswith(found):
            found += self._more()
        if found.startswith(expected):
            self._early = bytes(found[len(expected) :])
            return None
        self._reader.feed(bytes(found))
        return [self._receive() for _ in range(count)]

    def close(self) -> None:
        with suppress(OSError):
            self._raw.close()
        if self._relay is not None:
            self._relay.close()

    def _send(self, data: bytes) -> None:
        self._taken()  # nobody has waited for what is owed
        view, at = memoryview(data), 0
        with _broken():
            while at < len(view):
                self.watch()
                with suppress(TimeoutError, ssl.SSLWantWriteError):
                    at += self._raw.send(view[at : at + _PIECE])

    def _taken(self) -> list[Reply]:
        """Take in all that is owed; what an error leaves of it is still owed."""
        return list(self._owing())

    def _owing(self) -> Iterator[Reply]:
        """Yield what is owed; what nobody has waited for is still owed."""
        while self._owed:
            found = self._receive()
            self._owed -= 1
            yield found

    def _known(self, data: bytes) -> Reply:
        """Return what was answered to a command that was foreseen."""
        found = self._foreseen[data].pop(0)
        if not self._foreseen[data]:
            del self._foreseen[data]
        return found

    def _receive(self) -> Reply:
        size = 0
        while (found := self._parsed()) is _PENDING:
            data = self._more()
            size += len(data)
            if size > self._limit:
                raise TooLongError(f"its answer is longer than {self._limit - _MORE} bytes")
            self._reader.feed(data)
        return cast(Reply, found)

    def _parsed(self) -> object:
        try:
            return self._reader.gets()
        except hiredis.ProtocolError as error:
            raise BrokenError(f"what answers does not speak as Redis does ({error})") from None

    def _more(self) -> bytes:
        if self._early:
            early, self._early = self._early, b""
            return early
        while True:
            self.watch()
            with _broken(), suppress(TimeoutError, ssl.SSLWantReadError):
                data = self._raw.recv(_PIECE)
                if not data:
                    raise BrokenError("the server closed the connection")
                return data


def accepted(found: Reply) -> Reply:
    """Return an answer; ServerError where it is a refusal."""
    if isinstance(found, Refusal):
        raise ServerError(found.what, code=found.code)
    return found


def packed(words: tuple[bytes | str, ...]) -> bytes:
    """Return a command as it is sent: each word with its length before it, whatever is in it."""
    return b"*%d\r\n%s" % (len(words), written(words))


def written(words: Sequence[bytes | str]) -> bytes:
    """Return words of a command as they are sent."""
    return spelled([word if isinstance(word, bytes) else encoded(word) for word in words])


def spelled(words: Sequence[bytes]) -> bytes:
    """Return many words as they are sent."""
    return b"".join([b"$%d\r\n%s\r\n" % (len(one), one) for one in words])


def of_each(names: Sequence[bytes], commands: Sequence[str]) -> bytes:
    """Write out commands of one key each, all of them for each name."""
    form = b"".join([b"*2\r\n%b$%%d\r\n%%b\r\n" % written((one,)) for one in commands])
    times = len(commands)
    return b"".join([form % ((len(name), name) * times) for name in names])


def encoded(word: bytes | str) -> bytes:
    """Return the bytes of a word; those that are not UTF-8 stand in a text as lone surrogates."""
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


@contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise BrokenError(f"the connection broke ({error.strerror or error})") from None


def connect(server: Redis, watch: Watch, through: Callable[[], Open] | None) -> Connection:
    """Connect within the time that the inventory gives; BrokenError says why not."""
    parts = urlsplit(server.url)
    host, port = str(parts.hostname), parts.port or _PORT
    relay = None
    raw: socket.socket | None = None
    try:
        if through is not None:
            relay = Relay(through(), host, port, server.connect_timeout)
            raw = socket.create_connection(("127.0.0.1", relay.port), server.connect_timeout)
            relay.admit(raw.fileno())
        else:
            raw = socket.create_connection((host, port), server.connect_timeout)
        _alive(raw)
        if parts.scheme == "rediss":
            raw = ssl.create_default_context(cafile=server.ca).wrap_socket(
                raw, server_hostname=host
            )
    except BaseException as error:
        for one in (raw, relay):
            if one is not None:
                one.close()
        if isinstance(error, OSError):
            raise BrokenError(f"it can't be reached ({error.strerror or error})") from None
        raise
    raw.settimeout(_LOOK)
    found = Connection(raw, relay, server.max_output, host)
    found.watch = watch
    return found


def _alive(raw: socket.socket) -> None:
    """Let every wait for the network end, and no small packet wait for another."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 20_000),
    ):
        if hasattr(socket, name):
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def user_of(server: Redis) -> str:
    return unquote(urlsplit(server.url).username or "")


def index_of(server: Redis) -> int:
    """Return which of the server's databases is meant."""
    return int(urlsplit(server.url).path.strip("/") or 0)


def elsewhere(server: Redis, host: str, port: int) -> Redis:
    """Return the entry of another server that is reached in the same way."""
    parts = urlsplit(server.url)
    who, at, _ = parts.netloc.rpartition("@")
    name = f"[{host}]" if ":" in host else host
    return replace(server, url=parts._replace(netloc=f"{who}{at}{name}:{port}").geturl())


def address_of(server: Redis) -> str:
    parts = urlsplit(server.url)
    return f"{parts.hostname}:{parts.port or _PORT}/{index_of(server)}"
