"""The databases of one run, for whoever carries it out."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import cast

from opskit.drivers.postgres import doing
from opskit.drivers.postgres.connection import BrokenError, ServerError
from opskit.drivers.postgres.fence import Fence, FencedError
from opskit.drivers.postgres.lease import Lease
from opskit.drivers.postgres.marks import Marks, ddl
from opskit.drivers.postgres.session import Access, Session, opened
from opskit.drivers.relay import Open
from opskit.drivers.session import Write
from opskit.drivers.target import HELD, Running
from opskit.errors import InputError, OpskitError, UnreachableError
from opskit.model.activity import Activity, Sessions
from opskit.model.bloat import Bloat
from opskit.model.frozen import frozen
from opskit.model.inventory import Database
from opskit.model.job import Contact, Job, Output
from opskit.model.payouts import Payouts
from opskit.model.rows import Rows
from opskit.model.value import Secret
from opskit.model.warm import Source, Table
from opskit.model.work import AtDatabase, Duplicates, Query, Repair, Survey, Verify, Work


@frozen
class About:
    """What sessions are opened for: a run, with the secrets and the locks that it has."""

    run: str
    runbook: str
    secrets: Mapping[str, Secret]
    lease: Lease | None = None


class Databases:
    """Called from many threads, one at a time for each database. Every attempt has its session."""

    def __init__(
        self,
        about: About,
        databases: Mapping[str, Database],
        through: Callable[[str], Open],
    ) -> None:
        """`through` opens the way to a host; UnreachableError says why it can't."""
        self._about = about
        self._databases = databases
        self._through = through
        self._systems: dict[str, str] = {}
        self._shown: set[str] = set()
        self._running: dict[str, Running] = {}
        self._lock = threading.Lock()

    def open(self, name: str) -> Contact:
        """Look who answers, and whether marks can be left there; show what locks the run has."""
        access = self._access(name)
        session = opened(access)
        try:
            found = session.identity
            self._systems[name] = found.system
            marks = Marks(session.connection, self._databases[name].marker_schema)
            missing = _missing(session, access, marks)
            if not missing and not found.standby:
                self._show(session, access, marks)
            return Contact(
                nonce=found.system,
                boot_id=found.timeline,
                state_dir="" if missing else marks.schema,
                user=found.user,
                address=found.address,
            )
        finally:
            session.close()

    def _show(self, session: Session, access: Access, marks: Marks) -> None:
        if access.lease is None:
            return
        try:
            Fence(session.connection, marks.schema, access.lease).raise_()
        except FencedError as error:
            raise UnreachableError(
                f"its lock is held there by run {error.what}", where=access.where, hint=HELD
            ) from None
        except (BrokenError, ServerError) as error:
            raise UnreachableError(
                f"it can't be shown what locks this run has: {error.what}",
                where=access.where,
                hint="see pg_stat_activity for what keeps rows of the table locked",
            ) from None
        self._shown.add(access.database.name)

    def free(self) -> None:
        """Show wherever they were shown that the locks of the run are free."""
        for name in sorted(self._shown):
            with suppress(OpskitError):
                self._free(self._access(name))

    def _free(self, access: Access) -> None:
        assert access.lease is not None
        session = opened(access)
        try:
            Fence(session.connection, access.database.marker_schema, access.lease).free()
        finally:
            session.close()

    def perform(self, job: Job, write: Write) -> Output:
        running = Running(key=job.key, attempt=job.attempt)
        with self._lock:
            self._running[job.key] = running
        try:
            if isinstance(job.work, Survey):
                return self._survey(job.work.database, marks=job.work.marks)
            doer, name = _doer(job.work, _DO)
            return cast(Output, doer(self._access(name), job, running, write))
        except UnreachableError as error:  # of the host that leads there
            return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
        finally:
            running.settled.set()
            with self._lock:
                self._running.pop(job.key, None)

    def rows(self, source: Source, watch: Callable[[], None], seconds: float) -> Iterator[Table]:
        """Yield the rows of a query for another driver; OpskitError says why they can't be had."""
        from opskit.drivers.postgres import fetching  # few runs have such a query

        assert source.query is not None
        return fetching.rows(self._access(source.database), source.query, watch, seconds)

    def rejoin(self, job: Job, write: Write, left: float) -> Output:
        try:
            doer, name = _doer(job.work, _REJOIN)
            return cast(Output, doer(self._access(name), job, write, left))
        except UnreachableError as error:
            return Output(outcome="unknown", lost=True, reason=f"it can't be asked: {error.line}")

    def make_marks(self, name: str, role: str | None, *, payouts: bool) -> None:
        access = self._access(name)
        session = opened(access)
        try:
            statements = tables(access.database.marker_schema, role, payouts=payouts)
            session.connection.own(";".join(["BEGIN", *statements, "COMMIT"]))
        except (BrokenError, ServerError) as error:
            more = " --payouts" if payouts else ""
            hint = f"as one who may: opskit db init {name}{more} --print | psql …"
            raise UnreachableError(
                f"the tables can't be made: {error.what}", where=access.where, hint=hint
            ) from None
        finally:
            session.close()

    def busy(self) -> list[Running]:
        with self._lock:
            return list(self._running.values())

    def _survey(self, name: str, *, marks: bool) -> Output:
        """Look before a run begins whether all is there that it needs."""
        access = self._access(name)
        try:
            session = opened(access)
        except UnreachableError as error:
            return Output(outcome="failed", sent=False, unreachable=True, reason=error.line)
        try:
            found = Marks(session.connection, access.database.marker_schema)
            missing = _missing(session, access, found)
        finally:
            session.close()
        if missing and marks:
            reason = doing.unmarked(missing, access, told=True)
            return Output(outcome="failed", status=1, reason=reason)
        who = session.identity
        return Output(
            outcome="succeeded",
            status=0,
            evidence={
                "system_identifier": who.system,
                "timeline": who.timeline,
                "standby": who.standby,
                "user": who.user,
                "address": who.address,
                "marks": not missing,
            },
        )

    def _access(self, name: str) -> Access:
        database = self._databases.get(name)
        if database is None:
            raise InputError(f"no database {name} in this run")
        secret = self._about.secrets.get(database.password or "")
        via = database.via
        return Access(
            database=database,
            run=self._about.run,
            runbook=self._about.runbook,
            system=self._systems.get(name, ""),
            password=secret.reveal() if secret is not None else "",
            lease=self._about.lease,
            hidden=tuple(one.reveal() for one in self._about.secrets.values()),
            through=None if via is None else lambda: self._through(via),
            beside=self._access,
        )


def tables(schema: str, role: str | None, *, payouts: bool) -> list[str]:
    """Return the statements that make what changes need in a database, each of them once."""
    from opskit.drivers.postgres import holds  # few databases have payouts

    made = [*ddl(schema, role), *(holds.ddl(schema, role) if payouts else ())]
    return list(dict.fromkeys(made))


def _missing(session: Session, access: Access, marks: Marks) -> str:
    try:
        return marks.missing(leases=access.lease is not None)
    except (BrokenError, ServerError) as error:
        return f"it can't be asked for its marks: {error.what}"


_DO: Mapping[type[AtDatabase], str] = {
    Query: "doing.perform",
    Verify: "verify.perform",
    Duplicates: "duplicates.perform",
    Repair: "repair.perform",
    Payouts: "payouts.perform",
    Rows: "batches.perform",
    Activity: "activity.perform",
    Sessions: "signalling.perform",
    Bloat: "space.perform",
}
_REJOIN: Mapping[type[AtDatabase], str] = {
    Query: "rejoin.rejoin",
    Repair: "repair.rejoin",
    Payouts: "payouts.rejoined",
    Rows: "batches.rejoin",
    Sessions: "signalling.rejoined",
}


def _doer(work: Work, doers: Mapping[type[AtDatabase], str]) -> tuple[Callable[..., object], str]:
    """Return what does a work, and the name of its database. Few runs need more than one module."""
    if not isinstance(work, AtDatabase) or type(work) not in doers:
        raise TypeError(f"a database does no {type(work).__name__}")
    module, _, function = doers[type(work)].partition(".")
    found = import_module(f"opskit.drivers.postgres.{module}")
    return getattr(found, function), work.database
