"""What ALTER does to a database that is in use. Pure: as `ddl` for the statements besides it."""

from collections.abc import Iterator

from opskit.render.columns import column
from opskit.render.cursor import Cursor
from opskit.render.effect import Effect, lock, shape, unread
from opskit.render.scene import Scene


def alter(at: Cursor, scene: Scene) -> Iterator[Effect]:
    """Yield what an ALTER does, and remember in the scene what others need to know."""
    match at.next():
        case "table":
            yield from _alter_table(at, scene)
        case "type" | "domain":
            at.name()
            if at.take("add", "value"):
                yield Effect()
            else:
                yield _renamed(at)
        case "sequence" | "function" | "procedure" | "default":
            told = at.has("rename", "restart") or at.has_words("set", "schema")
            yield _renamed(at) if told else Effect(weight="reversible")
        case "index":
            at.take("if", "exists")
            at.name()
            yield Effect() if at.take("attach", "partition") else _renamed(at)
        case _:
            yield _renamed(at)


def _renamed(at: Cursor) -> Effect:
    if at.has_words("set", "schema"):
        return _MOVED
    if at.has("rename"):
        return shape("RENAME takes the name away that running programs use")
    return unread("this ALTER is not known here")


_MOVED = shape("SET SCHEMA takes the name away that running programs use")


def _alter_table(at: Cursor, scene: Scene) -> Iterator[Effect]:
    at.take("if", "exists")
    at.take("only")
    table = at.name()
    at.take("*")
    old = scene.old(table)
    parts = list(at.parts())
    if old and not all(_mild(part) for part in parts):  # the lock of a statement is its strongest
        yield from scene.hold(table)
    for part in parts:
        found = list(_action(part, table, scene))
        if old:
            yield from found


def _mild(at: Cursor) -> bool:
    """Tell whether others go on reading and writing meanwhile, also behind one that waits."""
    match at.key:
        case "validate" | "attach":
            return True
        case "set":
            return at.has_words("set", "(")
        case "alter":
            return at.has_words("set", "statistics")
    return False


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
        case "drop" | "rename" | "detach" as verb:
            yield _gone(verb, at)
        case "set":
            yield from _set(at)
        case "attach":
            yield from _attach(at, scene)
        case "owner" | "reset" | "replica":
            yield Effect()
        case "enable" | "disable" as verb if at.has("trigger", "rule"):
            yield _OFF if verb == "disable" else Effect(weight="reversible")
        case verb:
            yield unread(f"ALTER TABLE … {verb.upper()} is not known here")


def _gone(verb: str, at: Cursor) -> Effect:
    if verb == "rename":
        return shape("RENAME takes the name away that running programs use")
    if verb == "detach":
        return shape("DETACH PARTITION takes rows away that running programs may need")
    at.take("column")
    what = "DROP CONSTRAINT" if at.key == "constraint" else "DROP COLUMN"
    return shape(f"{what} takes away what running programs may need")


_OFF = shape("DISABLE switches off what keeps the rows right")


def _attach(at: Cursor, scene: Scene) -> Iterator[Effect]:
    at.take("partition")
    if scene.old(part := at.name()):
        yield lock(
            f"ATTACH PARTITION reads the whole of {part} while it stands still",
            "give it a CHECK of the same bounds, and VALIDATE that in a migration before",
        )
    yield Effect()


def _set(at: Cursor) -> Iterator[Effect]:
    match at.key:
        case "(":
            yield Effect()
        case "schema":
            yield _MOVED
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
    elif scene.held:
        yield lock(
            f"VALIDATE CONSTRAINT reads the table while {', '.join(sorted(scene.held))} stands"
            " still, which the same transaction has locked",
            "put it into a migration of its own",
        )
    if column_name := scene.checks.get((table, name)):
        scene.proved.add((table, column_name))
    yield Effect()


def _grows(at: Cursor, column: tuple[str, str], scene: Scene) -> bool:
    """Tell whether a varchar becomes a longer one: nothing is rewritten, and nobody minds."""
    said = [token.text.lower() for token in at.rest]
    if said[:2] != ["type", "varchar"] or len(said) != 5 or not said[3].isdecimal():
        return False
    before = scene.lengths.get(column)
    if before is None or int(said[3]) < before:
        return False
    scene.lengths[column] = int(said[3])
    return True


def _alter_column(at: Cursor, table: str, scene: Scene) -> Iterator[Effect]:
    name = at.name()
    own = scene.columns.get((table, name))
    if _grows(at, (table, name), scene):
        yield Effect(weight="reversible")
    elif at.key == "type" or at.has_words("set", "data", "type"):
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
    elif at.has_words("set", "expression"):
        yield lock(
            f"SET EXPRESSION of {name} rewrites the table, and nobody reads it", "take it out"
        )
    elif at.key in ("set", "add") and at.has_words("generated", "always"):
        yield shape(f"column {name} GENERATED ALWAYS refuses a value that running programs give")
    elif at.key in ("set", "reset") or at.take("drop", "not", "null") or at.take("add"):
        yield Effect(weight="reversible")
    else:
        yield shape(f"column {name} loses what running programs may need")
