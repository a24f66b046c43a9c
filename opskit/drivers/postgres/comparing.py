"""What is expected of a database and what it has → findings. Pure: values in, values out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from opskit.drivers.postgres import redundancy, wear
from opskit.drivers.postgres.catalog import Actual, Facts, Relation
from opskit.drivers.postgres.findings import Found
from opskit.drivers.postgres.matching import Matcher
from opskit.drivers.postgres.meaning import Asked, Meanings
from opskit.model.expected import Expected, Function, Index
from opskit.model.expected import Relation as Wanted
from opskit.render.definitions import relation_name

_LEFT = re.compile(r"_cc(new|old)[0-9]*$")
_KINDS = {"r": "a table", "p": "a table", "f": "a foreign table", "m": "a materialized view",
          "v": "a view"}  # fmt: skip
_BROKEN = range(140000, 140004)
"""PostgreSQL 14.0 to 14.3: what CONCURRENTLY builds there may lack rows."""


Resolved = Mapping[str, tuple[Relation | None, str]]
"""Name of an expected relation, as it is written → the one that is meant, or why there is none."""
Matchers = Mapping[str, Matcher]
"""The same → what compares its indexes."""


def resolved(expected: Expected, facts: Facts) -> Resolved:
    """Find the relations that are meant."""
    return {wanted.name: _resolved(wanted, facts) for wanted in expected.relations}


def matchers(expected: Expected, facts: Facts, found: Resolved) -> Matchers:
    """Return what compares the indexes of each relation that is there."""
    return {
        wanted.name: Matcher(relation, facts, wanted.indexes)
        for wanted in expected.relations
        if (relation := found[wanted.name][0]) is not None
    }


def refusals(expected: Expected, found: Resolved) -> list[str]:
    """Say which relations the file can't mean: then nothing is compared."""
    told = []
    for wanted in expected.relations:
        relation, why = found[wanted.name]
        if relation is None and (why.startswith(_SEVERAL) or not wanted.view):
            told.append(f"{wanted.name}: {why}")
    return told


def unclear(made: Matchers) -> Mapping[Asked, Relation]:
    """Return the expressions that only the server can read, with a table to read them over."""
    found: dict[Asked, Relation] = {}
    for matcher in made.values():
        for asked in matcher.unclear():
            found.setdefault(asked, matcher.relation)
    return found


def compare(
    expected: Expected,
    facts: Facts,
    made: Matchers,
    meanings: Meanings,
    standbys: Sequence[str] = (),
) -> Iterator[Found]:
    """Yield everything that is not as expected. `standbys`: who was asked for `unused`, too."""
    if facts.version in _BROKEN:
        text = "CREATE INDEX and REINDEX CONCURRENTLY lose rows in 14.0 to 14.3: update, reindex"
        yield Found(check="server", text=text, name=f"PostgreSQL 14.{facts.version % 100}")
    for wanted in expected.relations:
        if wanted.name not in made:
            yield Found(check="view", table=wanted.name, text=_resolved(wanted, facts)[1])
            continue
        table = _Table(wanted, facts, made[wanted.name], meanings)
        for found in (*table.findings(), *table.unused(standbys)):
            if found.name not in wanted.accept:
                yield found
    yield from _functions(expected, facts)
    yield from wear.drifted(facts)
    yield from wear.unseen(facts)
    for name in expected.extensions:
        if name not in facts.extensions:
            yield Found(check="extension", name=name, text="it is not installed")


_SEVERAL = "it is in several schemas"


def _resolved(wanted: Wanted, facts: Facts) -> tuple[Relation | None, str]:
    """Find the one relation that is meant, or say why there is none."""
    schema, name = relation_name(wanted.name)
    what = "materialized view" if wanted.view else "table"
    there = [one for one in facts.relations.get(name, ()) if schema in ("", one.schema)]
    fitting = [one for one in there if (one.kind == "m") == wanted.view and one.kind in "rpm"]
    if len(fitting) > 1:
        places = ", ".join(sorted(one.schema for one in fitting))
        return None, f"{_SEVERAL} ({places}): write which is meant, SCHEMA.{name}"
    if fitting:
        return fitting[0], ""
    if there:
        return None, f"it is {_KINDS[there[0].kind]}, and a {what} is expected"
    return None, f"there is no such {what}"


def _functions(expected: Expected, facts: Facts) -> Iterator[Found]:
    for signature, there in facts.functions.items():
        if not there.there:
            text = "there is no such function"
            if there.others:
                text += f"; of that name there is only {', '.join(there.others)}"
            yield Found(check="function", name=signature, text=text)
    for wanted in expected.traits:
        wrong = list(_traits(wanted, facts))
        if wrong:
            yield Found(check="function", name=wanted.signature, text="; ".join(wrong))


def _traits(wanted: Function, facts: Facts) -> Iterator[str]:
    """Yield in what a function that is there is another one."""
    there = facts.functions[wanted.signature]
    for what, want, has in (
        ("it returns", wanted.returns, there.returns),
        ("its owner is", wanted.owner, there.owner),
        ("it acts as its", wanted.security, "definer" if there.definer else "invoker"),
        ("it is declared", wanted.volatility, there.volatility),
    ):
        if there.there and want and want != has:
            yield f"{what} {has}, and {want} is expected"


class _Table:
    """One table or materialized view, and what is expected of it."""

    def __init__(self, wanted: Wanted, facts: Facts, matcher: Matcher, meanings: Meanings) -> None:
        self.wanted = wanted
        self.relation = matcher.relation
        self.facts = facts
        self.matcher = matcher
        self.pairs = matcher.pairs(meanings)
        self.matched = {one.oid for one in self.pairs if one is not None}
        self.told: set[int] = set()
        """Indexes of which something has been said that says enough."""

    def findings(self) -> Iterator[Found]:
        yield from self._shape()
        for number, actual in enumerate(self.pairs):
            yield from self._expected(number, actual)
        yield from self._broken()
        yield from self._twins()
        yield from self._others()
        yield from wear.swollen(self.relation, self.facts.widths)
        yield from wear.running_out(self.relation, self.facts.numbers.get(self.relation.oid, ()))
        yield from self._foreign_keys()
        yield from redundancy.unindexed(self.relation)

    def unused(self, standbys: Sequence[str]) -> Iterator[Found]:
        facts = self.facts
        yield from redundancy.unused(self.relation, facts.idle, facts.counted, standbys)

    def _found(self, check: str, name: str, text: str, definition: object = "") -> Found:
        said = str(definition)
        return Found(check=check, table=self.wanted.name, name=name, text=text, definition=said)

    def _shape(self) -> Iterator[Found]:
        if self.wanted.view and self.wanted.populated and not self.relation.populated:
            yield self._found("view", "", "it was never filled: REFRESH MATERIALIZED VIEW")
        there = [name for name, *_ in self.relation.columns] if self.wanted.columns else []
        missing = [name for name in self.wanted.columns if name not in there]
        if missing:
            has = ", ".join(there)
            yield self._found("columns", "", f"{', '.join(missing)} missing; it has {has}")

    def _expected(self, number: int, actual: Actual | None) -> Iterator[Found]:
        index = self.wanted.indexes[number]
        denied, maybe = self.matcher.denied(self.matcher.wanted[number]) if not actual else ("", ())
        if denied:
            self.told |= {one.oid for one in maybe if one.valid}
            yield self._untold(index, denied, [one.name for one in maybe])
        elif actual is None:
            yield self._missing(index, self.matcher.wrong(self.matcher.wanted[number]))
        elif not actual.valid:
            yield self._invalid(actual, index, f"{index} is expected; ")
        elif index.name and actual.name != index.name:
            text = f"{index} is there under this name; {index.name} is expected"
            yield self._found("name", actual.name, text, index)

    def _untold(self, index: Index, denied: str, names: Sequence[str]) -> Found:
        """Say that nobody can tell whether an index is there: the role may not see enough."""
        text = (
            f"whether {index} is there can't be told ({', '.join(names)} may be it): {denied}"
            " → GRANT USAGE on that schema, or EXECUTE on that function, to the role that looks"
        )
        return replace(self._found("missing", index.name, text, index), unknown=True)

    def _missing(self, index: Index, wrong: str) -> Found:
        """Say what is missing; an index of that name which is another one is told of with it."""
        text = f"there is no {index}"
        if wrong:
            text += f"; the server can't read that: {wrong}"
        same = next((a for a in self.relation.indexes if index.name and a.name == index.name), None)
        if same is not None and same.oid not in self.matched:
            self.told.add(same.oid)
            if not same.valid:
                return self._invalid(same, index, f"{text}; ")
            text += f"; of that name there is {self.matcher.there(same)}"
        return self._found("missing", index.name, text, index)

    def _invalid(self, one: Actual, definition: object, before: str = "") -> Found:
        """Say what an index is that can't be used: being built, left behind, or broken."""
        self.told.add(one.oid)
        if self.relation.oid in self.facts.building:
            return self._found("building", one.name, f"{before}it is being built", definition)
        if self.facts.hidden:
            text = "it is invalid, or being built: the role needs pg_read_all_stats to see which"
            return replace(
                self._found("invalid", one.name, before + text, definition), unknown=True
            )
        if _LEFT.search(one.name) and one.oid not in self.matched:
            text = "a REINDEX CONCURRENTLY that failed has left it: it can be dropped"
            return self._found("leftover", one.name, text, definition)
        if self.relation.kind == "p":
            text = f"{before}it is invalid until each part of the table has it, and is attached"
            return self._found("invalid", one.name, text, definition)
        text = f"{before}it is invalid, a build has failed"
        return self._found("invalid", one.name, text, definition)

    def _broken(self) -> Iterator[Found]:
        for one in self.relation.indexes:
            if not one.valid and one.oid not in self.told:
                yield self._invalid(one, self.matcher.there(one))

    def _twins(self) -> Iterator[Found]:
        for one, kept in redundancy.twins(self.relation.indexes, self.matched):
            self.told.add(one.oid)
            text, definition = f"it is the same as {kept.name}", self.matcher.there(one)
            yield self._found("duplicate", one.name, text, definition)

    def _others(self) -> Iterator[Found]:
        """Indexes that nobody expects, and those that another one covers."""
        for one in self.relation.indexes:
            if one.oid in self.told:
                continue
            wider = redundancy.covered(one, self.relation.indexes)
            if wider is not None:
                text, definition = f"{wider.name} begins with all of it", self.matcher.there(one)
                yield self._found("prefix", one.name, text, definition)
            if one.oid not in self.matched and not (one.constraint or one.child or one.identity):
                definition = self.matcher.there(one)
                yield self._found("extra", one.name, f"nobody expects it: {definition}", definition)

    def _foreign_keys(self) -> Iterator[Found]:
        if not self.wanted.foreign_keys:
            return
        names = self.relation.names()
        there = {
            (tuple(names.get(n, "?") for n in key.columns), key.references): key
            for key in self.relation.foreign_keys
        }
        for wanted in self.wanted.foreign_keys:
            schema, table = relation_name(wanted.references)
            key = there.get((wanted.columns, table))
            what = f"({', '.join(wanted.columns)}) to {wanted.references}"
            if key is None or schema not in ("", key.schema):
                yield self._found("foreign_key", "", f"there is no foreign key {what}")
            elif not key.validated:
                text = f"the foreign key {what} was never checked: VALIDATE CONSTRAINT"
                yield self._found("foreign_key", key.name, text)


def looked(expected: Expected, relations: Mapping[str, Sequence[Relation]]) -> str:
    """Say how much was looked at."""
    indexes = sum(len(one.indexes) for group in relations.values() for one in group)
    wanted = sum(len(one.indexes) for one in expected.relations)
    return f"{wanted} indexes expected on {len(expected.relations)} relations, {indexes} there"
