"""The tables of keys → JSON Schema, so that editors complete and check what they know."""

import re
from collections.abc import Sequence

from opskit.load.channelkeys import CHANNEL
from opskit.load.checkkeys import CHECK
from opskit.load.checkkeys import FILE as CHECKS
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
    DATABASE,
    FORMAT,
    FREEZE,
    GROUP,
    HOST,
    HOST_NAME,
    INVENTORY,
    PARAM,
    REDIS,
    RUNBOOK,
    SERVICE,
    TYPES,
    VARIABLE,
    WINDOW,
)
from opskit.load.ledgerkeys import LEDGER, REPEAT
from opskit.load.schedulekeys import FILE as SCHEDULES
from opskit.load.schedulekeys import SCHEDULE
from opskit.model.value import Json
from opskit.steps import COMMON, KINDS, Key, StepKind

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEMPLATE: Json = {"type": "string", "pattern": r"\{[{%]"}
_SCALAR: Json = {"type": ["string", "number", "boolean"]}
_COMMAND: Json = {"anyOf": [_SCALAR, {"type": "array", "minItems": 1, "items": _SCALAR}]}
_DURATION = r"^(\d{1,15}(\.\d+)?|(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s)?(\d+ms)?)$"
_TYPES: dict[str, Json] = {
    "int": {"anyOf": [{"type": "integer"}, _TEMPLATE]},
    "number": {"anyOf": [{"type": "number"}, _TEMPLATE]},
    "bool": {"anyOf": [{"type": "boolean"}, _TEMPLATE]},
    "duration": {
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": _DURATION, "minLength": 1},
            _TEMPLATE,
        ]
    },
    "size": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    "mode": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    "name": {"type": "string", "pattern": f"^{VARIABLE}$"},
    "list": {"type": "array", "items": _SCALAR},
    "words": {"type": "array", "items": _SCALAR},
    "commands": {"anyOf": [_SCALAR, {"type": "array", "minItems": 1, "items": _COMMAND}]},
    "map": {"type": "object", "additionalProperties": _SCALAR},
    "data": {},
    "value": {"type": ["string", "number", "boolean", "null"]},
    "step": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/step"}]},
}


def runbook_schema() -> Json:
    """Return the JSON Schema (2020-12) of a runbook file."""
    properties = _properties(RUNBOOK)
    steps: dict[str, Json] = {"type": "array", "items": {"$ref": "#/$defs/step"}}
    properties["opskit"] = {"const": FORMAT, "description": _help(RUNBOOK, "opskit")}
    properties["params"] = _named("param", VARIABLE, _help(RUNBOOK, "params"))
    properties["steps"] = {**steps, "minItems": 1, "description": _help(RUNBOOK, "steps")}
    properties["always"] = {**steps, "description": _help(RUNBOOK, "always")}
    return {
        "$schema": DIALECT,
        "title": "opskit runbook",
        **_object(properties, RUNBOOK),
        "$defs": {"step": _step(), "param": _param()},
    }


def inventory_schema() -> Json:
    """Return the JSON Schema (2020-12) of an inventory file."""
    properties = _properties(INVENTORY)
    properties["opskit"] = {"const": FORMAT, "description": _help(INVENTORY, "opskit")}
    for name in ("hosts", "groups", "services", "balancers", "databases", "redis",
                 "channels"):  # fmt: skip
        pattern = HOST_NAME if name in ("hosts", "groups") else VARIABLE
        one = name if name == "redis" else name.removesuffix("s")
        properties[name] = _named(one, pattern, _help(INVENTORY, name))
    for name, keys in (("change_windows", WINDOW), ("freezes", FREEZE)):
        entries: dict[str, Json] = {"type": ["array", "null"], "items": _table(keys)}
        properties[name] = {**entries, "description": _help(INVENTORY, name)}
    names: Json = {"type": "array", "items": {"type": "string"}}
    one_way: dict[str, Json] = {"oneOf": [{"required": ["webhook"]}, {"required": ["command"]}]}
    return {
        "$schema": DIALECT,
        "title": "opskit inventory",
        **_object(properties, INVENTORY),
        "anyOf": [{"required": ["hosts"]}, {"required": ["ansible"]}],
        "$defs": {
            "host": {"anyOf": [{"type": ["string", "null"]}, _table(HOST)]},
            "group": {"anyOf": [{"type": "null"}, names, _table(GROUP)]},
            "service": _nullable(SERVICE, free=True),
            "balancer": _nullable(BALANCER, free=False),
            "database": _table(DATABASE),
            "channel": {**_object(_properties(CHANNEL), CHANNEL), **one_way},
            "redis": _table(REDIS),
        },
    }


def expectations_schema() -> Json:
    """Return the JSON Schema (2020-12) of a file of what a database is expected to have."""
    properties = _properties(EXPECTATIONS)
    properties["opskit"] = {"const": FORMAT, "description": _help(EXPECTATIONS, "opskit")}
    for name, keys in (("tables", EXPECTED_TABLE), ("views", EXPECTED_VIEW)):
        properties[name] = {
            "type": "object",
            "description": _help(EXPECTATIONS, name),
            "minProperties": 1,
            "additionalProperties": {"anyOf": [{"type": "null"}, _relation(keys)]},
        }
    texts: Json = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    word: Json = {"type": "string"}
    index: Json = {"anyOf": [word, texts, _listed(EXPECTED_INDEX, "used_by", "lookup")]}
    properties["functions"] = _list(EXPECTATIONS, "functions", "function")
    return {
        "$schema": DIALECT,
        "title": "opskit expectations",
        **_object(properties, EXPECTATIONS),
        "$defs": {
            "index": index,
            "lookup": {"anyOf": [word, _table(EXPECTED_LOOKUP)]},
            "foreign_key": _table(EXPECTED_FOREIGN_KEY),
            "function": {"anyOf": [word, _table(EXPECTED_FUNCTION)]},
        },
    }


def ledger_schema() -> Json:
    """Return the JSON Schema (2020-12) of a file that describes a ledger."""
    properties = _properties(LEDGER)
    properties["opskit"] = {"const": FORMAT, "description": _help(LEDGER, "opskit")}
    names: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    for name, item in (("business_keys", names), ("allow", _table(REPEAT))):
        items: dict[str, Json] = {"type": "array", "items": item, "minItems": 1}
        properties[name] = {**items, "description": _help(LEDGER, name)}
    return {"$schema": DIALECT, "title": "opskit ledger", **_object(properties, LEDGER)}


def checks_schema() -> Json:
    """Return the JSON Schema (2020-12) of a file of health checks."""
    properties = _properties(CHECKS)
    properties["opskit"] = {"const": FORMAT, "description": _help(CHECKS, "opskit")}
    one = {**_mapping(_table(CHECK)), "required": ["label"]}
    items: dict[str, Json] = {"type": "array", "items": one, "minItems": 1}
    properties["checks"] = {**items, "description": _help(CHECKS, "checks")}
    return {"$schema": DIALECT, "title": "opskit checks", **_object(properties, CHECKS)}


def schedules_schema() -> Json:
    """Return the JSON Schema (2020-12) of a file of schedules."""
    properties = _properties(SCHEDULES)
    heard: dict[str, Json] = {"anyOf": [{"required": ["alert"]}, {"required": ["tell"]}]}
    properties["opskit"] = {"const": FORMAT, "description": _help(SCHEDULES, "opskit")}
    properties["schedules"] = {
        "type": "object",
        "description": _help(SCHEDULES, "schedules"),
        "minProperties": 1,
        "additionalProperties": {**_object(_properties(SCHEDULE), SCHEDULE), **heard},
    }
    return {"$schema": DIALECT, "title": "opskit schedules", **_object(properties, SCHEDULES)}


def _listed(keys: Sequence[Key], name: str, item: str) -> Json:
    """Describe a table one of whose keys has a list of other things."""
    return _object({**_properties(keys), name: _list(keys, name, item)}, keys)


def _list(keys: Sequence[Key], name: str, item: str) -> Json:
    items: Json = {"$ref": f"#/$defs/{item}"}
    several: Json = {"type": "array", "items": items}
    return {"anyOf": [items, several], "description": _help(keys, name)}


def _relation(keys: Sequence[Key]) -> Json:
    """Describe a table or view, with the lists in it."""
    properties = _properties(keys)
    for name, item in (("indexes", "index"), ("foreign_keys", "foreign_key")):
        if name in properties:
            items: dict[str, Json] = {"type": "array", "items": {"$ref": f"#/$defs/{item}"}}
            properties[name] = {**items, "description": _help(keys, name)}
    return _object(properties, keys)


def _help(keys: Sequence[Key], name: str) -> str:
    return next(key.help for key in keys if key.name == name)


def _named(definition: str, pattern: str, description: str) -> Json:
    return {
        "type": ["object", "null"],
        "description": description,
        "patternProperties": {f"^{pattern}$": {"$ref": f"#/$defs/{definition}"}},
        "additionalProperties": False,
    }


def _properties(keys: Sequence[Key]) -> dict[str, Json]:
    return {key.name: _key(key) for key in keys}


def _object(properties: dict[str, Json], keys: Sequence[Key]) -> dict[str, Json]:
    found: dict[str, Json] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    required = [key.name for key in keys if key.required]
    return {**found, "required": required} if required else found


def _table(keys: Sequence[Key]) -> Json:
    return _object(_properties(keys), keys)


def _nullable(keys: Sequence[Key], *, free: bool) -> Json:
    """Describe a table whose optional keys may be null."""
    properties = {
        key.name: _key(key) if key.required else {"anyOf": [{"type": "null"}, _key(key)]}
        for key in keys
    }
    return {**_object(properties, keys), "additionalProperties": free}


def _key(key: Key) -> Json:
    one = _one(key)
    if key.many:
        one = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    described: dict[str, Json] = {"description": key.help, **_mapping(one)}
    if key.default is not None:
        described["default"] = key.default
    return described


def _one(key: Key) -> Json:
    if key.type == "table":
        table = _table(key.keys)
        main = next((inner for inner in key.keys if inner.name == key.main), None)
        return {"anyOf": [_one(main), table]} if main else table
    if key.type == "steps":
        step: Json = {"$ref": "#/$defs/step"}
        return {"anyOf": [step, {"type": "array", "items": step}]}
    if key.type == "enum":
        return {"anyOf": [{"enum": list(key.choices)}, _TEMPLATE]}
    if key.pattern:
        least = 0 if re.fullmatch(key.pattern, "0") else 1
        pattern = f"^(?:{key.pattern})$"
        return {"type": ["string", "number"], "pattern": pattern, "minimum": least}
    return _TYPES.get(key.type, _SCALAR)


def _mapping(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


def _step() -> Json:
    properties = _properties(COMMON)
    properties |= {name: _kind(kind) for name, kind in KINDS.items()}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in KINDS],
    }


def _kind(kind: StepKind) -> Json:
    table = _table(kind.KEYS)
    main = next((key for key in kind.KEYS if key.name == kind.MAIN), None)
    if main is None:
        return {"description": kind.SUMMARY, **_mapping(table)}
    return {"description": kind.SUMMARY, "anyOf": [_key(main), table]}


def _param() -> Json:
    return {"anyOf": [{"type": "null"}, {"enum": list(TYPES)}, _table(PARAM)]}
