"""Host keys that somebody has vouched for: known_hosts files, read once, decoded when needed."""

import base64
import fnmatch
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry

_Entry = tuple[str, str, str]
"""Name field, key type, key."""


class KnownHosts:
    """One file. A name is plain, a pattern with `*` and `?`, `!` before one that is meant not, or
    hashed. Keys marked as revoked are as good as unknown; certificate authorities are not asked.
    """

    def __init__(self, file: str) -> None:
        self._plain: dict[str, list[_Entry]] = defaultdict(list)
        self._others: list[_Entry] = []
        self._revoked: set[str] = set()
        with suppress(FileNotFoundError):
            for line in Path(file).read_text("utf-8", "surrogateescape").splitlines():
                self._take(line.split())

    def lookup(self, name: str) -> Mapping[str, paramiko.PKey]:
        """Return the keys that are known for a name as ssh writes it, by type."""
        found: dict[str, paramiko.PKey] = {}
        for _names, kind, key in self._entries(name.lower()):
            if key in self._revoked or kind in found:
                continue
            with suppress(Exception):  # a type that this library does not know, or a broken line
                entry = HostKeyEntry.from_line(f"{name} {kind} {key}")
                if entry is not None and entry.key is not None:
                    found[kind] = entry.key
        return found

    def _take(self, words: list[str]) -> None:
        if words and words[0] == "@revoked" and len(words) >= 4:
            self._revoked.add(words[3])
        if len(words) < 3 or words[0].startswith(("#", "@")):
            return
        entry = (words[0], words[1], words[2])
        if any(letter in words[0] for letter in "*?!|"):
            self._others.append(entry)
            return
        for name in words[0].lower().split(","):
            self._plain[name].append(entry)

    def _entries(self, name: str) -> Iterator[_Entry]:
        yield from self._plain.get(name, ())
        yield from (entry for entry in self._others if _matches(entry[0], name))


def _matches(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        return _hashed(names, name)
    found = False
    for pattern in names.lower().split(","):
        if fnmatch.fnmatchcase(name, _literal(pattern.removeprefix("!"))):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _literal(pattern: str) -> str:
    """Brackets are letters here: `[host]:port`."""
    return pattern.replace("[", "[[]")


def _hashed(names: str, name: str) -> bool:
    try:
        _, _, salt, known = names.split("|")
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(known))
    except ValueError:
        return False
