"""The person that a run can turn to, and what it asks."""

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from opskit.model.finding import Finding
from opskit.model.frozen import frozen


@frozen
class Question:
    """What a run asks: the words, what can be answered, and what is known about the matter."""

    text: str
    choices: tuple[str, ...]
    why: str = ""
    evidence: tuple[Finding, ...] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)
    """choice → what it does"""


class Person(Protocol):
    """Who runs, and whether there is somebody to ask."""

    @property
    def who(self) -> str:
        """Name and machine, as the record shall have it."""

    @property
    def origin(self) -> str:
        """Where the command was typed: an address or a host name."""

    @property
    def interactive(self) -> bool:
        """Whether a question can be answered now."""

    def ask(self, question: Question) -> str | None:
        """Return one of the choices; None when nobody answers."""

    def secret(self, name: str) -> str | None:
        """Return the value of a secret parameter that was not given; None when nobody answers."""

    def text(self, name: str, help_: str) -> str | None:
        """Return the value of a parameter that was not given; None when nobody answers."""

    def tell(self, text: str) -> None:
        """Say something between two questions."""
