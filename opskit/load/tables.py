"""The tables of keys → tables of the reference pages (scripts/docs puts them there)."""

from collections.abc import Mapping, Sequence

from opskit.load.channelkeys import CHANNEL
from opskit.load.checkkeys import CHECK, INCLUDED
from opskit.load.expectationkeys import (
    EXPECTATIONS,
    EXPECTED_FOREIGN_KEY,
    EXPECTED_FUNCTION,
    EXPECTED_INDEX,
    EXPECTED_LOOKUP,
    EXPECTED_TABLE,
    EXPECTED_VIEW,
)
from opskit.load.keys import (
    BALANCER,
    CONNECTION,
    DATABASE,
    FREEZE,
    GIVEN,
    GROUP,
    HOST,
    INVENTORY,
    PARAM,
    REDIS,
    RUNBOOK,
    SERVICE,
    SOMETIMES,
    WINDOW,
)
from opskit.load.ledgerkeys import LEDGER, REPEAT
from opskit.load.schedulekeys import SCHEDULE
from opskit.steps import COMMON, KINDS, Key, StepKind
from opskit.steps.units import duration

_SHOWN = {
    "literal": "plain text",
    "text": "text",
    "shell": "shell text",
    "sql": "SQL",
    "predicate": "condition in SQL",
    "commands": "command, or a list",
    "words": "list of texts",
    "glob": "pattern",
    "sqlfile": "path here",
    "expectations": "path here",
    "ledger": "path here",
    "report": "path here",
    "url": "URL",
    "expression": "expression",
    "verbatim": "plain text",
    "file": "path here",
    "script": "path here",
    "template": "path here",
    "runbook": "name",
    "int": "whole number",
    "bool": "true or false",
    "map": "name: text",
    "list": "list of texts",
    "data": "anything",
    "value": "single value",
    "step": "a step",
    "steps": "steps",
}


def blocks() -> Mapping[str, str]:
    """Return every generated piece of the reference pages by its name."""
    found = {
        "runbook": table(RUNBOOK),
        "params": table(PARAM),
        "common": table(COMMON),
        "kinds": "\n\n".join(_kind(name, kind) for name, kind in KINDS.items()),
        "names": ", ".join(f"`{name}`" for name in sorted(GIVEN | SOMETIMES)),
        "inventory": table(INVENTORY),
        "connection": table(CONNECTION),
        "host": table(HOST),
        "group": table(GROUP),
        "service": table(SERVICE),
        "check": table(CHECK),
        "checksfile": table(INCLUDED),
        "schedule": table(SCHEDULE),
        "balancer": table(BALANCER),
        "window": table(WINDOW),
        "freeze": table(FREEZE),
        "database": table(DATABASE),
        "channel": table(CHANNEL),
        "redis": table(REDIS),
        "expectations": table(EXPECTATIONS),
        "expectedtable": table(EXPECTED_TABLE),
        "expectedview": table(EXPECTED_VIEW),
        "expectedindex": table(EXPECTED_INDEX),
        "expectedkey": table(EXPECTED_FOREIGN_KEY),
        "ledger": table(LEDGER),
        "ledgerrepeat": table(REPEAT),
        "expectedlookup": table(EXPECTED_LOOKUP),
        "expectedfunction": table(EXPECTED_FUNCTION),
    }
    return {name: text.strip() for name, text in found.items()}


def table(keys: Sequence[Key]) -> str:
    """Write a table of keys in Markdown; tables inside it follow, with the way to them."""
    lines = ["| key | value | default | |", "|---|---|---|---|", *_rows(keys, "")]
    return "\n".join(lines)


def _rows(keys: Sequence[Key], path: str) -> list[str]:
    rows: list[str] = []
    for key in keys:
        rows.append(f"| `{path}{key.name}` | {_type(key)} | {_default(key)} | {_cell(key.help)} |")
        if key.name != "connection":  # has a table of its own
            rows += _rows(key.keys, f"{path}{key.name}.")
    return rows


def _type(key: Key) -> str:
    if key.choices:
        shown = ", ".join(f"`{choice}`" for choice in key.choices)
    elif key.main:
        shown = f"`{key.main}`, or a table"
    else:
        shown = _SHOWN.get(key.type, key.type)
    return f"{shown}; or a list" if key.many else shown


def _default(key: Key) -> str:
    if key.required:
        return "required"
    if key.default is None:
        return ""
    value = key.default
    if key.type == "duration" and isinstance(value, (int, float)):
        return f"`{duration(float(value))}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, tuple) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _kind(name: str, kind: StepKind) -> str:
    decides = next((f" (by `{key.name}`)" for key in kind.KEYS if key.reads), "")
    effect = f"read or change{decides}" if decides else kind.EFFECT
    told = [f"### `{name}`", "", kind.SUMMARY, ""]
    short = f"Short form: `{name}: {kind.MAIN.upper()}`. " if kind.MAIN else ""
    told.append(f"{short}Effect: {effect}. Runs: {kind.SCOPE}.")
    return "\n".join([*told, "", table(kind.KEYS)])
