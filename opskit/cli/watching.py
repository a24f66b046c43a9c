"""Which watcher a run gets: the live picture, plain lines, or JSON lines."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from opskit.app import record
from opskit.cli import listening, screen
from opskit.cli.call import Call
from opskit.cli.interrupts import Answer, stopping
from opskit.errors import OpskitError
from opskit.execute import Stop
from opskit.model.event import Chunk, Entry, Event
from opskit.model.plan import Plan
from opskit.settings import Settings
from opskit.view.jsonl import JsonLines
from opskit.view.lines import Lines

Watcher = Callable[[Event | Chunk], None]
EARLIER = 3
"""How many earlier runs are asked how long a step takes."""


@contextmanager
def watching(
    call: Call, plan: Plan, *, run: str = "", live: bool = True, watcher: Watcher | None = None
) -> Iterator[tuple[Watcher, Stop]]:
    """Give a watcher (`watcher`, if there is one) and a stop; `run`: the run that is gone on with.

    The person's questions pause the live picture.
    """
    stop = Stop()
    person = call.person
    if watcher is not None:
        with heeding(stop):
            yield watcher, stop
    elif call.json:
        with heeding(stop, asking=lambda: person.asking):
            yield JsonLines(screen.out, run=run), stop
    elif live and screen.can_draw():
        from opskit.view.live import Live, terminal_size

        picture = Live(
            plan,
            write=screen.out,
            size=terminal_size(sys.stdout.fileno()),
            paint=screen.paint(),
            run=run,
            past=record.entries(call.settings, run) if run else (),
            expected=expected(call.settings, plan),
            unicode=screen.unicode(),
        )
        person.pause = picture.paused
        listen = _answered(call, picture.entered)
        watch = renewing(call.settings, run, picture, picture.renewed)
        with picture, heeding(stop, picture.tell, lambda: person.asking, listen):
            yield watch, stop
    else:
        paint, columns = screen.paint(), screen.margin
        lines = Lines(screen.out, plan, paint=paint, columns=columns, waits=True)
        watch = renewing(call.settings, run, lines, lambda plan, _: lines.renewed(plan))
        with heeding(stop, asking=lambda: person.asking, answer=_answered(call)):
            yield watch, stop


def renewing(
    settings: Settings, run: str, watch: Watcher, renew: Callable[[Plan, Iterable[Entry]], None]
) -> Watcher:
    """Give a watcher the plan that a run carries out from where a decision has changed it."""

    def seen(item: Event | Chunk) -> None:
        if isinstance(item, Event) and item.kind == "plan amended" and run:
            with suppress(OpskitError):  # it is only looked at
                renew(record.plan_of(settings, run), list(record.entries(settings, run)))
        watch(item)

    return seen


@contextmanager
def late_watching(call: Call) -> Iterator[tuple[Watcher, Stop]]:
    """Watch what is planned only within: every line of output, as it comes."""
    stop = Stop()
    with heeding(stop, answer=_answered(call)):
        if call.json:
            yield JsonLines(screen.out, outputs=True), stop
        else:
            yield Lines(screen.out, paint=screen.paint(), outputs=True), stop


@contextmanager
def heeding(
    stop: Stop,
    tell: Callable[[str], None] = screen.err,
    asking: Callable[[], bool] = lambda: False,
    answer: Answer | None = None,
) -> Iterator[None]:
    """Let signals press a stop while a run goes on, and what is asked for from elsewhere."""
    with stopping(stop.press, tell, asking, answer) as interrupts:
        stop.asked = interrupts.asked
        yield


def _answered(call: Call, entered: Callable[[], None] = lambda: None) -> Answer | None:
    """Return what hears a person's yes; None where nobody can answer. `entered`: after a line."""
    if not call.person.interactive:
        return None

    def answered(over: Callable[[], bool]) -> bool:
        said = listening.yes(over)
        if not over():
            entered()
        return said

    return answered


def expected(settings: Settings, plan: Plan) -> Mapping[str, float]:
    """Return how long each step takes: the median of earlier runs; nothing where none is."""
    took: dict[str, list[float]] = {}
    try:
        found = record.runs(settings, since=None, runbook=plan.runbook, limit=4 * EARLIER)
        good = [run for run in found if run.state == "succeeded" and run.kind == "run"]
        for run in good[:EARLIER]:
            for done in record.load_run(settings, run.id).actions.values():
                if done.started and done.ended and done.state == "succeeded":
                    took.setdefault(done.step, []).append(done.ended - done.started)
    except OpskitError:
        return {}
    return {step: sorted(times)[len(times) // 2] for step, times in took.items()}
