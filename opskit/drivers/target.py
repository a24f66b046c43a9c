"""One host during one run: the connection, and a shell per user."""

import re
import secrets
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import TypeVar

from opskit.drivers.session import Session
from opskit.drivers.wire import Link, LostError, RefusedChannelError
from opskit.errors import OpskitError, UnreachableError
from opskit.model.frozen import mutable
from opskit.model.inventory import Host
from opskit.model.job import Output
from opskit.model.value import Json

_VERDICT = 60.0
T = TypeVar("T")
HELD = (
    "if that run is of the same record, it has taken this one's place; if it is of another record,"
    " let it come to its end there, or take its lock away: --steal RUN"
)
"""What to do when somebody else has a lock of the run on a target."""

_USER = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?"


@mutable
class Running:
    """What runs on a target at this moment, so that somebody else can end it.

    A command has a session, a change a digest as well; a request has only `give_up`. `why` says,
    once it has been set, why it is ended; without it that was for a person.
    """

    key: str
    attempt: int
    user: str | None = None
    session: Session | None = None
    digest: str | None = None
    mark: str = ""
    give_up: threading.Event = field(default_factory=threading.Event)
    why: str = ""
    stopped: str = ""
    settled: threading.Event = field(default_factory=threading.Event)
    """Set once `stopped` says how the stop went."""

    def judged(self, output: Output) -> Output:
        """Say of an output, where what it is of was stopped, why and how far that is proved."""
        if not self.give_up.is_set() or output.outcome == "succeeded":
            return output
        self.settled.wait(_VERDICT)
        verdict = self.stopped or "can't tell"
        if verdict == "ended":  # by itself, before it could be stopped
            return output
        gone = verdict == "confirmed gone" or self.digest is None
        return replace(
            output,
            outcome="failed" if gone else "unknown",
            reason=f"{self.because}, {worded(verdict)}",
            evidence={**output.evidence, **self.proof(verdict)},
        )

    @property
    def because(self) -> str:
        return self.why or "stopped by a person"

    def proof(self, verdict: str) -> Mapping[str, Json]:
        """Return what the record keeps of a stop: who stopped it matters to what follows."""
        return {"ended" if self.why else "stopped": verdict}


def worded(verdict: str) -> str:
    """Say how far a stop is proved, as the end of a sentence."""
    return "can't tell whether it still runs" if verdict == "can't tell" else verdict


class Target:
    """Shells on one host, opened when first needed and again when one was lost.

    A session is used by one thread at a time; spares may be opened by any thread.
    """

    def __init__(
        self, host: Host, run: str, connect: Callable[[Host], Link], leases: Sequence[str] = ()
    ) -> None:
        self.host = host
        self.run = run
        self.running: Running | None = None
        self._connect = connect
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._sessions: dict[str | None, Session] = {}
        self._leases = leases
        self._nonce = secrets.token_hex(16)
        self._wrote = False

    def beside(self) -> "Target":
        """Return shells of their own on the same host, over the same line."""
        return Target(self.host, self.run, lambda _: self.link, self._leases)

    @property
    def timeout(self) -> float:
        return self.host.connection.connect_timeout

    @property
    def link(self) -> Link:
        """The way to the host, made (again) when there is none."""
        with self._lock:
            if self._link is None or not self._link.alive:
                self._forget()
                self._link = self._connect(self.host)
            return self._link

    @property
    def connected(self) -> bool:
        """Whether the line to the host is up, as far as this end knows."""
        with self._lock:
            return self._link is not None and self._link.alive

    def session(self, user: str | None, *, writes: bool) -> Session:
        """Return the shell of `user` (None: who logs in), with the run's directory if it writes."""
        with self._lock:
            link = self.link
            user = None if user == link.user else user
            session = self._sessions.get(user)
            if session is None or not session.usable:
                session = self._sessions[user] = self._shell(user, writes=writes)
            elif writes and not session.nonce:
                self._reached(lambda: session.open(self._mine(), self.timeout))
            if session.fenced_by:
                raise self._fenced(session)
            self._wrote = self._wrote or bool(session.nonce)
            return session

    def spare(self, user: str | None, *, writes: bool) -> Session:
        """Return a further shell of `user`, for when the first is busy; whoever asks closes it."""
        with self._lock:
            user = None if user == self.link.user else user
            return self._shell(user, writes=writes)

    def discard(self, session: Session) -> None:
        """Never use this shell again."""
        with self._lock:
            session.close()
            self._sessions = {u: s for u, s in self._sessions.items() if s is not session}

    def clean(self, timeout: float) -> None:
        """Remove what this run keeps on the host, for every user that it wrote as."""
        self._everywhere("_o_clean", timeout)

    def free(self, timeout: float) -> None:
        """Show on the host that this run's locks are free."""
        self._everywhere("_o_free", timeout)

    def forget(self, timeout: float) -> None:
        """Remove what commands have printed, which is recorded; the traces of changes stay."""
        self._everywhere("_o_forget", timeout)

    def _everywhere(self, function: str, timeout: float) -> None:
        users = [u for u, s in self._sessions.items() if s.nonce and s.usable]
        for user in users if self._wrote else ():
            with suppress(OpskitError, TimeoutError):
                self.session(user, writes=True).call(function, timeout=timeout)

    def close(self) -> None:
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions = {}
        if self._link is not None:
            self._link.close()
        self._link = None

    def _mine(self) -> tuple[str, ...]:
        return (self.host.connection.state_dir, self.run, self._nonce, *self._leases)

    def _shell(self, user: str | None, *, writes: bool) -> Session:
        if user is not None and not re.fullmatch(_USER, user):
            raise UnreachableError(f"{user!r} is no user name", where=f"host {self.host.name}")
        link = self.link
        try:
            return self._reached(lambda: self._greet(user, writes=writes))
        except UnreachableError:
            if link.alive:
                raise
        # The line had broken unnoticed, or breaks now: nothing was sent over it, and one more is
        # tried.
        return self._reached(lambda: self._greet(user, writes=writes))

    def _greet(self, user: str | None, *, writes: bool) -> Session:
        session = Session(self.link.shell(user))
        try:
            session.hello(user, self._mine() if writes else (), self.timeout)
        except BaseException as error:
            session.close()
            if user and isinstance(error, LostError):
                raise self._no_become(user, error.what) from None
            raise
        return session

    def _fenced(self, session: Session) -> UnreachableError:
        self.discard(session)
        return UnreachableError(
            f"its lock is held there by run {session.fenced_by}",
            where=f"host {self.host.name}",
            hint=HELD,
        )

    def _no_shell(self, what: str) -> UnreachableError:
        if self._link is not None and not self._link.alive:
            return UnreachableError(
                f"the connection breaks before a shell answers ({what})",
                where=f"host {self.host.name}",
                hint=f"try `{self._by_hand()}`: what is between here and there can be the cause",
            )
        return UnreachableError(
            what if "POSIX" in what else f"no POSIX shell answers: {what}",
            where=f"host {self.host.name}",
            hint=f"try `{self._by_hand()}`: a login that prints or ends at once, a forced command "
            "or a shell other than sh can be the cause",
        )

    def _by_hand(self) -> str:
        """Return the command with which a person reaches the same shell."""
        how = self.host.connection
        address, _, port = self._link.address.rpartition(":") if self._link else ("", "", "")
        user = self._link.user if self._link else how.user
        port = port or str(how.port or "")
        words = ["ssh"]
        words += ["-F", how.ssh_config] if how.ssh_config else []
        words += ["-i", how.key] if how.key else []
        words += ["-J", how.jump] if how.jump else []
        words += ["-p", port] if port not in ("", "22") else []
        words.append((f"{user}@" if user else "") + (address or self.host.address))
        return shlex.join([*words, "sh"])

    def _no_become(self, user: str, what: str) -> UnreachableError:
        return UnreachableError(
            f"no shell as {user} by `sudo -n`: {what}",
            where=f"host {self.host.name}",
            hint=f"{self.link.user} must be allowed to become {user} without a password, and sudo "
            f"must be there; on the host, try: sudo -n -H -u {user} sh -c id",
        )

    def _reached(self, act: Callable[[], T]) -> T:
        where = f"host {self.host.name}"
        try:
            return act()
        except RefusedChannelError as error:
            raise UnreachableError(
                f"it allows no shell ({error.what})",
                where=where,
                hint="see MaxSessions of its sshd",
            ) from None
        except LostError as error:
            raise self._no_shell(error.what) from None
        except TimeoutError:
            raise UnreachableError("its shell does not answer in time", where=where) from None
