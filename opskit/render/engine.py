"""What needs Jinja, which is slow to load: only templates with braces and conditions come here."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import jinja2
from jinja2 import meta

from opskit.model.frozen import frozen
from opskit.model.text import Context
from opskit.model.value import Json
from opskit.render.bounds import FILTERS, Bounded
from opskit.render.gaps import Missing, worded
from opskit.render.quoting import (
    FINALIZERS,
    Raw,
    TemplateError,
    identifier,
    no_words,
    words,
)

Token = tuple[int, str, str]
"""Line, kind, text."""

_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What goes wrong in a template is its author's, not ours."""
_UNSAID: Mapping[type[BaseException], str] = {
    MemoryError: "it wants more memory than there is → make a shorter text of it",
}

MIGRATIONS = (
    "migrations_due",
    "migration_order_faults",
    "migration_sql_faults",
    "migration_tables",
    "migrations_alone",
    "migration_log",
    "migration_stops",
    "migrations_since",
    "migration_additions",
    "migration_losses",
    "migration_reversals",
)
"""Filters that read what Django says of migrations."""
_OPEN = frozenset({"if", "for"})
_CLOSE = frozenset({"endif", "endfor"})
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_BETWEEN = frozenset({"elif", "else"})


@frozen
class Segment:
    """A stretch of a template: text, one `{{ … }}`, or a whole `{% … %} … {% end… %}`."""

    source: str
    names: frozenset[str]


@lru_cache(maxsize=8)
def _environment(context: Context) -> Bounded:
    """Make the Jinja environment of a context: sandboxed, undefined names are errors."""
    env = Bounded(
        undefined=Missing,
        finalize=FINALIZERS[context],
        keep_trailing_newline=True,
        autoescape=False,  # nothing here is HTML; each context has its own quoting
    )
    env.globals.pop("lipsum", None)
    env.filters.update(FILTERS)
    env.filters["raw"] = Raw
    env.filters["words"] = no_words if context == "sql" else words
    env.filters["identifier"] = identifier
    env.filters.update({name: partial(_migrations, name) for name in MIGRATIONS})
    return env


def _migrations(name: str, *args: object, **named: object) -> object:
    """Do what a filter for migrations does; few templates have one."""
    from opskit.render import migrations

    return migrations.FILTERS[name](*args, **named)


@lru_cache(maxsize=4096)
def names(template: str) -> frozenset[str]:
    """Return the top-level names that a template uses."""
    env = _environment("plain")
    try:
        found = meta.find_undeclared_variables(env.parse(template))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the template does not parse: {error.message}") from error
    return frozenset(found) - frozenset(env.globals)


@lru_cache(maxsize=1024)
def tokens(template: str) -> tuple[Token, ...]:
    """Split a template as the template engine does."""
    try:
        return tuple(_environment("plain").lex(template))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the template does not parse: {error.message}") from error


@lru_cache(maxsize=1024)
def terms(expression: str) -> tuple[str, ...]:
    """Split a condition at each `and` that joins the whole of it; spaces don't tell it apart."""
    inner = tokens("{{" + expression + "}}")[1:-1]
    found = [(kind, value) for _, kind, value in inner if kind != "whitespace"]
    depth, pieces = 0, [list[str]()]
    for kind, value in found:
        if kind == "operator":
            depth += (value in _OPENING) - (value in _CLOSING)
        if kind == "name" and depth == 0 and value in ("or", "if"):
            return (" ".join(value for _, value in found),)
        if kind == "name" and depth == 0 and value == "and":
            pieces.append([])
        else:
            pieces[-1].append(value)
    return tuple(" ".join(piece) for piece in pieces)


@lru_cache(maxsize=4096)
def segments(template: str) -> tuple[Segment, ...]:
    """Split a template where its parts don't depend on each other."""
    found = tokens(template)
    if _entangled(found):
        return (Segment(source=template, names=names(template)),)
    pieces: list[str] = []
    depth = 0
    current = ""
    for index, (_, kind, value) in enumerate(found):
        if kind == "block_begin":
            depth += _depth_change(found, index)
        current += value
        if depth == 0 and (kind in ("data", "variable_end", "block_end", "comment_end")):
            pieces.append(current)
            current = ""
    pieces += [current] if current else []
    return tuple(Segment(source=piece, names=names(piece)) for piece in pieces)


def _tag(found: Sequence[Token], index: int) -> str:
    return next((v for _, kind, v in found[index + 1 :] if kind == "name"), "")


def _depth_change(found: Sequence[Token], index: int) -> int:
    tag = _tag(found, index)
    return 1 if tag in _OPEN else -1 if tag in _CLOSE else 0


def _entangled(found: Sequence[Token]) -> bool:
    """Tell whether a tag (set, macro, raw …) makes later parts depend on earlier ones."""
    known = _OPEN | _CLOSE | _BETWEEN
    return any(
        kind == "raw_begin" or (kind == "block_begin" and _tag(found, index) not in known)
        for index, (_, kind, _) in enumerate(found)
    )


@lru_cache(maxsize=4096)
def _compiled(source: str, context: Context) -> jinja2.Template:
    return _environment(context).from_string(source)


def _whole(expression: str) -> str:
    """Make a template of a bare expression."""
    return "{{ (" + expression + "\n) }}"


def _fault(error: Exception, source: str, values: Mapping[str, object]) -> TemplateError:
    """Say what is wrong in a template that parses."""
    said = error.args[0] if error.args and isinstance(error, jinja2.UndefinedError) else ""
    if isinstance(said, str) and said:
        return TemplateError(worded(said, _environment("plain").parse(source), values))
    return TemplateError(str(error) or _UNSAID.get(type(error), type(error).__name__))


def rendered(source: str, context: Context, values: Mapping[str, object]) -> str:
    """Render a template of which all names are known."""
    try:
        return _compiled(source, context).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the template does not parse: {error.message}") from error
    except _FAULTS as error:
        raise _fault(error, source, values) from error


@lru_cache(maxsize=1024)
def _expression(source: str) -> "jinja2.environment.TemplateExpression":
    return _environment("condition").compile_expression(source, undefined_to_none=False)


def true(expression: str, values: Mapping[str, object]) -> bool:
    """Evaluate a bare expression as a condition."""
    try:
        return bool(_expression(expression)(**values))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the expression does not parse: {error.message}") from error
    except _FAULTS as error:
        raise _fault(error, _whole(expression), values) from error


def evaluated(expression: str, values: Mapping[str, object]) -> Json:
    """Evaluate a bare expression to plain data; a host stands for its name."""
    try:
        found = _expression(expression)(**values)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the expression does not parse: {error.message}") from error
    except _FAULTS as error:
        raise _fault(error, _whole(expression), values) from error
    if isinstance(found, Missing):
        told = worded(found.gap(), _environment("plain").parse(_whole(expression)), values)
        simple = told.endswith("is undefined")
        raise TemplateError(f"{expression.strip()!r} is not known here" if simple else told)
    return str(found) if isinstance(found, str) else found
