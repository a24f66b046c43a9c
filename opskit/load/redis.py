"""Redis servers of an inventory: where they are, and who they must turn out to be."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opskit.load.databases import named
from opskit.load.keys import REDIS, VARIABLE
from opskit.load.reading import Reader
from opskit.load.yaml import Node, Scalar, Table
from opskit.model.inventory import Redis

_SHAPE = "redis://USER@HOST:PORT/INDEX"
_INDEX = re.compile(r"/(?:0|[1-9][0-9]{0,4})")


def read_redis(
    reader: Reader, node: Node | None, hosts: Collection[str], secrets: Collection[str]
) -> dict[str, Redis]:
    """Read `redis:`."""
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Table):
        reader.error(node, "`redis` must be a mapping", f"write NAME: {{url: {_SHAPE}}}")
        return {}
    found: dict[str, Redis] = {}
    for name, (key, value) in node.entries.items():
        if not re.fullmatch(VARIABLE, name):
            told = f"{name[:60]!r} can't name a Redis server"
            reader.error(key, told, re.sub(r"\W", "_", name))
            continue
        values: dict[str, Any] = reader.table(value, REDIS, f"the Redis server `{name}`")
        if isinstance(value, Table) and "url" in values:
            _address(reader, value.entries["url"][1], str(values["url"]), values)
            named(reader, value, "via", hosts, "host")
            named(reader, value, "password", secrets, "secret")
            if values.get("ca") is not None:
                values["ca"] = _beside(reader, str(values["ca"]))
            found[name] = Redis(name=name, **{k: v for k, v in values.items() if v is not None})
    return found


def _beside(reader: Reader, path: str) -> str:
    """Make a path absolute: relative ones are beside the inventory."""
    return path if path.startswith("~") else str((Path(reader.file).parent / path).absolute())


def _address(reader: Reader, node: Node, url: str, values: dict[str, Any]) -> None:
    """Check a URL. No message shows it: what is wrong with it may be a password."""
    try:
        parts = urlsplit(url)
        secret = parts.password is not None
        whole = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        reader.error(node, "`url` is no address of a Redis server", f"write {_SHAPE}")
        return
    if secret:
        told = "a password stands in the URL, where everybody reads it"
        reader.error(node, told, "take it out; add password: NAME, the name of a secret")
    elif not whole:
        reader.error(node, "`url` must begin with redis:// or rediss:// and name a host",
                     f"write {_SHAPE}")  # fmt: skip
    elif parts.query or parts.fragment:
        reader.error(node, "`url` has more than an address", f"write {_SHAPE}")
    elif parts.path not in ("", "/") and not _INDEX.fullmatch(parts.path):
        reader.error(node, "what follows the address in `url` must be the index of a database",
                     f"write {_SHAPE}, such as redis://cache:6379/0")  # fmt: skip
    elif values.get("ca") is not None and parts.scheme != "rediss":
        reader.error(node, "`ca` is for a server that speaks TLS", "write rediss://…")
    elif parts.username and values.get("password") is None:
        reader.error(node, "`url` names a user, who needs a password",
                     "add password: NAME, the name of a secret")  # fmt: skip
