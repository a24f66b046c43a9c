"""opskit plan: what a run would do."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from opskit.app import prepare
from opskit.app.look import Preview
from opskit.app.look import look as looked
from opskit.cli import screen
from opskit.cli.asking import prepared, runbook_options, typed
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.cli.interrupts import stopping
from opskit.errors import Exit
from opskit.execute import Stop
from opskit.model.event import Chunk, Event
from opskit.model.value import Json
from opskit.model.work import FileRef
from opskit.view import labels
from opskit.view import plan as view
from opskit.view.plan import Look
from opskit.view.planned import objects

LARGEST = 256 * 1024
"""Bytes; the text of a larger file is not compared."""


@click.command(cls=Command)
@runbook_options
@click.option("-o", "--output", "output", metavar="FILE", type=click.Path(path_type=Path),
              help="Save the plan; `run --plan FILE` refuses any other.")  # fmt: skip
@click.option("--no-reads", is_flag=True, help="Don't look at the hosts at all.")
@click.option("--full", is_flag=True, help="Every host and every line of text.")
@click.option("--undo", is_flag=True, help="Show how each change is taken back.")
@options
def plan(
    call: Call,
    *,
    ask: prepare.Ask,
    output: Path | None,
    no_reads: bool,
    full: bool,
    undo: bool,
) -> Exit:
    """Show what a run would do, on which host, with which text. Changes nothing.

    Reads are made on the hosts unless --no-reads. Ends with 5 when a run would be refused.
    """
    made = prepared(call, ask)
    status = dry_run(call, made, reads=not no_reads, full=full, undo=undo)
    if output is not None:
        prepare.save_plan(made, output)
        screen.err(f"saved; `opskit run` with the same words and --plan {output} does this\n")
    return status


def dry_run(call: Call, made: prepare.Prepared, *, reads: bool, full: bool, undo: bool) -> Exit:
    """Make the reads of a plan, then show the plan beside what they found."""
    found = _preview(call, made) if reads else Preview(plan=made.plan)
    look = Look(
        full=full,
        undo=undo,
        read=found.run is not None,
        readings=found.readings,
        refused=found.refused,
        contents=contents,
        durations=made.durations,
        paint=screen.paint(),
        columns=screen.margin(),
    )
    call.answer(lambda: view.text(made.plan, look), _objects(found))
    return Exit.REFUSED if found.refused else Exit.OK


def _preview(call: Call, made: prepare.Prepared) -> Preview:
    stop = Stop()
    if screen.is_terminal(sys.stderr) and not call.json:
        screen.err(f"Looking at {labels.extent(made.plan)}; nothing is changed …\n")
    with stopping(stop.press):
        found = looked(call.settings, made, call.person, _unwatched, command=typed(), stop=stop)
    if stop.soft.is_set():
        raise KeyboardInterrupt
    return found


def _unwatched(_: Event | Chunk) -> None:
    """Watch nothing: what was read stands beside the plan."""


def _objects(found: Preview) -> Iterator[Mapping[str, Json]]:
    yield from objects(found.plan, found.readings, run=found.run, refused=found.refused)


def contents(file: FileRef) -> str | None:
    """Return the text of a file beside the person, if it is short and it is text."""
    if file.size > LARGEST:
        return None
    try:
        return Path(file.path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
