"""Databases of an inventory: where they are, and who they must turn out to be."""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from opskit.load.keys import DATABASE, VARIABLE
from opskit.load.reading import Reader
from opskit.load.suggest import advice
from opskit.load.yaml import Node, Scalar, Table
from opskit.model.inventory import Database

_SCHEMES = ("postgresql", "postgres")
_SHAPE = "postgresql://USER@HOST:PORT/DATABASE"
_PASSWORDS = frozenset({"password", "sslpassword"})
_OURS = frozenset({"options", "application_name", "client_encoding", "service"})
"""What opskit sets itself, or what would put another address in the place of this one."""


def read_databases(
    reader: Reader, node: Node | None, hosts: Collection[str], secrets: Collection[str]
) -> dict[str, Database]:
    """Read `databases:`."""
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Table):
        reader.error(node, "`databases` must be a mapping", f"write NAME: {{url: {_SHAPE}}}")
        return {}
    found: dict[str, Database] = {}
    for name, (key, value) in node.entries.items():
        if not re.fullmatch(VARIABLE, name):
            told = f"{name[:60]!r} can't name a database"
            reader.error(key, told, re.sub(r"\W", "_", name))
            continue
        values: dict[str, Any] = reader.table(value, DATABASE, f"the database `{name}`")
        if isinstance(value, Table) and "url" in values:
            _address(reader, value.entries["url"][1], str(values["url"]), values)
            named(reader, value, "via", hosts, "host")
            named(reader, value, "password", secrets, "secret")
            found[name] = Database(name=name, **{k: v for k, v in values.items() if v is not None})
    return found


def named(reader: Reader, table: Table, key: str, known: Collection[str], what: str) -> None:
    """Check that what a key names is there."""
    entry = table.entries.get(key)
    if entry is not None and isinstance(entry[1], Scalar) and entry[1].text not in known:
        told = f"the inventory has no {what} {entry[1].text[:60]!r}"
        reader.error(entry[1], told, advice(entry[1].text, known))


def _address(reader: Reader, node: Node, url: str, values: dict[str, Any]) -> None:
    """Check a URL. No message shows it: what is wrong with it may be a password."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        secret = parts.password is not None or bool(_PASSWORDS & options.keys())
        host = options.get("host") or parts.hostname or ""
        whole = parts.scheme in _SCHEMES and host and (parts.username or options.get("user"))
        _ = parts.port if "," not in parts.netloc else None
    except ValueError:
        reader.error(node, "`url` is no address of a database", f"write {_SHAPE}")
        return
    if secret:
        told = "a password stands in the URL, where everybody reads it"
        reader.error(node, told, "take it out; add password: NAME, the name of a secret")
    elif not whole or len(parts.path) < 2:
        reader.error(node, "`url` must name user, host and database", f"write {_SHAPE}")
    elif wrong := sorted(_OURS & options.keys()):
        reader.error(node, f"`{wrong[0]}` can't stand in the URL", "take it out")
    elif "via" in values and ("," in host or host.startswith("/")):
        told = "through a host only one host and port can be reached"
        reader.error(node, told, "name the one that is meant, as that host sees it")
