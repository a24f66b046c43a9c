"""Runbooks by name or path, and the inventory."""

import os
import shlex
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from opskit import load
from opskit.errors import InputError
from opskit.model.frozen import frozen
from opskit.model.inventory import Inventory
from opskit.model.problem import Place, Problem
from opskit.model.runbook import Runbook
from opskit.model.windows import Freeze, Window
from opskit.settings import Settings

SUFFIXES = (".yaml", ".yml")


@frozen
class Shelf:
    """The runbooks that can be named here; of the broken ones the names."""

    runbooks: tuple[Runbook, ...]
    broken: tuple[str, ...]


@frozen
class Linted:
    """What was checked, and what is wrong in it."""

    files: tuple[Path, ...]
    problems: tuple[Problem, ...]


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
    for candidate in (path, *(Path(f"{name}{suffix}") for suffix in SUFFIXES if "/" in name)):
        if candidate.is_file():
            return candidate
    files = {path.stem: path for path in runbook_files(settings)}
    if name in files:
        return files[name]
    what = "file" if path.suffix in SUFFIXES and "/" in name else "runbook"
    raise InputError(f"there is no {what} {name!r}", hint=_elsewhere(settings, path.stem, files))


def _elsewhere(settings: Settings, name: str, names: Iterable[str]) -> str:
    """Say where a runbook that was not found may be."""
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else "`opskit list` shows what there is"
    if settings.file is None:
        hint += " And there" if near else "; there"
        hint += f" is no opskit.yaml in {settings.folder} or above: is it the right folder?"
    return hint


def show(settings: Settings, name: str) -> Runbook:
    """Load a runbook by name or path."""
    path = runbook_path(settings, name)
    if load.kind(path) == "inventory":
        raise InputError(
            "this is an inventory, not a runbook", where=str(path),
            hint=f"name the runbook, and the inventory with -i: -i {path}",
        )  # fmt: skip
    return load.runbook(path, settings.runbooks)


def list_runbooks(settings: Settings) -> Shelf:
    """Load every runbook that a name can mean; what is wrong in broken ones is left to `lint`."""
    whole: list[Runbook] = []
    broken: list[str] = []
    for path in runbook_files(settings):
        runbook, problems = load.check(path, settings.runbooks)
        if runbook is None or any(problem.severity == "error" for problem in problems):
            broken.append(path.stem)
        else:
            whole.append(runbook)
    return Shelf(runbooks=tuple(whole), broken=tuple(broken))


def lint(settings: Settings, paths: list[Path], inventory: str | None = None) -> Linted:
    """Check runbooks and inventories: these files, folders and names, or all runbooks by name.

    `inventory` is checked with the paths; alone, it is all that is checked.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            files += [p for p in found if load.kind(p) is not None]
        else:
            files.append(path if path.exists() else runbook_path(settings, str(path)))
    if not paths and inventory is None:
        files = runbook_files(settings)
    problems: list[Problem] = []
    for file in files:
        problems += load.lint(file, settings.runbooks)
    if inventory is not None:
        files.append(inventory_path(settings, inventory))
        problems += load.check_inventory(files[-1])[1]
    problems += (one for file in files for one in _names_nobody(settings, file))
    return Linted(files=tuple(files), problems=tuple(dict.fromkeys(problems)))


def _names_nobody(settings: Settings, path: Path) -> Iterator[Problem]:
    """Warn of windows and freezes for a runbook that is not here: a slip would let changes through.

    It may well be elsewhere, so it is no error.
    """
    found = load.check_inventory(path)[0] if load.kind(path) == "inventory" else None
    if found is None:
        return
    every: tuple[Window | Freeze, ...] = (*found.change_windows, *found.freezes)
    named = {name: one for one in every for name in one.runbooks}
    if named.keys() <= {file.stem for file in runbook_files(settings)}:
        return
    known = [runbook.name for runbook in list_runbooks(settings).runbooks]
    for name, one in named.items():
        if name not in known:
            file, line, column = one.place.rsplit(":", 2)
            near = get_close_matches(name, known, 1)
            yield Problem(
                place=Place(file=file, line=int(line), column=int(column)),
                what=f"there is no runbook {name!r} here, so this holds for none",
                write=near[0] if near else "a name that `opskit list` shows",
                severity="warning",
            )


def inventory(settings: Settings, name: str | None = None) -> Inventory:
    """Load the inventory: a path, or the name of one in `inventories/`."""
    return _inventory(inventory_path(settings, name))


def inventory_path(settings: Settings, name: str | None = None) -> Path:
    """Return where the inventory is; a folder is one, too, where no file is meant."""
    if name is None and settings.inventory is None:
        raise InputError(
            "no inventory was named",
            hint="give one with -i FILE, or write `inventory: FILE` into opskit.yaml",
        )
    path = Path(name) if name is not None else settings.inventory
    assert path is not None
    folder = settings.folder / "inventories"
    beside = [folder / f"{path}{suffix}" for suffix in SUFFIXES]
    for candidate in (path, *beside, folder / path):
        if candidate.is_file():
            return candidate
        if candidate.is_dir() and "/" in (name or ""):
            break
    for candidate in (path, folder / path):
        if candidate.is_dir() and any(candidate.iterdir()):
            return candidate
    raise InputError(f"there is no inventory {str(path)!r}", hint=_missing(path, folder))


def _inventory(path: Path) -> Inventory:
    if path.is_file() and load.kind(path) == "runbook":
        raise InputError(
            "this is a runbook, not an inventory", where=str(path),
            hint=f"run it with: opskit run {path} -i INVENTORY",
        )  # fmt: skip
    return load.inventory(path)


def _missing(path: Path, folder: Path) -> str:
    """Say what to do about an inventory that is not there."""
    if path.name == "inventory.yaml" and path.parent.name == "lab":
        return f"the practice hosts are not up: opskit lab up --dir {shlex.quote(_near(path))}"
    names = sorted(found.stem for found in folder.glob("*") if found.suffix in SUFFIXES)
    there = f"there are: {', '.join(names)}; or give the path of a file" if names else ""
    return there or "give the path of a file with -i FILE"


def _near(path: Path) -> str:
    return min(str(path.parent), os.path.relpath(path.parent), key=len)
