"""What a look at the sessions of a database, and ending some of them, comes to as text."""

from datetime import UTC, datetime

from opskit.model.activity import Activity, Sessions
from opskit.model.bloat import Bloat
from opskit.steps.units import duration
from opskit.view import amounts, safe


def about(work: Activity | Sessions | Bloat) -> list[str]:
    """Say what is looked at, or who is ended."""
    if isinstance(work, Activity):
        return looks(work)
    return signals(work) if isinstance(work, Sessions) else airs(work)


def looks(work: Activity) -> list[str]:
    """Say what is looked at, and from when on something is too long."""
    window = f"counted for {duration(work.window)}" if work.window else "since they are counted"
    users = f" of {', '.join(work.users)}" if work.users else ""
    shown = [f"look at sessions{users}, who blocks whom, and statements {window}"]
    shown += [
        f"{check}: WARN from {duration(limit.warn)}, CRIT from {duration(limit.crit)}"
        for check, limit in work.limits.items()
        if check not in work.leave_out
    ]
    shown.append(
        f"tables from {work.large:,} rows on: which are read as a whole, and of which more than"
        f" {work.stale:g}% has changed since ANALYZE (WARN)"
    )
    if work.plans:
        shown.append("plan these statements as the role that reads; nothing is carried out")
    if work.leave_out:
        shown.append(f"without the checks {', '.join(work.leave_out)}")
    return [safe.one_line(line) for line in shown]


def airs(work: Bloat) -> list[str]:
    """Say what is estimated, and what is read besides."""
    least, exact = (f"{size / 2**20:g} MiB" for size in (work.least, work.exact))
    limits = f"WARN from more than {work.share:g}% and {least} on"
    shown = [f"estimate how much of each table holds no rows: {limits}"]
    if work.exact:
        shown.append(f"look into what that tells of, up to {exact}, for 5s each at most")
    if work.leave_out:
        shown.append(f"without the checks {', '.join(work.leave_out)}")
    return [safe.one_line(line) for line in shown]


def signals(work: Sessions) -> list[str]:
    """Say whom it is about, each by itself; and that nothing brings them back."""
    count = amounts.count(len(work.targets), "session")
    first = f"{work.do} {count} of {', '.join(work.users)}, all or none"
    if work.probe:
        first = f"see whether it is possible to {first}"
    shown = [first]
    for one in work.targets:
        since = f"does what it does since {_moment(one.since)}"
        shown.append(f"process {one.pid}, there since {_moment(one.began)}, {since}")
    shown.append(f"each as it was listed, and so for {duration(work.older)} at least")
    if work.rest:
        shown.append(f"those that are so even {duration(work.wait)} later are terminated")
    if not work.probe:
        shown.append("there is no undo for this: what was not committed is rolled back")
    return [safe.one_line(line) for line in shown]


def _moment(microseconds: int) -> str:
    try:
        found = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return "a time that is none"
    return found.strftime("%Y-%m-%d %H:%M:%S") + f".{microseconds % 1_000_000:06}Z"
