"""Kinds of step: what each makes of its arguments, and what it refuses."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit import load
from opskit.errors import InputError
from opskit.model.problem import Place
from opskit.model.runbook import Save, Step
from opskit.model.text import Late, Text, text
from opskit.model.value import SecretRef
from opskit.model.work import (
    Ask,
    Check,
    Command,
    Expect,
    FileRef,
    Notify,
    Recall,
    RedisCall,
    Request,
    Upload,
    Wait,
    Work,
)
from opskit.steps import COMMON, KINDS, effect_of
from opskit.steps.base import Value

PLACE = Place(file="case.yaml", line=1, column=1)
FILE = FileRef(path="/a.tar", size=3, sha256="0" * 64)
LATE = Text(parts=(Late(source="{{ previous }}", names=("previous",)),))


def step(kind: str, **rest: object) -> Step:
    return Step(position="1", name="A step", kind=kind, place=PLACE, args={}, **rest)  # type: ignore[arg-type]


WORKS: list[tuple[str, Mapping[str, Value], Work]] = [
    ("run", {"text": text("ls")}, Command(text=text("ls"))),
    (
        "script",
        {"text": text("#!/bin/sh"), "args": (text("a"), LATE)},
        Command(text=text("#!/bin/sh"), shell=False, args=(text("a"), LATE)),
    ),
    ("script", {"file": text("#!/bin/sh")}, Command(text=text("#!/bin/sh"), shell=False)),
    (
        "upload",
        {"src": FILE, "dest": text("/a"), "mode": text("0644"), "unpack": False},
        Upload(content=FILE, dest=text("/a"), mode="0644"),
    ),
    (
        "upload",
        {"src": FILE, "dest": text("/a"), "unpack": text("true")},
        Upload(content=FILE, dest=text("/a"), unpack=True),
    ),
    ("template", {"src": LATE, "dest": text("/a")}, Upload(content=LATE, dest=text("/a"))),
    ("http", {"url": text("http://a/")}, Request(url=text("http://a/"))),
    (
        "http",
        {
            "url": text("http://a/"),
            "method": text("POST"),
            "headers": {"A": text("b")},
            "body": LATE,
            "via": text("host"),
            "idempotency_key": True,
            "expect": {
                "status": (200, text("201")),
                "headers": {"C": LATE},
                "json": {"a.0": text("x"), "b": 3, "c": (1, text("y"))},
                "body": text("ok"),
                "latency": 0.5,
            },
        },
        Request(
            url=text("http://a/"),
            method="POST",
            headers={"A": text("b")},
            body=LATE,
            via="host",
            idempotency_key=True,
            expect=Expect(
                status=(200, 201),
                headers={"C": LATE},
                json={"a.0": text("x"), "b": 3, "c": [1, "y"]},
                body=text("ok"),
                latency=0.5,
            ),
        ),
    ),
    ("wait", {"for": 1.5}, Wait(seconds=1.5)),
    ("wait", {"for": text("1m30s")}, Wait(seconds=90.0)),
    (
        "assert",
        {"that": (text("True"), LATE), "message": text("no")},
        Check(that=(text("True"), LATE), message=text("no")),
    ),
    (
        "redis",
        {
            "command": ((text("SET"), text("a b"), LATE), (text("PING"),)),
            "server": text("cache"),
            "rows": text("json"),
            "expect": text("1"),
        },
        RedisCall(
            server="cache",
            commands=((text("SET"), text("a b"), LATE), (text("PING"),)),
            rows="json",
            expect=text("1"),
        ),
    ),
    (
        "redis",
        {"file": text("return 1"), "keys": (LATE,), "args": (text("-1"),), "server": text("c")},
        RedisCall(server="c", script=text("return 1"), keys=(LATE,), args=(text("-1"),)),
    ),
    ("confirm", {"question": LATE}, Ask(question=LATE)),
    ("manual", {"task": LATE}, Ask(question=LATE, manual=True)),
    ("notify", {"message": LATE}, Notify(message=LATE)),
    (
        "notify",
        {"message": LATE, "to": (text("a"), text("none"), text("a")), "severity": text("P1")},
        Notify(message=LATE, to=("a",), severity=text("P1")),
    ),
    (
        "record",
        {
            "runbook": text("deploy"),
            "value": text("previous"),
            "status": (text("failed"), text("undone")),
            "default": text(""),
            "run": LATE,
        },
        Recall(
            runbook="deploy",
            value="previous",
            host="",
            run=LATE,
            status=("failed", "undone"),
            default="",
        ),
    ),
]


@pytest.mark.parametrize(("kind", "args", "work"), WORKS, ids=lambda value: str(value)[:30])
def test_a_kind_describes_its_work(kind: str, args: Mapping[str, Value], work: Work) -> None:
    assert KINDS[kind].work(args, step(kind)) == work


def test_an_assertion_without_a_message_says_what_was_not_true() -> None:
    one = Step(
        position="1", name="", kind="assert", place=PLACE, args={"that": ("a > 1", "b")}
    )  # fmt: skip
    work = KINDS["assert"].work({"that": text("False")}, one)
    assert isinstance(work, Check)
    assert work.message == text("not true: a > 1; b")


def test_secrets_of_a_request_are_headers() -> None:
    work = KINDS["http"].work(
        {"url": text("http://a/")}, step("http", secrets={"Authorization": "token"})
    )
    assert isinstance(work, Request)
    assert work.headers == {"Authorization": SecretRef(name="token")}


@pytest.mark.parametrize(
    ("kind", "args", "told"),
    [
        ("wait", {"for": text("soon")}, "`for` came to 'soon'"),
        ("wait", {"for": LATE}, "`for` must be known when planning, but waits for previous"),
        ("http", {"url": text("http://a/"), "method": text("FETCH")}, "`method` came to 'FETCH'"),
        ("upload", {"src": FILE, "dest": text("/a"), "unpack": text("1")}, "`unpack` came to '1'"),
    ],
)
def test_what_a_template_came_to_is_checked(
    kind: str, args: Mapping[str, Value], told: str
) -> None:
    with pytest.raises(InputError) as caught:
        KINDS[kind].work(args, step(kind))
    assert caught.value.what == told
    assert caught.value.where == "case.yaml:1:1"
    assert caught.value.hint


hostile = st.one_of(
    st.text(max_size=30), st.sampled_from(["$(id)", "-rf", "a'b\"c", ";", "\n", "é"])
)


@given(hostile)
def test_no_value_is_changed_on_its_way(value: str) -> None:
    whole = text(value)
    command = KINDS["script"].work({"text": text("#!/bin/sh"), "args": (whole,)}, step("script"))
    request = KINDS["http"].work({"url": text("http://a/"), "body": whole}, step("http"))
    assert isinstance(command, Command)
    assert isinstance(request, Request)
    assert command.args == (whole,)
    assert request.body == whole


METHODS = {"GET": "read", "HEAD": "read", "OPTIONS": "read", "POST": "change", "DELETE": "change"}


@pytest.mark.parametrize(("method", "effect"), METHODS.items())
def test_the_method_tells_whether_a_request_changes(method: str, effect: str) -> None:
    assert effect_of(KINDS["http"], {"method": method}) == effect


def test_reads_are_what_changes_nothing_on_a_host() -> None:
    reads = {name for name, kind in KINDS.items() if effect_of(kind, {}) == "read"}
    assert reads == {
        "http",
        "health",
        "indexes",
        "duplicates",
        "activity",
        "bloat",
        "queues",
        "wait",
        "assert",
        "confirm",
        "notify",
        "record",
    }


@pytest.mark.parametrize("name", KINDS)
def test_the_table_of_a_kind_is_whole(name: str) -> None:
    kind = KINDS[name]
    names = [key.name for key in kind.KEYS]
    assert kind.SUMMARY.endswith(".")
    assert len(set(names)) == len(names)
    assert kind.MAIN is None or kind.MAIN in names
    assert all(key.help for key in kind.KEYS)
    assert all(key.choices for key in kind.KEYS if key.type == "enum")


def test_common_keys_and_kinds_are_told_apart() -> None:
    assert not {key.name for key in COMMON} & KINDS.keys()


def test_every_kind_stands_in_the_good_case() -> None:
    cases = Path(__file__).parent.parent / "cases"
    written = "".join(path.read_text() for path in (cases / "good").glob("*.yaml"))
    assert [name for name in KINDS if not re.search(rf"^ +(- )?{name}:", written, re.M)] == []


def test_a_saved_secret_of_the_record_is_refused() -> None:
    one = step("record", save=Save(name="x", secret=True))
    assert [p.what for p in KINDS["record"].check(one)] == ["a secret is never in the record"]


def test_plan_never_asks_an_include_for_work() -> None:
    with pytest.raises(TypeError, match="replaced by the steps"):
        KINDS["runbook"].work({}, step("runbook"))


def test_loading_gives_defaults_and_typed_values(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text(
        "opskit: 1\nname: case\nversion: 1.0.0\nsummary: A case\nsteps:\n"
        "  - http: {url: 'http://a/', expect: {status: 200, latency: 250ms}}\n"
        "  - upload: {src: a, dest: /a, mode: 644}\n"
    )
    first, second = load.runbook(path).steps
    assert first.args == {
        "url": "http://a/",
        "method": "GET",
        "via": "controller",
        "idempotency_key": False,
        "expect": {"status": 200, "latency": 0.25},
    }
    assert second.args == {"src": "a", "dest": "/a", "mode": "0644", "unpack": False}
