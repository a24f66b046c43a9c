"""A node → a Step, with the templates that it holds and where they stand."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from opskit.load.included import hand_over
from opskit.load.reading import Reader, Written
from opskit.load.suggest import nearest
from opskit.load.yaml import Items, Node, Scalar, Table
from opskit.model.problem import Place
from opskit.model.runbook import On, Phase, Retry, Runbook, Save, Silent, Step, Until
from opskit.model.value import Json
from opskit.steps import COMMON, KINDS, Key, StepKind, effect_of
from opskit.steps.base import is_template

Role = Literal["steps", "always", "undo", "done_when"]
_COMMON = {key.name: key for key in COMMON}
_STEP_KEYS = (*_COMMON, *KINDS)
_KNOWN = frozenset(_STEP_KEYS)
_MEANT = {
    "approve": "confirm",
    "ask": "confirm",
    "cmd": "run",
    "command": "run",
    "copy": "upload",
    "debug": "notify",
    "exec": "run",
    "include": "runbook",
    "loop": "for_each",
    "pause": "wait",
    "register": "save",
    "shell": "run",
    "sleep": "wait",
    "become": "sudo",
    "if": "when",
    "with_items": "for_each",
    "rollback": "undo",
}
"""What other tools call it."""
_RENDERED: Mapping[str, Literal["text", "sql"]] = {"template": "text", "sqlfile": "sql"}
"""As what the text of a file is rendered; a script's is not."""


class Books(Protocol):
    """What a step may need from other files."""

    def include(self, reader: Reader, node: Scalar) -> Runbook | None: ...

    def source(self, reader: Reader, node: Scalar, *, template: bool) -> tuple[str, str] | None:
        """Return path and text of a script or template."""


class Draft(NamedTuple):
    """A step with what checks need and runs don't: its templates, and the drafts inside it."""

    step: Step
    node: Table
    written: tuple[Written, ...]
    undo: tuple["Draft", ...] = ()
    done_when: "Draft | None" = None

    def at(self, key: str) -> Node:
        """Return the node to point at for a common key."""
        entry = self.node.entries.get(key)
        return entry[0] if entry else self.node


class RunbookDraft(NamedTuple):
    """A runbook with what checks need: the drafts of its steps, and its own templates."""

    runbook: Runbook
    node: Table
    steps: tuple[Draft, ...]
    always: tuple[Draft, ...]
    written: tuple[Written, ...]
    lost: frozenset[str]


class _Places(Mapping[str, Place]):
    """Where the keys of a step stand: worked out when it is asked for, which is seldom."""

    __slots__ = ("_keys", "_kind", "_reader", "_within")

    def __init__(self, reader: Reader, node: Table, kind: str) -> None:
        value = node.entries[kind][1]
        self._reader = reader
        self._keys = node.entries
        self._kind = f"{kind}."
        self._within = value.entries if isinstance(value, Table) else {}

    def __getitem__(self, name: str) -> Place:
        if name in self._keys:
            return self._reader.place(self._keys[name][0])
        if not name.startswith(self._kind):
            raise KeyError(name)
        return self._reader.place(self._within[name.removeprefix(self._kind)][0])

    def __contains__(self, name: object) -> bool:
        if name in self._keys:
            return True
        prefix = isinstance(name, str) and name.startswith(self._kind)
        return prefix and str(name).removeprefix(self._kind) in self._within

    def __iter__(self) -> Iterator[str]:
        yield from self._keys
        yield from (self._kind + name for name in self._within)

    def __len__(self) -> int:
        return len(self._keys) + len(self._within)


class StepReader:
    """Reads the steps of one runbook."""

    def __init__(self, reader: Reader, books: Books) -> None:
        self.reader = reader
        self.books = books
        self.lost: set[str] = set()

    def steps(self, node: Node, role: Role, prefix: str) -> tuple[Draft, ...]:
        """Read a list of steps (for `undo` also a single one)."""
        if isinstance(node, Table) and role == "undo":
            nodes: list[Node] = [node]
        elif isinstance(node, Items):
            nodes = node.nodes
        else:
            self.reader.error(node, f"`{role}` must be a list of steps", _listed(node))
            return ()
        drafts = (self.step(one, role, f"{prefix}{i}") for i, one in enumerate(nodes, start=1))
        return tuple(draft for draft in drafts if draft is not None)

    def step(self, node: Node, role: Role, position: str) -> Draft | None:
        if isinstance(node, Scalar) and role == "done_when" and not node.empty:
            node = _as_run(node)
        if not isinstance(node, Table):
            self.reader.error(node, "a step must be a mapping", _as_step(node))
            return None
        kind = self._kind(node)
        if kind is None:
            self._remember(node)
            self._rest(node, role, position)
            return None
        outer, self.reader.written = self.reader.written, []
        try:
            return self._draft(node, kind, role, position)
        finally:
            self.reader.written = outer

    def _rest(self, node: Table, role: Role, position: str) -> None:
        """Report what else is wrong in a step whose kind can't be told."""
        outer, self.reader.written = self.reader.written, []
        self._common(node)
        self._undo(node, role, position)
        self._done_when(node, position)
        self.reader.written = outer

    def _remember(self, node: Table) -> None:
        save = node.entries.get("save")
        if save and isinstance(save[1], Scalar):
            self.lost.add(save[1].text)

    def _kind(self, node: Table) -> str | None:
        """Return the one kind of a step; report unknown keys, no kind, several kinds."""
        unknown = [key for name, (key, _) in node.entries.items() if name not in _KNOWN]
        kinds = [name for name in node.entries if name in KINDS]
        for key in unknown:
            near = _meant(key.text, kinds)
            self.reader.error(key, f"unknown key {key.text!r} in a step", near)
        if len(kinds) == 1:
            return kinds[0]
        if kinds:
            second = node.entries[kinds[1]][0]
            told = " and ".join(f"`{kind}`" for kind in kinds)
            self.reader.error(second, f"a step has one kind; this has {told}", "make two steps")
        elif not unknown:
            self.reader.error(node, "this step has no kind", "add one of " + ", ".join(KINDS))
        return None

    def _draft(self, node: Table, kind: str, role: Role, position: str) -> Draft:
        module = KINDS[kind]
        args, include = self._args(node.entries[kind][1], kind, module)
        include, given = self._handed(node.entries[kind][1], include)
        common = self._common(node)
        undo = self._undo(node, role, position)
        done = self._done_when(node, position)
        step = Step(
            position=position,
            name=_name(common.pop("name", None), kind, module, args),
            kind=kind,
            place=self.reader.place(node),
            args=args,
            places=_Places(self.reader, node, kind),
            phase=_phase(role, common.pop("phase", "main")),
            effect=common.pop("effect", None) or _effect(role, module, args),
            on=_on(module, common.pop("on", None), role),
            undo=tuple(draft.step for draft in undo),
            lasting=bool(undo) or "undo" not in node.entries,
            done_when=done.step if done else None,
            include=include,
            with_=given,
            **_shaped(common),
        )
        self.reader.problems.extend(module.check(step))
        return Draft(step, node, tuple(self.reader.written), undo, done)

    def _args(
        self, node: Node, kind: str, module: StepKind
    ) -> tuple[dict[str, Json], Runbook | None]:
        if not isinstance(node, Table):
            if module.MAIN is None:
                needed = ", ".join(f"{key.name}: …" for key in module.KEYS if key.required)
                self.reader.error(node, f"`{kind}` must be a mapping", f"{kind}: {{{needed}}}")
                return {}, None
            node = _under(module.MAIN, node)
        args = self.reader.arguments(node, module.KEYS, f"`{kind}`")
        include = None
        for key in module.KEYS:
            value = node.entries.get(key.name, (None, None))[1]
            if not isinstance(value, Scalar) or key.name not in args:
                continue
            if key.type == "runbook":
                include = self.books.include(self.reader, value)
            elif key.type in ("script", "template", "sqlfile"):
                self._source(value, key)
            elif key.type in ("expectations", "ledger") and not is_template(value.text):
                self._described(value, key)
        return args, include

    def _handed(
        self, node: Node, include: Runbook | None
    ) -> tuple[Runbook | None, Mapping[str, Json]]:
        if include is None:
            return None, {}
        entry = node.entries.get("with") if isinstance(node, Table) else None
        return hand_over(include, entry[1] if entry else None, Path(self.reader.file).parent)

    def _described(self, node: Scalar, key: Key) -> None:
        """Check a file that is known already now; a plan reads it again."""
        from opskit.load.expectations import check_expectations
        from opskit.load.ledgers import check_ledger

        path = Path(self.reader.file).parent / Path(node.text).expanduser()
        check = check_ledger if key.type == "ledger" else check_expectations
        if path.is_file():
            self.reader.problems.extend(check(path)[1])
        else:
            self.reader.error(node, f"there is no file {node.text[:80]!r}", f"put it at {path}")

    def _source(self, node: Scalar, key: Key) -> None:
        found = self.books.source(self.reader, node, template=key.type == "template")
        if found is not None:
            path, text = found
            how: Literal["text", "sql", "verbatim"] = _RENDERED.get(key.type, "verbatim")
            self.reader.written.append(
                Written(key.name, how, text, Scalar(text, "file", 1, 1, 1), path)
            )

    def _common(self, node: Table) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, (_, value) in node.entries.items():
            key = _COMMON.get(name)
            if key is None or key.type in ("step", "steps"):
                continue
            if name == "for_each":
                values[name] = self._for_each(value)
            else:
                self.reader.entry(values, key, value)
        return values

    def _for_each(self, node: Node) -> Json:
        """Read a list, or an expression (its braces, if any, taken off)."""
        if isinstance(node, Items):
            return self.reader.data(node, "for_each")
        if not isinstance(node, Scalar) or node.empty:
            self.reader.error(node, "`for_each` must be a list or an expression", "[ONE, TWO]")
            return None
        text = node.text.strip()
        if text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1:
            text = text[2:-2].strip()
        self.reader.written.append(Written("for_each", "expression", text, node))
        return text

    def _undo(self, node: Table, role: Role, position: str) -> tuple[Draft, ...]:
        if "undo" not in node.entries:
            return ()
        key, value = node.entries["undo"]
        if role != "steps":
            where = "the `always` part" if role == "always" else f"`{role}`"
            self.reader.error(key, f"a step of {where} has no `undo`", "take it out")
            return ()
        return self.steps(value, "undo", f"{position}u")

    def _done_when(self, node: Table, position: str) -> Draft | None:
        entry = node.entries.get("done_when")
        return self.step(entry[1], "done_when", f"{position}d") if entry else None


def _meant(written: str, kinds: list[str]) -> str:
    """Say what was probably meant by a key that a step can't have."""
    if any(written == key.name for kind in kinds for key in KINDS[kind].KEYS):
        main = KINDS[kinds[0]].MAIN
        before = f"{main}: …, " if main else ""
        return f"put it inside: {kinds[0]}: {{{before}{written}: …}}"
    near = _MEANT.get(written) or nearest(written, _STEP_KEYS)
    return near or ("" if kinds else "one of " + ", ".join(KINDS))


def _listed(node: Node) -> str:
    """Say how to write a list of steps, given what stands in its place."""
    if isinstance(node, Table):
        return "begin each step with `- `"
    empty = isinstance(node, Scalar) and node.empty
    return "indent the steps below it, each with `- `" if empty else _as_step(node)


def _as_step(node: Node) -> str:
    """Say how to write what stands in the place of a step."""
    shown = node.text.split("\n")[0][:60] if isinstance(node, Scalar) else ""
    return f"write - run: {shown or '…'}"


def _as_run(node: Scalar) -> Table:
    """Open the short form `done_when: TEXT`."""
    return _under("run", node)


def _under(name: str, node: Node) -> Table:
    table = Table(node.line, node.column)
    table.entries[name] = (Scalar(name, "", node.line, node.column, node.line), node)
    return table


def _name(written: str | None, kind: str, module: StepKind, args: Mapping[str, Json]) -> str:
    """Name a step that has no name after its first line."""
    if written:
        return written
    main = args.get(module.MAIN or "")
    first = main.strip().split("\n")[0] if isinstance(main, str) else ""
    return f"{kind}: {first[:60]}" if first else kind


def _phase(role: Role, written: Phase) -> Phase:
    return "always" if role == "always" else written


def _effect(role: Role, module: StepKind, args: Mapping[str, Json]) -> Literal["read", "change"]:
    """What `done_when` says in shell, SQL or commands is a read, and looked at as any read."""
    said = any(key.type in ("shell", "sql", "commands") for key in module.KEYS)
    return "read" if role == "done_when" and said else effect_of(module, args)


def _on(module: StepKind, written: Mapping[str, Any] | None, role: Role) -> On:
    if not written:
        # In an undo what is said, asked or waited for is so for each host that is taken back:
        # done for one of them only, the others would not be undone as a whole.
        once = module.SCOPE in ("once", "batch")
        return On(scope="each" if role == "undo" and once else module.SCOPE)
    if "group" in written:
        return On(scope="group", group=written["group"], per=written.get("per", "host"))
    return On(scope=written.get("scope", module.SCOPE))


def _shaped(common: dict[str, Any]) -> dict[str, Any]:
    """Turn the tables among the common keys into their values."""
    shaped = {name: value for name, value in common.items() if value is not None}
    if (save := shaped.pop("save", None)) and "name" in save:
        shaped["save"] = Save(name=save["name"], secret=save.get("secret", False))
    if until := shaped.pop("until", None):
        shaped["until"] = Until(
            every=until.get("every", 1.0),
            limit=until.get("for", 60.0),
            successes=until.get("successes", 1),
        )
    if silent := shaped.pop("silent", None):
        shaped["silent"] = Silent(after=silent.get("after", 300.0), stop=silent.get("stop", False))
    if (retry := shaped.pop("retry", None)) and "times" in retry:
        shaped["retry"] = Retry(times=retry["times"], backoff=retry.get("backoff", 1.0))
    return shaped
