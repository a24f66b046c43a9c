"""An incident as Markdown: how bad it is, what changed, what was found, what to do next, and when.

How bad it is follows from the checks that are not as they should be: each says itself what it would
mean. The worst counts, not the number; what nobody knows is no reason for hope.
"""

from collections.abc import Iterator, Mapping, Sequence

from opskit.model.channel import severity_of
from opskit.model.frozen import frozen
from opskit.model.incident import Change, Incident, Said
from opskit.model.plan import Action
from opskit.model.run import ActionRecord
from opskit.model.value import Json
from opskit.model.work import Limits
from opskit.steps.health import is_check
from opskit.steps.units import duration
from opskit.view import amounts, names
from opskit.view.details import LEVELS
from opskit.view.labels import Labels
from opskit.view.lines import said
from opskit.view.report import escaped, table

BEGIN = "<!-- opskit incident: what stands from here to its end is written anew each time -->"
END = "<!-- opskit incident: end -->"
ANSWER: Mapping[str, tuple[str, float]] = {
    "P0": ("15 minutes", 900.0),
    "P1": ("30 minutes", 1800.0),
    "P2": ("2 hours", 7200.0),
    "P3": ("24 hours", 86400.0),
}
"""Severity → within what time somebody must be at it."""
UPDATES = 900.0
_TOLD = 5
DUE = (
    ("the report", 86400.0, "24 h"),
    ("the meeting about it", 2 * 86400.0, "48 h"),
    ("what was agreed on", 7 * 86400.0, "a week"),
)
_OPEN = """
## What users saw

## What caused it

## What helped, and what did not

## What will be done

| what | who | by |
|---|---|---|
| | | |
"""


@frozen
class Finding:
    """A check that is not as it should be."""

    level: str
    host: str
    what: str
    severity: str = ""
    following: str = ""


@frozen
class Class:
    """How bad it is. `perhaps`: worse severities of which nobody knows whether they hold."""

    severity: str
    perhaps: tuple[str, ...]

    def __str__(self) -> str:
        known = self.severity or "none that a check tells of"
        return known + (f", perhaps {self.perhaps[0]}" if self.perhaps else "")


def findings(look: Incident | Change) -> list[Finding]:
    """Return what is wrong or not known: by severity, then by level, those without one last."""
    labels = Labels(look.plan)
    found = [_finding(record, labels) for record in look.run.actions.values()]
    found += _not_known(look)
    return sorted((one for one in found if one.level not in ("", "OK")), key=_weight)


def _not_known(look: Incident | Change) -> Iterator[Finding]:
    """Yield the hosts that can't be reached, and those with checks that were not made, or not yet.

    Each is as bad as the worst of these checks might be.
    """
    run = look.run
    ended = {
        key.partition("?")[0]
        for key, record in run.actions.items()
        if record.state not in ("planned", "started")
    }
    missed: dict[str, list[Action]] = {}
    for action in look.plan.actions:
        if action.key not in ended and is_check(action.work):
            missed.setdefault(action.host or action.target, []).append(action)
    for host in [*run.unreachable, *(host for host in missed if host not in run.unreachable)]:
        actions = missed.get(host, [])
        if host in run.unreachable:
            told = f"it can't be reached: {run.unreachable[host]}"
        else:
            told = f"not looked at: {names.listed([_checked(one, look) for one in actions], 80)}"
        worst = min((severity for one in actions if (severity := _severity(one))), default="")
        yield Finding(level="UNKNOWN", host=host, what=told, severity=worst)


def _checked(action: Action, look: Incident | Change) -> str:
    check = getattr(action.work, "check", None)
    label = check.label if isinstance(check, Limits) else check
    return str(label or look.plan.stages[action.position].name)


def _severity(action: Action) -> str:
    bearing: Mapping[str, str] = getattr(action.work, "bearing", {})
    return bearing.get("severity", "")


def _weight(finding: Finding) -> tuple[str, int, str]:
    return finding.severity or "P9", LEVELS.index(finding.level), finding.host


def _finding(record: ActionRecord, labels: Labels) -> Finding:
    evidence = record.data.get("evidence")
    known: Mapping[str, Json] = evidence if isinstance(evidence, Mapping) else {}
    level = str(known.get("level", ""))
    if not level and record.state in ("failed", "unknown"):
        level = "UNKNOWN"
    told = str(record.data.get("reason") or labels.step(record))
    told = told.removeprefix(f"{level} ").removesuffix(f" [{known.get('severity')}]")
    host = record.host or record.key.partition(">")[2].partition("#")[0]
    severity, following = (str(known.get(name, "")) for name in ("severity", "next"))
    return Finding(level=level, host=host, what=told, severity=severity, following=following)


def classified(found: Sequence[Finding]) -> Class:
    """Say how bad it is: the worst that is known, and what may be worse."""
    known = min(
        (one.severity for one in found if one.severity and one.level != "UNKNOWN"), default=""
    )
    unsure = {one.severity for one in found if one.severity and one.level == "UNKNOWN"}
    worse = sorted(one for one in unsure if not known or one < known)
    return Class(severity=known, perhaps=tuple(worse))


def next_update(incident: Incident) -> float | None:
    """Return when the next word to users is due; None once it is resolved.

    A quarter of an hour after the last one, or after it began where nothing was told yet: it may
    be over.
    """
    told = incident.told
    if told is None:
        return incident.run.created + UPDATES
    return None if told.said == "resolved" else told.at + UPDATES


def overdue(incident: Incident, now: float) -> float | None:
    """Return since when a word is due, by the quarters of an hour after the last; None: none is."""
    first = next_update(incident)
    if first is None or now < first:
        return None
    return first + UPDATES * ((now - first) // UPDATES)


def reminded(incident: Incident, since: float) -> bool:
    """Tell whether it was said that a word is due since then."""
    return any(word.said == "due" and word.at >= since for word in incident.words)


def when_due(incident: Incident, now: float) -> str:
    """Say when the next word to users is due."""
    at = next_update(incident)
    if at is None:
        return "none: it is resolved"
    if now < at:
        return f"by {amounts.moment(at)}"
    return f"overdue since {amounts.moment(at)}"


def markdown(incident: Incident, now: float) -> str:
    """Write the part of the file that opskit keeps."""
    found = findings(incident)
    lines = [
        BEGIN,
        f"# Incident of {amounts.moment(incident.run.created)}: {classified(found)}",
        "",
        *_facts(incident, found, now),
        *_changes(incident, found),
        *_found(found, any(is_check(one.work) for one in incident.plan.actions)),
        *_next(found),
        *_timeline(incident),
        END,
    ]
    return "\n".join(lines) + "\n"


def word(incident: Incident, now: float, said: Said) -> str:
    """Say in a few lines for a channel how it stands: how bad, what is wrong, when more is told."""
    look = incident.newest
    found = findings(look)
    began = amounts.moment(incident.run.created)
    lines = [f"{said.capitalize()}: incident of {began}: {classified(found)}"]
    if look.run.id != incident.run.id:
        lines.append(f"As it was looked at again at {amounts.clock(look.run.created)}:")
    lines += [f"- {one.level} {one.host}: {one.what}" for one in found[:_TOLD]]
    if len(found) > _TOLD:
        lines.append(f"- and {len(found) - _TOLD} more")
    if not found:
        lines.append("Nothing is found to be wrong.")
    update = amounts.moment(now + UPDATES)
    return "\n".join([*lines, f"Run {incident.run.id}; the next word is due by {update}."])


def resolved(incident: Incident, *, proven: bool) -> str:
    """Say for a channel that it is over, and what shows it."""
    began = amounts.moment(incident.run.created)
    proof = "No look shows that: it is the word of who says so."
    if proven and incident.over is not None and incident.over.ended is not None:
        lasted = duration(round(incident.over.ended - incident.over.created))
        proof = f"No request failed within {lasted} (run {incident.over.id})."
    return f"Resolved: incident of {began}.\n{proof}\nRun {incident.run.id}."


def reminder(incident: Incident, since: float) -> str:
    """Say for a channel that a word is due; what it is to say is a person's."""
    told = incident.told
    last = f"the last one was at {amounts.clock(told.at)}" if told else "none was said yet"
    began, run = amounts.moment(incident.run.created), incident.run.id
    return (
        f"A word to users is due since {amounts.clock(since)}: incident of {began}; {last}.\n"
        f"opskit incident {run} --to CHANNEL says how it stands, --said TEXT notes what you said "
        f"elsewhere, --resolved ends it."
    )


def gravity(incident: Incident) -> str:
    """Return how severe a word about it is: as bad as it may be; `info` where nothing is wrong.

    That of the first look stays, so that who hears of it at all hears all of it.
    """
    found = findings(incident)
    severity = classified(found)
    worst = (*severity.perhaps, severity.severity)[0]
    return severity_of(worst) or ("warning" if found else "info")


def whole(text: str, before: str | None) -> str | None:
    """Put the part that opskit keeps into a file as it was; None where that has no place for it."""
    if before is None:
        return text + _OPEN
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        return None
    return head + text + tail.removeprefix("\n")


def _facts(incident: Incident, found: Sequence[Finding], now: float) -> Iterator[str]:
    run, severity = incident.run, classified(found)
    worst = (*severity.perhaps, severity.severity)[0]
    rows = [
        (
            "Looked at",
            f"`opskit run {escaped(run.runbook)}`, run `{run.id}`, by {escaped(run.who)}",
        ),
        ("Why", escaped(run.reason) or "no reason was given"),
        ("How bad", f"**{severity}**"),
    ]
    if worst in ANSWER:
        within, seconds = ANSWER[worst]
        until = amounts.moment(run.created + seconds)
        rows.append((f"Somebody is at it ({within} for {worst})", f"by {until}"))
    rows.append(("The next word to users, every 15 minutes", when_due(incident, now)))
    if incident.latest is not None:
        again, at = (
            classified(findings(incident.latest)),
            amounts.moment(incident.latest.run.created),
        )
        rows.append(("Looked at again", f"{at}: **{again}**, run `{incident.latest.run.id}`"))
    rows += [
        (f"Due: {what} ({within})", f"by {amounts.moment(run.created + seconds)}")
        for what, seconds, within in DUE
    ]
    yield from table(("", ""), ((f"**{name}**", value) for name, value in rows))
    if severity.perhaps:
        why = "; ".join(one.what for one in found if one.severity in severity.perhaps
                        and one.level == "UNKNOWN")  # fmt: skip
        yield from ("", f"It is {severity.perhaps[0]} until this is known: {escaped(why)}")


def _changes(incident: Incident, found: Sequence[Finding]) -> Iterator[str]:
    hours = duration(incident.within)
    yield from ("", f"## What changed in the {hours} before", "")
    if not incident.whole:
        yield from ("There were more runs than were looked at: `opskit runs` has them.", "")
    if not incident.before:
        yield "Nothing that was done with opskit. What else changed? Ask who may change something."
        return
    ill = {one.host for one in found}
    rows = [
        (
            amounts.moment(one.run.created),
            f"`{one.run.id}`",
            escaped(f"{one.run.runbook} {one.run.version}".strip()),
            escaped(one.run.who),
            escaped(one.run.reason),
            one.run.state,
            escaped(names.listed(list(one.hosts), 60)),
            "**yes**" if ill.intersection(one.hosts) else "",
        )
        for one in incident.before
    ]
    yield from table(("Began", "Run", "What", "Who", "Why", "State", "Hosts", "Ill now"), rows)
    suspect = _suspect(incident, found)
    if suspect is not None:
        yield from ("", f"The last one on hosts that are ill now: {_back(suspect)}")


def _suspect(incident: Incident, found: Sequence[Finding]) -> Change | None:
    """Return the last change on a host of which something is wrong, and that still stands there."""
    ill = {one.host for one in found}
    stand = (one for one in incident.before if one.run.state != "undone")
    return next((one for one in stand if ill.intersection(one.hosts)), None)


def _back(change: Change) -> str:
    back = f"`opskit undo {change.run.id}`"
    if change.run.runbook == "deploy":
        back = f"`opskit run rollback`, or {back}"
    return f"see `opskit report {change.run.id}`; to take it back, {back}"


def _found(found: Sequence[Finding], made: bool) -> Iterator[str]:
    yield from ("", "## What was found", "")
    if not found:
        yield "Every check is OK." if made else "There was no check."
        return
    rows = [(one.severity, one.level, escaped(one.host), escaped(one.what)) for one in found]
    yield from table(("Severity", "Level", "Where", "What"), rows)


def _next(found: Sequence[Finding]) -> Iterator[str]:
    """List what to do, worst first, each once."""
    steps: dict[str, list[Finding]] = {}
    for one in found:
        if one.following:
            steps.setdefault(one.following, []).append(one)
    yield from ("", "## What to do next", "")
    if not steps:
        yield "No check says."
        return
    for number, (step, of) in enumerate(steps.items(), 1):
        where = names.listed(list(dict.fromkeys(one.host for one in of)), 40)
        about = dict.fromkeys(one.what.partition(":")[0] for one in of)
        yield f"{number}. {escaped(step)} ({escaped(', '.join(about))}; {escaped(where)})"


def _timeline(incident: Incident) -> Iterator[str]:
    yield from ("", "## Timeline", "", "By the record; UTC.", "")
    at: list[tuple[float, str]] = []
    for one in incident.before:
        at.append(
            (one.run.created, f"before: {_told(one.run.runbook, one.run.who)} `{one.run.id}`")
        )
    for run, entries in incident.since:
        at.append((run.created, f"{_told(run.runbook or run.kind, run.who)} begins, `{run.id}`"))
        if run.ended is not None:
            at.append(
                (run.ended, f"{escaped(run.runbook or run.kind)} ends: {run.state}, `{run.id}`")
            )
        for entry in entries:
            word, what = said(entry.event, Labels(None))
            at.append((entry.at, f"{word}: {escaped(what)}"))
    yield from (f"- {amounts.moment(moment)} {text}" for moment, text in sorted(at))


def _told(runbook: str, who: str) -> str:
    return f"{escaped(runbook)} by {escaped(who)}"
