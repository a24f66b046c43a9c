"""Does the record prove itself? Everything that speaks against it is a finding."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from opskit.audit import fold
from opskit.audit.chain import Finding, link
from opskit.audit.database import Database, Row, Rows
from opskit.audit.sink import unpack
from opskit.errors import DamagedError, InputError
from opskit.model.codec import digest, from_json, parse
from opskit.model.event import Event
from opskit.model.value import Json

PAGE = 500


@dataclass(kw_only=True, slots=True)
class _Seen:
    """What has been read of a run so far."""

    run: Row
    number: int = 0
    hash: str = ""
    standing: fold.Standing = field(default_factory=fold.Standing)
    created: Mapping[str, Any] = field(default_factory=dict)
    imported: Mapping[str, Any] | None = None
    """What its entry says by which it came here from another store."""
    amended: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    """Entries by which the run got another plan, and what they say."""
    started: set[tuple[str, int]] = field(default_factory=set)
    ended: dict[tuple[str, int, str], tuple[int, str]] = field(default_factory=dict)
    """Stream of an attempt → the entry that tells its digest, and the digest."""


def one(database: Database, run: str) -> list[Finding]:
    """Check one run, and what later runs say of it."""
    with database.reading() as rows:
        row = rows.one("run", id=run)
        if row is None:
            raise InputError(f"there is no run {run!r}", hint="`opskit runs` lists them")
    return [*_run(database, row), *(f for f in _seals(database) if f.run == run)]


def everything(database: Database) -> list[Finding]:
    """Check the database, that no run is missing, and every run with all that belongs to it."""
    damage = [Finding(run="", number=0, what=what, damage=True) for what in database.damage()]
    runs: list[Row] = []
    broken = bool(damage)
    findings = list(_readable("", _listed(database, runs), broken=broken))
    for row in runs:
        findings += _readable(str(row["id"]), _run(database, row), broken=broken)
    findings += _readable("", _seals(database), broken=broken)
    findings += _readable("", _documents(database), broken=broken)
    return [*damage, *dict.fromkeys(findings)]


def _listed(database: Database, runs: list[Row]) -> Iterator[Finding]:
    """Add every run that is listed to `runs`; yield those that are not and should be."""
    with database.reading() as rows:
        store = rows.one("store")
        runs += rows.all("every_run")
    yield from _missing_runs(store["runs"] if store else 0, [row["number"] for row in runs])


def _readable(run: str, findings: Iterator[Finding], *, broken: bool) -> Iterator[Finding]:
    """Pass findings on; where the file is too damaged to read on, that is one, and the last.

    In a file that is `broken` any value may stand in any place, a number where a text should be.
    """
    try:
        yield from findings
    except (DamagedError, TypeError, AttributeError, ValueError) as error:
        if not broken and not isinstance(error, DamagedError):
            raise
        what = "some of it can't be read" if run else "parts of the file can't be read"
        yield Finding(run=run, number=0, what=what, damage=True)


def damaged(error: DamagedError) -> list[Finding]:
    """Return what there is to find in a file that can't even be opened."""
    why = f": {error.__cause__}" if error.__cause__ else ""
    return [Finding(run="", number=0, what=error.what + why, damage=True)]


def _missing_runs(counted: int, numbers: list[int]) -> Iterator[Finding]:
    for number in sorted(set(range(1, counted + 1)) - set(numbers)):
        yield Finding(run="", number=0, what=f"run number {number} is missing")
    for number in sorted(n for n in numbers if n > counted):
        yield Finding(run="", number=0, what=f"run number {number} is not counted")


# ---- one run


def _run(database: Database, run: Row) -> Iterator[Finding]:
    seen = _Seen(run=run)
    while True:
        with database.reading() as rows:
            page = rows.all("events", run=run["number"], after=seen.number, limit=PAGE)
        for row in page:
            for number, what in _entry(seen, row):
                yield Finding(run=run["id"], number=number, what=what)
        if len(page) < PAGE:
            break
    with database.reading() as rows:
        for number, what in (*_beginning(rows, seen), *_end(rows, seen), *_outputs(rows, seen)):
            yield Finding(run=run["id"], number=number, what=what)


def _entry(seen: _Seen, row: Row) -> Iterator[tuple[int, str]]:
    """Check one entry against the one before it, and take it in."""
    number = row["number"]
    if number != seen.number + 1:
        yield number, f"entries {seen.number + 1} to {number - 1} are missing before it"
    expected = link(
        run=seen.run["id"], number=number, at=row["at"], previous=seen.hash, body=row["body"]
    )
    if row["hash"] != expected:
        yield number, "the chain breaks here: this entry, or the one before it, was changed"
    seen.number, seen.hash = number, row["hash"]
    try:
        event = from_json(Event, parse(row["body"]))
        _take_in(seen, number, event, row["at"])
    except (ValueError, KeyError) as error:
        yield number, f"it can't be read: {error}"
        return
    if (event.kind, event.key, event.host) != (row["kind"], row["key"], row["host"]):
        yield number, "its columns don't say what its text says"


def _take_in(seen: _Seen, number: int, event: Event, at: float) -> None:
    seen.standing = fold.moved(seen.standing, event, at)
    if event.kind == "run created" and number == 1:
        seen.created = event.data
    elif event.kind == "run imported" and seen.imported is None:
        seen.imported = event.data
    elif event.kind == "plan amended":
        seen.amended.append((number, event.data))
    elif event.kind == "step started":
        seen.started.add((event.key, event.attempt))
    elif event.kind == "step ended":
        seen.started.add((event.key, event.attempt))
        for stream in ("stdout", "stderr"):
            told = event.data.get(stream)
            mark = told.get("sha256", "") if isinstance(told, Mapping) else ""
            seen.ended[event.key, event.attempt, stream] = (number, str(mark))


def _beginning(rows: Rows, seen: _Seen) -> Iterator[tuple[int, str]]:
    """Check what the first entry says of the run, the store, the plan."""
    if not seen.created:
        yield 1, "the first entry, which says what the run is, is missing"
        return
    created, run = seen.created, seen.run
    for name in ("kind", "runbook"):
        if created.get(name) != run[name]:
            yield 1, f"the list of runs says another {name} than the first entry"
    yield from _origin(rows, seen)
    for entry, said in ((1, created), *seen.amended):
        for what in _named(rows, said):
            yield entry, what


def _named(rows: Rows, said: Mapping[str, Any]) -> Iterator[str]:
    """Check the documents that an entry names."""
    for name, mark in said.get("documents", {}).items():
        row = rows.one("document", digest=mark)
        if row is None:
            yield f"the document {name!r} is missing"
        elif name == "plan":
            yield from _plan(row["body"], said.get("plan", ""))


def _origin(rows: Rows, seen: _Seen) -> Iterator[tuple[int, str]]:
    """Check where a run was begun: here, or in the store that it was imported from."""
    created, number, store = seen.created, seen.run["number"], rows.one("store")
    if seen.imported is not None:
        if any(created.get(name) != seen.imported.get(name) for name in ("number", "store")):
            yield 1, "the run was imported from another store than the one that it began in"
        return
    if created.get("number") != number:
        yield 1, "the list of runs says another number than the first entry"
    if store is None or created.get("store") != store["id"]:
        yield 1, "the run was recorded in another store"
    if created.get("previous") and rows.one("run_numbered", number=number - 1) is None:
        yield 1, "the run before this one is missing"


def _plan(body: bytes, mark: str) -> Iterator[str]:
    try:
        plan = parse(zlib.decompress(body))
    except (zlib.error, ValueError):
        return  # told of as a document
    if isinstance(plan, dict) and digest({k: v for k, v in plan.items() if k != "digest"}) != mark:
        yield "the plan is not the one whose digest was recorded"


def _end(rows: Rows, seen: _Seen) -> Iterator[tuple[int, str]]:
    """Check that the run stands where its head says: a cut end shows here."""
    head = rows.one("head", run=seen.run["number"])
    if head is None:
        yield seen.number, "nothing says where the run stands: its head is missing"
        return
    if head["entries"] > seen.number:
        yield seen.number, f"the end is cut off: there were {head['entries']} entries"
    elif (head["entries"], head["hash"]) != (seen.number, seen.hash):
        yield seen.number, "entries were added behind the store's back"
    elif head["state"] != seen.standing.state:
        yield seen.number, f"its state is given as {head['state']}, it is {seen.standing.state}"


# ---- what hangs on the chain: outputs, seals, documents


def _outputs(rows: Rows, seen: _Seen) -> Iterator[tuple[int, str]]:
    stored = set()
    for found in rows.all("streams", run=seen.run["number"]):
        stream = (found["key"], found["attempt"], found["stream"])
        stored.add(stream)
        if stream[:2] not in seen.started:
            yield 0, f"there is output of {stream[0]}, attempt {stream[1]}, which never started"
        elif stream in seen.ended:
            number, mark = seen.ended[stream]
            if _digest_of(rows, seen.run["number"], *stream) != mark:
                yield number, f"its {stream[2]} is not the one whose digest was recorded"
    for stream, (number, mark) in seen.ended.items():
        if mark and stream not in stored:
            yield number, f"its {stream[2]} is missing"


def _digest_of(rows: Rows, run: int, key: str, attempt: int, stream: str) -> str:
    """Return the digest of a stored stream; "" when it can't be read as a whole."""
    total, part = hashlib.sha256(), 0
    while True:
        found = rows.all("output", run=run, key=key, attempt=attempt, stream=stream, part=part)
        for row in found:
            try:
                data = unpack(row["packed"], row["body"])
            except zlib.error:
                return ""
            if row["part"] != part or row["size"] != len(data):
                return ""
            total.update(data)
            part += 1
        if not found:
            return total.hexdigest()


def _seals(database: Database) -> Iterator[Finding]:
    """Check what each run vouches for: where the runs before it stood when it began."""
    with database.reading() as rows:
        here = rows.one("store")
        for row in rows.all("first_events"):
            try:
                data = from_json(Event, parse(row["body"])).data
            except ValueError:
                continue  # told of with its run
            seals = data.get("seals")
            imported = here is not None and data.get("store") != here["id"]
            for run, seal in seals.items() if isinstance(seals, Mapping) else ():
                if imported and rows.one("run", id=run) is None:
                    continue  # it has stayed in the other store
                yield from _seal(rows, row["id"], run, seal)


def _seal(rows: Rows, by: str, run: str, seal: Json) -> Iterator[Finding]:
    number, mark = seal if isinstance(seal, list) and len(seal) == 2 else (0, "")
    row = rows.one("run", id=run)
    if row is None:
        yield Finding(run="", number=0, what=f"run {run} is missing; {by} was begun after it")
        return
    found = rows.one("event_hash", run=row["number"], number=number)
    if found is None or found["hash"] != mark:
        what = f"it, or what was before it, is not what it was when run {by} began"
        yield Finding(run=run, number=number, what=what)


def documents(rows: Rows, run: Row) -> Mapping[str, str]:
    """Return the documents that a run came from or was given: digest → name."""
    entries = [
        *rows.all("amendments", run=run["number"]),
        rows.one("first_event", run=run["number"]),
    ]
    named: dict[str, str] = {}
    for entry in entries:
        with suppress(ValueError, AttributeError):  # what can't be read is told of with its run
            data = cast(
                Mapping[str, Any], from_json(Event, parse(entry["body"])).data if entry else {}
            )
            named |= {mark: name for name, mark in data.get("documents", {}).items()}
    return named


def documents_of(database: Database, run: Row) -> list[str]:
    """Say which of the documents that a run came from or was given were changed."""
    with database.reading() as rows:
        found = [
            (name, mark, rows.one("document", digest=mark))
            for mark, name in documents(rows, run).items()
        ]
    return [
        f"the document {name!r} was changed"
        for name, mark, row in found
        if row is None or not _intact(row["body"], mark)
    ]


def _documents(database: Database) -> Iterator[Finding]:
    with database.reading() as rows:
        for row in rows.each("every_document"):
            if not _intact(row["body"], row["digest"]):
                mark = row["digest"][:12]
                what = f"the document {mark} (a runbook, inventory or plan) was changed"
                yield Finding(run="", number=0, what=what)


def _intact(body: bytes, mark: str) -> bool:
    try:
        return hashlib.sha256(zlib.decompress(body)).hexdigest() == mark
    except zlib.error:
        return False
