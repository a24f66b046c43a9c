"""Deploys of the shipped runbook to a practice fleet, and what is on its hosts."""

from collections.abc import Mapping
from pathlib import Path

from opskit.lab import Lab
from tests.support.fleet import Fleet

ROOT = Path(__file__).parent.parent.parent
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
    fleet: Fleet,
    release: str,
    *words: str,
    fault: str | None = None,
    status: int = 0,
    patience: str = "",
) -> str:
    """Run deploy; return everything that it said.

    `patience`: how long it is asked whether the new release is well, if not as long as it ships.
    """
    plain = len(release) < 9 and release.isascii() and release.isalnum()
    path = artifact(fleet.lab, fleet.folder, release if plain else "x", fault)
    given = ["-p", f"release={release}", "-p", f"artifact={path}", "-p", "bake=0s"]
    book = "deploy"
    if patience:
        shipped = (ROOT / "runbooks" / "deploy.yaml").read_text()
        assert shipped.count("for: 30s") == 2, "until every process runs it, until it is healthy"
        (fleet.folder / "deploy.yaml").write_text(shipped.replace("for: 30s", f"for: {patience}"))
        (fleet.folder / "templates").symlink_to(ROOT / "templates")
        book = "./deploy.yaml"
    done = fleet.opskit("run", book, "--yes", *given, *words, status=status)
    return done.stdout + done.stderr


def state(fleet: Fleet, *hosts: str) -> Mapping[str, str]:
    return {host: fleet.sh(host, STATE) for host in hosts or WEB}


def pids(fleet: Fleet) -> Mapping[str, str]:
    return {host: fleet.sh(host, "labctl pids app") for host in WEB}


def live(fleet: Fleet) -> list[str]:
    """What each host's link says and what its process really runs in."""
    line = "readlink /srv/app/current; readlink -e /proc/$(labctl pids app)/cwd"
    return [" ".join(fleet.sh(host, line).split()) for host in WEB]
