"""opskit init: a folder to begin with."""

import json
import shlex
from pathlib import Path

import click

from opskit.cli.call import Call, options
from opskit.cli.example import FILES, NEXT, SCHEMA
from opskit.cli.group import Command
from opskit.errors import InputError, writing


@click.command(cls=Command)
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@options
def init(call: Call, folder: Path) -> None:
    """Make a folder with a working example: settings, an inventory, a runbook.

    Nothing that exists is overwritten.
    """
    written = write(folder)
    call.answer(
        lambda: _told(folder, written),
        [{"kind": "written", "files": [str(path) for path in written]}],
    )


def write(folder: Path) -> list[Path]:
    """Write the example; refuse, with nothing written, when one of its files is there already."""
    from opskit import load

    texts = {**FILES, SCHEMA: json.dumps(load.schema(), indent=2) + "\n"}
    with writing(folder):
        there = [folder / name for name in texts if (folder / name).exists()]
        if there:
            raise InputError(
                f"{there[0]} is there already; nothing was written",
                hint="name another folder: opskit init FOLDER",
            )
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _told(folder: Path, written: list[Path]) -> str:
    lines = ["Made:", *(f"  {path}" for path in written), "", "Next:"]
    if folder != Path():
        lines.append(f"  cd {shlex.quote(str(folder))}")
    room = max(len(command) for command, _ in NEXT)
    lines += [f"  {command:<{room}}  # {why}" for command, why in NEXT]
    return "\n".join(lines) + "\n"
