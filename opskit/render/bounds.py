"""The sandbox of templates: no attribute that leads out of it, and no text without an end.

A slip of the pen (`"-" * 3000000000`) would take all memory of the machine that runs opskit.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import filters, nodes
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from opskit.render.quoting import TemplateError

LARGEST = 1024 * 1024
"""Characters or items that one operation may make out of less."""
_BITS = 8 * 1024
"""Of a power: so many that every number which somebody wants is far below."""
_WIDTHS = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs"})
_CALLED = "()"
"""What an attribute that is called ends with, from its template on to where it is looked up."""
_WIDE = re.compile(r"[0-9]{7}")
"""A width in a format that is beyond LARGEST."""


def _refuse(what: str) -> None:
    raise TemplateError(
        f"{what} makes more than {LARGEST} characters or items → bring in a large text by `upload`"
    )


def _times(left: Any, right: Any) -> Any:  # noqa: ANN401 - whatever a template multiplies
    for sequence, count in ((left, right), (right, left)):
        repeats = isinstance(sequence, (str, bytes, list, tuple)) and isinstance(count, int)
        if repeats and len(sequence) * count > LARGEST:
            _refuse(f"`* {count}`")
    return left * right


def _power(left: Any, right: Any) -> Any:  # noqa: ANN401
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _BITS:
        _refuse(f"`** {right}`")
    return left**right


def _formatted(left: Any, right: Any) -> Any:  # noqa: ANN401
    if isinstance(left, str):
        _check_format(left, right if isinstance(right, tuple) else (right,))
    return left % right


def _check_format(text: str, values: tuple[Any, ...]) -> None:
    """Refuse a width that stands in a format, or in a value that a format takes a width from."""
    taken = "*" in text or "{" in text
    wide = [v for v in values if isinstance(v, int) and abs(v) > LARGEST] if taken else []
    if _WIDE.search(text) or (wide and ("*" in text or re.search(r":[^{}]*\{", text))):
        _refuse("a width in a format")


class Bounded(SandboxedEnvironment):
    """A sandbox whose operators, filters and methods make nothing immense."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of the environment
        super().__init__(**options)
        self.binop_table.update({"*": _times, "**": _power, "%": _formatted})

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 - whatever a template names
        """Find a key of a mapping before a method of it: `vars.items` is what somebody named, and
        `vars.items()` the method, whatever keys there are.
        """
        name = attribute.removesuffix(_CALLED)
        if name == attribute and isinstance(obj, Mapping) and name in obj:
            return obj[name]
        return super().getattr(obj, name)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401
        for call in source.find_all(nodes.Call):
            if isinstance(call.node, nodes.Getattr):
                call.node.attr = call.node.attr.removesuffix(_CALLED) + _CALLED
        return super()._generate(source, *args, **kwargs)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805, PYI063
        name, owner = getattr(__obj, "__name__", ""), getattr(__obj, "__self__", None)
        if isinstance(owner, str) and name in _WIDTHS:
            _check_width(name, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text = str(value.__self__)

        def checked(*args: Any, **kwargs: Any) -> str:  # noqa: ANN401
            _check_format(text, (*args, *kwargs.values()))
            return wrapped(*args, **kwargs)

        return checked


def _check_width(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if any(isinstance(v, int) and v > LARGEST for v in (*args, *kwargs.values())):
        _refuse(name)


def _center(value: str, width: int = 80) -> str:
    _check_width("center", (width,), {})
    return filters.do_center(value, width)


def _format(value: str, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401 - jinja's own
    _check_format(value, (*args, *kwargs.values()))
    return filters.do_format(value, *args, **kwargs)


def _indent(value: str, width: Any = 4, *rest: Any, **more: Any) -> str:  # noqa: ANN401
    by = len(width) if isinstance(width, str) else width
    if by * (value.count("\n") + 1) > LARGEST:
        _refuse("indent")
    return filters.do_indent(value, width, *rest, **more)


FILTERS: Mapping[str, Callable[..., str]] = {
    "center": _center,
    "format": _format,
    "indent": _indent,
}
