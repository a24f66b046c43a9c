"""`opskit`: which commands there are, and how every one of them ends."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from opskit import __version__
from opskit.cli.group import Entry, LazyGroup
from opskit.errors import Exit

SECTIONS = {
    "Look": {
        "list": Entry("opskit.cli.look:list_", "List the runbooks here."),
        "show": Entry("opskit.cli.look:show", "Describe a runbook: parameters, steps, undo."),
        "lint": Entry("opskit.cli.look:lint", "Find every problem in runbooks."),
        "plan": Entry("opskit.cli.plan:plan", "Show what a run would do; changes nothing."),
        "hosts": Entry("opskit.cli.hosts:hosts", "Check hosts; trust their keys."),
    },
    "Do": {
        "run": Entry("opskit.cli.run:run", "Carry out a runbook."),
        "exec": Entry("opskit.cli.adhoc:exec_", "Run one command on hosts, recorded like a run."),
        "notify": Entry("opskit.cli.notify:notify", "Say something in a channel."),
        "resume": Entry("opskit.cli.again:resume", "Go on with a run that stopped."),
        "decide": Entry("opskit.cli.steer:decide", "Answer what a run waits for, and go on."),
        "pause": Entry("opskit.cli.steer:pause", "Let nothing new start in a run under way."),
        "retry": Entry("opskit.cli.again:retry", "Try the hosts again that a run left behind."),
        "abort": Entry("opskit.cli.again:abort", "End a run as it stands; stop what it runs."),
        "undo": Entry("opskit.cli.again:undo", "Take back what a run did."),
    },
    "Look back": {
        "status": Entry("opskit.cli.record:status", "Say what is true after a run."),
        "attach": Entry("opskit.cli.steer:attach", "Watch a run that somebody else carries out."),
        "runs": Entry("opskit.cli.record:runs", "List runs: what changed, and who did it?"),
        "output": Entry("opskit.cli.output:output", "Show what a step printed on a host."),
        "note": Entry("opskit.cli.record:note", "Add a note to the record of a run."),
        "incident": Entry("opskit.cli.incident:incident", "Tell an outage as a file that is kept."),
        "report": Entry("opskit.cli.record:report", "Tell a run as Markdown."),
        "audit": Entry("opskit.cli.audit:audit", "Read the record; verify that it is whole."),
    },
    "Set up": {
        "init": Entry("opskit.cli.init:init", "Make a folder with a working example."),
        "schedule": Entry("opskit.cli.schedule:schedule", "Runbooks by the clock: systemd, cron."),
        "store": Entry("opskit.cli.store:store", "The record of a team: make, check, import."),
        "db": Entry("opskit.cli.database:db", "Make databases fit for changes."),
        "lab": Entry("opskit.cli.lab:lab", "A practice fleet on this machine."),
        "schema": Entry(
            "opskit.cli.look:schema", "Print the JSON Schema of runbooks and other files."
        ),
        "completion": Entry("opskit.cli.completion:completion", "Print completion for a shell."),
    },
}

root = LazyGroup(
    name="opskit",
    help="Runbooks that can be trusted: planned before they run, recorded while they run, "
    "taken back when they fail.",
    sections=SECTIONS,
)
root = click.version_option(__version__, "--version", message="opskit %(version)s")(root)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    status = _heard(call(words), words)
    # All that matters is closed by now. To take the rest apart as well, hundreds of connections
    # with their threads, is what an interpreter does that goes on.
    os._exit(status)


def call(argv: list[str]) -> int:
    """Run one command; return its exit status. Whatever goes wrong is told here, and only here."""
    from opskit.cli import screen

    screen.prepare()
    try:
        status = root.main(args=argv, prog_name="opskit", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001 - the one place where errors become text
        from opskit.cli import failure

        status = failure.told(error, argv)
    return int(status) if isinstance(status, int) else int(Exit.OK)


ACTING = frozenset({*SECTIONS["Do"], "note", "init", "lab", "db"})
"""Commands that do something besides printing: their status says how that went."""


def _heard(status: int, argv: list[str]) -> int:
    """Say it where output did not arrive; a command that only prints has failed then."""
    from opskit.cli import screen

    error = screen.lost()
    if error is None:
        return status
    from opskit.cli import failure

    acts = bool(argv) and argv[0] in ACTING
    failure.unheard(error, argv, acts=acts)
    return status if acts else status or int(Exit.USAGE)
