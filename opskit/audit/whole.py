"""Is what was read all that there was? A damaged file can give less than it had, and no error."""

from typing import cast, get_args

from opskit.audit.database import Row, Rows
from opskit.errors import DamagedError
from opskit.model.states import RunState

_HINT = (
    "`opskit audit verify` names what is missing; put a copy from a backup in its place before "
    "anything is gone on with"
)


def damaged(what: str) -> DamagedError:
    """Return the error that says what is missing or can't be right."""
    return DamagedError(f"the record is damaged: {what}", hint=_HINT)


def runs(rows: Rows) -> None:
    """Refuse a list of runs that has fewer, or others, than there have been."""
    found = rows.one("counts")
    if found is None:
        raise damaged("it does not say how many runs it has")
    counted = found["counted"]
    if found["listed"] != counted or found["newest"] != counted:
        raise damaged(f"it has had {counted} runs, and does not list them all any more")
    if found["headed"] != counted:
        raise damaged(f"of {counted} runs it does not say of all how they stand")


def listed(row: Row, *, ended: bool) -> None:
    """Refuse a run in the list that lacks its first event, or its end."""
    if row["body"] is None or (ended and row["ending"] is None):
        raise damaged(f"entries of run {row['id']} are missing")


def entry(run: str, number: int, row: Row) -> None:
    """Refuse an entry that does not follow the one before it."""
    if row["number"] != number + 1:
        raise damaged(f"entries of run {run} are missing after entry {number}")


def entries(rows: Rows, run: Row, number: int) -> None:
    """Refuse a run that ends before its head says that it does."""
    head = rows.one("head", run=run["number"])
    there = head["entries"] if head is not None else None
    if not isinstance(there, int) or there > number:
        raise damaged(f"the last entries of run {run['id']} are missing")


def state(rows: Rows, run: Row) -> RunState:
    """Return how a run stands, as its head has it."""
    head = rows.one("head", run=run["number"])
    found = head["state"] if head is not None else None
    if found not in get_args(RunState):
        raise damaged(f"it does not say how run {run['id']} stands")
    return cast(RunState, found)


def named(rows: Rows, run: str) -> None:
    """Refuse to say that there is no run of this id where the index alone has lost it."""
    runs(rows)
    if any(row["id"] == run for row in rows.all("every_run")):
        raise damaged(f"run {run} is there, and can't be found by its id")
