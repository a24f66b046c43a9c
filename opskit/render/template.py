"""Template → parts: what is known is written out, what only the run knows stays as it is."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from opskit.model.text import Bound, Context, Fixed, Late, Text
from opskit.model.value import Json
from opskit.render.quoting import MARK, TemplateError, base
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
    return Text(parts=_joined(_parts(template, values, late, context)))


def _joined(found: Iterable[Fixed | Bound | Late]) -> tuple[Fixed | Bound | Late, ...]:
    """Make one of fixed parts that follow each other."""
    parts: list[Fixed | Bound | Late] = []
    for part in found:
        before = parts[-1] if parts else None
        if isinstance(part, Fixed) and isinstance(before, Fixed):
            parts[-1] = Fixed(text=before.text + part.text)
        else:
            parts.append(part)
    return tuple(parts)


def _parts(
    template: str, values: Mapping[str, object], late: frozenset[str], context: Context
) -> Iterator[Fixed | Bound | Late]:
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
            yield from _apart(base(written) if leads else written, how)


def _apart(rendered: str, context: Context) -> Iterator[Fixed | Bound]:
    """Take the bound values out of rendered SQL."""
    if context != "sql":
        yield Fixed(text=rendered)
        return
    pieces = rendered.split(MARK)
    if len(pieces) % 2 == 0:
        raise TemplateError("a bound value was taken apart → use no filter around a block in SQL")
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            if piece:
                yield Fixed(text=piece)
            continue
        try:
            yield Bound(value=json.loads(piece))
        except ValueError:
            raise TemplateError(
                "a bound value was changed after it was written → use no filter around a block"
            ) from None


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
    filled = _joined(one for part in value.parts for one in _filled(part, values))
    return Text(parts=filled or (Fixed(text=""),))


def _filled(part: Fixed | Bound | Late, values: Mapping[str, Json]) -> Iterator[Fixed | Bound]:
    if not isinstance(part, Late):
        yield part
        return
    from opskit.render import engine

    scope = {name: revive(known) for name, known in part.known.items()} | dict(values)
    if part.context == "condition":
        yield Fixed(text=str(engine.true(part.source, scope)))
    else:
        yield from _apart(engine.rendered(part.source, part.context, scope), part.context)
