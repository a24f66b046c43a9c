"""What lint found, as text and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from opskit.model.problem import Problem
from opskit.model.value import Json
from opskit.view import amounts, names, safe
from opskit.view.margins import fitted
from opskit.view.paint import PLAIN, Paint


def text(
    found: Sequence[Problem],
    *,
    files: int | None = None,
    paint: Paint = PLAIN,
    columns: int | None = None,
) -> str:
    """List problems by place, each with what to write, and count them; `files` were checked."""
    lines = [row for problem in found for row in _problem(problem, paint, columns)]
    errors = sum(problem.severity == "error" for problem in found)
    warnings = len(found) - errors
    parts = [amounts.count(errors, "error")] if errors else []
    parts += [amounts.count(warnings, "warning")] if warnings else []
    within = "" if files is None else f" in {amounts.count(files, 'file')}"
    if files == 0:
        return "There are no runbooks or inventories to check.\n"
    return (
        "\n".join([*lines, f"{', '.join(parts)}{within}" if parts else f"No problems{within}."])
        + "\n"
    )


def _problem(problem: Problem, paint: Paint, columns: int | None) -> Iterator[str]:
    word = paint.bad("error") if problem.severity == "error" else paint.warn("warning")
    near = replace(problem.place, file=names.path(problem.place.file))
    place = paint.bold(safe.one_line(str(near)))
    said = [f"{place}: {word}: {safe.visible(problem.what)}"]
    said += [f"    → {safe.visible(problem.write)}"] if problem.write else []
    for line in "\n".join(said).split("\n"):
        yield from fitted(line, columns, 6)


def as_json(problem: Problem) -> dict[str, Json]:
    """Return a problem as an object."""
    return {
        "kind": "problem",
        "severity": problem.severity,
        "file": problem.place.file,
        "line": problem.place.line,
        "column": problem.place.column,
        "what": problem.what,
        "write": problem.write,
    }


def counted(found: Sequence[Problem], *, files: int) -> dict[str, Json]:
    """Return what comes after the problems: how many there are, none too."""
    errors = sum(problem.severity == "error" for problem in found)
    return {
        "kind": "linted",
        "files": files,
        "errors": errors,
        "warnings": len(found) - errors,
    }
