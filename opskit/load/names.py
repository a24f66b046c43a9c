"""Which names a template uses, and where each stands."""

import re
from collections.abc import Iterator

from opskit.load.reading import Written

_SIMPLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*\s*\}\}")
_BARE = re.compile(r"\s*([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*\s*")
_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})
_BRACES = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)


class SyntaxProblemError(ValueError):
    """The template can't be parsed."""


def terms(text: str) -> tuple[str, ...]:
    """Return the conditions that `and` joins in an expression; none where it can't be read."""
    from opskit import render

    try:
        render.expression_names(text)  # it parses as a whole
        return render.terms(text)
    except render.TemplateError:
        return ()  # it is reported where it stands


def expressions_with(written: Written, name: str) -> Iterator[str]:
    """Yield the expressions that use a name; a template with `{% … %}` is one."""
    if written.type == "expression" or "{%" in written.text:
        yield written.text
        return
    word = re.compile(rf"(?<![\w.'\"]){re.escape(name)}\b")
    yield from (found[1] for found in _BRACES.finditer(written.text) if word.search(found[1]))


def names_in(written: Written) -> frozenset[str]:
    """Return the top-level names that a template or an expression needs from outside."""
    if written.type == "expression":
        return expression_names(written.text)
    if "{{" not in written.text and "{%" not in written.text:
        return frozenset()
    simple = _SIMPLE.findall(written.text)
    if len(simple) == written.text.count("{{") and not any(
        mark in written.text for mark in ("{%", "{#")
    ):
        return frozenset(simple) - _CONSTANTS
    from opskit import render

    try:
        return render.names(written.text)
    except render.TemplateError as error:
        raise SyntaxProblemError(str(error)) from error


def expression_names(text: str) -> frozenset[str]:
    """Return the top-level names that a bare expression needs from outside."""
    bare = _BARE.fullmatch(text)
    if bare:
        return frozenset({bare[1]}) - _CONSTANTS
    from opskit import render

    try:
        return render.expression_names(text)
    except render.TemplateError as error:
        raise SyntaxProblemError(str(error)) from error


def offset_of(written: Written, name: str) -> int:
    """Return where a name stands first, outside of attributes and quotes as well as can be told."""
    word = re.compile(rf"(?<![\w.'\"]){re.escape(name)}\b")
    if written.type == "expression":
        found = word.search(written.text)
        return found.start() if found else 0
    for braces in _BRACES.finditer(written.text):
        found = word.search(written.text, braces.start(1), braces.end(1))
        if found:
            return found.start()
    return 0


def attributes_in(written: Written, name: str) -> Iterator[tuple[int, str]]:
    """Yield the attributes that a template takes of a name, with their offsets; calls are none."""
    taken = re.compile(rf"(?<![\w.'\"]){re.escape(name)}\.([A-Za-z_]\w*)(?!\w|\()")
    if written.type == "expression":
        spans = [(0, len(written.text))]
    else:
        spans = [braces.span(1) for braces in _BRACES.finditer(written.text)]
    for start, end in spans:
        for found in taken.finditer(written.text, start, end):
            yield found.start(1), found[1]


def alone(text: str, name: str) -> bool:
    """Tell whether a template is that one name and nothing else."""
    return re.fullmatch(rf"\s*\{{\{{\s*{re.escape(name)}\s*\}}\}}\s*", text) is not None
