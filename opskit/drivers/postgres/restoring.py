# ruff: noqa: S608 (names are quoted, values are bound)
"""Putting back, batch by batch, what an action has removed; what stands there by now stays."""

import json
import time
from collections.abc import Sequence

from opskit.drivers.postgres.batches import Attempt, finish, patience
from opskit.drivers.postgres.connection import ServerError
from opskit.drivers.postgres.marks import ARCHIVE
from opskit.drivers.postgres.subject import Subject, SubjectError, subject
from opskit.drivers.postgres.trail import BATCH, HEAD, Entry, removed
from opskit.model.job import Output
from opskit.render import removals
from opskit.render.removals import quoted

_INTEGRITY = "23"
"""The class of SQLSTATEs of rows that may not be there: a parent is gone, a check is new."""
_SHOWN = 20


def restore(attempt: Attempt) -> Output:
    """Put back what the archive has of the action; say which rows could not be."""
    origin = attempt.trail.read(attempt.work.of)
    past = attempt.trail.read()
    head = next((one for one in origin if one["did"] == HEAD), None)
    attempt.at = "changing"
    attempt.trail.begin({"did": HEAD})
    attempt.at = "between"
    if head is None:
        return finish(attempt, "succeeded", "", ["nothing was removed"])
    made = subject(attempt.session.connection, attempt.work, attempt.marks.schema)
    if (made.full, made.shape) != (head["table"], head["shape"]):
        raise SubjectError(
            f"{made.said} is not the table, or has not the columns, from which rows were removed:"
            f" put them back by hand from {attempt.marks.schema}.{ARCHIVE} (run {attempt.job.run})"
        )
    attempt.done = removed(past)
    _Back(attempt, made).run(past)
    return _told(attempt, made, removed(origin))


class _Back:
    """The batches of one attempt."""

    def __init__(self, attempt: Attempt, made: Subject) -> None:
        self._attempt = attempt
        self._made = made
        columns = tuple(one.name for one in made.columns if not one.made)
        always = any(one.always for one in made.columns)
        self._archive = f"{quoted(attempt.marks.schema)}.{ARCHIVE}"
        self._statement = removals.restored(
            made.full, self._archive, columns, made.key, always=always
        )
        self._last = "0"

    def run(self, past: Sequence[Entry]) -> None:
        """Go on behind the last batch that any attempt has put back."""
        attempt = self._attempt
        self._last = str(max((one["last"] for one in past if one["did"] == BATCH), default=0))
        stayed = [line for one in past if one["did"] == BATCH for line in one["stayed"]]
        attempt.more["stayed"] = sum(one["of"] - one["rows"] for one in past if one["did"] == BATCH)
        attempt.more["which"] = list(stayed[:_SHOWN])
        patience(attempt)
        while True:
            attempt.watch()
            if attempt.trail.full:
                raise SubjectError("an attempt has no room for another batch: begin it anew")
            began = time.monotonic()
            try:
                rows = self._batch(attempt.pace.size)
            except ServerError as error:
                if not self._alone(error) and not attempt.given_up(error):
                    raise
                continue
            if not rows:
                return
            attempt.strikes = 0
            seconds = time.monotonic() - began
            attempt.pace.took(seconds, rows)
            attempt.progress(f"{attempt.done} rows are put back")
            attempt.nap(attempt.pace.rest(seconds))

    def _batch(self, size: int) -> int:
        attempt, connection = self._attempt, self._attempt.session.connection
        key = (attempt.job.run, attempt.work.of)
        attempt.begin()
        found = connection.one(self._statement, *key, self._last, str(size))
        of, put = int(found[1] or 0), int(found[2] or 0)
        if not of:
            connection.own("ROLLBACK")
            attempt.at = "between"
            return 0
        self._note(int(found[0] or 0), of, put, json.loads(found[3] or "[]"))
        return of

    def _note(self, last: int, of: int, put: int, stayed: list[str]) -> None:
        """Write down a batch in its own transaction, and commit that."""
        attempt = self._attempt
        entry = {"did": BATCH, "rows": put, "of": of, "last": last, "stayed": stayed[:_SHOWN]}
        attempt.trail.add(entry)
        attempt.commit()
        self._last = str(last)
        attempt.done += put
        attempt.batches += 1
        known = attempt.more["which"]
        assert isinstance(known, list)
        attempt.more["stayed"] = int(str(attempt.more["stayed"])) + of - put
        attempt.more["which"] = [*known, *stayed][:_SHOWN]

    def _alone(self, error: ServerError) -> bool:
        """Find the row that may not be there, and leave it; the others are put back."""
        attempt, connection = self._attempt, self._attempt.session.connection
        if not error.code.startswith(_INTEGRITY):
            return False
        connection.own("ROLLBACK")
        if attempt.pace.size > 1:
            attempt.pace.size = max(1, attempt.pace.size // 8)
            return True
        attempt.begin()
        told = removals.told("line", self._made.full, self._made.key)
        found = connection.one(
            f"SELECT id, {told} FROM {self._archive} WHERE run = $1 AND action = $2"
            " AND id > $3::bigint ORDER BY id LIMIT 1",
            attempt.job.run,
            attempt.work.of,
            self._last,
        )
        self._note(int(found[0] or 0), 1, 0, [f"{found[1]}: {error.what}"])
        return True


def _told(attempt: Attempt, made: Subject, taken: int) -> Output:
    stayed = int(str(attempt.more["stayed"]))
    which = attempt.more["which"]
    assert isinstance(which, list)
    told = [f"{attempt.done} of {taken} rows of {made.said} are put back"]
    if stayed:
        told.append(f"{stayed} are not: something stands there by now, or they may not be there")
        told += [f"  {line}" for line in which]
    if attempt.done + stayed != taken:
        reason = f"of {taken} rows that were removed {taken - attempt.done - stayed} are not kept"
        return finish(attempt, "failed", reason, told)
    return finish(attempt, "succeeded", "", told)
