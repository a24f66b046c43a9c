"""YAML means one thing here, and what could mean two is refused or stays the text that it is."""

import random
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opskit import load
from opskit.load.yaml import LARGEST, Scalar, Table, parse, plain
from opskit.model.value import Json


def data(text: str) -> Json:
    parsed = parse(text.encode(), "f")
    assert parsed.problems == []
    assert parsed.root is not None
    return plain(parsed.root)


def problems(raw: bytes) -> list[str]:
    return [str(problem) for problem in parse(raw, "f").problems]


NUMBERS: list[tuple[str, Json]] = [("0", 0), ("1", 1), ("-7", -7), ("1.5", 1.5), ("-0.25", -0.25)]
WORDS: list[tuple[str, Json]] = [("true", True), ("False", False), ("~", None), ("", None)]
QUOTED: list[tuple[str, Json]] = [("'1'", "1"), ('"true"', "true"), ("'~'", "~"), ("''", "")]
TEXTS = re.findall(
    r"\S+",
    "yes no on off NO On y n 0755 010 1:30 1_000 1.10 1.0e3 0x1F 0o17 0b1 1e999 1e3 .5 5. .nan "
    ".inf NaN inf +1 -0 2001-01-01 = 123456789012345678901234567890 0.1234567890123456789",
)  # each is a number, a boolean or a date to some reader of YAML


@pytest.mark.parametrize(
    ("written", "value"), [*NUMBERS, *WORDS, *QUOTED, *((text, text) for text in TEXTS)]
)
def test_a_bare_word_means_what_it_looks_like(written: str, value: Json) -> None:
    read = data(f"a: {written}")
    assert read == {"a": value}
    assert isinstance(read, dict)
    assert type(read["a"]) is type(value)


def test_the_key_on_stays_a_text() -> None:
    assert data("on: once\nyes: 1\n2: two") == {"on": "once", "yes": 1, "2": "two"}


def test_places_count_from_one() -> None:
    root = parse(b"a: 1\nb:\n  c: x\n", "f").root
    assert isinstance(root, Table)
    inner = root.entries["b"][1]
    assert isinstance(inner, Table)
    key, value = inner.entries["c"]
    assert (key.line, key.column, value.line, value.column) == (3, 3, 3, 6)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"a: \x00b", "f:1:4: a NUL character → take it out; nothing can carry it"),
        (b'a: "x\\0y"', "f:1:4: a NUL character → take it out; nothing can carry it"),
        (b"a: 1\nb: \xff\xfe", "f:2:4: this is not UTF-8 text → save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "f:1:1: this is not UTF-8 text → save the file as UTF-8"),
        (b"a: 1\nb: \x07", "f:2:4: a control character → take it out, or use \\x.. in quotes"),
        (b"a:\n\tb: 1", "f:2:1: a tab in the indentation → indent with spaces"),
        (b"", "f: the file is empty"),
        (b"# nothing\n", "f: the file is empty"),
        (b"a: " + b"x" * LARGEST, "f: the file has 1.0 MiB → at most 1 MiB"),
        (b"? [a]\n: b", "f:1:3: a key that is not a text → write a plain word before the colon"),
        (b"? \n: b", "f:1:2: an empty key → write a name before the colon"),
        (b"a: &x [*x]",
         "f:1:8: nothing before this is marked &x → quote a value that begins with *"),
    ],
)  # fmt: skip
def test_what_is_not_our_yaml_is_told_in_words(raw: bytes, told: str) -> None:
    assert problems(raw) == [told]


def test_tabs_inside_values_are_fine() -> None:
    assert data("a: |\n  one\n  \ttwo\nb: x\ty") == {"a": "one\n\ttwo\n", "b": "x\ty"}


def test_a_byte_order_mark_and_windows_lines_are_fine() -> None:
    assert plain_of("﻿a: |\r\n  one\r\n  two\r\n") == {"a": "one\ntwo\n"}


def plain_of(text: str) -> Json:
    root = parse(text.encode(), "f").root
    assert root is not None
    return plain(root)


def test_aliases_share_what_they_name() -> None:
    assert data("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize("levels", [8, 20, 60])
def test_alias_bombs_are_refused_at_once(levels: int) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    began = time.process_time()
    assert len(problems("\n".join(lines).encode())) == 1
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "bomb",
    ["[" * 100_000, "{a: " * 50_000, "- " * 50_000, "".join(" " * i + "a:\n" for i in range(999))],
)
def test_deep_nesting_is_refused_at_once(bomb: str) -> None:
    began = time.process_time()
    assert len(problems(bomb.encode())) == 1
    assert time.process_time() - began < 2


@given(st.text(max_size=60))
def test_no_text_makes_it_fall_over(text: str) -> None:
    parsed = parse(text.encode("utf-8", "surrogatepass"), "f")
    assert parsed.problems or parsed.root is not None


leaves = st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text(max_size=8))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=6), trees, min_size=1, max_size=3))
def test_what_a_yaml_writer_writes_is_read_back(value: dict[str, Json]) -> None:
    written = yaml.safe_dump(value, allow_unicode=False, default_style='"')
    written = written.replace('!!null "null"', "null").replace('!!bool "true"', "true")
    written = written.replace('!!bool "false"', "false")
    parsed = parse(written.encode(), "f")
    if any("NUL" in problem.what or "tag" in problem.what for problem in parsed.problems):
        return  # refused on purpose (the writer tags its integers)
    assert parsed.root is not None
    assert plain(parsed.root) == value


def test_damaged_files_end_in_a_problem_or_a_tree() -> None:
    good = (
        b"steps:\n  - run: |\n      echo {{ x }}\n    on: {group: lb, per: host}\n    when: 'a'\n"
    )
    chance = random.Random(7)
    for _ in range(500):
        raw = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(len(raw))] = chance.choice(
                b"\t\n{}[]:'\"&*!|>%@`-? #\x00\xff\x80a"
            )
        parsed = parse(bytes(raw), "f")
        assert parsed.problems or parsed.root is not None


def test_a_doubtful_word_is_one_only_when_bare() -> None:
    root = parse(b"a: no\nb: 'no'\nc: nope", "f").root
    assert isinstance(root, Table)
    values = [value for _, value in root.entries.values()]
    assert [value.doubtful for value in values if isinstance(value, Scalar)] == [True, False, False]


def test_a_step_knows_where_each_of_its_keys_stands(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    head = "opskit: 1\nname: r\nversion: 1.0.0\nsummary: s\nsteps:\n"
    path.write_text(head + "  - name: look\n    http:\n      url: http://x/\n    timeout: 3s\n")
    places = load.runbook(path).steps[0].places
    found = {name: (place.line, place.column) for name, place in places.items()}
    assert found == {"name": (6, 5), "http": (7, 5), "http.url": (8, 7), "timeout": (9, 5)}
    assert len(places) == 4
    for missing in ("url", "http.body", "http.name", "save"):
        assert missing not in places
        assert places.get(missing) is None
