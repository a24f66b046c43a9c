"""The link `current` while it is switched: who reads through it never finds nothing."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit import load
from opskit.app.prepare import describe
from opskit.model.text import Fixed
from opskit.model.work import Command
from opskit.plan.make import make
from opskit.settings import shipped

pytestmark = pytest.mark.acceptance

READERS = 4
READER = """
import os, sys
path, stop = sys.argv[1:]
reads = missing = 0
strange = set()
os.nice(15)  # who switches has the first turn; there are many reads between two all the same
print("reading", flush=True)
while reads % 256 or not os.path.exists(stop):
    reads += 1
    try:
        with open(path, "rb", buffering=0) as file:
            told = file.read()
    except OSError:
        missing += 1
    else:
        if told not in (b"A", b"B"):
            strange.add(told)
print(reads, missing, len(strange))
"""
BLUNT = "rm, ln -s"
OTHERS = {
    "ln -sfn": "ln -sfn releases/{} current",
    "busybox ln -sfn": "busybox ln -sfn releases/{} current",
    BLUNT: "rm -f current\nln -s releases/{} current",
}
"""How it is done elsewhere."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Have a service with the releases A and B, and A live."""
    root = tmp_path / "app"
    for release in "AB":
        (root / "releases" / release).mkdir(parents=True)
        (root / "releases" / release / "name").write_text(release)
    (root / "current").symlink_to("releases/A")
    return root


def shipped_switch(root: Path, release: str) -> str:
    """The very text that `deploy` has run on a host to switch to a release."""
    artifact = root.parent / f"{release}.tar.gz"
    with tarfile.open(artifact, "w:gz") as archive:
        archive.add(root / "releases" / release, release)
    path = root.parent / "inventory.yaml"
    balancer = {"type": "nginx", "hosts": "lb", "members": "web", "file": "/pool.conf"}
    service = {"hosts": "web", "port": 80, "health": "/", "root": str(root), "pids": "pgrep x"}
    path.write_text(
        json.dumps(
            {
                "opskit": 1,
                "hosts": {"web1": "10.0.0.1"},
                "groups": {"web": ["web1"], "lb": ["web1"]},
                "balancers": {"web": balancer},
                "services": {"app": {**service, "restart": "true"}},
            }
        )
    )
    book = load.runbook(shipped() / "runbooks" / "deploy.yaml")
    asked = {"release": release, "artifact": str(artifact), "drain": "false"}
    given = load.parameters(book, asked, None, {}, None).public
    plan = make(book, load.inventory(path), given, files=describe)
    works = [a.work for a in plan.actions if plan.stages[a.position].name == "Switch"]
    [work] = works
    assert isinstance(work, Command)
    assert all(isinstance(part, Fixed) for part in work.text.parts)
    return work.text.fixed()


@contextmanager
def readers(root: Path) -> Iterator[list[tuple[int, int, int]]]:
    """Read through the link all the time; reads, missing ones, and wrong ones, of each reader."""
    stop, counts = root / "stop", list[tuple[int, int, int]]()
    words = [sys.executable, "-c", READER, str(root / "current" / "name"), str(stop)]
    running = [
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(READERS)
    ]  # fmt: skip
    try:
        for reader in running:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
        yield counts
        stop.touch()
        for reader in running:
            reads, missing, strange = map(int, reader.communicate(timeout=30)[0].split())
            counts.append((reads, missing, strange))
    finally:
        stop.unlink(missing_ok=True)
        for reader in running:
            reader.kill()
            reader.wait()


def swap(root: Path, texts: Sequence[str], rounds: int) -> tuple[int, int]:
    """Switch back and forth; how many reads there were, and how many found nothing."""
    program = "\n".join(f"({text}\n)" for text in texts)
    loop = f"n=0\nwhile [ $n -lt {rounds} ]; do\n{program}\nn=$((n + 1))\ndone"
    with readers(root) as counts:
        subprocess.run(["sh", "-euc", loop], cwd=root, check=True, timeout=900)
    assert not any(strange for _, _, strange in counts)
    return sum(reads for reads, _, _ in counts), sum(missing for _, missing, _ in counts)


@pytest.mark.parametrize("swaps", [60, pytest.param(10_000, marks=pytest.mark.soak)])
def test_no_read_finds_nothing_while_a_deploy_switches(
    root: Path, swaps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [shipped_switch(root, release) for release in "BA"]
    assert "mv -Tf" in texts[0]
    reads, missing = swap(root, texts, swaps // 2)
    assert reads > 10 * swaps, "readers must have had their turns between the swaps"
    lines = [f"opskit deploy: {missing} of {reads} reads missing in {swaps} swaps"]
    for name, text in OTHERS.items():
        few = swaps < 10_000 and name != BLUNT
        if few or not shutil.which(name.split()[0].strip(",")):
            continue
        others, lost = swap(root, [text.format(release) for release in "BA"], swaps // 2)
        lines.append(f"{name}: {lost} of {others} reads missing in {swaps} swaps")
        if name == BLUNT:
            assert lost > 0, "these readers would have seen it"
    if swaps >= 10_000:
        with capsys.disabled():
            sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert missing == 0, lines
