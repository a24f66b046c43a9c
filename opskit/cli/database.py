"""opskit db: make databases fit for changes."""

import click

from opskit.app import databases as app
from opskit.cli.call import Call, options
from opskit.view import safe


@click.group()
def db() -> None:
    """Databases of the inventory."""


@db.command()
@click.argument("name")
@click.option("--role", metavar="ROLE", help="Let this role leave marks, too.")
@click.option("--print", "shown", is_flag=True, help="Only print the statements.")
@options
def init(call: Call, *, name: str, role: str | None, shown: bool) -> None:
    """Make the table in which changes on database NAME leave their marks.

    It is made as the user that the inventory has for the database. Where that one may not, let
    somebody else carry out what --print prints.
    """
    if shown:
        made = app.marks(call.settings, call.inventory, name, role)
        call.answer(
            lambda: "".join(f"{statement};\n" for statement in made),
            [{"kind": "statement", "text": statement} for statement in made],
        )
        return
    schema = app.init(call.settings, call.inventory, name, role)
    call.answer(
        lambda: safe.visible(f"{name}: changes leave their marks in {schema}.marker") + "\n",
        [{"kind": "marks", "database": name, "schema": schema, "role": role}],
    )
