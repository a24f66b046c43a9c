"""Migrations as Django tells of them: their order, what their SQL does, and the way back.

Filters for runbooks, from texts that a host printed to texts: `showmigrations --plan` says what is
applied and what is due, and `sqlmigrate` of each that is due, under a line that names it, what it
would do. Nothing here asks anybody.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from opskit.model.frozen import frozen
from opskit.render.ddl import effects
from opskit.render.effect import Effect, Weight, heaviest, unread
from opskit.render.quoting import TemplateError
from opskit.render.scene import Scene
from opskit.render.sql import control, statements, tokens

_LINE = re.compile(r"\[([X ])\]  ([A-Za-z_]\w*)\.(\w+)(?:\s+\(.*\))?")
"""A line of `showmigrations --plan`, which may go on with what the migration needs (-v 2)."""
_HEAD = "-- opskit migration "
_FAILED = "-- opskit failed "
_PROVED = "-- opskit not null "
_LENGTH = "-- opskit varchar "
_WRITTEN = "-- opskit written "
_UNKNOWN = "-- opskit unknown "
_KNOWN = "-- opskit known "
_PYTHON = "THIS OPERATION CANNOT BE WRITTEN AS SQL"
_SHOWN = 80


@frozen
class Planned:
    """A line of the plan."""

    name: str
    applied: bool

    @property
    def app(self) -> str:
        return self.name.partition(".")[0]


@frozen
class Migration:
    """What the SQL of a migration comes to."""

    name: str
    atomic: bool
    effects: Sequence[tuple[str, Effect]]
    """Each with the statement that has it."""
    tables: frozenset[str]
    """That were there before, and are touched."""
    adds: Sequence[str]
    """Tables, and columns as TABLE:COLUMN, that are new."""

    @property
    def weight(self) -> Weight:
        return heaviest([effect.weight for _, effect in self.effects])


def planned(text: str) -> list[Planned]:
    """Read what `showmigrations --plan` printed; other lines are what the program says besides."""
    found = [match for line in text.splitlines() if (match := _LINE.fullmatch(line.strip("\r")))]
    if not found and "(no migrations)" not in text:
        raise TemplateError("what was printed is no plan of migrations: there is no line `[X]  …`")
    return [Planned(name=f"{m[2]}.{m[3]}", applied=m[1] == "X") for m in found]


def due(text: str) -> list[str]:
    """Return the migrations that are not applied, in the order of the plan."""
    return [one.name for one in planned(text) if not one.applied]


def order_faults(text: str, order: object) -> str:
    """Say in which way a plan departs from the order that is wanted; empty: in none."""
    if not isinstance(order, (list, tuple)):
        raise TemplateError("the order of migrations is a list: [app.0001_initial, …]")
    plan = planned(text)
    found = {one.name: place for place, one in enumerate(plan)}
    wanted = [str(name) for name in order]
    here = [name for name in wanted if name in found]
    said = []
    if missing := [name for name in wanted[: _reach(wanted, plan)] if name not in found]:
        said.append(f"the plan has no {', '.join(missing)}")
    for before, after in pairwise(here):
        if found[before] > found[after]:
            said.append(f"{after} would come before {before}")
    open_ = [name for name in here if not plan[found[name]].applied]
    for name in here:
        earlier = next((o for o in open_ if wanted.index(o) < wanted.index(name)), None)
        if plan[found[name]].applied and earlier:
            said.append(f"{name} is applied, and {earlier} before it is not")
    return "; ".join(dict.fromkeys(said))


def _reach(wanted: Sequence[str], plan: Sequence[Planned]) -> int:
    """Return how many of the wanted ones come up to the last that the plan has."""
    names = {one.name for one in plan}
    return max((place + 1 for place, name in enumerate(wanted) if name in names), default=0)


def migrations(text: str) -> list[Migration]:
    """Read the SQL of migrations, each under a line that names it."""
    found: list[Migration] = []
    checks: dict[tuple[str, str], str] = {}
    lengths: dict[tuple[str, str], int] = {}
    proved: set[tuple[str, str]] = set()
    for head, body in _pieces(text):
        if head.startswith(_PROVED):
            table, _, name = head.removeprefix(_PROVED).rpartition(" ")
            proved.add((table, name))
            continue
        if head.startswith(_LENGTH):
            column, _, length = head.removeprefix(_LENGTH).rpartition(" ")
            table, _, name = column.rpartition(" ")
            lengths[table, name] = int(length)
            continue
        scene = Scene(checks=checks, lengths=lengths, proved=proved)
        found.append(_migration(head.removeprefix(_HEAD).strip(), body, scene))
    return found


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    head, body = "", list[str]()
    for line in text.splitlines():
        if line.startswith((_HEAD, _PROVED, _LENGTH)):
            if head:
                yield head, "\n".join(body)
            head, body = line, []
        elif head:
            body.append(line)
    if head:
        yield head, "\n".join(body)


def _migration(name: str, body: str, scene: Scene) -> Migration:
    body = _ended(body)
    every = statements(body)
    words = [control(statement) for statement in every]
    scene.atomic = words[:1] == ["BEGIN"] and "COMMIT" not in words[:-1]
    found: list[tuple[str, Effect]] = []
    if _PYTHON in body:
        found.append(("RunPython", unread("it runs Python, which has no SQL to be read")))
    for line in body.splitlines():
        if line.startswith(_FAILED):
            found.append(("sqlmigrate", unread(line.removeprefix(_FAILED).strip())))
    last = len(every) - (words[-1:] == ["COMMIT"])
    for statement in every[1:last] if scene.atomic else every:
        said = " ".join(body[statement.tokens[0].start : statement.end].split())
        found += [(said, effect) for effect in effects(statement, scene)]
    columns = [f"{table}:{column}" for table, column in scene.columns if table not in scene.made]
    return Migration(
        name=name,
        atomic=scene.atomic or not (every or _PYTHON in body),
        effects=tuple(found),
        tables=frozenset(scene.touched),
        adds=(*sorted(scene.made), *columns),
    )


def _ended(body: str) -> str:
    """End what Django has ended behind a comment, where the server would not see it.

    `sqlmigrate` writes a semicolon after each statement as it is, also when a comment is last in
    it; `migrate` hands them over one by one.
    """
    return "".join(
        f"{token.text}\n;"
        if token.kind == "comment" and token.text.rstrip().endswith(";")
        else token.text
        for token in tokens(body)
    )


def sql_faults(text: str, phase: str = "expand", reviewed: str = "") -> str:
    """Say what a deploy must not do while programs use the database; empty: nothing.

    In the phase `contract` no running program needs the old shape. `reviewed`: migrations, with
    commas between, that a person has looked at: a table may be so small that nobody waits. A
    database that has no migration yet is in nobody's use.
    """
    if _new(text):
        return ""
    known = set(re.split(r"[,\s]+", reviewed))
    said = []
    for one in migrations(text):
        for statement, effect in one.effects:
            passes = {"": True, "shape": phase == "contract"}
            if not passes.get(effect.fault, one.name in known):
                short = statement if len(statement) <= _SHOWN else statement[: _SHOWN - 1] + "…"
                said.append(f"{one.name}: {effect.what} → {effect.write} [{short}]")
    return "\n".join(dict.fromkeys(said))


def _new(text: str) -> bool:
    """Tell whether a plan stands in a text, and nothing of it is applied."""
    marks = [match[1] for line in text.splitlines() if (match := _LINE.fullmatch(line))]
    return bool(marks) and "X" not in marks


def touched(text: str) -> list[str]:
    """Return the tables that were there before, and that migrations touch."""
    return sorted({table for one in migrations(text) for table in one.tables})


def alone(text: str) -> list[str]:
    """Return the migrations that are in no transaction."""
    return [one.name for one in migrations(text) if not one.atomic]


def log(text: str) -> str:
    """Write down what migrations are, for the record: what a way back has to know of each."""
    every = [
        {"name": one.name, "class": one.weight, "adds": list(one.adds)} for one in migrations(text)
    ]
    return json.dumps({"migrations": every, "written": _written(text)}, ensure_ascii=False)


def _written(text: str) -> dict[str, int]:
    """Return how many rows have been written to each table, as the server has counted."""
    lines = [line.removeprefix(_WRITTEN) for line in text.splitlines() if line.startswith(_WRITTEN)]
    return {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in lines}


def lost(live: str, recorded: str = "") -> str:
    """Say what a restore would lose: rows written to each table since a deploy.

    Counters begin anew after a crash, or when somebody resets them; then nobody knows.
    """
    before, now = _log(recorded).get("written"), _written(live)
    if before is None:
        return "nobody knows how many rows, as the record has no count of that time"
    less = [name for name, count in now.items() if count < before.get(name, 0)]
    more = {name: count - before.get(name, 0) for name, count in now.items() if name not in less}
    said = [f"{count} in {name}" for name, count in more.items() if count > 0]
    said += [f"nobody knows how many in {name}, whose counter was reset" for name in less]
    return ", ".join(said)


def _log(recorded: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(recorded or "{}")
    return found


@frozen
class Applied:
    """A migration that the database has and the release before does not know."""

    name: str
    weight: str
    adds: Sequence[str]


def since(live: str, before: str, recorded: str = "") -> list[Applied]:
    """Return what was applied since a release, by what the live and that release say they have.

    What the record of a deploy has of one counts more than what its SQL says now: a name that the
    database had then may be gone.
    """
    known = _known(live, before)
    by_sql = {one.name: one for one in migrations(live)}
    kept = {one["name"]: one for one in _log(recorded).get("migrations", ())}
    found = []
    for one in planned(live):
        if not one.applied or one.name in known:
            continue
        if one.name in kept:
            weight, adds = kept[one.name]["class"], kept[one.name]["adds"]
        elif one.name in by_sql:
            weight, adds = by_sql[one.name].weight, by_sql[one.name].adds
        else:
            weight, adds = "unread", ()
        found.append(Applied(name=one.name, weight=str(weight), adds=tuple(map(str, adds))))
    return found


def _known(live: str, before: str) -> set[str]:
    """Return what the release before knows; a squash of that is no news, whoever has it."""
    lines = [line for line in live.splitlines() if line.startswith(_KNOWN)]
    return {one.name for one in planned(before)} | {
        line.removeprefix(_KNOWN).strip() for line in lines
    }


def left(live: str, before: str, recorded: str = "") -> list[Applied]:
    """Return what a deploy that was taken back has left: the live release does not know it either.

    Of what no release knows only that counts which the record has: the database also names
    migrations of apps that were taken out long ago.
    """
    known = _known(live, before)
    lines = [line for line in live.splitlines() if line.startswith(_UNKNOWN)]
    unknown = {line.removeprefix(_UNKNOWN).strip() for line in lines} - known
    return [
        Applied(name=one["name"], weight=one["class"], adds=tuple(one["adds"]))
        for one in _log(recorded).get("migrations", ())
        if one["name"] in unknown
    ]


def stops(live: str, before: str, recorded: str = "", reviewed: str = "") -> str:
    """Say which migrations since a release keep it from being gone back to; empty: none."""
    known = set(re.split(r"[,\s]+", reviewed))
    said = []
    for one in [*since(live, before, recorded), *left(live, before, recorded)]:
        if one.weight == "destructive":
            said.append(f"{one.name} has taken away what the release before may need")
        elif one.weight == "unread" and one.name not in known:
            told = "nobody knows what it did; read it, then name it: -p reviewed=" + one.name
            said.append(f"{one.name}: {told}")
    return "; ".join(said)


def listed(live: str, before: str, recorded: str = "") -> str:
    """Say of each migration since a release which class it is of, a line each."""
    every = [*since(live, before, recorded), *left(live, before, recorded)]
    return "\n".join(f"{one.name} {one.weight}" for one in every)


def additions(live: str, before: str, recorded: str = "") -> list[str]:
    """Return the tables and columns (TABLE:COLUMN) that were added since a release."""
    return [add for one in since(live, before, recorded) for add in one.adds]


def reversals(live: str, before: str, recorded: str = "") -> list[str]:
    """Return the way back, the newest first, as `APP NAME,… TARGET`: what its app had before.

    The target of an app's first migration is `zero`. What stands side by side in one app is taken
    back at once, unless it is in no transaction. Each is named: the target alone does not say
    which of two branches of an app has to go.
    """
    applied = [one.name for one in planned(live) if one.applied]
    single = set(alone(live))
    found: list[tuple[str, list[str], str, bool]] = []
    for one in reversed(since(live, before, recorded)):
        app, _, name = one.name.partition(".")
        earlier = [n for n in applied[: applied.index(one.name)] if n.startswith(f"{app}.")]
        target = earlier[-1].partition(".")[2] if earlier else "zero"
        by_itself = one.name in single
        names: list[str] = []
        if found and found[-1][0] == app and not (by_itself or found[-1][3]):
            names = found.pop()[1]
        found.append((app, [*names, name], target, by_itself))
    return [f"{app} {','.join(names)} {target}" for app, names, target, _ in found]


FILTERS: Mapping[str, Callable[..., object]] = {
    "migrations_due": due,
    "migration_order_faults": order_faults,
    "migration_sql_faults": sql_faults,
    "migration_tables": touched,
    "migrations_alone": alone,
    "migration_log": log,
    "migration_stops": stops,
    "migrations_since": listed,
    "migration_additions": additions,
    "migration_losses": lost,
    "migration_reversals": reversals,
}
