"""`opskit store`: a record for a team is made, checked, brought up to date; runs are brought in."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from opskit import audit
from opskit.app.configuration import settings
from opskit.errors import InputError
from opskit.model.event import Event
from opskit.model.value import Secret
from tests.contract import samples
from tests.contract.samples import begin, ended, finished, started, whole_run
from tests.support.postgres import Server

pytestmark = pytest.mark.acceptance

AWAY = "postgresql://ops:hunter-two@127.0.0.1:1/ops"


def opskit(
    *words: str, store: str, folder: Path, status: int = 0
) -> "subprocess.CompletedProcess[str]":
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPSKIT_")}
    environ |= {"OPSKIT_STORE": store, "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *words],
        env=environ, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ---- init, check, migrate


def test_a_store_is_made_and_made_fit_for_a_role(postgres: Server, tmp_path: Path) -> None:
    url = postgres.database(empty=True)
    missing = opskit("runs", store=url, folder=tmp_path, status=2)
    assert "there is no record in this database" in missing.stderr
    assert "opskit store init" in missing.stderr
    opskit("store", "check", store=url, folder=tmp_path, status=1)

    made = opskit("store", "init", store=url, folder=tmp_path).stdout
    assert ": made" in made
    assert 'grant usage on schema opskit to "ROLE";' in made
    again = opskit("store", "init", "--role", "oncall", store=url, folder=tmp_path).stdout
    assert "it was there already" in again
    assert "role oncall: made; it may read and add" in again

    mine = url.replace("owner@", "oncall@")
    assert "No runs" in opskit("runs", store=mine, folder=tmp_path).stdout
    checks = objects(
        opskit("store", "check", "--json", store=mine, folder=tmp_path, status=1).stdout
    )
    states = {check["name"]: check["state"] for check in checks}
    assert states.pop("durable") == "bad"  # the server of the tests does without fsync
    assert set(states.values()) == {"ok"}
    assert set(states) == {"server", "record", "guards", "rights", "writing"}
    said = opskit("store", "migrate", store=url, folder=tmp_path).stdout
    assert said.endswith(": up to date\n")


def test_a_file_needs_nothing_of_it(tmp_path: Path) -> None:
    file = str(tmp_path / "store.db")
    for word in ("init", "migrate"):
        done = opskit("store", word, store=file, folder=tmp_path, status=2)
        assert "is for a store in PostgreSQL" in done.stderr
    assert "not there yet" in opskit("store", "check", store=file, folder=tmp_path).stdout
    whole_run(audit.open(file))
    assert "all there" in opskit("store", "check", store=file, folder=tmp_path).stdout


# ---- passwords


def test_a_password_on_the_command_line_is_refused_unseen(tmp_path: Path) -> None:
    done = opskit("runs", "--store", AWAY, store="", folder=tmp_path, status=2)
    assert "the address of the store in --store has a password in it" in done.stderr
    assert "PGPASSFILE" in done.stderr
    assert "hunter" not in done.stdout + done.stderr


def test_a_password_in_a_projects_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opskit.yaml").write_text(f"store: {AWAY}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="has a password in it") as raised:
        settings()
    assert "opskit.yaml" in str(raised.value)
    (tmp_path / "opskit.yaml").write_text("store: postgresql://ops@db1/ops\n")
    monkeypatch.delenv("OPSKIT_STORE", raising=False)
    assert settings().store == "postgresql://ops@db1/ops"


def test_a_store_that_is_away_refuses_a_run_and_names_the_way_out(tmp_path: Path) -> None:
    local(tmp_path)
    done = opskit("run", "local", "--yes", store=AWAY, folder=tmp_path, status=5)
    assert "postgresql://127.0.0.1:1/ops: the record can't be reached" in done.stderr
    assert "nothing was sent anywhere" in done.stderr
    assert "--store local" in done.stderr
    assert "hunter" not in done.stdout + done.stderr


# ---- local, and import


RUNBOOK = """\
opskit: 1
name: local
version: 1.0.0
summary: On this machine alone
hosts: all
steps:
  - {name: Say, run: "echo hello; exit ${code:-0}", on: controller}
"""


def local(folder: Path) -> None:
    (folder / "runbooks").mkdir(exist_ok=True)
    (folder / "runbooks" / "local.yaml").write_text(RUNBOOK)
    (folder / "hosts.yaml").write_text("opskit: 1\nhosts:\n  one: {address: 127.0.0.1}\n")
    (folder / "opskit.yaml").write_text("inventory: hosts.yaml\n")


def test_runs_of_the_time_without_the_database_are_brought_in(
    postgres: Server, tmp_path: Path
) -> None:
    local(tmp_path)
    for _ in range(2):
        opskit("run", "local", "--yes", "--store", "local", store=AWAY, folder=tmp_path)
    file = str(tmp_path / "opskit" / "store.db")
    log = objects(opskit("audit", "log", "--json", store=file, folder=tmp_path).stdout)
    assert log[0]["instead_of"] == "postgresql://127.0.0.1:1/ops"
    opskit("run", "local", "--yes", store=file, folder=tmp_path)  # did not stand in for another

    url = postgres.database()
    opskit("run", "local", "--yes", store=url, folder=tmp_path)
    before = [[e["hash"] for e in log], log[0]["run"]]
    taken = objects(opskit("store", "import", file, "--json", store=url, folder=tmp_path).stdout)
    assert [one["fate"] for one in taken] == ["imported", "imported"]
    opskit("audit", "verify", store=url, folder=tmp_path)
    after = objects(
        opskit("audit", "log", str(before[1]), "--json", store=url, folder=tmp_path).stdout
    )
    assert [e["hash"] for e in after][:-1] == before[0]
    assert after[-1]["event"] == "run imported"
    said = opskit("output", str(before[1]), "Say", "controller", store=url, folder=tmp_path).stdout
    assert "hello" in said

    again = objects(opskit("store", "import", file, "--json", store=url, folder=tmp_path).stdout)
    assert [one["fate"] for one in again] == ["there", "there"]
    more = opskit("store", "import", file, "--all", "--json", store=url, folder=tmp_path).stdout
    assert [one["fate"] for one in objects(more)] == ["there", "there", "imported"]
    opskit("run", "local", "--yes", store=url, folder=tmp_path)
    opskit("audit", "verify", store=url, folder=tmp_path)


def fates(url: str, file: str, folder: Path, status: int = 0) -> Sequence[tuple[str, str]]:
    done = opskit(
        "store", "import", file, "--all", "--json", store=url, folder=folder, status=status
    )
    return [(one["fate"], one["why"]) for one in objects(done.stdout)]


@pytest.mark.parametrize(
    "statement",
    [
        "update events set at = at + 1 where run = 2 and number = 3",
        "delete from events where run = 2 and number = 6",
        "delete from outputs where run = 2",
        "update outputs set body = x'00', size = 1, packed = 0 where run = 2",
        "update documents set body = x'00'",
        "update heads set state = 'failed' where run = 2",
    ],
)
def test_an_altered_run_is_refused_and_the_others_come(
    postgres: Server, tmp_path: Path, statement: str
) -> None:
    file, url = tmp_path / "store.db", postgres.database()
    source = audit.open(file)
    with source.create(
        samples.plan("other"), kind="run", who="a", origin="b", documents={}, locks=()
    ) as journal:
        journal.append(finished())
    whole_run(source)
    source.close()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for (name,) in connection.execute(
            "select name from sqlite_master where type = 'trigger'"
        ).fetchall():
            connection.execute(f"drop trigger {name}")
        connection.execute(statement)
    found = fates(url, str(file), tmp_path, status=1)
    assert found[-1][0] == "refused"
    assert found[-1][1]
    with contextlib.closing(audit.open(url)) as target:
        assert [run.runbook for run in target.runs()] in ([], ["other"])


def test_a_run_that_has_not_ended_stays_and_comes_later(postgres: Server, tmp_path: Path) -> None:
    file, url = str(tmp_path / "store.db"), postgres.database()
    source = audit.open(file)
    with begin(source) as journal:
        journal.append(started(), ended())
    second = whole_run_without_lock(source)
    assert [fate for fate, _ in fates(url, file, tmp_path)] == ["left", "imported"]
    target = audit.open(url)
    assert target.verify() == []
    with source.reopen(journal.run, who="a", origin="b") as again:
        again.append(finished())
    assert [fate for fate, _ in fates(url, file, tmp_path)] == ["imported", "there"]
    assert target.verify() == []
    # Gone on at both ends: which is the run?
    with source.reopen(second, who="a", origin="b") as again:
        again.append(Event(kind="note", data={"who": "a", "text": "more"}))
    assert fates(url, file, tmp_path, status=1)[1][0] == "refused"
    source.close()
    target.close()


def whole_run_without_lock(source: audit.Store) -> str:
    with begin(source, locks=()) as journal:
        journal.append(started(), ended(), finished())
    return journal.run


def test_a_brought_in_run_can_be_taken_back_with_its_secrets(
    postgres: Server, tmp_path: Path
) -> None:
    file, url = str(tmp_path / "store.db"), postgres.database()
    source, target = audit.open(file), audit.open(url)
    secret = Secret("token", "a-long-secret-value")
    with begin(source, secrets=(secret,)) as journal:
        journal.append(started(), ended(), finished())
    assert [fate for fate, _ in fates(url, file, tmp_path)] == ["imported"]
    assert target.secrets_match(journal.run, [secret])
    assert not target.secrets_match(journal.run, [Secret("token", "another-secret-value")])
    with target.reopen(journal.run, who="bob", origin="desk", secrets=[secret]) as again:
        again.append(Event(kind="undo began", data={"why": "asked"}), finished("undone", "undone"))
    assert target.verify() == []
    assert [fate for fate, _ in fates(url, file, tmp_path)] == ["there"]
    source.close()
    target.close()
