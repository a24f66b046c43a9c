"""opskit hosts: look at hosts before anything is done there; trust their keys."""

from collections.abc import Sequence

import click

from opskit.app import hosts as app
from opskit.cli import complete, screen
from opskit.cli.amounts import DURATION
from opskit.cli.call import Call, options
from opskit.cli.group import Group
from opskit.errors import Exit, InputError, RefusedError
from opskit.model.hostcheck import HostKey
from opskit.view import amounts, checks

hosts_argument = click.argument("hosts", default="all", shell_complete=complete.hosts)


@click.group(cls=Group)
def hosts() -> None:
    """Hosts of the inventory: are they fit, and are they the ones they claim to be?"""


@hosts.command()
@hosts_argument
@options
def check(call: Call, *, hosts: str) -> Exit:
    """Look at hosts: reachable, key, sudo, clock, disk, tools, home. Changes nothing.

    Ends with 1 when something is critical, with 6 when a host did not say.
    """
    found = app.hosts_check(call.settings, call.inventory, hosts)
    columns = screen.margin()
    call.answer(
        lambda: checks.text(found, paint=screen.paint(), columns=columns),
        (checks.as_json(one) for one in found),
    )
    return checks.status(found)


@hosts.command()
@hosts_argument
@click.option("--yes", "-y", is_flag=True, help="Don't ask: pin every new key.")
@options
def trust(call: Call, *, hosts: str, yes: bool) -> Exit:
    """Show the keys of hosts, and pin the new ones after a question.

    A key that has changed is never pinned: find out why first.
    """
    found = app.hosts_keys(call.settings, call.inventory, hosts)
    call.answer(
        lambda: checks.keys(found, paint=screen.paint()), (checks.key_json(one) for one in found)
    )
    new = [key for key in found if key.state == "new"]
    if new and not yes:
        _agreed(call, new)
    app.hosts_pin(new)
    if new:
        files = ", ".join(sorted({key.known_hosts for key in new}))
        screen.err(f"pinned {amounts.count(len(new), 'key')} in {files}\n")
    return _judged(found)


@hosts.command()
@hosts_argument
@click.option(
    "--older",
    type=DURATION,
    default=7 * 86400.0,
    metavar="TIME",
    help="Only what nothing has been written to for so long. Default: 7d.",
)
@click.option("--yes", "-y", is_flag=True, help="Don't ask before removing it.")
@options
def clean(call: Call, *, hosts: str, older: float, yes: bool) -> Exit:
    """Remove what runs have left on hosts, where nothing can need it any more."""
    from opskit.app import leftovers as app
    from opskit.view import leftovers as view

    found = app.leftovers(call.settings, call.inventory, hosts, older)
    gone = [one for one in found.found if not one.kept]
    what = f"{amounts.count(len(gone), 'directory', 'directories')}"
    if gone and not yes:
        screen.out(view.text(found))
        if not call.person.interactive:
            raise InputError(f"{what} to remove, and there is no terminal to ask on", hint="--yes")
        if not call.person.confirm(f"Remove {what}?"):
            raise RefusedError("nothing was removed")
    if gone:
        app.remove(call.settings, call.inventory, gone, older)
    call.answer(
        lambda: view.text(found, done=True),
        (view.as_json(one) for one in found.found),
    )
    return Exit.FAILED if found.failed else Exit.OK


def _agreed(call: Call, new: Sequence[HostKey]) -> None:
    """Return when a person agrees to pin these keys; everything else is refused."""
    if not call.person.interactive:
        raise InputError(
            f"{amounts.count(len(new), 'new key')}, and there is no terminal to ask on",
            hint="compare the fingerprints with those that the hosts' owner names, then --yes",
        )
    what = f"Are these fingerprints right? Pin {amounts.count(len(new), 'new key')}"
    if not call.person.confirm(f"{what}?"):
        raise RefusedError("no key was pinned")


def _judged(found: Sequence[HostKey]) -> Exit:
    changed = [key for key in found if key.state == "changed"]
    if changed:
        raise RefusedError(
            f"{changed[0].host} shows another key than the one that is pinned",
            where=changed[0].known_hosts,
            hint="if the host was set up anew: "
            f"ssh-keygen -R '{changed[0].name}' -f {changed[0].known_hosts}; else find out why",
        )
    unreachable = any(key.state == "unreachable" for key in found)
    return Exit.FAILED if unreachable else Exit.OK
