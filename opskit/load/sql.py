"""What stands wrongly in the SQL of a step: what can't be bound, and what a read must not say."""

import re
from collections.abc import Iterator

from opskit.load.reading import Written
from opskit.model.frozen import frozen
from opskit.model.runbook import Step
from opskit.render import TemplateError, bindings, sql

_RAW = re.compile(r"\|\s*raw\b")


@frozen
class Slip:
    """What is wrong at `offset` of the text, and what to write."""

    offset: int
    what: str
    write: str
    warn: bool = False


def found(step: Step, written: Written) -> Iterator[Slip]:
    """Yield what is wrong with SQL as it stands in a step: statements, or one condition."""
    if written.type == "predicate":
        return condition(written.text, clocks=written.key == "live")
    return slips(step, written.text)


def condition(text: str, *, clocks: bool) -> Iterator[Slip]:
    """Yield what keeps a text from being one condition; `clocks`: it may ask the time."""
    from opskit.render.removals import condition_problem

    try:
        problems = bindings.sql_problems(text)
        neutral, holes = bindings.neutral(text)
    except TemplateError:
        return  # reported as a name problem already
    for one in problems:
        yield Slip(offset=one.offset, what=one.what, write=one.write)
    wrong = condition_problem(neutral, clocks=clocks)
    if wrong is not None and not problems:
        offset = bindings.offset_in(text, holes, wrong[0])
        yield Slip(offset=offset, what=wrong[1], write=wrong[2])


def slips(step: Step, text: str) -> Iterator[Slip]:
    """Yield what is wrong with the SQL of a step; it is an error wherever it is found."""
    try:
        problems = bindings.sql_problems(text)
        neutral, holes = bindings.neutral(text)
    except TemplateError:
        return  # reported as a name problem already
    for one in problems:
        yield Slip(offset=one.offset, what=one.what, write=one.write)
    for match in re.finditer(_RAW, text):
        told = "`raw` puts a value into SQL as it is"
        yield Slip(offset=match.start(), what=told, write="make sure who may set it", warn=True)
    alone = step.args.get("transaction") == "none"
    locks_out = step.args.get("lock_out") is True
    wrong = sql.judged(neutral, read=step.effect == "read", alone=alone, locks_out=locks_out)
    if wrong is not None and not problems:
        offset = bindings.offset_in(text, holes, wrong[0])
        yield Slip(offset=offset, what=wrong[1], write=wrong[2])
