"""The statements that build and drop indexes while others go on reading and writing."""

from opskit.model.expected import Index
from opskit.render.definitions import index_key, is_name, quoted, relation_name

_LONGEST = 63


def index_name(relation: str, index: Index) -> str:
    """Return the name of an index: its own, or one made of what it is on."""
    if index.name:
        return index.name
    words = [relation_name(relation)[1]]
    for key in index.keys:
        expression = index_key(key).expression
        words.append(expression.strip('"') if is_name(expression) else "expr")
    name = "_".join([*words, "idx"])
    while len(name.encode()) > _LONGEST:
        name = name[:-5] + "_idx" if name.endswith("_idx") else name[:-1]
    return name


def full_name(schema: str, name: str) -> str:
    """Write the name of an object as SQL does."""
    return f"{exact(schema)}.{exact(name)}" if schema else exact(name)


def exact(name: str) -> str:
    """Write a name so that it is read as it stands."""
    return '"' + name.replace('"', '""') + '"'


def created(relation: str, index: Index, schema: str = "") -> str:
    """Return CREATE INDEX CONCURRENTLY for an expected index.

    `schema`: where the table was found; then every name is written so that it is read exactly.
    """
    write = exact if schema else quoted
    own, name = relation_name(relation)
    on = ".".join(write(part) for part in (schema or own, name) if part)
    words = f"CREATE {'UNIQUE ' if index.unique else ''}INDEX CONCURRENTLY"
    words += f" {write(index_name(relation, index))} ON {on}"
    words += f" USING {index.method} ({', '.join(index.keys)})"
    if index.include:
        words += f" INCLUDE ({', '.join(map(write, index.include))})"
    words += "" if index.nulls_distinct else " NULLS NOT DISTINCT"
    return words + (f" WHERE {index.where}" if index.where else "")


def concurrently(definition: str) -> str:
    """Return how to build an index again from what pg_get_indexdef says of it."""
    first, word, rest = definition.partition(" INDEX ")
    return f"{first}{word}CONCURRENTLY {rest}"
