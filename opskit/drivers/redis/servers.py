"""The Redis servers of one run, for whoever carries it out."""

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeAlias

from opskit.drivers.redis import doing, rejoin
from opskit.drivers.redis.cluster import reached
from opskit.drivers.redis.connection import (
    BrokenError,
    EndedError,
    ServerError,
    TooLongError,
    address_of,
    user_of,
)
from opskit.drivers.redis.marks import WORDS, Marks
from opskit.drivers.redis.session import Access, Session, opened
from opskit.drivers.relay import Open
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.errors import InputError, UnreachableError
from opskit.model.frozen import frozen
from opskit.model.inventory import Redis
from opskit.model.job import Contact, Job, Output
from opskit.model.keys import Keys
from opskit.model.queues import Messages, Queues
from opskit.model.value import Secret
from opskit.model.warm import Source, Table, Warm
from opskit.model.work import AtRedis, RedisCall, RedisLook

_PATIENCE = 30.0
Queried: TypeAlias = "Callable[[Source, Callable[[], None], float], Iterator[Table]]"
"""Yields the rows of a query; what it is given ends the wait, after so many seconds at most."""


def no_rows(source: Source, watch: Callable[[], None], seconds: float) -> Iterator[Table]:
    raise InputError(f"no database {source.database} in this run")


@frozen
class About:
    """What connections are opened for: a run, with the passwords that it has."""

    run: str
    runbook: str
    secrets: Mapping[str, Secret]


class Servers:
    """Called from many threads, one at a time for each server. Every attempt has its connection."""

    def __init__(
        self,
        about: About,
        servers: Mapping[str, Redis],
        marked: Collection[str],
        through: Callable[[str], Open],
        queried: Queried = no_rows,
    ) -> None:
        """`marked`: where changes leave marks. `through` opens the way to a host; `queried` yields
        the rows of a query of a database.
        """
        self._queried = queried
        self._about = about
        self._servers = servers
        self._marked = marked
        self._through = through
        self._met: dict[str, Contact] = {}
        self._running: dict[str, Running] = {}
        self._lock = threading.Lock()

    def open(self, name: str, *, writes: bool) -> Contact:
        """Look who answers, and leave the key of the run where changes will leave their marks."""
        access = self._access(name)
        session = self._opened(access, wide=writes and name in self._marked)
        try:
            word = ""
            fit = session.layout is not None or not doing.unfit(access, session)
            if writes and name in self._marked and fit:
                word = self._begun(session)
            server = access.server
            user, address = user_of(server) or "default", address_of(server)
            found = rejoin.contact_of(session.identity, word, user, address)
        except (BrokenError, EndedError, ServerError, TooLongError) as error:
            hint = "see which rights the user needs on the page on Redis (opskit:* and EVAL)"
            raise UnreachableError(
                f"no mark can be left there: {error.what}", where=access.where, hint=hint
            ) from None
        finally:
            session.close()
        if writes:
            self._met[name] = found
        return found

    def _begun(self, session: Session) -> str:
        """Leave the key of the run, in a cluster one at each primary; return what they have."""
        marks = [Marks(session.connection, self._about.run, tag) for tag in session.tags]
        return WORDS.join(one.begin(secrets.token_hex(8)) for one in marks)

    def perform(self, job: Job, write: Write) -> Output:
        running = Running(key=job.key, attempt=job.attempt)
        with self._lock:
            self._running[job.key] = running
        try:
            match job.work:
                case RedisCall(server=name):
                    return doing.perform(self._access(name), job, running, write, self._word(name))
                case Keys(server=name):
                    from opskit.drivers.redis import keys  # few runs remove sets of keys

                    return keys.perform(self._access(name), job, running, write, self._word(name))
                case Warm(server=name):
                    from opskit.drivers.redis import warm

                    deed = warm.Warming(
                        access=self._access(name), job=job, running=running, write=write,
                        word=self._word(name), until=time.monotonic() + job.timeout,
                        queried=self._queried,
                    )  # fmt: skip
                    return warm.perform(deed)
                case Queues(server=name):
                    from opskit.drivers.redis import queues

                    other = self._access(job.work.results) if job.work.results else None
                    return queues.perform(self._access(name), other, job, running, write)
                case Messages(server=name):
                    from opskit.drivers.redis import messages

                    word = self._word(name)
                    return messages.perform(self._access(name), job, running, write, word)
                case RedisLook(server=name):
                    return self._look(name, wide=job.work.spread)
                case _:
                    raise TypeError(f"a Redis server does no {type(job.work).__name__}")
        except UnreachableError as error:  # of the host that leads there
            return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
        finally:
            running.settled.set()
            with self._lock:
                self._running.pop(job.key, None)

    def rejoin(self, job: Job, write: Write, left: float) -> Output:
        assert isinstance(job.work, AtRedis)
        try:
            if isinstance(job.work, Keys):
                from opskit.drivers.redis import aftermath

                return aftermath.rejoin(self._access(job.work.server), job, write)
            if isinstance(job.work, Warm):
                from opskit.drivers.redis import warmed

                return warmed.rejoin(self._access(job.work.server), job, write)
            if isinstance(job.work, Messages):
                from opskit.drivers.redis import messages

                return messages.rejoin(self._access(job.work.server), job, write)
            return rejoin.rejoin(self._access(job.work.server), job, write)
        except UnreachableError as error:
            return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")

    def _word(self, name: str) -> str:
        """Return what the key of the run has at a server."""
        then = rejoin.then_of(self._met.get(name))
        return then.word if then is not None else ""

    def busy(self) -> list[Running]:
        with self._lock:
            return list(self._running.values())

    def _look(self, name: str, *, wide: bool) -> Output:
        """Look before a run begins whether it is the server that is meant."""
        access = self._access(name)
        try:
            session = self._opened(access, wide=wide)
        except UnreachableError as error:
            return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
        session.close()
        spread = session.layout is not None
        wrong = doing.unfit(access, session) if name in self._marked and not spread else ""
        who = session.identity
        evidence = {**who.evidence(session.index), "evicts": who.policy}
        if wrong:
            return Output(outcome="failed", status=1, reason=wrong, evidence=evidence)
        return Output(outcome="succeeded", status=0, evidence=evidence)

    def _opened(self, access: Access, *, wide: bool) -> Session:
        """Open a session; `wide`: with all primaries where it is one of a cluster."""
        try:
            return (reached if wide else opened)(access, rejoin.within(_PATIENCE))
        except EndedError as error:
            where, hint = access.where, "it hangs: see why"
            raise UnreachableError(error.what, where=where, hint=hint) from None

    def _access(self, name: str) -> Access:
        server = self._servers.get(name)
        if server is None:
            raise InputError(f"no Redis server {name} in this run")
        secret = self._about.secrets.get(server.password or "")
        via, met = server.via, self._met.get(name)
        return Access(
            server=server,
            run=self._about.run,
            runbook=self._about.runbook,
            met=met.nonce if met is not None else "",
            password=secret.reveal() if secret is not None else "",
            through=None if via is None else lambda: self._through(via),
        )
