"""Texts get their late values: what earlier steps saved, and facts of the run."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from typing import Any, TypeVar

from opskit.model.codec import canonical, to_json
from opskit.model.text import Text
from opskit.model.value import Json, SecretRef
from opskit.model.work import Command, Request, Work
from opskit.render import TemplateError, fill

T = TypeVar("T")


class LateError(ValueError):
    """A value that a text waits for is not there, or can't stand where it is used."""


class Works:
    """Writes out works, and says what they are recorded by.

    Remembers those that wait for nothing: hosts share them, and a plan has many.
    """

    def __init__(self) -> None:
        self._whole: dict[int, tuple[Work, str]] = {}

    def fill(self, work: Work, values: Mapping[str, Json]) -> Work:
        """Write out every late text of a work; LateError."""
        if id(work) in self._whole:
            return work
        filled = fill_work(work, values)
        if filled is work:
            self._whole[id(work)] = (work, _digest(work))
        return filled

    def digest(self, work: Work) -> str:
        """Return what the record keeps of a work that is written out: its SHA-256."""
        whole = self._whole.get(id(work))
        return whole[1] if whole else _digest(work)


def _digest(work: Work) -> str:
    return sha256(canonical(to_json(work))).hexdigest()


def fill_work(work: T, values: Mapping[str, Json]) -> T:
    """Write out every late text of a work."""
    try:
        return _filled(work, values)  # type: ignore[no-any-return]
    except TemplateError as error:
        raise LateError(_explain(error)) from error


def holds(condition: Text, values: Mapping[str, Json]) -> bool:
    """Tell whether a `when` is true; it has a "True" or "False" for each condition in it.

    The first that is false ends it: a condition inside an include may ask for values that there
    are only where the include was done.
    """
    try:
        return all(fill(Text(parts=(part,)), values).fixed() != "False" for part in condition.parts)
    except TemplateError as error:
        raise LateError(_explain(error)) from error


def secret_names(work: Work) -> list[str]:
    """Return the names of the secrets that a work needs."""
    if isinstance(work, Command):
        more = [work.stdin.name] if isinstance(work.stdin, SecretRef) else []
        return [*work.secrets.values(), *more]
    if isinstance(work, Request):
        return [v.name for v in work.headers.values() if isinstance(v, SecretRef)]
    return []


def _explain(error: TemplateError) -> str:
    message = str(error)
    if "is undefined" in message or "not known here" in message:
        return f"{message}: the step that saves it did not run here"
    return message


def _filled(value: Any, values: Mapping[str, Json]) -> Any:  # noqa: ANN401 - any work at all
    if isinstance(value, Text):
        return fill(value, values)
    if isinstance(value, tuple):
        return tuple(_filled(inner, values) for inner in value)
    if isinstance(value, Mapping):
        return {name: _filled(inner, values) for name, inner in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: new
            for field in fields(value)
            if (new := _filled(old := getattr(value, field.name), values)) is not old and new != old
        }
        return replace(value, **changed) if changed else value
    return value
