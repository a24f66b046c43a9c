"""Runs of a file, made while the database was away, into the database: with their chain intact."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from opskit.audit import chain, fold, verify
from opskit.audit.database import Database, Row, Rows
from opskit.audit.masking import Masker
from opskit.model.codec import from_json, parse
from opskit.model.event import Event
from opskit.model.frozen import frozen

PAGE = 200

Fate = Literal["imported", "there", "left", "refused"]


@frozen
class Taken:
    """What became of one run: imported, there already, left where it is, or refused."""

    run: str
    fate: Fate
    why: str = ""


@frozen
class Importer:
    """Who brings runs in, and from where to where."""

    source: Database
    target: Database
    who: str
    origin: str


def bring(importer: Importer, *, everything: bool) -> Iterator[Taken]:
    """Import the runs that were made in place of another store, or `everything` that has ended."""
    with importer.source.reading() as rows:
        runs = rows.all("every_run")
    for run in runs:
        with importer.source.reading() as rows:
            created, head = _created(rows, run), rows.one("head", run=run["number"])
        if not everything and not created.get("instead_of"):
            continue
        yield _bring_one(importer, run, head, created)


def _bring_one(importer: Importer, run: Row, head: Row | None, created: Mapping[str, Any]) -> Taken:
    id_ = str(run["id"])
    wrong = [f.what for f in verify.one(importer.source, id_)]
    wrong += verify.documents_of(importer.source, run)
    if wrong or head is None:
        return Taken(run=id_, fate="refused", why=wrong[0] if wrong else "it has no head")
    if head["state"] in fold.OPEN:
        return Taken(run=id_, fate="left", why="it has not ended: resume or abort it first")
    with importer.target.reading() as rows:
        there = _there(rows, run, head)
    if there is not None:
        return there
    _copy(importer, run, head, created)
    return Taken(run=id_, fate="imported")


def _there(rows: Rows, run: Row, head: Row) -> Taken | None:
    """Say how the run stands in the target; None where it is not there."""
    id_ = str(run["id"])
    found = rows.one("run", id=id_)
    if found is None:
        return None
    end = chain.End(number=head["entries"], hash=head["hash"])
    if chain.stands(rows, found, end):
        return Taken(run=id_, fate="there")
    return Taken(
        run=id_, fate="refused", why="it has gone on here since it was imported, or is another run"
    )


def _copy(importer: Importer, run: Row, head: Row, created: Mapping[str, Any]) -> None:
    source, who = importer.source, importer.who
    data = {"who": who, "from": importer.origin}
    data |= {name: created[name] for name in ("store", "number")}
    event = chain.dated(Event(kind="run imported", data=data), time.time(), Masker([]))
    key = source.secret_key() if created.get("secrets") else b""

    def work(rows: Rows) -> None:
        store = rows.one("store")
        assert store is not None
        row = {**run, "number": store["runs"] + 1}
        rows.run("add_run", **row)
        rows.run("count_run")
        rows.run("begin_head", run=row["number"])
        if key:
            rows.run("add_key", store=created["store"], body=key)
        with source.reading() as found:
            _documents(found, rows, run)
            _events(found, rows, run, row)
            _outputs(found, rows, run, row)
        standing = {name: head[name] for name in ("entries", "hash", "state", "ended")}
        rows.run("move_head", run=row["number"], **standing)
        chain.extend(rows, row, [event])

    importer.target.transact(work, lambda rows: rows.one("run", id=run["id"]) is not None)


def _documents(found: Rows, rows: Rows, run: Row) -> None:
    for digest in verify.documents(found, run):
        document = found.one("document", digest=digest)
        if document is not None:
            rows.run("add_document", digest=digest, body=document["body"])


def _events(found: Rows, rows: Rows, run: Row, row: Row) -> None:
    number = 0
    while page := found.all("events", run=run["number"], after=number, limit=PAGE):
        rows.many("add_event", [{**event, "run": row["number"]} for event in page])
        number = page[-1]["number"]


def _outputs(found: Rows, rows: Rows, run: Row, row: Row) -> None:
    for stream in found.all("streams", run=run["number"]):
        part = 0
        while page := found.all("output", run=run["number"], part=part, **stream):
            place = {**stream, "run": row["number"]}
            parts = [{**one, **place, "packed": bool(one["packed"])} for one in page]
            rows.many("add_output", parts)
            part += len(page)


def _created(rows: Rows, run: Row) -> Mapping[str, Any]:
    found = rows.one("first_event", run=run["number"])
    try:
        return from_json(Event, parse(found["body"])).data if found else {}
    except ValueError:
        return {}
