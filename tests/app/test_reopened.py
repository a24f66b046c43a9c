"""What a run is gone on with where its record moves on just before that."""

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from opskit import audit
from opskit.app import decide, deciding, record, runs
from opskit.app.runs import reopened
from opskit.audit import holders
from opskit.cli.person import Terminal
from opskit.errors import InputError, RefusedError
from opskit.model.plan import Plan
from opskit.model.text import text
from opskit.model.value import Secret, SecretSource
from opskit.model.work import Command
from opskit.plan.make import seal
from opskit.settings import Settings
from tests.contract import samples
from tests.support.elsewhere import elsewhere

TOKEN = Secret("token", "correct-horse")
AMEND = """
import sys
from dataclasses import replace
from opskit import audit
from opskit.plan.make import seal
from tests.contract import samples
store = audit.open(sys.argv[1])
old = store.plan(sys.argv[2])
with store.reopen(sys.argv[2], who="bob", origin="desk") as journal:
    if old.parameters["release"] == "r7":
        amended = seal(replace(old, parameters={"release": "r8"}))
        journal.amend(amended, {"who": "bob"}, samples.waiting())
print("correct-horse")
"""


def with_secret(command: str) -> Plan:
    """Return the plan of the samples, whose step wants a secret that a command prints."""
    plan = samples.plan()
    source = SecretSource(name="token", source=f"cmd:{command}")
    work = Command(text=text("true"), secrets={"TOKEN": "token"})
    actions = tuple(replace(action, work=work) for action in plan.actions)
    return seal(replace(plan, actions=actions, secrets={"token": source}))


def test_the_plan_is_the_one_that_somebody_else_gave_the_run_meanwhile(tmp_path: Path) -> None:
    location, script = str(tmp_path / "store.db"), tmp_path / "amend.py"
    script.write_text(AMEND)
    words = f"{sys.executable} {script} {location}"
    command = f'cd {Path(__file__).parents[2]} && PYTHONPATH=. {words} "$(cat {tmp_path / "run"})"'
    store = audit.open(location)
    plan = with_secret(command)
    with store.create(plan, kind="run", who="ann", origin="desk", documents={},
                      secrets=(TOKEN,)) as journal:  # fmt: skip
        journal.append(samples.waiting())
    (tmp_path / "run").write_text(journal.run)
    settings = Settings(store=location, inventory=None, runbooks=(), folder=tmp_path, environ={})
    me = Terminal(allowed=False)
    with reopened(settings, journal.run, me, lambda _: None, None) as current:
        assert current.plan.parameters == {"release": "r8"}
        assert current.plan.digest == store.plan(journal.run).digest != plan.digest
    store.close()


FINISH = """
import sys
from opskit import audit
from tests.contract import samples
with samples.begin(audit.open(sys.argv[1])) as journal:
    journal.append(samples.started())
    print("run", journal.run, flush=True)
    sys.stdin.readline()
    journal.append(samples.ended(), samples.finished())
print("over", flush=True)
sys.stdin.read()
"""


WAIT = """
import sys
from opskit import audit
from tests.contract import samples
journal = samples.begin(audit.open(sys.argv[1]))
journal.append(samples.waiting())
print("run", journal.run, flush=True)
sys.stdin.read()
"""


@pytest.mark.acceptance
def test_who_only_looks_sees_that_a_process_elsewhere_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "OVERDUE", 4.0)
    location = str(tmp_path / "store.db")
    settings = Settings(store=location, inventory=None, runbooks=(), folder=tmp_path, environ={})
    far = elsewhere(WAIT, location)
    try:
        run = far.line("run ").split()[1]
        with pytest.raises(RefusedError, match="is being carried out right now by ann"):
            decide.question(settings, run)
    finally:
        far.end()
    assert record.free_run(settings, run).driver == ""
    assert decide.question(settings, run).question.text == "Go on?"


def test_a_run_that_comes_to_its_end_meanwhile_is_not_aborted(tmp_path: Path) -> None:
    location = str(tmp_path / "store.db")
    settings = Settings(store=location, inventory=None, runbooks=(), folder=tmp_path, environ={})
    far = elsewhere(FINISH, location)
    try:
        run = far.line("run ").split()[1]
        # Of a process elsewhere it can't be told at once whether it lives, so that is waited for.
        threading.Timer(0.2, far.say, ["go on"]).start()
        with pytest.raises(InputError, match=r"has ended \(succeeded\)"):
            runs.abort(settings, run, Terminal(allowed=False))
        far.line("over")
    finally:
        far.end()
    store = audit.open(location)
    assert store.state(run) == "succeeded"
    store.close()


@pytest.mark.parametrize("choice", ["done", "retry", "abort"])
def test_who_answers_an_ended_run_is_told_that_it_asks_nothing(tmp_path: Path, choice: str) -> None:
    location = str(tmp_path / "store.db")
    store = audit.open(location)
    run = samples.whole_run(store)
    settings = Settings(store=location, inventory=None, runbooks=(), folder=tmp_path, environ={})
    answer, me = deciding.Answer(choice=choice), Terminal(allowed=False)
    with pytest.raises(InputError, match=r"asks nothing \(succeeded\)"):
        decide.decide(settings, store.load(run), answer, me, lambda _: None, show=lambda _: None)
    store.close()


def test_who_answers_without_a_reason_what_a_run_asks_is_told_so(tmp_path: Path) -> None:
    location = str(tmp_path / "store.db")
    store = audit.open(location)
    with samples.begin(store) as journal:
        journal.append(samples.started(), samples.waiting())
    settings = Settings(store=location, inventory=None, runbooks=(), folder=tmp_path, environ={})
    answer, me, seen = (
        deciding.Answer(choice="no"),
        Terminal(allowed=False),
        store.load(journal.run),
    )
    with pytest.raises(InputError, match="'no' needs a reason"):
        decide.decide(settings, seen, answer, me, lambda _: None, show=lambda _: None)
    store.close()
