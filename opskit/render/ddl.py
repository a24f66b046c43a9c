"""What a statement of a migration does to a database that is in use. Pure: SQL in, effects out.

A statement that is not known here is an effect of its own: what nobody has thought about is
refused. Tables made by the same migration are exempt, as no running program knows them.
"""

from collections.abc import Iterator
from dataclasses import field

from opskit.model.frozen import mutable
from opskit.render.columns import Column, column
from opskit.render.cursor import Cursor
from opskit.render.effect import Effect, lock, shape, unread
from opskit.render.sql import Statement, control


@mutable
class Scene:
    """What is known where a statement stands: `made` and what else its migration did before."""

    atomic: bool = True
    made: set[str] = field(default_factory=set)
    """Tables of this migration."""
    touched: set[str] = field(default_factory=set)
    """Tables that were there before."""
    columns: dict[tuple[str, str], Column] = field(default_factory=dict)
    """By table and name: columns that this migration has added to them."""
    promised: set[tuple[str, str]] = field(default_factory=set)
    """By table and name: constraints that this migration has added NOT VALID."""
    checks: dict[tuple[str, str], str] = field(default_factory=dict)
    """By table and name: the column that a CHECK, also of an earlier migration, has not null."""
    proved: set[tuple[str, str]] = field(default_factory=set)
    """Table and column: what a validated CHECK has not null."""

    def old(self, table: str) -> bool:
        """Tell whether a table was there before this migration; then it is touched."""
        if table in self.made:
            return False
        self.touched.add(table)
        return True


def effects(statement: Statement, scene: Scene) -> Iterator[Effect]:
    """Yield what a statement does, and remember in the scene what those after it need to know."""
    at = Cursor(statement.tokens)
    if control(statement):
        return
    match at.next():
        case "create":
            yield from _create(at, scene)
        case "alter":
            yield from _alter(at, scene)
        case "drop":
            yield from _drop(at, scene)
        case "select" | "values" | "table" | "show" | "explain":
            yield Effect(weight="reversible")
        case "insert":
            yield from _rows(at, scene, "into")
        case "update" | "delete" | "merge" | "with" | "copy" | "truncate" as verb:
            yield from _data(verb, at, scene)
        case verb:
            yield from _other(verb, at, scene)


_FINE = frozenset({"comment", "analyze", "grant", "notify", "discard", "security"})
_HIDDEN = frozenset({"do", "call", "execute", "prepare", "import", "load"})
_STOPS = {
    "vacuum": ("VACUUM FULL rewrites the table, and nobody reads it", "take it out"),
    "cluster": ("CLUSTER rewrites the table, and nobody reads it", "take it out"),
    "reindex": ("REINDEX stops whoever writes", "write REINDEX … CONCURRENTLY"),
    "refresh": ("REFRESH stops whoever reads", "use the runbook matview-refresh"),
}


def _other(verb: str, at: Cursor, scene: Scene) -> Iterator[Effect]:
    if verb in ("set", "reset"):
        yield from _setting(at)
    elif verb == "lock":
        at.take("table")
        at.take("only")
        if scene.old(at.name()):
            yield lock("LOCK TABLE stops whoever wants the table", "take it out")
    elif verb in _STOPS:
        mild = not at.has("full") if verb == "vacuum" else at.has("concurrently")
        if not mild:
            yield lock(*_STOPS[verb])
    elif verb in _HIDDEN:
        yield unread(f"{verb.upper()} does what can't be seen in its text")
    elif verb not in _FINE:
        yield unread(f"{verb.upper() or 'a statement'} is not known here")


def _setting(at: Cursor) -> Iterator[Effect]:
    at.take("session")
    at.take("local")
    name = at.name()
    if name in ("lock_timeout", "statement_timeout", "all"):
        yield lock(f"it sets {name}, which the deploy does", "take it out")


# --- CREATE ---


def _create(at: Cursor, scene: Scene) -> Iterator[Effect]:
    replaces = at.take("or", "replace")
    unique = at.take("unique")
    loose = {"global", "local", "temporary", "temp", "unlogged", "recursive", "constraint"}
    while at.key in loose:
        at.next()
    match at.next():
        case "index":
            yield from _index(at, scene, unique=unique)
        case "table":
            yield from _table(at, scene)
        case "trigger" | "rule" | "policy":
            yield Effect(weight="reversible")
        case "materialized" | "view" | "function" | "procedure" | "aggregate":
            yield Effect(weight="reversible" if replaces else "additive")
        case "database" | "tablespace" | "role" | "user" | "subscription" as what:
            yield unread(f"CREATE {what.upper()} is beyond a migration")
        case _:
            yield Effect()


def _table(at: Cursor, scene: Scene) -> Iterator[Effect]:
    perhaps = at.take("if", "not", "exists")
    name = at.name()
    if not perhaps:
        scene.made.add(name)
    if at.take("partition", "of") and scene.old(at.name()):
        yield lock(
            "CREATE TABLE … PARTITION OF stops the whole table",
            "create it by itself, then ALTER TABLE … ATTACH PARTITION",
        )
    yield Effect()


def _index(at: Cursor, scene: Scene, *, unique: bool) -> Iterator[Effect]:
    concurrently = at.take("concurrently")
    at.take("if", "not", "exists")
    if at.key != "on":
        at.name()
    at.take("on")
    at.take("only")
    if not scene.old(at.name()):
        yield Effect()
        return
    if not concurrently:
        yield lock(
            "CREATE INDEX stops whoever writes to the table until it is built",
            "CREATE INDEX CONCURRENTLY: AddIndexConcurrently, in a migration with atomic = False",
        )
    elif scene.atomic:
        yield lock("CREATE INDEX CONCURRENTLY can't be in a transaction", "write atomic = False")
    yield Effect(weight="reversible" if unique else "additive")


# --- DROP, and rows ---


def _drop(at: Cursor, scene: Scene) -> Iterator[Effect]:
    what = at.next()
    if what == "materialized":
        what += " " + at.next()
    at.take("concurrently")
    at.take("if", "exists")
    if what == "table":
        names = [at.name()]
        while at.take(","):
            names.append(at.name())
        old = [scene.old(name) for name in names]  # all of them: they are touched
        if not any(old):
            scene.made -= set(names)
            return
    yield shape(f"DROP {what.upper()} takes away what running programs may need")


def _rows(at: Cursor, scene: Scene, before: str) -> Iterator[Effect]:
    at.take(before)
    at.take("only")
    old = scene.old(at.name())
    yield Effect(weight="reversible" if old else "additive")


def _data(verb: str, at: Cursor, scene: Scene) -> Iterator[Effect]:
    if verb == "truncate":
        at.take("table")
        at.take("only")
        if scene.old(at.name()):
            yield shape("TRUNCATE takes all rows away, and stops the table")
        return
    if verb == "update" or (verb == "delete" and at.take("from")):
        at.take("only")
        if not scene.old(at.name()):
            return
    if verb == "copy" or (verb == "with" and not at.has("update", "delete", "merge")):
        yield Effect(weight="reversible")
        return
    yield Effect(
        weight="destructive",
        fault="lock",
        what=f"{verb.upper()} changes rows in one long transaction, and what they were is lost",
        write="fill in in batches of some thousand rows, outside of the migration",
    )


# --- ALTER ---


def _alter(at: Cursor, scene: Scene) -> Iterator[Effect]:
    match at.next():
        case "table":
            yield from _alter_table(at, scene)
        case "type" | "domain":
            at.name()
            if at.take("add", "value"):
                yield Effect()
            else:
                yield _renamed(at)
        case "sequence" | "function" | "procedure" | "extension" | "role" | "default":
            yield _renamed(at) if at.has("rename") else Effect(weight="reversible")
        case "index":
            at.take("if", "exists")
            at.name()
            yield Effect() if at.take("attach", "partition") else _renamed(at)
        case _:
            yield _renamed(at)


def _renamed(at: Cursor) -> Effect:
    if at.has("rename"):
        return shape("RENAME takes the name away that running programs use")
    return unread("this ALTER is not known here")


def _alter_table(at: Cursor, scene: Scene) -> Iterator[Effect]:
    at.take("if", "exists")
    at.take("only")
    table = at.name()
    at.take("*")
    old = scene.old(table)
    for action in at.parts():
        found = list(_action(action, table, scene))
        if old:
            yield from found


def _action(at: Cursor, table: str, scene: Scene) -> Iterator[Effect]:
    match at.next():
        case "add":
            yield from _add(at, table, scene)
        case "alter":
            at.take("column")
            yield from _alter_column(at, table, scene)
        case "validate":
            at.take("constraint")
            yield from _validate(at.name(), table, scene)
        case "drop":
            at.take("column")
            what = "DROP CONSTRAINT" if at.key == "constraint" else "DROP COLUMN"
            yield shape(f"{what} takes away what running programs may need")
        case "rename":
            yield shape("RENAME takes the name away that running programs use")
        case "set":
            yield from _set(at)
        case "attach" | "owner" | "reset" | "replica":
            yield Effect()
        case "enable" | "disable" if at.has("trigger", "rule"):
            yield Effect(weight="reversible")
        case "detach":
            yield shape("DETACH PARTITION takes rows away that running programs may need")
        case verb:
            yield unread(f"ALTER TABLE … {verb.upper()} is not known here")


def _set(at: Cursor) -> Iterator[Effect]:
    match at.key:
        case "(":
            yield Effect()
        case "schema":
            yield shape("SET SCHEMA takes the name away that running programs use")
        case key:
            yield lock(f"SET {key.upper()} rewrites the table, and nobody reads it", "take it out")


_KINDS = {"constraint", "primary", "unique", "check", "foreign", "exclude", "not"}


def _add(at: Cursor, table: str, scene: Scene) -> Iterator[Effect]:
    if at.key in _KINDS:
        yield from _constraint(at, table, scene)
        return
    at.take("column")
    at.take("if", "not", "exists")
    name = at.name()
    added = scene.columns[table, name] = column(at)
    for what, write in added.faults:
        yield lock(what, write)
    if added.required and not added.default:
        yield shape(
            f"column {name} is NOT NULL without a default: running programs leave it out",
            "null=True, or a default that stays in the database (db_default)",
        )
    yield Effect(weight="reversible" if added.required else "additive")


def _constraint(at: Cursor, table: str, scene: Scene) -> Iterator[Effect]:
    name = at.name() if at.take("constraint") else ""
    kind = at.next()
    late = at.has_words("not", "valid")
    if late:
        scene.promised.add((table, name))
    match kind:
        case "primary" | "unique" if not at.has_words("using", "index"):
            yield lock(
                f"{kind.upper()} builds an index while the table stands still",
                "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX",
            )
        case "check" | "foreign" | "not" if not late:
            told = {"foreign": "FOREIGN KEY", "not": "NOT NULL"}.get(kind, "CHECK")
            yield lock(
                f"{told} reads the whole table while it stands still",
                "add it NOT VALID, and VALIDATE CONSTRAINT in a migration after it",
            )
        case "exclude":
            yield lock("EXCLUDE builds an index while the table stands still", "take it out")
        case "check":
            scene.checks[table, name] = at.not_null()
    yield Effect(weight="reversible")


def _validate(name: str, table: str, scene: Scene) -> Iterator[Effect]:
    if scene.atomic and (table, name) in scene.promised:
        yield lock(
            "VALIDATE CONSTRAINT beside the ADD CONSTRAINT reads the table while it stands still",
            "put it into a migration after this one",
        )
    if column_name := scene.checks.get((table, name)):
        scene.proved.add((table, column_name))
    yield Effect()


def _alter_column(at: Cursor, table: str, scene: Scene) -> Iterator[Effect]:
    name = at.name()
    own = scene.columns.get((table, name))
    if at.key == "type" or at.has_words("set", "data", "type"):
        yield shape(f"column {name} gets another TYPE, which running programs do not know")
        yield lock(
            f"another TYPE of {name} rewrites the table, and nobody reads it",
            "add a column beside it, fill it, and change over in a later release",
        )
    elif at.take("set", "not", "null"):
        if (table, name) not in scene.proved:
            yield lock(
                f"SET NOT NULL reads the whole table for {name} while it stands still",
                f"CHECK ({name} IS NOT NULL) NOT VALID, VALIDATE it in a migration after that, and"
                " SET NOT NULL then",
            )
        yield Effect(weight="reversible")
    elif at.take("drop", "default"):
        if own is None or own.required:
            yield shape(
                f"DROP DEFAULT of {name}: running programs leave the column out",
                "null=True, or a default that stays in the database (db_default)",
            )
    elif at.key in ("set", "reset") or at.take("drop", "not", "null") or at.take("add"):
        yield Effect(weight="reversible")
    else:
        yield shape(f"column {name} loses what running programs may need")
