"""What is wanted of an Ansible inventory, and what is taken of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from opskit.model.problem import Place
from opskit.model.value import Json


class Wanted(NamedTuple):
    """What is to be read, and what of it: hosts by an expression, all but some files and vars."""

    path: Path
    place: Place
    hosts: str = "all"
    without_files: tuple[str, ...] = ()
    without_vars: tuple[str, ...] = ()
    timeout: float = 60.0
    run: bool = True


class Host(NamedTuple):
    """A host as opskit takes it; `groups` outer ones first."""

    name: str
    address: str
    connection: Mapping[str, Json]
    vars: Mapping[str, Json]
    groups: tuple[str, ...]
    place: Place


class Taken(NamedTuple):
    """What was taken. `texts`: all that was read, by path; `withheld`: vars that aren't known."""

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    vars: Mapping[str, Json]
    withheld: Mapping[str, str]
    texts: Mapping[str, str]
