"""Where in a file something stands, and what is wrong there."""

from collections.abc import Sequence
from typing import Literal

from opskit.errors import InputError
from opskit.model.frozen import frozen


@frozen
class Place:
    """A position in a file; line and column count from 1 (0: the file as a whole)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@frozen
class Problem:
    """Something wrong in a file that a person wrote, with what to write instead."""

    place: Place
    what: str
    write: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        warning = "warning: " if self.severity == "warning" else ""
        cure = f" → {self.write}" if self.write else ""
        return f"{self.place}: {warning}{self.what}{cure}"


class ProblemsError(InputError):
    """The files that were read have problems; all of them are here."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''}; nothing was touched")
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([*(str(problem) for problem in self.problems), self.what])
