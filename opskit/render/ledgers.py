"""A ledger's names and fields → pieces of SQL. Names are quoted, values are never in the text."""

from collections.abc import Iterator

from opskit.model.ledger import Field, Ledger


def name(word: str) -> str:
    """Quote the name of a column, a table or a schema."""
    return '"' + word.replace('"', '""') + '"'


def table(ledger: Ledger) -> str:
    return f"{name(ledger.schema)}.{name(ledger.table)}"


def expression(field: Field, of: str = "") -> str:
    """Write a field. What a JSON column has under a key is a text, as in an index on it.

    `of`: what the table is called in the statement, where a name alone could be another's.
    """
    column = (f"{of}." if of else "") + name(field.column)
    if not field.path:
        return column
    words = [column]
    for number, key in enumerate(field.path, 1):
        arrow = "->>" if number == len(field.path) else "->"
        words.append(f" {arrow} '" + key.replace("'", "''") + "'")
    return f"({''.join(words)})"


def fields(ledger: Ledger) -> Iterator[tuple[str, Field]]:
    """Yield every field of a ledger with the key that it stands under."""
    for key in ("id", "created_at", "amount"):
        if column := getattr(ledger, key):
            yield key, Field(column=column)
    if ledger.status is not None:
        yield "status", Field(column=ledger.status.column)
    for key in ("key", "payee", "currency", "provider_ref", "task"):
        if (one := getattr(ledger, key)) is not None:
            yield key, one
    for key in ("scope", "payload", "show", "mask"):
        yield from ((key, one) for one in getattr(ledger, key))
    yield from (("business_keys", one) for key in ledger.business_keys for one in key)
    if (reversal := ledger.reversal) is not None:
        for column in (reversal.reverses, *reversal.copy, *reversal.values):
            yield "reversal", Field(column=column)
    matches = [*ledger.where, *(match for repeat in ledger.allow for match in repeat.where)]
    yield from (("where", match.field) for match in matches)
