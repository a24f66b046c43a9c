"""A run of health checks as metrics: a text for the textfile collector of Prometheus."""

import re
from collections.abc import Iterator, Mapping

from opskit.model.plan import Plan
from opskit.model.run import ActionRecord, Run
from opskit.model.work import Command, Limits, Query, RedisCall, Request
from opskit.view.labels import Labels
from opskit.view.plugin import STATUS, gaps, level_of

_HELP: Mapping[str, str] = {
    "opskit_check_level": "How a check was: 0 OK, 1 WARN, 2 CRIT, 3 UNKNOWN.",
    "opskit_check_value": "The number that a check found; several have a name each.",
    "opskit_check_latency_seconds": "How long a page took to answer.",
    "opskit_checks": "How many checks were so; whatever kept one from being made is UNKNOWN.",
    "opskit_checked_timestamp_seconds": "When the checks were begun.",
}
_NUMBER = re.compile(r"(?:(.*) )?(-?\d+(?:\.\d+)?)%?(?: \(.*\))?")
Samples = dict[str, dict[str, float]]
"""Metric → labels as they are written → value."""


def text(run: Run, plan: Plan) -> str:
    """Return what was found; a check that was not made has no sample."""
    samples: Samples = {name: {} for name in _HELP}
    levels = {record.key: level_of(record) for record in run.actions.values()}
    labels, counts = Labels(plan), dict.fromkeys(STATUS, 0)
    counts["UNKNOWN"] = len(list(gaps(run, levels)))
    for record in run.actions.values():
        level = levels[record.key]
        if level not in STATUS:
            continue
        counts[level] += 1
        about = _about(run, record, labels)
        was = samples["opskit_check_level"].get(_written(about), 0)
        samples["opskit_check_level"][_written(about)] = max(was, STATUS[level])
        for name, value in _values(record, about["check"], labels):
            told = {**about, "name": name} if name else about
            samples["opskit_check_value"][_written(told)] = value
        took = _evidence(record).get("latency_ms")
        if isinstance(took, (int, float)):
            samples["opskit_check_latency_seconds"][_written(about)] = took / 1000
    for level, count in counts.items():
        samples["opskit_checks"][_written({"runbook": run.runbook, "level": level})] = count
    begun = _written({"runbook": run.runbook})
    samples["opskit_checked_timestamp_seconds"][begun] = run.created
    return "".join(_metric(name, found) for name, found in samples.items() if found)


def _metric(name: str, found: Mapping[str, float]) -> str:
    rows = [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"]
    rows += [f"{name}{written} {value:.15g}" for written, value in sorted(found.items())]
    return "".join(f"{row}\n" for row in rows)


def _about(run: Run, record: ActionRecord, labels: Labels) -> Mapping[str, str]:
    """Return the labels of a check: of its severity and system, what it has."""
    given = {key: str(_evidence(record).get(key, "")) for key in ("severity", "system")}
    check = _label(record, labels) or record.step
    return {"runbook": run.runbook, "host": record.host, "check": check,
            **{key: value for key, value in given.items() if value}}  # fmt: skip


def _label(record: ActionRecord, labels: Labels) -> str:
    action = labels.action(record.key)
    work = action.work if action is not None else None
    if not isinstance(work, (Command, Query, RedisCall, Request)) or work.check is None:
        return ""
    return work.check.label if isinstance(work.check, Limits) else str(work.check)


def _values(record: ActionRecord, check: str, labels: Labels) -> Iterator[tuple[str, float]]:
    """Yield the numbers that a check has told, each with its name, if it has one."""
    action = labels.action(record.key)
    if action is None or not isinstance(action.work, (Command, Query, RedisCall)):
        return
    said = str(record.data.get("reason", "")).removesuffix(
        f" [{_evidence(record).get('severity')}]"
    )
    for one in said.removeprefix(f"{level_of(record)} {check}: ").split(", "):
        if match := _NUMBER.fullmatch(one):
            yield match[1] or "", float(match[2])


def _evidence(record: ActionRecord) -> Mapping[str, object]:
    evidence = record.data.get("evidence")
    return evidence if isinstance(evidence, Mapping) else {}


def _written(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items()) + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
