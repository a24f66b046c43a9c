"""Whoever changes the file behind the store's back is found out."""

import contextlib
import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from opskit import audit
from opskit.audit import Finding, Store
from opskit.audit.chain import link
from opskit.errors import DamagedError, StoreError
from opskit.model.codec import canonical, to_json
from opskit.plan.make import seal
from tests.contract.samples import begin, ended, started, waiting, whole_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A store with three runs, the first of which was finished after the second had begun."""
    opened = audit.open(path)
    with begin(opened, locks=()) as first:
        first.append(started(), ended(), waiting())
    whole_run(opened)
    with opened.reopen(first.run, who="bob", origin="desk") as again:
        again.append(started("web2"), ended("web2"))
    whole_run(opened, "rollback")
    yield opened
    opened.close()


def tamper(path: Path, *statements: str) -> None:
    """Change the file as somebody does who knows how: guards aside, and then back in place."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        guards = connection.execute(
            "select name, sql from sqlite_master where type = 'trigger'"
        ).fetchall()
        for name, _ in guards:
            connection.execute(f"drop trigger {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in guards:
            connection.execute(sql)


def whats(findings: list[Finding]) -> str:
    return "\n".join(str(finding) for finding in findings)


def test_a_record_that_nobody_touched_has_no_findings(store: Store) -> None:
    assert store.verify() == []
    for run in store.runs():
        assert store.verify(run.id) == []


BODY = "cast(replace(cast(body as text), 'succeeded', 'failed') as blob)"
REST = "at, kind, key, host, body, hash"
PART = "part, size, packed, body from outputs"
TAMPERED = {
    "an entry is edited": (
        f"update events set body = {BODY} where run = 1 and kind = 'step ended'",
        "entry 3: the chain breaks here",
    ),
    "the time of an entry is edited": (
        "update events set at = at - 3600 where run = 2 and number = 2",
        "entry 2: the chain breaks here",
    ),
    "the hash of an entry is edited": (
        "update events set hash = 'x' where run = 2 and number = 2",
        "entry 2: the chain breaks here",
    ),
    "a column of an entry is edited": (
        "update events set host = 'web9' where run = 2 and number = 2",
        "entry 2: its columns don't say what its text says",
    ),
    "an entry is no JSON": (
        "update events set body = x'00' where run = 2 and number = 2",
        "entry 2: it can't be read",
    ),
    "an entry is taken out": (
        "delete from events where run = 2 and number = 3",
        "entries 3 to 3 are missing before it",
    ),
    "the first entry is taken out": (
        "delete from events where run = 2 and number = 1",
        "the first entry, which says what the run is, is missing",
    ),
    "the end is cut off": (
        "delete from events where run = 3 and number > 4",
        "the end is cut off: there were 6 entries",
    ),
    "all entries are taken out": (
        "delete from events where run = 3",
        "the end is cut off: there were 6 entries",
    ),
    "an entry is put in": (
        f"insert into events select run, 7, {REST} from events where run = 3 and number = 6",
        "entries were added behind the store's back",
    ),
    "a state is edited": (
        "update heads set state = 'aborted' where run = 2",
        "its state is given as aborted, it is succeeded",
    ),
    "a head is taken out": (
        "delete from heads where run = 2",
        "nothing says where the run stands",
    ),
    "a run is taken out": (
        "delete from runs where number = 2",
        "run number 2 is missing",
    ),
    "the newest run is taken out": (
        "delete from runs where number = 3",
        "run number 3 is missing",
    ),
    "a run is given another runbook": (
        "update runs set runbook = 'harmless' where number = 2",
        "the list of runs says another runbook",
    ),
    "an output is edited": (
        "update outputs set body = cast('r9' || char(10) as blob) where run = 2",
        "its stdout is not the one whose digest was recorded",
    ),
    "an output is damaged": (
        "update outputs set packed = 1 where run = 2",
        "its stdout is not the one whose digest was recorded",
    ),
    "an output is taken out": (
        "delete from outputs where run = 2",
        "its stdout is missing",
    ),
    "an output is put in": (
        f"insert into outputs select run, '9/web1', 1, stream, {PART} where run = 2 limit 1",
        "there is output of 9/web1, attempt 1, which never started",
    ),
    "an output is put in for a step that printed nothing there": (
        f"insert into outputs select run, key, attempt, 'stderr', {PART} where run = 2 limit 1",
        "its stderr is not the one whose digest was recorded",
    ),
    "a document is edited": (
        "update documents set body = (select min(body) from documents)",
        "(a runbook, inventory or plan) was changed",
    ),
    "a document is taken out": (
        "delete from documents",
        "the document 'runbook' is missing",
    ),
    "the store is given another id": (
        "update store set id = 'x'",
        "the run was recorded in another store",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_it_is_found_when(store: Store, path: Path, how: str) -> None:
    statement, expected = TAMPERED[how]
    tamper(path, statement)

    assert expected in whats(store.verify())


@pytest.mark.parametrize("number", [1, 4, 6])
def test_a_damaged_entry_is_said_to_be_so_by_whoever_reads_it(
    store: Store, path: Path, number: int
) -> None:
    run = store.find("last")
    tamper(path, f"update events set body = x'00' where run = 3 and number = {number}")

    with pytest.raises(StoreError, match=f"an entry of run {run} can't be read"):
        store.load(run)
    with pytest.raises(StoreError, match="can't be read"):
        list(store.entries(run))
    assert number == 4 or not _listed(store)


def _listed(store: Store) -> bool:
    try:
        return bool(store.runs())
    except StoreError:
        return False


def test_two_entries_that_changed_places_are_found(store: Store, path: Path) -> None:
    tamper(
        path,
        "update events set number = 99 where run = 2 and number = 2",
        "update events set number = 2 where run = 2 and number = 3",
        "update events set number = 3 where run = 2 and number = 99",
    )

    assert "entry 2: the chain breaks here" in whats(store.verify())


def test_guards_that_were_taken_away_are_found(store: Store, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("drop trigger events_keep")

    assert whats(store.verify()) == "the guard events_keep was taken away or changed"


def test_a_plan_that_was_exchanged_with_its_document_is_found(store: Store, path: Path) -> None:
    run = store.find("last")
    documents = store.documents(run)
    plan = documents["plan"].replace("readlink", "rm -rf ").encode()
    old, new = (hashlib.sha256(text).hexdigest() for text in (documents["plan"].encode(), plan))
    tamper(path, f"insert into documents values ('{new}', x'{zlib.compress(plan).hex()}')")
    _rewrite(path, 3, old, new)

    assert "entry 1: the plan is not the one whose digest was recorded" in whats(store.verify(run))


def _rewrite(path: Path, run: int, old: str, new: str, *, keep: int = 1_000) -> None:
    """Rewrite a run as a forger would: chain and head fit again."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (name,) = connection.execute("select id from runs where number = ?", (run,)).fetchone()
        rows = connection.execute(
            "select number, at, body from events where run = ? order by number", (run,)
        ).fetchall()
    previous, statements = "", [f"delete from events where run = {run} and number > {keep}"]
    for number, at, body in rows[:keep]:
        body = body.replace(old.encode(), new.encode())
        previous = link(run=name, number=number, at=at, previous=previous, body=body)
        statements.append(
            f"update events set body = x'{body.hex()}', hash = '{previous}'"
            f" where run = {run} and number = {number}"
        )
    last = min(keep, len(rows))
    statements.append(
        f"update heads set entries = {last}, hash = '{previous}', state = 'running', ended = null"
        f" where run = {run}"
    )
    tamper(path, *statements)


@pytest.mark.parametrize("run", [1, 2])
def test_a_run_that_was_rewritten_is_found_by_the_runs_after_it(
    store: Store, path: Path, run: int
) -> None:
    _rewrite(path, run, "ann", "eve")
    rewritten = next(r.id for r in store.runs() if r.number == run)

    assert "is not what it was when run" in whats(store.verify())
    assert "is not what it was when run" in whats(store.verify(rewritten))


def test_a_cut_that_was_covered_up_is_found_by_the_runs_after_it(store: Store, path: Path) -> None:
    """The first run went on after the second had begun; the third vouches for that part too."""
    _rewrite(path, 1, "ann", "ann", keep=5)

    assert "entry 7: it, or what was before it, is not what it was" in whats(store.verify())


def test_what_no_later_run_vouches_for_can_be_cut_by_somebody_who_rewrites_its_head(
    store: Store, path: Path
) -> None:
    """The limit of a chain without signatures, as docs/explanation/record.md says it."""
    _rewrite(path, 3, "ann", "ann", keep=5)

    assert store.verify() == []


def test_a_broken_page_of_the_file_is_found(store: Store, path: Path) -> None:
    store.close()
    data = bytearray(path.read_bytes())
    place = data.index(b'"kind":"step ended"')
    data[place : place + 8] = b"XXXXXXXX"
    path.write_bytes(data)

    again = audit.open(path)
    assert again.verify() != []
    again.close()


def test_the_chain_can_be_checked_with_nothing_but_json_and_sha256(
    store: Store, path: Path
) -> None:
    """As docs/reference/record.md shows it."""
    connection = sqlite3.connect(path)
    run = store.find("last")
    previous, count = "", 0
    for number, at, body, found in connection.execute(
        "select e.number, e.at, e.body, e.hash from events e join runs r on r.number = e.run"
        " where r.id = ? order by e.number",
        (run,),
    ):
        entry = {"run": run, "number": number, "at": at, "previous": previous,
                 "event": json.loads(body)}  # fmt: skip
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == found
        previous, count = found, count + 1
    connection.close()
    assert count == 6


def test_a_damaged_file_is_told_of_as_far_as_it_can_be_read(store: Store, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        page, pages = (
            connection.execute(f"pragma {what}").fetchone()[0]
            for what in ("page_size", "page_count")
        )
    whole = path.read_bytes()
    for damaged in range(1, pages):
        path.write_bytes(whole[: damaged * page] + b"\xa5" * page + whole[(damaged + 1) * page :])
        opened = None
        with contextlib.suppress(DamagedError):
            opened = audit.open(path)
        if opened is not None:
            found = opened.verify()
            assert any(finding.damage for finding in found), damaged
            opened.close()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("update documents set body = {other} where digest = '{digest}'", "plan is not the one"),
        ("delete from documents where digest = '{digest}'", "document 'plan' is missing"),
    ],
)
def test_a_plan_that_a_run_was_given_later_is_checked_too(
    store: Store, path: Path, statement: str, found: str
) -> None:
    (run, *_) = store.runs()
    new = seal(replace(store.plan(run.id), parameters={"release": "r8"}))
    with store.reopen(run.id, who="ann", origin="desk") as journal:
        amended = journal.amend(new, {"who": "ann"})
    assert store.verify() == []
    number, documents = store.load(run.id).entries, amended.data["documents"]
    assert isinstance(documents, Mapping)
    other = zlib.compress(canonical(to_json(replace(new, version="9")))).hex()
    tamper(path, statement.format(digest=documents["plan"], other=f"x'{other}'"))
    assert f"entry {number}: the {found}" in whats(store.verify(run.id))
    assert found in whats(store.verify())
