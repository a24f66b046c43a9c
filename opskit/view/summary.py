"""What is true after a run, and what to do next."""

import shlex
from collections.abc import Collection, Iterator, Mapping

from opskit.model.plan import Action, Plan
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
_UNDOABLE: tuple[ActionState, ...] = ("succeeded", "failed", "undo failed")
DETAILS = 20


def text(run: Run, plan: Plan | None = None, *, paint: Paint = PLAIN, columns: int = 80) -> str:
    """Say for every host where it stands, why, and which command comes next."""
    labels = Labels(plan)
    lines = [_headline(run, paint)]
    for state, hosts in standing(run).items():
        lines += _hosts(state, hosts, paint, columns)
    lines += _details(run, plan, labels, paint)
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


def _details(run: Run, plan: Plan | None, labels: Labels, paint: Paint) -> Iterator[str]:
    """Say of each host in trouble which step did not succeed, and why."""
    late = frozenset(a.key for a in plan.actions if _is_late(plan, a)) if plan else frozenset()
    troubled = [r for r in run.actions.values() if _bad(r) and _matters(run, r, late)]
    for record in troubled[:DETAILS]:
        what = f"{labels.step(record)}{ending(record.data)}"
        host = safe.one_line(record.host)
        yield f"  {paint.state(_word(record), record.state)} on {host}: {what}"
    if len(troubled) > DETAILS:
        yield f"  … and {len(troubled) - DETAILS} more: opskit status {run.id} --json"


def _is_late(plan: Plan, action: Action) -> bool:
    return plan.stage(action).phase == "always"


def _bad(record: ActionRecord) -> bool:
    return record.state in _BAD or _taken_back(record)


def _taken_back(record: ActionRecord) -> bool:
    """Tell whether a step failed and was undone: it is why the others were, too."""
    return record.state == "undone" and record.data.get("outcome") == "failed"


def _word(record: ActionRecord) -> str:
    if _taken_back(record):
        return "failed, then undone"
    return "no outcome recorded" if record.state == "started" else record.state


def _matters(run: Run, record: ActionRecord, late: Collection[str]) -> bool:
    """Leave out what a later attempt or a person has made good."""
    stands = run.hosts.get(record.host) != "done" or record.state != "failed"
    return stands or (record.key in late and run.state != "succeeded")


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
    bad = _most_telling(run)
    if bad is not None and run.state != "succeeded":
        step = shlex.quote(Labels(plan).position(bad.key) or bad.step)
        yield f"opskit output {run.id} {step} {bad.host}", "what it printed"
    left = [w for w, s in _RETRY if states & s]
    if left and run.kind != "exec" and run.state not in _UNDER_WAY:
        yield f"opskit retry {run.id} --hosts {','.join(left)}", "try those hosts again"
    if _undoable(run, plan):
        yield f"opskit undo {run.id}", "take back what was done"
    if run.state != "succeeded":
        yield f"opskit report {run.id}", "for the post-mortem"


def _most_telling(run: Run) -> ActionRecord | None:
    """Return the action whose output says most about what went wrong."""
    bad = [r for r in run.actions.values() if _bad(r)]
    own = (r for r in bad if r.state != "undo failed")  # what failed there is the undo, listed too
    return next(own, bad[0] if bad else None)


def _why_resume(run: Run) -> str:
    if run.state == "unknown":
        return "say what became of the unknown changes, and go on"
    asks = run.state == "waiting" and not interrupted(run)
    return "answer the question and go on" if asks else "go on where it stopped"


_OPEN: tuple[RunState, ...] = ("planned", "running", "undoing", "waiting", "unknown")
_UNDER_WAY: tuple[RunState, ...] = ("succeeded", "waiting", "running", "undoing")
"""States in which no host was left behind, or not yet."""
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
    if any(record.state in ("unknown", "started") for record in run.actions.values()):
        return False  # that is settled first
    done = {key for key, record in run.actions.items() if record.state in _UNDOABLE}
    return any(action.undo and action.key in done for action in plan.actions)
