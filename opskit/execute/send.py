"""Letting a driver act: once, or for a read with `until` as often as it takes."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field, replace

from opskit.execute.driver import Driver, Write
from opskit.execute.journal import Journal, Sink, Stream, Watcher
from opskit.execute.messenger import Messenger
from opskit.execute.silence import Silence
from opskit.execute.stop import Stop
from opskit.model.event import Chunk, Event
from opskit.model.frozen import frozen, mutable
from opskit.model.job import Job, Output
from opskit.model.plan import Action, Stage
from opskit.model.runbook import Until
from opskit.model.value import Json, Secret
from opskit.model.work import Command, Request, Upload, Work
from opskit.steps.health import judge


@mutable
class Outside:
    """Everything that an execution touches: targets, the record, secrets, who watches, the stop."""

    targets: Driver
    journal: Journal
    secrets: Mapping[str, Secret]
    watch: Watcher
    stop: Stop
    hide: Callable[[Secret], None]
    """Masks a secret that the run has just fetched, in the record and for the watcher."""
    silence: Silence = field(default_factory=Silence)
    messenger: Messenger = field(default_factory=Messenger)


@frozen
class Ready:
    """An action whose turn it is, all texts filled.

    `number` is the attempt's; `tries`: how often it may be tried from here on; `again`: how often
    in a row it had never begun. `began` is the monotonic time that its time-out counts from,
    `first` the one that its `until` counts from, where an earlier attempt was cut short.
    """

    action: Action
    stage: Stage
    job: Job
    skip_if: Work | None
    number: int
    tries: int
    began: float
    again: int = 0
    first: float | None = None
    unmasked: bool = False
    """Whether what it prints can't be masked: a secret is not known any more. It is not kept."""

    @property
    def left(self) -> float:
        """Seconds until it is out of time."""
        return max(0.0, self.began + self.job.timeout - time.monotonic())


def ask(outside: Outside, job: Job) -> Output:
    """Do a probe, whose output nobody keeps."""
    return outside.targets.perform(job, _nowhere)


def _nowhere(stream: Stream, data: bytes) -> None:
    """Take the output of a probe."""


def drive(outside: Outside, ready: Ready) -> tuple[Output | None, Mapping[str, Json]]:
    """Let a driver do an attempt; its output goes to the record and to the watcher.

    Return what it came to (None: the run was stopped before it came to anything), and what was
    stored of its output.
    """
    sink = outside.journal.output(ready.action.key, ready.action.target, ready.number)
    write = _told(outside, ready, sink)
    try:
        if ready.stage.effect == "read" and isinstance(ready.job.work, Upload):
            output: Output | None = outside.targets.probe(ready.job)
        elif ready.stage.until is not None:
            output = _until(outside, ready, ready.stage.until, write)
        else:
            output = _once(outside, ready, write)
    finally:
        sizes = sink.close()
    return output, sizes


def find(outside: Outside, ready: Ready) -> tuple[Output, Mapping[str, Json]]:
    """Let a driver look for an attempt that was sent before; return the same as `drive`."""
    action = ready.action
    sink = outside.journal.output(action.key, action.target, ready.number, again=True)
    try:
        with _listening(outside, ready):
            output = outside.targets.rejoin(ready.job, _told(outside, ready, sink), ready.left)
        if isinstance(ready.job.work, Command):
            output = judge(ready.job.work, output)
    finally:
        sizes = sink.close()
    return output, sizes


def _told(outside: Outside, ready: Ready, sink: Sink) -> Write:
    """Return what takes the output of an attempt: to the record and to the watcher."""
    action, save = ready.action, ready.stage.save
    hidden = save is not None and save.secret

    def write(stream: Stream, data: bytes) -> None:
        outside.silence.heard(action.key)
        if ready.unmasked:
            return
        sink.write(stream, data)
        if hidden and stream == "stdout":
            return  # all of it is a secret, which nobody could tell yet
        chunk = Chunk(
            key=action.key,
            host=action.target,
            attempt=ready.number,
            stream=stream,
            data=data,
        )
        outside.watch(chunk)

    return write


def _once(outside: Outside, ready: Ready, write: Write) -> Output:
    """Do it once; what the answer of a health check means, the step kind says."""
    with _listening(outside, ready):
        output = outside.targets.perform(ready.job, write)
    return judge(ready.job.work, output)


def _listening(outside: Outside, ready: Ready) -> AbstractContextManager[None]:
    """Listen whether it prints something, where it is of a kind that does."""
    rule, action = ready.stage.silent, ready.action
    if not isinstance(ready.job.work, (Command, Request)):
        return nullcontext()
    event = Event(
        kind="step silent",
        key=action.key,
        host=action.host or action.target,
        step=ready.stage.name,
        attempt=ready.number,
    )
    return outside.silence.listening(event, rule)


def _until(outside: Outside, ready: Ready, until: Until, write: Write) -> Output | None:
    """Repeat a read until it succeeds often enough in a row; None when the run is stopped.

    Where an earlier attempt was cut short, its time counts, not its successes: nobody saw whether
    it held meanwhile. Time for one row in which nothing fails is left in any case.
    """
    deadline = (time.monotonic() if ready.first is None else ready.first) + until.limit
    least = 1 if ready.first is None else until.successes
    good = tries = 0
    while True:
        output = _once(outside, ready, write)
        tries += 1
        good = good + 1 if output.outcome == "succeeded" else 0
        evidence = {**output.evidence, "tries": tries}
        if good >= until.successes:
            return replace(output, evidence=evidence)
        rightly = good == tries < least
        if time.monotonic() + until.every > deadline and not rightly:
            why = output.reason or f"{good} of {until.successes} successes in a row"
            reason = f"not so within {until.limit:g} s ({tries} tries); last: {why}"
            outcome = "failed" if output.outcome == "succeeded" else output.outcome
            return replace(output, outcome=outcome, reason=reason, evidence=evidence)
        if outside.stop.soft.wait(until.every):
            return None
