"""The options that say which runbook is meant, with what, and where."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from opskit import app
from opskit.cli import complete, failure
from opskit.cli.call import Call

F = TypeVar("F", bound=Callable[..., object])


def runbook_options(command: F) -> F:
    """Give a command the runbook, its parameters, and what may be left out of it."""
    for decorate in (
        click.option(
            "--from",
            "from_step",
            metavar="STEP",
            shell_complete=complete.steps_of_runbook,
            help="Begin at this step of the main part.",
        ),
        click.option(
            "--limit",
            metavar="HOSTS",
            shell_complete=complete.hosts,
            help="Only these of the hosts: names, groups, web:!web3.",
        ),
        click.option(
            "--params",
            "params_file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Parameters from a YAML file.",
        ),
        click.option(
            "-p",
            "--param",
            "params",
            metavar="NAME=VALUE",
            multiple=True,
            shell_complete=complete.parameters,
            help="A parameter; give it as often as needed.",
        ),
        click.argument("runbook", shell_complete=complete.runbooks),
    ):
        command = decorate(command)
    return command


def prepared(
    call: Call,
    *,
    runbook: str,
    params: tuple[str, ...],
    params_file: Path | None,
    limit: str | None,
    from_step: str | None,
) -> app.Prepared:
    """Load and plan what was asked for; nothing outside is touched."""
    ask = app.Ask(
        runbook=runbook,
        inventory=call.inventory,
        params=params,
        params_file=params_file,
        limit=limit,
        from_step=from_step,
    )
    made = app.prepare(call.settings, ask, call.person)
    failure.keep_out(made.secrets.values())
    return made


def typed() -> str:
    """Return the command as it was typed, for the record."""
    import shlex

    return shlex.join(["opskit", *sys.argv[1:]])
