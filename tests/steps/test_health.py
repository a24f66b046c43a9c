"""Health checks: what becomes of numbers, plug-ins and answers."""

import json
import subprocess
from collections.abc import Mapping

import pytest

from opskit.errors import InputError
from opskit.model.job import Output
from opskit.model.problem import Place
from opskit.model.runbook import OnUnknown, Step
from opskit.model.text import text
from opskit.model.value import Json
from opskit.model.work import Command, Expect, Request
from opskit.steps import health
from opskit.steps.base import Value


def step(args: Mapping[str, Json], on_unknown: OnUnknown = "fail") -> Step:
    return Step(
        position="1",
        name="Disk",
        kind="health",
        place=Place(file="book.yaml", line=3, column=1),
        args=args,
        effect="read",
        on_unknown=on_unknown,
    )


def looked(run: str, shell: str = "sh", **args: str) -> tuple[str, str, Output]:
    """Run a check's shell text; the level, what is said, the whole outcome."""
    values: dict[str, Value] = {"run": text(run), **{k: text(v) for k, v in args.items()}}
    work = health.work(values, step({}))
    assert isinstance(work, Command)
    done = subprocess.run(
        [*shell.split(), "-euc", work.text.fixed()], capture_output=True, check=False
    )
    raw = Output(
        outcome="failed" if done.returncode else "succeeded",
        status=done.returncode,
        stdout=done.stdout,
    )
    found = health.judge(work, raw)
    return str(found.evidence["level"]), found.reason, found


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
@pytest.mark.parametrize(
    ("run", "warn", "crit", "level"),
    [
        ("echo 25", "< 20", "< 10", "OK"),
        ("echo 15", "< 20", "< 10", "WARN"),
        ("echo 9.9", "< 20", "< 10", "CRIT"),
        ("echo 20", "< 20", "< 10", "OK"),
        ("echo 20", "<= 20", "<10", "WARN"),
        ("echo 91%", "> 80", ">= 91", "CRIT"),
        ("echo -3", "< 0", "< -5", "WARN"),
        ("echo 3", "!= 3", "== 4", "OK"),
        ("echo 4", "!= 3", "== 4", "CRIT"),
        ("echo 1; echo 99", "> 80", "> 90", "OK"),
        ("echo", "> 80", "> 90", "UNKNOWN"),
        ("true", "> 80", "> 90", "UNKNOWN"),
        ("echo n/a", "> 80", "> 90", "UNKNOWN"),
        ("echo nan", "> 80", "> 90", "UNKNOWN"),
        ("echo 12 34", "> 80", "> 90", "OK"),
        ("false; echo 5", "> 80", "> 90", "UNKNOWN"),
        ("echo 5; exit 4", "> 80", "> 90", "UNKNOWN"),
        ("no-such-command", "> 80", "> 90", "UNKNOWN"),
    ],
)
def test_a_number_is_weighed_and_no_number_is_unknown(
    shell: str, run: str, warn: str, crit: str, level: str
) -> None:
    found, said, output = looked(run, shell, warn=warn, crit=crit)
    assert found == level, said
    assert said.startswith(f"{level} Disk: ")
    expected = {"OK": "succeeded", "WARN": "succeeded", "CRIT": "failed", "UNKNOWN": "unknown"}
    assert output.outcome == expected[level]


@pytest.mark.parametrize(
    ("status", "level"),
    [(0, "OK"), (1, "WARN"), (2, "CRIT"), (3, "UNKNOWN"), (4, "UNKNOWN"), (127, "UNKNOWN")],
)
def test_without_limits_the_exit_status_says_it_as_a_plug_in_does(status: int, level: str) -> None:
    found, said, _ = looked(f"echo all is as it is; exit {status}")
    assert (found, said) == (level, f"{level} Disk: all is as it is")


def test_the_message_names_the_check_the_value_and_the_limit() -> None:
    assert looked("echo 15", warn="< 20", label="free, %")[1] == "WARN free, %: 15 (< 20)"


def test_a_check_that_never_came_back_is_unknown() -> None:
    work = health.work({"run": text("true")}, step({}))
    found = health.judge(work, Output(outcome="failed", reason="timed out after 15 s"))
    assert (found.outcome, found.reason) == ("unknown", "UNKNOWN Disk: timed out after 15 s")


def asked(output: Output, warn_latency: float | None = 0.1) -> Output:
    expect = Expect(warn_latency=warn_latency)
    return health.judge(Request(url=text("http://x/"), expect=expect, check=text("page")), output)


def test_an_answer_that_is_as_expected_is_ok_and_a_late_one_warns() -> None:
    evidence: dict[str, Json] = {"status": 200, "latency_ms": 20.0}
    assert asked(Output(outcome="succeeded", evidence=evidence)).reason == "OK page"
    slow = asked(Output(outcome="succeeded", evidence={**evidence, "latency_ms": 120.0}))
    assert (slow.outcome, slow.evidence["level"]) == ("succeeded", "WARN")
    assert slow.reason == "WARN page: answered in 120 ms (> 100 ms)"


def test_an_answer_that_is_not_as_expected_is_critical() -> None:
    wrong = Output(outcome="failed", reason="status 301, expected 200", evidence={"status": 301})
    found = asked(wrong)
    assert (found.outcome, found.reason) == ("failed", "CRIT page: status 301, expected 200")


def test_no_answer_is_unknown() -> None:
    found = asked(Output(outcome="failed", sent=False, reason="no connection to web1"))
    assert (found.outcome, found.reason) == ("unknown", "UNKNOWN page: no connection to web1")


def test_other_steps_are_not_judged() -> None:
    output = Output(outcome="failed", status=2)
    assert health.judge(Command(text=text("exit 2")), output) is output
    assert health.judge(Request(url=text("http://x/")), output) is output


def spec(value: Json, **args: str) -> Request | Command:
    found: dict[str, Value] = {"spec": text(json.dumps(value))}
    found |= {key: text(said) for key, said in args.items()}
    work = health.work(health.opened(found, step({})), step({}))
    assert isinstance(work, (Request, Command))
    return work


def test_a_check_can_come_as_data_from_the_inventory() -> None:
    page = spec(
        {"label": "deep", "path": "/health/detailed/", "status": [200, 204], "latency": "2s",
         "json": {"status": "healthy", "checks.queue.ms": 3}, "warn_latency": "100ms"},
        base="http://10.0.0.1:8000",
    )  # fmt: skip
    assert isinstance(page, Request)
    assert page.url.fixed() == "http://10.0.0.1:8000/health/detailed/"
    assert page.expect.status == (200, 204)
    assert (page.expect.latency, page.expect.warn_latency) == (2.0, 0.1)
    assert page.expect.json == {"status": text("healthy"), "checks.queue.ms": 3}
    assert page.check == text("deep")
    disk = spec({"label": "disk", "run": "echo 5", "crit": "< 10"})
    assert isinstance(disk, Command)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("[1]", "this is no check"),
        ("{", "this is no check"),
        ('{"pth": "/"}', "a check has no 'pth'"),
        ('{"path": "/"}', "needs `base`"),
        ('{"label": "x"}', "neither run nor url nor a server"),
        ('{"run": "echo 1", "warn": "~ 3"}', "`warn` came to '~ 3'"),
    ],
)
def test_data_that_is_no_check_is_refused(value: str, what: str) -> None:
    with pytest.raises(InputError, match=what.replace("[", r"\[")):
        health.work(health.opened({"spec": text(value)}, step({})), step({}))


@pytest.mark.parametrize(
    ("args", "on_unknown", "what"),
    [
        ({}, "fail", "one of run, sql, redis, info, url, spec is needed, not none"),
        ({"run": "x", "url": "y"}, "fail", "not run and url"),
        (
            {"url": "http://x/", "warn": "< 1"},
            "fail",
            "`warn` is for numbers that `run` prints or a server brings",
        ),
        ({"run": "x", "crit": "10"}, "fail", "'10' is no limit"),
        ({"run": "x"}, "ask", "UNKNOWN is a result here, not a question"),
    ],
)
def test_a_step_that_can_not_be_judged_is_a_problem(
    args: Mapping[str, Json], on_unknown: OnUnknown, what: str
) -> None:
    [found] = health.check(step(args, on_unknown))
    assert what in found.what


def test_limits_never_leave_their_words() -> None:
    evil = "x'; touch /tmp/pwned; $(id) \"`id` \\n \\"
    assert looked("echo 5", warn="> 1", label=evil)[1] == f"WARN {evil}: 5 (> 1)"
