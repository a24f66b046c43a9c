"""Runbooks by name or path, the settings, the inventory."""

import os
from difflib import get_close_matches
from pathlib import Path

from opskit import load
from opskit.errors import InputError
from opskit.model.inventory import Inventory
from opskit.model.problem import Problem
from opskit.model.runbook import Runbook
from opskit.settings import Settings, project_file, settle

SUFFIXES = (".yaml", ".yml")


def settings(*, store: str | None = None, inventory: str | None = None) -> Settings:
    """Read the environment and the nearest `opskit.yaml`; options of the command line win."""
    start = Path.cwd()
    file = project_file(start)
    written = load.mapping(file) if file else {}
    return settle(os.environ, start, written, file, store=store, inventory=inventory)


def runbook_files(settings: Settings) -> list[Path]:
    """Return every runbook that a name can mean; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in settings.runbooks:
        for path in sorted(folder.glob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                found.setdefault(path.stem, path)
    return list(found.values())


def runbook_path(settings: Settings, name: str) -> Path:
    """Return the file of a runbook; `name` is a path, or the file's name without its ending."""
    path = Path(name)
    if path.is_file():
        return path
    files = {path.stem: path for path in runbook_files(settings)}
    if name in files:
        return files[name]
    near = get_close_matches(name, files, 1)
    hint = f"did you mean {near[0]}?" if near else "`opskit list` shows what there is"
    raise InputError(f"there is no runbook {name!r}", hint=hint)


def show(settings: Settings, name: str) -> Runbook:
    """Load a runbook by name or path."""
    return load.runbook(runbook_path(settings, name), settings.runbooks)


def list_runbooks(settings: Settings) -> list[Runbook]:
    """Load every runbook that a name can mean; broken ones are left to `lint`."""
    found = []
    for path in runbook_files(settings):
        runbook, _ = load.check(path, settings.runbooks)
        if runbook is not None:
            found.append(runbook)
    return found


def lint(settings: Settings, paths: list[Path]) -> list[Problem]:
    """Check runbooks and inventories in these files and folders (none: all runbooks by name)."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            files += [p for p in found if load.kind(p) is not None]
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"there is no file {path}")
    problems: list[Problem] = []
    for file in files or runbook_files(settings):
        problems += load.lint(file, settings.runbooks)
    return list(dict.fromkeys(problems))


def inventory(settings: Settings, name: str | None = None) -> Inventory:
    """Load the inventory: a path, or the name of a file in `inventories/`."""
    if name is None and settings.inventory is None:
        raise InputError(
            "no inventory was named",
            hint="give one with -i FILE, or write `inventory: FILE` into opskit.yaml",
        )
    path = Path(name) if name is not None else settings.inventory
    assert path is not None
    if path.is_file():
        return load.inventory(path)
    beside = [settings.folder / "inventories" / f"{path}{suffix}" for suffix in SUFFIXES]
    for candidate in beside:
        if candidate.is_file():
            return load.inventory(candidate)
    raise InputError(
        f"there is no inventory {str(path)!r}", hint=f"looked for {path} and {beside[0]}"
    )
