"""Files → a Runbook, with everything that it includes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from opskit.load.check import check_draft
from opskit.load.files import Kept, find, read
from opskit.load.hosts import ExpressionError, check_terms
from opskit.load.keys import FORMAT, NAME, RUNBOOK
from opskit.load.params import read_params
from opskit.load.reading import Reader
from opskit.load.step import Draft, RunbookDraft, StepReader
from opskit.load.yaml import LARGEST, Items, Node, Scalar, Table, parse
from opskit.model.problem import Place, Problem, ProblemsError
from opskit.model.runbook import Param, Runbook
from opskit.steps.base import is_template

Kind: TypeAlias = Literal["runbook", "inventory", "expectations", "ledger", "checks", "schedules"]
_KEYS = tuple(key for key in RUNBOOK if key.name not in ("params", "steps", "always", "opskit"))
DEEPEST_INCLUDE = 10
_STEPS = re.compile(rb"^steps\s*:", re.MULTILINE)
_LEDGER = re.compile(rb"^ledger\s*:", re.MULTILINE)
_SCHEDULES = re.compile(rb"^schedules\s*:", re.MULTILINE)
_CHECKS = re.compile(rb"^checks\s*:", re.MULTILINE)
_EXPECTATIONS = re.compile(rb"^(tables|views|functions|extensions)\s*:", re.MULTILINE)
_INVENTORY = re.compile(
    rb"^(hosts\s*:\s*(#.*)?$|hosts\s*:\s*\{|groups\s*:|connection\s*:)", re.MULTILINE
)


class Library:
    """Reads runbooks and the files beside them, each once."""

    def __init__(self, search: Sequence[Path], *, lint: bool, kept: Kept | None = None) -> None:
        self.search = search
        self.kept = kept
        self.lint = lint
        self.problems: list[Problem] = []
        self.shelf: dict[Path, Runbook | None] = {}
        self.reading: list[Path] = []

    def book(self, path: Path) -> Runbook | None:
        """Read a runbook and check it; None when it can't even be outlined."""
        key = path.resolve()
        if key not in self.shelf:
            self.reading.append(key)
            self.shelf[key] = _Book(self, path).read()
            self.reading.pop()
        return self.shelf[key]


class _Book:
    """One file being read."""

    def __init__(self, library: Library, path: Path) -> None:
        self.library = library
        self.path = path
        self.files: dict[str, str] = {}
        self.sources: dict[str, str] = {}

    def read(self) -> Runbook | None:
        """Read the file; its problems go to the library."""
        raw = read(self.path, self.library.problems, self.library.kept)
        if raw is None:
            return None
        parsed = parse(raw, str(self.path))
        reader = Reader(parsed.file, parsed.source, parsed.problems)
        try:
            return self._outline(reader, parsed.root, parsed.source)
        finally:
            self.library.problems.extend(parsed.problems)

    def _outline(self, reader: Reader, root: Node | None, source: str) -> Runbook | None:
        if root is None:
            return None
        if not isinstance(root, Table):
            reader.error(root, "a runbook must be a mapping", "begin with opskit: 1")
            return None
        if not check_format(reader, root, "a runbook"):
            return None
        self.sources[str(self.path)] = source
        draft = self._draft(reader, root)
        check_draft(reader, draft, lint=self.library.lint)
        return draft.runbook

    def _draft(self, reader: Reader, root: Table) -> RunbookDraft:
        own = Table(root.line, root.column)
        known = {key.name for key in _KEYS}
        own.entries = {name: entry for name, entry in root.entries.items() if name in known}
        reader.unknown(root, {key.name: key for key in RUNBOOK}, "a runbook")
        values: dict[str, Any] = reader.table(own, _KEYS, "a runbook")
        written = tuple(reader.written)
        reader.written = []
        params = self._params(reader, root)
        self._hosts(reader, root)
        self._name(reader, root)
        steps = StepReader(reader, self)
        main = self._steps(steps, root, "steps")
        always = self._steps(steps, root, "always")
        runbook = self._runbook(values, params, main, always)
        return RunbookDraft(runbook, root, main, always, written, frozenset(steps.lost))

    def _name(self, reader: Reader, root: Table) -> None:
        node = root.entries["name"][1] if "name" in root.entries else None
        if not isinstance(node, Scalar) or not re.fullmatch(NAME, node.text):
            return
        if node.text != self.path.stem:
            told = f"people run this as {self.path.stem!r}, and the record says {node.text[:60]!r}"
            reader.warn(node, told, f"name: {self.path.stem}, or rename the file")

    def _hosts(self, reader: Reader, root: Table) -> None:
        node = root.entries["hosts"][1] if "hosts" in root.entries else None
        if isinstance(node, Scalar) and not node.empty and not is_template(node.text):
            try:
                check_terms(node.text)
            except ExpressionError as error:
                reader.error(node, error.what, error.write)

    def _params(self, reader: Reader, root: Table) -> tuple[Param, ...]:
        entry = root.entries.get("params")
        return read_params(reader, entry[1]) if entry else ()

    def _steps(self, steps: StepReader, root: Table, key: str) -> tuple[Draft, ...]:
        if key not in root.entries:
            if key == "steps":
                steps.reader.error(root, "a runbook has no `steps`", "add steps: and a list")
            return ()
        node = root.entries[key][1]
        if key == "steps" and isinstance(node, Items) and not node.nodes:
            steps.reader.error(node, "`steps` is empty", "add a step")
        if key == "always":
            return steps.steps(node, "always", "a")
        return steps.steps(node, "steps", "")

    def _runbook(
        self,
        values: dict[str, Any],
        params: tuple[Param, ...],
        steps: tuple[Draft, ...],
        always: tuple[Draft, ...],
    ) -> Runbook:
        return Runbook(
            file=str(self.path),
            name=values.pop("name", self.path.stem),
            version=values.pop("version", "0.0.0"),
            summary=values.pop("summary", ""),
            sources=self.sources,
            params=params,
            batches=_many(values.pop("batches", ("100%",))),
            steps=tuple(draft.step for draft in steps),
            always=tuple(draft.step for draft in always),
            files=self.files,
            **{name: value for name, value in values.items() if value is not None},
        )

    def include(self, reader: Reader, node: Scalar) -> Runbook | None:
        """Read the runbook that a step names; one that includes itself is refused."""
        path = self._find_runbook(reader, node)
        if path is None:
            return None
        if path.resolve() in self.library.reading:
            reader.error(node, f"{node.text} includes itself", "break the circle")
            return None
        if len(self.library.reading) >= DEEPEST_INCLUDE:
            reader.error(node, f"includes go more than {DEEPEST_INCLUDE} deep", "keep it flatter")
            return None
        book = self.library.book(path)
        if book is not None:
            self.sources.update(book.sources)
        return book

    def _find_runbook(self, reader: Reader, node: Scalar) -> Path | None:
        written = node.text
        if not re.fullmatch(rf"(?:[\w.-]+/)*{NAME}", written):
            reader.error(node, f"{written[:80]!r} can't name a runbook", "a name such as rollback")
            return None
        names = (
            [written]
            if written.endswith((".yaml", ".yml"))
            else [f"{written}.yaml", f"{written}.yml"]
        )
        folders = [self.path.parent, *self.library.search]
        return find(reader, node, names, folders, "runbook", kept=self.library.kept)

    def source(self, reader: Reader, node: Scalar, *, template: bool) -> tuple[str, str] | None:
        """Read a script or a template into the runbook; return its path and text."""
        here = self.path.parent
        folders = [here, here / "templates", here.parent / "templates", here.parent]
        if not template:
            folders = [here, here / "scripts", here.parent / "scripts", here.parent]
        what, kept = "template" if template else "script", self.library.kept
        path = find(reader, node, [node.text], folders, what, kept=kept)
        if path is None:
            return None
        problems: list[Problem] = []
        raw = read(path, problems, kept)
        reader.problems.extend(replace(p, place=reader.place(node)) for p in problems)
        text = _decoded(raw) if raw is not None else None
        if raw is not None and text is None:
            reader.error(node, f"{path} is not UTF-8 text of at most 1 MiB", "upload it instead")
        if text is None:
            return None
        self.files[node.text] = text
        self.sources[str(path)] = text
        return str(path), text


def _decoded(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text or len(raw) > LARGEST else text


def _many(value: object) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, tuple) else (str(value),)


def check_format(reader: Reader, root: Table, what: str) -> bool:
    """Check `opskit: 1`; nothing else in a file of another version can be understood."""
    entry = root.entries.get("opskit")
    if entry is None:
        reader.error(root, f"{what} begins with the version of its format", f"add opskit: {FORMAT}")
        return True
    node = entry[1]
    if isinstance(node, Scalar) and node.text == str(FORMAT):
        return True
    shown = node.text[:40] if isinstance(node, Scalar) else "this"
    newer = shown.isdigit() and int(shown) > FORMAT
    write = "use a newer opskit" if newer else f"write opskit: {FORMAT}"
    reader.error(node, f"format {shown} is not known here (this opskit reads {FORMAT})", write)
    return False


def check(path: Path, search: Sequence[Path]) -> tuple[Runbook | None, list[Problem]]:
    """Read a runbook for lint: with every error and every warning, in the order of the files."""
    return _read(path, search, lint=True)


def _read(
    path: Path, search: Sequence[Path], *, lint: bool, kept: Kept | None = None
) -> tuple[Runbook | None, list[Problem]]:
    library = Library(search, lint=lint, kept=kept)
    book = library.book(path)
    return book, sorted(set_of(library.problems), key=_order)


def kind(path: Path) -> Kind | None:
    """Tell what a file is by its keys, also when it is broken; None: none of these, or no file."""
    raw = read(path, [])
    if raw is None:
        return None
    if _STEPS.search(raw):
        return "runbook"
    if _INVENTORY.search(raw):
        return "inventory"
    if _LEDGER.search(raw):
        return "ledger"
    if _EXPECTATIONS.search(raw):
        return "expectations"
    if _CHECKS.search(raw):
        return "checks"
    if _SCHEDULES.search(raw):
        return "schedules"
    from opskit.load.ansible.kind import has_groups  # after all that is opskit's own

    return "inventory" if has_groups(path) else None


def lint(path: Path, search: Sequence[Path]) -> list[Problem]:
    """Check a file of any kind; what seems to be of none is taken for a runbook."""
    found = kind(path)
    if found == "inventory":
        from opskit.load.inventory import check_inventory

        return check_inventory(path)[1]
    if found == "expectations":
        from opskit.load.expectations import check_expectations

        return check_expectations(path)[1]
    if found == "ledger":
        from opskit.load.ledgers import check_ledger

        return check_ledger(path)[1]
    if found == "checks":
        from opskit.load.checks import lint as lint_checks

        return lint_checks(path)
    if found == "schedules":
        from opskit.load.schedules import check_schedules

        return check_schedules(path)[1]
    return check(path, search)[1]


def set_of(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


def _order(problem: Problem) -> tuple[str, int, int]:
    return problem.place.file, problem.place.line, problem.place.column


def runbook(path: Path, search: Sequence[Path] = (), kept: Kept | None = None) -> Runbook:
    """Read a runbook that is going to run; raises ProblemsError with every error in it.

    With `kept` all of it comes from there: what was read when a run was planned.
    """
    if kept is not None:
        search = [*dict.fromkeys(Path(name).parent for name in kept)]
    book, problems = _read(path, search, lint=False, kept=kept)
    errors = [problem for problem in problems if problem.severity == "error"]
    if book is None and not errors:
        errors = [Problem(place=Place(file=str(path)), what="this can't be read")]
    if errors or book is None:
        raise ProblemsError(errors)
    return book
