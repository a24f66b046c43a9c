"""A run as its events tell it."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.states import ActionState, RunState
from opskit.model.value import Json

HostState = Literal[
    "not started",
    "begun",
    "done",
    "failed",
    "unreachable",
    "unknown",
    "undone",
    "undo failed",
    "excluded",
]
"""How a host came out; *begun*: some of its steps were done, none failed, and some are left;
*excluded*: a person let the run go on without it."""


@frozen
class ActionRecord:
    """Where one action stands: its state, the last attempt, and what that attempt ended with."""

    key: str
    host: str
    step: str
    state: ActionState
    attempt: int = 0
    started: float | None = None
    first: float | None = None
    """When it was first begun, where this attempt goes on with what another one had begun."""
    ended: float | None = None
    data: Mapping[str, Json] = field(default_factory=dict)
    undoes: str | None = None
    silent: float | None = None
    """Since when it has printed nothing, where that was pointed out."""
    before: ActionState | None = None
    """How an earlier attempt stands that was begun on the target and has not been taken back."""
    reached: int = 0
    """The last attempt of which something may have been begun on its target."""

    @property
    def stands(self) -> ActionState:
        """How it stands on its target: by an earlier attempt where this one did not begin there."""
        idle = self.state in ("planned", "skipped") or self.data.get("sent") is False
        return self.before if idle and self.before is not None else self.state

    @property
    def refused(self) -> bool:
        """Whether it was refused by who should have done it, for what was asked of him."""
        evidence = self.data.get("evidence")
        return isinstance(evidence, Mapping) and evidence.get("refused") is True

    @property
    def sent(self) -> bool:
        """Whether something of it may have been begun on its target."""
        return self.before is not None or self.data.get("sent") is not False

    @property
    def begun(self) -> bool:
        """Whether something of it may have been begun on its target, whatever became of that.

        What is skipped never was; but a person may have said so of an attempt that had failed.
        """
        if self.stands == "skipped":
            return self.reached > 0
        return self.sent and self.stands != "planned"

    @property
    def left(self) -> bool:
        """Whether something of it may be on its target still: it was begun and not taken back.

        So it is with what failed and a person had skipped: no undo takes that back.
        """
        if self.stands == "skipped":
            return self.begun and self.data.get("choice") == "skip"
        return self.begun and self.stands != "undone"


@frozen
class Run:
    """A run folded from its events. Times are UTC seconds."""

    id: str
    kind: str
    runbook: str
    version: str
    plan: str
    state: RunState
    who: str
    origin: str
    reason: str
    created: float
    ended: float | None
    hosts: Mapping[str, HostState]
    actions: Mapping[str, ActionRecord]
    saved: Mapping[str, Mapping[str, str]]
    """host → name → value, for every public saved value."""
    question: Mapping[str, Json] | None = None
    asked: int = 0
    """The number of the entry that asks it; 0 where nothing is asked."""
    exit: int | None = None
    """The exit status that the run ended with, as its last event has it."""
    number: int = 0
    entries: int = 0
    inventory: str = ""
    """Where the file of its inventory is, links followed; empty where no inventory was, or the
    record is older than that is kept."""
    override: str = ""
    """Why it was begun though no change window was open."""
    driver: str = ""
    """The person and process that are carrying the run out now; empty where none are."""
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """host → why it can't be reached."""
