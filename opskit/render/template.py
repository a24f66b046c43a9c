"""Template → parts: what is known is written out, what only the run knows stays as it is."""

import re
from collections.abc import Mapping
from functools import lru_cache

import jinja2
from jinja2 import meta
from jinja2.sandbox import SandboxedEnvironment

from opskit.model.frozen import frozen
from opskit.model.text import Context, Fixed, Late, Text
from opskit.model.value import Json
from opskit.render.quoting import FINALIZERS, Raw, TemplateError, base, words
from opskit.render.views import retire, revive

_OPEN = frozenset({"if", "for"})
_CLOSE = frozenset({"endif", "endfor"})
_BETWEEN = frozenset({"elif", "else"})


@frozen
class Segment:
    """A stretch of a template: text, one `{{ … }}`, or a whole `{% … %} … {% end… %}`."""

    source: str
    names: frozenset[str]
    plain: bool


@lru_cache(maxsize=8)
def environment(context: Context) -> SandboxedEnvironment:
    """Make the Jinja environment of a context: sandboxed, undefined names are errors."""
    env = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=FINALIZERS[context],
        keep_trailing_newline=True,
        autoescape=False,  # nothing here is HTML; each context has its own quoting
    )
    env.globals.pop("lipsum", None)
    env.filters["raw"] = Raw
    env.filters["words"] = words
    return env


@lru_cache(maxsize=4096)
def names(template: str) -> frozenset[str]:
    """Return the top-level names that a template uses."""
    env = environment("plain")
    try:
        found = meta.find_undeclared_variables(env.parse(template))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the template does not parse: {error.message}") from error
    return frozenset(found) - frozenset(env.globals)


def expression_names(expression: str) -> frozenset[str]:
    """Return the top-level names that a bare expression (`when`, `assert`) uses."""
    return names("{{ (" + expression + "\n) }}")


@lru_cache(maxsize=4096)
def segments(template: str) -> tuple[Segment, ...]:
    """Split a template where its parts don't depend on each other."""
    try:
        tokens = list(environment("plain").lex(template))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the template does not parse: {error.message}") from error
    if _entangled(tokens):
        return (Segment(source=template, names=names(template), plain=False),)
    pieces: list[str] = []
    depth = 0
    current = ""
    for index, (_, kind, value) in enumerate(tokens):
        if kind == "block_begin":
            depth += _depth_change(tokens, index)
        current += value
        if depth == 0 and (kind in ("data", "variable_end", "block_end", "comment_end")):
            pieces.append(current)
            current = ""
    return tuple(
        Segment(source=piece, names=names(piece), plain="{" not in piece or _is_data(piece))
        for piece in [*pieces, *([current] if current else [])]
    )


def _is_data(piece: str) -> bool:
    return not any(mark in piece for mark in ("{{", "{%", "{#"))


def _tag(tokens: list[tuple[int, str, str]], index: int) -> str:
    return next((v for _, kind, v in tokens[index + 1 :] if kind == "name"), "")


def _depth_change(tokens: list[tuple[int, str, str]], index: int) -> int:
    tag = _tag(tokens, index)
    return 1 if tag in _OPEN else -1 if tag in _CLOSE else 0


def _entangled(tokens: list[tuple[int, str, str]]) -> bool:
    """Tell whether a tag (set, macro, raw …) makes later parts depend on earlier ones."""
    known = _OPEN | _CLOSE | _BETWEEN
    return any(
        kind == "raw_begin" or (kind == "block_begin" and _tag(tokens, index) not in known)
        for index, (_, kind, _) in enumerate(tokens)
    )


def text(
    template: str,
    values: Mapping[str, object],
    late: frozenset[str] = frozenset(),
    context: Context = "plain",
) -> Text:
    """Render a template; parts that use a name of `late` stay expressions.

    Raises TemplateError for unknown names, bad syntax and values that can't stand there.
    """
    if _is_data(template):
        return Text(parts=(Fixed(text=template),))
    parts: list[Fixed | Late] = []
    for index, segment in enumerate(segments(template)):
        leads = context == "url" and index == 0
        part = _part(segment, values, late, "plain" if leads else context)
        if leads and isinstance(part, Fixed) and not segment.plain:
            base(part.text)
        if isinstance(part, Fixed) and parts and isinstance(parts[-1], Fixed):
            part = Fixed(text=parts.pop().text + part.text)  # type: ignore[union-attr]
        parts.append(part)
    return Text(parts=tuple(parts))


def _part(
    segment: Segment, values: Mapping[str, object], late: frozenset[str], context: Context
) -> Fixed | Late:
    if segment.plain:
        return Fixed(text=segment.source)
    waiting = segment.names & late
    if not waiting:
        return Fixed(text=_render(segment.source, context, values))
    missing = segment.names - late - values.keys()
    if missing:
        raise TemplateError(f"{sorted(missing)[0]!r} is not known here")
    return Late(
        source=segment.source,
        names=tuple(sorted(waiting)),
        known={name: retire(values[name]) for name in sorted(segment.names - late)},
        context=context,
    )


@lru_cache(maxsize=4096)
def _compiled(source: str, context: Context) -> jinja2.Template:
    return environment(context).from_string(source)


def _render(source: str, context: Context, values: Mapping[str, object]) -> str:
    try:
        return _compiled(source, context).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the template does not parse: {error.message}") from error
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise TemplateError(str(error) or type(error).__name__) from error


def condition(
    expression: str, values: Mapping[str, object], late: frozenset[str] = frozenset()
) -> Text:
    """Evaluate an expression to "True" or "False", or keep it whole when it uses a late name."""
    used = expression_names(expression)
    if not used & late:
        return Text(parts=(Fixed(text=str(_truth(expression, values))),))
    part = _part(Segment(source=expression, names=used, plain=False), values, late, "condition")
    return Text(parts=(part,))


@lru_cache(maxsize=1024)
def _expression(source: str) -> "jinja2.environment.TemplateExpression":
    return environment("condition").compile_expression(source, undefined_to_none=False)


def _truth(expression: str, values: Mapping[str, object]) -> bool:
    try:
        return bool(_expression(expression)(**values))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the expression does not parse: {error.message}") from error
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise TemplateError(str(error) or type(error).__name__) from error


_SOLE = re.compile(r"\s*\{\{(?P<expression>(?:(?!\}\}|\{\{).)*)\}\}\s*", re.DOTALL)


def value(written: Json, values: Mapping[str, object]) -> Json:
    """Evaluate a value of a file: a sole `{{ … }}` keeps its type, other strings become text."""
    if isinstance(written, Mapping):
        return {key: value(inner, values) for key, inner in written.items()}
    if isinstance(written, (list, tuple)):
        return [value(inner, values) for inner in written]
    if not isinstance(written, str) or _is_data(written):
        return written
    sole = _SOLE.fullmatch(written)
    if sole is None:
        return text(written, values).fixed()
    return evaluate(sole["expression"], values)


def evaluate(expression: str, values: Mapping[str, object]) -> Json:
    """Evaluate a bare expression to plain data; a host stands for its name."""
    try:
        found = _expression(expression)(**values)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the expression does not parse: {error.message}") from error
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise TemplateError(str(error) or type(error).__name__) from error
    if isinstance(found, jinja2.Undefined):
        raise TemplateError(f"{expression.strip()!r} is not known here")
    return str(found) if isinstance(found, str) else found


def fill(value: Text, values: Mapping[str, Json]) -> Text:
    """Write out the late parts of a text with the values that the run has by now."""
    if not value.late:
        return value
    return Text(parts=(Fixed(text="".join(_filled(p, values) for p in value.parts)),))


def _filled(part: Fixed | Late, values: Mapping[str, Json]) -> str:
    if isinstance(part, Fixed):
        return part.text
    scope = {name: revive(known) for name, known in part.known.items()} | dict(values)
    if part.context == "condition":
        return str(_truth(part.source, scope))
    return _render(part.source, part.context, scope)
