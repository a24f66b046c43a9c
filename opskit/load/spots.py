"""From an offset in a text to the line and column where it stands in the file."""

from opskit.load.reading import Reader, Written
from opskit.load.yaml import Scalar
from opskit.model.problem import Place


def spot(reader: Reader, written: Written, offset: int) -> Place:
    """Return the place of a character of a template."""
    if written.file is not None:
        line, column = _inside(written.text, offset)
        return Place(file=written.file, line=line, column=column)
    line, column = _in_scalar(reader, written, offset)
    return Place(file=reader.file, line=line, column=column)


def _inside(text: str, offset: int) -> tuple[int, int]:
    line = text.count("\n", 0, offset)
    return line + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


def _in_scalar(reader: Reader, written: Written, offset: int) -> tuple[int, int]:
    node = written.node
    lines = reader.source.split("\n")[node.line - 1 : node.end]
    if node.style == "|":
        found = _literal(lines, written.text, offset, node)
    else:
        found = _flowed(lines, written.text, offset, node)
    return found or (node.line, node.column)


def _literal(lines: list[str], text: str, offset: int, node: Scalar) -> tuple[int, int] | None:
    """A block scalar keeps its lines, less their indentation."""
    row, column = _inside(text, offset)
    content = text.split("\n")[row - 1]
    source = lines[row].rstrip("\r") if row < len(lines) else ""
    if not source.endswith(content):
        return None
    return node.line + row, len(source) - len(content) + column


def _flowed(lines: list[str], text: str, offset: int, node: Scalar) -> tuple[int, int] | None:
    """Find the same words in the source, counting how often they stand before."""
    end = min(
        (i for i in (text.find(c, offset) for c in " \n'\"\\") if i > offset), default=len(text)
    )
    words = text[offset:end]
    before = text.count(words, 0, offset)
    skip = node.column - 1
    for row, line in enumerate(lines):
        at = line.find(words, skip)
        while at >= 0 and before:
            before -= 1
            at = line.find(words, at + 1)
        if at >= 0:
            return node.line + row, at + 1
        skip = 0
    return None
