"""The `params:` of a runbook, and the one place that knows what a value of each type looks like."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from opskit.load.keys import PARAM, RESERVED, VARIABLE
from opskit.load.patterns import LONGEST as LONGEST_MATCHED
from opskit.load.patterns import SlowError, fits, slow
from opskit.load.reading import INT, NUMBER, Reader
from opskit.load.suggest import advice
from opskit.load.yaml import Items, Node, Scalar, Table
from opskit.model.runbook import Param, ParamType
from opskit.model.value import Json
from opskit.steps.base import is_template
from opskit.steps.units import SHORTER, duration, figure, instead_of, seconds_of

SHORTEST_SECRET = 6
LONGEST = 1024 * 1024
_BOUNDED = ("int", "number", "duration")


class WrongValueError(ValueError):
    """A value does not fit its parameter; the message never holds a secret."""

    def __init__(self, what: str, write: str) -> None:
        super().__init__(what)
        self.what = what
        self.write = write


def read_params(reader: Reader, node: Node) -> tuple[Param, ...]:
    if isinstance(node, Scalar) and node.empty:
        return ()
    if not isinstance(node, Table):
        reader.error(node, "`params` must be a mapping", "write NAME: {type: string}")
        return ()
    params = (_param(reader, key, value) for key, value in node.entries.values())
    return tuple(param for param in params if param is not None)


def _param(reader: Reader, key: Scalar, node: Node) -> Param | None:
    name = key.text
    if not re.fullmatch(VARIABLE, name):
        reader.error(key, f"{name[:80]!r} can't name a parameter", "letters, digits and _")
        return None
    if name in RESERVED:
        reader.error(key, f"`{name}` has a meaning of its own in templates", f"say {name}_name")
        return None
    if isinstance(node, Scalar):
        node = _short(node)
    values = reader.table(node, PARAM, f"the parameter `{name}`")
    if not isinstance(node, Table):
        return None
    bare = Param(
        name=name,
        type=cast("ParamType", values.get("type", "string")),
        place=reader.place(key),
        help=str(values.get("help", "")),
        required=values.get("required") is not False and "default" not in values,
    )
    return _default(reader, node, _limits(reader, node, bare, values))


def _short(node: Scalar) -> Table:
    """Open `NAME:` (a string) and `NAME: TYPE`."""
    table = Table(node.line, node.column)
    if not node.empty:
        table.entries["type"] = (node, node)
    return table


def _limits(reader: Reader, node: Table, param: Param, values: Mapping[str, Json]) -> Param:
    pattern = values.get("pattern")
    if isinstance(pattern, str):
        param = _pattern(reader, node, param, pattern)
    choices = values.get("choices")
    if param.type == "enum" and not choices:
        reader.error(node, f"the enum `{param.name}` has no choices", "add choices: [ONE, TWO]")
    elif param.type != "enum" and "choices" in values:
        reader.error(node.entries["choices"][0], "`choices` is for an enum", "write type: enum")
    if isinstance(choices, tuple):
        param = replace(param, choices=tuple(str(choice) for choice in choices))
    low = _bound(reader, node, param, "min")
    high = _bound(reader, node, param, "max")
    if low is not None and high is not None and low > high:
        reader.error(node.entries["min"][0], "`min` is above `max`", "swap them")
    return replace(param, minimum=low, maximum=high)


def _pattern(reader: Reader, node: Table, param: Param, pattern: str) -> Param:
    key, value = node.entries["pattern"]
    if param.type != "string":
        reader.error(key, "`pattern` is for a string", "write type: string")
        return param
    try:
        re.compile(pattern)
    except re.error as error:
        reader.error(value, f"not a regular expression: {error}", "quote it with '…'")
        return param
    if slow(pattern):
        told = "this pattern takes for ever on some values: it repeats what repeats itself"
        reader.error(value, told, "write one repetition, a+ for (a+)+")
        return param
    return replace(param, pattern=pattern)


def _bound(reader: Reader, node: Table, param: Param, key: str) -> float | None:
    if key not in node.entries:
        return None
    name, value = node.entries[key]
    if param.type not in _BOUNDED:
        reader.error(name, f"`{key}` is for numbers and durations", f"take `{key}` out")
        return None
    text = value.text if isinstance(value, Scalar) else ""
    limit = seconds_of(text) if param.type == "duration" else _number(text)
    if limit is None:
        write = instead_of(text, "a number") if param.type == "duration" else "a number"
        reader.error(value, f"`{key}` can't be {text[:80]!r}", f"write {write}")
    return limit


def _number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None


def _default(reader: Reader, node: Table, param: Param) -> Param:
    if "default" not in node.entries:
        return param
    key, value = node.entries["default"]
    if param.type == "secret":
        reader.error(key, "a secret's default would stand in the file", "take `default` out")
        return param
    if isinstance(value, Scalar) and value.empty:
        return replace(param, required=False)
    if isinstance(value, Scalar) and is_template(value.text):
        reader.error(value, "a default is not a template", "write the value itself")
        return param
    try:
        return replace(param, required=False, default=value_of(param, scalar_text(value)))
    except WrongValueError as error:
        reader.error(value, f"the default of `{param.name}`: {error.what}", error.write)
    return param


def scalar_text(node: Node) -> str:
    """Return a single value as it was written; lists and mappings are not parameters."""
    if isinstance(node, Scalar):
        return node.text
    told = "a list" if isinstance(node, Items) else "a mapping"
    raise WrongValueError(f"{told} can't be a parameter", "write a single value")


def value_of(param: Param, text: str) -> Json:
    """Turn the text given for a parameter into its value, or say what is wrong with it.

    Raises WrongValueError. A secret is returned as its text; the caller wraps it.
    """
    if "\0" in text:
        raise WrongValueError("it has a NUL character, which nothing can carry", "take it out")
    if len(text) > LONGEST:
        raise WrongValueError("it is larger than 1 MiB", "put it in a file and upload that")
    match param.type:
        case "string":
            return _string(param, text)
        case "int" | "number" | "duration":
            return _within(param, text)
        case "bool":
            return _boolean(text)
        case "enum":
            return _choice(param, text)
        case "file":
            if not text:
                raise WrongValueError("it is empty", "the path of a file")
            return text
        case "secret":
            return _secret(text)


def _string(param: Param, text: str) -> str:
    if not _encodable(text):
        raise WrongValueError("it is not UTF-8 text", "text in UTF-8")
    if param.pattern is not None:
        _fitting(param.pattern, text)
    return text


def _fitting(pattern: str, text: str) -> None:
    """Refuse a text that does not match, or of which that can't be told."""
    if len(text) > LONGEST_MATCHED:
        what = f"{len(text)} characters are too many for a pattern"
        raise WrongValueError(what, f"at most {LONGEST_MATCHED}")
    try:
        fit = fits(pattern, text)
    except SlowError:
        what = f"it takes too long to tell whether {text[:80]!r} fits"
        raise WrongValueError(what, f"another value, or a simpler pattern than {pattern}") from None
    if not fit:
        raise WrongValueError(f"{text[:80]!r} does not fit", f"a text that matches {pattern}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _within(param: Param, text: str) -> int | float:
    value: int | float | None
    if param.type == "int":
        value, write = (int(text) if INT.fullmatch(text) else None), "a whole number such as 3"
    elif param.type == "number":
        value, write = _number(text), "a number such as 2.5"
    else:
        value = seconds_of(text)
        write = instead_of(text, "a duration such as 10s, 5m or 1h30m")
    if value is None:
        what = "is too long" if write == SHORTER else "can't be read"
        raise WrongValueError(f"{text[:80]!r} {what}", write)
    shown = duration if param.type == "duration" else figure
    if param.minimum is not None and value < param.minimum:
        raise WrongValueError(f"{text} is too little", f"{shown(param.minimum)} or more")
    if param.maximum is not None and value > param.maximum:
        raise WrongValueError(f"{text} is too much", f"{shown(param.maximum)} or less")
    return _whole(value)


def _whole(value: float) -> int | float:
    """A whole number has no point, so that shells can count with it."""
    return int(value) if value == int(value) else value


def _boolean(text: str) -> bool:
    if text not in ("true", "True", "TRUE", "false", "False", "FALSE"):
        raise WrongValueError(f"{text[:80]!r} is neither", "true or false")
    return text.lower() == "true"


def _choice(param: Param, text: str) -> str:
    if text not in param.choices:
        raise WrongValueError(
            f"{text[:80]!r} is not a choice", advice(text, param.choices, cutoff=0.75)
        )
    return text


def _secret(text: str) -> str:
    if len(text) < SHORTEST_SECRET:
        raise WrongValueError(
            f"a secret of fewer than {SHORTEST_SECRET} characters can't be masked", "a longer one"
        )
    return text
