"""Channels: where messages go besides the screen and the record, and what is sent there."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
_MEANT: Mapping[str, Severity] = {
    "succeeded": "info",
    "running": "info",
    "undone": "warning",
    "P2": "warning",
    "P3": "info",
}
"""What else may be written, a status of a run or what a check means; all others are critical."""
NOWHERE = "none"
"""Written in the place of a channel: the screen and the record only."""
DEADLINE = 10.0
"""Seconds in which a message must be delivered, with all tries, unless the channel says another."""


@frozen
class Channel:
    """A webhook or a command that takes messages.

    `webhook` names the secret with its address, and `body` says what it wants; `command` is shell
    text that gets the message on its input, and `secrets` as variables. From `severity` on messages
    go there. One that it has had is held back for `every` seconds. `timeout` is for all tries.
    """

    name: str
    webhook: str | None = None
    body: Literal["slack", "json"] = "json"
    command: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    severity: Severity = "info"
    every: float = 0.0
    timeout: float = DEADLINE

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the secrets that it takes to send there."""
        return (*((self.webhook,) if self.webhook else ()), *self.secrets.values())


@frozen
class Message:
    """What is sent. `id` is the same however often it is sent; `at` in UTC seconds.

    `host` is "" where it is of no host in particular.
    """

    id: str
    text: str
    severity: Severity
    run: str
    runbook: str
    step: str
    host: str
    inventory: str
    who: str
    at: float


def severity_of(word: str) -> Severity | None:
    """Return how severe a word is: a severity, the status of a run, P0 to P3; None for others."""
    if word in SEVERITIES:
        return word
    if word in ("failed", "unknown", "aborted", "waiting", "P0", "P1"):
        return "critical"
    return _MEANT.get(word)


def concerns(channel: Channel, severity: Severity) -> bool:
    """Tell whether a channel wants messages that are so severe."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(channel.severity)


@frozen
class Delivery:
    """What became of a message in one channel. `held`: the same was there a moment ago."""

    delivered: bool
    reason: str = ""
    tries: int = 1
    held: bool = False
