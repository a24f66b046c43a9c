"""Templates → texts. The only package that knows Jinja.

What is about SQL is in `sql`, which few runbooks need and which is slow to load.
"""

from opskit.render.quoting import WORD_LIMIT, TemplateError
from opskit.render.shell import ShellProblem, shell_problems
from opskit.render.template import (
    condition,
    evaluate,
    expression_names,
    fill,
    names,
    terms,
    text,
    value,
)
from opskit.render.views import HostView, host_view

__all__ = [
    "WORD_LIMIT",
    "HostView",
    "ShellProblem",
    "TemplateError",
    "condition",
    "evaluate",
    "expression_names",
    "fill",
    "host_view",
    "names",
    "shell_problems",
    "terms",
    "text",
    "value",
]
