"""Reading is quick enough not to be noticed. CPU time, with room for a slow machine."""

import time
from pathlib import Path

import yaml

from opskit import load

CASES = Path(__file__).parent.parent / "cases"


LIMIT = 0.3
"""Seconds in which a hundred runbooks are to be linted, where PEER is what the parser takes."""
PEER = 0.03
ROUNDS = 7


def hundred(folder: Path, turn: int) -> list[Path]:
    """Write a hundred runbooks, each with names of its own, so that nothing is known of it yet."""
    text = (CASES / "good" / "deploy.yaml").read_text()
    folder.mkdir()
    paths = []
    for number in range(turn * 100, turn * 100 + 100):
        own = text.replace("previous", f"previous{number}").replace("release", f"release{number}")
        path = folder / f"r{number}.yaml"
        path.write_text(own.replace("name: deploy", f"name: r{number}"))
        paths.append(path)
    return paths


def parsed(paths: list[Path]) -> float:
    """Return the CPU time that the YAML parser alone takes: how fast this machine is just now."""
    began = time.process_time()
    for path in paths:
        for _ in yaml.parse(path.read_text(), Loader=yaml.CSafeLoader):
            pass
    return time.process_time() - began


def linted(paths: list[Path]) -> float:
    began = time.process_time()
    for path in paths:
        assert load.lint(path, []) == []
    return time.process_time() - began


def test_a_hundred_runbooks_are_linted_in_an_instant(tmp_path: Path) -> None:
    """A busy machine counts more CPU time for the same work, for the parser and for us alike."""
    took = []
    for turn in range(ROUNDS):
        paths = hundred(tmp_path / str(turn), turn)
        peer = (parsed(paths) + parsed(paths)) / 2
        took.append(linted(paths) / max(1.0, peer / PEER))
        if took[-1] < LIMIT:
            return
    raise AssertionError(f"CPU seconds, corrected for the machine: {sorted(took)}")


def test_an_inventory_of_two_thousand_hosts_is_read_in_an_instant(tmp_path: Path) -> None:
    hosts = "".join(f"  h{i}: {{address: 10.{i // 250}.0.{i % 250}}}\n" for i in range(2000))
    groups = "".join(
        f"  g{g}: [{', '.join(f'h{i}' for i in range(g, 2000, 20))}]\n" for g in range(20)
    )
    path = tmp_path / "hosts.yaml"
    path.write_text(f"opskit: 1\nhosts:\n{hosts}groups:\n{groups}")
    began = time.process_time()
    found = load.inventory(path)
    assert len(load.select(found, "g1:g2:!h1")) == 199
    assert time.process_time() - began < 2.0
