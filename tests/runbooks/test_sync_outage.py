"""The shipped sync-outage on a practice fleet with trouble in it, and the file that tells of it."""

import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from opskit import load
from opskit.app.prepare import describe
from opskit.lab.inventory import listen
from opskit.lab.layout import Role
from opskit.model.work import Command
from opskit.plan.make import make
from opskit.settings import shipped
from tests.drivers.test_http import serving
from tests.runbooks.test_health_check import switch
from tests.support import postgres
from tests.support.deploying import pids, state
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance

CHECKS = [
    {"label": "page", "path": "/health/", "json": {"status": "healthy"}, "severity": "P2",
     "next": "opskit run rollback, where a deploy came before"},
    {"label": "hangs", "run": "test ! -e /tmp/hang || sleep 60", "severity": "P1"},
    {"label": "hangs too", "run": "test ! -e /tmp/hang || sleep 60", "severity": "P1"},
]  # fmt: skip


def inventory(fleet: Fleet, more: str = "") -> Path:
    written = fleet.lab.inventory.read_text()
    lines = f"    root: /srv/app\n    checks: {json.dumps(CHECKS)}\n"
    path = fleet.folder / "inventory.yaml"
    path.write_text(written.replace("    root: /srv/app\n", lines) + more)
    return path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a certificate that ends in ten days; where it is."""
    folder = tmp_path_factory.mktemp("tls")
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", "-subj", "/CN=x"]
    subprocess.run(
        ["openssl", "req", "-x509", *made, "-days", "10"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert", folder / "key")
    with serving(context) as base:
        yield base.removeprefix("https://")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres.server() as server:
        url = server.database(empty=True)
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher")
        yield url


def looked(fleet: Fleet, *words: str, status: int, more: str = "") -> str:
    url = listen(fleet.lab.layout.of(Role.LB)[0]) + "health/"
    done = fleet.opskit(
        "run",
        "sync-outage",
        "-i",
        inventory(fleet, more),
        "-p",
        f"url={url}",
        *words,
        status=status,
    )
    return done.stdout + done.stderr


def test_a_sound_fleet_is_looked_at_and_nothing_is_changed(
    fleet: Fleet, tls: str, database: str
) -> None:
    before, running = state(fleet), pids(fleet)
    url = database.replace("//owner@", "//watcher@")
    given = ["-p", "names=localhost", "-p", f"tls={tls}", "-p", "database=main"]
    with psycopg.connect(database) as other, psycopg.connect(database) as waits:
        other.execute("CREATE TABLE item (n int)")
        other.commit()
        other.execute("LOCK TABLE item")
        thread = threading.Thread(target=lambda: waits.execute("SELECT * FROM item"))
        thread.start()
        time.sleep(1.2)
        try:
            said = looked(fleet, *given, status=0, more=f"databases: {{main: {{url: '{url}'}}}}\n")
        finally:  # else whoever waits for the lock would keep a test that has failed from its end
            other.rollback()
            thread.join()
    assert "WARN certificate, days left: 9 (< 21) [P0]" in said
    assert "WARN main: " in said, "somebody waits for a lock"
    for what, hosts in (("OK page", 5), ("OK processes: 1", 4), ("OK names: all of them", 5)):
        assert said[: said.index("ended:")].count(what) == hosts, said  # the last page: from here
    assert "OK page, through the balancer" in said
    assert "OK configuration of nginx: " in said
    assert (state(fleet), pids(fleet)) == (before, running)
    told = fleet.opskit("incident").stdout
    assert "How bad** | **P0** |" in told
    assert "Nothing that was done with opskit." in told


def test_trouble_is_told_with_what_changed_before_and_what_to_do_next(fleet: Fleet) -> None:
    book = fleet.runbook("  - {name: change, run: 'true', undo: []}\n", name="upgrade")
    fleet.opskit("run", book, "--yes", "--limit", "web2", "--reason", "more | speed")
    switch(fleet, "web2", unhealthy="quiet")
    fleet.sh("web3", "touch /tmp/hang")
    fleet.sh("lb1", "echo nonsense >/etc/nginx/opskit/broken.conf")
    fleet.lab.cut("web4", reset=True)
    try:
        said = looked(fleet, "--reason", "devices can't sync", status=6)
    finally:
        fleet.lab.heal("web4")
        fleet.sh("lb1", "rm /etc/nginx/opskit/broken.conf")
        fleet.sh("web3", "rm -f /tmp/hang")
    assert 'CRIT page: status is "unhealthy", expected "healthy" [P2]' in said
    assert "UNKNOWN hangs: " in said
    assert "CRIT configuration of nginx: " in said, "a reload would fail"
    assert "timed out after 5 s" in said
    assert "OK page, through the balancer" in said, "the other vantage point is looked from, too"
    assert said[: said.index("ended:")].count("OK disk free, %: ") == 4, (
        "one hangs, all else goes on"
    )
    overlaps(fleet)
    path = fleet.folder / "incident.md"
    fleet.opskit("incident", "-o", path)
    told = path.read_text()
    assert re.search(r"^# Incident of .*: P2, perhaps P1$", told, re.MULTILINE)
    assert "Somebody is at it (30 minutes for P1)" in told
    assert re.search(
        r"\| upgrade 1.0.0 \|.*\| more \\\| speed \| succeeded \| web2 \| \*\*yes\*\*", told
    )
    assert "to take it back, `opskit undo " in told
    assert re.search(r"\| UNKNOWN \| web4 \| it can't be reached: ", told)
    assert ". opskit run rollback, where a deploy came before (page; web2)" in told
    assert ". what changed? a reload would fail now (configuration of nginx; lb1)" in told
    kept(fleet, path)


def overlaps(fleet: Fleet) -> None:
    """Every look at the host has begun before one that hangs has ended."""
    lines = fleet.opskit("audit", "log", "last", "--json").stdout.splitlines()
    events = [one for one in map(json.loads, lines) if one.get("key", "").startswith("1/web3")]
    kinds = [f"{one['event']} {'timed out' in one.get('reason', '')}" for one in events]
    hung = kinds.index("step ended True")
    assert kinds.count("step ended True") == 2
    assert kinds.count("step started False") == kinds[:hung].count("step started False") > 5


def kept(fleet: Fleet, path: Path) -> None:
    """The file is written anew, and what people wrote into it stays."""
    path.write_text(f"An early thought\n\n{path.read_text()}\nThe switch in rack 3.\n")
    fleet.opskit("note", "last", "status page says: investigating")
    done = fleet.opskit("incident", "-o", path)
    told = path.read_text()
    assert "the next word to users: by " in done.stderr
    assert told.startswith("An early thought\n")
    assert told.endswith("The switch in rack 3.\n")
    assert told.count("## Timeline") == told.count("## What caused it") == 1
    assert "investigating" in told[told.index("## Timeline") :]
    path.write_bytes(b"\xff mine")
    fleet.opskit("incident", "-o", path, status=2)
    path.write_text("mine")
    done = fleet.opskit("incident", "-o", path, status=2)
    assert "no incident that opskit wrote" in done.stderr
    assert path.read_text() == "mine"


def test_it_is_over_when_no_request_fails_for_long_enough(fleet: Fleet) -> None:
    url = listen(fleet.lab.layout.of(Role.LB)[0]) + "health/"
    given = ["-p", f"url={url}", "-p", 'contains="healthy"', "-p", "every=300ms", "-p", "many=50"]
    said = fleet.opskit("run", "outage-over", *given, "-p", "watch=2s").stdout
    assert "OK failed of 10 requests at once: 0" in said
    assert "OK failed of 50 requests at once: 0" in said
    assert re.search(r"OK failed looks: 0 of [1-9]", said)
    for host in ("web1", "web2", "web3", "web4"):
        switch(fleet, host, unhealthy="quiet")
    said = fleet.opskit("run", "outage-over", *given, status=1).stdout
    assert "CRIT failed of 10 requests at once: 10 (> 0) [P0]" in said
    with serving() as base:
        given = ["-p", f"url={base}/moved", "-p", "watch=1s", "-p", "many=10"]
        said = fleet.opskit("run", "outage-over", *given, status=1).stdout
    assert "CRIT failed of 10 requests at once: 10 (> 0) [P0]" in said, "a redirect is no page"


UNITS = """#!/bin/sh
for unit; do :; done
case $unit in
  sound) printf 'ActiveState=active\nSubState=running\nNRestarts=0\nExecMainStatus=0\n' ;;
  loops) printf 'ActiveState=active\nSubState=running\nNRestarts=7\nExecMainStatus=0\n' ;;
  gone) printf 'ActiveState=inactive\nSubState=dead\nNRestarts=0\nExecMainStatus=0\n' ;;
  *) echo 'Failed to connect to bus' >&2; exit 1 ;;
esac
"""


def commands(name: str, inventory: Path, label: str, **parameters: str) -> list[Command]:
    """Return the looks of a shipped runbook whose label has a word in it."""
    book = load.runbook(shipped() / "runbooks" / f"{name}.yaml")
    given = load.parameters(book, parameters, None, {}, None).public
    works = (a.work for a in make(book, load.inventory(inventory), given, files=describe).actions)
    return [work for work in works if isinstance(work, Command) and label in str(work.check)]


def test_a_look_that_could_not_be_made_counts_for_nothing(tmp_path: Path) -> None:
    """No process can be started, or one of two file systems is not there."""
    path = tmp_path / "i.yaml"
    path.write_text(
        "opskit: 1\nhosts: {web1: 10.0.0.1}\n"
        f"services: {{app: {{hosts: web1, port: 80, health: /, root: {tmp_path}/none}}}}\n"
    )
    (tmp_path / "xargs").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "xargs").chmod(0o755)
    looks = [
        *commands("sync-outage", path, "free, %"),
        *commands("outage-over", path, "at once", url="http://127.0.0.1:1/"),
    ]
    assert len(looks) == 4
    for work in looks:
        done = subprocess.run(
            ["sh", "-euc", work.text.fixed()], env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.startswith("UNKNOWN "), done


@pytest.mark.parametrize(
    ("units", "level"),
    [(["sound"], "OK"), (["sound", "loops"], "WARN"), (["gone", "loops"], "CRIT"),
     (["sound", "no bus"], "UNKNOWN")],
)  # fmt: skip
def test_units_are_weighed_by_what_systemctl_says(
    tmp_path: Path, units: list[str], level: str
) -> None:
    """The practice hosts have no systemd: what it says stands in for it here."""
    (tmp_path / "systemctl").write_text(UNITS)
    (tmp_path / "systemctl").chmod(0o755)
    path = tmp_path / "i.yaml"
    path.write_text(
        "opskit: 1\nhosts: {web1: 10.0.0.1}\n"
        f"services: {{app: {{hosts: web1, port: 80, health: /, units: {json.dumps(units)}}}}}\n"
    )
    [work] = commands("sync-outage", path, "units")
    done = subprocess.run(
        ["sh", "-euc", work.text.fixed()], env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(f"{level} units: "), done
    if level == "WARN":
        assert (
            "loops: ActiveState=active SubState=running NRestarts=7 ExecMainStatus=0" in done.stdout
        )
