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
    """A host as opskit takes it; `groups` outer ones first; `unknown`: vars of unknown value."""

    name: str
    address: str
    connection: Mapping[str, Json]
    vars: Mapping[str, Json]
    unknown: frozenset[str]
    groups: tuple[str, ...]
    place: Place


class Taken(NamedTuple):
    """What was taken. `texts`: all that was read, by path; `withheld`: vars that aren't known.

    `vars` and `unknown` are those of all hosts.
    """

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    vars: Mapping[str, Json]
    unknown: frozenset[str]
    withheld: Mapping[str, str]
    texts: Mapping[str, str]
