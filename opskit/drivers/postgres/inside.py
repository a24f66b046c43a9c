"""A look into the indexes themselves, where somebody has asked for it: how full, and whether whole.

All of an index is read for that. Each is looked at in a transaction of its own that can't write, so
that no snapshot is held while the others are read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from opskit.drivers.postgres.catalog import Actual, Relation
from opskit.drivers.postgres.connection import Connection, ServerError
from opskit.drivers.postgres.findings import Found
from opskit.drivers.postgres.wear import PAGE, bloated
from opskit.model.frozen import frozen
from opskit.model.work import Verify

Row = tuple[str | None, ...]
_USUAL = 90.0
"""How full a leaf is made, in hundredths."""
_CORRUPT = ("XX001", "XX002")
_DENIED, _CANCELLED = "42501", "57014"
_EXTENSION = """
    SELECT n.nspname FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = $1
"""
_DENSITY = """
    SELECT index_size, leaf_pages, avg_leaf_density::text
    FROM {schema}.pgstatindex($1::oid::regclass)
"""
_WHOLE = "SELECT {schema}.bt_index_check($1::oid::regclass, heapallindexed => {rows})"


def look(
    connection: Connection, relations: Mapping[str, Relation], work: Verify
) -> Iterator[Found]:
    """Look into the sound B-trees of these relations, as far as the step asks for it."""
    sound = [
        (name, one)
        for name, relation in relations.items()
        for one in relation.indexes
        if one.method == "btree" and one.valid and relation.kind in "rm"
    ]
    if work.pgstatindex:
        grant = "GRANT pg_stat_scan_tables TO it"
        look = _Look(connection=connection, extension="pgstattuple", check="bloat", grant=grant)
        yield from look.into([each for each in sound if each[1].big], _DENSITY, _air)
    if work.amcheck:
        grant = "GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO it"
        look = _Look(connection=connection, extension="amcheck", check="corrupt", grant=grant)
        query = _WHOLE.replace("{rows}", str(work.amcheck == "rows").lower())
        yield from look.into(sound, query, lambda *_: None)


def _air(table: str, one: Actual, row: Row) -> Found | None:
    """Weigh how much of an index is air; an empty one has no density."""
    size, leaves, density = (float(value or 0) for value in row)
    full = 0.0 if density != density else leaves * density / _USUAL  # noqa: PLR0124 - NaN
    seen = one._replace(pages=int(size) // PAGE)
    return bloated(table, seen, seen.pages / (1 + full), "as pgstatindex has read it")


@frozen
class _Look:
    """`grant`: what a role needs that may not call the extension's function."""

    connection: Connection
    extension: str
    check: str
    grant: str

    def into(
        self,
        todo: Sequence[tuple[str, Actual]],
        query: str,
        judge: Callable[[str, Actual, Row], Found | None],
    ) -> Iterator[Found]:
        """Look into one index after the other; what one of them says ends it for no other."""
        schema = self.connection.one(_EXTENSION, self.extension)
        if not schema:
            text = f"the extension {self.extension} is not installed: CREATE EXTENSION"
            yield Found(check=self.check, name=self.extension, text=text, unknown=True)
            return
        query = query.replace("{schema}", '"' + str(schema[0]).replace('"', '""') + '"')
        for number, (table, one) in enumerate(todo):
            self.connection.own("BEGIN READ ONLY")
            code = ""
            try:
                found = judge(table, one, self.connection.one(query, str(one.oid)))
            except ServerError as error:
                found, code = self._refused(table, one, error), error.code
            self.connection.own("ROLLBACK")
            if found is not None:
                yield found
            if code in (_DENIED, _CANCELLED):
                yield from self._left(len(todo) - number - 1)
                return

    def _refused(self, table: str, one: Actual, error: ServerError) -> Found:
        """Tell an index that is broken from one that could not be looked at."""
        if error.code in _CORRUPT:
            return Found(check="corrupt", table=table, name=one.name, text=error.what)
        text = f"it could not be looked at: {error.what}"
        if error.code == _DENIED:
            text = f"the role may not look into indexes: {self.grant}"
        return Found(check=self.check, table=table, name=one.name, text=text, unknown=True)

    def _left(self, count: int) -> Iterator[Found]:
        if count:
            text = f"{count} more were not looked at either"
            yield Found(check=self.check, name=self.extension, text=text, unknown=True)
