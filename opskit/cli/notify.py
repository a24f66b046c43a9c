"""opskit notify: say something in a channel of the inventory."""

import click

from opskit.app import record
from opskit.app.telling import tell
from opskit.cli.asking import typed
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.cli.outcome import told
from opskit.cli.watching import late_watching
from opskit.errors import Exit
from opskit.model.channel import SEVERITIES
from opskit.model.run import Run


@click.command(cls=Command)
@click.argument("message")
@click.option("--to", "to", multiple=True, metavar="CHANNEL",
              help="A channel of the inventory, or several; those under its `notify`.")  # fmt: skip
@click.option("--severity", type=click.Choice(SEVERITIES), default="info", show_default=True,
              help="A channel may want only what is so severe.")  # fmt: skip
@click.option("--ends", metavar="TEXT", default="",
              help="Only where TEXT was told before, and not yet that it is over.")  # fmt: skip
@options
def notify(call: Call, *, message: str, to: tuple[str, ...], severity: str, ends: str) -> Exit:
    """Say something in channels: opskit notify --to incidents 'rolling back, one region is down'

    It is recorded like a run, and fails where a channel has not got it, so it also shows whether a
    channel works. With --ends TEXT it is said only to channels that were told TEXT, and not yet
    that it is over; TEXT is no repetition to them then. No host is connected to.
    """
    found = _said(call, message, to, severity, ends)
    if found is None:
        call.answer(lambda: "nobody was told of it, so nobody hears that it is over\n", ())
        return Exit.OK
    return found[1]


def said(call: Call, message: str, to: tuple[str, ...], severity: str) -> tuple[Run, Exit]:
    """Say it, show what became of it, and return its run and how that ended."""
    found = _said(call, message, to, severity, "")
    assert found is not None  # only what ends something may have nobody to tell
    return found


def _said(
    call: Call, message: str, to: tuple[str, ...], severity: str, ends: str
) -> tuple[Run, Exit] | None:
    with late_watching(call) as (watch, stop):
        done = tell(
            call.settings,
            call.inventory,
            message,
            to=to,
            severity=severity,
            person=call.person,
            watch=watch,
            command=typed(),
            stop=stop,
            ends=ends,
        )
    if done is None:
        return None
    return done, told(call, done, record.plan_of(call.settings, done.id))
