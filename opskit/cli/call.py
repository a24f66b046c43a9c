"""What every command takes (`--json`, `-i`, `--store`) and what it needs: settings, a person."""

import functools
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import click

from opskit.app import configuration
from opskit.cli import complete, screen
from opskit.cli.person import Terminal
from opskit.model.value import Json
from opskit.settings import Settings
from opskit.view import jsonl


@dataclass(kw_only=True)
class Call:
    """One call of a command: how it is to answer, and on which store and inventory."""

    json: bool
    store: str | None
    inventory: str | None

    @functools.cached_property
    def settings(self) -> Settings:
        return configuration.settings(store=self.store, inventory=self.inventory)

    @functools.cached_property
    def person(self) -> Terminal:
        """Whoever sits there. With --json nobody is asked: a program reads the answer."""
        return Terminal(allowed=not self.json)

    @property
    def given(self) -> str:
        """What a further command on the same record needs, as it is typed; starts with a blank."""
        return f" --store {shlex.quote(self.store)}" if self.store else ""

    def answer(self, text: Callable[[], str], data: Iterable[Mapping[str, Json]]) -> None:
        """Answer with objects, an object a line, for --json; otherwise with text."""
        if self.json:
            for value in data:
                screen.out(jsonl.line(value))
        else:
            screen.out(text())


def options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command the options that every one has, and the call that they make up."""

    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON, an object a line.")
    @click.option(
        "--store",
        metavar="PLACE",
        help="The record: a file, postgresql://HOST/DB, local. Default: OPSKIT_STORE.",
    )
    @click.option(
        "-i",
        "--inventory",
        metavar="FILE",
        shell_complete=complete.inventories,
        help="The hosts: a file (also one of Ansible's), or the name of one in inventories/.",
    )
    @functools.wraps(command)
    def wrapped(
        *, as_json: bool, store: str | None, inventory: str | None, **rest: object
    ) -> int | None:
        return command(Call(json=as_json, store=store, inventory=inventory), **rest)

    return wrapped
