"""What is known of a matter that a person decides, in lines."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence

from opskit.model.codec import to_json
from opskit.model.finding import Finding
from opskit.model.run import Run
from opskit.model.value import Json
from opskit.view import margins, safe

_WORDS = {
    "record": "the record says",
    "output": "it printed",
    "host": "asked now",
    "done_when": "done_when now",
    "dest": "its place now",
}


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each finding: where it is from, and what that says; what was printed as it
    was."""
    for one in findings:
        lead = f"  {_WORDS[one.source]:<16}"
        if one.says:
            host = f"{one.host}: " if one.host else ""
            yield f"{lead} {safe.one_line(host + one.says)}"
        elif one.lines:
            yield lead.rstrip()
        yield from (f"    | {safe.stripped(line)}" for line in one.lines)


def text(
    run: Run,
    asked: str,
    findings: Sequence[Finding],
    meanings: Mapping[str, str],
    *,
    given: str,
    columns: int | None = None,
) -> str:
    """Say what a run asks, what is known of it, and how it is answered."""
    room = max((len(choice) for choice in meanings), default=0)
    said = [
        safe.visible(asked),
        *lines(findings),
        *(f"  {choice:<{room}}  {what}" for choice, what in meanings.items()),
    ]
    answer = f"Answer: opskit decide {shlex.quote(run.id)} CHOICE [--reason TEXT]{given}"
    return margins.text("".join(f"{one}\n" for one in said), columns) + f"{answer}\n"


def json(
    run: Run,
    asked: str,
    findings: Sequence[Finding],
    meanings: Mapping[str, str],
    *,
    wanting: Collection[str],
) -> dict[str, Json]:
    """Return the same as an object; `wanting`: the choices that want a reason."""
    question = run.question or {}
    choices: list[Json] = [
        {"choice": choice, "means": what, "reason": choice in wanting}
        for choice, what in meanings.items()
    ]
    return {
        "event": "question",
        "run": run.id,
        **{name: question.get(name) for name in ("why", "key", "host", "step")},
        "question": asked,
        "evidence": [to_json(one) for one in findings],
        "choices": choices,
    }
