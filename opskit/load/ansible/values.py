"""Values of vars: what YAML, JSON and literals of Python give → plain data, or why it is unknown.

Ansible renders texts with Jinja and opens what is encrypted with Ansible Vault. opskit does
neither: such a value is not known here. What is marked as `!unsafe` is a text that nobody renders.
"""

import math
from collections.abc import Mapping
from datetime import date

from opskit.model.value import Json

_RENDERED = ("{{", "{%", "{#")
JINJA = "Ansible renders it (Jinja)"
SEALED = "it is encrypted (Ansible Vault)"
DEEPEST = 32
MOST = 100_000
"""So many values may stand in one var, each time counted that an alias stands for them."""


class ValueProblemError(ValueError):
    """A value that can't be taken; its text goes on after "the value of NAME"."""


class Unsafe(str):
    """A text that Ansible does not render."""

    __slots__ = ()


class Sealed:
    """A value that is encrypted."""


def value_of(found: object) -> tuple[Json, str]:
    """Return the data of a value, and why it is not known ("" where it is)."""
    taken = _Taken()
    value = taken.take(found, 0)
    return (None if taken.unknown else value), taken.unknown


class _Taken:
    def __init__(self) -> None:
        self.unknown = ""
        self.count = 0

    def take(self, found: object, depth: int) -> Json:
        self.count += 1
        if depth > DEEPEST:
            raise ValueProblemError(f"is nested more than {DEEPEST} deep")
        if self.count > MOST:
            raise ValueProblemError(f"has more than {MOST} parts")
        match found:
            case str():
                return self._text(found)
            case None | bool():
                return found
            case int():
                if found.bit_length() > 63:
                    raise ValueProblemError("is a number of more than 63 bits; quote it")
                return found
            case float():
                if not math.isfinite(found):
                    raise ValueProblemError("is no finite number; quote it")
                return found
            case _:
                return self._other(found, depth)

    def _text(self, found: str) -> str:
        if not isinstance(found, Unsafe) and any(mark in found for mark in _RENDERED):
            self.unknown = self.unknown or JINJA
        if "\0" in found:
            raise ValueProblemError("has a NUL character in it")
        return str(found)

    def _other(self, found: object, depth: int) -> Json:
        match found:
            case Sealed():
                self.unknown = SEALED
                return None
            case bytes():
                return self._text(found.decode("utf-8", "replace"))
            case list() | tuple():
                return tuple(self.take(item, depth + 1) for item in found)
            case set():
                return tuple(self.take(item, depth + 1) for item in sorted(found, key=repr))
            case Mapping():
                return self._mapping(found, depth)
            case date():
                return found.isoformat()
            case complex():
                return str(found)
            case _ if found is ...:
                return "..."
            case _:
                raise ValueProblemError("is of a kind that has no place here")

    def _mapping(self, found: Mapping[object, object], depth: int) -> Json:
        if found.keys() == {"__ansible_vault"}:
            return self._other(Sealed(), depth)
        if found.keys() == {"__ansible_unsafe"}:
            return self._text(Unsafe(found["__ansible_unsafe"]))
        return {_key(key): self.take(value, depth + 1) for key, value in found.items()}


def _key(key: object) -> str:
    """Return a key as JSON has it."""
    match key:
        case str():
            return str(key)
        case None:
            return "null"
        case bool():
            return "true" if key else "false"
        case int() | float():
            return str(key)
        case date():
            return key.isoformat()
        case _:
            raise ValueProblemError("has a key that is no text")
