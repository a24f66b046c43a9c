"""What rows a step will remove, and within which limits, as text."""

from collections.abc import Iterator

from opskit.model.rows import UNLIMITED, Limits, Rows
from opskit.render.removals import Statement, removed
from opskit.steps.units import duration
from opskit.view import amounts, blocks, safe

MIB = 1 << 20


def removal(work: Rows, *, full: bool) -> list[str]:
    """Describe a removal, or what takes it back; `full`: with the statement of a batch."""
    if work.do == "restore":
        return [safe.one_line(f"put back what was removed of {work.chosen.table}")]
    lines = [safe.one_line(line) for line in _lines(work)]
    if full:
        statement = removed(Statement(work.chosen, work.chosen.table, "BEGINNING"), 1)
        lines += blocks.block("sql> ", statement.text, full=True)
    return lines


def _lines(work: Rows) -> Iterator[str]:
    verb = "count what would be removed" if work.probe else "remove rows"
    yield f"{verb} of {work.chosen.table} where {' and '.join(_which(work))}"
    if work.chosen.live is not None:
        yield f"still needed (at most {work.limits.needed} of them): {work.chosen.live}"
    limits = work.limits
    rows = amounts.count(limits.rows, "row")
    yield f"at most {rows} and {limits.share:.0%} of the table, {limits.batch} in a batch"
    if work.probe:
        return
    yield f"no batch begins after {duration(limits.deadline)}"
    yield from _courtesy(limits)
    if work.vacuum:
        yield "VACUUM (ANALYZE) at the end, if more than a fifth of the table is gone"
    yield (
        "what is removed is kept, and undo puts it back"
        if work.archive
        else "THERE IS NO UNDO: what is removed is gone (archive: false)"
    )


def _courtesy(limits: Limits) -> Iterator[str]:
    """Say what is waited for between batches."""
    if limits.wait >= UNLIMITED:
        return  # planned before there was such a thing
    words = [f"a standby is more than {duration(limits.lag)} behind"]
    words += [f"more than {limits.wal / MIB:g} MiB/s of WAL are written"] if limits.wal else []
    words += [f"more than {limits.waiters} sessions wait for a lock"]
    then = f"waits at most {duration(limits.wait)}" if limits.wait else "stops"
    yield f"{then} while {', '.join(words[:-1])} or {words[-1]}"


def _which(work: Rows) -> Iterator[str]:
    chosen = work.chosen
    if chosen.older is not None:
        ago = f"more than {duration(chosen.older)} ago" if chosen.older else "past"
        yield f"{chosen.time} is {ago}"
    if chosen.newer is not None:
        yield f"{chosen.time} is within the last {duration(chosen.newer)}"
    if chosen.where is not None:
        yield str(chosen.where)
