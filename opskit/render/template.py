"""Template → parts: what is known is written out, what only the run knows stays as it is."""

import re
from collections.abc import Iterator, Mapping

from opskit.model.text import Context, Fixed, Late, Text
from opskit.model.value import Json
from opskit.render.quoting import TemplateError, base
from opskit.render.views import retire, revive

# The engine is imported where something has to be rendered: many runbooks have no template.


def names(template: str) -> frozenset[str]:
    """Return the top-level names that a template uses."""
    if _is_data(template):
        return frozenset()
    from opskit.render import engine

    return engine.names(template)


def expression_names(expression: str) -> frozenset[str]:
    """Return the top-level names that a bare expression (`when`, `assert`) uses."""
    return names("{{ (" + expression + "\n) }}")


def terms(expression: str) -> tuple[str, ...]:
    """Return the conditions that `and` joins in an expression, each written in one way."""
    from opskit.render import engine

    return engine.terms(expression)


def _is_data(text: str) -> bool:
    """Tell whether nothing in a text is for the template engine."""
    return not any(mark in text for mark in ("{{", "{%", "{#"))


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
    for part in _parts(template, values, late, context):
        before = parts[-1] if parts else None
        if isinstance(part, Fixed) and isinstance(before, Fixed):
            parts[-1] = Fixed(text=before.text + part.text)
        else:
            parts.append(part)
    return Text(parts=tuple(parts))


def _parts(
    template: str, values: Mapping[str, object], late: frozenset[str], context: Context
) -> Iterator[Fixed | Late]:
    from opskit.render import engine

    for index, segment in enumerate(engine.segments(template)):
        leads = context == "url" and index == 0
        how: Context = "plain" if leads else context
        if _is_data(segment.source):
            yield Fixed(text=segment.source)
        elif segment.names & late:
            yield _late(segment.source, segment.names, values, late, how)
        else:
            written = engine.rendered(segment.source, how, values)
            yield Fixed(text=base(written) if leads else written)


def _late(
    source: str,
    used: frozenset[str],
    values: Mapping[str, object],
    late: frozenset[str],
    context: Context,
) -> Late:
    """Keep an expression for the run, with the values of the names that are known already."""
    known = sorted(used - late)
    missing = [name for name in known if name not in values]
    if missing:
        raise TemplateError(f"{missing[0]!r} is not known here")
    return Late(
        source=source,
        names=tuple(sorted(used & late)),
        known={name: retire(values[name]) for name in known},
        context=context,
    )


def condition(
    expression: str, values: Mapping[str, object], late: frozenset[str] = frozenset()
) -> Text:
    """Evaluate an expression to "True" or "False", or keep it whole when it uses a late name."""
    used = expression_names(expression)
    if used & late:
        return Text(parts=(_late(expression, used, values, late, "condition"),))
    return Text(parts=(Fixed(text=str(_true(expression, values))),))


def _true(expression: str, values: Mapping[str, object]) -> bool:
    from opskit.render import engine

    return engine.true(expression, values)


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
    from opskit.render import engine

    return engine.evaluated(expression, values)


def fill(value: Text, values: Mapping[str, Json]) -> Text:
    """Write out the late parts of a text with the values that the run has by now."""
    if not value.late:
        return value
    return Text(parts=(Fixed(text="".join(_filled(p, values) for p in value.parts)),))


def _filled(part: Fixed | Late, values: Mapping[str, Json]) -> str:
    if isinstance(part, Fixed):
        return part.text
    from opskit.render import engine

    scope = {name: revive(known) for name, known in part.known.items()} | dict(values)
    if part.context == "condition":
        return str(engine.true(part.source, scope))
    return engine.rendered(part.source, part.context, scope)
