"""Lines no wider than a terminal: broken at blanks, and what goes on is set in.

What somebody may copy stays whole: a word, as ids and paths are, and what stands in backquotes, as
commands do. Nothing is broken where the width is not known: whoever reads that looks for lines.
"""

import re

from opskit.view import safe
from opskit.view.blocks import VERBATIM
from opskit.view.paint import bare

_PIECES = re.compile(r" *(?:`[^`]*`|[^ `]|`)+")
"""What is never broken, with the blanks before it."""
_LABEL = re.compile(r" *\S(?:\S| (?! ))*  +(?=\S)")
_LABELS = 26
"""A label is no wider; a text that happens to have two blanks somewhere has none."""
_AS_IT_IS = (*VERBATIM, "opskit ")
"""What begins the lines that were printed elsewhere, or that are to be typed."""
_LEAST = 24
"""So much room there is for what goes on, however deep it should be set in."""


def fitted(line: str, columns: int | None, hang: int | None = None) -> list[str]:
    """Break a line that is wider than `columns`; what goes on is set in by `hang`.

    Where that is not said, it stands under what follows the line's label, or a little deeper.
    """
    plain = bare(line)
    if columns is None or safe.width(plain) <= columns:
        return [line]
    if plain.lstrip().startswith(_AS_IT_IS):
        return [line]
    indent = " " * max(0, min(_hang(plain) if hang is None else hang, columns - _LEAST))
    rows, row = list[str](), ""
    for piece in _PIECES.findall(line):
        if bare(row).strip() and safe.width(bare(row + piece)) > columns:
            rows.append(row)
            row = indent + piece.lstrip(" ")
        else:
            row += piece
    return [*rows, row] if row else rows


def _hang(line: str) -> int:
    label = _LABEL.match(line)
    if label is not None and label.end() <= _LABELS:
        return label.end()
    return len(line) - len(line.lstrip(" ")) + 2


def text(lines: str, columns: int | None) -> str:
    """Break every line of a text."""
    if columns is None:
        return lines
    ends = "\n" if lines.endswith("\n") else ""
    rows = (row for line in lines.removesuffix("\n").split("\n") for row in fitted(line, columns))
    return "\n".join(rows) + ends
