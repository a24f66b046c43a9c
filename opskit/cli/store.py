"""opskit store: make the record of a team, check it, bring it up to date, bring runs in."""

from collections.abc import Mapping

import click

from opskit.app import store as app
from opskit.audit.imports import Taken
from opskit.cli import screen
from opskit.cli.call import Call, options
from opskit.cli.group import Group
from opskit.errors import Exit
from opskit.model.value import Json
from opskit.view import amounts, safe


@click.group(cls=Group)
def store() -> None:
    """The store that runs are recorded in: a file, or a PostgreSQL database for a team."""


@store.command()
@click.option("--role", metavar="ROLE", help="Let this role run things; made if it is missing.")
@options
def init(call: Call, *, role: str | None) -> None:
    """Make the record in a PostgreSQL database, as its owner.

    Without --role it prints what lets a role read and add, and never change or delete.
    """
    made = app.init(call.settings, role)
    call.answer(
        lambda: _made(made, role),
        [
            {
                "kind": "store", "location": made.location, "new": made.new, "role": role,
                "role_made": made.role_made, "grants": list(made.grants),
            }
        ],
    )  # fmt: skip


def _made(made: app.Made, role: str | None) -> str:
    lines = [f"{made.location}: {'made' if made.new else 'it was there already'}"]
    if role:
        lines.append(f"role {role}: {'made; it' if made.role_made else 'it'} may read and add")
    else:
        lines += ["Let the role that runs things read and add to it, as the owner:", ""]
        lines += [f"  {grant};" for grant in made.grants]
    return "".join(safe.visible(line) + "\n" for line in lines)


@store.command()
@options
def check(call: Call) -> Exit:
    """Check the store: format, guards, rights, durability; can it be written?

    Ends with 1 when something is wrong.
    """
    found = app.check(call.settings)
    call.answer(
        lambda: "".join(map(_checked, found)),
        [{"kind": "check", "name": c.name, "state": c.state, "what": c.what} for c in found],
    )
    return Exit.FAILED if any(one.state == "bad" for one in found) else Exit.OK


def _checked(one: app.Checked) -> str:
    paint = screen.paint()
    word = {"ok": "ok  ", "warn": paint.warn("WARN"), "bad": paint.bad("BAD ")}[one.state]
    hint = f"\n  → {safe.visible(one.hint)}" if one.hint else ""
    return f"{word} {one.name:<8} {safe.visible(one.what)}{hint}\n"


@store.command()
@options
def migrate(call: Call) -> None:
    """Bring the record to the format of this opskit, as its owner. A newer one is refused."""
    location, steps = app.migrate(call.settings)
    what = f"{amounts.count(len(steps), 'step')}: {', '.join(steps)}" if steps else "up to date"
    call.answer(
        lambda: safe.visible(f"{location}: {what}") + "\n",
        [{"kind": "migrated", "location": location, "steps": list(steps)}],
    )


@store.command("import")
@click.argument("file")
@click.option("--all", "everything", is_flag=True, help="Runs too that did not stand in for it.")
@options
def import_(call: Call, *, file: str, everything: bool) -> Exit:
    """Import the runs of FILE that were made with --store local, their chain intact.

    What is there already is left alone; what was altered is refused. Ends with 1 then.
    """
    found = app.bring_in(call.settings, file, call.person, everything=everything)
    call.answer(
        lambda: "".join(map(_taken, found)) or "there is nothing to import\n",
        map(_taken_json, found),
    )
    return Exit.FAILED if any(one.fate == "refused" for one in found) else Exit.OK


_FATES = {"imported": "imported", "there": "there already", "left": "LEFT", "refused": "REFUSED"}


def _taken(one: Taken) -> str:
    why = f": {safe.one_line(one.why)}" if one.why else ""
    return f"{one.run} {_FATES[one.fate]}{why}\n"


def _taken_json(one: Taken) -> Mapping[str, Json]:
    return {"kind": "run", "run": one.run, "fate": one.fate, "why": one.why}
