"""What deploy refuses by figures, weighed as its own conditions say; nothing is contacted."""

from pathlib import Path
from typing import Any

import pytest

from opskit import load
from opskit.model.runbook import Runbook
from opskit.render import evaluate

ROOT = Path(__file__).resolve().parent.parent.parent / "runbooks"


@pytest.fixture(scope="module")
def deploy() -> Runbook:
    return load.runbook(ROOT / "deploy.yaml", [ROOT])


def holds(book: Runbook, name: str, values: dict[str, Any]) -> list[bool]:
    """Say of each condition of a step whether it holds."""
    (step,) = (step for step in book.steps if step.name == name)
    that = step.args["that"]
    that = that if isinstance(that, tuple) else (that,)
    return [bool(evaluate(str(one), values)) for one in that]


def room(
    bytes_: int = 2000, inodes: int = 20, of: int = 99, clock: int = 1000, needs: str = "1000 10"
) -> dict[str, Any]:
    return {
        "room": f"{bytes_ // 10} 10 {inodes} {of}", "needs": needs, "clock": str(clock),
        "before": "1000", "after": "1002",
    }  # fmt: skip


ROOM = {
    "just enough": (room(), [True, True, True]),
    "a byte short": (room(needs="1001 10"), [False, True, True]),
    "an inode short": (room(inodes=19), [True, False, True]),
    "a file system without inodes": (room(inodes=0, of=0), [True, True, True]),
    "5 s late": (room(clock=995), [True, True, True]),
    "6 s late": (room(clock=994), [True, True, False]),
    "5 s ahead, asked for 2 s": (room(clock=1007), [True, True, True]),
    "6 s ahead": (room(clock=1008), [True, True, False]),
}


@pytest.mark.parametrize("case", ROOM)
def test_room_is_wanted_twice_and_a_clock_may_be_5_s_off(deploy: Runbook, case: str) -> None:
    values, wanted = ROOM[case]
    name = "Room for the release twice, and a clock that is right"
    assert holds(deploy, name, values) == wanted


@pytest.mark.parametrize(
    ("hosts", "most", "share", "wanted"),
    [
        (4, 4, 100, [True, True]),
        (4, 3, 100, [False, True]),
        (2, 100, 50, [True, True]),
        (3, 100, 74, [True, False]),
    ],
)
def test_no_more_hosts_are_taken_than_are_meant(
    deploy: Runbook, hosts: int, most: int, share: int, wanted: list[bool]
) -> None:
    values = {
        "hosts": ["h"] * hosts, "groups": {"web": ["h"] * 4}, "max_hosts": most, "max_share": share,
    }  # fmt: skip
    assert holds(deploy, "No more hosts than are meant", values) == wanted


@pytest.mark.parametrize("name", ["deploy", "rollback"])
def test_clocks_of_hosts_may_be_as_far_apart_as_is_said(name: str) -> None:
    book = load.runbook(ROOT / f"{name}.yaml", [ROOT])
    values = {"skew": 5.0, "before": "100", "after": "101"}
    for apart, wanted in ((6, True), (7, False)):
        clocks = {"by_host": {"clock": {"web1": "200", "web2": str(200 + apart)}}}
        assert holds(book, "The hosts' clocks agree", values | clocks) == [wanted], apart
