"""The shipped dependency-audit, with a program that prints what pip-audit does."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit import load
from opskit.app.prepare import describe
from opskit.model.work import Command
from opskit.plan.make import make
from opskit.settings import shipped

pytestmark = pytest.mark.acceptance

SOUND = {"name": "idna", "version": "3.7", "vulns": []}
BAD = {
    "name": "jinja2",
    "version": "3.1.2",
    "vulns": [
        {"id": "GHSA-h5c8-rqwp-cp95", "fix_versions": ["3.1.3"], "aliases": ["CVE-2024-22195"]}
    ],
}
SKIPPED = {"name": "Our.App", "skip_reason": "Dependency not found on PyPI"}


def day(ahead: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=ahead):%Y-%m-%d}"


def allow(until: str, name: str = "CVE-2024-22195") -> dict[str, str]:
    return {"id": name, "until": until, "why": "it's not reachable"}


def audited(
    folder: Path, *found: object, status: int = 0, allowed: object = (), own: str = ""
) -> tuple[str, str]:
    """Return the first line and the others, of what a host with these packages says."""
    (folder / "findings").write_text(
        found[0]
        if found and isinstance(found[0], str)
        else json.dumps({"dependencies": found, "fixes": []})
    )
    (folder / "audit").write_text(f"#!/bin/sh\ncat '{folder}/findings'\nexit {status}\n")
    (folder / "audit").chmod(0o755)
    (folder / "i.yaml").write_text(
        "opskit: 1\nhosts: {web1: 10.0.0.1}\ngroups: {web: {hosts: [web1]}}\n"
        f"vars: {{allowed_vulnerabilities: {json.dumps(allowed)}}}\n"
    )
    book = load.runbook(shipped() / "runbooks" / "dependency-audit.yaml")
    words = {"command": f"'{folder}/audit' -f json", "own": own, "folder": str(folder)}
    given = load.parameters(book, words, None, {}, None).public
    [action] = make(book, load.inventory(folder / "i.yaml"), given, files=describe).actions
    assert isinstance(action.work, Command)
    done = subprocess.run(
        ["sh", "-euc", action.work.text.fixed()],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    first, _, rest = done.stdout.partition("\n")
    assert done.returncode == {"OK": 0, "WARN": 0, "CRIT": 2, "UNKNOWN": 3}[first.split()[0]]
    return first, rest


def test_what_is_known_counts_unless_it_is_allowed_and_only_until_then(tmp_path: Path) -> None:
    first, _ = audited(tmp_path, SOUND)
    assert first == "OK known vulnerabilities: 0 that count; 0 allowed"
    first, _ = audited(tmp_path, SOUND, BAD, status=1)
    assert first == (
        "CRIT known vulnerabilities: 1 that count; 0 allowed; "
        "jinja2 3.1.2: GHSA-h5c8-rqwp-cp95, mended in 3.1.3"
    )
    first, _ = audited(tmp_path, SOUND, BAD, status=1, allowed=[allow(day(99))])
    assert first == "OK known vulnerabilities: 0 that count; 1 allowed"
    first, _ = audited(tmp_path, BAD, status=1, allowed=[allow(day(0), "GHSA-h5c8-rqwp-cp95")])
    assert first.startswith(
        "WARN known vulnerabilities: 0 that count; 1 allowed; allowed for a few"
    )
    first, _ = audited(tmp_path, SOUND, BAD, status=1, allowed=[allow(day(-1))])
    assert first.startswith("CRIT known vulnerabilities: 1 that count; 0 allowed; ")
    assert first.endswith(f"; it was allowed until {day(-1)}")
    first, _ = audited(tmp_path, SOUND, allowed=[allow(day(99))])
    assert first.endswith("0 allowed; not needed any more: CVE-2024-22195")


def test_what_could_not_be_asked_is_no_pass(tmp_path: Path) -> None:
    """Without a network pip-audit skips all, says that it found nothing, and ends with 0."""
    first, _ = audited(tmp_path, SKIPPED)
    assert first == "UNKNOWN known vulnerabilities: of 1 packages none could be looked up"
    first, _ = audited(tmp_path)
    assert first == "UNKNOWN known vulnerabilities: of 0 packages none could be looked up"
    first, _ = audited(tmp_path, SOUND, SKIPPED)
    assert first.startswith(
        "UNKNOWN known vulnerabilities: 0 that count; 0 allowed; not known of Our"
    )
    first, _ = audited(tmp_path, SOUND, SKIPPED, own="x, our_app")
    assert first == "OK known vulnerabilities: 0 that count; 0 allowed"
    first, _ = audited(tmp_path, BAD, SKIPPED, status=1)
    assert first.startswith("CRIT "), "what is certainly wrong comes first"
    for text, status in (("", 127), ("", 0), ('{"dependencies": [', 0), ("[]", 0), ('"x"', 1),
                         ('{"dependencies": [{"name": "a", "version": "1"}]}', 0)):  # fmt: skip
        first, _ = audited(tmp_path, text, status=status)
        told = f"it printed no findings as JSON (exit status {status})"
        assert first == f"UNKNOWN known vulnerabilities: {told}", text
    for status in (1, 2, 137):
        first, _ = audited(tmp_path, SOUND, status=status)
        assert first == f"UNKNOWN known vulnerabilities: it failed (exit status {status})"


@pytest.mark.parametrize(
    "allowed",
    [[{"id": "CVE-1", "until": "2030-01-01"}], [{"id": "CVE-1", "until": "soon", "why": "x"}],
     ["CVE-1"], "CVE-1", [{"until": "2030-01-01", "why": "x"}]],
)  # fmt: skip
def test_an_allowance_without_an_end_or_a_reason_is_none(tmp_path: Path, allowed: object) -> None:
    first, _ = audited(tmp_path, SOUND, allowed=allowed)
    assert first.startswith("UNKNOWN known vulnerabilities: allowed_vulnerabilities has an entry")
