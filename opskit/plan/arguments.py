"""A step's values as written → as its kind wants them: rendered for one host."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from opskit.errors import InputError
from opskit.model.codec import to_json
from opskit.model.expected import Expected
from opskit.model.frozen import frozen
from opskit.model.problem import Place
from opskit.model.runbook import Step
from opskit.model.text import Context, Text
from opskit.model.text import text as known
from opskit.model.value import Json, SecretRef
from opskit.model.work import FileRef, Recall
from opskit.plan.expand import Placed
from opskit.plan.values import misses
from opskit.render import TemplateError, condition, text
from opskit.steps import KINDS
from opskit.steps.base import Key, Value

Files = Callable[[Path], FileRef]
"""Looks at a file beside the person who runs: size and digest."""

Expectations = Callable[[str, Path], Expected]
"""Reads a file of what a database is expected to have, by its name as written and its path."""

History = Callable[[Recall], str | None]
"""Fetches what an earlier run saved: the record is asked when planning and again when running."""

_CONTEXTS: Mapping[str, Context] = {
    "shell": "word",
    "url": "url",
    "sql": "sql",
    "predicate": "sql",
    "commands": "argument",
    "words": "argument",
    "glob": "glob",
}
_REPEATED = "same-key.csv"
"""The table of a report that has what shares its key."""
_NAME = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")


@frozen
class Renderer:
    """Renders the values of one step for one host, target and item."""

    placed: Placed
    names: Mapping[str, object]
    late: frozenset[str]
    secrets: frozenset[str]
    files: Files
    expectations: Expectations

    @property
    def step(self) -> Step:
        return self.placed.step

    def arguments(self) -> dict[str, Value]:
        """Render every argument of the step, and the user that it is to run as."""
        kind = KINDS[self.step.kind]
        args: dict[str, Value] = {
            key.name: self._value(self.step.args[key.name], key, key.name)
            for key in kind.KEYS
            if self.step.args.get(key.name) is not None
        }
        if self.step.sudo is not None:
            args["sudo"] = self.text(self.step.sudo, "sudo")
        return args

    def text(self, written: str, key: str, context: Context = "plain") -> Text:
        """Render one template of the step; what is wrong names its place in the file."""
        try:
            return text(written, self.names, self.late, context)
        except TemplateError as error:
            raise self._wrong(str(error), key) from error

    def word(self, written: str, key: str) -> str:
        """Render a template whose value must be known when the plan is made."""
        made = self.text(written, key)
        if made.late:
            names = ", ".join(made.names)
            raise self._wrong(f"`{key}` must be known when planning, but waits for {names}", key)
        return made.fixed()

    def condition(self, expression: str, key: str) -> Text:
        try:
            return condition(expression, self.names, self.late)
        except TemplateError as error:
            raise self._wrong(str(error), key) from error

    def stdin(self) -> Text | SecretRef | None:
        """Return what the command reads: a text, or a secret that is named alone."""
        written = self.step.stdin
        if written is None:
            return None
        sole = _NAME.fullmatch(written)
        saved = self.placed.frame.secret(sole[1]) if sole else None
        if saved is not None:
            return SecretRef(name=saved)
        if sole and sole[1] in self.secrets:
            return SecretRef(name=sole[1])
        if sole and sole[1] not in self.names and sole[1] not in self.late:
            what = f"nothing is called `{sole[1]}`, neither in the runbook nor in the inventory"
            raise self._wrong(f"{what} → write it under `secrets:` in the inventory", "stdin")
        return self.text(written, "stdin")

    def _wrong(self, message: str, key: str) -> InputError:
        return misses(message, self.names, self._place(key))

    def _place(self, key: str) -> Place:
        places = self.step.places
        return places.get(f"{self.step.kind}.{key}") or places.get(key) or self.step.place

    def _value(self, written: Json, key: Key, at: str) -> Value:
        match key.type:
            case "table":
                assert isinstance(written, Mapping)
                inner = {k.name: k for k in key.keys}
                return {n: self._value(v, inner[n], f"{at}.{n}") for n, v in written.items()}
            case "verbatim" | "literal" | "name" | "mode":
                return _known(written)
            case "expression":
                return self._expressions(written, at)
            case "file":
                return self._file(str(written), at, key)
            case "expectations" | "ledger" | "report":
                return self._described(str(written), key, at)
            case "script":
                return known(self.placed.runbook.files[str(written)])
            case "template":
                return self.text(self.placed.runbook.files[str(written)], at)
            case "sqlfile":
                return self.text(self.placed.runbook.files[str(written)], at, "sql")
            case _:
                return self._data(written, _CONTEXTS.get(key.type, "plain"), at)

    def _expressions(self, written: Json, at: str) -> Value:
        if isinstance(written, (list, tuple)):
            return tuple(self.condition(str(one), at) for one in written)
        return self.condition(str(written), at)

    def _data(self, written: Json, context: Context, at: str) -> Value:
        if isinstance(written, str):
            return self.text(written, at, context)
        if isinstance(written, Mapping):
            return {k: self._data(v, context, f"{at}.{k}") for k, v in written.items()}
        if isinstance(written, (list, tuple)):
            return tuple(self._data(v, context, at) for v in written)
        assert not isinstance(written, Sequence)
        return written

    def _file(self, written: str, at: str, key: Key) -> Value:
        name = self.word(written, at)
        if not name and not key.required:
            return None
        try:
            return self.files(self._beside(name))
        except OSError as error:
            what = f"can't read {name}: {error.strerror} → name a readable file"
            raise self._wrong(what, at) from error

    def _described(self, written: str, key: Key, at: str) -> Value:
        """Read a file of which more than its bytes is wanted."""
        match key.type:
            case "expectations":
                return self._expectations(written, at)
            case "ledger":
                return self._ledger(written, at)
            case _:
                return self._report(written, at)

    def _expectations(self, written: str, at: str) -> Value:
        """Read a file of expectations: what it says becomes part of the plan."""
        name = self.word(written, at)
        expected = to_json(self.expectations(name, self._beside(name)))
        return known(json.dumps({"file": name, "expected": expected}))

    def _ledger(self, written: str, at: str) -> Value:
        """Read the description of a ledger: what it says becomes part of the plan."""
        from opskit.load.ledgers import ledger  # few plans have one

        name = self.word(written, at)
        found = to_json(ledger(self._beside(name)))
        return known(json.dumps({"file": name, "ledger": found}))

    def _report(self, written: str, at: str) -> Value:
        """Read a manifest of evidence and what it holds together; refuse what has been changed."""
        from opskit.load.evidence import EvidenceError, opened  # few plans have one

        name = self.word(written, at)
        if not name:
            return None
        try:
            found = opened(self._beside(name))
        except EvidenceError as error:  # which file it is; where it is named is told in its place
            raise EvidenceError(f"{error.where}: {error.what}", hint=error.hint) from None
        rows = []
        if any(piece.name == _REPEATED for piece in found.manifest.pieces):
            rows = [dict(row) for row in found.rows(_REPEATED)]
        said = {"path": str(self._beside(name)), "sha256": found.digest, "rows": rows}
        return known(json.dumps({**said, "manifest": to_json(found.manifest)}))

    def _beside(self, name: str) -> Path:
        """Resolve a relative path beside the runbook that names it."""
        path = Path(name).expanduser()
        return path if path.is_absolute() else Path(self.placed.runbook.file).parent / path


def from_file(name: str, path: Path) -> Expected:
    """Read what is expected where its file lies."""
    from opskit.load.expectations import expectations  # few plans have one

    return expectations(path)


def _known(written: Json) -> Value:
    """Take words that are not rendered as they are, one or several."""
    if isinstance(written, (list, tuple)):
        return tuple(_known(one) for one in written)
    return known(str(written))
