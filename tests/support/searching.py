"""Searching a ledger by the real driver, and what its evidence says of each row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from opskit.drivers.evidence import Evidence, opened
from opskit.drivers.postgres.databases import About, Databases
from opskit.lab import release
from opskit.load.ledgers import ledger
from opskit.model.inventory import Database, Host
from opskit.model.job import Job, Output
from opskit.model.ledger import Ledger
from opskit.model.work import Duplicates
from opskit.steps.health import judge
from tests.support.database import no_host


def described(name: str, folder: Path) -> Ledger:
    """Return the ledger of one of the lab's data sets."""
    path = folder / f"{name}.yaml"
    path.write_bytes(release.data(f"ledger/{name}.yaml"))
    return ledger(path)


def readable(url: str) -> None:
    """Let the role `reader` read all tables of a database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")


def searched(
    url: str,
    of: Ledger,
    folder: Path,
    *,
    user: str = "reader",
    standby: bool = False,
    timeout: float = 120.0,
    **how: Any,  # noqa: ANN401 - a Duplicates'
) -> tuple[Output, str]:
    """Search as a role that only reads; return a step's outcome and what was printed."""
    at = Database(name="main", url=url.replace("//owner@", f"//{user}@"), standby=standby)
    driver = Databases(About(run="r1", runbook="search", secrets={}), {"main": at}, no_host)
    work = Duplicates(database="main", ledger=of, file="ledger.yaml", evidence=str(folder), **how)
    job = Job(
        run="r1", key="1/", attempt=1, host=Host(name="db:main", address="main"), work=work,
        effect="read", timeout=timeout,
    )  # fmt: skip
    printed = bytearray()
    found = driver.perform(job, lambda _, data: printed.extend(data))
    return judge(work, found), printed.decode()


def kept(output: Output) -> Evidence:
    """Return the evidence of a search, of which nothing has changed."""
    return opened(Path(str(output.evidence["manifest"])), str(output.evidence["sha256"]))


def said(output: Output, name: str) -> set[tuple[int, str]]:
    """Return what a table says of each row."""
    found = kept(output)
    if name not in {piece.name for piece in found.manifest.pieces}:
        return set()
    return {(int(row["id"]), row.get("verdict", "MEMBER")) for row in found.rows(name)}


def planted(manifest: Mapping[str, Any], rule: str, window: str = "") -> set[tuple[int, str]]:
    """Return what a data set's manifest says that a rule has to say of its rows."""
    return {
        (row["id"], row["verdict"])
        for group in manifest["groups"]
        if group["rule"] == rule and (not window or window in group["within"])
        for row in group["rows"]
        if row["verdict"] is not None
    }


def ids(found: set[tuple[int, str]]) -> set[int]:
    return {id_ for id_, _ in found}
