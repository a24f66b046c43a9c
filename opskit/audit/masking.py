"""Take secrets out of all that is recorded, however they are encoded and wherever it is cut."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import get_args

from opskit.audit.encodings import JOIN, Form, forms, unfolded
from opskit.model.event import EventKind, Outcome
from opskit.model.run import HostState
from opskit.model.states import ActionState, RunState
from opskit.model.value import Json, Secret

MARK = b"[secret]"
SHORTEST = 6
"""Characters. Anything shorter stands in too much harmless text to mask it everywhere."""

WORDS = frozenset(
    word
    for words in (ActionState, HostState, RunState, EventKind, Outcome)
    for word in get_args(words)
)
"""What the record itself is written with: a secret that is such a word can't be told from it."""


def usable(secret: Secret) -> bool:
    """Tell whether a secret is long and rare enough to be told from ordinary text."""
    value = secret.reveal()
    return len(value.strip()) >= SHORTEST and not any(value in word for word in WORDS)


class Masker:
    """Knows some secrets. Anything that any of them stands in comes out with `[secret]` there."""

    def __init__(self, values: Iterable[str]) -> None:
        # Longest first only makes the tables the same however the secrets came.
        self._values = sorted({value for value in values if value}, key=lambda v: (-len(v), v))
        self._forms = [_Search(form) for value in self._values for form in forms(value)]
        self._anchors = tuple({anchor for f in self._forms for anchor in f.joined})
        # Letters and digits are the same in both alphabets of base64.
        self._both = any(not anchor.isalnum() for anchor in self._anchors)
        self._always = any(not f.anchors for f in self._forms)
        self.reach = max((f.form.width for f in self._forms), default=1) - 1
        """How many bytes at the end of a piece can't be judged before more have come."""

    @classmethod
    def of(cls, secrets: Iterable[Secret]) -> "Masker":
        return cls(secret.reveal() for secret in secrets)

    def and_also(self, secret: Secret) -> "Masker":
        """Return a masker that knows this one too, unless it is too short to be told from text."""
        return Masker([*self._values, secret.reveal()]) if usable(secret) else self

    def __bool__(self) -> bool:
        return bool(self._forms)

    def stream(self) -> "Stream":
        """Return a filter for bytes that come in pieces."""
        return Stream(self)

    def clean(self, data: bytes) -> bytes:
        """Return these bytes without secrets."""
        stream = Stream(self)
        return stream.feed(data) + stream.finish()

    def holds(self, data: bytes) -> bool:
        """Tell whether a secret stands in these bytes."""
        return any(True for _ in self.spans(data, len(data)))

    def mask(self, text: str) -> str:
        """Return this text without secrets."""
        data = text.encode("utf-8", "surrogatepass")
        return self.clean(data).decode("utf-8", "replace") if self.holds(data) else text

    def mask_json(self, value: Json) -> Json:
        """Return this JSON without secrets; a number that is one becomes text."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, int) and not isinstance(value, bool):
            masked = self.mask(str(value))
            return value if masked == str(value) else masked
        if isinstance(value, Mapping):
            return {self.mask(key): self.mask_json(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.mask_json(item) for item in value]
        return value

    def spans(self, data: bytes, limit: int) -> Iterator[tuple[int, int]]:
        """Yield where secrets stand that begin before `limit`, by their start; they may overlap."""
        if not self._forms:
            return
        joined, contains = unfolded(data), _finder()
        joined = joined.translate(JOIN) if self._both else joined
        hit = {anchor for anchor in self._anchors if contains(joined, anchor)}
        if not self._always and not hit:
            return
        searches = (f for f in self._forms if not f.anchors or not hit.isdisjoint(f.joined))
        yield from sorted(span for search in searches for span in search.spans(data, limit))


@cache
def _finder() -> Callable[[bytes, bytes], bool]:
    """Return the quickest test for bytes in bytes: the C library's takes half the time of ours."""
    import ctypes

    try:
        # PyDLL keeps the interpreter's lock: a search is too short to hand that back and forth.
        memmem = ctypes.PyDLL(None).memmem
    except (AttributeError, OSError):
        return bytes.__contains__
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]

    def contains(data: bytes, part: bytes) -> bool:
        return memmem(data, len(data), part, len(part)) is not None

    return contains


class _Search:
    """A form with its pattern, compiled only when an anchor shows that it may be needed."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.anchors = form.anchors
        self.joined = frozenset(unfolded(anchor).translate(JOIN) for anchor in form.anchors)

    @cached_property
    def pattern(self) -> "re.Pattern[bytes]":
        return re.compile(self.form.pattern, re.DOTALL)

    def spans(self, data: bytes, limit: int) -> Iterator[tuple[int, int]]:
        match = self.pattern.search(data)
        while match and match.start() < limit:
            yield match.span()
            match = self.pattern.search(data, match.start() + 1)


class Stream:
    """Masks bytes that come in pieces: the same result wherever they are cut.

    Occurrences that overlap are masked as one, from the first byte to the last.
    """

    def __init__(self, masker: Masker) -> None:
        self.masker = masker
        """May be replaced by one that knows more; it holds from the next bytes on."""
        self._held = b""
        self._covered = 0
        """Up to where in the held bytes a secret reaches that began before them."""

    def feed(self, data: bytes) -> bytes:
        """Take in the next bytes; return those that can be shown now."""
        if not self.masker and not self._held:
            return data
        data = self._held + data
        limit = len(data) - self.masker.reach
        if limit <= 0:
            self._held = data
            return b""
        return self._emit(data, limit)

    def finish(self) -> bytes:
        """Return what was held back; nothing may be fed after it."""
        return self._emit(self._held, len(self._held))

    def _emit(self, data: bytes, limit: int) -> bytes:
        parts, covered = [], self._covered
        for start, end in self.masker.spans(data, limit):
            if start >= covered:
                parts += [data[covered:start], MARK]
            covered = max(covered, end)
        parts.append(data[covered:limit])
        self._held, self._covered = data[limit:], max(0, covered - limit)
        return b"".join(parts)


def fingerprints(secrets: Iterable[Secret], *, key: bytes, run: str) -> Mapping[str, str]:
    """Return a keyed digest per secret: tells later whether it is still the same, and no more."""
    return {
        secret.name: hmac.new(
            key,
            f"{run}\0{secret.name}\0{secret.reveal()}".encode("utf-8", "surrogateescape"),
            hashlib.sha256,
        ).hexdigest()
        for secret in secrets
    }
