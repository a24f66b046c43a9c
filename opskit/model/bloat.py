"""How much of the tables of a database is air."""

from opskit.model.frozen import frozen


@frozen
class Bloat:
    """Look how much of each table holds no rows; a check that is OK, WARN or UNKNOWN.

    A table is told of where that is more than `share` percent of it, and more than `least` bytes.
    It is an estimate from statistics; those it tells of that have no more than `exact` bytes are
    then read. `leave_out`: checks that are not made.
    """

    database: str
    share: float = 40.0
    least: float = 100 * 2**20
    exact: float = 2**30
    leave_out: tuple[str, ...] = ()
