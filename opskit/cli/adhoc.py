"""opskit exec: one command on many hosts."""

import click

from opskit.app import adhoc, record
from opskit.cli import complete
from opskit.cli.amounts import DURATION
from opskit.cli.asking import typed
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.cli.outcome import told
from opskit.cli.watching import late_watching
from opskit.errors import Exit


@click.command("exec", cls=Command, context_settings={"ignore_unknown_options": False})
@click.argument("hosts", shell_complete=complete.hosts)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--read", is_flag=True, help="The command only reads: nothing is kept on the host.")
@click.option("--sudo", metavar="USER", help="Run it as this user.")
@click.option("--timeout", type=DURATION, default="1m", show_default=True, metavar="TIME",
              help="End it after this long, such as 90s or 10m.")  # fmt: skip
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@options
def exec_(
    call: Call,
    *,
    hosts: str,
    words: tuple[str, ...],
    read: bool,
    sudo: str | None,
    timeout: float,
    reason: str,
) -> Exit:
    """Run one command on hosts: opskit exec 'web:!web3' -- systemctl status app

    One word is a line for the shell; several are a command and its arguments. It is recorded like
    a run; unless --read it goes on at the host when the line drops.
    """
    with late_watching(call) as (watch, stop):
        done = adhoc.exec_(
            call.settings,
            call.inventory,
            hosts,
            words,
            person=call.person,
            watch=watch,
            sudo=sudo,
            timeout=timeout,
            change=not read,
            reason=reason,
            command=typed(),
            stop=stop,
        )
    return told(call, done, record.plan_of(call.settings, done.id))
