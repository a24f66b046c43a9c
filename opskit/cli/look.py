"""Commands that only read files: list, show, lint, schema."""

import json
from pathlib import Path

import click

from opskit.app import find
from opskit.cli import complete, screen
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.errors import Exit
from opskit.view import catalog, problems


@click.command("list", cls=Command)
@options
def list_(call: Call) -> None:
    """List the runbooks that can be named here."""
    shelf = find.list_runbooks(call.settings)
    call.answer(
        lambda: catalog.runbooks(
            shelf.runbooks,
            shelf.broken,
            paint=screen.paint(),
            columns=screen.margin(),
        ),
        (
            *(catalog.runbook_json(item) for item in shelf.runbooks),
            *({"kind": "broken runbook", "name": name} for name in shelf.broken),
        ),
    )


@click.command(cls=Command)
@click.argument("runbook", shell_complete=complete.runbooks)
@options
def show(call: Call, runbook: str) -> None:
    """Describe a runbook: what it does, what it wants, which steps it has."""
    found = find.show(call.settings, runbook)
    columns = screen.margin()
    call.answer(
        lambda: catalog.runbook(found, paint=screen.paint(), columns=columns),
        [catalog.runbook_json(found)],
    )


@click.command(cls=Command)
@click.argument(
    "paths", nargs=-1, type=click.Path(path_type=Path), shell_complete=complete.files_or_runbooks
)
@click.option("--strict", is_flag=True, help="Count warnings as errors.")
@options
def lint(call: Call, paths: tuple[Path, ...], strict: bool) -> Exit:
    """Find every problem in runbooks: files, folders, names, or all that can be named here.

    With -i the inventory is checked, also one of Ansible's.
    Ends with 2 when there is an error (with --strict: or a warning).
    """
    checked = find.lint(call.settings, list(paths), call.inventory)
    found = checked.problems
    call.answer(
        lambda: problems.text(
            found, files=len(checked.files), paint=screen.paint(), columns=screen.margin()
        ),
        (*map(problems.as_json, found), problems.counted(found, files=len(checked.files))),
    )
    bad = any(strict or problem.severity == "error" for problem in found)
    return Exit.USAGE if bad else Exit.OK


@click.command(cls=Command)
@click.argument(
    "what",
    type=click.Choice(["runbook", "inventory", "expectations", "ledger", "checks", "schedules"]),
    default="runbook",
)
@options
def schema(call: Call, what: str) -> None:
    """Print the JSON Schema of runbooks, or of other files; editors complete and check with it."""
    from opskit import load

    made = {
        "inventory": load.inventory_schema,
        "expectations": load.expectations_schema,
        "ledger": load.ledger_schema,
        "checks": load.checks_schema,
        "schedules": load.schedules_schema,
    }
    found = made.get(what, load.schema)()
    screen.out(json.dumps(found, indent=None if call.json else 2) + "\n")
