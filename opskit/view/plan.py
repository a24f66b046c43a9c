"""A plan as text: what will be done, where, with which words, and what can't be known yet."""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field

from opskit.model.frozen import frozen
from opskit.model.plan import Action, Plan, Stage
from opskit.model.value import Json
from opskit.model.work import Command, FileRef
from opskit.steps.units import duration
from opskit.view import amounts, blocks, fold, margins, names, readings, safe, works
from opskit.view.fold import ALWAYS, PREFLIGHT, Group, Section
from opskit.view.labels import elsewhere, extent, machine
from opskit.view.paint import PLAIN, Paint
from opskit.view.readings import Contents, Readings

INDENT = " " * 13


def _no_contents(_: FileRef) -> str | None:
    return None


@frozen
class Look:
    """How a plan is to be shown. `read` says whether a dry run was made (and gave `readings`)."""

    full: bool = False
    undo: bool = False
    read: bool = False
    readings: Readings = field(default_factory=dict)
    refused: str | None = None
    asking: bool = False
    """Whether this stands before the question to go on, and not for a dry run."""
    undoing: bool = False
    """Whether it takes back what a run did."""
    contents: Contents = _no_contents
    durations: Collection[str] = ()
    """The parameters whose numbers are seconds."""
    paint: Paint = PLAIN
    columns: int | None = None
    """How wide the terminal is; None: nothing is broken."""


@frozen
class Counts:
    """How many actions read, how many change something, and of how many the text is not known."""

    read: int
    change: int
    undetermined: int

    def __str__(self) -> str:
        unknown = f", {self.undetermined} undetermined" if self.undetermined else ""
        return f"{self.read} read, {self.change} change{unknown}"


def counts(actions: Iterable[Action], stages: Mapping[str, Stage]) -> Counts:
    """Count actions by what they do; `undetermined` ones are counted as read or change too."""
    read = change = undetermined = 0
    seen: set[tuple[int, str, int]] = set()
    for action in actions:
        turn = (action.batch, action.position, action.index)
        if _passed_over(action):
            continue
        if stages[action.position].scope in ("once", "batch") and turn in seen:
            continue  # a candidate: only one of them does it
        seen.add(turn)
        if stages[action.position].effect == "read":
            read += 1
        else:
            change += 1
        undetermined += bool(_late(action))
    return Counts(read=read, change=change, undetermined=undetermined)


def text(plan: Plan, look: Look | None = None) -> str:
    """Show a whole plan."""
    look = look or Look()
    parts = fold.sections(plan, apart=look.full)
    lines = [*_fitted(_header(plan, look), look)]
    first: Section | None = None
    for section in parts:
        lines += ["", *_section(plan, section, look, first)]
        if first is None and section.batch >= 0:
            first = section
    lines += ["", *_fitted(_footer(plan, parts, look), look)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _fitted(lines: Iterable[str], look: Look, hang: int | None = None) -> Iterator[str]:
    for line in lines:
        yield from margins.fitted(line, look.columns, hang)


def _within(indent: str, lines: Iterable[str], look: Look) -> Iterator[str]:
    """Set lines in. What is sent and what was read stays as it is, also what goes on of it."""
    for line in lines:
        if line.startswith((" ", *blocks.VERBATIM)):
            yield indent + line
        else:
            yield from margins.fitted(indent + line, look.columns, len(indent) + 2)


def _header(plan: Plan, look: Look) -> Iterator[str]:
    where = extent(plan)
    if not elsewhere(plan):
        where += f", {amounts.count(len(plan.batches), 'batch', 'batches')}"
    title = " ".join(filter(None, (plan.runbook, plan.version)))
    title = f"Undo of {title}" if look.undoing else title
    yield f"{look.paint.bold(safe.one_line(title))} · {where} · plan {plan.digest[:12]}"
    files = (("runbook", plan.file), ("inventory", plan.inventory))
    facts = [(what, safe.one_line(names.path(file))) for what, file in files]
    facts += [(n, _parameter(value, n in look.durations)) for n, value in plan.parameters.items()]
    for name, source in plan.secrets.items():
        facts.append((name, f"secret from {safe.one_line(source.source)}"))
    many = f"more than {amounts.count(plan.max_failures, 'host')}"
    limit = "a host fails" if plan.max_failures == 0 else f"{many} fail"
    limit = "a step fails" if elsewhere(plan) else limit
    trips = {"undo": "everything is undone", "ask": "a person is asked"}
    then = f"if {limit}, {trips.get(plan.on_failure, 'the run stops')}"
    stuck = "where an undo fails, the rest stays as it is on that host"
    facts.append(("failures", stuck if look.undoing else then))
    if (plan.windows or plan.freezes) and not look.undoing:
        facts += [("changes", hours) for hours in _hours(plan)]
    room = min(24, max(len(name) for name, _ in facts))
    for name, value in facts:
        yield f"  {safe.padded(name, room)}  {value}"


def _hours(plan: Plan) -> Iterator[str]:
    """Say whether a run that was begun now would be refused, and when it would not be."""
    from opskit.plan import reads_only  # few inventories have any hours
    from opskit.plan.windows import shut, written

    if reads_only(plan):
        return
    now = shut(plan, time.time())
    if now is not None:
        yield safe.one_line(f"not now: {now.why} ({now.where}); {now.again}")
        return
    hours = "; ".join(dict.fromkeys(written(window) for window in plan.windows))
    yield f"may be made now{f', within {hours}' if hours else ''}"


def _parameter(value: Json, is_duration: bool) -> str:
    if value is None or value == "":
        return "-"
    if is_duration and isinstance(value, (int, float)):
        return duration(value)
    return safe.cut(_value(value), 400)


def _value(value: Json) -> str:
    return safe.one_line(value if isinstance(value, str) else json.dumps(value, default=str))


def title(plan: Plan, batch: int) -> str:
    """Name a section of a plan."""
    if batch == PREFLIGHT:
        where = "" if elsewhere(plan) else "everywhere, "
        return f"Preflight: {where}before the first change"
    return "Always: at the end" if batch == ALWAYS else f"Batch {batch + 1} of {len(plan.batches)}"


def _section(plan: Plan, section: Section, look: Look, first: Section | None) -> Iterator[str]:
    total = counts(section.actions, plan.stages)
    head = look.paint.bold(title(plan, section.batch))
    named = section.batch >= 0 and not elsewhere(plan)
    where = f" · {names.listed(section.hosts, 34)}" if named else ""
    yield from _fitted([f"{head}{where} · {total}"], look)
    hidden: set[str] = set()
    if first is not None and section.batch >= 0:
        hidden = set() if look.full else _as_before(section, first)
        missing = [step for step in first.steps if step not in section.steps]
        if hidden:
            yield from _fitted([f"  as in batch {first.batch + 1}: {_steps(hidden)}"], look)
        if missing:
            yield from _fitted([f"  not in this batch: {_steps(missing)}"], look)
    for group in section.groups:
        if group.stage.position not in hidden:
            yield from _group(plan, group, look)
        elif any(key in look.readings for a in group.actions for key in readings.keys(a)):
            yield from (*_head(group, look), *_now(group, look))


def _as_before(section: Section, first: Section) -> set[str]:
    """Return the steps that are as in the first batch, so that their texts are not repeated."""
    before = first.steps
    return {step for step, groups in section.steps.items() if before.get(step) == groups}


def _steps(positions: Iterable[str]) -> str:
    """Name steps in their order; neighbours are joined: steps 2, 4 to 7, a1."""
    ordered = sorted(positions, key=_order)
    runs: list[list[str]] = []
    for position in ordered:
        if runs and position.isdigit() and runs[-1][-1] == str(int(position) - 1):
            runs[-1].append(position)
        else:
            runs.append([position])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs]
    return ("step " if len(ordered) == 1 else "steps ") + ", ".join(words)


_LAST = ((True, 0, "~"),)


def _order(position: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort 2 before 10, and `a1` (always) last."""
    parts = position.split(".")
    return tuple((not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts)


def _group(plan: Plan, group: Group, look: Look) -> Iterator[str]:
    action = group.actions[0]
    yield from _head(group, look)
    yield from _within(INDENT, _body(action, group.stage, look), look)
    waits = _late(action)
    if waits:
        until = look.paint.warn(f"undetermined: {_until(plan, waits)}")
        yield from _within(INDENT, [until], look)
    yield from _now(group, look)
    if look.undo:
        yield from _undo(plan, group, look)


def _head(group: Group, look: Look) -> Iterator[str]:
    stage, paint = group.stage, look.paint
    mark = stage.effect + ("?" if _late(group.actions[0]) else "")
    name = paint.bold(safe.one_line(stage.name))
    step = f"{stage.position:>4} {paint.state(f'{mark:<7}', stage.effect)}"
    yield from _fitted([f"{step} {name}{paint.dim(_where(group))}"], look, len(INDENT))


def _now(group: Group, look: Look) -> Iterator[str]:
    for line in readings.shown(group, look.readings, look.contents, full=look.full):
        yield INDENT + _marked(line, look.paint)


def _marked(line: str, paint: Paint) -> str:
    kind = line.strip()[:1]
    if line.startswith("now"):
        bad = "FAILED" in line or "UNKNOWN" in line
        return paint.bad(line) if bad else paint.dim(line)
    return paint.good(line) if kind == "+" else paint.bad(line) if kind == "-" else line


def _where(group: Group) -> str:
    where = names.listed(group.hosts, 30)
    if group.stage.scope in ("once", "batch"):
        first = "the first that lives of " if len(group.hosts) > 1 else ""
        return f" · once, on {first}{where}"
    if group.elsewhere:
        where = f"{names.listed(group.targets, 20)} for {where}"
    note = "" if group.same else f" (text for {safe.one_line(machine(group.actions[0]))})"
    return f" · on {where}{note}"


def _late(action: Action) -> Iterable[str]:
    return () if _passed_over(action) else works.late_names(action)


def _passed_over(action: Action) -> bool:
    """Tell whether its condition rules an action out already when the plan is made."""
    when = action.when
    return when is not None and not when.late and str(when) != "True"


def _body(action: Action, stage: Stage, look: Look) -> Iterator[str]:
    """Show an action: its condition, its text, and the rules that bear on it."""
    when = action.when
    if _passed_over(action):
        yield "not done: its `when` is false here"
        return
    if when is not None and when.late:
        yield f"if {safe.one_line(str(when))}: as follows; if not: skipped"
    if action.skip_if is not None:
        yield f"skipped where this succeeds: {works.headline(action.skip_if)}"
    yield from works.lines(action.work, full=look.full)
    rules = list(_rules(action, stage))
    if rules:
        yield look.paint.dim(" · ".join(rules))


def _rules(action: Action, stage: Stage) -> Iterator[str]:
    if stage.until is not None:
        until = stage.until
        times = f", {until.successes} times in a row" if until.successes > 1 else ""
        limit = amounts.duration(until.limit)
        yield f"every {amounts.duration(until.every)} for up to {limit} until it holds{times}"
    if stage.retry is not None:
        yield f"up to {stage.retry.times} more times after a failure"
    if stage.save is not None:
        yield f"saved as {stage.save.name}{' (secret)' if stage.save.secret else ''}"
    if action.done_when is not None:
        yield f"doubt is settled by: {works.headline(action.done_when)}"
    if stage.at_once > 1:
        yield f"{stage.at_once} at once"
    if stage.prepares:
        yield "nobody uses it before a later step"
    if stage.repeatable:
        yield "may be repeated when in doubt"
    if stage.silent.stop:
        yield f"ended when it prints nothing for {amounts.duration(stage.silent.after)}"
    if stage.on_failure is not None:
        yield f"on failure: {stage.on_failure}"


def _undo(plan: Plan, group: Group, look: Look) -> Iterator[str]:
    action = group.actions[0]
    if group.stage.effect == "change" and not action.undo:
        yield INDENT + "undo: none"
    for undo in action.undo:
        stage = plan.stages[undo.position]
        yield from _within(INDENT, [f"undo: {safe.one_line(stage.name)}"], look)
        yield from _within(INDENT + "  ", _body(undo, stage, look), look)


def savers(plan: Plan) -> Mapping[str, Stage]:
    """Return the step that gives each saved name its value."""
    return {s.save.name: s for s in plan.stages.values() if s.save is not None}


def _until(plan: Plan, waits: Iterable[str]) -> str:
    """Say when names get their values: `after step 2 (previous), when it runs (run.id)`."""
    saved = savers(plan)
    moments: dict[str, list[str]] = {}
    for name in sorted(waits, key=lambda n: _order(saved[n].position) if n in saved else _LAST):
        known = f"after step {saved[name].position}" if name in saved else "when it runs"
        moments.setdefault(known, []).append(name)
    return ", ".join(f"{known} ({', '.join(found)})" for known, found in moments.items())


def _footer(plan: Plan, parts: Iterable[Section], look: Look) -> Iterator[str]:
    parts = list(parts)
    total = counts(plan.actions, plan.stages)
    yield look.paint.bold(f"{amounts.count(total.read + total.change, 'action')}: {total}")
    yield from _unknown(plan, look)
    yield from _declared(plan)
    if not look.undoing:
        yield from _one_way(plan, parts)
    if look.refused:
        yield look.paint.bad(f"A run would be refused: {safe.visible(look.refused)}")


def _unknown(plan: Plan, look: Look) -> Iterator[str]:
    waits = dict.fromkeys(name for action in plan.actions for name in _late(action))
    if waits:
        yield f"Not known yet: {_until(plan, waits)}"
    if look.asking:
        return
    if not look.read:
        yield "No reading was made: what is on the hosts now was not looked at"
        return
    if look.readings:
        at = min(reading.at for reading in look.readings.values())
        yield f"Read at {amounts.clock(at)}: what `now` says may change before the run"
    unread = dict.fromkeys(
        action.position
        for action in plan.actions
        if plan.stages[action.position].effect == "read"
        and action.key not in look.readings
        and not _passed_over(action)
    )
    if unread:
        why = "a change comes first, or no answer was had"
        yield f"Not read on every host ({why}): {_steps(unread)}"


def _declared(plan: Plan) -> Iterator[str]:
    """Name the shell reads that nothing but the runbook's word keeps from changing something."""
    found: dict[str, set[str]] = {}
    for action in plan.actions:
        host = plan.hosts.get(action.target)
        enforced = host is not None and host.connection.read_user is not None
        reads = plan.stages[action.position].effect == "read"
        if reads and isinstance(action.work, Command) and not enforced:
            found.setdefault(action.position, set()).add(action.target)
    if found:
        hosts = {host for targets in found.values() for host in targets}
        yield (
            f"Only declared: that the shell reads of {_steps(found)} change nothing, on "
            f"{amounts.count(len(hosts), 'machine')} without `read_user`"
        )
        yield "  → set `read_user` in the inventory, and the hosts enforce it"


def _one_way(plan: Plan, parts: Iterable[Section]) -> Iterator[str]:
    positions: dict[str, None] = {}
    for section in parts:
        for group in section.groups:
            stage = group.stage  # a gate, say, leaves nothing that could be taken back
            change = stage.effect == "change" and stage.lasting and section.batch >= 0
            if change and not all(one.undo or _passed_over(one) for one in group.actions):
                positions[stage.position] = None
    if positions:
        yield f"No way back is given for: {_steps(positions)}"
