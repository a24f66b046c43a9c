"""A group whose commands are imported when they are called, so that help is quick."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

import click


class Entry(NamedTuple):
    """A command that is not imported yet: `where` is `module:name`."""

    where: str
    help: str


class Command(click.Command):
    """Refuses an option that is given twice where it has one value: click takes the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for option in () if ctx.resilient_parsing else given:  # who asks for words is told no error
            if isinstance(option, click.Option) and _single(option) and given.count(option) > 1:
                said = f"{option.opts[-1]} is given twice; give it once, "
                raise click.UsageError(said + "with commas where it takes several", ctx)
        return super().parse_args(ctx, args)


def _single(option: click.Option) -> bool:
    return not (option.multiple or option.is_flag or option.count)


class Group(click.Group):
    """A group of commands that refuse what is given twice."""

    command_class = Command


class LazyGroup(click.Group):
    """Lists its commands by section without importing any."""

    sections: Mapping[str, Mapping[str, Entry]]

    def __init__(
        self,
        *,
        name: str,
        help: str,  # noqa: A002 - click's word
        sections: Mapping[str, Mapping[str, Entry]],
    ) -> None:
        super().__init__(name=name, help=help, context_settings={"help_option_names": HELP})
        self.sections = sections

    def _entries(self) -> Mapping[str, Entry]:
        return {name: entry for part in self.sections.values() for name, entry in part.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries().get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.where.partition(":")
        found = getattr(import_module(module), name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._entries() and not args[0].startswith("-"):
            raise click.UsageError(unknown(args[0], self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])


HELP = ["-h", "--help"]


def unknown(word: str, names: Sequence[str]) -> str:
    """Say that there is no such command, and which one is nearest."""
    import difflib

    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}?" if near else "a runbook is run with: opskit run RUNBOOK"
    return f"no command {word!r}; {meant}"
