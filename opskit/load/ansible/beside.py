"""Vars beside an inventory: `group_vars/` and `host_vars/`, a file or a folder for each name."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from opskit.load.ansible.gathered import Gathered, Group, Named
from opskit.load.ansible.texts import Texts
from opskit.load.ansible.tree import read_vars
from opskit.load.suggest import nearest
from opskit.model.problem import Place

_ENDINGS = (".yml", ".yaml", ".json")
_DEEPEST = 8


def read_beside(folder: Path, texts: Texts, into: Gathered, without: tuple[str, ...]) -> list[str]:
    """Read the vars of all groups and hosts; return which patterns of `without` left out a file."""
    beside = _Beside(folder, texts, into, without)
    beside.read("group_vars", into.groups)
    beside.read("host_vars", into.hosts)
    return beside.used


class _Beside:
    def __init__(
        self, folder: Path, texts: Texts, into: Gathered, without: tuple[str, ...]
    ) -> None:
        self.folder = folder
        self.texts = texts
        self.into = into
        self.without = without
        self.used: list[str] = []

    def read(self, kind: str, owners: "dict[str, Group] | dict[str, Named]") -> None:
        folder = self.folder / kind
        there = self.texts.names(folder) or []
        for name in there:
            stem = _stem(name)
            if stem in owners:
                if name == _first(stem, there):
                    for path in self._files(folder / name, 0):
                        self._file(path, owners[stem])
            elif not name.startswith(".") and not name.endswith("~"):
                self._nobody(folder / name, stem, tuple(owners))

    def _nobody(self, path: Path, stem: str, owners: tuple[str, ...]) -> None:
        what = "group" if path.parent.name == "group_vars" else "host"
        near = nearest(stem, owners) or f"name it after a {what}"
        told = f"there is no {what} {stem[:80]!r}: nothing of this is read"
        self.into.warn(Place(file=str(path)), told, near)

    def _files(self, path: Path, depth: int) -> Iterator[Path]:
        if not self.texts.is_folder(path):
            yield path
            return
        if depth > _DEEPEST:
            self.into.error(Place(file=str(path)), "folders nested too deep", "keep it flatter")
            return
        for name in self.texts.names(path) or []:
            inner = path / name
            ending = inner.suffix
            if name.startswith(".") or name.endswith("~"):
                continue
            if not ending or (ending in _ENDINGS and not self.texts.is_folder(inner)):
                yield from self._files(inner, depth + 1)

    def _file(self, path: Path, owner: "Group | Named") -> None:
        inside = path.relative_to(self.folder).as_posix()
        for pattern in self.without:
            if fnmatchcase(inside, pattern):
                self.used.append(pattern)
                return
        text = self.texts.text(path)
        if text is not None:
            owner.beside.update(read_vars(text, self.into))


def _stem(name: str) -> str:
    return Path(name).stem if Path(name).suffix in _ENDINGS else name


def _first(stem: str, there: list[str]) -> str:
    """Return which of several with one name counts: the one without an ending, `.yml`, …"""
    return next(name for name in (stem, *(stem + end for end in _ENDINGS)) if name in there)
