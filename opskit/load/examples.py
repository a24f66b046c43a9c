"""What may stand under a key, shown by an example."""

from collections.abc import Mapping

from opskit.steps.base import Key

_EXAMPLES: Mapping[str, str] = {
    "int": "3",
    "number": "2.5",
    "bool": "true",
    "duration": "10s",
    "size": "64MiB",
    "mode": "0644",
    "list": "[ONE, TWO]",
    "words": "[ONE, TWO]",
    "commands": "GET KEY",
    "map": "{NAME: TEXT}",
    "url": "http://…",
    "steps": "a list of steps",
    "step": "a step",
}


def example(key: Key) -> str:
    """Show what may stand under a key."""
    if key.name in _WRITTEN:
        return _WRITTEN[key.name]
    if key.choices:
        return " or ".join(key.choices)
    if key.keys:
        inside = ", ".join(f"{k.name}: …" for k in key.keys if k.required) or "…"
        return "{" + inside + "}"
    return _EXAMPLES.get(key.type, key.name.upper())


def fitting(key: Key) -> str:
    return f"write {_PATTERNS.get(key.name) or example(key)}"


_WRITTEN: Mapping[str, str] = {
    "opskit": "1",
    "name": "web-deploy",
    "version": "1.0.0",
    "batches": "[1, 25%, 100%]",
    "max_failures": "0",
}
_PATTERNS: Mapping[str, str] = {
    "name": "lower-case letters, digits, . _ and -, such as web-deploy",
    "version": "three numbers, such as 1.0.0",
    "batches": "a number from 1, or a percentage from 1% to 100%",
    "max_failures": "a number, or a percentage up to 100%",
    "run_id": "40 hex digits, as INFO has them",
    "address": "a name or an IP address; the port goes under connection: {port: 22}",
}
