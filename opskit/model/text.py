"""A rendered text: parts that are known at plan time, and parts that only the run will know."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.value import Json

Context = Literal["plain", "word", "url", "sql", "argument", "glob", "condition"]
"""How a late value is written where it stands: as it is, as one shell word, URL-encoded, bound to a
statement, as (a piece of) one argument, or (for a whole expression) as "True" or "False"."""


@frozen
class Fixed:
    """Text that is known when the plan is made."""

    text: str


@frozen
class Bound:
    """A value that goes to a database beside the statement, never in it; None is NULL.

    It is the text that the database reads as a value of whatever type is wanted there.
    """

    value: str | None

    def __str__(self) -> str:
        return "NULL" if self.value is None else "'" + self.value.replace("'", "''") + "'"


@frozen
class Late:
    """A template of which at least one name gets its value during the run.

    `source` is the template text with its braces, `names` what it waits for, `known` the values of
    the other names that it uses.
    """

    source: str
    names: tuple[str, ...]
    known: Mapping[str, Json] = field(default_factory=dict)
    context: Context = "plain"


@frozen
class Text:
    """Parts in order. A text with no late part is determined: what is planned is what will run."""

    parts: tuple[Fixed | Bound | Late, ...]

    @property
    def late(self) -> bool:
        return any(isinstance(part, Late) for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that this text waits for."""
        return tuple(n for part in self.parts if isinstance(part, Late) for n in part.names)

    def fixed(self) -> str:
        """Return the whole text; a late or a bound part in it is a bug of the caller."""
        words = []
        for part in self.parts:
            if isinstance(part, Late):
                raise TypeError(f"not known yet: {part.source}")
            if isinstance(part, Bound):
                raise TypeError("a bound value is no piece of a text")
            words.append(part.text)
        return "".join(words)

    def __str__(self) -> str:
        """Return it as it is shown: late parts as they were written, bound ones as literals."""
        return "".join(map(_shown, self.parts))


def _shown(part: Fixed | Bound | Late) -> str:
    match part:
        case Fixed():
            return part.text
        case Bound():
            return str(part)
        case Late():
            return part.source


def text(value: str) -> Text:
    """Make a text that is known as a whole."""
    return Text(parts=(Fixed(text=value),))
