"""The shipped deploy, whole, against a practice fleet."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from opskit.lab import Lab
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance

WEB = ("web1", "web2", "web3", "web4")
STATE = """
cd /srv/app
readlink current || echo no link
readlink -e /proc/$(labctl pids app)/cwd || echo nothing runs
find releases -type f -o -type l | sort | xargs -r stat -c '%n %A %s'
ls -A . releases
"""


def artifact(lab: Lab, folder: Path, name: str, fault: str | None = None) -> Path:
    return lab.release(name, folder / f"{name}.tar.gz", fault)


def deploy(
    fleet: Fleet, release: str, *words: str, fault: str | None = None, status: int = 0
) -> str:
    """Run deploy; return everything that it said."""
    plain = len(release) < 9 and release.isascii() and release.isalnum()
    path = artifact(fleet.lab, fleet.folder, release if plain else "x", fault)
    given = ["-p", f"release={release}", "-p", f"artifact={path}", "-p", "bake=0s"]
    done = fleet.opskit("run", "deploy", "--yes", *given, *words, status=status)
    return done.stdout + done.stderr


def state(fleet: Fleet, *hosts: str) -> Mapping[str, str]:
    return {host: fleet.sh(host, STATE) for host in hosts or WEB}


def pids(fleet: Fleet) -> Mapping[str, str]:
    return {host: fleet.sh(host, "labctl pids app") for host in WEB}


def live(fleet: Fleet) -> list[str]:
    """What each host's link says and what its process really runs in."""
    line = "readlink /srv/app/current; readlink -e /proc/$(labctl pids app)/cwd"
    return [" ".join(fleet.sh(host, line).split()) for host in WEB]


def test_a_release_goes_live_on_every_host_and_no_request_fails(fleet: Fleet, pool: str) -> None:
    fleet.opskit("lab", "failures", "--mark", "--dir", fleet.lab.folder)
    load = fleet.start(
        "lab", "load", "--dir", fleet.lab.folder, "--seconds", "60", "--rate", "60", "--json"
    )
    try:
        deploy(fleet, "B")
    finally:
        load.send_signal(2)
        said, _ = load.communicate(timeout=60)
    assert live(fleet) == ["releases/B /srv/app/releases/B"] * 4
    report = json.loads(said.splitlines()[-1])
    assert report["requests"] > 300
    assert report["failures"] == 0, report
    logs = json.loads(fleet.opskit("lab", "failures", "--json", "--dir", fleet.lab.folder).stdout)
    assert logs["failed"] == 0, logs
    assert fleet.sh("lb1", "cat /etc/nginx/opskit/web.conf") == pool
    assert all("unproven" not in text for text in state(fleet).values())
    saved = [event.get("saved", {}) for event in fleet.events()]
    assert [value for value in saved if "replaced" in value] == [{"replaced": "A B"}] * 4
    fleet.proved()


@pytest.mark.parametrize("fault", ["crash", "wrong-release", "unhealthy"])
def test_a_broken_release_takes_itself_back_and_touches_no_other_host(
    fleet: Fleet, pool: str, fault: str
) -> None:
    before, running = state(fleet), pids(fleet)
    said = deploy(fleet, "X", fault=fault, status=3)
    assert "UNDONE" in said
    assert state(fleet) == before
    assert fleet.sh("lb1", "cat /etc/nginx/opskit/web.conf") == pool
    assert {h: p for h, p in pids(fleet).items() if h != "web1"} == {
        h: p for h, p in running.items() if h != "web1"
    }
    fleet.opskit("run", "health-check", "--yes")
    fleet.proved()


def test_a_failure_in_a_later_batch_brings_back_the_hosts_that_were_done(
    fleet: Fleet, pool: str
) -> None:
    fleet.sh("web3", "mkdir /srv/app/releases/B && echo other >/srv/app/releases/B/app.py")
    before = state(fleet)
    deploy(fleet, "B", status=3)
    assert live(fleet) == ["releases/A /srv/app/releases/A"] * 4
    assert state(fleet) == before
    assert fleet.sh("lb1", "cat /etc/nginx/opskit/web.conf") == pool


@pytest.mark.parametrize("release", ["a/b", "..", "a..b", "-x", "a b", ".a", "a" * 65, "é"])
def test_a_bad_release_id_is_refused_before_any_contact(fleet: Fleet, release: str) -> None:
    assert "release" in deploy(fleet, release, status=2)


SETS_UP = {
    "release A is live already; to deploy it again: -p redeploy=true": ("A", "web1", ":", ":"),
    "/srv/app/current is not a symbolic link": (
        "B",
        "web2",
        "cd /srv/app && rm current && cp -r releases/A current",
        "rm -r /srv/app/current",
    ),
    "current points to /opt, which is not a release": (
        "B",
        "web3",
        "ln -sfn /opt /srv/app/.c && mv -Tf /srv/app/.c /srv/app/current",
        ":",
    ),
    "current points to releases/gone, which is not there": (
        "B",
        "web4",
        "cd /srv/app && ln -sfn releases/gone .c && mv -Tf .c current",
        ":",
    ),
    'status is "unhealthy", expected "healthy"': (
        "B",
        "web2",
        """echo '{"unhealthy": "quiet"}' >/srv/app/shared/switches.json""",
        ":",
    ),
    "not every member of pool web is in service": (
        "B",
        "lb1",
        "cd /etc/nginx/opskit && sed -i '2s/;/ down;/' web.conf && nginx -s reload && sleep 0.3",
        ":",
    ),
    "nginx's configuration is not valid": (
        "B",
        "lb1",
        "echo nonsense >/etc/nginx/opskit/more.conf",
        "rm /etc/nginx/opskit/more.conf",
    ),
    "runs in /srv/app/releases/A, but /srv/app/releases/Z is live": (
        "B",
        "web1",
        "cd /srv/app && cp -r releases/A releases/Z && ln -sfn releases/Z .c && mv -Tf .c current",
        ":",
    ),
}


@pytest.mark.parametrize("said", SETS_UP)
def test_a_fleet_that_is_not_as_it_should_be_is_refused_untouched(fleet: Fleet, said: str) -> None:
    release, host, breaks, mends = SETS_UP[said]
    fleet.sh(host, breaks)
    before, running = state(fleet), pids(fleet)
    try:
        assert said in deploy(fleet, release, status=5)
        assert (state(fleet), pids(fleet)) == (before, running)
    finally:
        fleet.sh(host, mends)


@pytest.mark.parametrize("limit", ["web1", "web1:web2"])
def test_the_last_host_that_works_is_not_taken_out(fleet: Fleet, pool: str, limit: str) -> None:
    for host in ("web2", "web3", "web4"):
        fleet.sh(host, "labctl stop app")
    before = state(fleet, "web1")
    said = deploy(fleet, "B", "--limit", "web1", status=5)
    assert "not every member of pool web is healthy" in said
    said = deploy(fleet, "B", "-p", "over_unhealthy=true", "--limit", limit, status=5)
    assert "web1 (" in said
    assert "can't leave pool web: it is healthy, and of the others 0 would be" in said
    assert state(fleet, "web1") == before
    assert fleet.sh("lb1", "cat /etc/nginx/opskit/web.conf") == pool
    deploy(fleet, "B", "-p", "over_unhealthy=true", "--limit", "web2:web3")
    deploy(fleet, "B", "-p", "over_unhealthy=true", "--limit", "web1:web4")
    assert live(fleet) == ["releases/B /srv/app/releases/B"] * 4


def test_a_host_that_has_become_the_last_since_the_preflight_is_not_drained(
    fleet: Fleet, pool: str
) -> None:
    path = fleet.runbook(
        "  - {name: One, run: labctl stop app, on: {group: others, per: run}}\n"
        "  - {name: Two, traffic: {drain: '{{ host }}', pool: web}, on: {group: lb, per: host}}\n"
    )
    inventory = fleet.folder / "i.yaml"
    text = fleet.lab.inventory.read_text().replace(
        "groups:\n", "groups:\n  others: {hosts: [web2, web3, web4]}\n"
    )
    inventory.write_text(text)
    done = fleet.opskit("run", path, "-i", inventory, "--limit", "web1", "--yes", status=1)
    assert "refused, nothing changed: web1" in done.stdout + done.stderr
    assert fleet.sh("lb1", "cat /etc/nginx/opskit/web.conf") == pool


def test_hosts_whose_clocks_disagree_are_refused_though_each_is_near_ours(fleet: Fleet) -> None:
    for host, ahead in (("web1", 4), ("web2", -4)):
        fleet.sh(
            host,
            'printf \'#!/bin/sh\\n/bin/date -d "now $1 seconds" "$@"\\n\' >/usr/local/bin/date && '
            f"sed -i 's/\\$1/{ahead}/' /usr/local/bin/date && chmod 755 /usr/local/bin/date",
        )
    before = state(fleet)
    try:
        told = deploy(fleet, "B", status=5)
        assert "s ahead of web2, and clocks of hosts may be 5 s apart" in " ".join(told.split())
        assert state(fleet) == before
        deploy(fleet, "B", "-p", "skew=1m", "--limit", "web1:web2")
        done = fleet.opskit("run", "rollback", "--yes", "--limit", "web1:web2", status=5)
        assert "s ahead of web2" in " ".join(done.stdout.split())
        assert [line.split()[0] for line in live(fleet)[:2]] == ["releases/B"] * 2
    finally:
        for host in ("web1", "web2"):
            fleet.sh(host, "rm -f /usr/local/bin/date")


def test_a_release_that_does_not_fit_twice_is_refused(fleet: Fleet) -> None:
    size = 300 * 1024 * 1024
    path = fleet.folder / "big.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        entry = tarfile.TarInfo("big")
        entry.size = size
        archive.addfile(entry, Zeros(size))
    before = state(fleet)
    given = ["-p", "release=B", "-p", f"artifact={path}"]
    done = fleet.opskit("run", "deploy", "--yes", *given, status=5)
    assert f"needs {2 * size} and 2" in done.stdout + done.stderr
    assert state(fleet) == before


class Zeros(io.RawIOBase):
    """So many zero bytes, without having them in memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return bytes(size)


def test_a_first_deploy_brings_a_host_to_life_and_its_undo_leaves_it_as_it_was(
    fleet: Fleet,
) -> None:
    fleet.sh("web4", "labctl stop app; rm -r /srv/app/current /srv/app/releases")
    try:
        deploy(fleet, "B", "--limit", "web4")
        assert live(fleet)[3] == "releases/B /srv/app/releases/B"
        fleet.opskit("undo", "last", "--yes")
        assert fleet.sh("web4", "ls -A /srv/app/releases; ls /srv/app; labctl pids app") in (
            "releases\nshared\n",
            "shared\n",
        )
    finally:
        fleet.sh("web4", "mkdir -p /srv/app/releases")
        fleet.sh(
            "web4", "test -e /srv/app/releases/A || cp -r /srv/app/releases/B /srv/app/releases/A"
        )
        restore_a(fleet, "web4")


def restore_a(fleet: Fleet, host: str) -> None:
    """Give a host that lost it release A again, from a neighbour."""
    tar = fleet.lab.exec("web1", ["tar", "-C", "/srv/app/releases", "-c", "A"]).stdout
    fleet.sh(host, "rm -rf /srv/app/releases/A; chown --reference=/srv/app /srv/app/releases")
    fleet.lab.exec(host, ["tar", "-C", "/srv/app/releases", "-x"], stdin=tar)


def test_the_newest_releases_stay_and_current_and_previous_always(fleet: Fleet) -> None:
    fleet.sh(
        "web1",
        "cd /srv/app/releases; "
        "for n in 1 2 3 4 5 6; do mkdir old$n; chown --reference=A old$n; sleep 0.02; done; "
        "mkdir 'not a release' && ln -s A link && echo x >file",
    )
    deploy(fleet, "B", "-p", "keep=3", "--limit", "web1")
    names = fleet.sh("web1", "ls -A /srv/app/releases").splitlines()
    assert names == ["A", "B", "file", "link", "not a release", "old5", "old6"]
    fleet.sh("web1", "cd /srv/app/releases && rm -rf not* link file old*")


def test_the_live_release_is_deployed_again_only_when_asked(fleet: Fleet) -> None:
    running = pids(fleet)
    deploy(fleet, "A", "-p", "redeploy=true", "--limit", "web2")
    assert live(fleet)[1] == "releases/A /srv/app/releases/A"
    assert pids(fleet)["web2"] != running["web2"]


def test_a_cure_can_be_deployed_over_a_release_that_is_broken(fleet: Fleet) -> None:
    fleet.sh("web1", "labctl stop app")
    assert "web1" in deploy(fleet, "B", "--limit", "web1", status=5)
    deploy(fleet, "B", "-p", "over_unhealthy=true", "--limit", "web1")
    assert live(fleet)[0] == "releases/B /srv/app/releases/B"


def test_an_environment_that_lacks_something_is_refused_and_no_value_is_told(fleet: Fleet) -> None:
    required = {
        "SECRET_KEY": ".{50,}", "DEBUG": "False|false", "ALLOWED_HOSTS": "[^*]+", "LOG_DIR": "/.*",
        "DB_PASSWORD": ".+", "REDIS_URL|MEMCACHED_SERVERS": ".+",
    }  # fmt: skip
    settings = json.dumps({"file": "/srv/app/shared/env", "required": required})
    inventory = fleet.folder / "i.yaml"
    inventory.write_text(
        fleet.lab.inventory.read_text().replace(
            "    root: /srv/app\n", f"    root: /srv/app\n    environment: {settings}\n"
        )
    )
    whole = f"SECRET_KEY='{'hunter2' * 8}'\nexport DEBUG=False\nALLOWED_HOSTS=a b\nLOG_DIR=/x\n"
    whole += "MEMCACHED_SERVERS=a:1\n"
    short = "# DB_PASSWORD=x\nSECRET_KEY=hunter2\nDEBUG=True\nALLOWED_HOSTS=*\n"
    before = state(fleet)
    given = ("-i", str(inventory), "--limit", "web1")
    assert "the environment /srv/app/shared/env is not there" in deploy(
        fleet, "B", *given, status=5
    )
    try:
        fleet.sh("web1", f"printf %s '{short}' >/srv/app/shared/env")
        said = deploy(fleet, "B", *given, status=5)
        for name in ("SECRET_KEY (is not as it must be)", "DEBUG (is not", "ALLOWED_HOSTS (is not",
                     "LOG_DIR (is not there)", "DB_PASSWORD (is not there)",
                     "REDIS_URL|MEMCACHED_SERVERS (is not there)"):  # fmt: skip
            assert name in " ".join(said.split()), said
        assert "hunter2" not in said
        assert state(fleet) == before
        quoted = whole.replace("'", "'\\''")
        fleet.sh("web1", f"printf '%sDB_PASSWORD=hunter2\\n' '{quoted}' >/srv/app/shared/env")
        assert "hunter2" not in deploy(fleet, "B", *given)
        assert "hunter2" not in fleet.opskit("report", "last").stdout
    finally:
        fleet.sh("web1", "rm -f /srv/app/shared/env")
