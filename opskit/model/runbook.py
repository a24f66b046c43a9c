"""A runbook as it was written: values with their places, templates not yet rendered."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.problem import Place
from opskit.model.value import Json

Effect = Literal["read", "change"]
Phase = Literal["preflight", "main", "always"]
OnFailure = Literal["continue", "stop", "undo", "ask"]
OnUnknown = Literal["ask", "fail", "retry"]
ParamType = Literal["string", "int", "number", "bool", "enum", "duration", "file", "secret"]


@frozen
class Param:
    """A value that whoever runs the runbook gives."""

    name: str
    type: ParamType
    place: Place
    help: str = ""
    required: bool = True
    default: Json = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@frozen
class On:
    """Where a step runs and how often.

    `scope`: each (on every host of the batch), once (first batch, first live host), batch (once a
    batch, on its first live host), controller (once a run, where opskit runs), group (on the hosts
    of `group`, once per `per`).
    """

    scope: Literal["each", "once", "batch", "controller", "group"] = "each"
    group: str | None = None
    per: Literal["host", "batch", "run"] = "host"


@frozen
class Save:
    """The name that a step's standard output gets. A secret one is never stored."""

    name: str
    secret: bool = False


@frozen
class Until:
    """Repeat a read until it succeeds `successes` times in a row; seconds."""

    every: float = 1.0
    limit: float = 60.0
    successes: int = 1


@frozen
class Retry:
    """Permission to repeat after *failed*; `backoff` seconds, doubled each time."""

    times: int
    backoff: float = 1.0


@frozen
class Silent:
    """How long a step may print nothing before that is pointed out, in seconds.

    With `stop` it is ended then.
    """

    after: float = 300.0
    stop: bool = False


@frozen
class Step:
    """One step. `args` are the kind's own keys as written; `places` has the place of each key.

    A short form (`run: text`) is already opened: its value stands in `args` under the kind's main
    key. `position` counts from 1 and is stable: "3" in steps, "a1" in always, "3.2" the second step
    of an include at 3, "3u1" the first undo of 3.
    """

    position: str
    name: str
    kind: str
    place: Place
    args: Mapping[str, Json]
    places: Mapping[str, Place] = field(default_factory=dict)
    phase: Phase = "main"
    effect: Effect = "change"
    on: On = field(default_factory=On)
    when: str | None = None
    for_each: Json = None
    at_once: int | str = 1
    """So many of its items at once on a target, or a template for that."""
    save: Save | None = None
    until: Until | None = None
    retry: Retry | None = None
    repeatable: bool = False
    on_unknown: OnUnknown = "ask"
    on_failure: OnFailure | None = None
    done_when: "Step | None" = None
    creates: str | None = None
    unless: str | None = None
    timeout: float | str = 600.0
    """Seconds, or a template for them that is the same for every host."""
    silent: Silent = field(default_factory=Silent)
    undo: tuple["Step", ...] = ()
    lasting: bool = True
    """False where `undo: []` says that the step leaves nothing that would have to be taken back."""
    prepares: bool = False
    """Whether nobody uses what it changes before a later step."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    stdin: str | None = None
    sudo: str | None = None
    cwd: str | None = None
    include: "Runbook | None" = None
    with_: Mapping[str, Json] = field(default_factory=dict)


@frozen
class Runbook:
    """A checked runbook. `sources` are the texts of all files it was read from, by path."""

    file: str
    name: str
    version: str
    summary: str
    sources: Mapping[str, str]
    owner: str = ""
    params: tuple[Param, ...] = ()
    hosts: str = "all"
    batches: tuple[str, ...] = ("100%",)
    max_failures: str = "0"
    on_failure: OnFailure = "stop"
    lock: str | None = None
    urgent: bool = False
    steps: tuple[Step, ...] = ()
    always: tuple[Step, ...] = ()
    export: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Contents of scripts and templates that steps name, by the name as written."""
