"""What is true after a run, and what to do next."""

import shlex
from collections.abc import Iterator, Mapping

from opskit.model.plan import Plan
from opskit.model.run import ActionRecord, HostState, Run
from opskit.model.states import ActionState, RunState
from opskit.model.value import Json
from opskit.view import amounts, names, safe
from opskit.view.labels import Labels
from opskit.view.lines import ending
from opskit.view.paint import PLAIN, Paint
from opskit.view.status import interrupted

ORDER: tuple[HostState, ...] = (
    "unknown",
    "undo failed",
    "failed",
    "unreachable",
    "undone",
    "done",
    "begun",
    "not started",
)
TROUBLE: tuple[HostState, ...] = ("unknown", "undo failed", "failed", "unreachable")
_BAD: tuple[ActionState, ...] = ("unknown", "undo failed", "failed", "started")
_UNDOABLE: tuple[ActionState, ...] = ("succeeded", "failed", "unknown", "undo failed")
DETAILS = 20


def text(run: Run, plan: Plan | None = None, *, paint: Paint = PLAIN, columns: int = 80) -> str:
    """Say for every host where it stands, why, and which command comes next."""
    labels = Labels(plan)
    lines = [_headline(run, paint)]
    for state, hosts in standing(run).items():
        lines += _hosts(state, hosts, paint, columns)
    lines += _details(run, labels, paint)
    if run.question is not None and not interrupted(run):
        lines.append(f"  asks         {question(run.question)}")
    following = list(next_steps(run, plan))
    if following:
        lines += ["Next:", *_aligned(following, columns - 4)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _aligned(pairs: list[tuple[str, str]], columns: int) -> Iterator[str]:
    """Line up commands and what each is for; where there is no room for both, the command."""
    longest = max(len(why) for _, why in pairs)
    room = max((len(c) for c, _ in pairs if len(c) + longest <= columns), default=0)
    for command, why in pairs:
        yield f"  {command:<{room}}  {why}" if len(command) <= room else f"  {command}"


def standing(run: Run) -> Mapping[HostState, list[str]]:
    """Return the hosts by where they stand, worst first."""
    found: dict[HostState, list[str]] = {state: [] for state in ORDER}
    for host, state in run.hosts.items():
        found[state].append(host)
    return {state: hosts for state, hosts in found.items() if hosts}


def _headline(run: Run, paint: Paint) -> str:
    stopped = run.state in ("planned", "running", "undoing") or interrupted(run)
    state = "interrupted" if stopped else run.state
    took = f" after {amounts.duration(run.ended - run.created)}" if run.ended else ""
    title = safe.one_line(" ".join(filter(None, (run.runbook, run.version))))
    return f"{paint.state(state.upper(), run.state)}{took} · {title} · run {paint.bold(run.id)}"


def _hosts(state: str, hosts: list[str], paint: Paint, columns: int) -> Iterator[str]:
    count = f" ({len(hosts)})" if len(hosts) > 1 else ""
    lead = f"{state + count:<18}"
    for number, line in enumerate(names.wrapped(hosts, columns - 21)):
        yield "  " + (paint.state(lead, state) if number == 0 else " " * 18) + " " + line


def _details(run: Run, labels: Labels, paint: Paint) -> Iterator[str]:
    """Say of each host in trouble which step did not succeed, and why."""
    troubled = [r for r in run.actions.values() if r.state in _BAD and _matters(run, r)]
    for record in troubled[:DETAILS]:
        word = "undo failed" if record.state == "undo failed" else _word(record)
        what = f"{labels.step(record)}{ending(record.data)}"
        yield f"  {paint.state(word, record.state)} on {safe.one_line(record.host)}: {what}"
    if len(troubled) > DETAILS:
        yield f"  … and {len(troubled) - DETAILS} more: opskit status {run.id} --json"


def _word(record: ActionRecord) -> str:
    return "no outcome recorded" if record.state == "started" else record.state


def _matters(run: Run, record: ActionRecord) -> bool:
    """Leave out what a later attempt or a person has made good."""
    return run.hosts.get(record.host) != "done" or record.state != "failed"


def question(asked: Mapping[str, Json]) -> str:
    """Return the question that a run waits with, with its choices."""
    text = asked.get("question", asked.get("text", ""))
    if isinstance(text, Mapping):
        return question(text)
    choices = asked.get("choices")
    words = "/".join(map(str, choices)) if isinstance(choices, (list, tuple)) else ""
    return safe.one_line(f"{text} [{words}]" if words else str(text))


def next_steps(run: Run, plan: Plan | None = None) -> Iterator[tuple[str, str]]:
    """Yield commands that make sense now, with what each is for."""
    if run.kind == "preview":
        return
    states = set(run.hosts.values())
    if run.state in _OPEN:
        yield f"opskit resume {run.id}", _why_resume(run)
    bad = next((r for r in run.actions.values() if r.state in _BAD), None)
    if bad is not None and run.state != "succeeded":
        step = shlex.quote(Labels(plan).position(bad.key) or bad.step)
        yield f"opskit output {run.id} {step} {bad.host}", "what it printed"
    left = [w for w, s in _RETRY if states & s]
    if left and run.kind != "exec" and run.state not in ("succeeded", "waiting", "running"):
        yield f"opskit retry {run.id} --hosts {','.join(left)}", "try those hosts again"
    if _undoable(run, plan):
        yield f"opskit undo {run.id}", "take back what was done"
    if run.state != "succeeded":
        yield f"opskit report {run.id}", "for the post-mortem"


def _why_resume(run: Run) -> str:
    if run.state == "unknown":
        return "say what became of the unknown changes, and go on"
    asks = run.state == "waiting" and not interrupted(run)
    return "answer the question and go on" if asks else "go on where it stopped"


_OPEN: tuple[RunState, ...] = ("planned", "running", "undoing", "waiting", "unknown")
_RETRY: tuple[tuple[str, frozenset[HostState]], ...] = (
    ("failed", frozenset({"failed", "unreachable", "undo failed"})),
    ("unknown", frozenset({"unknown"})),
    ("not-started", frozenset({"not started", "begun"})),
    ("undone", frozenset({"undone"})),
)


def _undoable(run: Run, plan: Plan | None) -> bool:
    """Tell whether something was changed that there is an undo for."""
    if plan is None or run.kind not in ("run", "retry") or run.state == "undone":
        return False
    done = {key for key, record in run.actions.items() if record.state in _UNDOABLE}
    return any(action.undo and action.key in done for action in plan.actions)
