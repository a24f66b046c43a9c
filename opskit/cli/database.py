"""opskit db: make databases fit for changes."""

import click

from opskit.app import databases as app
from opskit.cli.call import Call, options
from opskit.cli.group import Group
from opskit.view import safe


@click.group(cls=Group)
def db() -> None:
    """Databases of the inventory."""


@db.command()
@click.argument("name")
@click.option("--role", metavar="ROLE", help="Let this role leave marks, too.")
@click.option("--payouts", is_flag=True, help="Also what payouts-hold and payouts-freeze need.")
@click.option("--print", "shown", is_flag=True, help="Only print the statements.")
@options
def init(call: Call, *, name: str, role: str | None, payouts: bool, shown: bool) -> None:
    """Make the tables in which changes on database NAME leave their marks.

    They are made as the user that the inventory has for the database. Where that one may not, let
    somebody else carry out what --print prints. What is there is left as it is.
    """
    if shown:
        made = app.marks(call.settings, call.inventory, name, role, payouts=payouts)
        call.answer(
            lambda: "".join(f"{statement};\n" for statement in made),
            [{"kind": "statement", "text": statement} for statement in made],
        )
        return
    schema = app.init(call.settings, call.inventory, name, role, payouts=payouts)
    told = f"{name}: changes leave their marks in {schema}.marker"
    if payouts:
        told += f"; what is held and frozen is kept in {schema}.payout_hold and .payout_freeze"
    data = {"database": name, "schema": schema, "role": role, "payouts": payouts}
    call.answer(lambda: safe.visible(told) + "\n", [{"kind": "marks", **data}])
