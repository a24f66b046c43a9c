"""Rows of the store → the values that it tells a run by."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from opskit.audit import fold, whole
from opskit.audit.database import Row, Rows
from opskit.errors import DamagedError, InputError
from opskit.model.codec import from_json, parse
from opskit.model.event import Entry, Event
from opskit.model.run import Run
from opskit.model.work import Recall


def run(rows: Rows, run: str) -> Row:
    row = rows.one("run", id=run)
    if row is None:
        whole.named(rows, run)
        raise InputError(f"there is no run {run!r}", hint="`opskit runs` lists them")
    return row


def first(rows: Rows, row: Row) -> Mapping[str, Any]:
    """Return the data of a run's first event."""
    found = rows.one("first_event", run=row["number"])
    return {} if found is None else cast(Mapping[str, Any], event(row["id"], found["body"]).data)


def amended(rows: Rows, row: Row) -> Mapping[str, Any]:
    """Return the documents that a decision has put in the place of a run's first ones."""
    last = next(iter(rows.all("amendments", run=row["number"])), None)
    data = event(row["id"], last["body"]).data if last is not None else {}
    return cast(Mapping[str, Any], data.get("documents", {}))


def event(run: str, body: bytes) -> Event:
    try:
        return from_json(Event, parse(body))
    except (ValueError, AttributeError) as error:  # what is no bytes at all can't be decoded
        raise DamagedError(
            f"an entry of run {run} can't be read: {error}",
            hint=f"`opskit audit verify {run}` says what is wrong with it",
        ) from error


def entry(run: str, previous: str, row: Row) -> Entry:
    return Entry(
        run=run,
        number=row["number"],
        at=row["at"],
        previous=previous,
        hash=row["hash"],
        event=event(run, row["body"]),
    )


def ended(row: Row) -> Run:
    """Return a run that has ended, from its first event and its end."""
    ending = event(row["id"], row["ending"])
    standing = fold.moved(fold.Standing(), ending, row["ended"])
    facts = fold.facts(event(row["id"], row["body"]))
    facts["plan"] = str(ending.data.get("plan") or facts["plan"])  # it may not be the first one
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
        **facts,
    )


def said(rows: Rows, since: float, runbook: str | None) -> Mapping[str, Sequence[Entry]]:
    """Return by run what people said and decided in those that were begun since a moment.

    None of the rest is read, which is most of it, nor whether anything is missing.
    """
    found: dict[str, list[Entry]] = {}
    for row in rows.all("said", since=since, runbook=runbook):
        found.setdefault(row["id"], []).append(entry(row["id"], row["previous"], row))
    return found


def recall(rows: Rows, recall: Recall, run: str | None) -> str | None:
    """Return the value that the newest run has which counts, or the run that is named."""
    for row in rows.all("recallable", runbook=recall.runbook, host=recall.host, id=run):
        if row["state"] not in recall.status:
            continue
        value = recalled(rows, row, recall)
        if value is not None:
            return value
    return None


def recalled(rows: Rows, run: Row, recall: Recall) -> str | None:
    value = None
    for row in rows.each("endings_with", run=run["number"], marker=b'"saved":'):
        for host, name, saved in fold.saved_by(event(run["id"], row["body"])):
            if host in (recall.host, fold.SHARED) and name == recall.value:
                value = saved
    return value


def no_one_run(text: str, ids: Sequence[str]) -> InputError:
    if not ids:
        return InputError(
            f"no run is named {text!r}",
            hint="give its id, the beginning or the end of it, or `last`; `opskit runs` lists them",
        )
    several = ", ".join(ids[:5]) + (" and more" if len(ids) > 5 else "")
    return InputError(f"{text!r} could be any of {several}", hint="give more of the id")
