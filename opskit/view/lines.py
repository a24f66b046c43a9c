"""Plain lines: one an event, its host always in the same place, so that grep finds it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping

from opskit.model.event import Chunk, Event
from opskit.model.plan import Plan
from opskit.model.value import Json
from opskit.view import amounts, names, safe
from opskit.view.labels import Labels, short
from opskit.view.margins import fitted
from opskit.view.paint import PLAIN, Paint, bare
from opskit.view.tail import Tails
from opskit.view.waits import Waits

WORDS = {"succeeded": "ok", "failed": "FAILED", "unknown": "UNKNOWN"}
AHEAD = 5_000
"""As many lines may wait to be written before whoever brings one waits too."""

Said = tuple[str, str]
"""A word for the outcome, and a sentence."""


class Lines:
    """A watcher that writes lines; called from many threads.

    With `outputs` everything that commands print is written as it comes, otherwise only the last
    lines of those that failed.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        plan: Plan | None = None,
        *,
        paint: Paint = PLAIN,
        outputs: bool = False,
        waits: bool = False,
        now: Callable[[], float] = time.time,
        columns: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`columns`: tells how wide the terminal is, if lines are for one. `waits`: what steps
        wait for is told, once a minute at most."""
        self._write = write
        self._columns = columns
        self._labels = Labels(plan)
        self._paint = paint
        self._outputs = outputs
        self._now = now
        self._tails = Tails()
        self._waits = Waits() if waits else None
        self._partial: dict[tuple[str, str], bytes] = {}
        self._decided: dict[str, Json] = {}
        self._rows: list[str] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, item: Event | Chunk) -> None:
        with self._lock:
            self._rows.extend(self._chunk(item) if isinstance(item, Chunk) else self.event(item))
            many = len(self._rows) > AHEAD
        self._write_out(patient=many)

    def _write_out(self, *, patient: bool) -> None:
        """Write what waits for it, unless another thread does: that one then writes this too.

        A hundred threads that wait for each other's writing are a good part of a large run. Where
        nobody reads, as in a pager, they wait none the less, once there is much: `patient`.
        """
        while self._rows and self._turn.acquire(blocking=patient):
            try:
                with self._lock:
                    rows, self._rows = self._rows, []
                if rows:
                    self._write("".join(row + "\n" for row in rows))
            finally:
                self._turn.release()

    def renewed(self, plan: Plan) -> None:
        """Name things as another plan does, which the run carries out from here on."""
        with self._lock:
            self._labels = Labels(plan)

    def event(self, event: Event) -> Iterator[str]:
        """Return the lines that an event is worth."""
        if self._outputs and event.kind in ("host opened", "step started"):
            return  # what it prints says so
        if self._follows(event):
            return
        word, what = said(event, self._labels)
        if self._outputs and event.kind == "step ended":
            what = ending(event.data).strip()
        if event.kind in ("step ended", "step skipped"):
            yield from self._rest(event)
        yield from self._broken(event.host, word, what)
        if event.kind == "step ended":
            last = self._tails.take(event.key)
            if event.data.get("outcome") != "succeeded" and not self._outputs:
                yield from (self._row(event.host, "|", row) for row in last)

    def _follows(self, event: Event) -> bool:
        """Tell whether an event only says of a step what was just decided for its whole host."""
        if event.kind != "decided":
            self._decided.clear()
            return False
        choice = event.data.get("choice")
        if event.key:
            return event.host in self._decided and self._decided[event.host] == choice
        self._decided[event.host] = choice
        return False

    def forget(self, event: Event) -> None:
        """Drop what is kept of an action whose end is not worth a line."""
        self._tails.drop(event.key)

    def _broken(self, host: str, word: str, what: str) -> list[str]:
        """Break the line of an event under where its sentence begins."""
        row = self._row(host, word, what)
        columns = self._columns()
        if columns is None or not what:
            return [row]
        return fitted(row, columns, safe.width(bare(row)) - safe.width(what.rstrip()))

    def _row(self, host: str, word: str, what: str) -> str:
        name = safe.one_line(host or "-")
        pad = " " * (self._labels.host_columns - safe.width(name))
        painted = self._paint.state(f"{word:<8}", _colour(word))
        return f"{amounts.clock(self._now())} {name}{pad} {painted} {what}".rstrip()

    def _chunk(self, chunk: Chunk) -> Iterator[str]:
        if not self._outputs:
            self._tails.add(chunk)
            yield from self._waiting(chunk)
            return
        key = (chunk.key, chunk.stream)
        *whole, rest = (self._partial.pop(key, b"") + chunk.data).split(b"\n")
        self._partial[key] = rest[-64 * 1024 :]
        for row in whole:
            yield from self._output(chunk.host, chunk.stream, row)

    def _waiting(self, chunk: Chunk) -> Iterator[str]:
        if self._waits is None:
            return
        told = self._waits.told(chunk, self._labels.action(chunk.key), self._now())
        if told:
            what = f"{self._labels.named(chunk.key)}: {safe.one_line(told)}"
            yield from self._broken(chunk.host, "waits", what)

    def _rest(self, event: Event) -> Iterator[str]:
        for stream in ("stdout", "stderr"):
            row = self._partial.pop((event.key, stream), b"")
            if row:
                yield from self._output(event.host, stream, row)

    def _output(self, host: str, stream: str, row: bytes) -> Iterator[str]:
        for line in safe.decoded(row).split("\n"):
            yield self._row(host, "|" if stream == "stdout" else "|err", line.expandtabs())


def _colour(word: str) -> str:
    return "" if word.startswith("|") else word


def said(event: Event, labels: Labels) -> Said:
    """Put an event in words."""
    data = event.data
    match event.kind:
        case "step started":
            again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            return "started", labels.step(event) + again
        case "step ended":
            evidence = data.get("evidence")
            held = isinstance(evidence, Mapping) and evidence.get("verdict") == "inconclusive"
            word = "HOLDS" if held else WORDS.get(str(data.get("outcome")), "ended")
            return word, f"{labels.step(event)}{ending(data)}"
        case "step silent":
            return _silence(event, labels.step(event))
        case "step skipped":
            return "skipped", labels.step(event) + _unwanted(data)
        case "message":
            return "message", short(data, "text")
        case "note":
            return "note", f"{short(data, 'text')} ({short(data, 'who')})"
        case "waiting" if data.get("why") == "interrupted":
            return "STOPPED", "by a person or a signal; it can be resumed"
        case "waiting":
            return "WAITING", f"{short(data, 'why')}: {_question(data)}"
        case "decided":
            return "decided", _decision(data) + _about(event, labels)
        case _:
            return _said_of_run(event, labels)


def _besides(data: Mapping[str, Json]) -> str:
    """Say what is out of the ordinary about how a run began."""
    away, over = short(data, "instead_of"), short(data, "override_window")
    here = f"; recorded here instead of in {away}" if away else ""
    return here + (f"; change windows overridden: {over}" if over else "")


def _said_of_run(event: Event, labels: Labels) -> Said:
    data = event.data
    match event.kind:
        case "run created":
            version = "" if short(data, "kind") in ("exec", "notify") else short(data, "version")
            title = " ".join(filter(None, (short(data, "runbook"), version)))
            run, who = short(data, "run"), short(data, "who")
            return (
                "run",
                f"{run} {title} by {who}{_because(data, 'reason')}{_besides(data)}".strip(),
            )
        case "plan amended":
            given = data.get("parameters")
            values = labelled(given) if isinstance(given, Mapping) else ""
            return "amended", f"{values} from here on{_whose(data)}, by {short(data, 'who')}"
        case "run resumed":
            before = short(data, "took_over")
            return "resumed", f"by {short(data, 'who')}" + (f", after {before}" if before else "")
        case "run imported":
            return "imported", f"by {short(data, 'who')}, from store {short(data, 'store')}"
        case "host opened":
            return "opened", "connected"
        case "host unreachable":
            why = short(data, "reason").removeprefix(f"host {event.host}: ")
            return "FAILED", f"unreachable: {why}" if why else "unreachable"
        case "budget tripped":
            failed = data.get("failed")
            hosts = ", ".join(map(str, failed)) if isinstance(failed, (list, tuple)) else ""
            allowed = short(data, "limit")
            what = "a step failed" if labels.elsewhere else f"more than {allowed} failed: {hosts}"
            return "budget", safe.one_line(f"{what}; nothing new starts")
        case "undo began":
            return "undo", f"taking back what was done{_because(data, 'why')}"
        case "run ended":
            return "run", f"ended: {short(data, 'status')}"
        case _:
            return event.kind, labelled(data)


def _whose(data: Mapping[str, Json]) -> str:
    """Name the hosts that have other values from here on, and those that go on as they began."""
    on, kept = (
        safe.one_line(" ".join(names.ranges(list(map(str, found)))))
        if isinstance(found := data.get(name), (list, tuple))
        else ""
        for name in ("hosts", "kept")
    )
    return (f", on {on}" if on else "") + (f" (as before on {kept})" if kept else "")


def _unwanted(data: Mapping[str, Json]) -> str:
    """Say why a step was not done; what a plan has found to be false already is not repeated."""
    kind, _, condition = short(data, "why").partition("when: ")
    if kind or not condition:
        return _because(data, "why")
    return ": its `when` is false" if condition == "False" else f": `{condition}` is false"


def _silence(event: Event, step: str) -> Said:
    """Say that a step has printed nothing for long, or that it prints again."""
    seconds = event.data.get("seconds")
    lasted = amounts.duration(seconds) if isinstance(seconds, (int, float)) else "long"
    if event.data.get("over"):
        return "heard", f"{step} prints again, after {lasted}"
    return "SILENT", f"{step} has printed nothing for {lasted}"


def labelled(data: Mapping[str, Json]) -> str:
    """Return data of any kind as `name=value` words."""
    return " ".join(f"{name}={short(data, name)}" for name in data)


def ending(data: Mapping[str, Json]) -> str:
    """Say how a step ended: how long it took, its exit status, why it did not succeed."""
    about, why = took(data), told(data)
    return (f" ({about})" if about else "") + (f": {why}" if why else "")


def told(data: Mapping[str, Json]) -> str:
    """Say why a step did not succeed, or what came of it, where it is of those that tell."""
    evidence = data.get("evidence")
    return reason(data) or (short(evidence, "told") if isinstance(evidence, Mapping) else "")


def took(data: Mapping[str, Json]) -> str:
    """Say how long a step took, with which exit status, and whether it was sent at all."""
    about = []
    seconds, status = data.get("seconds"), data.get("status")
    if isinstance(seconds, (int, float)):
        about.append(amounts.duration(seconds))
    if status not in (None, 0):
        about.append(f"exit {status}")
    if data.get("sent") is False:
        about.append("not sent")
    return ", ".join(about)


def reason(data: Mapping[str, Json]) -> str:
    """Say why a step did not succeed, unless its exit status is all there is to say."""
    why = short(data, "reason")
    return "" if why == f"exit status {data.get('status')}" else why


def _because(data: Mapping[str, Json], key: str) -> str:
    why = short(data, key)
    return f": {why}" if why else ""


def _question(data: Mapping[str, Json]) -> str:
    question = data.get("question")
    if isinstance(question, Mapping):
        return short(question, "text")
    return short(data, "question")


def _decision(data: Mapping[str, Json]) -> str:
    return f"{short(data, 'choice')} by {short(data, 'who')}{_because(data, 'reason')}"


def _about(event: Event, labels: Labels) -> str:
    """Name the step that was decided about, or say how many they are on the host."""
    count = event.data.get("steps")
    if isinstance(count, int):
        return f" ({amounts.count(count, 'step')})"
    return f" ({labels.step(event)})" if event.key else ""
