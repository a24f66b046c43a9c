"""What a read calls: a function may do anything, and its text is elsewhere. Pure."""

from collections.abc import Iterator, Sequence

from opskit.render.sql import Token

STEADY = frozenset({
    "now", "transaction_timestamp", "statement_timestamp", "current_setting", "make_interval",
    "jsonb_build_object", "json_build_object", "jsonb_build_array", "to_jsonb", "to_timestamp",
    "timezone", "coalesce", "lower", "upper", "md5", "sha256", "cast", "numeric", "decimal",
    "varchar", "char", "character", "bpchar", "bit", "varbit", "time", "timestamp",
    "timestamptz", "interval",
})  # fmt: skip
"""What may stand before a bracket in a value that the server works out once for all rows."""
_CALM = STEADY | frozenset({
    "setval", "nextval", "currval", "lastval", "pg_get_serial_sequence", "max", "min", "count",
    "sum", "avg", "bool_and", "bool_or", "greatest", "least", "nullif", "concat", "concat_ws",
    "format", "substring", "substr", "trim", "ltrim", "rtrim", "btrim", "replace", "length",
    "left", "right", "split_part", "regexp_replace", "string_agg", "array_agg", "jsonb_agg",
    "json_agg", "jsonb_set", "to_char", "to_date", "to_number", "date_trunc", "date_part",
    "extract", "position", "overlay", "round", "floor", "ceil", "ceiling", "abs", "mod",
    "row_number", "rank", "unnest", "generate_series", "to_regclass", "pg_typeof", "version",
    "gen_random_uuid", "uuid_generate_v4", "random", "clock_timestamp", "array_length",
    "cardinality",
})  # fmt: skip
"""What changes nothing, but for the numbers of a sequence."""
_WORDS = frozenset({
    "in", "exists", "and", "or", "not", "any", "all", "some", "select", "distinct", "from",
    "where", "on", "using", "values", "as", "over", "filter", "when", "then", "else", "case",
    "by", "having", "union", "except", "intersect", "with", "limit", "offset", "array", "row",
    "group", "lateral", "returning", "conflict", "materialized", "into", "set", "is", "like",
    "ilike", "between", "join", "within", "only", "sets", "rollup", "cube", "table", "explain",
    "insert", "do", "nothing",
})  # fmt: skip
"""Keywords that a bracket may come after."""


def calls(tokens: Sequence[Token]) -> Iterator[tuple[str, bool]]:
    """Yield what is called, and whether it is of a schema of one's own."""
    for place, token in enumerate(tokens[:-1]):
        if token.kind in ("word", "quoted") and tokens[place + 1].text == "(":
            dotted = place > 1 and tokens[place - 1].text == "."
            yield token.word, dotted and tokens[place - 2].word != "pg_catalog"


def called(tokens: Sequence[Token]) -> str:
    """Return what a read calls of which nobody knows that it changes nothing; "" for nothing."""
    return next(
        (
            name
            for name, own in calls(tokens)
            if own or (name.lower() not in _CALM and name not in _WORDS)
        ),
        "",
    )
