"""Files that describe one thing: what every one of them is asked before its own keys are read."""

from pathlib import Path
from typing import TypeVar

from opskit.model.problem import Place, Problem, ProblemsError

T = TypeVar("T")


def whole(path: Path, found: T | None, problems: list[Problem]) -> T:
    """Return what was found in a file; ProblemsError with every error in it."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if found is None and not errors:
        errors = [Problem(place=Place(file=str(path)), what="this can't be read")]
    if errors or found is None:
        raise ProblemsError(errors)
    return found
