"""What `queues` and `messages` refuse before anything is asked."""

from collections.abc import Mapping
from typing import Any

import pytest

from opskit.errors import InputError
from opskit.model.problem import Place
from opskit.model.queues import Layout, Messages, Queues
from opskit.model.runbook import Step
from opskit.model.text import text
from opskit.steps import KINDS


def made(kind: str, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - either work
    keys = {key.name: key.default for key in KINDS[kind].KEYS}
    words = {**keys, **given, "server": "queue"}
    step = Step(position="1", name="s", kind=kind, place=Place(file="t.yaml", line=1), args={})
    return KINDS[kind].work({k: text(v) if isinstance(v, str) else v for k, v in words.items()},
                            step)  # fmt: skip


PARK = {"do": "park", "queue": "celery", "tasks": "shop.export"}
BACK = {"do": "replay", "queue": "celery", "idempotent": "shop.mail"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("messages", {**PARK, "tasks": " , "}, "nothing says which messages are meant"),
    ("messages", {**PARK, "tasks": "shop.*"}, "a pattern is no name of a task"),
    ("messages", {**PARK, "queue": "a,b"}, "'a,b' names no single queue"),
    ("messages", {**PARK, "queue": "opskit:parked:celery"}, "that is opskit's own"),
    ("messages", {**PARK, "max_share": 101}, "caps are a number from 1"),
    ("messages", {**PARK, "evidence": "here"}, "'here' is no whole path"),
    ("messages", {**PARK, "steps": "3,6"}, "are no steps of a priority"),
    ("messages", {**BACK, "idempotent": ""}, "no task is named that may be done twice"),
    ("messages", {**BACK, "tasks": "shop.pay"}, "shop.pay is not among the tasks"),
    ("messages", {**BACK, "part": 0}, "caps are a number from 1"),
    ("queues", {"answers": "{}"}, "nobody is named who must answer"),
    ("queues", {"window": 595.0}, "does not fit into"),
    ("queues", {"falling": 1}, "1 looks, 10 s apart, do not tell"),
    ("queues", {"falling": 3, "window": 0.0}, "3 looks, 0 s apart, do not tell"),
    ("queues", {"falling": 7, "window": 99.0}, "a window of 1m39s, 6 times, does not fit into"),
    ("queues", {"depth_crit": 1}, "`depth_crit` \\(1\\) comes before `depth_warn`"),
    ("queues", {"leave_out": (text("deep"),)}, "there is no check 'deep'"),
]


@pytest.mark.parametrize(("kind", "given", "told"), REFUSED)
def test_what_contradicts_itself_or_means_too_much(
    kind: str, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        made(kind, given)


def test_what_is_written_arrives() -> None:
    deed = made("messages", {**PARK, "ids": "a, b,a", "steps": "0,5", "separator": "#"})
    assert isinstance(deed, Messages)
    assert (deed.tasks, deed.ids) == (("shop.export",), ("a", "b"))
    assert deed.layout == Layout(separator="#", steps=(0, 5))
    look = made("queues", {"queues": "mail", "workers": "a@b", "answers": "{}", "old_warn": "1m"})
    assert isinstance(look, Queues)
    assert (look.names, look.workers, look.limits["old"].warn) == (("mail",), ("a@b",), 60.0)
    assert look.layout == Layout()
