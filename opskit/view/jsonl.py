"""Values and events as JSON, an object a line, for programs."""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping

from opskit.model.event import Chunk, Entry, Event
from opskit.model.run import ActionRecord, Run
from opskit.model.value import Json


def line(value: Mapping[str, Json]) -> str:
    """Return an object as one line. What is not ASCII is escaped: any terminal can show it."""
    return json.dumps(value, separators=(", ", ": "), default=str) + "\n"


def event(item: Event, *, run: str = "", at: float) -> dict[str, Json]:
    """Return an event as an object; what stands in `data` comes after the fixed names."""
    found: dict[str, Json] = {"event": item.kind, "run": run, "at": round(at, 6)}
    if item.key:
        found |= {"host": item.host, "step": item.step, "key": item.key, "attempt": item.attempt}
    elif item.host:
        found["host"] = item.host
    return found | {name: value for name, value in item.data.items() if name not in found}


def entry(item: Entry) -> dict[str, Json]:
    """Return an entry of the record, with what chains it to the one before."""
    chain: dict[str, Json] = {
        "number": item.number,
        "previous": item.previous,
        "hash": item.hash,
    }
    return event(item.event, run=item.run, at=item.at) | chain


def printed(data: bytes) -> dict[str, Json]:
    """Return what a command printed: its text, and where that is not all of it, every byte."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        exact = base64.b64encode(data).decode("ascii")
        return {"text": data.decode("utf-8", "replace"), "base64": exact}


class JsonLines:
    """A watcher that writes a JSON object for each event; called from many threads.

    A new run's id comes with the first event; that of an earlier one is given as `run`. Output is
    written only with `outputs`: it can be very long, and the record has it.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        run: str = "",
        outputs: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._outputs = outputs
        self._now = now
        self._run = run
        self._lock = threading.Lock()

    def __call__(self, item: Event | Chunk) -> None:
        with self._lock:
            if isinstance(item, Chunk):
                if self._outputs:
                    self._write(line(self._output(item)))
                return
            self._run = str(item.data.get("run") or self._run)
            self._write(line(event(item, run=self._run, at=self._now())))

    def _output(self, chunk: Chunk) -> dict[str, Json]:
        return {
            "event": "output",
            "run": self._run,
            "at": round(self._now(), 6),
            "host": chunk.host,
            "key": chunk.key,
            "attempt": chunk.attempt,
            "stream": chunk.stream,
            **printed(chunk.data),
        }


def run(item: Run) -> dict[str, Json]:
    """Return a run as an object, with every action that it has a record of."""
    return {
        "kind": "run",
        "run": item.id,
        "what": item.kind,
        "runbook": item.runbook,
        "version": item.version,
        "plan": item.plan,
        "state": item.state,
        "who": item.who,
        "from": item.origin,
        "reason": item.reason,
        **({"override_window": item.override} if item.override else {}),
        "created": item.created,
        "ended": item.ended,
        "hosts": dict(item.hosts),
        "actions": [_action(record) for record in item.actions.values()],
        "saved": {host: dict(values) for host, values in item.saved.items()},
        "question": item.question,
        "driver": item.driver,
        "unreachable": dict(item.unreachable),
    }


def _action(record: ActionRecord) -> dict[str, Json]:
    return {
        "key": record.key,
        "host": record.host,
        "step": record.step,
        "state": record.state,
        "attempt": record.attempt,
        "started": record.started,
        "ended": record.ended,
        "undoes": record.undoes,
        **({"silent": record.silent} if record.silent is not None else {}),
        **record.data,
    }
