"""How much larger an index is than it must be, as far as statistics tell."""

from opskit.drivers.postgres.connection import Connection
from opskit.drivers.postgres.standing import Standing

_TUPLE, _POINTER, _ALIGN = 8, 4, 8
_FULL = 0.9
_PAGES = 2
"""Pages that even an index of no rows has."""

_SIZES = """
    SELECT c.reltuples::text, am.amname, pg_catalog.current_setting('block_size'),
        (SELECT pg_catalog.sum(coalesce(s.avg_width, e.avg_width, 8))::text
         FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY k (number, place)
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             AND k.number > 0
         LEFT JOIN pg_catalog.pg_attribute x ON x.attrelid = i.indexrelid AND x.attnum = k.place
         LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = tn.nspname AND s.tablename = t.relname
             AND s.attname = a.attname AND NOT s.inherited
         LEFT JOIN pg_catalog.pg_stats e ON e.schemaname = n.nspname AND e.tablename = c.relname
             AND e.attname = x.attname)
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_catalog.pg_am am ON am.oid = c.relam
    WHERE i.indexrelid = $1::oid
"""


def times(connection: Connection, index: Standing) -> float | None:
    """Return how many times as large as it must be an index is; None where nothing tells.

    Only B-trees are estimated. Entries that are equal take less room than is reckoned, so an index
    with many of them is found too late rather than too early.
    """
    rows, method, block, width = connection.one(_SIZES, str(index.oid))
    if method != "btree" or float(rows or -1) < 0 or width is None:
        return None
    entry = -(-(_TUPLE + int(width)) // _ALIGN) * _ALIGN + _POINTER
    page = int(block or 8192)
    least = float(rows or 0) * entry / _FULL + _PAGES * page
    return index.size / least
