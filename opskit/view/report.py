"""A run as Markdown, for the post-mortem: who, why, what, when, on which host, how it ended."""

import re
from collections.abc import Iterable, Iterator, Sequence

from opskit.model.event import Entry
from opskit.model.plan import Plan
from opskit.model.run import Run
from opskit.view import amounts, names, safe, works
from opskit.view.labels import Labels, elsewhere
from opskit.view.lines import reason, said, took
from opskit.view.status import interrupted
from opskit.view.summary import question, standing

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown(run: Run, entries: Iterable[Entry], plan: Plan | None = None) -> str:
    """Tell a run from its record."""
    labels = Labels(plan)
    entries = tuple(entries)
    lines = [
        *_facts(run, entries),
        *_standing(run, plan),
        *_steps(run, labels),
        *_people(entries, labels),
        *_timeline(entries, labels),
        *(_plan(plan) if plan else ()),
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", safe.one_line(text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _facts(run: Run, entries: Sequence[Entry]) -> Iterator[str]:
    title = escaped(" ".join(filter(None, (run.runbook, run.version))))
    took = f", {amounts.duration(run.ended - run.created)}" if run.ended else ""
    yield from (f"# {title}: {run.state}", "")
    facts = {
        "Run": f"`{run.id}` ({run.kind})",
        "Who": f"{escaped(run.who)} from {escaped(run.origin) or 'here'}",
        "Why": escaped(run.reason) or "no reason was given",
        **({"Change windows": f"overridden: {escaped(run.override)}"} if run.override else {}),
        "Began": amounts.moment(run.created),
        "Ended": f"{amounts.moment(run.ended)}{took}" if run.ended else "not yet",
        "Plan digest": f"`{run.plan}`",
        "Record": _head_of_chain(entries),
    }
    yield from table(("", ""), ((f"**{name}**", value) for name, value in facts.items()))


def _head_of_chain(entries: Sequence[Entry]) -> str:
    if not entries:
        return "no entries"
    return f"{amounts.count(len(entries), 'entry', 'entries')}, last hash `{entries[-1].hash[:16]}`"


def _standing(run: Run, plan: Plan | None) -> Iterator[str]:
    yield from ("", "## What is true now", "")
    if at := elsewhere(plan):
        yield f"- It works at {escaped(names.listed(at, 200))} alone; no host is touched"
    for state, hosts in standing(run, plan).items():
        yield f"- **{state}**: {escaped(' '.join(names.ranges(hosts)))}"
    if run.question is not None and not interrupted(run):
        yield f"- **waits for an answer**: {escaped(question(run.question))}"


def _steps(run: Run, labels: Labels) -> Iterator[str]:
    yield from ("", "## Steps", "")
    records = sorted(run.actions.values(), key=lambda r: r.started or run.created)
    rows = [
        (
            amounts.clock(r.started) if r.started else "",
            escaped(r.host),
            escaped(labels.step(r)) + (" (undo)" if r.undoes else ""),
            f"**{r.state}**" if r.state in ("failed", "unknown", "undo failed") else r.state,
            took(r.data),
            escaped(reason(r.data)),
        )
        for r in records
    ]
    yield from table(("Began", "Host", "Step", "Outcome", "Took", "Why"), rows)
    undone = [r for r in records if r.state == "undone"]
    if undone:
        yield from ("", "## What was undone", "")
        yield from (f"- {escaped(r.host)}: {escaped(labels.step(r))}" for r in undone)


def _people(entries: Iterable[Entry], labels: Labels) -> Iterator[str]:
    kinds = ("decided", "plan amended", "note", "waiting", "run resumed")
    told = [entry for entry in entries if entry.event.kind in kinds]
    if told:
        yield from ("", "## Questions, decisions and notes", "")
    for entry in told:
        word, what = said(entry.event, labels)
        where = f" ({entry.event.host})" if entry.event.host else ""
        yield f"- {amounts.clock(entry.at)} **{word.lower()}**{escaped(where)} {escaped(what)}"


def _timeline(entries: Iterable[Entry], labels: Labels) -> Iterator[str]:
    yield from ("", "## Timeline", "")
    yield from ("What ended, and when. `opskit audit log` has every entry.", "")
    for entry in entries:
        if entry.event.kind in ("step started", "host opened"):
            continue
        word, what = said(entry.event, labels)
        host = f" {escaped(entry.event.host)}:" if entry.event.host else ""
        yield f"- {amounts.moment(entry.at)}{host} {word} {escaped(what)}".rstrip()


def _plan(plan: Plan) -> Iterator[str]:
    """Quote what each step ran, once, as it was for its first host."""
    yield from ("", "## What the steps were", "")
    seen: set[str] = set()
    for action in plan.actions:
        if action.position in seen:
            continue
        seen.add(action.position)
        stage = plan.stages[action.position]
        yield from (f"{escaped(stage.position)} {escaped(stage.name)} ({stage.effect}):", "")
        yield from ("    " + line for line in works.lines(action.work))
        yield ""
