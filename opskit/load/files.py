"""Finding and reading the files that a person wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from opskit.load.reading import Reader
from opskit.load.suggest import nearest
from opskit.load.yaml import LARGEST, Scalar
from opskit.model.problem import Place, Problem

Kept: TypeAlias = Mapping[str, str]
"""Texts of files by their paths, as a record has them: where there are some, no disk is read."""


def read(path: Path, problems: list[Problem], kept: Kept | None = None) -> bytes | None:
    """Read a whole file of bounded size, or say why not."""
    if kept is not None and str(path) in kept:
        return kept[str(path)].encode("utf-8", "surrogatepass")
    if kept is not None:
        problems.append(Problem(place=Place(file=str(path)), what="it is not in the record"))
        return None
    try:
        if not path.is_file():
            what = "this is a directory" if path.is_dir() else "there is no such file"
            problems.append(Problem(place=Place(file=str(path)), what=what))
            return None
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        what = f"it can't be read: {error.strerror}"
        problems.append(Problem(place=Place(file=str(path)), what=what))
        return None


def find(
    reader: Reader,
    node: Scalar,
    names: Sequence[str],
    folders: Sequence[Path],
    what: str,
    *,
    kept: Kept | None = None,
) -> Path | None:
    """Find the first of some names in some folders; report what was meant when there is none."""
    if Path(node.text).is_absolute():
        folders = [Path("/")]
    for folder in folders:
        for name in names:
            path = folder / name
            if path.is_file() if kept is None else str(path) in kept:
                return path
    near = _near(names[0], folders)
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    if near and not node.text.endswith((".yaml", ".yml")):
        near = near.removesuffix(".yaml").removesuffix(".yml")
    write = near or f"put it in one of {looked}"
    reader.error(node, f"there is no {what} {node.text!r}", write)
    return None


def _near(name: str, folders: Sequence[Path]) -> str | None:
    wanted = Path(name)
    there = {
        path.stem: path.name
        for folder in folders
        if (folder / wanted.parent).is_dir()
        for path in (folder / wanted.parent).iterdir()
        if path.is_file() and path.suffix == wanted.suffix
    }
    close = nearest(wanted.stem, there, 0.75)
    return str(wanted.parent / there[close]) if close else None
