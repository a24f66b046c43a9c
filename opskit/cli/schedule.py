"""opskit schedule: runbooks by the clock, as systemd or cron take them."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from opskit.app import person, prepare
from opskit.app.find import inventory, inventory_path, runbook_path
from opskit.cli import screen
from opskit.cli.call import Call, options
from opskit.cli.group import Command
from opskit.errors import InputError, writing
from opskit.load.schedules import schedules
from opskit.model.inventory import Inventory
from opskit.model.schedule import Schedule
from opskit.schedule import cron, systemd


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "kind", type=click.Choice(["systemd", "cron"]), default="systemd",
              show_default=True, help="Units of systemd, or a file for /etc/cron.d.")  # fmt: skip
@click.option("-o", "--output", "output", metavar="FOLDER", type=click.Path(path_type=Path),
              help="Write the files into this folder.")  # fmt: skip
@options
def schedule(call: Call, file: Path, kind: str, output: Path | None) -> None:
    """Print what has runbooks begun by the clock: each with its time limit, lock and alert.

    FILE says what is run when. Every one of its runs is planned first, so that none fails at
    night for a name that is not there. opskit installs nothing: it has no clock of its own.
    """
    found = tuple(_planned(call, one) for one in schedules(file))
    texts = _texts(found, kind, str(call.settings.folder))
    if output is None:
        call.answer(
            lambda: "\n".join(f"# ---- {name}\n{text}" for name, text in texts.items()),
            ({"kind": "schedule", "file": name, "text": text} for name, text in texts.items()),
        )
        return
    for name, text in texts.items():
        with writing(output / name):
            (output / name).write_text(text, encoding="utf-8")
    screen.err("".join(f"written: {output / name}\n" for name in texts))


def _texts(found: tuple[Schedule, ...], kind: str, folder: str) -> Mapping[str, str]:
    program = [sys.executable, "-m", "opskit"]
    if kind == "cron":
        lines = [cron.line(one, program, folder) for one in found]
        return {"opskit": "SHELL=/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\n\n" + "\n".join(lines)}
    return {n: text for one in found for n, text in systemd.units(one, program, folder).items()}


def _planned(call: Call, one: Schedule) -> Schedule:
    """Plan a run as the clock will have it planned; return it with its files where they are."""
    words = tuple(f"{name}={value}" for name, value in one.params.items())
    if one.remind:
        return _reminding(call, one)
    try:
        runbook = runbook_path(call.settings, one.runbook).absolute()
        hosts = inventory_path(call.settings, one.inventory).absolute()
        ask = prepare.Ask(runbook=str(runbook), inventory=str(hosts), params=words, limit=one.limit)
        made = prepare.prepare(call.settings, ask, _Nobody(call.person.who, call.person.origin))
        _refuse_unknown(one, made.inventory)
    except InputError:
        screen.err(f"{one.place}: the schedule {one.name} can't be planned\n")
        raise
    return replace(one, runbook=str(runbook), inventory=str(hosts))


def _reminding(call: Call, one: Schedule) -> Schedule:
    """Return a schedule that runs nothing, with its inventory where that is."""
    try:
        path = inventory_path(call.settings, one.inventory).absolute()
        _refuse_unknown(one, inventory(call.settings, str(path)))
    except InputError:
        screen.err(f"{one.place}: the schedule {one.name} would tell nobody\n")
        raise
    return replace(one, inventory=str(path))


def _refuse_unknown(one: Schedule, found: Inventory) -> None:
    """Refuse channels that the inventory does not have."""
    for name in (*one.remind, *one.tell):
        if name not in found.channels:
            there = ", ".join(sorted(found.channels)) or "none"
            told = f"the inventory has no channel {name!r}"
            raise InputError(told, where=found.file, hint=f"its channels: {there}")


class _Nobody:
    """Nobody is there when the clock strikes."""

    interactive = False

    def __init__(self, who: str, origin: str) -> None:
        self.who = who
        self.origin = origin

    def ask(self, question: person.Question) -> str | None:
        return None

    def secret(self, name: str) -> str | None:
        return None

    def text(self, name: str, help_: str) -> str | None:
        return None

    def tell(self, text: str) -> None:
        """Tell nobody."""
