# ruff: noqa: S608 (names are quoted, values are bound)
"""Removing rows batch by batch: looked at before, counted, read back."""

import time
from collections.abc import Sequence

from opskit.drivers.postgres.batches import Attempt, finish, patience
from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.drivers.postgres.doing import SNAPSHOT, unmarked
from opskit.drivers.postgres.looking import why
from opskit.drivers.postgres.marks import ARCHIVE, Marks
from opskit.drivers.postgres.neighbours import Neighbours, Seen, seen
from opskit.drivers.postgres.references import held
from opskit.drivers.postgres.session import Access, Session, as_reader, limit
from opskit.drivers.postgres.subject import (
    Count,
    Subject,
    SubjectError,
    count,
    excess,
    planned,
    subject,
)
from opskit.drivers.postgres.trail import BATCH, HEAD, Entry, removed
from opskit.drivers.postgres.vacuuming import MUCH, NO_RIGHT, may, vacuum
from opskit.drivers.postgres.walking import Gone, Walk, blocks
from opskit.drivers.session import Write
from opskit.model.job import Job, Output
from opskit.model.rows import Rows
from opskit.model.value import Json
from opskit.render import removals
from opskit.render.removals import Kept, Statement, quoted

_LOCKED_FOR = 10
"""So often it is looked whether rows that somebody has locked are free by now."""
_LEFT = 10_000
"""Rows that are left are counted up to here."""


def foreseen(access: Access, session: Session, job: Job, write: Write) -> Output:
    """Say what would be removed, in a transaction that can't write."""
    work, connection = job.work, session.connection
    assert isinstance(work, Rows)
    if session.identity.standby:
        return Output(outcome="failed", status=1, reason=f"{access.where} is a standby")
    marks = Marks(connection, access.database.marker_schema)
    if missing := marks.missing(leases=access.lease is not None, archive=work.archive):
        return Output(outcome="failed", status=1, reason=unmarked(missing, access))
    try:
        made = subject(connection, work, marks.schema)  # as the role that would do it
        role = as_reader(session, access)  # the condition is somebody's text
        limit(connection, job.timeout, ends_with_us=True)
        before = seen(connection, made.full)
        connection.own(SNAPSHOT)
        found = count(connection, made, work)
        keeps, unseen = held(connection, made, work, found)
        connection.own("ROLLBACK")
        connection.own("RESET ROLE")
        wrong = [*excess(found, work, made.said), *planned(connection, made, work, found), *keeps]
        walks = blocks(connection, made, work, found.began, found.share) > 0
        doubts, more = _around(connection, made, work, found, before)
    except SubjectError as error:
        return Output(outcome="failed", status=1, reason=str(error))
    except ServerError as error:  # nothing hangs on it: the run ends before it has begun
        evidence: dict[str, Json] = {"sqlstate": error.code}
        return Output(outcome="failed", status=1, reason=why(error), evidence=evidence)
    *first, moment = found.lines(made.said)
    needed = [f"still needed: {found.live}"] if work.chosen.live is not None else []
    order = ["taken in the order in which they lie in the table"] if walks and not wrong else []
    # Only the first lines are shown of a plan that is not asked for in full.
    for line in (*first, *doubts, *unseen, *needed, *more, moment, *order):
        write("stdout", f"{line}\n".encode())
    wrong += _nothing(found, work, made)
    evidence = {**_evidence(found), "role": role}
    if wrong:
        return Output(outcome="failed", status=1, reason="; ".join(wrong), evidence=evidence)
    return Output(outcome="succeeded", status=0, evidence=evidence)


def _around(
    connection: Connection, made: Subject, work: Rows, found: Count, before: Seen
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Say what would be waited for now and whether a VACUUM fails; and how it is besides."""
    now = seen(connection, made.full)
    doubts = [f"it would wait now: {told}" for _, told in now.excess(work.limits)]
    more = [*now.lines(before)]
    if found.rows <= MUCH * found.total:
        return doubts, more
    if not work.vacuum:
        more += ["no VACUUM afterwards (vacuum: false)"]
    elif may(connection, made):
        more += [f"VACUUM (ANALYZE) afterwards, as more than {MUCH:.0%} of the table goes"]
    else:
        doubts += [f"it would NOT be vacuumed afterwards: {NO_RIGHT}"]
    return doubts, more


def _nothing(found: Count, work: Rows, made: Subject) -> list[str]:
    if found.rows or work.none == "ok":
        return []
    return [f"no row of {made.said} is meant: see whether the condition says what it shall"]


def _evidence(found: Count) -> dict[str, Json]:
    return {
        "meant": found.rows, "of": found.total, "of_exact": found.exact, "live": found.live,
        "oldest": found.oldest, "newest": found.newest, "as_of": found.began,
    }  # fmt: skip


def remove(attempt: Attempt) -> Output:
    """Remove what is meant, batch by batch, until nothing is left or a limit is reached."""
    work, connection = attempt.work, attempt.session.connection
    past = attempt.trail.read()
    head = next((one for one in past if one["did"] == HEAD), None)
    made = subject(connection, work, attempt.marks.schema)
    attempt.done = removed(past)
    if head is None:
        found = count(connection, made, work)
        attempt.more |= _evidence(found)
        keeps, _ = held(connection, made, work, found)
        wrong = [*excess(found, work, made.said), *planned(connection, made, work, found), *keeps]
        if wrong := wrong + _nothing(found, work, made):
            raise SubjectError("; ".join(wrong))
        head = {"did": HEAD, "table": made.full, "shape": made.shape, **_evidence(found)}
    elif head["table"] != made.full:
        raise SubjectError(f"{work.chosen.table} is {made.full} by now, and was {head['table']}")
    else:
        attempt.more |= {name: head[name] for name in _NAMES}
    attempt.at = "changing"
    attempt.trail.begin(head)
    attempt.at = "between"
    loop = _Loop(attempt, made, head, past)
    return _read_back(attempt, made, head, loop, loop.run())


_NAMES = ("meant", "of", "of_exact", "live", "oldest", "newest", "as_of")


class _Loop:
    """The batches of one attempt, one after another.

    Where a large part of the table goes, they are taken as they lie; what is left of them after
    that, and few rows, by the index. `left`: how many rows are, where that was just counted;
    `yielded`: it was given up for the sake of others.
    """

    def __init__(
        self, attempt: Attempt, made: Subject, head: Entry, past: Sequence[Entry]
    ) -> None:  # fmt: skip
        self._attempt = attempt
        self._made = made
        self._began = str(head["as_of"])
        self._meant, self._of = int(head["meant"]), int(head["of"])
        limits = attempt.work.limits  # for whatever comes meanwhile, too, and all attempts together
        self._most = min(limits.rows, max(self._meant, int(limits.share * self._of)))
        self._live = sum(one.get("live", 0) for one in past if one["did"] == BATCH)
        self._floor: str | None = None
        self._waited = 0
        self._others = Neighbours(attempt, made.full)
        self._connection: Connection = attempt.session.connection
        self.left: int | None = None
        self.there: int | None = None
        """How many rows there are in all, where that was counted with what is left."""
        self.yielded = False
        self._walked = False
        part = (self._meant - attempt.done) / max(1, self._of)
        number = blocks(self._connection, made, attempt.work, self._began, part)
        self._walk = self._walking(number, self._of) if number else None
        attempt.more["taken"] = "as they lie" if number else "by the index"

    def _walking(self, number: int, rows: int) -> Walk:
        return Walk(
            connection=self._connection, statement=self._statement, blocks=number,
            rows=max(1.0, rows / number),
        )  # fmt: skip

    def run(self) -> str:
        """Return why rows are left; "" where none are.

        The disk is not waited for at each batch: what an attempt comes to is written after all of
        them, and that is waited for.
        """
        patience(self._attempt)
        self._connection.own("SET synchronous_commit = off")
        told = self._batches()
        self._connection.own("RESET synchronous_commit")
        return told

    def _batches(self) -> str:
        attempt = self._attempt
        while True:
            attempt.watch()
            if self._meant and (told := self._others.wait()) is not None:
                self.yielded = True
                return told if self._count_left() else ""
            if (told := self._ends()) is not None:
                return told
            began = time.monotonic()
            try:
                size = min(attempt.pace.size, self._most - attempt.done)
                gone = self._batch(size)
            except ServerError as error:
                self._given_up(error)
                continue
            attempt.strikes = 0
            if not gone.rows:
                if (told := self._nothing()) is not None:
                    return told
                continue
            seconds = time.monotonic() - began
            attempt.pace.took(seconds, size if gone.full else gone.rows)
            attempt.progress(
                f"{attempt.done} of {self._meant} rows · {gone.rows} in {1000 * seconds:.0f} ms"
            )
            attempt.nap(attempt.pace.rest(seconds))

    def _ends(self) -> str | None:
        """Say why no further batch may begin; None where one may."""
        attempt = self._attempt
        if attempt.late:
            waited = f" ({self._others.waited})" if self._others.waited else ""
            return f"no batch begins after {attempt.room:g} s{waited}"
        if attempt.trail.full:
            return f"an attempt has at most {attempt.trail.count} batches"
        if attempt.done < self._most:
            return None
        if not self._count_left():
            return ""
        if attempt.done >= attempt.work.limits.rows:
            return "max_rows is reached"
        return f"max_share of the {self._of} rows that were there is reached"

    def _given_up(self, error: ServerError) -> None:
        """Take back a batch that the server gave up; raises what is no reason to try again."""
        attempt = self._attempt
        if self._walk is not None and attempt.at != "commit" and self._walk.locked(error):
            self._connection.own("ROLLBACK")
        elif not attempt.given_up(error):
            raise error

    def _statement(self) -> Statement:
        return Statement(self._attempt.work.chosen, self._made.full, self._began)

    def _batch(self, size: int) -> Gone:
        """Remove a batch and write that down, in one transaction."""
        attempt, work = self._attempt, self._attempt.work
        attempt.begin(self._walk.patience if self._walk is not None else "")
        gone = self._gone(size)
        if not gone.rows:
            self._connection.own("ROLLBACK")
            attempt.at = "between"
            return gone
        if self._live + gone.live > work.limits.needed:
            self._connection.own("ROLLBACK")
            raise SubjectError(
                f"{self._live + gone.live} rows that are still needed (`live`) would be removed,"
                f" max_live: {work.limits.needed}"
            )
        if gone.rows != gone.kept:
            self._connection.own("ROLLBACK")
            raise SubjectError(f"{gone.rows} rows were removed and {gone.kept} kept: taken back")
        live = {"live": gone.live} if gone.live else {}
        attempt.trail.add({"did": BATCH, "rows": gone.rows, **live})
        attempt.commit()
        attempt.done += gone.rows
        attempt.batches += 1
        self._waited, self.left, self.there = 0, None, None
        self._live += gone.live
        self._floor = gone.last if work.chosen.time else None
        if self._walk is not None:
            self._walk.go_on()
        return gone

    def _gone(self, size: int) -> Gone:
        """Remove what is next, in the transaction that is open."""
        attempt, kept = self._attempt, None
        if attempt.work.archive:
            table, job = f"{quoted(attempt.marks.schema)}.{ARCHIVE}", attempt.job
            kept = Kept(table=table, run=job.run, action=job.key, attempt=job.attempt)
        if self._walk is not None:
            return self._walk.batch(size, kept)
        made = removals.removed(self._statement(), size, floor=self._floor, kept=kept)
        rows, last, live, archived = self._connection.one(made.text, *made.values)
        return Gone(rows=int(rows or 0), live=int(live or 0), kept=int(archived or 0), last=last)

    def _nothing(self) -> str | None:
        """Say why rows are left where a batch had none; None: look for them once more."""
        if self._walk is not None:
            self._walk.go_on()
            if not self._walk.over:
                return None
            self._walk, self._walked = None, True
            return None if self._count_left() else ""
        if self._floor is not None:  # some may have been locked when it was their turn
            self._floor = None
            return None
        if not self._count_left():
            return ""
        self._waited += 1
        if self._waited > _LOCKED_FOR:
            return "somebody else has them locked"
        self._attempt.nap(0.2)
        return None

    def _count_left(self) -> int:
        if self._walked:
            asked = removals.all_left(self._statement())
            left, there = self._connection.one(asked.text, *asked.values)
            self.left, self.there = int(left or 0), int(there or 0)
        else:
            self.left = _left(self._attempt, self._made, self._began)
        return self.left


def _left(attempt: Attempt, made: Subject, began: str) -> int:
    """Return how many rows are meant still, as far as they are counted."""
    asked = removals.left(Statement(attempt.work.chosen, made.full, began), _LEFT + 1)
    (found,) = attempt.session.connection.one(asked.text, *asked.values)
    return int(found or 0)


def _read_back(
    attempt: Attempt, made: Subject, head: Entry, loop: _Loop, rest: str
) -> Output:  # fmt: skip
    """Compare what the database has with what was counted; say what is left."""
    work = attempt.work
    limit(attempt.session.connection, max(1.0, attempt.job.timeout), ends_with_us=True)
    left = loop.left if loop.left is not None else _left(attempt, made, str(head["as_of"]))
    attempt.more["left"] = left
    if work.archive:
        archive = f"{quoted(attempt.marks.schema)}.{ARCHIVE}"
        (kept,) = attempt.session.connection.one(
            f"SELECT count(*) FROM {archive} WHERE run = $1 AND action = $2",
            attempt.job.run,
            attempt.job.key,
        )
        attempt.more["kept"] = int(kept or 0)
        if int(kept or 0) != attempt.done:
            reason = f"{attempt.done} rows were removed, and {kept} of them are kept"
            return finish(attempt, "failed", reason, [])
    kept = ", and kept" if work.archive else ""
    room, advice = _room(attempt, made, head, yielded=loop.yielded)
    told = [f"{attempt.done} of {head['of']} rows of {made.said} are removed{kept}{room}"]
    told += [*_others(attempt, made, head, left, loop.there), *advice]
    if not left:
        return finish(attempt, "succeeded", "", told)
    many = f"{left}" if left <= _LEFT else f"more than {_LEFT}"
    said = f"{many} rows are left: {rest or 'they came while it was done'}"
    if work.rest == "ok" or not rest:
        return finish(attempt, "succeeded", "", [*told, said])
    cure = _QUIETER if loop.yielded else _AGAIN
    return finish(attempt, "failed", f"{said}; {attempt.done} were removed → {cure}", told)


_AGAIN = "run it again: it takes what is left then"
_QUIETER = f"{_AGAIN}; in a quieter hour, or with that limit raised knowingly"


def _room(
    attempt: Attempt, made: Subject, head: Entry, *, yielded: bool
) -> tuple[str, list[str]]:  # fmt: skip
    """Make the room of what is gone of use again where it is much; say what became of that."""
    if attempt.done <= MUCH * int(head["of"]):
        return "", []
    disk = "the disk gets none of the room back before VACUUM FULL or pg_repack"
    if not attempt.work.vacuum:
        return "", [f"VACUUM (ANALYZE) {made.full} makes their room of use again; {disk}"]
    if yielded:
        attempt.more["vacuum"] = "not done: it is too much for others"
        return "; NOT vacuumed, as it is too much for others", [disk]
    said = vacuum(attempt, made)
    limit(attempt.session.connection, max(1.0, attempt.job.timeout), ends_with_us=True)
    return f"; {said}", [disk]


def _others(
    attempt: Attempt, made: Subject, head: Entry, left: int, there: int | None
) -> list[str]:  # fmt: skip
    """Say how many rows stay that were not meant, where they were counted before.

    `there`: how many rows there are, if that is known already.
    """
    if not head["of_exact"] or left > _LEFT:
        return []
    if there is None:
        (now,) = attempt.session.connection.one(f"SELECT count(*) FROM {made.full}")
        there = int(now or 0)
    before, after = int(head["of"]) - int(head["meant"]), there - left
    attempt.more |= {"others_before": before, "others": after}
    return [f"{after} rows that were not meant are there; {before} were before"]
