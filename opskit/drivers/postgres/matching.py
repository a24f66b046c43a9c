"""Expected indexes and actual ones: which is which, by what they are. Nothing here asks anybody."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from opskit.drivers.postgres.catalog import Actual, Facts, Relation
from opskit.drivers.postgres.meaning import NONE, Asked, Meanings
from opskit.model.expected import Index
from opskit.render.definitions import (
    Definition,
    IndexKey,
    canonical,
    definition,
    expressions,
    index_key,
    is_name,
    quoted,
)

_DESCENDING, _NULLS_FIRST = 1, 2
"""As pg_index.indoption has them."""
_DATABASE = "100"
"""The number of the collation of the database, which is the usual one of an expression."""
_DEFAULT = "text_ops"
"""Written down where it stands under its other name, and the default all the same."""


def wanted(index: Index) -> Definition:
    """Return what an index of the file is."""
    return Definition(
        method=index.method,
        keys=tuple([index_key(key) for key in index.keys]),
        include=tuple(sorted(index.include)),
        where=canonical(index.where) if index.where else "",
        unique=index.unique,
        nulls_distinct=index.nulls_distinct,
    )


@lru_cache(4096)
def _key(expression: str, collation: str, operators: str, option: int) -> IndexKey:
    return IndexKey(
        expression=expression,
        collation=collation,
        operators=operators,
        descending=bool(option & _DESCENDING),
        nulls_first=bool(option & _NULLS_FIRST),
    )


class Matcher:
    """Compares on one table."""

    def __init__(self, relation: Relation, facts: Facts, indexes: Sequence[Index]) -> None:
        self.relation = relation
        self.facts = facts
        self.meanings = NONE
        self.indexes = indexes
        self.wanted = [wanted(index) for index in indexes]
        self.signature = relation.signature
        self._names = relation.names()
        self._collations = {number: str(rest[-1]) for _, number, *rest in relation.columns}
        self._there: dict[int, Definition] = {}
        self._alike: list[Actual | None] | None = None

    def there(self, actual: Actual) -> Definition:
        """Return what an index is that is there."""
        found = self._there.get(actual.oid)
        if found is None:
            found = self._there[actual.oid] = self._read(actual)
        return found

    def _read(self, actual: Actual) -> Definition:
        columns = [int(word) for word in actual.columns.split()]
        return Definition(
            method=actual.method,
            keys=definition(actual.text).keys if actual.text else self._keys(actual, columns),
            include=tuple(sorted(self._names.get(n, "?") for n in columns[actual.width :])),
            where=canonical(actual.where) if actual.where else "",
            unique=actual.unique,
            nulls_distinct=actual.nulls_distinct,
        )

    def _keys(self, actual: Actual, columns: Sequence[int]) -> tuple[IndexKey, ...]:
        made = iter(expressions(actual.expressions) if actual.expressions else ())
        classes, collations = actual.classes.split(), actual.collations.split()
        keys = []
        for number, option in enumerate(actual.options.split()):
            column, ordering = columns[number], collations[number]
            text = quoted(self._names.get(column, "?")) if column else next(made)
            operators, default = self.facts.classes.get(classes[number], ("", True))
            usual = self._collations.get(column) if column else _DATABASE
            collation = "" if ordering == usual else self._collation(ordering)
            keys.append(_key(text, collation, "" if default else operators, int(option)))
        return tuple(keys)

    def _collation(self, oid: str) -> str:
        found = self.facts.collations.get(oid)
        return "" if found is None else found.name

    def pairs(self, meanings: Meanings = NONE) -> list[Actual | None]:
        """Return for each expected index the actual one, the sound ones and the names first.

        `meanings`: what the server has said of expressions; where all were found alike, it was not
        asked.
        """
        if self._alike is None:
            self._alike = self._paired([None] * len(self.indexes))
        if meanings is NONE or None not in self._alike:
            return self._alike
        self.meanings = meanings
        named = zip(self.indexes, self._alike, strict=True)
        if any(one is not None and index.name not in ("", one.name) for index, one in named):
            return self._paired([None] * len(self.indexes))  # one with the right name may fit now
        return self._paired(self._alike)

    def _paired(self, known: Sequence[Actual | None]) -> list[Actual | None]:
        """Pair what is not known to be a pair."""
        free = {one.oid: one for one in self.relation.indexes}
        for one in known:
            if one is not None:
                del free[one.oid]
        named = {one.name: one for one in free.values() if one.valid}
        found: list[Actual | None] = []
        for index, definition_, match in zip(self.indexes, self.wanted, known, strict=True):
            if match is None:
                match = named.get(index.name)
                if match is None or match.oid not in free or not self.same(definition_, match):
                    order = sorted(free.values(), key=lambda a: (not a.valid, a.oid))
                    match = next((one for one in order if self.same(definition_, one)), None)
                if match is not None:
                    del free[match.oid]
            found.append(match)
        return found

    def same(self, expected: Definition, actual: Actual) -> bool:
        """Tell whether an index is the expected one."""
        if not _may_be(expected, actual):
            return False
        found = self.there(actual)
        return (
            expected.nulls_distinct == found.nulls_distinct
            and expected.include == found.include
            and self._equal(expected.where, found.where)
            and (expected.keys == found.keys or self._same_keys(expected, found, actual))
        )

    def _same_keys(self, expected: Definition, found: Definition, actual: Actual) -> bool:
        pairs = zip(expected.keys, found.keys, strict=True)
        return all(
            key == other or self._same_key(key, other, actual, number)
            for number, (key, other) in enumerate(pairs)
        )

    def _same_key(self, key: IndexKey, other: IndexKey, actual: Actual, at: int) -> bool:
        if (key.descending, key.nulls_first) != (other.descending, other.nulls_first):
            return False
        if not self._equal(key.expression, other.expression):
            return False
        # What is said explicitly may be the default, which is not written down.
        operators, _ = self.facts.classes.get(actual.classes.split()[at], ("", True))
        collation = self._collation(actual.collations.split()[at])
        return _said(key.operators, other.operators, operators) and _said(
            key.collation, other.collation, collation
        )

    def _equal(self, one: str, other: str) -> bool:
        if one == other:
            return True
        return self.meanings.of(self.signature, one) == self.meanings.of(self.signature, other)

    def unclear(self) -> Iterator[Asked]:
        """Yield the expressions that must be asked of to tell which index is which."""
        alike = self.pairs()
        open_ = [one for one, found in zip(self.wanted, alike, strict=True) if found is None]
        texts = [text for one in open_ for text in _expressions(one)]
        if not texts:
            return
        used = {one.oid for one in alike if one is not None}
        for actual in self.relation.indexes:
            if actual.oid not in used and (actual.where or actual.expressions):
                texts += _expressions(self.there(actual))
        yield from ((self.signature, text) for text in dict.fromkeys(texts))

    def denied(self, expected: Definition) -> tuple[str, Sequence[Actual]]:
        """Say what the role may not see that would tell which index is the expected one.

        Returns it with those that may be; "" where none of those that are left can be.
        """
        used = {one.oid for one in self.pairs(self.meanings) if one is not None}
        free = [a for a in self.relation.indexes if a.oid not in used and _may_be(expected, a)]
        texts = [text for one in (expected, *map(self.there, free)) for text in _expressions(one)]
        said = (self.meanings.denied.get((self.signature, text)) for text in texts)
        why = next((text for text in said if text), "") if free else ""
        return why, free if why else ()

    def wrong(self, expected: Definition) -> str:
        """Say why the server can't read an expected index; "" where it can."""
        said = (self.meanings.wrong.get((self.signature, text)) for text in _expressions(expected))
        return next((text for text in said if text), "")


def _may_be(expected: Definition, actual: Actual) -> bool:
    """Tell whether an index may be the expected one by what needs no reading of expressions."""
    if expected.unique != actual.unique or expected.method != actual.method:
        return False
    return len(expected.keys) == actual.width and bool(expected.where) == bool(actual.where)


def _said(wanted: str, written: str, real: str) -> bool:
    """Compare what may be left unsaid: then it is the default."""
    return wanted in (written, real) if wanted else written in ("", _DEFAULT)


def _expressions(one: Definition) -> list[str]:
    found = [key.expression for key in one.keys if not is_name(key.expression)]
    return [*found, *([one.where] if one.where else [])]
