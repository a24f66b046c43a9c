"""What a statement of a migration does to a database that is in use. Pure: SQL in, effects out.

A statement that is not known here is an effect of its own: what nobody has thought about is
refused. Tables made by the same migration are exempt, as no running program knows them.
"""

from collections.abc import Iterator

from opskit.render.altering import alter
from opskit.render.cursor import Cursor
from opskit.render.effect import Effect, lock, shape, unread
from opskit.render.reads import called
from opskit.render.scene import Scene
from opskit.render.sql import Statement, control


def effects(statement: Statement, scene: Scene) -> Iterator[Effect]:
    """Yield what a statement does, and remember in the scene what those after it need to know."""
    at = Cursor(statement.tokens)
    if not scene.atomic:
        scene.held.clear()
    if word := control(statement):
        yield unread(f"{word} begins or ends a transaction by itself")
        return
    match at.next():
        case "create":
            yield from _create(at, scene)
        case "alter":
            yield from alter(at, scene)
        case "drop":
            yield from _drop(at, scene)
        case "select" | "values" | "table" | "show" | "explain" as verb:
            yield from _read(verb, at)
        case "insert":
            yield from _insert(at, scene)
        case "truncate":
            yield from _truncate(at, scene)
        case "update" | "delete" | "merge" | "with" as verb:
            yield from _data(verb, at, scene)
        case verb:
            yield from _other(verb, at, scene)


_FINE = frozenset({"comment", "analyze", "grant", "notify", "discard", "security"})
_HIDDEN = frozenset({"do", "call", "execute", "prepare", "import", "load", "copy"})
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
        old = [name for name in at.names() if scene.old(name)]
        if old:
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
    temporary = False
    while at.key in _LOOSE:
        temporary |= at.next() in ("temporary", "temp")
    match at.next():
        case "index":
            yield from _index(at, scene, unique=unique)
        case "table":
            yield from _table(at, scene, temporary=temporary)
        case "trigger" | "policy":
            at.seek("on")
            if scene.old(table := at.name()):
                yield from scene.hold(table)
            yield Effect(weight="reversible")
        case "materialized" | "view" | "function" | "procedure" | "aggregate":
            yield Effect(weight="reversible" if replaces else "additive")
        case "database" | "tablespace" | "role" | "user" | "subscription" as what:
            yield unread(f"CREATE {what.upper()} is beyond a migration")
        case what if what in _HARMLESS:
            yield Effect()
        case what:
            yield unread(f"CREATE {what.upper()} is not known here")


_LOOSE = {"global", "local", "temporary", "temp", "unlogged", "recursive", "constraint"}
_HARMLESS = {"schema", "sequence", "type", "domain", "extension", "statistics", "collation"} | {
    "cast", "conversion", "operator", "text",
}  # fmt: skip


def _table(at: Cursor, scene: Scene, *, temporary: bool) -> Iterator[Effect]:
    perhaps = at.take("if", "not", "exists")
    name = at.name()
    if not (perhaps or temporary):  # one of before may have the name as well
        scene.made.add(name)
    if at.take("partition", "of") and scene.old(at.name()):
        yield lock(
            "CREATE TABLE … PARTITION OF stops the whole table",
            "create it by itself, then ALTER TABLE … ATTACH PARTITION",
        )
    if scene.held and at.has_words("as") and at.has_words("from"):
        yield _copies(scene)
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
    waits = not at.take("concurrently")
    at.take("if", "exists")
    names = at.names()
    if what == "table":
        old = [scene.old(name) for name in names]  # all of them: they are touched
        if not any(old):
            scene.made -= set(names)
            return
    if waits and what in ("table", "index", "trigger", "policy", "rule"):
        yield from scene.hold(" and ".join(names))
    yield shape(f"DROP {what.upper()} takes away what running programs may need")


def _read(verb: str, at: Cursor) -> Iterator[Effect]:
    """A read does what the functions do that it calls, and EXPLAIN ANALYZE what it explains."""
    if verb == "explain":
        if at.has("analyze", "analyse"):
            yield unread("EXPLAIN ANALYZE does what it explains")
        return
    if any(at.has_words("for", *words) for words in _ROW_LOCKS):
        yield lock("SELECT … FOR UPDATE holds rows until the migration ends", "take it out")
    yield from _calls(verb, at)
    yield Effect(weight="reversible")


_ROW_LOCKS = (("update",), ("share",), ("no", "key"), ("key", "share"))


def _calls(verb: str, at: Cursor) -> Iterator[Effect]:
    if name := called(at.rest):
        yield unread(f"{verb.upper()} calls {name}(), and what that does can't be seen")


def _insert(at: Cursor, scene: Scene) -> Iterator[Effect]:
    at.take("into")
    old = scene.old(at.name())
    if at.has("update", "delete", "merge"):  # ON CONFLICT DO UPDATE, or in a WITH
        yield _changes("INSERT … UPDATE" if at.has("update") else "INSERT … WITH")
        return
    if (old or scene.held) and at.has_words("from"):
        yield _copies(scene)
    if at.key == "(":
        at.bracket()
    if at.take("as"):
        at.name()
    yield from _calls("insert", at)
    yield Effect(weight="reversible" if old else "additive")


def _copies(scene: Scene) -> Effect:
    while_held = f", while {', '.join(sorted(scene.held))} stands still" if scene.held else ""
    return lock(f"it copies rows in one long transaction{while_held}", _BATCHES)


_BATCHES = "fill in in batches of some thousand rows, outside of the migration"


def _changes(verb: str) -> Effect:
    what = f"{verb} changes rows in one long transaction, and what they were is lost"
    return Effect(weight="destructive", fault="lock", what=what, write=_BATCHES)


def _truncate(at: Cursor, scene: Scene) -> Iterator[Effect]:
    at.take("table")
    if old := [name for name in at.names() if scene.old(name)]:
        yield from scene.hold(" and ".join(old))
        yield shape("TRUNCATE takes all rows away, and stops the table")


def _data(verb: str, at: Cursor, scene: Scene) -> Iterator[Effect]:
    if verb == "with" and not at.has("update", "delete", "merge"):
        if at.has("insert"):
            yield _copies(scene)
        yield from _calls("with", at)
        yield Effect(weight="reversible")
        return
    if verb == "update" or (verb == "delete" and at.take("from")):
        at.take("only")
        if not scene.old(at.name()):
            return
    yield _changes(verb.upper())
