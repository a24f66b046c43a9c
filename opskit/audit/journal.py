"""The record of one run while it is being carried out."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from opskit.audit import begin, chain, holders, locks
from opskit.audit.database import Database, Row, Rows
from opskit.audit.holders import Hold
from opskit.audit.masking import Masker
from opskit.audit.pulse import Pulse, Wish
from opskit.audit.sink import STREAMS, Part, Sink, Stored, Stream, pack, unpack
from opskit.audit.writer import Writer
from opskit.errors import StoreError
from opskit.model.event import Event
from opskit.model.plan import Plan
from opskit.model.value import Json, Secret

WAITING = 16 * 1024 * 1024
"""Bytes of output that may wait to be written; beyond that the host is read more slowly."""

_OUTCOMES = ("step ended", "step skipped")
_PLACE = ("run", "key", "attempt", "stream", "part")
"""What names a part of an output."""


def secret_steps(plan: Plan) -> frozenset[str]:
    """Return the positions of the steps whose standard output is a secret."""
    stages = plan.stages.items()
    return frozenset(p for p, stage in stages if stage.save is not None and stage.save.secret)


class Journal:
    """Adds to the record of a run that this process drives; `close` ends that.

    `resume`: called before the first event that is not a note; it may refuse. `secret_steps`: the
    positions of steps whose standard output is a secret.
    """

    def __init__(
        self,
        database: Database,
        run: Row,
        hold: Hold,
        *,
        masker: Masker,
        secret_steps: Collection[str] = (),
        resume: Callable[[], None] | None = None,
    ) -> None:
        self._database = database
        self._row = run
        self.displaced = hold.displaced
        """The process that drove the run when this one took it, if it had not let go of it."""
        self._token = hold.token
        self.lease = (hold.store, hold.number)
        """Where this process stands among all that hold something: the store, and a number that
        only grows there."""
        self._masker = masker
        self._hiding = threading.Lock()
        self._secret_steps = frozenset(secret_steps)
        self._resume = resume
        self._end = self._would_be = chain.End()
        """Where the run ends as far as we have been told, and where it would with what is sent."""
        self._beginning = threading.Lock()
        self._writer = Writer[chain.Dated | Part | begin.Document](
            self._commit, limit=WAITING, name=f"record of {run['id']}"
        )
        self._early: list[tuple[int, Event]] = []
        """Outcomes that nobody waited for, with their tickets, until they are durable."""
        self._earlier = threading.Lock()
        self._pulse = Pulse(database, run, hold.token, hold.heard)

    @property
    def run(self) -> str:
        return str(self._row["id"])

    def listen(self, hear: Callable[[Wish], None], lost: Callable[[str], None]) -> None:
        """Name who hears what others wish of this run, and who is told when another process has
        taken over. Both are called in threads of their own."""
        self._pulse.lost = lambda: lost(self._successor())
        self._pulse.hear = hear

    def _successor(self) -> str:
        try:
            with self._database.reading() as rows:
                return holders.successor(rows, self._row["number"])
        except StoreError:  # it can't be asked by whom; that it was is known
            return "another process"

    def append(self, *events: Event, wait: bool = True) -> None:
        """Add events, in this order. With `wait`, return once they are durable.

        StoreError when the record can't be written; then nothing after it is. RefusedError when
        another run has the locks that this one would need to go on.
        """
        if any(event.kind != "note" for event in events):
            self._begin_once()
        ticket = self._put((), events)
        if wait:
            self._writer.wait(ticket)
        elif outcomes := [event for event in events if event.kind in _OUTCOMES]:
            with self._earlier:
                self._early = self._open() + [(ticket, event) for event in outcomes]

    def unrecorded(self) -> Sequence[Event]:
        """Return the outcomes that `append` took without waiting, and that never became durable.

        It is of use once the journal is closed; before that they may be on their way.
        """
        with self._earlier:
            return [event for _, event in self._open()]

    def _open(self) -> list[tuple[int, Event]]:
        done = self._writer.done
        return [(ticket, event) for ticket, event in self._early if ticket > done]

    def amend(self, plan: Plan, data: Mapping[str, Json], *events: Event) -> Event:
        """Let the run carry out another plan from here on; return the event that says so.

        It is added with its plan and with `events` after it, all or nothing, and is durable on
        return. InputError when a secret stands in the plan.
        """
        document = begin.documents(plan, {}, self._masker)["plan"]
        kept: Mapping[str, Json] = {"plan": plan.digest, "documents": {"plan": document.digest}}
        amended = Event(kind="plan amended", data={**data, **kept})
        self._secret_steps |= secret_steps(plan)
        self._begin_once()
        self._writer.wait(self._put([document], [amended, *events]))
        return amended

    def _put(self, documents: Sequence[begin.Document], events: Sequence[Event]) -> int:
        """Hand on what goes into one commit; return the ticket to wait for it."""
        now = time.time()
        entries = [chain.dated(event, now, self._masker) for event in events]
        size = sum(len(entry.body) for entry in entries) + sum(len(d.body) for d in documents)
        return self._writer.put([*documents, *entries], size)

    def output(self, key: str, host: str, attempt: int, *, again: bool = False) -> Sink:
        """Return the sink for the output of this attempt.

        With `again` it is told from its beginning once more: what is stored of it is passed over.
        """
        return Sink(
            key=key,
            attempt=attempt,
            secret=key.partition("/")[0] in self._secret_steps,
            masker=lambda: self._masker,
            hand_on=self._hand_on,
            stored=self._stored(key, attempt) if again else {},
        )

    def _stored(self, key: str, attempt: int) -> Mapping[Stream, Stored]:
        """Return how much of an attempt's output is stored, once all that was handed on is."""
        self._writer.wait(self._writer.put([], 0))
        found: dict[Stream, Stored] = {}
        with self._database.reading() as rows:
            for stream in STREAMS:
                stored = Stored()
                while page := rows.all(
                    "output", run=self._row["number"], key=key, attempt=attempt, stream=stream,
                    part=stored.parts,
                ):  # fmt: skip
                    for row in page:
                        stored.take(unpack(row["packed"], row["body"]))
                if stored.parts:
                    found[stream] = stored
        return found

    def hide(self, secret: Secret) -> None:
        """Mask one more secret from now on: a value that the run itself has just fetched."""
        with self._hiding:  # many threads come by secrets, and each is to be masked
            self._masker = self._masker.and_also(secret)

    def close(self) -> None:
        """Write what is left, and let go of the run; of its locks too, once it has ended."""
        try:
            self._writer.close()
            self._pulse.close()
            self._let_go()
        finally:
            self._pulse.close()
            holders.let_go(self._token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except StoreError:
            if error is None:  # else the first error says it all
                raise

    def _begin_once(self) -> None:
        with self._beginning:
            if self._resume is not None:
                self._resume()  # refused now, it is asked again next time
                self._resume = None

    def _hand_on(self, part: Part) -> None:
        self._writer.put([part], len(part.data))

    def _commit(self, items: Sequence[chain.Dated | Part | begin.Document]) -> None:
        documents = [item for item in items if isinstance(item, begin.Document)]
        entries = [item for item in items if isinstance(item, chain.Dated)]
        parts = [self._output_row(item) for item in items if isinstance(item, Part)]

        def work(rows: Rows) -> chain.End:
            self._refuse_stranger(rows)
            for document in documents:
                rows.run("add_document", digest=document.digest, body=document.body)
            if parts:
                rows.many("add_output", parts)
            self._would_be = chain.extend(rows, self._row, entries) if entries else self._end
            return self._would_be

        def landed(rows: Rows) -> bool:
            if entries:
                return chain.stands(rows, self._row, self._would_be)
            return rows.one("part", **{name: parts[-1][name] for name in _PLACE}) is not None

        self._end = self._database.transact(work, landed)

    def _refuse_stranger(self, rows: Rows) -> None:
        """Refuse to write where another process goes on, or where the record has gone back."""
        head = holders.refuse_cut_off(rows, self._row, self._token, self._database.location)
        if head["entries"] < self._end.number:
            raise StoreError(
                f"the record has lost entries of run {self.run} that it had confirmed",
                where=self._database.location,
                hint="a standby took over that lagged behind? look at the hosts before you go on",
            )

    def _output_row(self, part: Part) -> Row:
        packed, body = pack(part.data)
        return {
            "run": self._row["number"],
            "key": part.key,
            "attempt": part.attempt,
            "stream": part.stream,
            "part": part.part,
            "size": len(part.data),
            "packed": packed,
            "body": body,
        }

    def _let_go(self) -> None:
        number = self._row["number"]

        def work(rows: Rows) -> None:
            head = rows.one("head", run=number)
            if head is None or head["token"] != self._token:
                return
            rows.run("release", run=number)
            if locks.given_up(rows, number, head["state"]):
                rows.run("free_locks", run=number)

        # Done twice it does nothing: the token is gone by then.
        self._database.transact(work, lambda _: False)
