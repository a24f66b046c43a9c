"""Runbooks and runs as tables."""

from collections.abc import Iterator, Sequence

from opskit.model.run import HostState, Run
from opskit.model.runbook import Param, Runbook
from opskit.model.value import Json
from opskit.steps.units import duration
from opskit.view import amounts, safe, summary
from opskit.view.margins import fitted
from opskit.view.paint import PLAIN, Paint


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    paint: Paint = PLAIN,
    columns: int | None = None,
) -> str:
    """Line up cells; lines are cut at `columns`, where these are given."""
    clean = [[safe.one_line(cell) for cell in row] for row in rows]
    widths = [max(safe.width(row[n]) for row in (head, *clean)) for n in range(len(head))]
    widths[-1] = 0
    lines = [_row(head, widths), *(_row(row, widths) for row in clean)]
    if columns is not None:
        lines = [safe.cut(line, columns) for line in lines]
    lines[0] = paint.bold(lines[0])
    return "".join(line + "\n" for line in lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell + " " * (width - safe.width(cell)) for cell, width in zip(cells, widths, strict=True)
    )
    return "  ".join(padded).rstrip()


def runbooks(
    found: Sequence[Runbook],
    broken: Sequence[str] = (),
    *,
    paint: Paint = PLAIN,
    columns: int | None = None,
) -> str:
    """List runbooks with what each is for, then the names of broken ones."""
    if not found and not broken:
        return "No runbooks here. `opskit init` makes a folder with one.\n"
    rows = [(item.name, item.version, item.summary) for item in found]
    rows += [(name, "", f"broken: `opskit lint {name}` says where") for name in broken]
    indent = max(len(name) for name, *_ in (("NAME",), *rows)) + 2
    indent += max(len(version) for _, version, *_ in (("", "VERSION"), *rows)) + 2
    text = table(("NAME", "VERSION", "WHAT IT DOES"), rows, paint=paint)
    return "".join(
        f"{part}\n" for line in text.splitlines() for part in fitted(line, columns, indent)
    )


def runbook(item: Runbook, *, paint: Paint = PLAIN, columns: int | None = None) -> str:
    """Describe one runbook: what it does, what it wants, which steps it has."""
    lines = [f"{paint.bold(safe.one_line(item.name))} {safe.one_line(item.version)}"]
    lines += [*fitted(safe.visible(item.summary.strip()), columns, 0), ""]
    lines.append(f"file      {safe.one_line(item.file)}")
    if item.owner:
        lines.append(f"owner     {safe.one_line(item.owner)}")
    lines.append(f"hosts     {safe.one_line(item.hosts)}, in batches of {', '.join(item.batches)}")
    lines.append(f"failures  {_failures(item)}")
    if item.lock:
        lines.append(f"lock      {safe.one_line(item.lock)}")
    if item.params:
        lines += ["", paint.bold("Parameters"), *_params(item.params, columns)]
    lines += ["", paint.bold("Steps"), *_steps(item, columns)]
    return "\n".join(lines) + "\n"


def _failures(item: Runbook) -> str:
    many = "a host fails" if item.max_failures == "0" else f"more than {item.max_failures} fail"
    then = {"undo": "everything is undone", "ask": "a person is asked"}
    return f"if {many}, {then.get(item.on_failure, 'the run stops')}"


def _params(params: Sequence[Param], columns: int | None) -> Iterator[str]:
    for param in params:
        kind = "/".join(param.choices) if param.choices else param.type
        told = f"-p {param.name}={kind.upper()}  {param.help}{_need(param)}"
        yield from fitted("  " + safe.one_line(told), columns, 6)


def _need(param: Param) -> str:
    """Say what stands where it is not given, as it would be typed; nothing is not worth a word."""
    if param.required:
        return " (required)"
    found = param.default
    if param.type == "duration" and isinstance(found, (int, float)):
        found = duration(found)
    if isinstance(found, bool):
        found = str(found).lower()
    return "" if found is None or found == "" else f" (default {found})"


def _steps(item: Runbook, columns: int | None) -> Iterator[str]:
    for step in (*item.steps, *item.always):
        undo = f" · undo: {len(step.undo)}" if step.undo else ""
        when = " · preflight" if step.phase == "preflight" else ""
        name = safe.one_line(step.name)
        line = f"  {step.position:>4} {step.effect:<7} {name} ({step.kind}){when}{undo}"
        yield from fitted(line, columns, 15)


def runs(
    found: Sequence[Run], now: float, *, paint: Paint = PLAIN, columns: int | None = None
) -> str:
    """List runs, as they came: what changed, by whom, how it ended."""
    if not found:
        return "No runs. (Dry runs are listed with --all.)\n"
    rows = [
        (
            run.id,
            amounts.ago(now - run.created),
            summary.state(run),
            summary.title(run),
            hosts(run),
            run.who,
            run.reason,
        )
        for run in found
    ]
    return table(
        ("RUN", "WHEN", "STATE", "RUNBOOK", "HOSTS", "WHO", "REASON"),
        rows,
        paint=paint,
        columns=columns,
    )


def hosts(run: Run) -> str:
    """Count the hosts of a run by where they stand."""
    counts: dict[HostState, int] = {}
    for state in run.hosts.values():
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{counts[state]} {state}" for state in summary.ORDER if state in counts)


def runbook_json(item: Runbook) -> dict[str, Json]:
    """Return a runbook as an object."""
    return {
        "kind": "runbook",
        "name": item.name,
        "version": item.version,
        "summary": item.summary,
        "owner": item.owner,
        "file": item.file,
        "hosts": item.hosts,
        "batches": list(item.batches),
        "params": [
            {
                "name": param.name,
                "type": param.type,
                "required": param.required,
                "default": param.default,
                "choices": list(param.choices),
                "help": param.help,
            }
            for param in item.params
        ],
        "steps": [
            {"position": s.position, "name": s.name, "kind": s.kind, "effect": s.effect}
            for s in (*item.steps, *item.always)
        ],
    }
