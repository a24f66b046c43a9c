"""The shipped health-check, whole, against a practice fleet."""

import json

import pytest

from tests.runbooks.test_deploy import pids, state
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance


def check(fleet: Fleet, *words: str, status: int = 0) -> str:
    """Run health-check; return everything that it said."""
    done = fleet.opskit("run", "health-check", *words, status=status)
    return done.stdout + done.stderr


def switch(fleet: Fleet, host: str, **switches: object) -> None:
    fleet.sh(host, f"echo '{json.dumps(switches)}' >/srv/app/shared/switches.json")


def test_a_sound_fleet_is_ok_and_nothing_is_changed(fleet: Fleet) -> None:
    before, running = state(fleet), pids(fleet)
    said = check(fleet)
    for what in ("OK page", "OK processes: 1", "OK disk free, %: ", "OK memory available, %: "):
        events = said[: said.index("ended:")]  # after that the summary names them once more
        assert events.count(what) == 4, said
    assert (state(fleet), pids(fleet)) == (before, running)


def test_a_page_that_says_200_and_unhealthy_is_critical_and_all_else_is_still_looked_at(
    fleet: Fleet,
) -> None:
    switch(fleet, "web2", unhealthy="quiet")
    said = check(fleet, status=1)
    assert 'CRIT page: status is "unhealthy", expected "healthy"' in said
    assert said.count("OK page") == 3
    assert said.count("OK disk free, %: ") == 4


def test_a_slow_page_warns_and_does_not_fail(fleet: Fleet) -> None:
    switch(fleet, "web3", slow_ms=800)
    assert "WARN page: answered in 8" in check(fleet)


def test_a_page_that_is_much_too_slow_is_critical(fleet: Fleet) -> None:
    switch(fleet, "web3", slow_ms=2300)
    assert "CRIT page: answered in 2." in check(fleet, "--limit", "web3", status=1)


def test_no_answer_is_unknown_and_unknown_is_worse_than_critical(fleet: Fleet) -> None:
    fleet.sh("web4", "labctl stop app")
    said = check(fleet, status=6)
    assert "UNKNOWN page: " in said
    assert "CRIT processes: 0 (< 1)" in said


def test_the_inventory_says_what_is_checked(fleet: Fleet) -> None:
    checks = [
        {"label": "deep", "path": "/health/detailed/",
         "json": {"status": "healthy", "checks.database.status": "healthy"}},
        {"label": "plug-in", "run": "echo DISK OK - 3%; exit 1"},
        {"label": "queue", "run": "echo 700", "warn": "> 500", "crit": "> 1000"},
    ]  # fmt: skip
    written = fleet.lab.inventory.read_text()
    lines = f"    root: /srv/app\n    checks: {json.dumps(checks)}\n"
    path = fleet.folder / "inventory.yaml"
    path.write_text(written.replace("    root: /srv/app\n", lines))
    said = check(fleet, "-i", str(path))
    for what in ("OK deep", "WARN plug-in: DISK OK - 3%", "WARN queue: 700 (> 500)"):
        events = said[: said.index("ended:")]  # after that the summary names them once more
        assert events.count(what) == 4, said
    switch(fleet, "web1", checks={"database": "unhealthy"})
    said = check(fleet, "-i", str(path), status=1)
    assert 'CRIT deep: checks.database.status is "unhealthy", expected "healthy"' in said
