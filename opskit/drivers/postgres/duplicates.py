"""One search of a ledger for what was paid twice: in one snapshot, with a folder of evidence."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from opskit.drivers.evidence import Folder
from opskit.drivers.postgres import provided
from opskit.drivers.postgres.connection import BrokenError, EndedError, ServerError
from opskit.drivers.postgres.findings import evidence, table, told, weighed
from opskit.drivers.postgres.ledgers import LedgerError
from opskit.drivers.postgres.looking import looked, why
from opskit.drivers.postgres.provided import File, ProviderError
from opskit.drivers.postgres.search import RefusedSearchError, Search
from opskit.drivers.postgres.session import Access, RoleError, Session
from opskit.drivers.session import Write
from opskit.drivers.target import Running
from opskit.errors import InputError, OpskitError
from opskit.model.evidence import MANIFEST
from opskit.model.job import Job, Output
from opskit.model.value import Json
from opskit.model.work import Duplicates
from opskit.settings import default_store
from opskit.steps.duplicates import CHECKS

_CONFLICT = "40001"
"""A standby had to go on with what the primary did, and could not keep our snapshot."""
_PAUSES = (0.5, 2.0, 5.0, 15.0)
"""Seconds before a search is begun again after that: what came from the primary comes in bursts."""
_MISFIT = ("22", "42804", "42846", "42883", "42P18")
"""How SQLSTATE begins where a value or a field of the description does not fit the table."""
FOLDER = "evidence"


def perform(access: Access, job: Job, running: Running, write: Write) -> Output:
    """Search, keep the evidence and tell. What goes wrong outside is in the output."""
    work = job.work
    assert isinstance(work, Duplicates)
    with ExitStack() as stack:
        try:
            file = None
            if work.provider is not None and work.ledger.provider is not None:
                file = provided.read(work.provider, work.ledger.provider, stack)
        except ProviderError as error:
            return _refused(error)

        def look(session: Session) -> Output:
            return _tried(session, running, lambda: _searched(access, session, job, file, write))

        return looked(access, job, running, look, checks=True)


def _refused(error: OpskitError) -> Output:
    """Say that nothing was looked for, and so nothing is known."""
    return Output(
        outcome="failed", sent=False, reason=f"refused: {error.line}", evidence={"refused": True}
    )


def _tried(session: Session, running: Running, search: Callable[[], Output]) -> Output:
    for pause in (*_PAUSES, None):
        try:
            return search()
        except ServerError as error:
            if error.code != _CONFLICT or not session.identity.standby or pause is None:
                return _failed(error)
            session.connection.own("ROLLBACK")
            running.give_up.wait(pause)
    raise AssertionError("the last try returns")


def _failed(error: ServerError) -> Output:
    if error.code.startswith(_MISFIT):
        return _refused(error)
    return Output(outcome="unknown", reason=why(error), evidence={"sqlstate": error.code})


def _searched(
    access: Access, session: Session, job: Job, file: File | None, write: Write
) -> Output:
    work = job.work
    assert isinstance(work, Duplicates)
    search = Search(access, session, work, file, limit=job.timeout)
    try:
        search.begin()
        search.keep(Folder.made(_base(work), access.run))
    except (LedgerError, RoleError, RefusedSearchError, InputError) as error:
        return _refused(error)
    try:
        search.run()
        found = weighed(search.findings, work.leave_out, work.levels.items(), CHECKS)
        about = evidence(found)
        digest = search.close(str(about["level"]), about["findings"])
    except RefusedSearchError as error:
        search.folder.remove()
        return _refused(error)
    except OSError as error:
        search.folder.remove()
        full = f"no evidence can be kept in {search.folder.path.parent}: {error.strerror}"
        cure = "make room there, or name another folder (`evidence`)"
        return Output(outcome="unknown", reason=f"{full}; there is no report → {cure}")
    except (ServerError, BrokenError, EndedError):
        search.folder.remove()
        raise
    session.connection.own("ROLLBACK")
    line = told(found, access.database.name, search.summary)
    path = search.folder.path / MANIFEST
    text = f"{table(found)}{line.partition('; ')[0]}\n{path}\nsha256 {digest}\n"
    write("stdout", text.encode())
    kept: dict[str, Json] = {"manifest": str(path), "sha256": digest, "rows": dict(search.counts)}
    return Output(
        outcome="succeeded", reason=line, status=0, stdout=digest.encode(),
        evidence={**about, **kept, "role": search.role},
    )  # fmt: skip


def _base(work: Duplicates) -> Path:
    if work.evidence:
        return Path(work.evidence).expanduser()
    return Path(default_store(os.environ)).parent / FOLDER
