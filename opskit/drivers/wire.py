"""A shell somewhere, reduced to three byte streams."""

from typing import Literal, Protocol

from opskit.errors import OpskitError

Stream = Literal["stdout", "stderr"]


class LostError(OpskitError):
    """The shell or the way to it is gone; what it was doing may go on."""


class RefusedChannelError(OpskitError):
    """The other side allows no further channel on this connection (MaxSessions)."""


class Wire(Protocol):
    """Standard input, output and error of one `sh`; used by one thread at a time."""

    def send(self, data: bytes, timeout: float) -> None:
        """Hand over all of `data`; LostError when that can't be done in `timeout` seconds."""

    def receive(self, timeout: float) -> tuple[bytes, bytes]:
        """Return what has come on stdout and stderr, waiting for at most `timeout` seconds.

        Both empty: nothing came. LostError: nothing will come any more.
        """

    @property
    def alive(self) -> bool:
        """Whether the shell is there, as far as this end knows."""

    def close(self) -> None:
        """Let go; never waits long, never raises."""


class Pipe(Protocol):
    """A byte stream to a port that the far end can reach."""

    def settimeout(self, timeout: float | None, /) -> None: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Link(Protocol):
    """A way to a host over which shells can be opened."""

    user: str
    address: str

    def shell(self, become: str | None) -> Wire:
        """Start a `sh`, as another user by sudo if asked for."""

    def tunnel(self, host: str, port: int, timeout: float) -> Pipe:
        """Connect from there to `host` and `port`; OSError when that fails."""

    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...
