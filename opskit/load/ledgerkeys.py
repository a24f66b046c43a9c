"""The keys of a file that describes a ledger."""

from opskit.steps import Key

_MATCH = "column → value or list of values; all of them must hold"
CURRENCY: tuple[Key, ...] = (
    Key("column", "literal", help="the column"),
    Key("is", "literal", help="the one currency of a table that has no column for it"),
)
STATUS: tuple[Key, ...] = (
    Key("column", "literal", required=True, help="the column"),
    Key("settled", "literal", many=True, help="its words for: the money has arrived"),
    Key("sent", "literal", many=True, help="the money is on its way"),
    Key("pending", "literal", many=True, help="it can still be stopped"),
    Key("void", "literal", many=True, help="it never went; such rows are no payments"),
    Key("held", "literal", many=True, help="it waits for a person; such rows are no payments"),
)
PROVIDER: tuple[Key, ...] = (
    Key("reference", "literal", required=True, help="its column with what `provider_ref` has"),
    Key("amount", "literal", required=True, help="its column with the amount"),
    Key("currency", "literal", required=True, help="its column with the currency"),
    Key("time", "literal", required=True, help="its column with the time of the payment"),
    Key(
        "unit",
        "enum",
        choices=("major", "minor"),
        default="major",
        help="whether its amounts are in `major` units (1.00) or `minor` ones (100)",
    ),
    Key("where", "data", help=f"rows that count: {_MATCH}"),
)
REVERSAL: tuple[Key, ...] = (
    Key(
        "reverses",
        "literal",
        required=True,
        help="column with the `id` of the row that is reversed; nothing in it twice",
    ),
    Key("status", "literal", help="the status that the new row gets; needed where rows have one"),
    Key(
        "copy",
        "literal",
        many=True,
        help="columns that it has from the other row, besides scope, payee, amount and currency",
    ),
    Key("set", "map", help="column → text that it gets"),
    Key("negative", "bool", default=False, help="its amount is the other's with its sign changed"),
)
LEDGER: tuple[Key, ...] = (
    Key("opskit", "data", required=True, help="version of the file format: 1"),
    Key("summary", "literal", help="what it is about, in a line"),
    Key("ledger", "literal", required=True, help="the table: SCHEMA.NAME, quoted as in SQL"),
    Key("id", "literal", required=True, help="column that tells its rows apart"),
    Key("key", "literal", required=True, help="field that is the same when a payment is repeated"),
    Key("created_at", "literal", required=True, help="column with the time that a row was made"),
    Key("scope", "literal", many=True, help="fields within which `key` is one's own: a merchant"),
    Key("payee", "literal", help="field that says who gets the money"),
    Key("amount", "literal", help="column with the amount; numeric, integer or money"),
    Key(
        "float_money", "bool", default=False, help="take an amount that is a floating-point number"
    ),
    Key("currency", "table", keys=CURRENCY, main="column", help="field with the currency"),
    Key(
        "payload",
        "literal",
        many=True,
        help="fields that must be equal under one key, besides payee, amount and currency",
    ),
    Key(
        "status",
        "table",
        keys=STATUS,
        help="what the words in the status column mean; without it every row is settled",
    ),
    Key("provider_ref", "literal", help="field with the provider's reference"),
    Key("business_keys", "data", help="list of lists of fields, each to be paid for once only"),
    Key("task", "literal", help="field with the id of the worker's task that made the row"),
    Key("where", "data", help=f"rows that it is about: {_MATCH}"),
    Key("allow", "data", help="list of {why, where}: payments that rightly come again, see below"),
    Key("show", "literal", many=True, help="further fields for the evidence"),
    Key("mask", "literal", many=True, help="fields of which the evidence has the last 4 only"),
    Key("provider", "table", keys=PROVIDER, help="the columns of the provider's CSV file"),
    Key("reversal", "table", keys=REVERSAL, help="how a row is written that reverses another one"),
)
REPEAT: tuple[Key, ...] = (
    Key("why", "literal", required=True, help="why they come again; it stands in the evidence"),
    Key(
        "where",
        "data",
        required=True,
        help=f"{_MATCH}; a value that ends in `*` stands for all that begin so",
    ),
)
