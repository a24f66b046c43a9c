"""Nothing that a host prints can steer the terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.view import safe

HOSTILE = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1b]52;c;ZXZpbA==\x1b\\",
    "\x9b31m",
    "\x9d0;t\x9c",
    "\x1bc",
    "\x1b(0",
    "\x07\x08\x0b\x0c\x00\x7f",
    "\u202e\u2066\u200f\u061c",
    "\u2028\ufeff\u200b",
    "\ud800",
    "\U000e0041",
]


def harmful(text: str) -> list[str]:
    return [c for c in text if c not in "\n\t" and re.match(safe._HARMFUL, c)]


@pytest.mark.parametrize("sequence", HOSTILE)
def test_control_sequences_disappear_from_output_and_leave_the_text(sequence: str) -> None:
    assert safe.stripped(f"a{sequence}b") in ("ab", "a\x0bb".replace("\x0b", ""))


@pytest.mark.parametrize("sequence", HOSTILE)
def test_in_a_plan_control_characters_are_spelt_out(sequence: str) -> None:
    shown = safe.visible(f"a{sequence}b")
    assert harmful(shown) == []
    assert "\\x" in shown or "\\u" in shown


@given(st.text())
def test_no_text_at_all_keeps_a_harmful_character(text: str) -> None:
    assert harmful(safe.stripped(text)) == []
    assert harmful(safe.visible(text)) == []
    assert "\n" not in safe.one_line(text)
    assert "\t" not in safe.one_line(text)


def test_an_unfinished_sequence_does_not_swallow_what_follows() -> None:
    assert "the error\nand more" in safe.stripped("\x1b]0;the error\nand more")


def test_a_progress_bar_becomes_lines() -> None:
    assert safe.stripped("10%\r20%\r\nend") == "10%\n20%\nend"


def test_ordinary_text_of_any_language_stays() -> None:
    text = "größe 変更 🧑‍🚒 e\u0301\tend\n"
    assert safe.stripped(text) == text
    assert safe.visible(text) == text


def test_bytes_that_are_not_utf8_can_be_shown() -> None:
    assert safe.decoded(b"\xff\xfe ok\x1b[1m") == "\ufffd\ufffd ok"


@given(st.text(max_size=40), st.integers(min_value=1, max_value=50))
def test_a_line_never_gets_wider_than_its_room(text: str, columns: int) -> None:
    line = safe.one_line(text)
    assert safe.width(safe.cut(line, columns)) <= columns
    assert safe.width(safe.padded(line, columns)) == columns


def test_wide_characters_take_two_columns() -> None:
    assert safe.width("変更") == 4
    assert safe.width("e\u0301") == 1
