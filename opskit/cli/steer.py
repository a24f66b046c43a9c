"""Commands on a run that is under way or waits: decide, attach, pause."""

import click

from opskit import app
from opskit.app.runs import REASONED
from opskit.cli import complete, screen
from opskit.cli.again import live_option, run_argument
from opskit.cli.call import Call, options
from opskit.cli.run import told
from opskit.cli.watching import watching
from opskit.errors import Exit, InputError
from opskit.view.jsonl import JsonLines
from opskit.view.lines import Lines


@click.command()
@run_argument
@click.argument("choice", required=False, shell_complete=complete.choices)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@live_option
@options
def decide(call: Call, run: str, choice: str | None, reason: str, no_live: bool) -> Exit:
    """Answer what a run waits for, and go on with it. Without CHOICE you are asked."""
    found = app.load_run(call.settings, run)
    plan = app.plan_of(call.settings, found.id)
    if choice in REASONED and not reason:
        raise InputError(
            f"{choice!r} needs a reason: whoever reads the record will want it",
            hint="add --reason TEXT",
        )
    with watching(call, plan, run=found.id, live=not no_live) as (watch, stop):
        if choice is None:
            done = app.resume(call.settings, found.id, call.person, watch, stop=stop)
        else:
            done = app.decide(
                call.settings, found.id, choice, call.person, watch, reason=reason, stop=stop
            )
    return told(call, done, plan)


@click.command()
@run_argument
@options
def attach(call: Call, run: str) -> Exit:
    """Watch a run that somebody else carries out. Ctrl-C leaves it as it is."""
    found = app.load_run(call.settings, run)
    plan = app.plan_of(call.settings, found.id)
    at = found.created
    lines = Lines(screen.out, plan, paint=screen.paint(), now=lambda: at)
    watch = JsonLines(screen.out, run=found.id) if call.json else lines
    try:
        for entry in app.follow(call.settings, found.id):
            at = entry.at
            watch(entry.event)
    except KeyboardInterrupt:
        screen.err("\nThe run goes on.\n")
        return Exit.OK
    return told(call, app.load_run(call.settings, found.id), plan)


@click.command()
@run_argument
@options
def pause(call: Call, run: str) -> Exit:
    """Let nothing new start in a run that is under way; it can be resumed."""
    paused = app.load_run(call.settings, app.pause(call.settings, run))
    told(call, paused, app.plan_of(call.settings, paused.id))
    return Exit.OK
