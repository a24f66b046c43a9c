"""Many host names in little room."""

import os
import re
from collections.abc import Iterable, Sequence

from opskit.view import safe

_NUMBERED = re.compile(r"(.*?)(\d+)([^0-9]*)")


def ranges(hosts: Iterable[str]) -> list[str]:
    """Join neighbours that differ by one in their number: web1 web2 web3 → web1..web3."""
    found: list[list[str]] = []
    for host in hosts:
        if found and _follows(found[-1][-1], host):
            found[-1].append(host)
        else:
            found.append([host])
    words: list[str] = []
    for run in found:
        words += [f"{run[0]}..{run[-1]}"] if len(run) > 3 else run
    return [safe.one_line(word) for word in words]


def _follows(before: str, after: str) -> bool:
    one, two = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(after)
    if not one or not two or (one[1], one[3]) != (two[1], two[3]):
        return False
    padding = one[2].startswith("0") or two[2].startswith("0")
    return int(two[2]) == int(one[2]) + 1 and (not padding or len(one[2]) == len(two[2]))


def listed(hosts: Sequence[str], columns: int = 60) -> str:
    """Name hosts on one line; where they don't fit, say how many there are."""
    words = ranges(hosts)
    line = " ".join(words)
    if safe.width(line) <= columns:
        return f"{line} ({len(hosts)} hosts)" if len(hosts) > max(5, len(words)) else line
    kept: list[str] = []
    total = f" … ({len(hosts)} hosts)"
    for word in words:
        if safe.width(" ".join([*kept, word])) > columns - len(total):
            break
        kept.append(word)
    return " ".join(kept or [safe.cut(words[0], columns - len(total))]) + total


def wrapped(hosts: Sequence[str], columns: int) -> list[str]:
    """Name every host, on as many lines as it takes."""
    lines = [""]
    for word in ranges(hosts):
        line = f"{lines[-1]} {word}".strip()
        if lines[-1] and safe.width(line) > columns:
            lines.append(word)
        else:
            lines[-1] = line
    return lines


def path(name: str) -> str:
    """Name a file in the shorter way: from here, or from the root."""
    return min(name, os.path.relpath(name), key=len) if name.startswith("/") else name
