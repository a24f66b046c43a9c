"""The plan: every action in its order, frozen, with a digest."""

from collections.abc import Mapping
from dataclasses import field

from opskit.model.channel import Channel
from opskit.model.frozen import frozen
from opskit.model.inventory import Database, Host, Redis
from opskit.model.problem import Place
from opskit.model.runbook import Effect, OnFailure, OnUnknown, Phase, Retry, Save, Silent, Until
from opskit.model.text import Text
from opskit.model.value import Json, SecretSource
from opskit.model.windows import Freeze, Window
from opskit.model.work import Work


@frozen
class Stage:
    """What all actions of one step share: its name, its place in the file, its rules."""

    position: str
    name: str
    kind: str
    place: Place
    phase: Phase
    effect: Effect
    scope: str
    per_run: bool = False
    """With scope `group`: done once for the whole run, not for each batch or host."""
    save: Save | None = None
    until: Until | None = None
    retry: Retry | None = None
    repeatable: bool = False
    on_unknown: OnUnknown = "ask"
    on_failure: OnFailure | None = None
    timeout: float = 600.0
    silent: Silent = field(default_factory=Silent)
    lasting: bool = True
    """Whether a change that is not taken back leaves something behind."""
    prepares: bool = False
    """Whether nobody uses what it changes before a later step."""
    at_once: int = 1
    """So many of its actions at once on a target."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Saved names as the step writes them → as the run keeps them, where these differ."""


@frozen
class Action:
    """One piece of work for one target.

    `key` is stable over resumes: position path, host (and target, where it is another), index of
    for_each. `batch` is -1 in preflight, counts from 0 in the main phase, is -2 in always.
    `when` is None (always), or a text that is "True" or "False" once its late parts are filled.
    """

    key: str
    position: str
    batch: int
    host: str
    target: str
    work: Work
    when: Text | None = None
    skip_if: Work | None = None
    done_when: Work | None = None
    undo: tuple["Action", ...] = ()
    undoes: str | None = None
    last: bool = False
    """In an undo: with this action, the one that it `undoes` is taken back as a whole."""
    since: int = 0
    """In an undo: which attempts it takes back, from this number on; others had another text."""
    index: int = 0


@frozen
class Plan:
    """All that a run will do. `digest` is over the canonical JSON of everything else in it.

    `stages` holds undo steps too. `read_users` etc. are in the hosts' connections.
    """

    runbook: str
    version: str
    file: str
    inventory: str
    parameters: Mapping[str, Json]
    hosts: Mapping[str, Host]
    batches: tuple[tuple[str, ...], ...]
    max_failures: int
    on_failure: OnFailure
    locks: tuple[str, ...]
    stages: Mapping[str, Stage]
    actions: tuple[Action, ...]
    databases: Mapping[str, Database] = field(default_factory=dict)
    redis: Mapping[str, Redis] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    """Those that its messages go to."""
    windows: tuple[Window, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    """When its changes may be made, and when not; no windows: at any time."""
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file that was read, by path."""
    digest: str = ""

    @property
    def servers(self) -> tuple[Database | Redis, ...]:
        """Everything that is reached by its name in the inventory, and is no host."""
        return (*self.databases.values(), *self.redis.values())

    def stage(self, action: Action) -> Stage:
        return self.stages[action.position]
