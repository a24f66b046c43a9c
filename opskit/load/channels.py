"""Channels of an inventory: where messages go."""

import re
from collections.abc import Collection
from typing import Any

from opskit.load.channelkeys import CHANNEL
from opskit.load.databases import named
from opskit.load.keys import VARIABLE
from opskit.load.reading import Reader
from opskit.load.suggest import advice
from opskit.load.yaml import Node, Scalar, Table
from opskit.model.channel import NOWHERE, Channel

_SHAPE = "{webhook: SECRET, body: slack}, or {command: …}"


def read_channels(
    reader: Reader, node: Node | None, secrets: Collection[str]
) -> dict[str, Channel]:
    """Read `channels:`."""
    if node is None or (isinstance(node, Scalar) and node.empty):
        return {}
    if not isinstance(node, Table):
        reader.error(node, "`channels` must be a mapping", f"write NAME: {_SHAPE}")
        return {}
    found: dict[str, Channel] = {}
    for name, (key, value) in node.entries.items():
        if not re.fullmatch(VARIABLE, name) or name == NOWHERE:
            write = re.sub(r"\W", "_", name) if name != NOWHERE else "it means no channel at all"
            reader.error(key, f"{name[:60]!r} can't name a channel", write)
            continue
        if isinstance(value, Table) and _is_address(value):
            _refuse_address(reader, value)
            continue
        values: dict[str, Any] = reader.table(value, CHANNEL, f"the channel `{name}`")
        if isinstance(value, Table):
            _check(reader, value, secrets)
            said = {k: str(v) for k, v in (values.pop("secrets", None) or {}).items()}
            kept = {k: v for k, v in values.items() if v is not None}
            found[name] = Channel(name=name, secrets=said, **kept)
    return found


def _is_address(table: Table) -> bool:
    """Tell whether something else, so perhaps the address, stands in the place of a name."""
    entry = table.entries.get("webhook")
    if entry is None or not isinstance(entry[1], Scalar) or entry[1].empty:
        return False
    return not re.fullmatch(VARIABLE, entry[1].text)


def _refuse_address(reader: Reader, table: Table) -> None:
    told = "`webhook` must be the name of a secret: who reads the address can write there"
    write = "webhook: NAME, the name of a secret; and secrets: {NAME: 'env:VARIABLE'}"
    reader.error(table.entries["webhook"][1], told, write)


def _check(reader: Reader, table: Table, secrets: Collection[str]) -> None:
    named(reader, table, "webhook", secrets, "secret")
    keys = [key for key in ("webhook", "command") if key in table.entries]
    if len(keys) != 1:
        both = "both `webhook` and `command`" if keys else "neither `webhook` nor `command`"
        reader.error(table, f"a channel has {both}", f"write {_SHAPE}")
    for key, of in (("body", "webhook"), ("secrets", "command")):
        if key in table.entries and of not in table.entries:
            told = f"`{key}` is for a channel with `{of}`"
            reader.error(table.entries[key][0], told, "take it out")
    given = table.entries.get("secrets")
    if given is None or not isinstance(given[1], Table):
        return
    for name, (at, value) in given[1].entries.items():
        if not re.fullmatch(VARIABLE, name):
            reader.error(at, f"{name[:60]!r} can't name a variable", "letters, digits and _")
        if isinstance(value, Scalar) and value.text not in secrets:
            told = f"the inventory has no secret {value.text[:60]!r}"
            reader.error(value, told, advice(value.text, secrets))
