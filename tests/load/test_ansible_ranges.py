"""Ranges of hosts: what stands for them, whatever their ends; and no text breaks a reader."""

import string
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.load.ansible.gathered import Gathered
from opskit.load.ansible.ini import read_ini
from opskit.load.ansible.patterns import MOST, PatternError, expand
from opskit.load.ansible.texts import Text
from opskit.load.ansible.tree import read_tree, read_vars

Piece = tuple[str, list[str]]
"""A range as it is written, and what it stands for."""


@st.composite
def numbers(draw: st.DrawFn) -> Piece:
    first = draw(st.integers(0, 120))
    last = first + draw(st.integers(0, 12))
    step = draw(st.integers(1, 5))
    width = max(len(str(last)), draw(st.integers(1, 4)))
    padded = draw(st.booleans()) and len(str(first)) < width
    begin = str(first).zfill(width) if padded else str(first)
    end = str(last).zfill(width) if padded else str(last)
    names = [str(n).zfill(width if padded else 0) for n in range(first, last + 1) if
             (n - first) % step == 0]  # fmt: skip
    return f"[{begin}:{end}{f':{step}' if step > 1 else ''}]", names


@st.composite
def letters(draw: st.DrawFn) -> Piece:
    ends = sorted(draw(st.tuples(st.integers(0, 51), st.integers(0, 51))))
    step = draw(st.integers(1, 60))
    every = string.ascii_letters[ends[0] : ends[1] + 1]
    written = f"[{every[0]}:{every[-1]}:{step}]"
    return written, [letter for n, letter in enumerate(every) if n % step == 0]


plain = st.text("abz09.-_", max_size=4).map(lambda text: (text, [text]))


@given(st.lists(st.one_of(numbers(), letters(), plain), max_size=5), st.integers(0, 65535))
def test_a_pattern_stands_for_each_choice_from_the_left_to_the_right(
    pieces: list[Piece], port: int
) -> None:
    written = "h" + "".join(text for text, _ in pieces)
    wanted = ["h" + "".join(names) for names in product(*(names for _, names in pieces))]
    if len(wanted) > MOST:
        with pytest.raises(PatternError):
            expand(written)
        return
    assert expand(written) == (tuple(wanted), None)
    if port:
        assert expand(f"{written}:{port}") == (tuple(wanted), port)


@given(st.text("ab[]:019.-", max_size=12))
def test_any_text_is_hosts_or_a_mistake(text: str) -> None:
    try:
        names, port = expand(text)
    except PatternError:
        return
    assert 0 < len(names) <= MOST
    assert port is None or 0 < port < 65536
    assert not any("[" in name or "]" in name for name in names)


@settings(max_examples=60)
@given(st.text("ab[]:=,{}'\" \n#!&*<-1.|$~?", max_size=60))
def test_no_text_breaks_a_reader(text: str) -> None:
    for read in (read_ini, read_tree, read_vars):
        problems: list[object] = []
        into = Gathered("f", problems)  # type: ignore[arg-type]
        read(Text("f", text), into)
        into.settle()
        assert set(into.members()["all"]) == set(into.hosts)
        assert all(str(problem).startswith("f") for problem in problems)
