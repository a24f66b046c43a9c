"""Templates → texts. The only package that knows Jinja.

What looks into shell and SQL texts is in `shell` and `sql`: slow to load, and seldom needed.
"""

from opskit.render.quoting import WORD_LIMIT, TemplateError
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
    "TemplateError",
    "condition",
    "evaluate",
    "expression_names",
    "fill",
    "host_view",
    "names",
    "terms",
    "text",
    "value",
]
