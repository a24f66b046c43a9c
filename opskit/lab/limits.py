"""Keys for a Redis: counters of rate limits as libraries shape them, a cache, a broker's queue.

They are the same for one seed, less the times, which are counted from now.
"""

import pickle
import random
import socket
import time
from collections.abc import Iterable, Iterator, Mapping

from opskit.errors import OpskitError
from opskit.lab import broker
from opskit.lab.fixtures import Amount
from opskit.lab.layout import BROKER, QUEUED
from opskit.steps.limits import counted, names, rate

NAME = QUEUED
RATES = {"anon": (100, 3600), "user": (1000, 3600), "auth": (5, 60), "password_reset": (3, 3600)}
"""What the counters of the first library allow: how often within how many seconds."""
GROUP, RATE = "auth.login", "5/h"
"""What the second library counts under."""
_HOUR, _BATCH, _SECONDS = 3600, 500, 30.0

Command = tuple[bytes | str, ...]


def fill(
    address: tuple[str, int], user: str, password: str, amount: Amount
) -> Mapping[str, object]:
    """Fill a Redis that is empty; returns what is in it."""
    rows = amount.rows_of(NAME)
    made = [*_counters(rows, amount.seed), *_cache(rows), *(_traps() if amount.planted else ())]
    with socket.create_connection(address, _SECONDS) as peer:
        _send(peer, [("AUTH", user, password), *made, ("SELECT", str(BROKER))])
        _send(peer, broker.queues(time.time()))
    return {
        "data": NAME,
        "rows": rows,
        "broker": BROKER,
        "blocked": [_user(n) for n in range(1, rows + 1) if _blocked(n)],
        "faults": [{"kind": kind, "object": key} for kind, key in _TRAPS] if amount.planted else [],
    }


def _user(number: int) -> str:
    return f":1:throttle_user_{number}"


def _blocked(number: int) -> bool:
    return number % 50 == 0


def _counters(rows: int, seed: int) -> Iterator[Command]:
    chance, now = random.Random(seed), time.time()
    for number in range(1, rows + 1):
        limit, period = RATES["user"]
        count = limit if _blocked(number) else chance.randrange(1, 20)
        times = [now - chance.random() * period / 2 for _ in range(count)]
        yield _set(_user(number), pickle.dumps(sorted(times, reverse=True)), period)
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        yield _set(f":1:throttle_anon_{address}", pickle.dumps([now]), RATES["anon"][1])
        windows = counted(":1:rl:", GROUP, rate(RATE), str(number), "")
        yield _set(names(windows, now)[-1], "5" if _blocked(number) else "3", _HOUR)
        yield _set(f"LIMITS:LIMITER/{address}/login/5/1/minute", "2", _HOUR)


def _cache(rows: int) -> Iterator[Command]:
    for number in range(1, rows + 1):
        yield _set(f":1:leaderboard:{number}", pickle.dumps({"team": number, "points": 7}), _HOUR)


_TRAPS = (
    ("beginning of another", ":1:throttle_user_120_mobile"),
    ("pattern in a name", ":1:throttle_user_a[b]*?"),
    ("other case", ":1:throttle_user_John"),
    ("other case", ":1:throttle_user_john"),
    ("blank in a name", ":1:throttle_user_two words"),
    ("without an end", ":1:throttle_user_forever"),
    ("not a text", ":1:throttle_user_list"),
)


def _traps() -> Iterator[Command]:
    for kind, key in _TRAPS:
        if kind == "not a text":
            yield "RPUSH", key, "1"
        elif kind == "without an end":
            yield "SET", key, "1"
        else:
            yield _set(key, pickle.dumps([time.time()]), _HOUR)


def _set(key: str, value: bytes | str, seconds: int) -> Command:
    return "SET", key, value, "EX", str(seconds)


def _send(peer: socket.socket, commands: Iterable[Command]) -> None:
    """Send commands, some hundred at a time; OpskitError where one is refused."""
    answers, todo = peer.makefile("rb"), list(commands)
    for first in range(0, len(todo), _BATCH):
        some = todo[first : first + _BATCH]
        peer.sendall(b"".join(map(_packed, some)))
        for command in some:
            line = answers.readline()
            if not line.startswith((b"+", b":")):
                said = line.decode(errors="replace").strip()
                raise OpskitError(f"Redis refused its data: {command[0]!r}: {said}")


def _packed(command: Command) -> bytes:
    words = [word if isinstance(word, bytes) else word.encode() for word in command]
    pieces = (b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%s" % (len(words), b"".join(pieces))
