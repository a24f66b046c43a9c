"""Completion of names: quick, silent, and never in the way when something is wrong."""

import contextlib
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from opskit.model.plan import Plan

Found = list[CompletionItem]
LIMIT = 200


def _safely(find: Callable[[], Iterable[tuple[str, str]]], so_far: str) -> Found:
    """Offer what begins with the text so far; whatever goes wrong, offer nothing."""
    found: Found = []
    quiet = contextlib.redirect_stderr(io.StringIO())
    with contextlib.suppress(Exception), quiet, contextlib.redirect_stdout(io.StringIO()):
        for value, about in find():
            if value.startswith(so_far) and len(found) < LIMIT:
                found.append(CompletionItem(value, help=about or None))
    return found


def runbooks(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer the runbooks here, and paths of YAML files."""

    def found() -> Iterable[tuple[str, str]]:
        from opskit.app import configuration, find

        shelf = find.list_runbooks(configuration.settings())
        yield from ((item.name, item.summary) for item in shelf.runbooks)
        yield from ((name, "broken") for name in shelf.broken)

    return _safely(found, so_far) + ([CompletionItem(so_far, type="file")] if "/" in so_far else [])


def files_or_runbooks(context: click.Context, parameter: click.Parameter, so_far: str) -> Found:
    """Offer the runbooks here and any file."""
    return [*runbooks(context, parameter, so_far), CompletionItem(so_far, type="file")]


def run_ids(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer the newest runs."""

    def found() -> Iterable[tuple[str, str]]:
        from opskit.app import configuration, record

        yield "last", "the newest run"
        listed = record.runs(configuration.settings(), since=None, runbook=None, limit=30)
        yield from ((run.id, f"{run.runbook}: {run.state}") for run in listed)

    return _safely(found, so_far)


def choices(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer the answers to what the run asks that was named."""

    def found() -> Iterable[tuple[str, str]]:
        from opskit.app import configuration, record

        asked = (
            record.load_run(configuration.settings(), str(context.params.get("run"))).question or {}
        )
        offered = asked.get("choices")
        yield from ((str(c), "") for c in offered) if isinstance(offered, (list, tuple)) else ()

    return _safely(found, so_far)


def steps(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer the steps of the run that was named."""

    def found() -> Iterable[tuple[str, str]]:
        plan = _plan_of(context)
        yield from ((position, stage.name) for position, stage in plan.stages.items())

    return _safely(found, so_far)


def steps_of_runbook(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer the steps of the main part of the runbook that was named."""

    def found() -> Iterable[tuple[str, str]]:
        from opskit.app import configuration, find

        name = context.params.get("runbook") or _typed_after(context.info_name)
        if isinstance(name, str):
            for step in find.show(configuration.settings(), name).steps:
                if step.phase == "main":
                    yield step.position, step.name

    return _safely(found, so_far)


def lab_hosts(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer the hosts of the lab that is meant here."""

    def found() -> Iterable[tuple[str, str]]:
        from opskit.cli.lab import of_project
        from opskit.lab import Lab

        given = context.params.get("folder") or os.environ.get("OPSKIT_LAB") or None
        folder = of_project(context, _, Path(given) if given else None)
        yield from ((host.name, host.address) for host in Lab.load(folder).layout.hosts)

    return _safely(found, so_far)


def hosts_of_run(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer the hosts of the run that was named."""

    def found() -> Iterable[tuple[str, str]]:
        actions = _plan_of(context).actions
        return ((name, "") for name in dict.fromkeys(a.host or a.target for a in actions))

    return _safely(found, so_far)


def hosts_or_states(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer what `retry --hosts` takes, after the last comma."""
    words = ("failed", "unreachable", "unknown", "undone", "not-started", "excluded")
    return _hosts_or(words, context, so_far)


def hosts_to_undo(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer what `undo --hosts` takes: states in which something may be there to take back."""
    return _hosts_or(("done", "failed", "begun", "undo-failed"), context, so_far)


def _hosts_or(words: Iterable[str], context: click.Context, so_far: str) -> Found:
    before, comma, last = so_far.rpartition(",")
    del last

    def found() -> Iterable[tuple[str, str]]:
        yield from ((before + comma + word, "hosts in this state") for word in words)
        yield from ((before + comma + name, "") for name in _plan_of(context).hosts)

    return _safely(found, so_far)


def _plan_of(context: click.Context) -> Plan:
    from opskit.app import configuration, record

    return record.plan_of(configuration.settings(), str(context.params.get("run") or "last"))


def inventories(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer inventory files."""

    def found() -> Iterable[tuple[str, str]]:
        near = (*Path().glob("*inventory*.y*ml"), *Path().glob("*/inventory.y*ml"))
        paths = {*near, *Path("inventories").glob("*.y*ml")}
        return ((str(path), "") for path in sorted(paths))

    return _safely(found, so_far) or [CompletionItem(so_far, type="file")]


def hosts(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer groups and hosts of the inventory; the part before the last `:` stays."""
    before, colon, last = so_far.rpartition(":")
    lead = before + colon + ("!" if last.startswith("!") else "&" if last.startswith("&") else "")
    given = context.params.get("inventory")

    def found() -> Iterable[tuple[str, str]]:
        from opskit import load
        from opskit.app import configuration

        path = Path(given) if isinstance(given, str) else configuration.settings().inventory
        if path is not None:
            inventory = load.inventory(path, run=False)
            yield from ((lead + group, "group") for group in ("all", *inventory.groups))
            yield from ((lead + name, host.address) for name, host in inventory.hosts.items())

    return _safely(found, so_far)


def parameters(context: click.Context, _: click.Parameter, so_far: str) -> Found:
    """Offer `name=` for each parameter of the runbook, and the values of an enum."""

    def found() -> Iterable[tuple[str, str]]:
        from opskit.app import configuration, find

        name = context.params.get("runbook") or _typed_after(context.info_name)
        if isinstance(name, str):
            for param in find.show(configuration.settings(), name).params:
                yield from (
                    (f"{param.name}={value}", param.help) for value in param.choices or ("",)
                )

    return _safely(found, so_far)


def _typed_after(command: str | None) -> str | None:
    """Return the word after the command: click forgets it while `-p` still lacks its value."""
    words = os.environ.get("COMP_WORDS", "").split()
    after = words[words.index(command) + 1 :] if command in words else []
    return next((word for word in after if not word.startswith("-")), None)
