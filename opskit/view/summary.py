"""What is true after a run, and what to do next."""

import shlex
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from opskit.errors import Exit
from opskit.model.plan import Action, Plan
from opskit.model.run import HostState, Run
from opskit.model.states import ActionState, RunState
from opskit.model.value import Json
from opskit.view import amounts, details, names, safe
from opskit.view.labels import Labels, elsewhere
from opskit.view.margins import fitted
from opskit.view.paint import PLAIN, Paint
from opskit.view.status import interrupted

ORDER: tuple[HostState, ...] = (
    "unknown",
    "undo failed",
    "failed",
    "unreachable",
    "undone",
    "excluded",
    "done",
    "begun",
    "not started",
)
TROUBLE: tuple[HostState, ...] = ("unknown", "undo failed", "failed", "unreachable")
_UNDOABLE: tuple[ActionState, ...] = ("succeeded", "failed", "undo failed")


def text(
    run: Run,
    plan: Plan | None = None,
    *,
    said: details.Said = MappingProxyType({}),
    paint: Paint = PLAIN,
    columns: int | None = None,
    now: float | None = None,
    given: str = "",
) -> str:
    """Say for every host where it stands, why, and which command comes next.

    `said`: what failed actions printed at the end; `now`, UTC seconds, only matters for a run that
    goes on. `given`: options that were given and that the next commands need as well. `columns`:
    how wide the terminal is; without it nothing but a long list of hosts is broken.
    """
    room = columns or 80
    lines = [_headline(run, paint, time.time() if now is None else now)]
    for state, hosts in standing(run, plan).items():
        word = "refused" if state == "failed" and details.refused(run) else state
        lines += _hosts(word, hosts, paint, room)
    telling = [*details.shown(run, plan, said, paint)]
    if run.question is not None and not interrupted(run):
        telling.append(f"  {'asks':<18} {question(run.question)}")
    lines += (row for line in telling for row in fitted(line, columns))
    following = [(command + given, why) for command, why in next_steps(run, plan)]
    if following:
        lines += ["Next:", *_aligned(following, room - 4)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _aligned(pairs: list[tuple[str, str]], columns: int) -> Iterator[str]:
    """Line up commands and what each is for; where there is no room for both, the command."""
    longest = max(len(why) for _, why in pairs)
    room = max((len(c) for c, _ in pairs if len(c) + longest <= columns), default=0)
    for command, why in pairs:
        yield f"  {command:<{room}}  {why}" if len(command) <= room else f"  {command}"


def standing(run: Run, plan: Plan | None = None) -> Mapping[HostState, list[str]]:
    """Return the hosts by where they stand, worst first; none that the run leaves alone."""
    if elsewhere(plan):
        return {}
    found: dict[HostState, list[str]] = {state: [] for state in ORDER}
    for host, state in run.hosts.items():
        found[state].append(host)
    return {state: hosts for state, hosts in found.items() if hosts}


def _headline(run: Run, paint: Paint, now: float) -> str:
    took = f" after {amounts.duration(run.ended - run.created)}" if run.ended else ""
    if run.driver:
        took = f" for {amounts.duration(max(0.0, now - run.created))}"
    word = paint.state(state(run).upper(), run.state)
    return f"{word}{took} · {safe.one_line(title(run))} · run {paint.bold(run.id)}"


def state(run: Run) -> str:
    """Return the state of a run as people call it: one that nobody carries out is interrupted."""
    if run.driver:
        return "running" if run.state == "planned" else run.state
    stopped = run.state in ("planned", "running", "undoing") or interrupted(run)
    return "interrupted" if stopped else run.state


def title(run: Run) -> str:
    """Say what a run carries out; a dry run is called one."""
    if run.kind in ("exec", "notify"):
        return run.kind
    return f"{run.runbook} {run.version}" + (" (dry run)" if run.kind == "preview" else "")


def _hosts(state: str, hosts: list[str], paint: Paint, columns: int) -> Iterator[str]:
    count = f" ({len(hosts)})" if len(hosts) > 1 else ""
    lead = f"{state + count:<18}"
    for number, line in enumerate(names.wrapped(hosts, columns - 21)):
        yield "  " + (paint.state(lead, state) if number == 0 else " " * 18) + " " + line


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
    if run.driver:
        yield f"opskit status {run.id}", "look again"
        return
    states = set(run.hosts.values())
    if run.state in _OPEN or _left_unknown(run):
        yield f"opskit {'decide' if _asks(run) else 'resume'} {run.id}", _why_resume(run)
    bad = details.most_telling(run)
    if bad is not None and run.state != "succeeded" and not details.refused(run):
        step = shlex.quote(Labels(plan).position(bad.key) or bad.step)
        yield f"opskit output {run.id} {step} {shlex.quote(bad.host)}", "what it printed"
    yield from _read(run, plan)
    yield from _away(run, plan)
    left = [w for w, s in _RETRY if states & s]
    if details.refused(run):
        left = []  # it would be asked for the same once more
    if left and run.kind not in ("exec", "notify") and run.state not in _UNDER_WAY:
        yield (
            f"opskit retry {run.id} --hosts {','.join(left)}",
            "try {} again".format("it" if elsewhere(plan) else "those hosts"),
        )
    if late := _late(run, plan):
        yield f"opskit retry {run.id} --hosts {','.join(late)}", "try its end again"
    if _undoable(run, plan):
        yield f"opskit undo {run.id}", "take back what was done"
    if run.state != "succeeded":
        yield f"opskit report {run.id}", "for the post-mortem"


def _read(run: Run, plan: Plan | None) -> Iterator[tuple[str, str]]:
    """Offer what a run that changed nothing has read: it was made for somebody to see that."""
    if plan is None or run.kind != "run" or run.state != "succeeded":
        return
    ended = {key for key, record in run.actions.items() if record.state == "succeeded"}
    done = [action for action in plan.actions if action.key in ended]
    stages = {action.position: plan.stage(action) for action in done if _printed(run, action)}
    if any(plan.stage(action).effect == "change" for action in done):
        return
    seen = [at for at, one in stages.items() if one.kind in _PRINTING and one.save is None]
    for position in seen[:_MOST]:
        yield f"opskit output {run.id} {shlex.quote(position)}", "what it read"


def _printed(run: Run, action: Action) -> bool:
    stdout = run.actions[action.key].data.get("stdout")
    return isinstance(stdout, Mapping) and bool(stdout.get("bytes"))


def _late(run: Run, plan: Plan | None) -> list[str]:
    """Return the hosts that are done, and for which something failed at the end of the run."""
    if plan is None or run.state != "failed" or run.kind not in ("run", "retry"):
        return []
    failed = {key for key, record in run.actions.items() if record.state == "failed"}
    late = [one for one in plan.actions if one.key in failed and plan.stage(one).phase == "always"]
    hosts = [action.host for action in late if run.hosts.get(action.host) == "done"]
    return list(dict.fromkeys(hosts))


def _away(run: Run, plan: Plan | None) -> Iterator[tuple[str, str]]:
    """Offer to look at the hosts that can't be reached; not where it is a database that can't."""
    away = [host for host, stands in run.hosts.items() if stands == "unreachable"]
    hosts = [host for host in away if host in run.unreachable or not run.unreachable]
    inventory = f" -i {shlex.quote(names.path(plan.inventory))}" if plan is not None else ""
    if hosts:
        why = "why they can't be reached"
        yield f"opskit hosts check {','.join(hosts[:3])}{inventory}", why


def _why_resume(run: Run) -> str:
    if run.state == "unknown":
        return "say what became of the unknown changes, and go on"
    if _left_unknown(run):
        return "ask what became of the unknown changes, no more"
    return "answer the question and go on" if _asks(run) else "go on where it stopped"


def _left_unknown(run: Run) -> bool:
    return run.state == "aborted" and run.exit == Exit.UNKNOWN


def _asks(run: Run) -> bool:
    return run.state == "waiting" and not interrupted(run)


_OPEN: tuple[RunState, ...] = ("planned", "running", "undoing", "waiting", "unknown")
_UNDER_WAY: tuple[RunState, ...] = ("succeeded", "waiting", "running", "undoing")
"""States in which no host was left behind, or not yet."""
_PRINTING = ("run", "script", "sql", "redis", "keys", "messages")
"""Kinds whose output is a list to read; others say with their outcome what they found."""
_MOST = 3
_RETRY: tuple[tuple[str, frozenset[HostState]], ...] = (
    ("failed", frozenset({"failed", "unreachable", "undo failed"})),
    ("unknown", frozenset({"unknown"})),
    ("not-started", frozenset({"not started", "begun"})),
    ("undone", frozenset({"undone"})),
    ("excluded", frozenset({"excluded"})),
)


def _undoable(run: Run, plan: Plan | None) -> bool:
    """Tell whether something was changed that there is an undo for."""
    if plan is None or run.kind not in ("run", "retry") or run.state == "undone":
        return False
    if any(record.state in ("unknown", "started") for record in run.actions.values()):
        return False  # that is settled first
    done = {key for key, record in run.actions.items() if record.state in _UNDOABLE}
    return any(action.undo and action.key in done for action in plan.actions)
