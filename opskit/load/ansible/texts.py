"""The texts that an Ansible inventory is read from: files, folders, and what a program prints.

All of them are kept, by path, for the record of a run; a record gives them back, and then no disk
is read and no program is run.
"""

from pathlib import Path
from typing import NamedTuple

from opskit.load.files import Kept, read
from opskit.load.yaml import SyntaxProblemError, decode
from opskit.model.problem import Place, Problem

LISTED = "# what the program printed for --list\n"
"""The first line of the text that stands for a program in a record."""
FOLDER = "# the files of this folder\n"
"""The same for a folder."""
MOST_FILES = 2000
VAULT = "$ANSIBLE_VAULT;"


class Text(NamedTuple):
    """A file that was read."""

    file: str
    source: str


class Texts:
    """Reads each text once and keeps it. `kept`: what a record has, instead of the disk."""

    def __init__(self, problems: list[Problem], kept: Kept | None) -> None:
        self.problems = problems
        self.kept = kept
        self.read: dict[str, str] = {}

    def text(self, path: Path) -> Text | None:
        """Read a file; None, and a problem, where that can't be done."""
        if len(self.read) >= MOST_FILES:
            self._error(path, f"more than {MOST_FILES} files belong to it", "name a part of it")
            return None
        raw = read(path, self.problems, self.kept)
        if raw is None:
            return None
        try:
            source = decode(raw, str(path))
        except SyntaxProblemError as error:
            self.problems.append(error.problem)
            return None
        self.read[str(path)] = source
        return Text(str(path), source)

    def recorded(self, path: Path) -> str | None:
        """Return what a record has of a program or a folder."""
        found = self.kept.get(str(path)) if self.kept is not None else None
        if found is not None:
            self.read[str(path)] = found
        return found

    def names(self, folder: Path) -> list[str] | None:
        """Return what is in a folder, sorted; None where it is none."""
        if self.kept is not None:
            inside = [Path(name).relative_to(folder) for name in self._below(folder)]
            return sorted({path.parts[0] for path in inside}) or None
        try:
            return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else None
        except OSError as error:
            self._error(folder, f"it can't be read: {error.strerror}")
            return None

    def is_folder(self, path: Path) -> bool:
        return bool(self._below(path)) if self.kept is not None else path.is_dir()

    def is_file(self, path: Path) -> bool:
        return str(path) in self.kept if self.kept is not None else path.is_file()

    def _below(self, folder: Path) -> list[str]:
        """Return what a record has of a folder."""
        names = (name for name in self.kept or () if name != str(folder))
        return [name for name in names if Path(name).is_relative_to(folder)]

    def _error(self, path: Path, what: str, write: str = "") -> None:
        self.problems.append(Problem(place=Place(file=str(path)), what=what, write=write))
