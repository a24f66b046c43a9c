"""Every target of a run, and what each kind of work means there."""

import hashlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, Literal, Protocol

from opskit.drivers import command
from opskit.drivers.lanes import Lanes
from opskit.drivers.session import Write
from opskit.drivers.stop import Verdict, end_change, end_read, see_ended
from opskit.drivers.target import Running, Target
from opskit.drivers.wire import Link
from opskit.errors import InputError, UnreachableError
from opskit.model.activity import Sessions
from opskit.model.inventory import CONTROLLER, Database, Host, Redis, database_of, redis_of
from opskit.model.job import Contact, Job, Output, Trace
from opskit.model.keys import Keys
from opskit.model.payouts import Payouts
from opskit.model.queues import Messages
from opskit.model.rows import Rows
from opskit.model.value import Secret
from opskit.model.warm import Warm
from opskit.model.work import (
    AtDatabase,
    AtRedis,
    Command,
    Query,
    Recall,
    RedisCall,
    RedisLook,
    Remove,
    Repair,
    Request,
    Survey,
    Upload,
)

History = Callable[[Recall], str | None]

_CLOSE = 15.0
_MOMENT = 1.0


class _Closable(Protocol):
    def close(self) -> None: ...


def lease_words(
    locks: Collection[str], store: str, number: int, about: str, steal: str = ""
) -> tuple[str, ...]:
    """Return what the shim is told of a run's locks, nothing where it has none.

    `about` begins with the run's id. Locks are named by digests: they stand in paths.
    """
    names = [hashlib.sha256(lock.encode()).hexdigest()[:16] for lock in sorted(set(locks))]
    return (steal, store, str(number), about, *names) if names else ()


def connector() -> Any:  # noqa: ANN401 - a Connector, of a module that is not loaded yet
    """Return what makes connections and knows the keys of hosts."""
    from opskit.drivers import ssh  # loads the SSH library, for which a local run has no use

    return ssh.Connector()


class Targets:
    """The hosts of one run. `perform` is called from many threads; a host is changed by one."""

    def __init__(
        self,
        run: str,
        hosts: Mapping[str, Host],
        *,
        history: History | None = None,
        hidden: Collection[str] = (),
        connector: Any = None,  # noqa: ANN401 - what `connector()` gave; its module is heavy
        leases: Sequence[str] = (),
        databases: Mapping[str, Database] | None = None,
        redis: Mapping[str, Redis] | None = None,
        marked: Collection[str] = (),
        secrets: Mapping[str, Secret] | None = None,
        runbook: str = "",
    ) -> None:
        """`leases`: what a host is shown of the run's locks (`lease_words`).

        `marked`: the Redis servers on which changes of the run leave their marks. `secrets` are for
        the databases and these; what goes to hosts comes with each job.
        """
        self._databases = databases or {}
        self._secrets = secrets or {}
        self._runbook = runbook
        self._redis = redis or {}
        self._marked = marked
        self._sql: Any = None
        self._keys: Any = None
        self._run = run
        self._leases = tuple(leases)
        self._hosts = hosts
        self._history = history
        self._hidden = hidden
        self._connector = connector
        self._requester: Any = None
        self._lock = threading.Lock()
        self._targets: dict[str, Target] = {}
        self._lanes = Lanes()

    def open(self, host: str, *, writes: bool, become: str | None = None) -> Contact:
        """Connect to `host`; UnreachableError says why not. Without `writes` it creates nothing."""
        if (name := database_of(host)) is not None:
            return self._postgres().open(name)  # type: ignore[no-any-return]  # it is a Contact
        if (name := redis_of(host)) is not None:
            return self._redis_servers().open(name, writes=writes)  # type: ignore[no-any-return]
        target = self._target(host)
        session = target.session(become, writes=writes)
        return Contact(
            nonce=session.nonce,
            boot_id=session.boot_id,
            state_dir=session.state_dir,
            user=target.link.user,
            address=target.link.address,
        )

    def perform(self, job: Job, write: Write) -> Output:
        """Do the work once. What goes wrong outside is in the output, never raised."""
        match job.work:
            case Command():
                with self._lanes.of(self._of(job), job.effect) as target:
                    return command.perform(target, job, job.work, write)
            case Upload() | Remove():
                return self._file(job, job.work, write)
            case Request():
                with self._lanes.of(self._of(job), job.effect) as target:
                    return self._request(target, job, job.work, write)
            case Survey():
                return self._postgres().perform(job, write)  # type: ignore[no-any-return]
            case work if isinstance(work, AtDatabase):
                return self._postgres().perform(job, write)  # type: ignore[no-any-return]
            case work if isinstance(work, (RedisLook, AtRedis)):
                return self._redis_servers().perform(job, write)  # type: ignore[no-any-return]
            case Recall():
                return self._recall(job.work, write)
            case _:
                raise TypeError(f"no driver does {type(job.work).__name__}")

    def rejoin(self, job: Job, write: Write, left: float) -> Output:
        """Say what became of a change that was sent before; follow it for `left` seconds."""
        match job.work:
            case Command():
                from opskit.drivers import rejoin  # after a kill, a crash or a broken line only

                return rejoin.rejoin(self._of(job), job, job.work.sudo, write, left)
            case Upload() | Remove():
                from opskit.drivers import upload

                return upload.rejoin(self._of(job), job, job.work, write, left)
            case Query() | Repair() | Payouts() | Rows() | Sessions():
                return self._postgres().rejoin(job, write, left)  # type: ignore[no-any-return]
            case RedisCall() | Keys() | Warm() | Messages():
                return self._redis_servers().rejoin(job, write, left)  # type: ignore[no-any-return]
            case _:
                raise TypeError(f"nothing to look for of {type(job.work).__name__}")

    def tell(self, job: Job, seconds: float) -> Trace:
        """Say what the host says now of a change that was sent before; changes nothing there."""
        if not isinstance(job.work, (Command, Upload, Remove)):
            raise TypeError(f"nothing is kept of {type(job.work).__name__}")
        from opskit.drivers import traces  # before a person decides only

        return traces.tell(self._of(job), job, job.work.sudo, seconds)

    def make_marks(self, database: str, role: str | None, *, payouts: bool) -> None:
        """Make the table in which changes leave their marks; UnreachableError says why not."""
        self._postgres().make_marks(database, role, payouts=payouts)

    def probe(self, job: Job) -> Output:
        """Look at what an upload would meet; creates nothing."""
        if not isinstance(job.work, Upload):
            raise TypeError(f"nothing to look at for {type(job.work).__name__}")
        from opskit.drivers import upload

        return upload.probe(self._of(job), job, job.work)

    def stop(self, grace: float) -> Mapping[str, Verdict]:
        """End whatever runs now, on all targets at once; say of each action what is proved.

        Where a target is being connected to, that is given up.
        """
        self.hang_up()
        asked = self._give_up()
        busy = [(t, run) for t in self._all() if (run := t.running)]
        return {**_stop_all(busy, grace), **see_ended(asked)}

    def _give_up(self) -> list[Running]:
        """Let all that servers do be ended, each by whoever waits for it."""
        found: list[Running] = []
        for servers in (self._sql, self._keys):
            found += servers.busy() if servers is not None else []
        for running in found:
            running.give_up.set()
        return found

    def end(self, why: Mapping[tuple[str, int], str], grace: float) -> None:
        """End attempts that still run (action key, number → why); their output says how it went."""
        busy = []
        for target in self._all():
            running = target.running
            reason = running and why.get((running.key, running.attempt))
            if running is not None and reason and not running.give_up.is_set():
                running.why = reason
                busy.append((target, running))
        _stop_all(busy, grace)

    def hang_up(self) -> None:
        """Wait no more for hosts that are being connected to."""
        if self._connector is not None:
            self._connector.calls.hang_up()

    def close(
        self, keep: Collection[str] = (), *, unread: Collection[str] = (), over: bool = True
    ) -> None:
        """Remove the run's directories except on the hosts in `keep`; close all connections.

        There what commands have printed is removed too, but on those `unread`: it is recorded.
        `over`: the run has ended, and its locks are free. Connections go a moment later, or with
        the process: a hundred that part at once keep the machine from saying how the run ended.
        """
        targets = self._all()
        if targets:
            pool = ThreadPoolExecutor(min(32, len(targets)))
            done = [
                pool.submit(
                    _close, t, kept=t.host.name in keep, read=t.host.name not in unread, over=over
                )
                for t in targets
            ]
            wait(done, timeout=_CLOSE)
            pool.shutdown(wait=False, cancel_futures=True)
        if over and self._sql is not None:
            self._sql.free()
        shared = [s for s in (self._connector, self._requester) if s is not None]
        if lines := [*targets, *shared]:
            _part(lines)
        self._targets, self._connector, self._requester = {}, None, None
        self._lanes = Lanes()

    def _postgres(self) -> Any:  # noqa: ANN401 - of a module that loads the PostgreSQL library
        from opskit.drivers.postgres import databases
        from opskit.drivers.postgres.lease import Lease

        with self._lock:
            if self._sql is None:
                about = databases.About(
                    run=self._run,
                    runbook=self._runbook,
                    secrets=self._secrets,
                    lease=Lease.of(self._leases),
                )
                self._sql = databases.Databases(
                    about, self._databases, lambda host: self._target(host).link.tunnel
                )
            return self._sql

    def _redis_servers(self) -> Any:  # noqa: ANN401 - of a module that loads a library for it
        from opskit.drivers.redis import servers

        with self._lock:
            if self._keys is None:
                about = servers.About(run=self._run, runbook=self._runbook, secrets=self._secrets)
                self._keys = servers.Servers(
                    about, self._redis, self._marked, lambda host: self._target(host).link.tunnel,
                    lambda source, *ends: self._postgres().rows(source, *ends),
                )  # fmt: skip
            return self._keys

    def _all(self) -> list[Target]:
        return [*self._targets.values(), *self._lanes.more()]

    def _of(self, job: Job) -> Target:
        return self._target(job.host.name, job.host)

    def _connect(self, host: Host) -> Link:
        if host.name == CONTROLLER:
            from opskit.drivers.local import LocalLink  # most runs do nothing on this machine

            return LocalLink(self._hidden)
        with self._lock:
            if self._connector is None:
                self._connector = connector()
        from opskit.drivers import channel

        return channel.SshLink(self._connector, host)

    def _target(self, name: str, host: Host | None = None) -> Target:
        with self._lock:
            if name not in self._targets:
                known = self._hosts.get(name) or host
                if known is None and name == CONTROLLER:
                    known = Host(name=CONTROLLER, address="localhost")
                if known is None:
                    raise InputError(f"no host {name} in this run")
                self._targets[name] = Target(known, self._run, self._connect, self._leases)
            return self._targets[name]

    def _file(self, job: Job, work: Upload | Remove, write: Write) -> Output:
        from opskit.drivers import upload  # it loads what reads archives, which is heavy

        if isinstance(work, Upload):
            return upload.perform(self._of(job), job, work, write)
        return upload.remove(self._of(job), job, work, write)

    def _request(self, target: Target, job: Job, work: Request, write: Write) -> Output:
        from opskit.drivers import http  # httpx costs 50 ms, for what many runs have no use

        with self._lock:
            if self._requester is None:
                self._requester = http.Requester()
        through = None
        if work.via == "host":
            try:
                through = target.link.tunnel
            except UnreachableError as error:
                return command.unreachable(error)
        return http.perform(self._requester, target, job, write, through=through)

    def _recall(self, work: Recall, write: Write) -> Output:
        value = self._history(work) if self._history is not None else None
        if value is None:
            value = work.default
        if value is None:
            return Output(
                outcome="failed",
                reason=f"no run of {work.runbook} has saved {work.value} for {work.host}",
            )
        if work.planned not in (None, value):
            return Output(
                outcome="failed",
                reason=f"the record now has {value!r}, and had {work.planned!r} when this was"
                " planned: plan it again",
            )
        write("stdout", value.encode())
        return Output(outcome="succeeded", stdout=value.encode())


def _stop_all(busy: Sequence[tuple[Target, Running]], grace: float) -> Mapping[str, Verdict]:
    if not busy:
        return {}
    with ThreadPoolExecutor(min(64, len(busy))) as pool:
        return dict(pool.map(lambda one: _stop(one[0], one[1], grace), busy))


def _stop(target: Target, running: Running, grace: float) -> tuple[str, Verdict]:
    running.give_up.set()
    verdict: Verdict | Literal["ended"] = "can't tell"
    try:
        if running.session is not None and running.digest is None:
            verdict = end_read(target, running.user, running.session, running.mark, grace)
        elif running.session is not None and running.digest is not None:
            verdict = end_change(target, running.user, running.digest, grace)
    finally:
        running.stopped = verdict
        running.settled.set()
    if running.session is not None and verdict in {"can't tell", "still there"}:
        running.session.close()  # nothing more is waited for
    return running.key, "confirmed gone" if verdict == "ended" else verdict


def _close(target: Target, *, kept: bool, read: bool, over: bool) -> None:
    patience = min(5.0, _CLOSE)
    with suppress(Exception):
        if not kept:
            target.clean(patience)
        elif read:
            target.forget(patience)
    with suppress(Exception):
        if kept and over:
            target.free(patience)


def _part(lines: Sequence[_Closable]) -> None:
    def close() -> None:
        for line in lines:
            with suppress(Exception):
                line.close()

    later = threading.Timer(_MOMENT, close)
    later.daemon = True
    later.start()
