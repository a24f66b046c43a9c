"""When two runs are for one inventory: by its file, or by a copy of it that has the same hosts."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from opskit import audit
from opskit.app.inventories import of_inventory
from opskit.audit import Store
from opskit.model.event import Event
from opskit.model.inventory import Host
from opskit.model.run import Run
from tests.support.world import planned, runbook


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = audit.open(str(tmp_path / "store.db"))
    try:
        yield found
    finally:
        found.close()


def begun(store: Store, folder: Path, **hosts: str) -> Run:
    """Record a run for the inventory of a folder, with these hosts at these addresses."""
    folder.mkdir(exist_ok=True)
    plan = planned(runbook("  - {name: look, run: look}\n"), folder)
    if hosts:
        first = next(iter(plan.hosts.values()))
        plan = replace(
            plan, hosts={name: replace(first, name=name, address=at) for name, at in hosts.items()}
        )
    with store.create(plan, kind="run", who="me", origin="here", documents={}) as journal:
        journal.append(Event(kind="note", data={"who": "me", "text": "x"}))
    return store.load(journal.run)


def same(store: Store, one: Run, other: Run) -> bool:
    plan = store.plan(other.id)
    return of_inventory(store, one, other.inventory or plan.inventory, plan.hosts)


def test_files_of_one_name_are_one_inventory_only_where_they_share_a_host(
    store: Store, tmp_path: Path
) -> None:
    live = begun(store, tmp_path / "live", web1="10.0.0.1", web2="10.0.0.2")
    assert live.inventory == str(tmp_path / "live" / "i.yaml")
    (tmp_path / "link").symlink_to(tmp_path / "live")
    assert same(store, live, begun(store, tmp_path / "link", db1="10.0.0.9")), "it is that file"
    assert same(store, live, begun(store, tmp_path / "copy", web2="10.0.0.2", db1="10.0.0.3"))
    assert not same(store, live, begun(store, tmp_path / "test", web1="10.9.0.1"))
    (other := tmp_path / "live" / "other.yaml").write_text("")
    assert not of_inventory(store, live, str(other), store.plan(live.id).hosts)
    assert not of_inventory(store, live, str(tmp_path / "i.yaml"), dict[str, Host]())


def test_a_run_that_was_recorded_with_its_path_as_written_is_known_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = begun(store, tmp_path / "live", web1="10.0.0.1")
    old = replace(live, inventory="")
    (tmp_path / "link").symlink_to(tmp_path / "live")
    plan = store.plan(live.id)
    assert of_inventory(store, old, str(tmp_path / "link" / "i.yaml"), {})
    monkeypatch.chdir(tmp_path / "live")
    relative = replace(plan, inventory="i.yaml")
    with store.create(relative, kind="run", who="me", origin="", documents={}) as journal:
        pass
    old = replace(store.load(journal.run), inventory="")
    assert of_inventory(store, old, "/srv/ops/i.yaml", plan.hosts)
    assert not of_inventory(store, old, os.path.realpath("i.yaml"), {}), "from who knows where"


def test_each_thread_gets_the_plan_that_it_asked_for(store: Store, tmp_path: Path) -> None:
    """What a channel had before is looked up beside the run; both read plans of one store."""
    runs = [begun(store, tmp_path / f"f{number}", web1=f"10.0.0.{number}") for number in range(2)]
    wrong: list[str] = []

    def read(run: Run) -> None:
        for _ in range(60):
            if store.plan(run.id).inventory != run.inventory:
                wrong.append(run.id)

    threads = [Thread(target=read, args=(run,)) for run in runs * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
