"""The shipped health-check, whole, against a practice fleet."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.support.deploying import pids, state
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
    said = check(fleet, "--limit", "web3", status=1)
    assert re.search(r"CRIT page: answered in [2-9]\.", said), said


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


def plugin(fleet: Fleet, *words: str, status: int) -> list[str]:
    """Run health-check as a plug-in; return its lines."""
    done = fleet.opskit("run", "health-check", "--nagios", *words, status=status)
    return done.stdout.splitlines()


def test_a_monitoring_system_gets_one_line_and_its_own_statuses(fleet: Fleet) -> None:
    (line,) = plugin(fleet, status=0)
    assert line == "HEALTH-CHECK OK - 20 OK on 4 hosts | ok=20 warn=0 crit=0 unknown=0"
    switch(fleet, "web3", slow_ms=800)
    line, *more = plugin(fleet, status=1)
    assert line.startswith("HEALTH-CHECK WARNING - web3: WARN page: answered in 8")
    assert line.endswith(" | ok=19 warn=1 crit=0 unknown=0")
    assert more[0] == "1 WARN, 19 OK on 4 hosts"
    switch(fleet, "web2", unhealthy="quiet")
    line, *_ = plugin(fleet, status=2)
    assert line.startswith("HEALTH-CHECK CRITICAL - web2: CRIT page: status is ")
    fleet.sh("web4", "labctl stop app")
    line, *more = plugin(fleet, status=2)
    assert line.startswith("HEALTH-CHECK CRITICAL - web2: CRIT page: status is ")
    assert "; and 1 UNKNOWN | " in line
    assert any(one.startswith("web4: UNKNOWN page: ") for one in more)


def test_what_keeps_a_plug_in_from_checking_is_unknown(fleet: Fleet) -> None:
    (line,) = plugin(fleet, "--limit", "web9", status=3)
    assert line.startswith("OPSKIT UNKNOWN - ")
    assert plugin(fleet, "--no-such-option", status=3)[0].startswith("OPSKIT UNKNOWN - ")
    fleet.lab.cut("web1", reset=True)
    try:
        line, *_ = plugin(fleet, status=3)
    finally:
        fleet.lab.heal("web1")
    assert line.startswith("HEALTH-CHECK UNKNOWN - web1: ")
    assert "refused the connection" in line


def test_a_runbook_that_changes_something_is_no_plug_in(fleet: Fleet) -> None:
    book = fleet.runbook("  - {name: change, run: 'touch /tmp/changed'}\n")
    done = fleet.opskit("run", book, "--nagios", "--yes", status=3)
    assert "t changes something" in done.stdout
    assert "ok" not in fleet.sh("web1", "test ! -e /tmp/changed || echo ok")


SHIPPED = Path(__file__).parents[2] / "inventories" / "checks" / "nginx.yaml"
ACCESS, ERRORS = "/srv/app/shared/access.log", "/srv/app/shared/error.log"


def answered(fleet: Fleet, host: str, *rows: tuple[float, int, float]) -> None:
    """Write a log as nginx's `combined` has it, with the time that an answer took behind it."""
    lines = [
        f"203.0.113.9 - - [{time.strftime('%d/%b/%Y:%H:%M:%S +0000', time.gmtime(at))}]"
        f' "GET /?q=\\"404 HTTP/1.1" {status} 12 "-" "a 500 browser" {took:.3f}'
        for at, status, took in rows
    ]
    fleet.sh(host, f"cat >{ACCESS} <<'END'\n" + "\n".join(lines) + "\nEND")


def failed(fleet: Fleet, host: str, at: float, *upstreams: str) -> None:
    stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime(at))
    lines = [
        f"{stamp} [error] 7#7: *1 connect() failed (111: Connection refused) while connecting to"
        f' upstream, client: 1.2.3.4, upstream: "http://{one}/", host: "x"'
        for one in upstreams
    ]
    fleet.sh(host, f"cat >{ERRORS} <<'END'\n" + "\n".join(lines) + "\nEND")


def logs_checked(fleet: Fleet, status: int) -> str:
    own = fleet.folder / "nginx.yaml"
    text = SHIPPED.read_text().replace(
        "log=/var/log/nginx/access.log", f"export TZ=UTC; log={ACCESS}"
    )
    text = text.replace("log=/var/log/nginx/error.log", f"export TZ=UTC; log={ERRORS}")
    own.write_text(text)
    path = fleet.folder / "inventory.yaml"
    written = fleet.lab.inventory.read_text()
    lines = f"    root: /srv/app\n    checks: {json.dumps([str(own)])}\n"
    path.write_text(written.replace("    root: /srv/app\n", lines))
    done = fleet.opskit("run", "health-check", "-i", path, "--limit", "web1,web2", status=status)
    return done.stdout + done.stderr


def test_what_the_logs_of_the_last_minutes_say_is_weighed(fleet: Fleet) -> None:
    now = time.time()
    old = [(now - 1200, 500, 9.0)] * 50
    answered(fleet, "web1", *old, *[(now, 200, 0.05)] * 97, *[(now - 60, 502, 0.9)] * 3)
    failed(fleet, "web1", now, "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.1:8000")
    answered(fleet, "web2", *old)
    try:
        said = logs_checked(fleet, status=6)
    finally:
        fleet.sh("web1", f"rm -f {ACCESS} {ERRORS}")
        fleet.sh("web2", f"rm -f {ACCESS}")
    assert "WARN answers with 5xx in 5 minutes, %: 3.00 (> 1) [P1]" in said
    assert "WARN errors by status in 5 minutes: 502 3 of 100 [P1]" in said
    assert "OK nothing but 5xx in 5 minutes, %: 3.00" in said
    assert "OK P95 of answers in 5 minutes, ms: 50" in said
    assert "OK P99 of answers in 5 minutes, ms: 900" in said
    assert "OK average of answers in 5 minutes, ms: 75.5" in said
    assert "WARN errors of upstreams in 5 minutes: 10.0.0." in said
    assert "10.0.0.1:8000 2" in said
    assert "UNKNOWN answers with 5xx in 5 minutes, %: no number [P1]" in said, (
        "no request tells nothing"
    )
    assert f"may not read {ERRORS}" in said
