"""The shipped rollback, whole, after real deploys on a practice fleet."""

import pytest

from tests.support.deploying import deploy, live, pids, state
from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance


def rollback(fleet: Fleet, *words: str, status: int = 0) -> str:
    """Run rollback; return everything that it said."""
    done = fleet.opskit("run", "rollback", "--yes", "-p", "bake=0s", *words, status=status)
    return done.stdout + done.stderr


def refused(fleet: Fleet, said: str, *words: str) -> None:
    before, running = state(fleet), pids(fleet)
    assert said in rollback(fleet, *words, status=5)
    assert (state(fleet), pids(fleet)) == (before, running)


def test_every_host_goes_back_to_the_release_that_the_deploy_replaced(
    fleet: Fleet, pool: str
) -> None:
    deploy(fleet, "B")
    said = rollback(fleet)
    assert "rollback of pool web: succeeded after" in said
    assert live(fleet) == ["releases/A /srv/app/releases/A"] * 4
    assert fleet.sh("lb1", "cat /etc/nginx/opskit/web.conf") == pool
    refused(fleet, "release A is live here already")
    fleet.proved()


def test_a_deploy_that_undid_itself_or_was_refused_is_not_what_rollback_goes_by(
    fleet: Fleet,
) -> None:
    deploy(fleet, "B", "--limit", "web1")
    deploy(fleet, "X", "--limit", "web1", fault="crash", status=3)
    deploy(fleet, "B", "--limit", "web1", status=5)
    rollback(fleet, "--limit", "web1")
    assert live(fleet)[0] == "releases/A /srv/app/releases/A"


def test_without_a_deploy_on_record_a_release_must_be_named(fleet: Fleet) -> None:
    refused(fleet, "no deploy of this host is on record; name the release: -p to=ID")
    refused(fleet, "release Z is not on this host any more", "-p", "to=Z")
    refused(fleet, "release A is live here already", "-p", "to=A")
    fleet.sh(
        "web1",
        "cp -a /srv/app/releases/A /srv/app/releases/Z && echo Z >/srv/app/releases/Z/RELEASE",
    )
    rollback(fleet, "--limit", "web1", "-p", "to=Z")
    assert live(fleet)[0] == "releases/Z /srv/app/releases/Z"


def test_a_release_that_is_gone_or_was_never_proved_is_refused(fleet: Fleet) -> None:
    deploy(fleet, "B", "--limit", "web1")
    fleet.sh("web1", "touch /srv/app/releases/.unproven.A")
    refused(fleet, "release A failed its own deploy here", "--limit", "web1")
    fleet.sh("web1", "mv /srv/app/releases/A /srv/app/kept")
    refused(fleet, "release A is not on this host any more; deploy it again", "--limit", "web1")
    fleet.sh("web1", "rm /srv/app/releases/.unproven.A; mv /srv/app/kept /srv/app/releases/A")


def test_a_host_that_someone_switched_by_hand_is_refused(fleet: Fleet) -> None:
    deploy(fleet, "B", "--limit", "web1")
    fleet.sh(
        "web1",
        "cd /srv/app && cp -a releases/A releases/Z && ln -sfn releases/Z .c && mv -Tf .c current",
    )
    said = "the last deploy on record put B here, but Z is live; name the release: -p to=ID"
    refused(fleet, said, "--limit", "web1")


def test_the_first_deploy_of_a_host_has_nothing_before_it(fleet: Fleet) -> None:
    fleet.sh("web1", "labctl stop app; rm /srv/app/current")
    deploy(fleet, "B", "--limit", "web1")
    refused(fleet, "the deploy of B was this host's first", "--limit", "web1")


@pytest.mark.parametrize("release", ["a/b", "..", "-x", "a b", "none on record"])
def test_a_bad_release_id_is_refused_before_any_contact(fleet: Fleet, release: str) -> None:
    assert "to" in rollback(fleet, "-p", f"to={release}", status=2)


def test_when_the_time_is_up_no_batch_begins_before_somebody_says_so(fleet: Fleet) -> None:
    two = ("--limit", "web1,web2")
    deploy(fleet, "B", *two)
    given = ("-p", "bake=1500ms", "-p", "within=1s")
    words = ["run", "rollback", "--yes", *given, *two]
    said = fleet.opskit(*words, status=4).stdout
    assert "'Still within the time' failed on web2" in said
    assert [line.split("/")[-1] for line in live(fleet)[:2]] == ["A", "B"]
    shown = fleet.opskit("decide", "last", status=4).stdout
    assert "s already" in shown
    assert "skip" in shown
    fleet.opskit("decide", "last", "skip", "--reason", "it is nearly done")
    assert [line.split("/")[-1] for line in live(fleet)[:2]] == ["A", "A"]
    fleet.proved()
