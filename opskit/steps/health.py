"""`health`: a check that is OK, WARN, CRIT or UNKNOWN.

No answer, no number and a status that no plug-in should have are UNKNOWN, never OK. OK and WARN
succeed, CRIT fails, UNKNOWN is unknown; `judge` says which from what came back.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from opskit.errors import InputError
from opskit.model.activity import Activity
from opskit.model.bloat import Bloat
from opskit.model.job import Output
from opskit.model.problem import Problem
from opskit.model.queues import Queues
from opskit.model.runbook import Effect, Step
from opskit.model.text import Fixed, Text, text
from opskit.model.value import Json
from opskit.model.work import (
    PING,
    Command,
    Duplicates,
    Limits,
    Query,
    RedisCall,
    Request,
    Verify,
    Work,
)
from opskit.steps import http
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_number,
    a_text,
    a_word,
    is_template,
    mapping,
    optional,
    problem,
    refuse,
    texts,
)
from opskit.steps.verdict import verdict
from opskit.steps.weighing import LEVELS, Level, limit, weighed

SEVERITIES = ("P0", "P1", "P2", "P3")
"""From the worst to the least."""
SUMMARY = "Check something: OK, WARN, CRIT or UNKNOWN. No data is UNKNOWN."
KEYS = (
    Key("label", "text", help="what is checked; without it the step's name"),
    Key("run", "shell", help="shell text that prints a number, or a plug-in with status 0 to 3"),
    Key("sql", "sql", help="a read whose rows are a number, or a word and a number, each"),
    Key("database", "text", help="with `sql`: its name in the inventory, where that has several"),
    Key("redis", "commands", help="reads of Redis whose answers are a number each, as LLEN celery"),
    Key("info", "text", help="a figure of Redis: a field of its INFO; `hit_rate`, `memory`, "
        "`clients`, in percent; `ping`, in ms; `version`, 60209 for 6.2.9"),
    Key("window", "duration", minimum=0, help="with `info`: what it comes to within this time; "
        "5s for `hit_rate`, else what it is"),
    Key("server", "text", help="with `redis`, `info`: its name, where the inventory has several"),
    Key("warn", "text", help="when the number is a WARN, such as `< 20`"),
    Key("crit", "text", help="when the number is a CRIT, such as `< 10`"),
    Key("url", "url", help="page to ask for; what `expect` says and it does not is a CRIT"),
    Key("headers", "map", help="header → value to send"),
    Key("expect", "table", keys=http.EXPECT, help="what the answer must be, JSON values included"),
    Key("warn_latency", "duration", help="an answer that takes longer is a WARN"),
    Key("via", "enum", choices=("controller", "host"), help="where to ask from"),
    Key("severity", "enum", choices=SEVERITIES, help="how bad it is where it is not OK"),
    Key("next", "text", help="what to do next where it is not OK, such as the runbook to use"),
    Key("system", "text", help="whose limit it is"),
    Key("spec", "text", help="the check as JSON with these keys, as an inventory has it: `tojson`"),
    Key("base", "text", help="with `spec`: what comes before its `path` to make the `url`"),
)  # fmt: skip
MAIN = "run"
EFFECT: Effect = "read"
SCOPE: Scope = "each"

WAYS = ("run", "sql", "redis", "info", "url", "spec")
ONCE = ("sql", "redis", "info")
"""What asks a server of the inventory, and is asked once whatever hosts there are."""
BEARING = ("severity", "next", "system")
_NOT_DATA = {"spec", "base", "via", "expect"}
SPEC = frozenset(
    {
        "path",
        "send",
        *(k.name for k in http.EXPECT),
        *(k.name for k in KEYS if k.name not in _NOT_DATA),
    }
)
"""What a check that is data may have."""
_SAID = 200
_WINDOW = 5.0
"""Seconds in which it is counted what was found in a cache."""
_ONCE = "a server is asked once, and this step is done for each host"
_NO_LIMIT = "nothing says which number would be wrong"

_COMPARE = """\
printf '%s\\n' "$said" | label=$label awk -v warn="$warn" -v crit="$crit" '
  BEGIN { label = ENVIRON["label"] }
  function beyond(limit,  part) {
    if (limit == "") return 0
    split(limit, part, " ")
    if (part[1] == "<") return value < part[2] + 0
    if (part[1] == "<=") return value <= part[2] + 0
    if (part[1] == ">") return value > part[2] + 0
    if (part[1] == ">=") return value >= part[2] + 0
    if (part[1] == "==") return value == part[2] + 0
    return value != part[2] + 0
  }
  NR == 1 && $1 ~ /^[-+]?[0-9]+([.][0-9]+)?%?$/ { value = $1 + 0; found = 1; shown = $0 }
  END {
    if (!found) { print "UNKNOWN " label ": no number"; exit 3 }
    if (beyond(crit)) { print "CRIT " label ": " shown " (" crit ")"; exit 2 }
    if (beyond(warn)) { print "WARN " label ": " shown " (" warn ")"; exit 0 }
    print "OK " label ": " shown
  }'
"""
_PLUGIN = """\
case $status in
  0) level=OK ;; 1) level=WARN status=0 ;; 2) level=CRIT ;; *) level=UNKNOWN status=3 ;;
esac
printf '%s %s: %s\\n' "$level" "$label" "$(printf '%s\\n' "$said" | head -n 1)"
exit "$status"
"""


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "undo", "done_when", "creates", "unless", "save")
    asked = [key for key in WAYS if key in step.args]
    if len(asked) != 1:
        said = " and ".join(asked) or "none"
        yield problem(
            step, "health", f"one of {', '.join(WAYS)} is needed, not {said}", "write one"
        )
    for key in ("warn", "crit"):
        written = step.args.get(key)
        if written is None or is_template(written):
            continue
        if not any(way in step.args for way in ("run", *ONCE)):
            told = f"`{key}` is for numbers that `run` prints or a server brings"
            yield problem(step, key, told, "take it out")
        elif limit(str(written)) is None:
            yield problem(step, key, f"{written!r} is no limit", "write for example '< 10'")
    if any(way in step.args for way in ONCE):
        yield from _check_once(step)
    if step.on_unknown == "ask":
        yield problem(
            step, "on_unknown", "UNKNOWN is a result here, not a question", "add on_unknown: fail"
        )


def _check_once(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "stdin", "cwd", "sudo", "secrets", "silent")
    if "warn" not in step.args and "crit" not in step.args:
        way = next(way for way in ONCE if way in step.args)
        yield problem(step, way, _NO_LIMIT, "add warn or crit")
    if step.on.scope != "controller":
        yield problem(step, "on", _ONCE, "add on: controller")


def opened(args: Mapping[str, Value], step: Step) -> dict[str, Value]:
    """Put the keys of a check that is data (`spec`) in its place."""
    return {**args, **(_from_spec(args, step) if args.get("spec") is not None else {})}


def work(args: Mapping[str, Value], step: Step) -> Work:
    label = optional(args.get("label"), "label") or text(step.name)
    bearing = {key: a_word(args[key], step, key) for key in BEARING if args.get(key) is not None}
    if bearing.get("severity", "P0") not in SEVERITIES:
        raise InputError(
            f"`severity` came to {bearing['severity'][:60]!r}",
            where=str(step.place),
            hint=f"write one of {', '.join(SEVERITIES)}",
        )
    return replace(_work(args, label, step), bearing=bearing)


def _work(
    args: Mapping[str, Value], label: Text, step: Step
) -> Command | Query | RedisCall | Request:
    if args.get("run") is not None:
        return _command(a_text(args["run"], "run"), label, args, step)
    if args.get("sql") is not None:
        return _query(label.fixed(), args, step)
    if args.get("redis") is not None or args.get("info") is not None:
        return _redis(label.fixed(), args, step)
    if args.get("url") is None:
        raise InputError("this check has neither run nor url nor a server", where=str(step.place))
    request = http.work(
        {k: v for k, v in args.items() if k in ("url", "headers", "expect", "via")}, step
    )
    late = args.get("warn_latency")
    return replace(
        request,
        check=label,
        expect=replace(
            request.expect,
            warn_latency=None if late is None else a_number(late, step, "warn_latency"),
        ),
    )


def _command(run: Text, label: Text, args: Mapping[str, Value], step: Step) -> Command:
    """Wrap the text that looks: weigh the number it prints, or take it for a plug-in."""
    limits = {key: _a_limit(args.get(key), key, step) for key in ("warn", "crit")}
    numeric = any(limits.values())
    head = "".join(f"{key}={shlex.quote(value)}\n" for key, value in limits.items())
    head += f"label={shlex.quote(label.fixed())}\nset +e\nsaid=$(\nset -e\n"
    failed = (
        "if [ $status -ne 0 ]; then\n"
        '  echo "UNKNOWN $label: it could not be looked at (exit status $status)"\n  exit 3\nfi\n'
    )
    tail = "\n)\nstatus=$?\nset -e\n" + (failed + _COMPARE if numeric else _PLUGIN)
    parts = (Fixed(text=head), *run.parts, Fixed(text=tail))
    weighed = "".join(f"; {key.upper()} {limit}" for key, limit in limits.items() if limit)
    return Command(text=Text(parts=parts), check=label, summary=str(run).strip() + weighed)


def _query(label: str, args: Mapping[str, Value], step: Step) -> Query:
    return Query(
        text=a_text(args["sql"], "sql"),
        database=a_word(args["database"], step, "database"),
        rows="json",
        kept=True,
        check=_limits(label, args, step),
    )


def _redis(label: str, args: Mapping[str, Value], step: Step) -> RedisCall:
    figure = "" if args.get("info") is None else a_word(args["info"], step, "info")
    window = args.get("window")
    seconds = (_WINDOW if figure == "hit_rate" else 0.0) if window is None else window
    asks = text("PING" if figure == PING else "INFO")
    rows = args["redis"] if not figure else ((asks,),)
    return RedisCall(
        server=a_word(args["server"], step, "server"),
        commands=tuple(texts(row, "redis") for row in rows) if isinstance(rows, tuple) else (),
        check=_limits(label, args, step),
        figure=figure,
        window=a_number(seconds, step, "window") if figure else 0.0,
    )


def _limits(label: str, args: Mapping[str, Value], step: Step) -> Limits:
    """Return when a number of a server is wrong; what asks one is asked once."""
    if step.on.scope != "controller":
        raise InputError(_ONCE, where=str(step.place), hint="add on: controller")
    if args.get("warn") is None and args.get("crit") is None:
        raise InputError(f"{label}: {_NO_LIMIT}", where=str(step.place), hint="add warn or crit")
    return Limits(
        label=label,
        warn=_a_limit(args.get("warn"), "warn", step),
        crit=_a_limit(args.get("crit"), "crit", step),
    )


def _a_limit(value: Value, key: str, step: Step) -> str:
    if value is None:
        return ""
    written = a_word(value, step, key)
    found = limit(written)
    if found is None:
        raise InputError(
            f"`{key}` came to {written[:80]!r}",
            where=str(step.places.get(f"health.{key}", step.place)),
            hint="write for example '< 10'",
        )
    return found


def _from_spec(args: Mapping[str, Value], step: Step) -> dict[str, Value]:
    """Read a check that an inventory has as data."""
    written = a_word(args["spec"], step, "spec")
    where = str(step.places.get("health.spec", step.place))
    try:
        spec = json.loads(written)
    except ValueError:
        spec = None
    if not isinstance(spec, dict):
        raise InputError(
            f"this is no check: {written[:80]}", where=where, hint="hand it on with tojson"
        )
    unknown = sorted(spec.keys() - SPEC)
    if unknown:
        raise InputError(
            f"a check has no {unknown[0]!r}",
            where=where,
            hint=f"it may have {', '.join(sorted(SPEC))}",
        )
    found = {key: _as_value(value) for key, value in spec.items()}
    if "path" in found:
        found["url"] = text(_base(args, step) + a_word(found.pop("path"), step, "spec"))
    expect = {k.name: found.pop(k.name) for k in http.EXPECT if k.name in found}
    if "send" in found:
        found["headers"] = {**mapping(args.get("headers")), **mapping(found.pop("send"))}
    return found | ({"expect": expect} if expect else {})


def _base(args: Mapping[str, Value], step: Step) -> str:
    if args.get("base") is None:
        raise InputError("a check with a `path` needs `base`", where=str(step.place))
    return a_word(args["base"], step, "base")


def _as_value(data: Json) -> Value:
    if isinstance(data, str):
        return text(data)
    if isinstance(data, Mapping):
        return {str(key): _as_value(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return tuple(_as_value(value) for value in data)
    assert data is None or isinstance(data, (bool, int, float))
    return data


def is_check(work: Work) -> bool:
    """Tell whether a work is a health check, whose missing answer means UNKNOWN."""
    return answers(work) or (isinstance(work, (Command, Request)) and work.check is not None)


def answers(work: Work) -> bool:
    """Tell whether a work is a look that says a level itself, or nothing is known."""
    return isinstance(work, (Verify, Duplicates, Activity, Queues, Bloat)) or (
        isinstance(work, (Query, RedisCall)) and work.check is not None
    )


def judge(work: Work, output: Output) -> Output:
    """Turn what came back for a check into OK, WARN (both succeed), CRIT (failed) or UNKNOWN."""
    if answers(work) and output.lost:
        return output  # it may be taken again: what it comes to is judged then
    if isinstance(work, Command) and work.verdict:
        return verdict(output)
    if answers(work) and output.evidence.get("refused"):
        return replace(output, evidence={**output.evidence, "level": "UNKNOWN"})
    if isinstance(work, (Verify, Duplicates, Activity, Queues, Bloat)):
        known = str(output.evidence.get("level", ""))
        level = _of_word(known)
        name = work.server if isinstance(work, Queues) else work.database
        reason = output.reason if known else f"{level} {name}: {output.reason}"
    elif isinstance(work, (Query, RedisCall)) and work.check is not None:
        level, what = weighed(work.check, output)
        reason = f"{level} {work.check.label}: {what}"
    elif isinstance(work, Command) and work.check is not None:
        said = output.stdout.decode(errors="replace").strip().partition("\n")[0][:_SAID]
        level = _of_word(said.partition(" ")[0])
        reason = said or f"{level} {work.check.fixed()}: {output.reason}"
    elif isinstance(work, Request) and work.check is not None:
        level = _of_answer(work, output)
        why = _lateness(work, output) if level == "WARN" else output.reason
        reason = f"{level} {work.check.fixed()}" + (f": {why}" if why else "")
    else:
        return output
    evidence = {**output.evidence, "level": level}
    if isinstance(work, (Command, Query, RedisCall, Request)) and work.bearing:
        evidence |= work.bearing
        severity = work.bearing.get("severity", "")
        reason += f" [{severity}]" if severity and level != "OK" else ""
    return replace(output, outcome=_OUTCOMES[level], reason=reason, evidence=evidence)


_OUTCOMES: Mapping[Level, Literal["succeeded", "failed", "unknown"]] = {
    "OK": "succeeded",
    "WARN": "succeeded",
    "CRIT": "failed",
    "UNKNOWN": "unknown",
}


def _of_word(word: str) -> Level:
    """The level that opskit's own text around a check printed; none when it never got there."""
    return next((level for level in LEVELS if level == word), "UNKNOWN")


def _of_answer(work: Request, output: Output) -> Level:
    if "status" not in output.evidence:
        return "UNKNOWN"  # nothing was answered, so nothing is known
    if output.outcome != "succeeded":
        return "CRIT"
    return "WARN" if _lateness(work, output) else "OK"


def _lateness(work: Request, output: Output) -> str:
    """Say by how much an answer was too late, "" when it was not."""
    took, limit = output.evidence.get("latency_ms"), work.expect.warn_latency
    if limit is None or not isinstance(took, (int, float)) or took <= limit * 1000:
        return ""
    return f"answered in {took:.0f} ms (> {limit * 1000:.0f} ms)"
