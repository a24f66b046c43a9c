"""`run --nagios`: a runbook of health checks as a plug-in of a monitoring system."""

import functools
from collections.abc import Callable

import click

from opskit import app
from opskit.cli import screen
from opskit.cli.asking import prepared, typed
from opskit.cli.call import Call
from opskit.cli.interrupts import stopping
from opskit.errors import InputError
from opskit.execute import Stop
from opskit.model.event import Chunk, Event
from opskit.plan import reads_only
from opskit.view import plugin


def as_plugin(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command `--nagios`: say it as monitoring plug-ins do, and end with 0 to 3."""

    @click.option(
        "--nagios",
        is_flag=True,
        help="As a monitoring plug-in, for health checks: a line, and status 0 to 3.",
    )
    @functools.wraps(command)
    def wrapped(call: Call, *, nagios: bool, **rest: object) -> int | None:
        return _checked(call, **rest) if nagios else command(call, **rest)  # type: ignore[arg-type]

    return wrapped


def _checked(
    call: Call,
    *,
    ask: app.Ask,
    reason: str,
    **_: object,
) -> int:
    """Make the checks and say in one line how things are."""
    made = prepared(call, ask)
    if not reads_only(made.plan):
        raise InputError(
            f"{made.plan.runbook} changes something; --nagios is for runbooks that only check",
            hint="run it without --nagios",
        )
    stop = Stop()
    with stopping(stop.press):
        done = app.run(
            call.settings, made, call.person, _unwatched, reason=reason, command=typed(), stop=stop
        )
    text, status = plugin.told(done, made.plan)
    screen.out(text)
    return status


def _unwatched(_: Event | Chunk) -> None:
    """Watch nothing: a plug-in says one thing, at its end."""
