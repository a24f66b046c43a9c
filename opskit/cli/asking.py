"""The options that say which runbook is meant, with what, and where."""

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from opskit.app import prepare
from opskit.cli import complete, failure
from opskit.cli.call import Call

_ASKED = ("runbook", "params", "params_file", "limit", "from_step")


def runbook_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command the runbook, its parameters, what may be left out of it, and the `ask`."""

    @click.argument("runbook", shell_complete=complete.runbooks)
    @click.option(
        "-p",
        "--param",
        "params",
        metavar="NAME=VALUE",
        multiple=True,
        shell_complete=complete.parameters,
        help="A parameter; give it as often as needed.",
    )
    @click.option(
        "--params",
        "params_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Parameters from a YAML file.",
    )
    @click.option(
        "--limit",
        metavar="HOSTS",
        shell_complete=complete.hosts,
        help="Only these of the hosts: names, groups, web:!web3.",
    )
    @click.option(
        "--from",
        "from_step",
        metavar="STEP",
        shell_complete=complete.steps_of_runbook,
        help="Begin at this step of the main part.",
    )
    @functools.wraps(command)
    def wrapped(**given: Any) -> int | None:  # noqa: ANN401 - as click gives them
        ask = prepare.Ask(**{name: given.pop(name) for name in _ASKED})
        return command(ask=ask, **given)

    return wrapped


def prepared(call: Call, ask: prepare.Ask) -> prepare.Prepared:
    """Load and plan what was asked for; nothing outside is touched."""
    made = prepare.prepare(call.settings, replace(ask, inventory=call.inventory), call.person)
    failure.keep_out(made.secrets.values())
    return made


def typed() -> str:
    """Return the command as it was typed, for the record."""
    import shlex

    return shlex.join(["opskit", *sys.argv[1:]])
