"""What is to be written: rows of a file or of a query, each made a key, its value and its time.

Each is judged before it is taken, with the place where it stands: nothing is written of a source
that has one row which can't be.
"""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from opskit.drivers.redis.listing import ListingError
from opskit.model.frozen import frozen
from opskit.model.warm import Row, Source
from opskit.steps import globs
from opskit.steps.units import seconds_of
from opskit.steps.warm import FIELD

Item: TypeAlias = "tuple[bytes, bytes, int]"
"""A key, its value, and how long it stays, in ms."""


@frozen
class Heap:
    """Keys that are written at once, with their values and how long each stays, in ms."""

    keys: Sequence[bytes]
    values: Sequence[bytes]
    times: Sequence[int]

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Heap":
        keys, values, times = zip(*items, strict=True)
        return cls(keys=keys, values=values, times=times)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def items(self) -> list[Item]:
        return list(zip(self.keys, self.values, self.times, strict=True))

    def cut(self, first: int, count: int) -> "Heap":
        some = slice(first, first + count)
        return Heap(keys=self.keys[some], values=self.values[some], times=self.times[some])


LONGEST_KEY, LONGEST_VALUE = 1024, 1_000_000
LARGE = 100_000
"""From so many bytes on a value is told of."""
_LONGEST = 30 * 86400 * 1000
_PIECE = 1 << 20
_FIELD = 2 * LONGEST_VALUE
"""So many characters a column of a CSV may have: then a value that is too long is said to be."""


class _UnfitError(Exception):
    """A row can't become a key."""


def in_file(source: Source) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a file with the lines where they end; it must be what the plan has seen."""
    digest = hashlib.sha256()
    try:
        with Path(source.path).open("rb") as file:

            def lines() -> Iterator[str]:
                number = 0
                while piece := file.readlines(_PIECE):
                    digest.update(b"".join(piece))
                    for line in piece:
                        number += 1
                        yield _decoded(source, number, line)

            read = _csv if source.path.endswith(".csv") else _json
            yield from read(source, lines())
    except OSError as error:
        why = error.strerror or str(error)
        raise ListingError(f"{source.path} can't be read: {why}") from None
    if digest.hexdigest() != source.sha256:
        raise ListingError(f"{source.path} is not what it was when this was planned: plan it again")


def _decoded(source: Source, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise _at(source, number, "it is not UTF-8") from None


def _at(source: Source, number: int, what: str) -> ListingError:
    place = f"{source.path}:{number}" if source.path else f"row {number} of the query"
    return ListingError(f"{place}: {what}")


def _json(source: Source, lines: Iterator[str]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise _at(source, number, f"it is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise _at(source, number, "it is no JSON object: { … }")
        yield number, row


def _constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_constant)
"""Made once: making it takes longer than reading a line with it."""


def _csv(source: Source, lines: Iterator[str]) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD))
    reader = csv.reader(lines, strict=True)
    try:
        heading = next(reader, [])
        if len(set(heading)) != len(heading):
            raise _at(source, 1, "two columns have one name")
        for row in reader:
            if row and len(row) != len(heading):
                told = f"it has {len(row)} columns, and the heading {len(heading)}"
                raise _at(source, reader.line_num, told)
            if row:
                yield reader.line_num, dict(zip(heading, row, strict=True))
    except csv.Error as error:
        raise _at(source, reader.line_num, f"it is no CSV ({error})") from None


def items(
    source: Source, rows: Iterator[tuple[int, Row]], allow: tuple[str, ...], seen: set[bytes], *,
    long: bool,
) -> Iterator[Item]:  # fmt: skip
    """Make a key of each row; ListingError where one can't be. `long`: over 30 days, too.

    `seen`: the keys there were before, to which these are added.
    """
    key_of, value_of, ttl_of = _made(source.key), _made(source.value), _times(source.ttl)
    for number, row in rows:
        try:
            key = _key(key_of(row), allow)
            value = value_of(row).encode("utf-8", "surrogateescape")
            ttl = ttl_of(row)
        except _UnfitError as error:
            raise _at(source, number, str(error)) from None
        except UnicodeEncodeError:
            raise _at(source, number, "half of a surrogate pair stands in it") from None
        if len(value) > LONGEST_VALUE:
            told = f"its value has {len(value)} bytes"
            raise _at(source, number, f"{told}, more than {LONGEST_VALUE}")
        if too_long(ttl, long=long):
            told = "it would stay for more than 30 days"
            raise _at(source, number, f"{told}: give an override, a reason")
        if key in seen:
            raise _at(source, number, f"the key {_shown(key)} stands before it, too")
        seen.add(key)
        yield key, value, ttl


def _shown(key: bytes) -> str:
    return repr(key.decode(errors="replace")[:80])


def _key(text: str, allow: tuple[str, ...]) -> bytes:
    if not (text.isascii() and text.isprintable() and text.strip()) and (
        wrong := globs.unwritten(text)
    ):
        raise _UnfitError(f"the key can't be used: {wrong}")
    key = text.encode("utf-8", "surrogateescape")
    if len(key) > LONGEST_KEY:
        raise _UnfitError(f"the key has {len(key)} bytes, more than {LONGEST_KEY}")
    if not text.startswith(allow) or globs.foreign(text):
        raise _UnfitError(globs.unfit_name(text, allow))
    return key


def _made(template: str) -> Callable[[Row], str]:
    """Return what makes a text of a row; `{name}` in a template is a column of it."""
    pieces = FIELD.split(template)
    names, fixed = pieces[1::2], pieces[::2]
    if len(names) == 1 and fixed == ["", ""]:
        name = names[0]

        def alone(row: Row) -> str:
            found = row.get(name)
            return found if found.__class__ is str else _text(row, name)

        return alone

    def joined(row: Row) -> str:
        found = [fixed[0]]
        for name, after in zip(names, fixed[1:], strict=True):
            found += [_text(row, name), after]
        return "".join(found)

    return joined


def _text(row: Row, name: str) -> str:
    if name not in row:
        raise _UnfitError(f"it has no column {name}")
    value = row[name]
    if value is None:
        raise _UnfitError(f"its column {name} has no value")
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):  # 1e999 is read as infinite, which JSON does not know
        raise _UnfitError(f"its column {name} can't be written as JSON") from None


def too_long(ttl: int, *, long: bool) -> bool:
    return ttl > _LONGEST and not long


def fixed_time(template: str) -> int | None:
    """Return how long all keys stay, in ms; None where a column says it."""
    return None if FIELD.search(template) else max(1, round(float(template) * 1000))


def _times(template: str) -> Callable[[Row], int]:
    if (fixed := fixed_time(template)) is not None:
        return lambda _: fixed
    text_of = _made(template)

    def of_row(row: Row) -> int:
        text = text_of(row).strip()
        seconds = seconds_of(text)
        if seconds is None or not math.isfinite(seconds) or seconds <= 0:
            told = f"it would stay for {text[:40]!r}"
            raise _UnfitError(f"{told}: write seconds, or 10s, 1h30m, at most 366 days")
        return max(1, round(seconds * 1000))

    return of_row
