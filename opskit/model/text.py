"""A rendered text: parts that are known at plan time, and parts that only the run will know."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.value import Json

Context = Literal["plain", "word", "url", "condition"]
"""How a late value is written where it stands: as it is, as one shell word, URL-encoded, or (for a
whole expression) as "True" or "False"."""


@frozen
class Fixed:
    """Text that is known when the plan is made."""

    text: str


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

    parts: tuple[Fixed | Late, ...]

    @property
    def late(self) -> bool:
        return any(isinstance(part, Late) for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that this text waits for."""
        return tuple(n for part in self.parts if isinstance(part, Late) for n in part.names)

    def fixed(self) -> str:
        """Return the whole text; a late part left in it is a bug of the caller."""
        words = []
        for part in self.parts:
            if isinstance(part, Late):
                raise TypeError(f"not known yet: {part.source}")
            words.append(part.text)
        return "".join(words)

    def __str__(self) -> str:
        return "".join(p.source if isinstance(p, Late) else p.text for p in self.parts)


def text(value: str) -> Text:
    """Make a text that is known as a whole."""
    return Text(parts=(Fixed(text=value),))
