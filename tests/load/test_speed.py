"""Reading is quick enough not to be noticed. CPU time, with room for a slow machine."""

import time
from pathlib import Path

from opskit import load

CASES = Path(__file__).parent.parent / "cases"


def test_a_hundred_runbooks_are_linted_in_an_instant(tmp_path: Path) -> None:
    text = (CASES / "good" / "deploy.yaml").read_text()
    for number in range(100):  # each with names of its own, so that no cache helps
        own = text.replace("previous", f"previous{number}").replace("release", f"release{number}")
        (tmp_path / f"r{number}.yaml").write_text(own.replace("name: deploy", f"name: r{number}"))
    began = time.process_time()
    for path in tmp_path.iterdir():
        assert load.lint(path, []) == []
    assert time.process_time() - began < 1.0


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
