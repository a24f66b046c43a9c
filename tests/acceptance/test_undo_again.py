"""An undo that is asked for once more reaches the hosts that were gone the first time."""

import pytest

from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance
STEPS = """
  - name: Leave a mark
    run: touch mark.{{ run.id }}
    undo: {run: 'rm -f mark.{{ run.id }}'}
"""


def test_a_host_that_was_gone_is_taken_back_when_undo_is_asked_for_again(fleet: Fleet) -> None:
    path = fleet.runbook(STEPS)
    fleet.opskit("run", path, "--yes", "--limit", "web1:web2")
    fleet.lab.cut("web2", reset=True)
    try:
        told = fleet.opskit("undo", "last", "--yes", status=1).stdout
    finally:
        fleet.lab.heal("web2")
    assert "unreachable: web2: " in told
    assert fleet.hosts() == {"web1": "undone", "web2": "undo failed"}

    fleet.opskit("undo", "last", "--yes")
    assert fleet.hosts() == {"web1": "undone", "web2": "undone"}
    for host in ("web1", "web2"):
        assert "mark." not in fleet.sh(host, "ls /home/ops")
    fleet.proved()
