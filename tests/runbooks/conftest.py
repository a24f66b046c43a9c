"""A practice fleet for the shipped runbooks; every test begins with release A on all hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit import lab as labs
from opskit.lab import Lab
from tests.support.fleet import Fleet

CLEAN = """
cd /srv/app
if [ "$(readlink current)" = releases/A ] && [ "$(ls -A releases)" = A ] &&
    [ ! -e shared/switches.json ] && [ -z "$(find . -maxdepth 1 -name '.current.*')" ] &&
    [ "$(readlink "/proc/$(labctl pids app)/cwd")" = /srv/app/releases/A ]; then
    exit 0
fi
ln -sfn releases/A .current.test && mv -Tf .current.test current
find releases -mindepth 1 -maxdepth 1 ! -name A -exec rm -rf {} +
rm -f shared/switches.json .current.*
labctl restart app
"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start four web hosts and a balancer."""
    folder = tmp_path_factory.mktemp("runbooks") / "lab"
    try:
        yield labs.up(folder, web=4)
    finally:
        labs.down(folder)


@pytest.fixture(scope="session")
def pool(lab: Lab) -> str:
    """The balancer's pool file as it was at first."""
    return Fleet(lab=lab, folder=lab.folder).sh("lb1", "cat /etc/nginx/opskit/web.conf")


@pytest.fixture
def fleet(lab: Lab, pool: str, tmp_path: Path) -> Iterator[Fleet]:
    """The fleet as new: A is live, the pool is whole, the record is empty."""
    found = Fleet(lab=lab, folder=tmp_path)
    for host in ("web1", "web2", "web3", "web4"):
        found.sh(host, CLEAN)
    if found.sh("lb1", "cat /etc/nginx/opskit/web.conf") != pool:
        found.sh("lb1", f"printf %s '{pool}' >/etc/nginx/opskit/web.conf && nginx -s reload")
    yield found
    found.release()


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start two web hosts, one of each colour, and two balancers that have both."""
    folder = tmp_path_factory.mktemp("colours") / "lab"
    key = r"sed -i 's/[$]{http_user_agent}/$request_id/' /etc/nginx/opskit/active.conf"
    try:
        found = labs.up(folder, web=2, lb=2)
        for host in (
            "lb1",
            "lb2",
        ):  # few agents have one colour
            Fleet(lab=found, folder=folder).sh(host, f"{key}; nginx -s reload")
        yield found
    finally:
        labs.down(folder)
