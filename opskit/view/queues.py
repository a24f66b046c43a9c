"""What a look at queues, and moving messages of one, come to as text."""

from collections.abc import Iterator

from opskit.model.queues import Messages, Queues
from opskit.steps.units import duration
from opskit.view import amounts, safe


def looked(work: Queues) -> list[str]:
    """Say what is looked at, and from when on something is too much."""
    names = ", ".join(work.names) or "all that the broker knows"
    again = f", twice within {duration(work.window)}" if work.window else ""
    if work.falling:
        again = f", {work.falling} times, {duration(work.window)} apart: less must wait each time"
    shown = [f"look at the queues {names}{again}"]
    if work.workers:
        shown.append(f"expects answers of {', '.join(work.workers)}")
    if work.results:
        shown.append(f"see whether {work.results} can keep results")
    shown += [
        f"{check}: WARN from {limit.warn:g}, CRIT from {limit.crit:g}"
        for check, limit in work.limits.items()
        if check not in work.leave_out
    ]
    if work.leave_out:
        shown.append(f"without the checks {', '.join(work.leave_out)}")
    return [safe.one_line(line) for line in shown]


def moved(work: Messages) -> list[str]:
    """Say which messages are moved, where to, and how many they may be."""
    if work.of:
        return ["put the messages back where they were, those that nobody has taken since"]
    to = "aside" if work.do == "park" else "back"
    verb = "see which would be put" if work.probe else "put"
    return [safe.one_line(line) for line in (f"{verb} {to}: {_what(work)}", *_bounds(work))]


def _what(work: Messages) -> str:
    said = [f"tasks {', '.join(work.tasks)}"] if work.tasks else []
    said += [f"{amounts.count(len(work.ids), 'id')}: {', '.join(work.ids)}"] if work.ids else []
    which = " and ".join(said) or "all"
    place = f"of what was put aside of {work.queue}" if work.do == "replay" else f"of {work.queue}"
    return f"messages {place}, {which}"


def _bounds(work: Messages) -> Iterator[str]:
    said = [f"at most {amounts.count(work.most, 'message')}"]
    if work.do == "park":
        said.append(f"at most {work.share:g} % of what waits")
    if work.override:
        said = [f"no matter how many, because: {work.override}"]
    if work.part < 100:
        said.append(f"{work.part:g} % of them, the oldest")
    if work.idempotent:
        said.append(f"only {', '.join(work.idempotent)}, which may be done twice")
    yield " · ".join(said)
