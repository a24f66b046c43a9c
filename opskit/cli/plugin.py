"""`run --nagios`: a runbook of health checks as a plug-in of a monitoring system."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from opskit.app import prepare, runs
from opskit.cli import screen
from opskit.cli.asking import prepared, typed
from opskit.cli.call import Call
from opskit.cli.interrupts import stopping
from opskit.errors import InputError
from opskit.execute import Stop
from opskit.model.event import Chunk, Event
from opskit.plan import reads_only
from opskit.view import plugin


def as_plugin(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command `--nagios`: say it as monitoring plug-ins do, and end with 0 to 3."""

    @click.option(
        "--nagios",
        is_flag=True,
        help="As a monitoring plug-in, for health checks: a line, and status 0 to 3.",
    )
    @click.option(
        "--textfile",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="With --nagios: write what was found to this file, too, for Prometheus.",
    )
    @functools.wraps(command)
    def wrapped(call: Call, *, nagios: bool, textfile: Path | None, **rest: object) -> int | None:
        if nagios:
            _refuse_what_is_for_changes(call, rest)
            return _checked(call, textfile, **rest)  # type: ignore[arg-type]
        if textfile is not None:
            raise InputError("--textfile is for health checks", hint="add --nagios")
        return command(call, **rest)

    return wrapped


_HEEDED = frozenset({"ask", "reason", "plan_file", "yes", "no_live"})
"""What goes with `--nagios`; the last two ask for what is so anyway."""


def _refuse_what_is_for_changes(call: Call, given: Iterable[str]) -> None:
    """Refuse options that a check has no use for, rather than do without what was asked for."""
    context = click.get_current_context()
    for param in context.command.params:
        named = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if param.name in given and param.name not in _HEEDED and named:
            raise _not_beside(param.opts[0])
    if call.json:
        raise _not_beside("--json")


def _not_beside(option: str) -> InputError:
    return InputError(
        f"{option} does not go with --nagios, which makes checks and says one line",
        hint=f"leave {option} out, or run it without --nagios",
    )


def _checked(
    call: Call,
    textfile: Path | None,
    *,
    ask: prepare.Ask,
    reason: str,
    plan_file: Path | None,
    **_: object,
) -> int:
    """Make the checks and say in one line how things are."""
    made = prepared(call, ask)
    if plan_file is not None:
        prepare.check_plan(made, plan_file)
    if not reads_only(made.plan):
        raise InputError(
            f"{made.plan.runbook} changes something; --nagios is for runbooks that only check",
            hint="run it without --nagios",
        )
    if textfile is not None:
        _refuse_unwritable(textfile)
    stop = Stop()
    with stopping(stop.press):
        done = runs.run(
            call.settings, made, call.person, _unwatched, reason=reason, command=typed(), stop=stop
        )
    unwritten: list[str] = []
    if textfile is not None:
        from opskit.view import metrics  # a run has no use for it

        try:
            _write(textfile, metrics.text(done, made.plan))
        except InputError as error:  # it must not hide what was found
            unwritten.append(error.what)
    text, status = plugin.told(done, made.plan, unwritten)
    screen.out(text)
    return status


@contextmanager
def _putting(file: Path) -> Iterator[None]:
    """Say which file can't be put in its place, also in the line for a monitoring system."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--textfile {file} can't be written: {error.strerror or error}",
            hint="name a file in a folder that is there and where you may write",
        ) from error


def _refuse_unwritable(file: Path) -> None:
    """Refuse a file that can't be put in its place, before anybody is asked anything."""
    with _putting(file):
        new = _beside(file)
        new.touch()
        new.unlink()


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.{os.getpid()}")


def _write(file: Path, text: str) -> None:
    """Put a file in its place as a whole: a collector never reads half of it."""
    new = _beside(file)
    with _putting(file):
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(file)
        except OSError:
            new.unlink(missing_ok=True)
            raise


def _unwatched(_: Event | Chunk) -> None:
    """Watch nothing: a plug-in says one thing, at its end."""
