"""A column as ADD COLUMN has it: whether a table in use can take it at once."""

from collections.abc import Sequence
from itertools import pairwise

from opskit.model.frozen import frozen
from opskit.render.cursor import Cursor
from opskit.render.reads import STEADY, calls
from opskit.render.sql import Token

_SERIAL = frozenset({"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"})
_ENDS = frozenset(
    {"not", "null", "unique", "primary", "references", "check", "constraint", "generated"}
    | {"collate", "default", "deferrable", "initially", "compression", "storage"}
)
"""Keywords that may come after the expression of a default."""


@frozen
class Column:
    """A column that is added: what is wrong with it, and what rows written without it meet.

    `faults`: what and what to write. `default`: it has one that is not null.
    """

    required: bool
    default: bool
    faults: Sequence[tuple[str, str]]


def column(at: Cursor) -> Column:
    """Read what comes after the name of a column that is added."""
    tokens = at.tokens[at.place :]
    keys = _outside(tokens)
    value = _default(tokens)
    serial = bool(tokens) and tokens[0].word in _SERIAL
    made = "generated" in keys or serial
    default = bool(value) and [token.key for token in value] != ["null"]
    required = _pair(keys, "not", "null") or serial or "identity" in keys
    faults = []
    if made:
        faults.append(("a value is worked out for each row: the table is rewritten", _BATCHES))
    if (called := _volatile(value)) is not None:
        told = f"the default calls {called}(), which may differ in each row: the table is rewritten"
        faults.append((told, _BATCHES))
    if "unique" in keys or "primary" in keys:
        told = "UNIQUE builds an index while the table stands still"
        faults.append((told, "add the column alone, then a unique index CONCURRENTLY"))
    if "check" in keys or ("references" in keys and default):
        told = f"{'CHECK' if 'check' in keys else 'REFERENCES'} reads the whole table"
        faults.append((f"{told} while it stands still", "add the column alone, then it NOT VALID"))
    return Column(required=required, default=default or made, faults=tuple(faults))


_BATCHES = "add the column with null=True, and fill it in in batches"


def _outside(tokens: Sequence[Token]) -> list[str]:
    """Return the keywords that stand in no brackets."""
    found, depth = [], 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if not depth and token.key:
            found.append(token.key)
    return found


def _pair(keys: Sequence[str], first: str, second: str) -> bool:
    return any(pair == (first, second) for pair in pairwise(keys))


def _default(tokens: Sequence[Token]) -> Sequence[Token]:
    """Return the expression of the default; empty where there is none."""
    depth = 0
    start = None
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if start is None and not depth and token.key == "default":
            start = place + 1
        elif start is not None and not depth and place > start and token.key in _ENDS:
            return tokens[start:place]
    return tokens[start:] if start is not None else ()


def _volatile(value: Sequence[Token]) -> str | None:
    """Return the function in a default of which nobody knows that it gives all rows the same."""
    return next((name for name, own in calls(value) if own or name.lower() not in STEADY), None)
