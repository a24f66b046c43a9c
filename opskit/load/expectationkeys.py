"""The keys of a file of expectations: what a database must have."""

from opskit.load.keys import VARIABLE
from opskit.steps import Key

_NAMES = "names of indexes and foreign keys that may be as they are, whatever is said of them"
EXPECTED_INDEX: tuple[Key, ...] = (
    Key(
        "keys",
        "literal",
        many=True,
        required=True,
        help='what it is on, as CREATE INDEX has it: `total_points DESC`, `name COLLATE "C"`, '
        "`lower(email) text_pattern_ops`, `(a || b)`",
    ),
    Key("include", "literal", many=True, help="columns that it only carries"),
    Key("where", "literal", help="which rows it has (a partial index)"),
    Key("unique", "bool", default=False, help="whether it is unique"),
    Key(
        "nulls_distinct",
        "bool",
        default=True,
        help="false: a unique index for which two NULLs are the same (PostgreSQL 15)",
    ),
    Key("method", "literal", pattern=VARIABLE, default="btree", help="access method"),
    Key("name", "literal", help="what it is called; another name is told of, and is no fault"),
    Key("used_by", "data", help="queries that must be planned with it, see below; a text is one"),
)
EXPECTED_LOOKUP: tuple[Key, ...] = (
    Key(
        "query",
        "literal",
        required=True,
        help="a SELECT with $1, $2 … for values; it is planned (EXPLAIN), and carried out only "
        "where it has `within`",
    ),
    Key(
        "values",
        "literal",
        many=True,
        help="sample values for $1, $2 …; without them it is the plan that does for all values",
    ),
    Key(
        "within",
        "duration",
        help="in what time it must be through, in 95 of 100 cases; it is asked 21 times, in a "
        "transaction that can't write",
    ),
)
EXPECTED_FOREIGN_KEY: tuple[Key, ...] = (
    Key("columns", "literal", many=True, required=True, help="its columns, in their order"),
    Key("references", "literal", required=True, help="the table that it leads to"),
)
_RELATION: tuple[Key, ...] = (
    Key("columns", "literal", many=True, help="columns that must be there, whatever else is"),
    Key("indexes", "data", help="list of what must be there, see below; a text is a list of keys"),
)
EXPECTED_TABLE: tuple[Key, ...] = (
    *_RELATION,
    Key("foreign_keys", "data", help="list of foreign keys that must be there, see below"),
    Key("accept", "literal", many=True, help=_NAMES),
)
EXPECTED_VIEW: tuple[Key, ...] = (
    *_RELATION,
    Key("populated", "bool", default=True, help="whether it must have been filled"),
    Key("within", "duration", help="in what time it must be read as a whole, in 95 of 100 cases"),
    Key(
        "fresh_within",
        "duration",
        help="how long ago it may have been refreshed; the server must keep times of commits "
        "(`track_commit_timestamp`)",
    ),
    Key("accept", "literal", many=True, help=_NAMES),
)
EXPECTED_FUNCTION: tuple[Key, ...] = (
    Key(
        "signature",
        "literal",
        required=True,
        help="its name with the types of its arguments, such as `cleanup(integer)`",
    ),
    Key("returns", "literal", help="the type that it returns, as the server writes it: `integer`"),
    Key("owner", "literal", help="the role that it belongs to"),
    Key(
        "security",
        "enum",
        choices=("definer", "invoker"),
        help="as whom it acts: its owner, or whoever calls it",
    ),
    Key(
        "volatility",
        "enum",
        choices=("immutable", "stable", "volatile"),
        help="what it is declared as",
    ),
    Key(
        "within",
        "duration",
        help="in what time it must be through, in 95 of 100 calls; it is called 21 times, in a "
        "transaction that can't write",
    ),
    Key("call", "literal", many=True, help="the values that it is called with, one an argument"),
    Key(
        "writes",
        "bool",
        default=False,
        help="that it writes: it is called only by a step with `writers: true`",
    ),
)
EXPECTATIONS: tuple[Key, ...] = (
    Key("opskit", "data", required=True, help="version of the file format: 1"),
    Key("summary", "literal", help="what it is about, in a line"),
    Key("tables", "data", help="NAME or SCHEMA.NAME → what the table has, see below"),
    Key("views", "data", help="the same for materialized views"),
    Key(
        "functions",
        "data",
        help="list of functions, see below; a text such as `cleanup(integer)` is a signature",
    ),
    Key("extensions", "literal", many=True, help="names of extensions"),
)
