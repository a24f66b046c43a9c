"""Commands on the record: status, runs, note, report."""

import time
from pathlib import Path

import click

from opskit.app import record
from opskit.cli import complete, screen
from opskit.cli.amounts import SINCE
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.cli.outcome import told
from opskit.errors import Exit, writing
from opskit.view import catalog, details, jsonl

run_argument = click.argument("run", default="last", shell_complete=complete.run_ids)


@click.command(cls=Command)
@run_argument
@options
def status(call: Call, run: str) -> Exit:
    """Say what is true after a run, and what to do next. Without RUN: the newest one.

    Ends with the exit status that the run had; with 130 while it is being carried out.
    """
    found = record.load_run(call.settings, run)
    said = record.last_words(call.settings, found.id, details.telling(found))
    return told(call, found, record.plan_of(call.settings, found.id), said)


@click.command(cls=Command)
@click.option("--since", type=SINCE, metavar="TIME", help="Newer than: 1h, 2d, or a date.")
@click.option("--runbook", shell_complete=complete.runbooks, help="Only of this runbook.")
@click.option("--limit", default=50, show_default=True, help="At most this many.")
@click.option("--all", "previews", is_flag=True, help="Dry runs too.")
@options
def runs(
    call: Call, *, since: float | None, runbook: str | None, limit: int, previews: bool
) -> None:
    """List runs, newest first: what changed, and who did it?"""
    found = record.runs(call.settings, since=since, runbook=runbook, limit=limit, previews=previews)
    call.answer(
        lambda: catalog.runs(
            found,
            time.time(),
            paint=screen.paint(),
            columns=screen.margin(),
        ),
        (jsonl.run(item) for item in found),
    )


@click.command(cls=Command)
@click.argument("run", shell_complete=complete.run_ids)
@click.argument("text", nargs=-1, required=True)
@options
def note(call: Call, run: str, text: tuple[str, ...]) -> None:
    """Add a note to the record of a run: opskit note last 'customers see errors'"""
    found = record.load_run(call.settings, run).id
    from opskit.app import runs as carried  # what only looks does without

    carried.note(call.settings, found, " ".join(text), call.person)
    call.answer(lambda: f"noted in {found}\n", [{"kind": "note", "run": found}])


@click.command(cls=Command)
@run_argument
@click.option("-o", "--output", "output", metavar="FILE", type=click.Path(path_type=Path),
              help="Write to this file.")  # fmt: skip
@options
def report(call: Call, run: str, output: Path | None) -> None:
    """Tell a run as Markdown: who, why, each step on each host, what was undone."""
    from opskit.view.report import markdown  # lists have no use for it

    found = record.load_run(call.settings, run)
    entries = tuple(record.entries(call.settings, found.id))
    text = markdown(found, entries, record.plan_of(call.settings, found.id))
    if output is not None:
        with writing(output):
            output.write_text(text, encoding="utf-8")
        screen.err(f"written to {output}\n")
        return
    call.answer(lambda: text, [{"kind": "report", "run": found.id, "markdown": text}])
