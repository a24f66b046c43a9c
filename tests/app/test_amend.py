"""Other parameters for a run that has begun: what can still have another value, what not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from opskit import audit, load
from opskit.app.amend import amended
from opskit.app.deciding import Amended
from opskit.app.prepare import Prepared, describe
from opskit.audit import Store
from opskit.errors import InputError
from opskit.model.event import Event
from opskit.model.value import Json
from opskit.model.work import Verify
from opskit.plan.make import make

HEAD = """
opskit: 1
name: r
version: 1.0.0
summary: s
hosts: "{{ where }}"
params:
  where: {type: string, default: web}
  word: {type: string, default: old}
  list: {type: string, default: a}
  token: {type: secret, required: false}
"""
INVENTORY = """
opskit: 1
hosts: {web1: {address: 10.0.0.1}, web2: {address: 10.0.0.2}, db1: {address: 10.0.0.3}}
groups: {web: [web1, web2]}
databases: {main: {url: 'postgresql://reader@10.0.0.3/main'}}
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = audit.open(str(tmp_path / "store.db"))
    yield opened
    opened.close()


class Runs:
    """Makes the record of a run of some steps, with what has been done of it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.run = ""

    def begin(
        self,
        steps: str,
        done: Sequence[str],
        *,
        limit: str | None = None,
        from_step: str | None = None,
        **parameters: Json,
    ) -> None:
        (self.folder / "r.yaml").write_text(f"{HEAD}steps:\n{steps}")
        (self.folder / "i.yaml").write_text(INVENTORY)
        runbook = load.runbook(self.folder / "r.yaml", [self.folder])
        inventory = load.inventory(self.folder / "i.yaml")
        values = {"where": "web", "word": "old", "list": "a", **parameters}
        plan = make(runbook, inventory, values, limit=limit, from_step=from_step, files=describe,
                    history=self.store.recall)  # fmt: skip
        made = Prepared(runbook=runbook, inventory=inventory, plan=plan)
        journal = self.store.create(plan, kind="run", who="me", origin="here",
                                    documents=made.documents())  # fmt: skip
        with journal:
            self.run = journal.run
            for key in done:
                host = key.partition("/")[2].partition("#")[0]
                ended: Mapping[str, Json] = {"outcome": "succeeded"}
                journal.append(
                    Event(kind="step started", key=key, host=host, step="s", attempt=1),
                    Event(kind="step ended", key=key, host=host, step="s", attempt=1, data=ended),
                )

    def retry(self, key: str, *words: str) -> Amended | None:
        records = self.store.load(self.run).actions
        return amended(self.store, self.run, words, records, key)

    def refused(self, key: str, *words: str) -> str:
        with pytest.raises(InputError) as caught:
            self.retry(key, *words)
        return str(caught.value)


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> Runs:
    return Runs(store, tmp_path)


TWO = "  - {name: one, run: 'echo fixed'}\n  - {name: two, run: 'echo {{ word }}'}\n"
DONE = ("1/web1", "1/web2")


def texts(found: Amended | None) -> Mapping[str, str]:
    assert found is not None
    return {a.key: str(getattr(a.work, "text", "")) for a in found.plan.actions}


def test_what_was_not_begun_gets_the_other_value(runs: Runs, store: Store) -> None:
    runs.begin(TWO, DONE)
    found = runs.retry("2/web1", "word=new")
    assert found is not None
    assert found.parameters == {"word": "new"}
    assert texts(found)["2/web1"] == texts(found)["2/web2"] == "echo new"
    assert found.plan.parameters == {"where": "web", "word": "new", "list": "a"}
    assert found.plan.digest != store.plan(runs.run).digest


def test_the_record_is_enough(runs: Runs, tmp_path: Path) -> None:
    inner = HEAD.replace("name: r", "name: inner").replace('"{{ where }}"', "web")
    (tmp_path / "inner.yaml").write_text(f"{inner}steps:\n{TWO}")
    (tmp_path / "s.sh").write_text("#!/bin/sh\necho script\n")
    include = "  - {name: inc, runbook: {name: inner, with: {word: '{{ word }}'}}}\n"
    runs.begin(TWO + "  - {name: run, script: s.sh}\n" + include, DONE)
    for name in ("r.yaml", "i.yaml", "inner.yaml", "s.sh"):
        (tmp_path / name).unlink()
    found = texts(runs.retry("2/web1", "word=new"))
    assert found["2/web1"] == found["4.2/web1"] == "echo new"


@pytest.mark.parametrize(
    "how", [{"limit": "web2"}, {"from_step": "two"}, {"limit": "web1", "from_step": "2"}]
)
def test_hosts_and_first_step_are_those_of_the_run(runs: Runs, how: dict[str, str]) -> None:
    runs.begin(TWO, (), **how)
    keys = [*texts(runs.retry("2/web2" if how.get("limit") == "web2" else "2/web1", "word=new"))]
    assert keys == [a.key for a in runs.store.plan(runs.run).actions]


def test_the_same_value_changes_nothing(runs: Runs) -> None:
    runs.begin(TWO, DONE)
    assert runs.retry("2/web1", "word=old") is None


def test_what_has_been_done_elsewhere_stays_as_it_was_done(runs: Runs) -> None:
    runs.begin(TWO, (*DONE, "2/web1"))
    found = runs.retry("2/web2", "word=new")
    assert found is not None
    assert texts(found)["2/web1"] == "echo old"
    assert texts(found)["2/web2"] == "echo new"
    assert (found.hosts, found.kept) == (("web2",), ("web1",))
    assert found.recorded()["steps"] == {"2": ["web2"]}


def test_the_plan_of_an_amended_run_can_be_amended_again(runs: Runs) -> None:
    runs.begin(TWO, DONE)
    first = runs.retry("2/web1", "word=new")
    assert first is not None
    with runs.store.reopen(runs.run, who="me", origin="here") as journal:
        journal.amend(first.plan, {"who": "me", **first.recorded()})
    again = runs.retry("2/web1", "list=b")
    assert again is not None
    assert again.plan.parameters == {"where": "web", "word": "new", "list": "b"}
    assert texts(again)["2/web1"] == "echo new"
    assert runs.retry("2/web1", "word=new") is None
    assert runs.store.plan(runs.run, first=True).parameters["word"] == "old"


def test_what_this_host_has_done_with_it_can_not_be_another(runs: Runs) -> None:
    runs.begin(TWO + "  - {name: three, run: 'echo {{ word }}'}\n", (*DONE, "2/web1", "2/web2"))
    said = runs.refused("3/web2", "word=new")
    assert "what was begun already: 'two' on web2 (succeeded)" in said
    assert "opskit run r -p word=new" in said


def test_so_would_its_undo(runs: Runs) -> None:
    runs.begin("  - {name: one, run: x, undo: {run: 'echo {{ word }}'}}\n" + TWO, ("1/web1",))
    assert "'one' on web1" in runs.refused("3/web1", "word=new")


def test_nothing_may_come_before_what_is_done_again(runs: Runs) -> None:
    each = "  - {name: each, run: 'echo {{ item }}', for_each: '{{ list.split(\".\") }}'}\n"
    runs.begin(each + TWO, ("1/web1#0", "1/web2#0", "2/web1", "2/web2"))
    assert "more to do before this: 'each' on web1" in runs.refused("3/web1", "list=a.b")
    late = TWO + each
    runs.begin(late, DONE)
    assert "echo b" in texts(runs.retry("2/web1", "list=a.b")).values()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("where=web1", "its hosts would be others"),
        ("where=all", "its hosts would be others"),
        ("token=correct-horse", "'token' is a secret: a run keeps the secrets"),
        ("nothing=1", "no parameter 'nothing'"),
        ("word", "has no value"),
    ],
)
def test_what_can_not_be_changed_is_said(runs: Runs, word: str, says: str) -> None:
    runs.begin(TWO, DONE)
    assert says in runs.refused("2/web1", word)


def test_a_file_that_has_changed_meanwhile_is_found(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(b"then")
    runs.begin(TWO + "  - {name: put, upload: {src: f.bin, dest: /srv/f}}\n", DONE)
    (tmp_path / "f.bin").write_bytes(b"now")
    said = runs.refused("2/web1", "word=new")
    assert "can't be made again from its record: file" in said


EXPECTS = "opskit: 1\ntables: {item: {indexes: [%s]}}\n"
COMPARE = "  - {name: three, indexes: 'expect-{{ list }}.yaml', on_unknown: fail}\n"


def test_what_was_expected_of_a_database_stays_what_it_was(runs: Runs, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"expect-{name}.yaml").write_text(EXPECTS % name)
    runs.begin(TWO + COMPARE, DONE)
    (tmp_path / "expect-a.yaml").write_text(EXPECTS % "other")

    def keys(*words: str) -> list[tuple[str, ...]]:
        found = runs.retry("2/web1", *words)
        assert found is not None
        works = [a.work for a in found.plan.actions if isinstance(a.work, Verify)]
        return [one.keys for w in works for r in w.expected.relations for one in r.indexes]

    assert keys("word=new") == [("a",)]
    (tmp_path / "expect-a.yaml").unlink()
    assert keys("word=new") == [("a",)]
    assert keys("word=new", "list=b") == [("b",)]  # another file is read where it lies
