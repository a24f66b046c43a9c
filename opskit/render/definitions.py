"""What an index is on: CREATE INDEX and its pieces, as a person or the server writes them → values.

The server writes an expression in its own words, so texts that differ may mean the same; what can
be told without asking it is told here.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from opskit.render.sql import Token, tokens

_OPEN, _CLOSE = frozenset("(["), frozenset(")]")
_SIGNS = frozenset("+-*/<>=~!@#%^&|`?:")
_SIMPLE = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED_WORDS = """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast char
    check collate collation column concurrently constraint create cross current_catalog
    current_date current_role current_schema current_time current_timestamp current_user default
    deferrable desc distinct do else end except false fetch for foreign freeze from full grant
    group having ilike in initially inner intersect into is isnull join lateral leading left
    like limit localtime localtimestamp natural not notnull null offset on only or order outer
    overlaps placing primary references returning right select session_user similar some
    symmetric system_user table tablesample then to trailing true union unique user using
    variadic verbose when where window with
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
"""What is no column's name without quotes (pg_get_keywords: R and T), or no type's (`"char"`)."""
_ALIASES = {"varchar_ops": "text_ops", "varchar_pattern_ops": "text_pattern_ops"}
"""Operator classes that are others under a name of their own."""


class DefinitionError(ValueError):
    """A text that is no piece of an index definition; the message says why."""


class IndexKey(NamedTuple):
    """One key: a column or an expression, and how it is ordered.

    `expression` is what `canonical` makes of it. `collation` and `operators` are empty where they
    are not said, so that the default holds.
    """

    expression: str
    collation: str = ""
    operators: str = ""
    descending: bool = False
    nulls_first: bool = False

    @property
    def column(self) -> bool:
        return is_name(self.expression)

    def __str__(self) -> str:
        words = self.expression if self.column else f"({self.expression})"
        words += f' COLLATE "{self.collation}"' if self.collation else ""
        words += f" {self.operators}" if self.operators else ""
        words += " DESC" if self.descending else ""
        if self.nulls_first == self.descending:
            return words
        return words + (" NULLS FIRST" if self.nulls_first else " NULLS LAST")


class Definition(NamedTuple):
    """A whole definition, less its name, its table and how it is stored."""

    method: str
    keys: tuple[IndexKey, ...]
    include: tuple[str, ...] = ()
    where: str = ""
    unique: bool = False
    nulls_distinct: bool = True

    def __str__(self) -> str:
        words = f"{'UNIQUE ' if self.unique else ''}{self.method} "
        words += f"({', '.join(map(str, self.keys))})"
        words += f" INCLUDE ({', '.join(self.include)})" if self.include else ""
        words += "" if self.nulls_distinct else " NULLS NOT DISTINCT"
        return words + (f" WHERE {self.where}" if self.where else "")


def is_name(text: str) -> bool:
    """Tell whether a canonical text is no more than the name of a column."""
    if _SIMPLE.fullmatch(text):
        return True
    return len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', "")


def pieces(text: str) -> list[Token]:
    """Cut a piece of a definition into tokens; DefinitionError for what is no expression."""
    found: list[Token] = []
    depth: list[str] = []
    for token in tokens(text):
        if token.kind == "space":
            continue
        if wrong := _misplaced(token):
            raise DefinitionError(wrong)
        if token.text in _OPEN:
            depth.append(token.text)
        elif token.text in _CLOSE and (not depth or depth.pop() + token.text not in ("()", "[]")):
            raise DefinitionError(f"`{token.text}` closes nothing")
        if found and _one_operator(found[-1], token):
            last = found.pop()
            token = Token(kind="other", text=last.text + token.text, start=last.start)
        found.append(token)
    if depth:
        raise DefinitionError(f"a `{depth[-1]}` is not closed")
    if not found:
        raise DefinitionError("it is empty")
    return found


def _misplaced(token: Token) -> str:
    """Say why a token can't be part of an expression; "" where it can."""
    if token.kind in ("comment", "block"):
        return "a comment has no place here"
    if token.text == ";":
        return "a `;` ends the statement"
    if token.kind == "parameter":
        return f"{token.text} stands for nothing here"
    return "" if _closed(token) else f"{token.text[:40]} has no end"


def _one_operator(first: Token, second: Token) -> bool:
    """Tell whether two signs that touch are of one operator, such as ->> or ::."""
    touch = first.start + len(first.text) == second.start
    return touch and _SIGNS.issuperset(first.text) and _SIGNS.issuperset(second.text)


def _closed(token: Token) -> bool:
    if token.kind in ("string", "escaped", "quoted"):
        quote = '"' if token.kind == "quoted" else "'"
        start = token.text.index(quote)
        inside = token.text[start + 1 :].replace(quote * 2, "")
        return inside.endswith(quote)
    if token.kind == "dollar":
        mark = token.text[: token.text.index("$", 1) + 1]
        return len(token.text) >= 2 * len(mark) and token.text.endswith(mark)
    return True


def quoted(name: str) -> str:
    """Write a name as `canonical` leaves it."""
    return name if _bare(name) else '"' + name.replace('"', '""') + '"'


def _bare(name: str) -> bool:
    """Tell whether a name needs no quotes as that of a column."""
    return _SIMPLE.fullmatch(name) is not None and name not in _RESERVED


@lru_cache(4096)
def expressions(text: str) -> tuple[str, ...]:
    """Read a list of expressions, such as pg_get_expr returns for an index."""
    return tuple(_joined(part) for part in split(pieces(text)))


@lru_cache(4096)
def canonical(text: str) -> str:
    """Write an expression without what means nothing: space, outer brackets, case of names."""
    if _SIMPLE.fullmatch(text):
        return text
    return _joined(pieces(text))


def _joined(found: Sequence[Token]) -> str:
    while _wrapped(found):
        found = found[1:-1]
    return " ".join(_word(token) for token in found)


def _word(token: Token) -> str:
    if token.kind == "word":
        return token.text.lower()
    if token.kind == "quoted" and _bare(token.word):
        return token.word
    return token.text


def _wrapped(found: Sequence[Token]) -> bool:
    """Tell whether the first bracket closes only at the end."""
    if len(found) < 3 or found[0].text != "(" or found[-1].text != ")":
        return False
    depth = 0
    for token in found[:-1]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0:
            return False
    return True


@lru_cache(4096)
def index_key(text: str) -> IndexKey:
    """Read one key of an index, such as `lower(email) text_pattern_ops DESC NULLS LAST`."""
    if _SIMPLE.fullmatch(text):
        return IndexKey(expression=quoted(text))
    return _key(pieces(text))


def _key(found: list[Token]) -> IndexKey:
    descending, nulls = False, ""
    if len(found) > 2 and found[-2].key == "nulls" and found[-1].key in ("first", "last"):
        nulls, found = found[-1].key, found[:-2]
    if len(found) > 1 and found[-1].key in ("asc", "desc"):
        descending, found = found[-1].key == "desc", found[:-1]
    found, operators = _operators(found)
    found, collation = _collation(found)
    if not _one_term(found):
        raise DefinitionError("an expression that is not a call stands in brackets: ((a || b))")
    return IndexKey(
        expression=quoted(found[0].word) if len(found) == 1 else _joined(found),
        collation=collation,
        operators=operators,
        descending=descending,
        nulls_first=nulls == "first" if nulls else descending,
    )


def _name_at_end(found: list[Token]) -> int:
    """Return how many tokens of a qualified name stand at the end."""
    count = 1 if found and found[-1].kind in ("word", "quoted") else 0
    while count and len(found) > count + 1 and found[-count - 1].text == ".":
        count += 2
    return count


def _operators(found: list[Token]) -> tuple[list[Token], str]:
    """Split off the operator class: the name that follows a whole term."""
    count = _name_at_end(found)
    rest = found[:-count] if count else found
    if not count or not rest or rest[-1].key == "collate" or rest[-1].text == ".":
        return found, ""
    if not (_one_term(rest) or _collation(rest)[1]):
        return found, ""
    return rest, operator_class(found[-1].word)


def _collation(found: list[Token]) -> tuple[list[Token], str]:
    count = _name_at_end(found)
    if count and len(found) > count + 1 and found[-count - 1].key == "collate":
        return found[: -count - 1], found[-1].word
    return found, ""


def _one_term(found: Sequence[Token]) -> bool:
    """Tell whether this is a name, a call, or something in brackets."""
    if len(found) == 1:
        return found[0].kind in ("word", "quoted")
    if _wrapped(found):
        return True
    start = next((n for n, token in enumerate(found) if token.text == "("), 0)
    named = start > 0 and _name_at_end(list(found[:start])) == start
    return named and (len(found) == start + 2 or _wrapped(found[start:]))


def operator_class(name: str) -> str:
    return _ALIASES.get(name, name)


def split(found: Sequence[Token]) -> list[list[Token]]:
    """Split at the commas outside brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in found:
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


@lru_cache(4096)
def definition(text: str) -> Definition:
    """Read what pg_get_indexdef returns."""
    found = pieces(text)
    at = next(n for n, token in enumerate(found) if token.key == "using")
    method = found[at + 1].word
    keys_at, rest = _bracketed(found[at + 2 :])
    include: tuple[str, ...] = ()
    if rest and rest[0].key == "include":
        inside, rest = _bracketed(rest[1:])
        include = tuple(_joined(part) for part in split(inside))
    where = next((n for n, token in enumerate(rest) if token.key == "where"), len(rest))
    words = [token.key for token in rest[:where]]
    return Definition(
        method=method,
        keys=tuple(_key(part) for part in split(keys_at)),
        include=include,
        where=_joined(rest[where + 1 :]) if rest[where + 1 :] else "",
        unique=found[1].key == "unique",
        nulls_distinct=words[:3] != ["nulls", "not", "distinct"],
    )


def _bracketed(found: list[Token]) -> tuple[list[Token], list[Token]]:
    """Return what is inside the brackets that come first, and what follows them."""
    depth = 0
    for number, token in enumerate(found):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0:
            return found[1:number], found[number + 1 :]
    raise DefinitionError("a bracket is not closed")


def signature(text: str) -> tuple[str, str]:
    """Read schema (or "") and name of `schema.name(type, …)`; DefinitionError for what is none."""
    name, _ = _called(text)
    return relation_name("".join(token.text for token in name))


def arguments(text: str) -> list[str]:
    """Return the types in a signature."""
    _, rest = _called(text)
    inside, _ = _bracketed(rest)
    return [_joined(part) for part in split(inside)] if inside else []


def _called(text: str) -> tuple[list[Token], list[Token]]:
    """Cut a signature before its bracket."""
    found = pieces(text)
    at = next((n for n, token in enumerate(found) if token.text == "("), 0)
    if not at or found[-1].text != ")":
        raise DefinitionError("the types of its arguments are missing: NAME(TYPE, …) or NAME()")
    return found[:at], found[at:]


@lru_cache(4096)
def relation_name(text: str) -> tuple[str, str]:
    """Read `schema.name` or `name` as the server would; DefinitionError where it is neither."""
    if _SIMPLE.fullmatch(text):
        return "", text
    found = pieces(text)
    words = [token.word for token in found if token.kind in ("word", "quoted")]
    shape = [token.text for token in found if token.kind not in ("word", "quoted")]
    if len(words) == len(found) == 1:
        return "", words[0]
    if len(words) == 2 and shape == ["."]:
        return words[0], words[1]
    raise DefinitionError("it is no name: write NAME or SCHEMA.NAME")
