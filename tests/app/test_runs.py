"""What a person may name when asking for hosts of an earlier run."""

import pytest

from opskit.app.again import select_hosts
from opskit.errors import InputError
from tests.view.samples import run

STOPPED = run("failed", {"web1": "done", "web2": "failed", "web3": "begun", "web4": "not started"})


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        (["not-started"], ["web3", "web4"]),
        (["begun"], ["web3"]),
        (["failed", "web4"], ["web2", "web4"]),
        (["failed", "not-started"], ["web2", "web3", "web4"]),
    ],
)
def test_hosts_are_named_or_meant_by_their_state(words: list[str], hosts: list[str]) -> None:
    assert select_hosts(STOPPED, words) == hosts


def test_failed_means_hosts_that_were_not_reached_or_not_taken_back_too() -> None:
    left = run("failed", {"web1": "unreachable", "web2": "undo failed", "web3": "undone"})
    assert select_hosts(left, ["failed"]) == ["web1", "web2"]


@pytest.mark.parametrize("word", ["web9", "unknown"])
def test_naming_no_host_says_where_each_stands(word: str) -> None:
    with pytest.raises(InputError) as caught:
        select_hosts(STOPPED, [word])
    assert "web3: begun, web4: not started" in str(caught.value.hint)
