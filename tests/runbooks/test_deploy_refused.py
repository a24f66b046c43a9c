"""What the shipped deploy refuses, with the whole fleet left as it was."""

import io
import json
import tarfile

import pytest

from tests.support.deploying import deploy, live, pids, state
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance


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


def test_an_alert_that_would_not_arrive_refuses_a_deploy_and_no_dry_run_sends_one(
    fleet: Fleet,
) -> None:
    heard = fleet.folder / "heard"
    inventory = fleet.folder / "i.yaml"
    inventory.write_text(
        fleet.lab.inventory.read_text()
        + f"channels: {{pager: {{command: 'cat >>{heard}', severity: critical}},"
        " dead: {command: 'echo no such mailbox >&2; exit 67'}}\n"
    )
    before, running = state(fleet), pids(fleet)
    given = ["-i", str(inventory), "-p", "alerts=pager, dead"]
    deploy(fleet, "B", *given, "--dry-run")
    assert not heard.exists()
    said = deploy(fleet, "B", *given, status=5)
    assert "dead: its command ended with status 67: no such mailbox" in said
    assert "a test: would an alert arrive? deploy of B is about to begin" in heard.read_text()
    assert (state(fleet), pids(fleet)) == (before, running)


def test_the_last_host_that_works_is_not_taken_out(fleet: Fleet, pool: str) -> None:
    for host in ("web2", "web3", "web4"):
        fleet.sh(host, "labctl stop app")
    before = state(fleet, "web1")
    said = deploy(fleet, "B", "--limit", "web1", status=5)
    assert "not every member of pool web is healthy" in said
    for limit in ("web1", "web1:web2"):
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
