"""What did not go as planned in a run, step by step and host by host."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from opskit.errors import Exit
from opskit.model.plan import Action, Plan
from opskit.model.run import ActionRecord, Run
from opskit.model.states import ActionState
from opskit.view import amounts, names, safe
from opskit.view.labels import Labels
from opskit.view.lines import ending, told
from opskit.view.paint import Paint

BAD: tuple[ActionState, ...] = ("unknown", "undo failed", "failed", "started")
MOST = 20
LEVELS = ("UNKNOWN", "CRIT", "WARN", "OK")
SAID = 5
"""For so many of the failed steps it is shown what they printed."""
Found = list[tuple[Action, ActionRecord]]
Said = Mapping[str, Sequence[str]]
"""Key of an action → the last lines that it printed."""


def shown(run: Run, plan: Plan | None, said: Said, paint: Paint) -> Iterator[str]:
    """Say what runs now, what did not succeed and why, and which changes are left."""
    labels = Labels(plan)
    if run.driver:
        yield from _now(run, labels)
    yield from _failures(run, plan, labels, said, paint)
    yield from _unreachable(run, paint)
    yield from _checks(run, labels, paint)
    if plan is not None:
        yield from _did(run, plan, labels)
        yield from _passed_over(run, plan, labels, paint)
        yield from _excluded(run, plan)
        yield from _left(run, plan)


def _now(run: Run, labels: Labels) -> Iterator[str]:
    yield f"  {'carried out by':<18} {safe.one_line(run.driver)}"
    for record in [r for r in run.actions.values() if r.state == "started"][:MOST]:
        since = f", since {amounts.clock(record.started)}" if record.started else ""
        if record.silent is not None:
            since += f", has printed nothing since {amounts.clock(record.silent)}"
        yield f"  {'now':<18} {safe.one_line(record.host)}: {labels.step(record)}{since}"


def _failures(
    run: Run, plan: Plan | None, labels: Labels, said: Said, paint: Paint
) -> Iterator[str]:
    """Say of each host in trouble which step did not succeed, and why."""
    late = frozenset(a.key for a in plan.actions if _is_late(plan, a)) if plan else frozenset()
    troubled = [r for r in run.actions.values() if bad(run, r) and _matters(run, r, late)]
    for record in troubled[:MOST]:
        what = f"{labels.step(record)}{ending(record.data)}"
        host = safe.one_line(record.host)
        yield f"  {paint.state(_word(record), record.state)} on {host}: {what}"
        yield from (f"    | {safe.one_line(line)}" for line in said.get(record.key, ()))
    if len(troubled) > MOST:
        yield f"  … and {len(troubled) - MOST} more: opskit status {run.id} --json"


def _is_late(plan: Plan, action: Action) -> bool:
    return plan.stage(action).phase == "always"


def bad(run: Run, record: ActionRecord) -> bool:
    """Tell whether an action did not succeed; what a living process has started may yet."""
    if record.state == "started" and run.driver:
        return False
    return record.state in BAD or _taken_back(record)


def _taken_back(record: ActionRecord) -> bool:
    """Tell whether a step failed and was undone: it is why the others were, too."""
    return record.state == "undone" and record.data.get("outcome") == "failed"


def refused(run: Run) -> bool:
    """Tell whether a run was turned away for what it asked for, before it had done anything."""
    failed = [record for record in run.actions.values() if bad(run, record)]
    return run.exit == Exit.REFUSED and bool(failed) and all(one.refused for one in failed)


def _word(record: ActionRecord) -> str:
    if record.refused and record.state == "failed":
        return "refused"
    if _taken_back(record):
        return "failed, then undone"
    return "no outcome recorded" if record.state == "started" else record.state


def _matters(run: Run, record: ActionRecord, late: Collection[str]) -> bool:
    """Leave out what a later attempt or a person has made good, and what was passed over."""
    stands = run.hosts.get(record.host) != "done" or record.state != "failed"
    return stands or (record.key in late and run.state != "succeeded")


def most_telling(run: Run) -> ActionRecord | None:
    """Return the action whose output says most about what went wrong."""
    found = [r for r in run.actions.values() if bad(run, r)]
    own = (r for r in found if r.state != "undo failed")  # what failed there is the undo
    return next(own, found[0] if found else None)


def telling(run: Run) -> list[ActionRecord]:
    """Return the actions of which it is worth showing what they printed."""
    return [r for r in run.actions.values() if bad(run, r) and r.state != "undo failed"][:SAID]


def _unreachable(run: Run, paint: Paint) -> Iterator[str]:
    """Say why hosts could not be reached, hosts with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for host, why in run.unreachable.items():
        server = host not in run.hosts and "unreachable" in run.hosts.values()
        if server or run.hosts.get(host) not in ("done", None):
            reasons.setdefault(why.replace(host, "…"), []).append(host)
    for hosts in reasons.values():
        word = paint.state("unreachable", "unreachable")
        why = safe.one_line(run.unreachable[hosts[0]]).removeprefix(f"host {hosts[0]}: ")
        yield f"  {word}: {names.listed(hosts, 40)}: {why}"


def _level(record: ActionRecord) -> str:
    """Return how a check judged what it saw; nothing where an action is no check."""
    evidence = record.data.get("evidence")
    level = evidence.get("level") if isinstance(evidence, Mapping) else None
    return level if isinstance(level, str) else ""


def _checks(run: Run, labels: Labels, paint: Paint) -> Iterator[str]:
    """Count what health checks said; what is a warning is named, the rest is failed or unknown."""
    levels: dict[str, list[ActionRecord]] = {}
    for record in run.actions.values():
        if level := _level(record):
            levels.setdefault(level, []).append(record)
    if levels:
        counts = (f"{len(levels[level])} {level}" for level in LEVELS if level in levels)
        yield f"  {'checks':<18} {', '.join(counts)}"
    for record in levels.get("WARN", [])[:MOST]:
        what = f"{labels.step(record)}{ending(record.data)}"
        yield f"  {paint.warn('warning')} on {safe.one_line(record.host)}: {what}"


def _did(run: Run, plan: Plan, labels: Labels) -> Iterator[str]:
    """Say of the changes that stand what came of each, as rows that it has written.

    Of a run without a change it is said what was found, which is what it was made for.
    """
    from opskit.plan import acts

    well = [
        (a, r) for a in plan.actions if (r := run.actions.get(a.key)) and r.state == "succeeded"
    ]
    changes = [(action, record) for action, record in well if acts(plan, action)]
    looked = not changes and run.state == "succeeded"
    word, chosen = ("found", _findings(well)) if looked else ("done", changes)
    said: dict[tuple[str, str], list[str]] = {}
    for action, record in chosen:
        if what := told(record.data):
            host = record.host or action.target
            said.setdefault((labels.step(record), what), []).append(host)
    for (step, what), hosts in list(said.items())[:MOST]:
        many = f" (on {names.listed(hosts, 40)})" if len(run.hosts) > 1 and hosts != [""] else ""
        yield f"  {word:<18} {step}: {what}{many}"
    if len(said) > MOST:
        yield f"  … and {len(said) - MOST} more: opskit report {run.id}"


def _findings(well: Found) -> Found:
    """Leave out warnings, which are told, and checks where there are too many to read them all."""
    levels = {record.key: _level(record) for _, record in well}
    judged = sum(map(bool, levels.values()))
    return [
        (action, record)
        for action, record in well
        if not (level := levels[record.key]) or (level == "OK" and judged <= SAID)
    ]


def _passed_over(run: Run, plan: Plan, labels: Labels, paint: Paint) -> Iterator[str]:
    """Name the steps that failed on hosts that went on: `on_failure: continue`, or a person."""
    steps: dict[str, list[str]] = {}
    main = {action.key for action in plan.actions if not _is_late(plan, action)}
    for record in run.actions.values():
        if record.state == "failed" and run.hosts.get(record.host) == "done" and record.key in main:
            steps.setdefault(labels.step(record), []).append(record.host)
    for step, hosts in steps.items():
        yield f"  {paint.warn('failed, passed over')}: {step} on {names.listed(hosts, 40)}"


def _left(run: Run, plan: Plan) -> Iterator[str]:
    """Say what stands after a run that did not reach its end: nothing, or what has no way back."""
    if run.state == "succeeded" or run.kind not in ("run", "retry") or run.driver:
        return
    from opskit.plan import changes, standing  # brings all that makes plans: lists don't need it

    stands = standing(plan, run.actions)
    done = [action for action in plan.actions if _begun(run, plan, action)]
    if stays := [action for action in plan.actions if _told(run, plan, action)]:
        yield from _named("not taken back, its undo only tells of it", plan, stays)
    if not stands:
        if not stays and any(changes(plan, action) for action in plan.actions):
            undone = any(record.state == "undone" for record in run.actions.values())
            if done and not undone:  # `undo: []` says that nothing takes it back, not more
                yield from _named("was done, and has no undo", plan, done)
            else:
                yield "  No change is left." if undone else "  Nothing was changed."
    elif "undone" in run.hosts.values():
        over = [action for action in stands if run.actions[action.key].state == "skipped"]
        kept = [action for action in stands if not action.undo and action not in over]
        yield from _named("not taken back, it has no undo", plan, kept)
        yield from _named("not taken back, it was skipped", plan, over)


def _excluded(run: Run, plan: Plan) -> Iterator[str]:
    """Say of each host that a person has left out which change was the last one there."""
    out = {host for host, state in run.hosts.items() if state == "excluded"}
    if not out:
        return
    from opskit.plan import standing

    last = {action.host: action for action in standing(plan, run.actions) if action.host in out}
    yield from _named("excluded, and stays as it was left by", plan, list(last.values()))


def _begun(run: Run, plan: Plan, action: Action) -> bool:
    """Tell whether a change was sent, whatever it leaves, and was not taken back."""
    from opskit.plan import acts

    record = run.actions.get(action.key)
    if record is None or not acts(plan, action) or _is_late(plan, action):
        return False
    return record.left


def _told(run: Run, plan: Plan, action: Action) -> bool:
    """Tell whether a change counts as undone, but what undid it was only words about it."""
    from opskit.plan import acts

    record = run.actions.get(action.key)
    if record is None or record.state != "undone" or not acts(plan, action):
        return False
    said = [undo.key for undo in action.undo if not _skipped(run, undo)]
    return bool(said) and not any(acts(plan, undo) for undo in action.undo)


def _skipped(run: Run, action: Action) -> bool:
    return action.key in run.actions and run.actions[action.key].state == "skipped"


def _named(what: str, plan: Plan, left: Sequence[Action]) -> Iterator[str]:
    """Name the changes that an undo left."""
    steps: dict[str, list[str]] = {}
    for action in left:
        steps.setdefault(action.position, []).append(action.host or action.target)
    for position, hosts in steps.items():
        name = safe.one_line(f"{position} {plan.stages[position].name}")
        yield f"  {what}: {name} on {names.listed(hosts, 40)}"
