"""Secrets of an inventory: where each has its value."""

import re
from pathlib import Path

from opskit.load.keys import VARIABLE as NAME
from opskit.load.reading import Reader
from opskit.load.yaml import Node, Scalar, Table
from opskit.model.value import SecretSource

_SOURCE = r"(?s)(env|file|cmd):(.+)"


def read_secrets(reader: Reader, node: Node | None, folder: Path) -> dict[str, SecretSource]:
    """Read `secrets:`; `folder`: where a file stands whose path is relative."""
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Table):
        reader.error(node, "`secrets` must be a mapping", "write NAME: env:VARIABLE")
        return {}
    found: dict[str, SecretSource] = {}
    for name, (key, value) in node.entries.items():
        source = re.fullmatch(_SOURCE, value.text) if isinstance(value, Scalar) else None
        if not re.fullmatch(NAME, name):
            reader.error(key, f"{name[:60]!r} can't name a secret", "letters, digits, _")
        elif source is None:  # the value itself may be the secret: never show it
            told = f"the secret `{name}` does not say where its value is"
            reader.error(value, told, "env:VARIABLE, file:PATH or cmd:COMMAND")
        else:
            found[name] = SecretSource(name=name, source=_source(source[1], source[2], folder))
    return found


def _source(kind: str, rest: str, folder: Path) -> str:
    if kind == "file" and not rest.startswith("~"):
        rest = str((folder / rest).absolute())
    return f"{kind}:{rest}"
