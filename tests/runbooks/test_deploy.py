"""The shipped deploy, whole, against a practice fleet."""

import json
import re

import pytest

from tests.support.deploying import deploy, live, pids, state
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance


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


@pytest.mark.parametrize(
    ("fault", "patience", "step"),
    [
        ("crash", "", "Restart"),
        ("wrong-release", "4s", "Healthy as the new release, three times"),
        ("unhealthy", "", "Healthy as the new release, three times"),
    ],
)
def test_a_broken_release_takes_itself_back_and_touches_no_other_host(
    fleet: Fleet, pool: str, fault: str, patience: str, step: str
) -> None:
    """Waiting for what never comes takes its whole time once, and is cut short otherwise."""
    before, running = state(fleet), pids(fleet)
    said = deploy(fleet, "X", fault=fault, status=3, patience=patience)
    assert "UNDONE" in said
    assert re.search(rf"web1 FAILED +\d+ {step} \(", said), said
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
