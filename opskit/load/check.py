"""What no single step can see: which names are known where, what is saved when, what is secret."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from opskit.load.doubts import Doubts, saves
from opskit.load.keys import ATTRIBUTES, GIVEN, SOMETIMES, VARIABLE
from opskit.load.names import SyntaxProblemError, alone, attributes_in, names_in, offset_of
from opskit.load.reading import Reader, Written
from opskit.load.rules import check_list, check_step, check_with
from opskit.load.spots import spot
from opskit.load.step import Draft, Role, RunbookDraft
from opskit.load.suggest import advice, nearest
from opskit.load.yaml import Scalar, Table
from opskit.model.problem import Problem
from opskit.model.runbook import Runbook, Step

_EXPRESSION = r"\{\{[^{}]*\}\}"
_QUOTING = r"['\"`\\$#<{]"
"""Without one of these beside its expressions a text has no place where quoting could go wrong."""
_SHELL_SCRIPT = r"#!\s*(?:\S*/)?(?:env\s+(?:-S\s+)?)?(?:ba|da|a|k|z|)sh\b"
_RAW = r"\|\s*raw\b"
_WHOLE_RUN = frozenset({"controller"})


class Scope(NamedTuple):
    """The names that a template may use where it stands."""

    params: frozenset[str]
    saved: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    some: frozenset[str] = SOMETIMES
    away: Mapping[str, str] = {}
    """Names that have no meaning here, with the reason."""
    given: tuple[str, ...] = ()
    """Conditions of the steps around: what stands here is done only where they hold."""
    settled: frozenset[str] = frozenset()
    """Names that are there for certain here, whatever was doubtful about them."""

    @property
    def names(self) -> frozenset[str]:
        return (GIVEN | self.params | self.saved | self.secrets | self.some) - self.away.keys()

    def within(self, step: Step) -> "Scope":
        return self if step.when is None else self._replace(given=(*self.given, step.when))

    def with_save(self, step: Step) -> "Scope":
        hidden = _hides(step)
        public = saves(step) - hidden
        secrets = (self.secrets - public) | hidden
        return self._replace(saved=self.saved | public, secrets=secrets)


def _hides(step: Step) -> frozenset[str]:
    """Return which of the names that a step saves are secrets."""
    if step.include is None:
        return saves(step) if step.save is not None and step.save.secret else frozenset()
    within = (*step.include.steps, *step.include.always)
    return saves(step) & frozenset(name for one in within for name in _hides(one))


def check_draft(reader: Reader, book: RunbookDraft, *, lint: bool) -> None:
    """Report everything that is wrong between the parts of a runbook; `lint`: doubtful too."""
    _Checker(reader, book, lint=lint).check()


def _later(book: RunbookDraft) -> dict[str, Draft]:
    """Map each saved name to the first step that saves it."""
    found: dict[str, Draft] = {}
    for draft in _in_order(book):
        for name in saves(draft.step):
            found.setdefault(name, draft)
    return found


def _each(step: Step, name: str) -> bool:
    """Tell whether a step saves a value for each host, rather than one for all."""
    if step.include is not None:
        within = (*step.include.steps, *step.include.always)
        return any(_each(one, name) for one in within if name in saves(one))
    return step.on.scope == "each" or (step.on.scope == "group" and step.on.per == "host")


def _in_order(book: RunbookDraft) -> Iterator[Draft]:
    """Yield the steps in the order in which they run: preflight first."""
    for phase in ("preflight", "main"):
        yield from (draft for draft in book.steps if draft.step.phase == phase)
    yield from book.always


class _Checker:
    def __init__(self, reader: Reader, book: RunbookDraft, *, lint: bool) -> None:
        self.reader = reader
        self.book = book
        self.lint = lint
        self.saved_by = _later(book)
        self.doubts = Doubts()
        self.per_host = frozenset(n for n, d in self.saved_by.items() if _each(d.step, n))

    def check(self) -> None:
        runbook = self.book.runbook
        names = frozenset(param.name for param in runbook.params if param.type != "secret")
        secret = frozenset(param.name for param in runbook.params if param.type == "secret")
        scope = Scope(params=names, secrets=secret, saved=self.book.lost)
        self._head(scope)
        for draft in _in_order(self.book):
            role: Role = "always" if draft.step.phase == "always" else "steps"
            self._step(draft, role, scope)
            self._save(draft, scope)
            self.doubts.after(draft, scope.saved | scope.secrets)
            scope = scope.with_save(draft.step)
            self._undo(draft, scope)
        check_list(self.reader, self.book.steps, undoing=runbook.on_failure == "undo")
        check_list(self.reader, self.book.always, undoing=False)
        self._exports(scope)

    def _head(self, scope: Scope) -> None:
        """`hosts` and `lock` are read before any host is chosen."""
        away = dict.fromkeys((*GIVEN, *SOMETIMES), "no host is chosen yet")
        del away["vars"], away["groups"]
        for written in self.book.written:
            self._names(written, scope._replace(away=away, saved=frozenset()))

    def _step(self, draft: Draft, role: Role, scope: Scope) -> None:
        check_step(self.reader, draft, role)
        check_with(self.reader, draft)
        self._secrets(draft, scope)
        here = _narrowed(scope, draft.step, role, self.per_host)
        for written in draft.written:
            self._template(draft, written, here)
            self._handed_on(draft.step, written, here)
        if draft.done_when is not None:
            self._step(draft.done_when, "done_when", here.within(draft.step))

    def _undo(self, draft: Draft, scope: Scope) -> None:
        some = _narrowed(scope, draft.step, "steps", self.per_host).some
        scope = scope._replace(some=some).within(draft.step)
        for undo in draft.undo:
            self._step(undo, "undo", scope)
            scope = scope.with_save(undo.step)
            scope = scope._replace(settled=scope.settled | saves(undo.step))

    def _template(self, draft: Draft, written: Written, scope: Scope) -> None:
        if written.type == "verbatim":
            self._verbatim(written, scope)
            if re.match(_SHELL_SCRIPT, written.text):
                self._writing(draft, written)
            return
        if written.key.partition(".")[0] in ("for_each", "with"):
            scope = _planned(scope, written.key.partition(".")[0])
        self._names(written, scope, draft)
        if written.type == "shell":
            self._shell(draft, written)
        elif written.type in ("sql", "predicate"):
            self._sql(draft, written)

    def _names(self, written: Written, scope: Scope, draft: Draft | None = None) -> None:
        if written.type == "expression" and "{{" in written.text:
            bare = written.text.replace("{{", "").replace("}}", "").strip()
            self._report(written, 0, "an expression stands without braces", bare[:80])
            return
        try:
            names = names_in(written)
        except SyntaxProblemError as error:
            self._report(written, 0, str(error).split(". ")[0], _cure(written))
            return
        if not names:
            return
        known = scope.names
        for name in sorted(names - known):
            if not self._of_inventory(written, name, scope):
                self._unknown(written, name, scope)
        self._known(written, names & known, scope, draft)
        for name in sorted(names & scope.secrets):
            self._secret(written, name, draft)

    def _known(
        self, written: Written, names: frozenset[str], scope: Scope, draft: Draft | None
    ) -> None:
        """Check names that have a meaning here: what is taken of them, whether they are there."""
        for name in self.doubts.uses(names):
            self._doubtful(written, name, scope, draft)
        for name in sorted(names & ATTRIBUTES.keys()):
            self._attributes(written, name, ATTRIBUTES[name])
        if "by_host" in names:
            self._attributes(written, "by_host", scope.saved)

    def _doubtful(self, written: Written, name: str, scope: Scope, draft: Draft | None) -> None:
        """Report a value that may not be there."""
        if draft is None or name in scope.settled:
            return
        secret = name in scope.secrets
        found = self.doubts.about(written, name, draft.step, scope.given, secret=secret)
        if found is not None and (self.lint or not found.warn):
            at = offset_of(written, name)
            self._report(written, at, found.what, found.write, warn=found.warn)

    def _of_inventory(self, written: Written, name: str, scope: Scope) -> bool:
        """Tell whether a name may be one of the inventory's secrets, which are not known yet."""
        alone_in_stdin = written.key == "stdin" and alone(written.text, name)
        elsewhere = name in scope.away or name in self.saved_by or self._private(name) is not None
        return alone_in_stdin and not elsewhere and nearest(name, scope.names, 0.85) is None

    def _unknown(self, written: Written, name: str, scope: Scope) -> None:
        offset = offset_of(written, name)
        if name in scope.away:
            self._report(written, offset, f"`{name}` can't stand here: {scope.away[name]}")
        elif name in self.saved_by:
            by = self.saved_by[name]
            line = by.node.line
            told = f"`{name}` is not saved yet: step {by.step.position} (line {line}) saves it"
            self._report(written, offset, told, "move that step up")
        else:
            private = self._private(name)
            near = private or nearest(name, scope.names) or "add it to `params`, or save it first"
            self._report(written, offset, f"nothing is called `{name}`", near)

    def _attributes(self, written: Written, name: str, there: Collection[str]) -> None:
        for offset, attribute in attributes_in(written, name):
            if attribute not in there:
                told = f"`{name}` has no `{attribute}`"
                self._report(written, offset, told, advice(attribute, there))

    def _private(self, name: str) -> str | None:
        """Point at a name that an included runbook saves for itself."""
        for draft in self.book.steps:
            included = draft.step.include
            if included is not None and any(name in saves(step) for step in included.steps):
                return f"add export: [{name}] to {included.file}"
        return None

    def _secret(self, written: Written, name: str, draft: Draft | None) -> None:
        if written.key == "stdin" and alone(written.text, name):
            return
        if draft is not None and _hands_on(draft.step, written, name):
            return
        offset = offset_of(written, name)
        told = f"`{name}` is a secret"
        if written.key == "stdin":
            self._report(written, offset, f"{told} and must stand alone", f"'{{{{ {name} }}}}'")
        elif written.type == "shell":
            told = f"{told}; in shell text it would be in the process list"
            cure = f'add secrets: {{{name.upper()}: {name}}} and write "${name.upper()}"'
            self._report(written, offset, told, cure)
        elif written.type in ("sql", "predicate", "argument"):
            told = f"{told}; bound values are shown in the plan and recorded"
            self._report(written, offset, told, "let the server make it, or a `run` step")
        else:
            told = f"{told}; it may stand in `secrets:` and `stdin:` only"
            header = written.key.removeprefix("headers.") if "headers." in written.key else ""
            cure = f"add secrets: {{{header or name.upper()}: {name}}}"
            self._report(written, offset, told, cure)

    def _handed_on(self, step: Step, written: Written, scope: Scope) -> None:
        """What is public can't become a secret by handing it to an include."""
        if step.include is None or written.key not in _secret_keys(step.include):
            return
        if not any(alone(written.text, name) for name in scope.secrets):
            told = "this is for a secret parameter, and is not a secret"
            self._report(written, 0, told, "hand on a secret alone: '{{ NAME }}'")

    def _secrets(self, draft: Draft, scope: Scope) -> None:
        """Check the names in `secrets:`; those of the inventory are known when planning."""
        known = scope.params | scope.saved
        for variable, name in draft.step.secrets.items():
            if not re.fullmatch(VARIABLE, name):
                told = f"`secrets` wants the name of a secret, not {name[:80]!r}"
                bare = name.strip("{} ")
                cure = bare if re.fullmatch(VARIABLE, bare) else "NAME"
                self.reader.error(draft.at("secrets"), told, f"{variable}: {cure}")
            elif name in known:
                told = f"`{name}` is not a secret"
                cure = "declare it as type: secret, or save it as {name, secret: true}"
                self.reader.error(draft.at("secrets"), told, cure)
            elif self.doubts.uses({name}):
                node = _under(draft, "secrets", variable)
                self._doubtful(Written("secrets", "expression", name, node), name, scope, draft)

    def _shell(self, draft: Draft, written: Written) -> None:
        if "{{" in written.text or "{%" in written.text:
            self._quoting(written)
        self._writing(draft, written)

    def _sql(self, draft: Draft, written: Written) -> None:
        from opskit.load import sql  # few runbooks have any

        for one in sql.found(draft.step, written):
            self._report(written, one.offset, one.what, one.write, warn=one.warn)

    def _writing(self, draft: Draft, written: Written) -> None:
        reads = self.lint and (draft.step.effect == "read" or written.key == "unless")
        if reads or "purge" in written.text or "flush" in written.text.lower():
            from opskit.load.shell import wrong

            for offset, what, cure, warn in wrong(written.text, reads=reads):
                self._report(written, offset, what, cure, warn=warn)

    def _quoting(self, written: Written) -> None:
        if re.search(_QUOTING, re.sub(_EXPRESSION, "x", written.text)):
            self._quoted(written)
        for match in re.finditer(_RAW, written.text):
            told = "`raw` puts a value into shell text unquoted"
            self._report(written, match.start(), told, "make sure who may set it", warn=True)

    def _quoted(self, written: Written) -> None:
        from opskit.render import TemplateError, shell

        try:
            problems = shell.shell_problems(written.text)
        except TemplateError:
            return  # reported as a name problem already
        for one in problems:
            self._report(written, one.offset, one.what, one.write)

    def _verbatim(self, written: Written, scope: Scope) -> None:
        for name in re.findall(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}", written.text):
            if name in scope.names:
                told = f"a script is not rendered; {{{{ {name} }}}} stays as it is"
                at = written.text.index(name)
                self._report(written, at, told, "hand it over in `args`", warn=True)

    def _save(self, draft: Draft, scope: Scope) -> None:
        save = draft.step.save
        if save is None:
            return
        at = draft.at("save")
        if save.name in {param.name for param in self.book.runbook.params}:
            self.reader.error(at, f"`{save.name}` is a parameter", "save it under another name")
        elif save.name in scope.saved and save.name not in self.book.lost:
            first = self.saved_by[save.name].step.position
            self.reader.warn(at, f"`{save.name}` was saved by step {first} already")

    def _exports(self, scope: Scope) -> None:
        saved = scope.saved | (scope.secrets - {p.name for p in self.book.runbook.params})
        for name in self.book.runbook.export:
            if name not in saved:
                node = self.book.node.entries["export"][1]
                near = nearest(name, saved) or "export what a step saves"
                self.reader.error(node, f"no step saves `{name}`", near)

    def _report(
        self, written: Written, offset: int, what: str, write: str = "", *, warn: bool = False
    ) -> None:
        place = spot(self.reader, written, offset)
        self.reader.problems.append(
            Problem(place=place, what=what, write=write, severity="warning" if warn else "error")
        )


def _under(draft: Draft, key: str, name: str) -> Scalar:
    """Return what stands under a name in a table of a step."""
    table = draft.node.entries[key][1]
    node = table.entries[name][1] if isinstance(table, Table) else table
    assert isinstance(node, Scalar)
    return node


def _hands_on(step: Step, written: Written, name: str) -> bool:
    """Tell whether an include hands a secret on to a parameter that is one."""
    if step.include is None or not alone(written.text, name):
        return False
    return written.key in _secret_keys(step.include)


def _secret_keys(included: Runbook) -> set[str]:
    return {f"with.{param.name}" for param in included.params if param.type == "secret"}


def _planned(scope: Scope, key: str) -> Scope:
    """Planning unrolls `for_each` and opens includes: nothing late may stand there."""
    late = dict.fromkeys((*scope.saved, "run", "by_host"), f"{key} must be known when planning")
    return scope._replace(away={**scope.away, **late})


def _narrowed(scope: Scope, step: Step, role: Role, per_host: frozenset[str]) -> Scope:
    """Narrow the names to those there are for a step; `per_host`: saved names with a value each."""
    some = {"run", "batch"} | ({"item", "index"} if step.for_each is not None else set())
    if role in ("undo", "done_when"):
        some |= scope.some  # that of the step which they belong to
    away: dict[str, str] = {}
    on = step.on
    whole_run = on.scope in _WHOLE_RUN or (on.scope == "group" and on.per == "run")
    if whole_run or (on.scope == "group" and on.per == "batch"):
        some.add("by_host")
        told = "this step is not done for one host of the batch; use `target` or `hosts`"
        away = {"host": told, "service": told}
        told = "it is saved for each host, and this step is not done for one host"
        away |= dict.fromkeys(per_host, told)
    else:
        away["by_host"] = "this step is done for one host; write the saved name alone"
    if step.phase != "main" or whole_run:
        away["batch"] = "there are no batches here"
    if role in ("steps", "always") and step.for_each is None:
        away |= dict.fromkeys(("item", "index"), "the step has no for_each")
    return scope._replace(some=frozenset(some), away=away)


def _cure(written: Written) -> str:
    return "close each {{ with }}" if written.text.count("{{") != written.text.count("}}") else ""
