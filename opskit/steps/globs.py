"""Patterns of keys as Redis has them, and which may be acted on."""

import re
import unicodedata

SHORTEST = 4
"""So many characters of a pattern must stand for themselves, after what all keys begin with."""
LONGEST = 1024
_SPECIAL = re.compile(r"([*?\[\]\\])")
_FOREIGN = (
    "opskit:",
    "_kombu.",
    "celery",
    "unacked",
    "session:",
)
_SESSIONS = "django.contrib.sessions"
"""What belongs to a queue, to sessions, or to opskit itself: never removed as a set."""


def escaped(text: str) -> str:
    """Write a text so that it stands for itself in a pattern."""
    return _SPECIAL.sub(r"\\\1", text)


def head(pattern: str) -> str:
    """Return the text with which everything begins that fits a pattern."""
    found, at = [], 0
    while at < len(pattern) and pattern[at] not in "*?[":
        if pattern[at] == "\\" and at + 1 < len(pattern):
            at += 1
        found.append(pattern[at])
        at += 1
    return "".join(found)


def beginning(pattern: str) -> str:
    """Return the text that a pattern is about, where exactly what begins so fits it; else ""."""
    start = head(pattern)
    return start if pattern.endswith("*") and escaped(start) + "*" == pattern else ""


def wild(pattern: str) -> bool:
    """Tell whether a pattern stands for more than one name."""
    return re.search(r"[*?\[]", re.sub(r"\\.", "", pattern, flags=re.DOTALL)) is not None


def unfit_name(name: str, allow: tuple[str, ...]) -> str:
    """Return why no key of this name is acted on; "" where one is."""
    if wrong := unwritten(name):
        return wrong
    return _outside(name, allow, f"the key {name[:80]!r}")


def unfit_pattern(pattern: str, prefix: str, allow: tuple[str, ...]) -> str:
    """Return why nothing is removed by a pattern; "" where it is narrow enough."""
    if wrong := unwritten(pattern):
        return wrong
    shown = repr(pattern[:80])
    if not wild(pattern):
        return f"the pattern {shown} has no *, ? or [: it is one key, which goes under `keys`"
    start = head(pattern)
    if not start.startswith(prefix):
        return f"the pattern {shown} does not begin with the prefix {prefix!r} of all keys"
    if len(start) - len(prefix) < SHORTEST:
        after = f" after {prefix!r}" if prefix else ""
        return (
            f"the pattern {shown} is too wide: fewer than {SHORTEST} characters{after} stand for"
            " themselves before its first *, ? or ["
        )
    return _outside(start, allow, f"the pattern {shown}")


def unfit_prefix(allowed: str) -> str:
    """Return why keys that begin so can't be allowed as a whole."""
    if wrong := unwritten(allowed):
        return wrong
    if wild(allowed):
        return f"{allowed[:80]!r} is a beginning, and no pattern: it has no *, ? or ["
    return _outside(allowed, (allowed,), f"the beginning {allowed[:80]!r}")


def unwritten(text: str) -> str:
    """Return why a text is no name of a key that a person could mean."""
    if not text.strip():
        return "it is empty"
    if len(text) > LONGEST:
        return f"it is longer than {LONGEST} characters"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") for letter in text):
        return f"{text[:80]!r} has a control character"
    return ""


def foreign(start: str) -> bool:
    """Tell whether what begins so belongs to a queue, to sessions or to opskit."""
    return _SESSIONS in start or start.startswith(_FOREIGN)


def plain(whole: str) -> bool:
    """Tell whether none of many names, a newline before each, is one of a session."""
    return _SESSIONS not in whole


def harmless(start: str) -> bool:
    """Tell whether what begins so can't belong to a queue or to opskit by how it begins."""
    return not any(one.startswith(start) or start.startswith(one) for one in _FOREIGN)


def _outside(start: str, allow: tuple[str, ...], what: str) -> str:
    if foreign(start):
        return f"{what} belongs to a queue, to sessions or to opskit"
    if not any(start.startswith(one) for one in allow):
        return f"{what} begins with none of what is allowed: {', '.join(allow) or 'nothing is'}"
    return ""
