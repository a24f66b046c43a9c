"""Every value of the model goes to JSON and comes back the same."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.model.codec import canonical, digest, from_json, parse, to_json
from opskit.model.event import Entry, Event
from opskit.model.inventory import Connection, Host, Inventory
from opskit.model.plan import Action, Plan, Stage
from opskit.model.problem import Place, Problem
from opskit.model.run import ActionRecord, Run
from opskit.model.runbook import On, Param, Runbook, Step
from opskit.model.text import Fixed, Late, Text, text
from opskit.model.value import Secret, SecretRef, SecretSource
from opskit.model.work import (
    Ask,
    Check,
    Command,
    Expect,
    FileRef,
    Notify,
    Recall,
    Remove,
    Request,
    Upload,
    Wait,
    Work,
)

NAMES = st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES
)
JSON = st.recursive(
    SCALARS, lambda j: st.lists(j, max_size=3) | st.dictionaries(NAMES, j, max_size=3), max_leaves=6
)
LATES = st.builds(
    Late,
    source=NAMES,
    names=st.tuples(NAMES),
    known=st.dictionaries(NAMES, JSON, max_size=2),
    context=st.sampled_from(["plain", "word", "url"]),
)
TEXTS = st.builds(Text, parts=st.lists(st.builds(Fixed, text=NAMES) | LATES, max_size=3).map(tuple))
REFS = st.builds(SecretRef, name=NAMES)
FILES = st.builds(FileRef, path=NAMES, size=st.integers(0), sha256=NAMES)
EXPECTS = st.builds(
    Expect,
    status=st.lists(st.integers(), max_size=2).map(tuple),
    headers=st.dictionaries(NAMES, TEXTS, max_size=2),
    json=st.dictionaries(NAMES, JSON | TEXTS, max_size=3),
    body=st.none() | TEXTS,
)
WORKS: st.SearchStrategy[Work] = st.one_of(
    st.builds(Command, text=TEXTS, stdin=st.none() | TEXTS | REFS, args=st.tuples(TEXTS)),
    st.builds(Upload, content=TEXTS | FILES, dest=TEXTS),
    st.builds(Remove, dest=TEXTS, of=NAMES),
    st.builds(Request, url=TEXTS, headers=st.dictionaries(NAMES, TEXTS | REFS), expect=EXPECTS),
    st.builds(Wait, seconds=st.integers(0, 9) | st.floats(0, 9)),
    st.builds(Check, that=st.tuples(TEXTS, TEXTS), message=TEXTS),
    st.builds(Ask, question=TEXTS, manual=st.booleans()),
    st.builds(Notify, message=TEXTS),
    st.builds(Recall, runbook=NAMES, value=NAMES, host=NAMES, run=st.none() | TEXTS),
)
PLACE = Place(file="deploy.yaml", line=3, column=5)


def _action(work: Work, undo: tuple[Action, ...] = ()) -> Action:
    return Action(
        key="3/web1", position="3", batch=0, host="web1", target="web1", work=work, undo=undo
    )


def _plan(work: Work) -> Plan:
    stage = Stage(
        position="3",
        name="Switch",
        kind="run",
        place=PLACE,
        phase="main",
        effect="change",
        scope="each",
    )
    host = Host(name="web1", address="127.0.0.2", connection=Connection(port=22), vars={"a": [1]})
    return Plan(
        runbook="deploy",
        version="1",
        file="deploy.yaml",
        inventory="lab.yaml",
        parameters={"release": "r1", "many": [1, {"type": "x"}]},
        hosts={"web1": host},
        batches=(("web1",), ()),
        max_failures=0,
        on_failure="undo",
        locks=("web",),
        stages={"3": stage},
        actions=(_action(work, undo=(_action(Wait(seconds=1.5)),)),),
        secrets={"token": SecretSource(name="token", source="env:TOKEN")},
    )


@settings(max_examples=120, deadline=None)
@given(WORKS)
def test_a_plan_with_any_work_comes_back_the_same(work: Work) -> None:
    plan = _plan(work)

    back = from_json(Plan, parse(canonical(to_json(plan))))

    assert back == plan
    assert digest(to_json(back)) == digest(to_json(plan))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_an_event_comes_back_the_same(data: dict[str, object]) -> None:
    event = Event(kind="step ended", key="3/web1", host="web1", attempt=1, data=data)  # type: ignore[arg-type]

    assert from_json(Event, parse(canonical(to_json(event)))) == event


@pytest.mark.parametrize(
    "value",
    [
        Runbook(
            file="a",
            name="n",
            version="1",
            summary="s",
            sources={"a": "text"},
            params=(Param(name="p", type="int", place=PLACE, default=3),),
            steps=(
                Step(
                    position="1",
                    name="s",
                    kind="run",
                    place=PLACE,
                    args={"run": "true"},
                    on=On(scope="group", group="lb"),
                    with_={"a": 1},
                    undo=(Step(position="1u1", name="u", kind="run", place=PLACE, args={}),),
                    include=Runbook(file="b", name="m", version="1", summary="s", sources={}),
                ),
            ),
        ),
        Inventory(file="f", source="s", digest="d", hosts={}, groups={"web": ("web1", "web2")}),
        Problem(place=PLACE, what="wrong", write="right", severity="warning"),
        Entry(run="r", number=1, at=1.5, previous="", hash="h", event=Event(kind="note")),
        Run(
            id="r",
            kind="run",
            runbook="deploy",
            version="1",
            plan="d",
            state="waiting",
            who="w",
            origin="o",
            reason="",
            created=1.0,
            ended=None,
            hosts={"web1": "undo failed"},
            actions={"k": ActionRecord(key="k", host="h", step="s", state="failed", ended=2.5)},
            saved={"web1": {"previous": "r0"}},
            question={"text": "go on?"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_other_value_comes_back_the_same(value: object) -> None:
    assert from_json(type(value), parse(canonical(to_json(value)))) == value


def test_a_text_of_one_fixed_part_is_a_plain_string() -> None:
    assert to_json(Notify(message=text("hello"))) == {"message": "hello"}


def test_a_field_with_its_default_is_left_out_so_that_new_fields_keep_old_digests() -> None:
    assert to_json(Wait(seconds=1)) == {"seconds": 1.0}
    assert to_json(Connection()) == {}


def test_whole_numbers_and_floats_in_a_float_field_have_one_digest() -> None:
    assert digest(to_json(Wait(seconds=5))) == digest(to_json(Wait(seconds=5.0)))


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


def test_the_digest_is_the_same_in_another_process() -> None:
    code = (
        "from opskit.model.codec import digest; from opskit.model.codec import to_json;"
        "from opskit.model.work import Command; from opskit.model.text import text;"
        "print(digest(to_json(Command(text=text('true'), secrets={'B': 'b', 'A': 'a'}))))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    here = digest(to_json(Command(text=text("true"), secrets={"A": "a", "B": "b"})))

    assert there.stdout.strip() == here


def test_a_path_that_is_not_utf_8_survives() -> None:
    work = Notify(message=text(b"/srv/\xff".decode("utf-8", "surrogateescape")))

    assert from_json(Notify, parse(canonical(to_json(work)))) == work


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_no_word_for_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": value})


def test_a_secret_is_never_written() -> None:
    event = Event(kind="note", data={"text": Secret("token", "hunter2hunter2")})  # type: ignore[dict-item]

    with pytest.raises(TypeError, match="Secret is not written") as raised:
        to_json(event)

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"message": "a", "colour": 1}, "unknown or missing: colour"),
        ({}, "unknown or missing: message"),
        ({"message": 3}, "expected a text, found int"),
        ([], "expected Notify, found list"),
    ],
)
def test_json_of_another_shape_is_refused(data: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Notify, data)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"work": {"type": "Explode"}}, {"batch": "0"}, {"undo": {}}])
def test_an_action_of_another_shape_is_refused(change: dict[str, object]) -> None:
    data = json.loads(canonical(to_json(_action(Wait(seconds=1)))))

    with pytest.raises(ValueError, match="expected"):
        from_json(Action, {**data, **change})  # type: ignore[dict-item]


def test_plans_differ_where_a_late_expression_differs() -> None:
    one = _plan(Notify(message=Text(parts=(Late(source="{{ a }}", names=("a",)),))))
    other = replace(one, actions=(_action(Notify(message=text("{{ a }}"))),))

    assert digest(to_json(one)) != digest(to_json(other))
