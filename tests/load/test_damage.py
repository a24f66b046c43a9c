"""However a file is damaged, what comes back is a list of problems with places."""

import random
from pathlib import Path

import pytest

from opskit import load

CASES = Path(__file__).parent.parent / "cases"
INVENTORY = """opskit: 1
connection: {user: ops, port: 2222, key: keys/id}
vars: {env: prod, size: 1}
hosts:
  web1: {address: 127.0.0.11, services: {app: {root: /x}}}
  web2: 127.0.0.12
  lb1:
groups:
  web: [web1, web2]
  eu: {groups: [web], hosts: [lb1], vars: {size: 5}, connection: {user: eu}}
services:
  app: {hosts: web, root: /srv/app, port: 8000, user: null, extra: {a: 1}}
balancers:
  web: {type: nginx, hosts: lb1, members: web, port: 8000, file: /etc/nginx/x.conf}
secrets: {token: 'env:TOKEN', other: 'file:other.txt'}
"""
PIECES = [
    "[]", "{}", "~", "- a", "{a: b}", "[[1]]", "''", "x", "0", "-1", "*a", "&a", "|", "true",
    "{{ x }}", "{% if %}", "{{", "}}", "!x", "\t", "\n", " ", "'",
    '"', ":", "#", "1e999", "yes", "é", "\x07",
    "<<: *a", "on: once", "undo: []", "undo: {run: x}", "done_when: x", "for_each: 3", "with: 3",
    "save: {name: ~}", "run:", "http:", "when: ((", 'run: "{{ a }}"', "runbook: f",
    "phase: preflight",
]  # fmt: skip


def damaged(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        line = lines[at]
        cut = chance.randrange(len(line) + 1)
        match chance.randrange(5):
            case 0:
                lines[at] = ""
            case 1:
                lines.insert(at, lines[chance.randrange(len(lines))])
            case 2:
                lines[at] = line.partition(":")[0] + ": " + chance.choice(PIECES)
            case 3:
                lines[at] = line[:cut] + chance.choice(PIECES) + line[cut:]
            case _:
                lines[at] = " " * chance.randrange(8) + line.strip()
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_ends_in_problems_with_places(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    texts = [path.read_text() for path in sorted((CASES / "good").glob("*.yaml"))]
    path = tmp_path / "f.yaml"
    told = 0
    for _ in range(60):
        path.write_text(damaged(chance.choice([*texts, INVENTORY]), chance))
        problems = load.lint(path, [CASES])
        told += bool(problems)
        for problem in problems:
            assert problem.what
            assert problem.place.line or problem.what.startswith("the file")
    assert told > 30


def test_lint_tells_a_runbook_from_an_inventory(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(INVENTORY)
    assert load.lint(path, []) == []
    path.write_text(INVENTORY + "grups: {}\n")
    assert [problem.what for problem in load.lint(path, [])] == [
        "unknown key 'grups' in an inventory"
    ]
    path.write_text("opskit: 1\nhosts: web\nsteps: []\n")
    assert "`steps` is empty" in [problem.what for problem in load.lint(path, [])]
    assert load.kind(path) == "runbook"
    path.write_text("services: {a: 1}\n")
    assert load.kind(path) is None
    assert [p.what for p in load.lint(tmp_path / "g.yaml", [])] == ["there is no such file"]
