"""A file of plain settings → a mapping."""

from collections.abc import Mapping
from pathlib import Path

from opskit.load.files import read
from opskit.load.yaml import Table, parse, plain
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.value import Json


def mapping(path: Path) -> Mapping[str, Json]:
    """Read a YAML file that holds one mapping; raises ProblemsError with what is wrong in it."""
    problems: list[Problem] = []
    raw = read(path, problems)
    if raw is None:
        raise ProblemsError(problems)
    parsed = parse(raw, str(path))
    if parsed.problems:
        raise ProblemsError(parsed.problems)
    if not isinstance(parsed.root, Table):
        raise ProblemsError([Problem(place=Place(file=str(path)), what="this is no mapping")])
    found = plain(parsed.root)
    assert isinstance(found, Mapping)
    return found
