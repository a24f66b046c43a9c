"""Where expressions stand in an SQL template, and where a value can't be bound."""

import re
from functools import lru_cache

from opskit.model.frozen import frozen
from opskit.render.sql import Token, tokens

_NEUTRAL = "\ue000"
_INSIDE = {
    "string": ("inside quotes", "without them; a text is put together as 'a' || {{ x }}"),
    "escaped": ("inside quotes", "without them; a text is put together as 'a' || {{ x }}"),
    "quoted": ("inside the quotes of a name", "{{ x | identifier }} without them"),
    "comment": ("in a comment", "take it out: nothing is bound there"),
    "block": ("in a comment", "take it out: nothing is bound there"),
    "dollar": ("inside $$ … $$", "nothing is bound there: hand it over as an argument"),
}
_RAW = re.compile(r"\|\s*raw\s*$")
_IDENTIFIER = re.compile(r"\|\s*identifier\s*$")


@frozen
class SqlProblem:
    """An expression at `offset` of the template stands where its value can't be bound."""

    offset: int
    what: str
    write: str


@lru_cache(maxsize=1024)
def sql_problems(template: str) -> tuple[SqlProblem, ...]:
    """Find every expression of an SQL template that stands where its value can't be bound."""
    text, holes = neutral(template)
    pieces = list(tokens(text))
    found = [_numbered(template, token) for token in pieces if token.kind == "parameter"]
    for at, (offset, expression) in holes.items():
        if _RAW.search(expression):
            continue
        token = next(t for t in pieces if t.start <= at < t.start + len(t.text))
        if token.kind in _INSIDE:
            what, write = _INSIDE[token.kind]
            what = f"an expression stands {what}"
            found.append(SqlProblem(offset=offset, what=what, write=write))
        elif (near := _beside(text, at, expression)) is not None:
            found.append(SqlProblem(offset=offset, what=near[0], write=near[1]))
    return tuple(found)


def _numbered(template: str, token: Token) -> SqlProblem:
    told = f"{token.text} is no value of this step's"
    return SqlProblem(offset=template.find(token.text), what=told, write="{{ the value }}")


def _beside(text: str, at: int, expression: str) -> tuple[str, str] | None:
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    name = bool(_IDENTIFIER.search(expression))
    if re.match(r"[\w$\ue000]", before) or re.match(r"[\w$\ue000]", after):
        told = "an expression is part of a word"
        return told, "a name: {{ ('part_' ~ x) | identifier }}; a text: 'part' || {{ x }}"
    if not name and "." in (before, after):
        told = "a name can't be bound as a value is"
        return told, "{{ [schema, table] | identifier }}"
    return None


def offset_in(template: str, holes: dict[int, tuple[int, str]], at: int) -> int:
    """Return where in a template a place of its neutral text is, as near as can be told."""
    before = [(place, offset) for place, (offset, _) in holes.items() if place < at]
    if not before:
        return min(at, max(0, len(template) - 1)) if "{%" not in template else 0
    place, offset = before[-1]
    end = template.find("}}", offset)
    return min(end + 2 + at - place - 1, len(template) - 1)


def neutral(template: str) -> tuple[str, dict[int, tuple[int, str]]]:
    """Put one letter for each expression of a template, and nothing for its tags.

    Returns the text, and by the place of each letter where the expression stood and what it is.
    """
    from opskit.render import engine

    pieces: list[str] = []
    holes: dict[int, tuple[int, str]] = {}
    offset = length = began = 0
    inside = ""
    for _, kind, value in engine.tokens(template):
        found = template.find(value, offset)
        offset = found if found >= 0 else offset
        if kind == "variable_begin":
            inside, began = kind, offset
        elif kind in ("block_begin", "comment_begin"):
            inside = kind
        elif kind == "variable_end":
            holes[length] = (began, template[began + 2 : offset].rstrip("-"))
            pieces.append(_NEUTRAL)
            length, inside = length + 1, ""
        elif kind in ("block_end", "comment_end"):
            inside = ""
        elif not inside and kind == "data":
            pieces.append(value)
            length += len(value)
        offset += len(value)
    return "".join(pieces), holes
