"""Values of parameters: which source wins, what each type takes, and that secrets stay secret."""

import json
import traceback
from pathlib import Path

import pytest

from opskit import load
from opskit.load import Parameters
from opskit.model.problem import ProblemsError
from opskit.model.runbook import Param, Runbook
from opskit.model.value import Json

HEAD = "opskit: 1\nname: case\nversion: 1.0.0\nsummary: A case\n"


def book(tmp_path: Path, params: str) -> Runbook:
    path = tmp_path / "case.yaml"
    path.write_text(f"{HEAD}params:\n  {params}\nsteps:\n  - run: 'true'\n")
    return load.runbook(path)


def give(runbook: Runbook, **given: str) -> Parameters:
    return load.parameters(runbook, given, None, {}, None)


def told(runbook: Runbook, **given: str) -> str:
    with pytest.raises(ProblemsError) as caught:
        give(runbook, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("param", "text", "value"),
    [
        ("{type: string}", "1.10", "1.10"),
        ("{type: string}", "", ""),
        ("{type: string}", "a\nb\t'\"$(id);é", "a\nb\t'\"$(id);é"),
        ("{type: string, pattern: '[a-z]+'}", "abc", "abc"),
        ("{type: int}", "-3", -3),
        ("{type: int, min: 1, max: 3}", "3", 3),
        ("{type: number}", "2.50", 2.5),
        ("{type: number}", "2", 2),
        ("{type: bool}", "true", True),
        ("{type: bool}", "False", False),
        ("{type: enum, choices: [on, 1.10]}", "on", "on"),
        ("{type: enum, choices: [on, 1.10]}", "1.10", "1.10"),
        ("{type: duration}", "1h30m", 5400),
        ("{type: duration}", "250ms", 0.25),
        ("{type: duration}", "90", 90),
    ],
)
def test_a_value_fits_its_type(tmp_path: Path, param: str, text: str, value: Json) -> None:
    found = give(book(tmp_path, f"x: {param}"), x=text).public
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    ("param", "text", "problem"),
    [
        ("{type: string}", "a\0b", "it has a NUL character, which nothing can carry → take it out"),
        ("{type: string}", "\udcff", "it is not UTF-8 text → text in UTF-8"),
        ("{type: string, pattern: '[a-z]+'}", "abc\n", "'abc\\n' does not fit → a text that"),
        ("{type: string, pattern: '[a-z]+'}", "-rf", "'-rf' does not fit"),
        ("{pattern: '[a-z]+', help: a word}", "-rf", "a text that matches [a-z]+ (a word)"),
        ("{type: int}", "3.0", "'3.0' can't be read → a whole number such as 3"),
        ("{type: int}", "1_000", "'1_000' can't be read"),
        ("{type: int}", "٣", "'٣' can't be read"),
        ("{type: int}", "010", "'010' can't be read"),
        ("{type: int}", "9" * 30, "can't be read"),
        ("{type: int, min: 1}", "0", "0 is too little → 1 or more"),
        ("{type: number}", "NaN", "'NaN' can't be read → a number such as 2.5"),
        ("{type: number}", "inf", "'inf' can't be read"),
        ("{type: number}", "1e999", "'1e999' can't be read"),
        ("{type: number, max: 1}", "1.01", "1.01 is too much → 1 or less"),
        ("{type: bool}", "yes", "'yes' is neither → true or false"),
        ("{type: enum, choices: [red, green]}", "gren", "'gren' is not a choice → green"),
        ("{type: duration}", "1:30", "'1:30' can't be read → a duration such as 10s, 5m or 1h30m"),
        ("{type: duration, max: 1h}", "2h", "2h is too much → 1h or less"),
        ("{type: file}", "", "it is empty → the path of a file"),
        ("{type: file}", "nowhere", "is not there → the path of a file"),
        ("{type: file}", "/", "is a directory → the path of a file"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(tmp_path: Path, param: str, text: str, problem: str) -> None:
    message = told(book(tmp_path, f"x: {param}"), x=text)
    assert problem in message
    assert message.startswith("-p x: `x`: ")


def test_the_command_line_wins_over_file_over_environment_over_default(tmp_path: Path) -> None:
    runbook = book(tmp_path, "\n  ".join(f"{name}: {{default: default}}" for name in "abcd"))
    file = tmp_path / "params.yaml"
    file.write_text("a: file\nb: file\n")
    environ = {f"OPSKIT_PARAM_{name}": "environment" for name in "ABC"}
    found = load.parameters(runbook, {"a": "given"}, file, environ, None).public
    assert found == {"a": "given", "b": "file", "c": "environment", "d": "default"}


def test_a_file_of_parameters_may_be_json_and_keeps_texts_as_written(tmp_path: Path) -> None:
    runbook = book(tmp_path, "release: string\n  count: int\n  quick: bool")
    file = tmp_path / "params.json"
    file.write_text(json.dumps({"release": "1.10", "count": 3, "quick": True}))
    expected = {"release": "1.10", "count": 3, "quick": True}
    assert load.parameters(runbook, {}, file, {}, None).public == expected
    file.write_text("release: 1.10\ncount: 3\nquick: true\n")
    assert load.parameters(runbook, {}, file, {}, None).public == expected


def test_problems_of_a_file_have_their_place(tmp_path: Path) -> None:
    runbook = book(tmp_path, "release: string\n  count: int")
    file = tmp_path / "params.yaml"
    file.write_text("relase: a\ncount: many\nrelease: [a]\n")
    with pytest.raises(ProblemsError) as caught:
        load.parameters(runbook, {}, file, {}, None)
    assert [str(p).removeprefix(str(file)) for p in caught.value.problems] == [
        ":1:1: case has no parameter 'relase' → release",
        ":3:10: `release`: a list can't be a parameter → write a single value",
        f"{tmp_path}/case.yaml:6:3: `release` is needed → -p release=…",
        ":2:8: `count`: 'many' can't be read → a whole number such as 3",
    ]


def test_an_unknown_parameter_gets_the_nearest_name(tmp_path: Path) -> None:
    message = told(book(tmp_path, "release: {default: a}"), relaese="b")
    assert "-p relaese: case has no parameter 'relaese' → release" in message


def test_everything_missing_is_told_at_once(tmp_path: Path) -> None:
    message = told(book(tmp_path, "one: {help: the first}\n  two: int\n  three: {type: secret}"))
    assert "`one` is needed: the first → -p one=…" in message
    assert "`two` is needed → -p two=…" in message
    assert "`three` is needed → set OPSKIT_PARAM_THREE, or use --params FILE" in message


def test_what_need_not_be_given_is_null(tmp_path: Path) -> None:
    runbook = book(tmp_path, "one: {required: false}\n  two: {type: secret, required: false}")
    assert give(runbook) == Parameters(public={"one": None}, secrets={})


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(param: Param, wrong: str) -> str:
        asked.append(param.name)
        return "7" if param.type == "int" else "a long secret"

    runbook = book(tmp_path, "one: int\n  two: {type: secret}\n  three: {default: x}")
    found = load.parameters(runbook, {}, None, {}, ask)
    assert asked == ["one", "two"]
    assert found.public == {"one": 7, "three": "x"}
    assert found.secrets["two"].reveal() == "a long secret"


def test_what_is_no_answer_is_asked_for_again_and_it_is_said_why(tmp_path: Path) -> None:
    answers = ["three", "3"]
    told: list[str] = []

    def ask(param: Param, wrong: str) -> str:
        told.append(wrong)
        return answers.pop(0)

    found = load.parameters(book(tmp_path, "one: int"), {}, None, {}, ask)
    assert found.public == {"one": 3}
    assert told == ["", "`one`: 'three' can't be read → a whole number such as 3"]


def test_asking_has_an_end(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(param: Param, wrong: str) -> str:
        asked.append(wrong)
        return "three"

    with pytest.raises(ProblemsError, match="can't be read"):
        load.parameters(book(tmp_path, "one: int"), {}, None, {}, ask)
    assert len(asked) == 5


def test_nobody_is_asked_when_something_is_wrong_already(tmp_path: Path) -> None:
    def ask(param: Param, wrong: str) -> str:
        raise AssertionError(param.name)

    with pytest.raises(ProblemsError, match="no parameter 'three'"):
        load.parameters(book(tmp_path, "one: int"), {"three": "3"}, None, {}, ask)


def test_a_file_becomes_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.tar").touch()
    runbook = book(tmp_path, "x: {type: file}\n  y: {type: file, default: b.tar}")
    monkeypatch.chdir(tmp_path / "here")
    found = give(runbook, x="a.tar").public
    assert found == {"x": str(tmp_path / "here/a.tar"), "y": str(tmp_path / "b.tar")}


SECRET = "s3cr3t-value"


def test_a_secret_on_the_command_line_is_refused_and_not_shown(tmp_path: Path) -> None:
    message = told(book(tmp_path, "token: {type: secret}"), token=SECRET)
    assert "`token` is a secret; on a command line others can read it" in message
    assert SECRET not in message


@pytest.mark.parametrize("value", ["short", SECRET[:5] + "\n", "\0" + SECRET])
def test_a_secret_that_will_not_do_is_not_shown(tmp_path: Path, value: str) -> None:
    runbook = book(tmp_path, "token: {type: secret}")
    with pytest.raises(ProblemsError) as caught:
        load.parameters(runbook, {}, None, {"OPSKIT_PARAM_TOKEN": value}, None)
    shown = "".join(traceback.format_exception(caught.value))
    assert value.strip("\0\n") not in shown.replace(str(tmp_path), "")


def test_a_secret_is_taken_from_file_or_environment_without_its_last_newline(
    tmp_path: Path,
) -> None:
    runbook = book(tmp_path, "token: {type: secret}")
    file = tmp_path / "p.yaml"
    file.write_text(f"token: |\n  {SECRET}\n")
    for path, environ in ((file, {}), (None, {"OPSKIT_PARAM_TOKEN": SECRET})):
        found = load.parameters(runbook, {}, path, environ, None)
        assert found.secrets["token"].reveal() == SECRET
        assert SECRET not in repr(found)
        assert found.public == {}
