"""Expected indexes and actual ones: which is which, by what they are. Nothing here asks anybody."""

from collections.abc import Iterator, Sequence

from opskit.drivers.postgres.catalog import Actual, Facts, Relation
from opskit.drivers.postgres.meaning import NONE, Asked, Meanings
from opskit.model.expected import Index
from opskit.render.definitions import (
    Definition,
    IndexKey,
    canonical,
    definition,
    index_key,
    is_name,
)

_DEFAULT = "text_ops"
"""Written down where it stands under its other name, and the default all the same."""


def wanted(index: Index) -> Definition:
    """Return what an index of the file is."""
    return Definition(
        method=index.method,
        keys=tuple(index_key(key) for key in index.keys),
        include=tuple(sorted(index.include)),
        where=canonical(index.where) if index.where else "",
        unique=index.unique,
        nulls_distinct=index.nulls_distinct,
    )


class Matcher:
    """Compares on one table. `meanings`: what the server has said of expressions."""

    def __init__(self, relation: Relation, facts: Facts, meanings: Meanings = NONE) -> None:
        self.relation = relation
        self.facts = facts
        self.meanings = meanings

    def pairs(self, indexes: Sequence[Index]) -> list[Actual | None]:
        """Return for each expected index the actual one, the sound ones and the names first."""
        free = {one.oid: one for one in self.relation.indexes if one.text}
        found: list[Actual | None] = []
        for index in indexes:
            order = sorted(free.values(), key=lambda a: (not a.valid, a.name != index.name, a.oid))
            match = next((one for one in order if self.same(index, one)), None)
            if match is not None:
                del free[match.oid]
            found.append(match)
        return found

    def same(self, index: Index, actual: Actual) -> bool:
        """Tell whether an index is the expected one."""
        if index.unique != actual.unique or index.method != actual.method:
            return False
        if len(index.keys) != actual.width or bool(index.where) != bool(actual.where):
            return False
        expected, found = wanted(index), definition(actual.text)
        return (
            expected.nulls_distinct == found.nulls_distinct
            and expected.include == tuple(sorted(found.include))
            and self._equal(expected.where, found.where)
            and all(
                self._same_key(key, other, actual, number)
                for number, (key, other) in enumerate(zip(expected.keys, found.keys, strict=True))
            )
        )

    def _same_key(self, key: IndexKey, other: IndexKey, actual: Actual, at: int) -> bool:
        if (key.descending, key.nulls_first) != (other.descending, other.nulls_first):
            return False
        if not self._equal(key.expression, other.expression):
            return False
        # What is said explicitly may be the default, which the server does not write down.
        real = self.facts.classes.get(actual.classes.split()[at], "")
        collation = self.facts.collations.get(actual.collations.split()[at], "")
        return _said(key.operators, other.operators, real) and _said(
            key.collation, other.collation, collation
        )

    def _equal(self, one: str, other: str) -> bool:
        if one == other:
            return True
        return self.meanings.of(self.relation, one) == self.meanings.of(self.relation, other)

    def unclear(self, indexes: Sequence[Index]) -> Iterator[Asked]:
        """Yield the expressions that must be asked of to tell which index is which."""
        alike = self.pairs(indexes)
        open_ = [wanted(index) for index, one in zip(indexes, alike, strict=True) if one is None]
        texts = [text for one in open_ for text in _expressions(one)]
        if not texts:
            return
        used = {one.oid for one in alike if one is not None}
        for actual in self.relation.indexes:
            if actual.oid not in used and actual.text and (actual.where or actual.expressions):
                texts += _expressions(definition(actual.text))
        signature = self.relation.signature
        yield from ((signature, text) for text in dict.fromkeys(texts))

    def wrong(self, index: Index) -> str:
        """Say why the server can't read an expected index; "" where it can."""
        signature = self.relation.signature
        said = (self.meanings.wrong.get((signature, text)) for text in _expressions(wanted(index)))
        return next((text for text in said if text), "")


def _said(wanted: str, written: str, real: str) -> bool:
    """Compare what may be left unsaid: then it is the default."""
    return wanted in (written, real) if wanted else written in ("", _DEFAULT)


def _expressions(one: Definition) -> list[str]:
    found = [key.expression for key in one.keys if not is_name(key.expression)]
    return [*found, *([one.where] if one.where else [])]
