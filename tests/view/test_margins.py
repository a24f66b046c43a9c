"""Lines are broken at blanks, and what may be copied stays whole."""

import pytest

from opskit.view.margins import fitted, text
from opskit.view.paint import Paint, bare

LONG = "the shop is slow and nobody knows why `opskit hosts trust web1,web2` does not help at all"


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("as long as it may be, and no longer.....", ["as long as it may be, and no longer....."]),
        (
            LONG,
            ["the shop is slow and nobody knows why", "  `opskit hosts trust web1,web2` does",
             "  not help at all"],
        ),
        (
            "  asks         is the page as it should be, with pictures",
            ["  asks         is the page as it should", "               be, with pictures"],
        ),
        (
            "error: see /a/path/that/is/wider/than/the/whole/terminal/is.yaml for it",
            ["error: see", "  /a/path/that/is/wider/than/the/whole/terminal/is.yaml", "  for it"],
        ),
        ("  | what a host has printed stays as it has printed it", None),
        ("    $ echo this is the text that is sent to hosts >>/x", None),
        ("  opskit output 20261126-200421-nzfy 2 web1  what it printed", None),
        ("one ` alone is a word as any other word is, of course",
         ["one ` alone is a word as any other word", "  is, of course"]),
        ("漢字" * 5 + " " + "漢字" * 6, ["漢字" * 5, "  " + "漢字" * 6]),
    ],
)  # fmt: skip
def test_rows(line: str, rows: list[str] | None) -> None:
    assert fitted(line, 40) == (rows or [line])
    assert fitted(line, None) == [line]


def test_colour_takes_no_room_and_stays_whole() -> None:
    line = Paint(colour=True).bad("failed on web1") + ": " + LONG
    assert [bare(row) for row in fitted(line, 40, 4)] == fitted(bare(line), 40, 4)


def test_a_hang_leaves_room_for_words() -> None:
    rows = fitted(" " * 30 + "words that do not fit here", 40, 60)
    assert rows == [" " * 30 + "words that", " " * 16 + "do not fit here"]


def test_a_text_keeps_its_lines_and_its_end() -> None:
    assert text("a\n\n  b c\n", 80) == "a\n\n  b c\n"
    assert text("word " * 12, 40).splitlines() == ["word " * 7 + "word", "  word word word word"]
