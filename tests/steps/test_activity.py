"""What `activity` and `sessions` refuse before anything is asked, and what a session is called."""

import random
from collections.abc import Mapping
from typing import TypeAlias

import pytest

from opskit.errors import InputError
from opskit.model.activity import Target, target
from opskit.model.problem import Place
from opskit.model.runbook import Step
from opskit.model.text import text
from opskit.steps import KINDS
from opskit.steps.base import Value

Given: TypeAlias = "Mapping[str, Value | str]"
ONE = "4711.h3zq8k1c2x.h3zq8m0000"


def test_a_name_says_all_three() -> None:
    chance = random.Random(3)
    for _ in range(300):
        made = Target(
            pid=chance.randrange(1, 2**31), began=chance.randrange(2**52),
            since=chance.randrange(2**52),
        )  # fmt: skip
        assert target(str(made)) == made


@pytest.mark.parametrize(
    "written", ["4711", "4711.", "4711.a", "0.a.b", "-1.a.b", "4711.A.b", "4711.a.b.c", "4711.a.b ",
                "٤.a.b", "4711.a.é", "99999999999.a.b", ""],
)  # fmt: skip
def test_what_is_no_name(written: str) -> None:
    assert target(written) is None


def made(kind: str, given: "Given") -> Mapping[str, Value]:
    keys = {key.name: key.default for key in KINDS[kind].KEYS}
    words = {k: text(v) if isinstance(v, str) else v for k, v in {**keys, **given}.items()}
    return {**words, "database": text("app")}  # type: ignore[dict-item]


def step(kind: str) -> Step:
    return Step(position="1", name="s", kind=kind, place=Place(file="t.yaml", line=1), args={})


REFUSED: "dict[str, tuple[Given, str]]" = {
    "a number alone": ({"sessions": "4711"}, "is no session"),
    "nobody": ({"sessions": " , "}, "no session is named"),
    "one twice": ({"sessions": f"{ONE},4711.a.b"}, "named twice"),
    "the sixth": ({"sessions": " ".join(f"{n}.a.b" for n in range(1, 7))}, "5 are allowed at once"),
    "more than ever": (
        {"sessions": " ".join(f"{n}.a.b" for n in range(1, 52)), "max_sessions": 1000},
        "50 are allowed at once",
    ),
    "nobody's": ({"sessions": ONE, "users": " "}, "whose sessions"),
    "more than all": ({"sessions": ONE, "max_share": 1.5}, "no part of all sessions"),
    "a share of none": ({"sessions": ONE, "max_share": 0.0}, "no part of all sessions"),
    "a long wait": ({"sessions": ONE, "wait": 600.0}, "over before the wait is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_before_anything_is_asked(name: str) -> None:
    given, what = REFUSED[name]
    args = made("sessions", {"do": "cancel", "users": "app", **given})
    with pytest.raises(InputError, match=what):
        KINDS["sessions"].work(args, step("sessions"))


def test_a_look_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit into"):
        KINDS["activity"].work(made("activity", {"window": 595.0}), step("activity"))
    with pytest.raises(InputError, match="`idle_crit` \\(1s\\) comes before `idle_warn`"):
        KINDS["activity"].work(made("activity", {"idle_crit": 1.0}), step("activity"))
    with pytest.raises(InputError, match="there is no check 'runs'"):
        KINDS["activity"].work(made("activity", {"leave_out": (text("runs"),)}), step("activity"))


def test_a_table_is_never_more_than_all_air() -> None:
    with pytest.raises(InputError, match="no table is more than 100% air"):
        KINDS["bloat"].work(made("bloat", {"share": 100.0}), step("bloat"))
    with pytest.raises(InputError, match="there is no check 'size'"):
        KINDS["bloat"].work(made("bloat", {"leave_out": (text("size"),)}), step("bloat"))
