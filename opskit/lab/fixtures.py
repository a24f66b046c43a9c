"""Tables, rows and faults for a PostgreSQL, made inside the server by psql, the same for one seed.

What is planted goes into a manifest with what should be there, so that whoever looks for faults
can count what was found, and what was found though it is none.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from opskit.errors import InputError, OpskitError
from opskit.lab import programs, release
from opskit.model.frozen import frozen

ROWS = {
    "teams": "rows of the ledger and of members",
    "tickets": "tickets",
    "sync": "records, devices and uploads, each",
    "youtility": "people, sessions and tasks, each",
    "payouts": "payouts",
    "catalog": "rows of each table",
    "limits": "users, addresses and cached values, each",
}
"""The data sets, and what their number of rows counts."""
SETS = tuple(ROWS)
KEYED = ("limits",)
"""Those that are keys of a Redis; the others have a database of PostgreSQL each."""
EXPECTED = ("teams", "tickets", "sync", "youtility", "payouts")
"""Those with a file of what is expected of them, as `index-verify` takes it."""
LEDGERS = ("payouts", "teams", "sync")
"""Those with a description of their ledger, as `duplicate-payouts` takes it."""
INDEX_FAULTS = 14
"""How many tables of the set `catalog` are needed to plant each fault of an index once."""
DAYS = 90
"""How long a ledger goes on."""
SINCE = "2026-01-01"
"""When the first rows of a ledger were made, where nobody says so."""
MOST_ROWS, MOST_TABLES, MOST_CASES = 20_000_000, 9999, 999


@frozen
class Amount:
    """How much of a data set is made, and from which seed."""

    rows: int | None = None
    tables: int = 40
    cases: int = 1
    seed: int = 1
    planted: bool = False

    def rows_of(self, name: str) -> int:
        """How many rows of a set, where nobody said: as many as show something in a moment."""
        return self.rows if self.rows is not None else 20 if name == "catalog" else 1000


def check(names: Sequence[str], amount: Amount) -> None:
    """Raise InputError for a data set that there is not, or an amount of it that can't be made."""
    for name in names:
        if name not in SETS:
            raise InputError(f"no data set {name!r}", hint=f"there are {', '.join(SETS)}")
    if len(set(names)) < len(names):
        raise InputError("a data set is named twice", hint="each has a database of its own")
    for what, value, most in (
        ("rows", 1 if amount.rows is None else amount.rows, MOST_ROWS),
        ("tables", amount.tables, MOST_TABLES),
        ("cases", amount.cases, MOST_CASES),
    ):
        if not 1 <= value <= most:
            raise InputError(f"{what} is {value}; it can be 1 to {most}")
    room = amount.tables // INDEX_FAULTS
    if amount.planted and "catalog" in names and amount.cases > room:
        raise InputError(
            f"{amount.cases} cases of each fault do not fit into {amount.tables} tables",
            hint=f"a table has one fault at most: --tables {amount.cases * INDEX_FAULTS} or more",
        )


def load(
    psql: Sequence[str | Path],
    name: str,
    amount: Amount,
    *,
    env: Mapping[str, str],
    since: str = SINCE,
) -> Mapping[str, object]:
    """Fill an empty database; `psql` is the command that connects to it as a superuser.

    `since`: the day on which the first rows of a ledger were made; the last are 90 days younger.
    Returns the manifest. What is made belongs to the role `owner`, if the server has it.
    """
    check([name], amount)
    variables = {
        "name": name,
        "rows": amount.rows_of(name),
        "tables": amount.tables,
        "cases": amount.cases,
        "seed": amount.seed,
        "since": f"{since} 00:00+00",
        "planted": "on" if amount.planted else "off",
    }
    settings = [f"--set={key}={value}" for key, value in variables.items()]
    text = run(psql, _script(name, planted=amount.planted), *settings, env=env)
    manifest = json.loads(text)
    assert isinstance(manifest, dict)
    return manifest


def _script(name: str, *, planted: bool) -> str:
    parts = ["begin", name, *([f"{name}.planted"] if planted else []), "end"]
    return "\n".join(release.data(f"sql/{part}.sql").decode() for part in parts)


def run(
    psql: Sequence[str | Path],
    script: str,
    *settings: str,
    env: Mapping[str, str],
    seconds: float = 3600,
) -> str:
    """Let psql carry out a script; returns what it printed.

    Raises OpskitError with what the server said. Passwords go by `env` and never by a word.
    """
    done = subprocess.run(
        [*map(str, psql), "--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1", *settings],
        input=script,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
        env=programs.plain_environment() | dict(env),
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-3:]
        raise OpskitError(f"the database refused its data: {'; '.join(said)}")
    return done.stdout
