"""The gate: its rule, which is one awk program, and what is refused when a plan is made."""

import math
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from opskit.errors import InputError
from opskit.model.job import Output
from opskit.model.problem import Place
from opskit.model.runbook import Step
from opskit.model.text import text
from opskit.model.work import Command
from opskit.steps import KINDS, gate
from opskit.steps.base import Value
from opskit.steps.health import judge
from tests.bench import gate as bench

PLACE = Place(file="book.yaml", line=7, column=3)
RULE = Path(gate.__file__).with_name("gate.awk")
AWKS = [words for words in (["awk"], ["busybox", "awk"], ["gawk"]) if shutil.which(words[0])]
CALCULATES = "BEGIN { exit exp(log(8)) < 7 }"  # busybox can be built without
MATHS = ["-f", str(bench.MATHS)]
LIMITS = {**bench.LIMITS, "for_": 60, "new": "green", "old": "blue"}


def word(value: object) -> Value:
    match value:
        case str():
            return text(value)
        case list():
            return tuple(map(word, value))
        case dict():
            return {key: word(inner) for key, inner in value.items()}
    return value  # type: ignore[return-value]


def work(
    entry: Mapping[str, object], args: Mapping[str, object], timeout: float | None = None
) -> Command:
    """What plan makes of a step about web1, where web2 is the pool's other member."""
    step = Step(
        position="1",
        name="",
        kind="gate",
        place=PLACE,
        args=dict(args),  # type: ignore[arg-type]
        **({} if timeout is None else {"timeout": timeout}),  # type: ignore[arg-type]
    )
    known = {"addresses": {"web1": "10.0.0.1", "web2": "10.0.0.2"}, "reached": ["web1"]}
    given = {**known, "members": ["web1", "web2"], "balancer": dict(entry), **args}
    found = KINDS["gate"].work({key: word(value) for key, value in given.items()}, step)
    assert isinstance(found, Command)
    return found


def shell_text(entry: Mapping[str, object], args: Mapping[str, object]) -> str:
    return work(entry, args).text.fixed()


def rule(fed: str, awk: Sequence[str] = ("awk",), **limits: object) -> list[str]:
    """Return what the rule says to what it is fed."""
    given = [f"{key}={value}" for key, value in {**LIMITS, **limits}.items()]
    words = [word for pair in given for word in ("-v", pair)]
    done = subprocess.run(
        [*awk, *words, *MATHS, "-f", str(RULE)],
        input=fed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout.splitlines()


def judged(
    gates: Iterable[Sequence[str]], awk: Sequence[str] = ("awk",), **limits: object
) -> list[str]:
    """Return how gates end, in one go; each is what is seen between its looks."""
    looks = [
        "\n".join(f"{what}\nlook {number * 20}" for number, what in enumerate(["", *seen]))
        for seen in gates
    ]
    told = rule("\n".join(f"begin\n{one}" for one in looks) + "\n", awk, play=1, **limits)
    return [line.removeprefix("verdict ") for line in told]


def seen(new: int, bad: int, old: int = 2000, theirs: int = 2, ms: int = 20) -> str:
    """One look: requests of both sides and errors; blue answers in 20 ms."""
    times = [f"t 1 {int(50 * math.log(ms)) + 1} {new}", f"t 2 150 {old}"]
    return "\n".join([f"n 1 {new} {bad}", f"n 2 {old} {theirs}", *times])


WELL = seen(300, 0)
VERDICTS: list[tuple[list[str], str]] = [
    ([WELL] * 3, "pass green 900 requests, 0.00 % failed, p95 20 ms; blue 6000 requests, 0.10 %"),
    ([seen(300, 15)] * 3, "fail more errors than chance"),
    ([seen(30000, 0), *[seen(300, 9)] * 3], "fail errors in 3 windows in a row"),
    ([seen(300, 15, theirs=100)] * 3, "pass"),  # the old side is no better
    ([seen(300, 0, ms=40)] * 3, "fail slow in 3 windows in a row"),
    ([seen(300, 0, ms=28)] * 3, "pass"),
    ([seen(20, 20, old=0)], "fail above the hard limit"),
    ([seen(3, 1)] * 6, "inconclusive too few requests: green 18"),
    ([seen(60, 0)] * 4, "pass green 240"),
    ([seen(30, 0)] * 6, "inconclusive too few requests: green 180"),
    ([seen(300, 0, old=3, theirs=0)] * 6, "inconclusive too few requests"),
    ([seen(0, 0)] * 3, "inconclusive too few requests: green 0"),
    ([WELL, seen(0, 0), seen(0, 0)], "inconclusive no request of green for 40 s"),
    ([WELL, "v gone", WELL], "inconclusive gone (40 s after the beginning), so not all"),
    ([WELL, *["v gone"] * 4], "inconclusive gone (40 s after the beginning)"),
    ([WELL, WELL, "f web1 is down"], "fail web1 is down"),
    (
        ["c a 1 100 0 5\nc b 2 100 0 5", "c a 1 9 0 5\nc b 2 200 0 5", WELL],
        "inconclusive the counters of a began anew",
    ),
    # A p95 that is told no more is none.
    (
        ["n 1 300 0\nn 2 2000 2\nq 1 20\nq 2 20"] * 2 + ["n 1 300 0\nn 2 2000 2\nq 1 -\nq 2 20"],
        "inconclusive nothing tells how long",
    ),
    # HAProxy tells whole ms: what has become quicker comes out below 0. That is quick, if new.
    (
        [
            "c a 1 5000 0 8\nc b 2 50000 0 8",
            "c a 1 5300 0 5\nc b 2 52000 0 4",
            "c a 1 5600 0 3\nc b 2 54000 0 4",
        ],
        "pass green 600 requests, 0.00 % failed, mean 0 ms; blue 4000",
    ),
    (
        [
            "c a 1 50000 0 28\nc b 2 5000 0 8",
            "c a 1 52000 0 24\nc b 2 5300 0 5",
            "c a 1 54000 0 24\nc b 2 5600 0 3",
        ],
        "inconclusive nothing tells how long",
    ),
    (
        [
            "c a 1 50000 0 8\nc b 2 5000 0 8",
            "c a 1 52000 0 4\nc b 2 5300 0 5",
            "c a 1 54000 0 4\nc b 2 5600 0 3",
        ],
        "pass green 4000 requests, 0.00 % failed, mean 4 ms; blue 600 requests, 0.00 % failed in",
    ),
    # Bad at its end: looked at for longer, and well again.
    ([seen(3000, 0), seen(3000, 0), seen(300, 9), WELL], "pass green 6600"),
]


def test_verdicts() -> None:
    found = judged(looks for looks, _ in VERDICTS)
    wrong = [
        (f, ends) for f, (_, ends) in zip(found, VERDICTS, strict=True) if f[: len(ends)] != ends
    ]
    assert not wrong


def test_one_short_gate_with_two_errors_is_no_proof() -> None:
    one, none = judged([[seen(200, 2)], [seen(200, 0)]], for_=20)
    assert one.startswith("inconclusive too few requests to rule 2.00 % out; green 200 requests")
    assert none.startswith("pass green 200 requests")


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_any_awk_judges_alike(awk: list[str]) -> None:
    """Also one that has neither a logarithm nor an exponential of its own."""
    gates = [looks for looks, _ in VERDICTS]
    calculates = not subprocess.run([*awk, CALCULATES], check=False, capture_output=True).returncode
    for poor in (0, 1) if calculates else (1,):
        assert judged(gates, awk, poor=poor) == judged(gates)


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_what_is_calculated_without_is_what_awk_calculates(awk: list[str]) -> None:
    of = [0.5**40, 0.001, 0.7499, 0.75, 0.999, 1.0, 1.5, 1.51, 20.0, 86400e3]
    to = [-745.2, -700.0, -20.5, -0.69314718, -1e-9, 0.0, 0.5, 1.0, 10.5, 700.0]
    lines = [f"print ln({x!r})" for x in of] + [f"print antilog({x!r})" for x in to]
    program = 'BEGIN { OFMT = CONVFMT = "%.17g"\n' + "\n".join(lines) + "\n}"
    words = [*awk, "-v", "poor=1", bench.MATHS.read_text() + program]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    told = [float(line) for line in done.stdout.split()]
    assert told == pytest.approx([*map(math.log, of), *map(math.exp, to)], rel=1e-12, abs=1e-15)


def test_what_is_kept_between_two_looks_is_all_that_counts() -> None:
    at = {0: "c a 1 3000000100 7 20\nc b 2 5000 0 20", 20: "c a 1 3000000400 9 21\nc b 2 9000 4 20"}
    kept, told = "", []
    for seconds, what in {**at, 40: "v gone away", 60: "o 3"}.items():
        lines = rule(f"{kept}\n=\n{what}\nlook {seconds}\n")
        told += lines[: lines.index("=")] if "=" in lines else lines
        kept = "\n".join(lines[lines.index("=") + 1 :]) if "=" in lines else ""
    assert told[0].startswith("say 20 s: green 300 requests, 0.67 % failed, mean 24 ms; blue 4000")
    assert told[-1].startswith("verdict inconclusive gone away (40 s after the beginning)")


def test_without_an_old_side_the_limits_hold() -> None:
    well, bad = judged([["n 1 300 1"] * 3, ["n 1 300 30"] * 3], alone=1)
    assert well.startswith("pass green 900 requests, 0.33 % failed in 60 s")
    assert bad.startswith("fail")


LOG = {"type": "nginx", "log": "/log", "health": "/", "port": 8000, "members": "web"}
COLOURED = {**LOG, "file": "/f", "colours": {"blue": "app_blue", "green": "app_green"}}
STATS = {
    "type": "haproxy",
    "socket": "/s",
    "state_file": None,
    "colours": {"blue": ["b"], "green": ["g"]},
}


@pytest.mark.parametrize(
    ("entry", "args", "what"),
    [
        ({**LOG, "log": None}, {}, "does not say where requests are counted"),
        (LOG, {"window": "0"}, "a window of 0s is too short"),
        (LOG, {"new": "green"}, "pool app has no colours, and 'green' is no host of the inventory"),
        (LOG, {"old": "web7"}, "'web7' is no host of the inventory"),
        (STATS, {"new": "green"}, "HAProxy's own counters tell no p95, so p95_ratio can't be held"),
        (LOG, {"new": "web1", "old": "web1 web2"}, "web1 is of both sides"),
        (COLOURED, {"new": "red"}, "'red' is none of the two colours of app"),
        (COLOURED, {"new": "green", "old": "green"}, "it is not the other colour of app"),
        ({**LOG, "counts": "ftp://a/"}, {}, "balancers.app.counts is ftp://a/"),
        ({**LOG, "log_fields": {"unit": "h"}}, {}, "log_fields.unit is 'h'"),
    ],
)
def test_what_can_never_be_right_is_refused_when_planning(
    entry: Mapping[str, object], args: Mapping[str, object], what: str
) -> None:
    with pytest.raises(InputError, match=re.escape(what)):
        work(entry, {"pool": "app", **args})


def test_sides() -> None:
    assert work(LOG, {"pool": "app"}).summary == "watch web1 beside web2 in pool app for 1m"
    last = work(LOG, {"pool": "app", "new": "web1 web2"})
    assert last.summary == "watch web1, web2 in pool app for 1m"
    assert "\nalone=1\n" in last.text.fixed()
    shell = work(COLOURED, {"pool": "app", "new": "green", "for": "5m"})
    assert shell.summary == "watch green beside blue in pool app for 5m"
    assert "\nfirst=app_green\n" in shell.text.fixed()
    means = {**STATS, "latency": "mean"}
    told = work(means, {"pool": "app", "new": "green"}).summary
    assert told.endswith("for 1m (HAProxy tells no p95: mean times are compared)")
    for plain in ({"p95_ratio": 0}, {"old": "none"}):
        assert work(STATS, {"pool": "app", "new": "green", **plain}).summary.endswith(" for 1m")
    assert (
        "\nalone=1\n" in work(COLOURED, {"pool": "app", "new": "green", "old": "none"}).text.fixed()
    )


@pytest.mark.parametrize(
    ("status", "said", "outcome", "verdict"),
    [
        (0, "20 s: …\nPASS: all well\n", "succeeded", "pass"),
        (1, "FAIL: errors\n", "failed", "fail"),
        (7, "INCONCLUSIVE: silence\n", "failed", "inconclusive"),
        (0, "", "failed", "inconclusive"),  # never a pass from silence
        (0, "20 s: well\n", "failed", "inconclusive"),
        (1, "PASS: forged\n", "failed", "inconclusive"),
        (2, "", "failed", "inconclusive"),
        (None, "20 s: well\n", "failed", "inconclusive"),  # out of time
    ],
)
def test_only_its_last_line_lets_it_pass_or_fail(
    status: int | None, said: str, outcome: str, verdict: str
) -> None:
    command = Command(text=text("gate"), verdict=True)
    ended = "succeeded" if status == 0 else "failed"
    found = judge(command, Output(outcome=ended, status=status, stdout=said.encode()))  # type: ignore[arg-type]
    assert (found.outcome, found.evidence["verdict"]) == (outcome, verdict)
    lost = Output(outcome="unknown", lost=True)
    assert judge(command, lost) == lost


TRIED = [  # what the new side, 10.0.0.1, has of each: requests, and how many it failed
    ("up=10.0.0.1:8000, 10.0.0.2:8000 status=200 time=0.010", (1, 1)),
    ('{"up": "10.0.0.9:1, 10.0.0.1:8000, 10.0.0.2:8000", "status":200, "time":0.01}', (1, 1)),
    ('up="10.0.0.2:8000, 10.0.0.1:8000" status=200 time=0.010', (1, 0)),
    ("status=200, time=0.010, up=10.0.0.1:8000, 10.0.0.2:8000", (1, 1)),
    ("up=10.0.0.1:8000, status=200, time=0.010", (1, 0)),
    ("up=10.0.0.1:8000, 200, time=0.010 status=200", (1, 0)),
]


def test_a_try_in_vain_counts_also_where_servers_are_found_by_a_name() -> None:
    """nginx names all that it tried; whose the answer was must not hide whose it was not."""
    told = [
        subprocess.run(
            ["awk", "-v", "first=10.0.0.1:8000", "-v", "second=10.0.0.2:8000", "-v", "side=up",
             "-v", "status=status", "-v", "time=time", "-v", "unit=s", "-v", "cut=0",
             *MATHS, "-f", str(RULE.with_name("gatelog.awk"))],
            input=line + "\n", capture_output=True, text=True, check=True,
        ).stdout.splitlines()
        for line, _ in TRIED
    ]  # fmt: skip
    assert [lines[0] for lines in told] == [f"n 1 {n} {bad}" for _, (n, bad) in TRIED]
    assert not [line for lines in told for line in lines if line.startswith("v ")]


def test_numbers_are_written_as_sh_counts() -> None:
    """Two weeks were 1.2096e+06 seconds, at which sh ends."""
    many = {"for": 1209600.0, "sample": 1234567, "max_errors": 0.00123456789}
    entry = {"type": "nginx", "log": "/l", "health": None, "port": 8000}
    told = work(entry, {"pool": "web", **many}, timeout=2e6).text.fixed().splitlines()
    assert {"for_=1209600", "sample=1234567", "max_errors=0.00123456789"} <= set(told)


def test_what_a_gate_of_days_says_is_less_than_what_is_kept() -> None:
    """Its verdict is the last line, and the beginning is what is kept."""
    looks = [f"n 1 300 0\nn 2 2000 2\nlook {number * 20}" for number in range(700)]
    said = rule("=\n" + "\n".join(looks) + "\n", for_=10**6)
    assert sum(line.startswith("say ") for line in said) == 500 + 20 - 1
