"""Plain data, and the one kind of data that must not be seen."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opskit.model.frozen import frozen

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


class Secret:
    """A value that never shows itself; only a driver may `reveal` it, to hand it to a command."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value

    def reveal(self) -> str:
        """Return the value. Callers outside `opskit.drivers` and the masker are bugs."""
        return self._value

    def __repr__(self) -> str:
        return "[secret]"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "[secret]"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")


@frozen
class SecretRef:
    """The name of a secret; its value is fetched when a run starts and stays in memory."""

    name: str


@frozen
class SecretSource:
    """Where a secret comes from: `env:NAME`, `file:PATH`, `cmd:COMMAND`."""

    name: str
    source: str
