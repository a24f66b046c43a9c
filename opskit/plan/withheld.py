"""Vars that the inventory has and whose value is not known here: no step may use one.

Such a var is not among those that templates see. Where a template would do without it (`default`,
`is defined`), something else would be done than the inventory says; so its very name is refused.
"""

import re
from collections.abc import Iterator

from opskit.model.inventory import Inventory
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.runbook import Runbook


def refuse_withheld(runbook: Runbook, inventory: Inventory) -> None:
    """Refuse a runbook that names such a var; raises ProblemsError."""
    if inventory.withheld:
        problems = list(_named(runbook, inventory))
        if problems:
            raise ProblemsError(problems)


def _named(runbook: Runbook, inventory: Inventory) -> Iterator[Problem]:
    names = "|".join(re.escape(name) for name in inventory.withheld)
    use = re.compile(rf"\bvars\s*(?:\.\s*|\[\s*['\"]|\.\s*get\(\s*['\"])({names})\b")
    for file, text in runbook.sources.items():
        for number, line in enumerate(text.splitlines(), 1):
            if not line.lstrip().startswith("#"):
                for match in use.finditer(line):
                    yield Problem(
                        place=Place(file=file, line=number, column=match.start() + 1),
                        what=f"`{match[1]}` is not known here: {inventory.withheld[match[1]]}",
                        write="write its value into the inventory, or take a parameter or a secret",
                    )
