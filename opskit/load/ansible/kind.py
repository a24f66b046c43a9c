"""How it is told what a file is that `-i` names: by its content, and by how its name ends.

1. A folder: inventories of Ansible, read one after the other.
2. A file that can be run and begins as a program does (`#!`): what it prints for `--list`.
3. A file in YAML whose first level has `opskit`: opskit's own. So is one that has keys of opskit
   there and nothing that looks like a group of Ansible: it forgot to say so, and is told.
4. Other YAML: Ansible's. YAML is what ends in .yml, .yaml or .json, and what has no ending and
   begins with `---` or with a line `NAME:`.
5. Anything else: Ansible's INI.
"""

import os
import re
from pathlib import Path
from typing import Literal, TypeAlias

from opskit.load.ansible.texts import FOLDER, LISTED
from opskit.load.files import Kept
from opskit.load.yaml import LARGEST

Sort: TypeAlias = Literal["folder", "program", "opskit", "yaml", "ini"]
_BEGINS = (b"#!", b"\x7fELF")
_ENDINGS = (".yml", ".yaml", ".json")
_OWN = re.compile(r"^opskit\s*:|\A\s*\{\s*\"?opskit\"?\s*:", re.MULTILINE)
_LIKELY = re.compile(
    r"^(hosts|groups|connection|services|balancers|databases|redis|secrets|steps|params)\s*:",
    re.MULTILINE,
)
_YAML = re.compile(r"\A\ufeff?(?:\s*(?:#.*)?\n)*(?:---|[\w.-]+:\s*(?:#.*)?$)", re.MULTILINE)
_GROUPS = re.compile(
    r"^(all|ungrouped)\s*:|^ +(hosts|children)\s*:\s*(#.*)?$"
    r"|^[\w.-]+\s*:\s*\{\s*(hosts|children|vars)\s*:",
    re.MULTILINE,
)
_TASKS = re.compile(r"^\s*-|^steps\s*:", re.MULTILINE)


def sort_of(path: Path, kept: Kept | None = None) -> Sort:
    """Tell what a path is; what is not there is taken for opskit's own, whose reader says so."""
    if kept is None and path.is_dir():
        return "folder"
    if kept is None and is_program(path):
        return "program"
    text = _text(path, kept)
    if text is None or not text.strip():
        return "opskit"
    if text.startswith(FOLDER):
        return "folder"
    if text.startswith(LISTED):
        return "program"
    if path.suffix not in _ENDINGS and not (path.suffix == "" and _YAML.match(text)):
        return "ini"
    own = _OWN.search(text) or (_LIKELY.search(text) and not _GROUPS.search(text))
    return "opskit" if own else "yaml"


def has_groups(path: Path) -> bool:
    """Tell whether a file that nobody called an inventory is one of Ansible's, by what is in it."""
    if sort_of(path) != "yaml":
        return sort_of(path) in ("program", "ini")
    text = _text(path, None) or ""
    return bool(_GROUPS.search(text)) and not _TASKS.search(text)


def is_program(path: Path) -> bool:
    """Tell whether a file is one that can be run: executable, and a script or a binary."""
    return os.access(path, os.X_OK) and path.is_file() and begins(path)


def begins(path: Path) -> bool:
    """Tell whether a file begins as a program does."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(_BEGINS)
    except OSError:
        return False


def _text(path: Path, kept: Kept | None) -> str | None:
    if kept is not None:
        return kept.get(str(path))
    try:
        with path.open("rb") as file:
            return file.read(LARGEST).decode("utf-8", "replace")
    except OSError:
        return None
