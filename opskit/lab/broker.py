"""Messages as Celery lays them down in a Redis, for a broker to practise on."""

import base64
import json
from collections.abc import Iterator

Command = tuple[bytes | str, ...]
JOINT = "\x06\x16"
"""What stands between the parts of a binding, and between a queue and a priority."""
SECRET = "card 4111 1111 1111 1111"
"""What a message carries; nothing that looks at queues may show it."""


def message(number: int, task: str, queue: str, **headers: object) -> bytes:
    """Return a message of the second protocol of Celery, as kombu writes it."""
    name = f"{number:08x}-0000-4000-8000-000000000000"
    body = json.dumps([[SECRET, number], {}, {"callbacks": None, "errbacks": None}])
    whole = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": task, "id": name, "shadow": None, "eta": None, "expires": None,
            "group": None, "group_index": None, "retries": 0, "timelimit": [None, None],
            "root_id": name, "parent_id": None, "argsrepr": f"('{SECRET}', {number})",
            "kwargsrepr": "{}", "origin": "gen1@web1", "ignore_result": False, **headers,
        },
        "properties": {
            "correlation_id": name, "reply_to": "5e503416", "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue}, "priority": 0,
            "body_encoding": "base64", "delivery_tag": f"tag-{number}",
        },
    }  # fmt: skip
    return json.dumps(whole).encode()


def taken(raw: bytes, queue: str, since: float) -> Iterator[Command]:
    """Yield what is there of a message that a worker has taken and not acknowledged."""
    tag = json.loads(raw)["properties"]["delivery_tag"]
    yield "ZADD", "unacked_index", repr(since), tag
    yield "HSET", "unacked", tag, json.dumps([json.loads(raw), "", queue])


def bound(*queues: str, prefix: str = "", joint: str = JOINT) -> Iterator[Command]:
    """Yield what makes queues known, and the one through which workers are asked."""
    for name in queues:
        yield "SADD", f"{prefix}_kombu.binding.{name}", f"{name}{joint}{joint}{name}"
    pidbox = f"{joint}{joint}celery@web1.celery.pidbox"
    yield "SADD", f"{prefix}_kombu.binding.celery.pidbox", pidbox


def queues(now: float) -> Iterator[Command]:
    """Yield two queues, one with priorities, and a message that comes again and again."""
    yield from bound("celery", "reports")
    for number in range(3):
        yield "LPUSH", "celery", message(number, "mail.send", "celery")
    for number in (3, 4):
        raw = message(number, "shop.export", "celery", redelivered=True)
        yield "LPUSH", f"celery{JOINT}3", raw
    yield "LPUSH", "reports", message(5, "shop.ranking", "reports")
    yield from taken(message(6, "shop.export", "celery", redelivered=True), "celery", now - 400)
