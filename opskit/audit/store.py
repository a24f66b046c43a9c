"""The record of all runs: begin one, go on with one, read what is there."""

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

from opskit.audit import begin, chain, fold, locks, whole
from opskit.audit.chain import Finding
from opskit.audit.database import Database, Row, Rows
from opskit.audit.journal import Journal, secret_steps
from opskit.audit.masking import Masker, fingerprints
from opskit.audit.sink import Stream, unpack
from opskit.errors import DamagedError, InputError, StoreError
from opskit.model.codec import from_json, parse
from opskit.model.event import Entry, Event
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.model.states import RunState
from opskit.model.value import Json, Secret
from opskit.model.work import Recall

PAGE = 500
"""Entries that are read at once; between pages other processes may write."""


class Store:
    """The record in a database. All of it may be called from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._plan: tuple[str, Mapping[str, Any]] = ("", {})

    def attend(self, tell: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        """Name who is told when the database is away and when it is back, and who may cut waiting
        for it short."""
        self._database.attend(tell, stopped)

    def close(self) -> None:
        """Let go of the database; journals that are still open end first, by themselves."""
        self._database.close()

    # ---- writing

    def create(
        self,
        plan: Plan,
        *,
        kind: str,
        who: str,
        origin: str,
        documents: Mapping[str, str],
        reason: str = "",
        command: str = "",
        locks: Sequence[str] = (),
        secrets: Sequence[Secret] = (),
        steal: str | None = None,
        instead_of: str = "",
    ) -> Journal:
        """Begin the record of a run and take its locks, both or neither.

        `documents`: the texts that it came from, by name; the plan is added as "plan". `steal`: a
        run whose locks are taken away from it, unless a process drives it. `instead_of`: the store
        that this one stands in for. InputError when the plan shows a secret; RefusedError when
        another run has a lock; StoreError.
        """
        begin.refuse_poor_secrets(secrets)
        masker = Masker.of(secrets)
        birth = begin.Birth(
            plan=plan,
            kind=kind,
            who=masker.mask(who),
            origin=masker.mask(origin),
            reason=masker.mask(reason),
            command=masker.mask(command),
            locks=tuple(locks),
            steal=steal,
            documents=begin.documents(plan, documents, masker),
            instead_of=masker.mask(instead_of),
        )
        return self._begin(birth, secrets, masker, secret_steps(plan))

    def _begin(
        self,
        birth: begin.Birth,
        secrets: Sequence[Secret],
        masker: Masker,
        steps: Collection[str],
    ) -> Journal:
        key = self._database.secret_key() if secrets else b""
        with ExitStack() as undo:
            with self._database.writing() as rows:
                row = begin.add_run(rows, birth)
                locks.take(self._database, rows, birth.locks, row, steal=birth.steal)
                hold = locks.hold(self._database, rows, row, who=birth.who, origin=birth.origin)
                undo.callback(hold.claim.release)
                marks = fingerprints(secrets, key=key, run=row["id"])
                event = begin.first_event(rows, row, birth, marks)
                chain.extend(rows, row, [chain.dated(event, row["created"], masker)])
            undo.pop_all()
        return Journal(self._database, row, hold, masker=masker, secret_steps=steps)

    def reopen(self, run: str, *, who: str, origin: str, secrets: Sequence[Secret] = ()) -> Journal:
        """Go on with the record of an earlier run; RefusedError while another process does.

        "run resumed" is recorded before the first event that is not a note. A run that has ended
        takes its locks again then; append raises RefusedError where another run has one.
        """
        masker = Masker.of(secrets)
        who, origin = masker.mask(who), masker.mask(origin)
        with ExitStack() as undo:
            with self._database.writing() as rows:
                row = _run(rows, run)
                hold = locks.hold(self._database, rows, row, who=who, origin=origin)
                undo.callback(hold.claim.release)
                names = _first(rows, row).get("locks", ())
                head = rows.one("head", run=row["number"])
                if head is not None and head["state"] in fold.OPEN:
                    locks.take(self._database, rows, names, row)
            undo.pop_all()

        def resume() -> None:
            event = Event(kind="run resumed", data={"who": who, "from": origin})
            entry = chain.dated(event, time.time(), masker)

            def work(rows: Rows) -> None:
                locks.take(self._database, rows, names, row)
                landing.append(chain.extend(rows, row, [entry]))

            landing: list[chain.End] = []
            self._database.transact(work, lambda rows: chain.stands(rows, row, landing[-1]))

        stages = self._plan_json(run).get("stages", {})
        steps = [p for p, stage in stages.items() if stage.get("save", {}).get("secret")]
        return Journal(self._database, row, hold, masker=masker, secret_steps=steps, resume=resume)

    def append(self, run: str, *events: Event) -> None:
        """Add to a run that another process may be carrying out: a note, say. Durable on return."""
        now = time.time()
        entries = [chain.dated(event, now, Masker([])) for event in events]

        def work(rows: Rows) -> None:
            landing.append((_run(rows, run), chain.extend(rows, _run(rows, run), entries)))

        landing: list[tuple[Row, chain.End]] = []
        self._database.transact(work, lambda rows: chain.stands(rows, *landing[-1]))

    # ---- reading

    def find(self, text: str) -> str:
        """Return the id of the run that a full id, its beginning or end, or "last" stands for.

        "last" passes over dry runs: who looks at another plan still means the run before it.
        """
        with self._database.reading() as rows:
            if text == "last":
                newest = rows.one("newest")
                if newest is None:
                    whole.runs(rows)
                    raise InputError("there are no runs yet", where=self._database.location)
                return str(newest["id"])
            ids = [str(row["id"]) for row in rows.all("like_id", text=text)] if text else []
            if not ids:
                whole.runs(rows)
        if text in ids:
            return text
        if len(ids) != 1:
            raise _no_one_run(text, ids)
        return ids[0]

    def driver_pid(self, run: str) -> int | None:
        """Return the other process on this machine that is carrying out a run right now."""
        with self._database.reading() as rows:
            return locks.driver_pid(rows, int(_run(rows, run)["number"]))

    def entries(self, run: str, after: Entry | None = None) -> Iterator[Entry]:
        """Yield everything recorded about a run, in its order; or only what came `after` that."""
        previous, number = (after.hash, after.number) if after is not None else ("", 0)
        while True:
            with self._database.reading() as rows:
                row = _run(rows, run)
                page = rows.all("events", run=row["number"], after=number, limit=PAGE)
                if len(page) < PAGE:
                    whole.entries(rows, row, page[-1]["number"] if page else number)
            for found in page:
                whole.entry(run, number, found)
                yield _entry(run, previous, found)
                previous, number = found["hash"], found["number"]
            if len(page) < PAGE:
                return

    def load(self, run: str) -> Run:
        """Return the run as its entries tell it."""
        with self._database.reading() as rows:
            number = int(_run(rows, run)["number"])
            driver = locks.driver(rows, number)
        entries = list(self.entries(run))
        return fold.run(run, number, entries, lambda: self._plan_json(run), driver=driver)

    def state(self, run: str) -> RunState:
        """Return how a run stands, without reading all that happened in it."""
        with self._database.reading() as rows:
            return whole.state(rows, _run(rows, run))

    def runs(
        self,
        *,
        since: float | None = None,
        runbook: str | None = None,
        limit: int = 50,
        previews: bool = True,
    ) -> list[Run]:
        """Return the newest runs first; of those that have ended, without their actions.

        `since`: UTC seconds. `previews`: dry runs too. `load` tells all about one.
        """
        with self._database.reading() as rows:
            whole.runs(rows)
            found = rows.all("runs", since=since, runbook=runbook, limit=limit, previews=previews)
        for row in found:
            whole.listed(row, ended=row["state"] not in fold.OPEN)
        return [self.load(row["id"]) if row["state"] in fold.OPEN else _ended(row) for row in found]

    def plan(self, run: str) -> Plan:
        """Return the plan that a run carries out: its first, or the last that it was given."""
        try:
            return from_json(Plan, cast(Json, self._plan_json(run)))
        except ValueError as error:
            raise StoreError(
                f"the plan of run {run} can't be read: {error}",
                where=self._database.location,
                hint="another version of opskit may have written it: use that one",
            ) from error

    def documents(self, run: str) -> Mapping[str, str]:
        """Return the texts that a run came from, by name; "plan" is its plan as JSON."""
        with self._database.reading() as rows:
            row = _run(rows, run)
            digests = {**_first(rows, row).get("documents", {}), **_amended(rows, row)}
            return {name: self._document(rows, digest) for name, digest in digests.items()}

    def output(self, run: str, key: str, attempt: int, stream: Stream) -> Iterator[bytes]:
        """Yield what an attempt printed, secrets masked; nothing where it printed nothing."""
        part = 0
        while True:
            with self._database.reading() as rows:
                number = _run(rows, run)["number"]
                found = rows.all(
                    "output", run=number, key=key, attempt=attempt, stream=stream, part=part
                )
            for row in found:
                yield self._unpacked(row)
            if not found:
                return
            part += len(found)

    def recall(self, recall: Recall) -> str | None:
        """Return the value that an earlier run of a runbook saved for a host.

        The newest run of kind *run* counts that began something on the host, stands in one of the
        wanted states and saved the value: one that was refused before it got there hides nothing.
        """
        wanted = recall.run.fixed() if recall.run is not None else None
        named = self.find(wanted) if wanted else None
        with self._database.reading() as rows:
            found = rows.all("recallable", runbook=recall.runbook, host=recall.host, id=named)
            for row in found:
                if row["state"] not in recall.status:
                    continue
                value = _recalled(rows, row, recall)
                if value is not None:
                    return value
        return None

    def secrets_match(self, run: str, secrets: Sequence[Secret]) -> bool:
        """Tell whether these have the values that the run's secrets had when it began."""
        with self._database.reading() as rows:
            created = _first(rows, _run(rows, run))
        recorded = created.get("secrets", {})
        if not recorded:
            return True
        key = self._database.secret_key(str(created.get("store") or ""))
        given = fingerprints(secrets, key=key, run=run)
        return all(given.get(name) == mark for name, mark in recorded.items())

    def verify(self, run: str | None = None) -> list[Finding]:
        """Return everything that is wrong with the record of a run, or with the whole."""
        from opskit.audit import verify  # has no part in a run

        if run is None:
            return verify.everything(self._database)
        return verify.one(self._database, run)

    # ----

    def _plan_json(self, run: str) -> Mapping[str, Any]:
        with self._database.reading() as rows:
            row = _run(rows, run)
            kept = _amended(rows, row) or _first(rows, row).get("documents", {})
            digest = kept.get("plan", "")
            if digest != self._plan[0]:
                text = self._document(rows, digest).encode("utf-8", "surrogatepass")
                self._plan = (digest, cast(Mapping[str, Any], parse(text)))
        return self._plan[1]

    def _document(self, rows: Rows, digest: str) -> str:
        row = rows.one("document", digest=digest)
        if row is None:
            raise self._damaged("a document of this run is missing")
        try:
            return zlib.decompress(row["body"]).decode("utf-8", "surrogatepass")
        except (zlib.error, TypeError) as error:
            raise self._damaged(f"a document of this run can't be read: {error}") from error

    def _unpacked(self, row: Row) -> bytes:
        try:
            return unpack(row["packed"], row["body"])
        except (zlib.error, TypeError) as error:
            raise self._damaged(f"an output can't be read: {error}") from error

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(
            what, where=self._database.location, hint="`opskit audit verify` says what is wrong"
        )


def _run(rows: Rows, run: str) -> Row:
    row = rows.one("run", id=run)
    if row is None:
        whole.named(rows, run)
        raise InputError(f"there is no run {run!r}", hint="`opskit runs` lists them")
    return row


def _first(rows: Rows, row: Row) -> Mapping[str, Any]:
    """Return the data of a run's first event."""
    found = rows.one("first_event", run=row["number"])
    return {} if found is None else cast(Mapping[str, Any], _event(row["id"], found["body"]).data)


def _amended(rows: Rows, row: Row) -> Mapping[str, Any]:
    """Return the documents that a decision has put in the place of a run's first ones."""
    last = next(iter(rows.all("amendments", run=row["number"])), None)
    data = _event(row["id"], last["body"]).data if last is not None else {}
    return cast(Mapping[str, Any], data.get("documents", {}))


def _event(run: str, body: bytes) -> Event:
    try:
        return from_json(Event, parse(body))
    except (ValueError, AttributeError) as error:  # what is no bytes at all can't be decoded
        raise DamagedError(
            f"an entry of run {run} can't be read: {error}",
            hint=f"`opskit audit verify {run}` says what is wrong with it",
        ) from error


def _entry(run: str, previous: str, row: Row) -> Entry:
    return Entry(
        run=run,
        number=row["number"],
        at=row["at"],
        previous=previous,
        hash=row["hash"],
        event=_event(run, row["body"]),
    )


def _ended(row: Row) -> Run:
    """Return a run that has ended, from its first event and its end."""
    ending = _event(row["id"], row["ending"])
    standing = fold.moved(fold.Standing(), ending, row["ended"])
    return Run(
        id=row["id"],
        number=row["number"],
        state=row["state"],
        created=row["at"],
        ended=row["ended"],
        exit=standing.exit,
        hosts=cast(Any, standing.hosts),
        actions={},
        saved={},
        entries=row["entries"],
        **fold.facts(_event(row["id"], row["body"])),
    )


def _recalled(rows: Rows, run: Row, recall: Recall) -> str | None:
    value = None
    for row in rows.each("endings_with", run=run["number"], marker=b'"saved":'):
        for host, name, saved in fold.saved_by(_event(run["id"], row["body"])):
            if host in (recall.host, fold.SHARED) and name == recall.value:
                value = saved
    return value


def _no_one_run(text: str, ids: Sequence[str]) -> InputError:
    if not ids:
        return InputError(
            f"no run is named {text!r}",
            hint="give its id, the beginning or the end of it, or `last`; `opskit runs` lists them",
        )
    several = ", ".join(ids[:5]) + (" and more" if len(ids) > 5 else "")
    return InputError(f"{text!r} could be any of {several}", hint="give more of the id")
