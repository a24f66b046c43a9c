"""Whether those who read a cache would understand what is written there.

An application that pickles or compresses what it caches breaks on bytes of others. What it expects
is told from what it has written itself; and, where the cache is empty, from names as Django has
them. Only who says that readers take them as they are (`format`) writes such keys nevertheless.
"""

import codecs
import json
import re
from collections.abc import Iterator, Sequence

from opskit.drivers.redis.connection import Refusal, Reply
from opskit.drivers.redis.listing import ListingError, raise_refused
from opskit.drivers.redis.session import Session
from opskit.drivers.redis.supply import Heap
from opskit.model.frozen import mutable
from opskit.model.warm import Warm

_FIRST, _MOST = 20, 50
"""So many of the first keys are looked at, and of all; so many others at most besides."""
_HEAD = 64
"""So many bytes of a value tell what it is."""
_DJANGO = re.compile(rb":[0-9]+:")
_VERSION = re.compile(r"(.+?):[0-9]{1,3}:")
"""How a beginning in `allow` has KEY_PREFIX and VERSION: a number that stands there is no id."""
_FIRST_VERSION = re.compile(r"(.+?):1:")
"""What all keys begin with may have it, too, if it is the VERSION of who sets none."""
_PICKLED = re.compile(rb"\x80[\x02-\x05]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CURE = (
    "let the application warm that cache (cache-warm-pages), or, where readers take it"
    " nevertheless, say format: "
)


def _constant(word: str) -> object:
    raise ValueError(f"it has a {word}")


_DECODER = json.JSONDecoder(parse_constant=_constant)


@mutable
class Taste:
    """Some of the keys that go by."""

    keys: list[bytes]

    def add(self, heap: Heap) -> None:
        if len(self.keys) < _MOST:
            self.keys += heap.keys[: 1 if self.keys else _FIRST]


def raise_foreign(session: Session, work: Warm, keys: Sequence[bytes]) -> None:
    """Refuse keys whose readers expect something else; none of them is written then."""
    if work.format == "raw":
        return
    asks = work.format == "seen"
    for key in keys if asks else ():
        if _DJANGO.match(key):
            told = f"{_shown(key)} is a key of Django's cache, which reads what it has pickled"
            raise ListingError(f"{told}: {_CURE}json or raw")
    plain = False
    for key, value in zip(keys, _values(session, keys), strict=True):
        if told := _strange(value):
            raise ListingError(f"{_shown(key)} {told}: {_CURE}raw")
        plain = plain or bool(value)
    for key, value in _others(session, work, keys) if asks else ():
        if isinstance(value, bytes) and (told := _strange(value)):
            raise ListingError(f"{_shown(key)}, which begins alike, {told}: {_CURE}json or raw")
        plain = plain or bool(value)
    if asks and not plain:
        _raise_prefixed(work, keys)


def _raise_prefixed(work: Warm, keys: Sequence[bytes]) -> None:
    """Refuse what looks like keys of Django with a KEY_PREFIX, where nothing is there to go by."""
    first = keys[0].decode(errors="replace") if keys else ""
    said = [_VERSION.match(one) for one in work.allow if first.startswith(one)]
    match = next(filter(None, said), None) or _FIRST_VERSION.match(first)
    if match is None or not all(key.startswith(match[0].encode()) for key in keys):
        return
    told = f"{_shown(keys[0])} looks like a key of Django's cache with KEY_PREFIX {match[1]!r}"
    why = "which reads what it has pickled, and nothing that is there says otherwise"
    raise ListingError(f"{told}, {why}: {_CURE}json or raw")


def unfit_json(heap: Heap) -> str:
    """Say which value is no JSON; "" where each is."""
    for key, value in zip(heap.keys, heap.values, strict=True):
        try:
            _DECODER.decode(value.decode())
        except (ValueError, RecursionError) as error:  # which say where, and nothing of the value
            why = "no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            return f"the value of {_shown(key)} is no JSON (format: json): {why}"
    return ""


def _shown(key: bytes) -> str:
    return repr(key.decode(errors="replace")[:80])


def _values(session: Session, keys: Sequence[bytes]) -> list[Reply]:
    """Return how values begin; all of them where the user may only GET."""
    calls = session.connection.calls
    found = calls([("GETRANGE", key, "0", str(_HEAD - 1)) for key in keys])
    if any(isinstance(one, Refusal) and one.code == "NOPERM" for one in found):
        found = calls([("GET", key) for key in keys])
    raise_refused([one for one in found if not _kind(one)])
    return found


def _others(session: Session, work: Warm, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Reply]]:
    """Yield others that may be of the same cache; a user may not be allowed to read them."""
    said = session.connection.call("SCAN", "0", "COUNT", "1000")
    names = said[1] if isinstance(said, list) else None
    starts = tuple(one.encode() for one in work.allow)
    found = names if isinstance(names, list) else []
    some = [one for one in found if isinstance(one, bytes) and one.startswith(starts)]
    some = [one for one in some if one not in keys][:_MOST]
    heads = session.connection.calls([("GETRANGE", one, "0", str(_HEAD - 1)) for one in some])
    yield from zip(some, heads, strict=True)


def _kind(value: Reply) -> bool:
    return isinstance(value, Refusal) and value.code == "WRONGTYPE"


def _strange(value: Reply) -> str:
    """Say what a value is that no text stands for; "" where it is text, or nothing."""
    if _kind(value):
        return "is no string there, but a hash, a list, or the like"
    if not isinstance(value, bytes):
        return ""
    head = value[:_HEAD]
    if _PICKLED.match(head):
        return "is pickled there"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "is no text there, but compressed, or written by a program for itself"
    return "is no text there, but bytes of a program" if _CONTROLS.search(text) else ""
