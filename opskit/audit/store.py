"""The record of all runs: begin one, go on with one, read what is there."""

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

from opskit.audit import begin, chain, fold, holders, locks, pulse, telling, whole
from opskit.audit.chain import Finding
from opskit.audit.database import Database, Row, Rows
from opskit.audit.holders import Driver, Onlooker
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
        self._onlooker = Onlooker()
        self._tell: Callable[[str], None] = lambda _: None
        self._stopped: Callable[[], bool] = lambda: False

    def attend(self, tell: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        """Name who is told what is waited for (that the database is back, that a process elsewhere
        shows whether it lives), and who may cut that short."""
        self._tell, self._stopped = tell, stopped
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
        override: str = "",
    ) -> Journal:
        """Begin the record of a run and take its locks, both or neither.

        `documents`: the texts that it came from, by name; the plan is added as "plan". `steal`: a
        run whose locks are taken away from it; a process that drives it is cut off. `instead_of`:
        the store that this one stands in for; `override`: why no change window holds. InputError
        when the plan shows a secret; RefusedError when another run has a lock; StoreError.
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
            override=masker.mask(override),
        )
        return holders.patiently(
            lambda: self._begin(birth, secrets, masker, secret_steps(plan)),
            self._tell,
            self._stopped,
        )

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
                look = self._onlooker
                locks.take(rows, birth.locks, row, look, who=birth.who, steal=birth.steal)
                hold = holders.hold(rows, row, look, who=birth.who, origin=birth.origin)
                undo.callback(holders.let_go, hold.token)
                marks = fingerprints(secrets, key=key, run=row["id"])
                event = begin.first_event(rows, row, birth, marks)
                chain.extend(rows, row, [chain.dated(event, row["created"], masker)])
            undo.pop_all()
        return Journal(self._database, row, hold, masker=masker, secret_steps=steps)

    def reopen(
        self,
        run: str,
        *,
        who: str,
        origin: str,
        secrets: Sequence[Secret] = (),
        steal: str | None = None,
    ) -> Journal:
        """Go on with the record of an earlier run; RefusedError while another process does.

        "run resumed" is recorded before the first event that is not a note. A run that has ended
        takes its locks again then; append raises RefusedError where another run has one. `steal`:
        the run's id, where it is to be taken from the process that drives it, which is cut off.
        """
        masker = Masker.of(secrets)
        birth = begin.Rebirth(
            run=run, who=masker.mask(who), origin=masker.mask(origin), steal=steal
        )
        return holders.patiently(lambda: self._reopen(birth, masker), self._tell, self._stopped)

    def _reopen(self, birth: begin.Rebirth, masker: Masker) -> Journal:
        run, who, look = birth.run, birth.who, self._onlooker
        with ExitStack() as undo:
            with self._database.writing() as rows:
                row = telling.run(rows, run)
                hold = holders.hold(
                    rows, row, look, who=who, origin=birth.origin, steal=birth.steal
                )
                undo.callback(holders.let_go, hold.token)
                names = telling.first(rows, row).get("locks", ())
                head = rows.one("head", run=row["number"])
                if head is not None and head["state"] in fold.OPEN:
                    locks.take(rows, names, row, look, who=who)
            undo.pop_all()

        def resume() -> None:
            data: dict[str, Json] = {"who": who, "from": birth.origin}
            data |= {"took_over": hold.displaced} if hold.displaced else {}
            event = Event(kind="run resumed", data=data)
            entry = chain.dated(event, time.time(), masker)

            def work(rows: Rows) -> None:
                holders.refuse_cut_off(rows, row, hold.token, self._database.location)
                locks.take(rows, names, row, look, who=who)
                landing.append(chain.extend(rows, row, [entry]))

            landing: list[chain.End] = []
            holders.patiently(
                lambda: self._database.transact(
                    work, lambda rows: chain.stands(rows, row, landing[-1])
                ),
                self._tell,
                self._stopped,
            )

        stages = self._plan_json(run).get("stages", {})
        steps = [p for p, stage in stages.items() if stage.get("save", {}).get("secret")]
        return Journal(self._database, row, hold, masker=masker, secret_steps=steps, resume=resume)

    def append(self, run: str, *events: Event) -> None:
        """Add to a run that another process may be carrying out: a note, say. Durable on return."""
        now = time.time()
        entries = [chain.dated(event, now, Masker([])) for event in events]

        def work(rows: Rows) -> None:
            row = telling.run(rows, run)
            landing.append((row, chain.extend(rows, row, entries)))

        landing: list[tuple[Row, chain.End]] = []
        self._database.transact(work, lambda rows: chain.stands(rows, *landing[-1]))

    def ask(self, run: str, kind: pulse.Kind, who: str) -> tuple[Driver, int]:
        """Wish something of the process that carries out a run; return it and the wish's number.

        InputError where no process does. The wish is an entry of the run's record.
        """
        entry = chain.dated(pulse.wished(pulse.Wish(kind=kind, who=who)), time.time(), Masker([]))

        def work(rows: Rows) -> None:
            row = telling.run(rows, run)
            driver = self._onlooker.driver(rows, row["number"])
            if driver is None:
                raise InputError(
                    f"no process is carrying out run {run}",
                    hint=f"`opskit status {run}` shows where it is",
                )
            landing.append((driver, row, chain.extend(rows, row, [entry])))

        landing: list[tuple[Driver, Row, chain.End]] = []
        self._database.transact(work, lambda rows: chain.stands(rows, *landing[-1][1:]))
        return landing[-1][0], landing[-1][2].number

    # ---- reading

    def find(self, text: str) -> str:
        """Return the id of the run that a full id, its beginning or end, or "last" stands for.

        "last" passes over dry runs and messages: who looks at another plan, or tells a channel,
        still means the run before it.
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
            raise telling.no_one_run(text, ids)
        return ids[0]

    def driver(self, run: str) -> Driver | None:
        """Return the other process that is carrying out a run right now, on whatever machine."""
        with self._database.reading() as rows:
            return self._onlooker.driver(rows, int(telling.run(rows, run)["number"]))

    def entries(self, run: str, after: Entry | None = None) -> Iterator[Entry]:
        """Yield everything recorded about a run, in its order; or only what came `after` that."""
        previous, number = (after.hash, after.number) if after is not None else ("", 0)
        while True:
            with self._database.reading() as rows:
                row = telling.run(rows, run)
                page = rows.all("events", run=row["number"], after=number, limit=PAGE)
                if len(page) < PAGE:
                    whole.entries(rows, row, page[-1]["number"] if page else number)
            for found in page:
                whole.entry(run, number, found)
                yield telling.entry(run, previous, found)
                previous, number = found["hash"], found["number"]
            if len(page) < PAGE:
                return

    def said(self, since: float, runbook: str | None = None) -> Mapping[str, Sequence[Entry]]:
        """Return by run what people said and decided in those that were begun since a moment."""
        with self._database.reading() as rows:
            return telling.said(rows, since, runbook)

    def load(self, run: str) -> Run:
        """Return the run as its entries tell it."""
        with self._database.reading() as rows:
            number = int(telling.run(rows, run)["number"])
            found = self._onlooker.driver(rows, number)
        driver = found.words if found is not None else ""
        entries = list(self.entries(run))
        return fold.run(run, number, entries, lambda: self._plan_json(run), driver=driver)

    def state(self, run: str) -> RunState:
        """Return how a run stands, without reading all that happened in it."""
        with self._database.reading() as rows:
            return whole.state(rows, telling.run(rows, run))

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
        return [
            self.load(row["id"]) if row["state"] in fold.OPEN else telling.ended(row)
            for row in found
        ]

    def plan(self, run: str, *, first: bool = False) -> Plan:
        """Return the plan that a run carries out: its `first`, or the last that it was given."""
        try:
            return from_json(Plan, cast(Json, self._plan_json(run, first=first)))
        except ValueError as error:
            raise StoreError(
                f"the plan of run {run} can't be read: {error}",
                where=self._database.location,
                hint="another version of opskit may have written it: use that one",
            ) from error

    def documents(self, run: str) -> Mapping[str, str]:
        """Return the texts that a run came from, by name; "plan" is its plan as JSON."""
        with self._database.reading() as rows:
            row = telling.run(rows, run)
            digests = {
                **telling.first(rows, row).get("documents", {}),
                **telling.amended(rows, row),
            }
            return {name: self._document(rows, digest) for name, digest in digests.items()}

    def output(self, run: str, key: str, attempt: int, stream: Stream) -> Iterator[bytes]:
        """Yield what an attempt printed, secrets masked; nothing where it printed nothing."""
        part = 0
        while True:
            with self._database.reading() as rows:
                number = telling.run(rows, run)["number"]
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
            return telling.recall(rows, recall, named)

    def secrets_match(
        self, run: str, secrets: Sequence[Secret], *, used: Collection[str] | None = None
    ) -> bool:
        """Tell whether these have the values that the run's secrets had when it began.

        `used`: those that its plan has use for still (None: all); an amended one may need fewer.
        """
        with self._database.reading() as rows:
            created = telling.first(rows, telling.run(rows, run))
        recorded = created.get("secrets", {})
        names = recorded.keys() if used is None else recorded.keys() & set(used)
        if not names:
            return True
        key = self._database.secret_key(str(created.get("store") or ""))
        given = fingerprints(secrets, key=key, run=run)
        return all(given.get(name) == recorded[name] for name in names)

    def verify(self, run: str | None = None) -> list[Finding]:
        """Return everything that is wrong with the record of a run, or with the whole."""
        from opskit.audit import verify  # has no part in a run

        if run is None:
            return verify.everything(self._database)
        return verify.one(self._database, run)

    # ----

    def _plan_json(self, run: str, *, first: bool = False) -> Mapping[str, Any]:
        with self._database.reading() as rows:
            row = telling.run(rows, run)
            later = {} if first else telling.amended(rows, row)
            kept = later or telling.first(rows, row).get("documents", {})
            digest = kept.get("plan", "")
            kept_digest, plan = self._plan  # read once: another thread may put another plan there
            if digest != kept_digest:
                text = self._document(rows, digest).encode("utf-8", "surrogatepass")
                plan = cast(Mapping[str, Any], parse(text))
                self._plan = (digest, plan)
        return plan

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
