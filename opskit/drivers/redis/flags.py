"""What the server itself says of a command, and whether a read may send it."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from opskit.drivers.redis.connection import Connection, Reply, encoded
from opskit.model.frozen import frozen

Words = Sequence[bytes]

_NAME = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_NEVER = ("write", "admin", "blocking", "pubsub")
"""Flags that a read can't have, not even where it is also called `readonly`."""
_HARMLESS_NAMES = """
    acl|cat acl|whoami client|getname client|id client|info client|list client|trackinginfo
    cluster|count-failure-reports cluster|countkeysinslot cluster|getkeysinslot cluster|info
    cluster|keyslot cluster|links cluster|myid cluster|myshardid cluster|nodes cluster|replicas
    cluster|shards cluster|slaves cluster|slots command command|count command|docs
    command|getkeys command|getkeysandflags command|info command|list config|get dbsize echo
    function|dump function|list function|stats info lastsave latency|doctor latency|graph
    latency|histogram latency|history latency|latest memory|doctor memory|malloc-stats
    memory|stats memory|usage module|list object|encoding object|freq object|idletime
    object|refcount ping pubsub|channels pubsub|numpat pubsub|numsub pubsub|shardchannels
    pubsub|shardnumsub role script|exists slowlog|get slowlog|len sort_ro time
"""
_HARMLESS = frozenset(_HARMLESS_NAMES.split())
"""What is harmless though its flags or categories alone would not let it pass."""
_ACTING = {
    "keys": "KEYS walks through all keys while the server does nothing else: use SCAN",
    "touch": "TOUCH counts as a use of the key",
    "pfcount": "PFCOUNT may write down what it has counted, also at replicas",
}
"""What is called `readonly`, and is more than a read."""
EMPTYING = frozenset({"flushdb", "flushall"})
_LOSING_NAMES = "del unlink set hdel zrem ltrim lrem lpop rpop expire pexpire expireat pexpireat"
LOSING = EMPTYING | frozenset(_LOSING_NAMES.split())
"""What throws something away: it is looked first whether messages of a queue are."""
_SECRETS = ("requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass")
"""Settings that are passwords."""
_GLOB = re.compile(r"[*?\[\\]")


@frozen
class Known:
    """What COMMAND INFO says of a command, by the server's own name of it."""

    name: str
    flags: frozenset[str]
    categories: frozenset[str]


def look(connection: Connection, commands: Sequence[Words]) -> Mapping[int, Known]:
    """Ask the server what it knows of each command; those that it does not know are left out."""
    names = [words[0] for words in commands]
    asked = [name if _NAME.fullmatch(name) else b"?" for name in names]
    said = connection.call("COMMAND", "INFO", *asked)
    found: dict[int, Known] = {}
    for number, entry in enumerate(said if isinstance(said, list) else ()):
        with suppress(LookupError):
            found[number] = _known(entry, commands[number])
    return found


def _known(entry: Reply, words: Words) -> Known:
    """Read an entry of COMMAND INFO; LookupError where it is of none, or of no subcommand."""
    if not isinstance(entry, list):
        raise IndexError("not known")
    inner = entry[9] if len(entry) > 9 and isinstance(entry[9], list) else []
    if inner and len(words) > 1:
        wanted = f"{_text(entry[0])}|{_plain(words[1])}"
        named = {_text(one[0]): one for one in inner if isinstance(one, list)}
        if wanted not in named:
            raise LookupError("no such subcommand")
        entry = named[wanted]
    return Known(name=_text(entry[0]), flags=_set(entry[2]), categories=_set(entry[6]))


def _text(reply: Reply) -> str:
    return reply.decode(errors="replace").lower() if isinstance(reply, bytes) else ""


def _plain(word: bytes) -> str:
    return word.decode(errors="replace").lower()


def _set(reply: Reply) -> frozenset[str]:
    return frozenset(map(_text, reply)) if isinstance(reply, list) else frozenset()


def refusal(known: Known | None, words: Words) -> str:
    """Return why a read may not send a command; "" where it may."""
    name = shown(words)
    if known is None:
        return f"the server knows no command {name}"
    if known.name in _ACTING:
        return _ACTING[known.name]
    if known.name == "config|get":
        return _shows_secret(words)
    if known.name in _HARMLESS:
        return f"{name} changes something, the server says" if "write" in known.flags else ""
    if bad := [flag for flag in _NEVER if flag in known.flags]:
        return f"{name} is no read: the server says {', '.join(bad)}"
    if "readonly" not in known.flags:
        return f"{name} is no read: the server does not say readonly"
    if "@dangerous" in known.categories:
        return f"{name} is no read: the server says dangerous"
    return ""


def _shows_secret(words: Words) -> str:
    """Return why CONFIG GET would put a password into the record; "" where it would not."""
    for word in words[2:]:
        wanted = _plain(word)
        stem = _GLOB.split(wanted)[0]
        exact = stem == wanted
        if any(name == wanted if exact else name.startswith(stem) for name in _SECRETS):
            return f"CONFIG GET {wanted[:60]} would put a password into the record"
    return ""


def unmarkable(known: Known | None, words: Words) -> str:
    """Return why a command can't be part of a marked change; "" where it can."""
    name = shown(words)
    if known is None:
        return f"the server knows no command {name}"
    if known.name == "keys":
        return _ACTING["keys"]
    if "noscript" in known.flags:
        return (
            f"{name} can't be done together with its mark: make a step of it alone, with"
            " transaction: none and done_when"
        )
    return ""


def shown(words: Words) -> str:
    """Name a command in a message: its name, with its subcommand where it may have one."""
    name = words[0].decode(errors="replace").upper()[:40]
    container = name in _CONTAINERS and len(words) > 1
    return f"{name} {_plain(words[1]).upper()[:40]}" if container else name


_CONTAINER_NAMES = """
    ACL CLIENT CLUSTER COMMAND CONFIG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT
    SLOWLOG XGROUP XINFO
"""
_CONTAINERS = frozenset(_CONTAINER_NAMES.split())


def as_words(words: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(map(encoded, words))
