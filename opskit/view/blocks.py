"""Texts of what an action will do, shortened so that a screen can hold them."""

from opskit.model.text import Text
from opskit.view import amounts, safe

LINES = 12
COLUMNS = 240
QUOTED, SENT = "| ", "$ "
VERBATIM = (QUOTED, SENT)
"""What begins a text that is shown as it is."""


def shown(text: Text | str) -> str:
    return safe.one_line(str(text))


def block(lead: str, text: str, *, full: bool) -> list[str]:
    """Indent a text under its first words; a quoted one has its mark on every line."""
    rows = [safe.visible(row).expandtabs(4) for row in text.rstrip("\n").split("\n")]
    kept = rows if full or len(rows) <= LINES else rows[: LINES - 4]
    short = [row if full else narrow(row) for row in kept]
    if len(kept) < len(rows):
        short.append(f"… {amounts.count(len(rows) - len(kept), 'more line')} (--full shows them)")
    rest = lead if lead == QUOTED else " " * len(lead)
    return [(lead if n == 0 else rest) + row for n, row in enumerate(short)]


def narrow(row: str) -> str:
    if len(row) <= COLUMNS:
        return row
    return f"{row[: COLUMNS - 40]}… {len(row) - COLUMNS + 40} more characters (--full)"
