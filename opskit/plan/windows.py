"""Whether changes may be made at a time, by what the inventory says; and when they may be again."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from opskit.errors import RefusedError
from opskit.model.frozen import frozen
from opskit.model.plan import Plan
from opskit.model.windows import DAYS, Freeze, Window

_DAYS = 15
"""How many days are searched for the begin of a window: each comes once a week, but for a short one
that falls into the hour that a clock leaves out."""


@frozen
class Shut:
    """Why no change may be made now, where that is said, and when one may (None: never again)."""

    why: str
    where: str
    opens: datetime | None

    @property
    def again(self) -> str:
        if self.opens is None:
            return "no window opens again"
        return f"changes may be made from {moment(self.opens)} on"


def shut(plan: Plan, now: float) -> Shut | None:
    """Tell whether changes of a plan may not be made now (seconds since the epoch, UTC)."""
    if not plan.windows and not plan.freezes:
        return None
    at = datetime.fromtimestamp(now, UTC)
    found = _frozen(plan, at) or _outside(plan, at)
    if found is None:
        return None
    why, where = found
    return Shut(why=why, where=where, opens=_opens(plan, at))


def moment(at: datetime) -> str:
    """Write a time of a window as people of its place do, with its offset from UTC."""
    return f"{DAYS[at.weekday()].capitalize()} {at:%Y-%m-%d %H:%M} {_zone(at)}"


def _zone(at: datetime) -> str:
    zone = at.tzinfo
    return zone.key if isinstance(zone, ZoneInfo) else "UTC"


def _frozen(plan: Plan, at: datetime) -> tuple[str, str] | None:
    for freeze in plan.freezes:
        begin, end = _span(freeze)
        if begin <= at < end:
            return f"changes are frozen until {moment(end)}: {freeze.reason}", freeze.place
    return None


def _outside(plan: Plan, at: datetime) -> tuple[str, str] | None:
    if not plan.windows or any(_within(window, at) for window in plan.windows):
        return None
    here = at.astimezone(_clocks(plan.windows[0]))
    hours = "; ".join(dict.fromkeys(written(window) for window in plan.windows))
    return f"{moment(here)} is outside of the change windows ({hours})", plan.windows[0].place


def _within(window: Window, at: datetime) -> bool:
    return any(begin <= at < end for begin, end in _spans(window, at, back=1, days=2))


def _opens(plan: Plan, at: datetime) -> datetime | None:
    """Return the first moment from which changes may be made."""
    if not plan.windows:
        starts: Iterable[datetime] = _ends(plan.freezes)
    else:
        starts = _openings(plan, at)
    for one in sorted((one for one in starts if one > at), key=datetime.timestamp):
        if _frozen(plan, one) is None and _outside(plan, one) is None:
            return one
    return None


def _openings(plan: Plan, at: datetime) -> Iterator[datetime]:
    """Yield when windows open, and when freezes end, as one may end within a window."""
    for since in (at, *_ends(plan.freezes)):
        yield since
        for window in plan.windows:
            for begin, _ in _spans(window, since, back=0, days=_DAYS):
                yield begin


def _ends(freezes: Iterable[Freeze]) -> Iterator[datetime]:
    for freeze in freezes:
        yield _span(freeze)[1]


def _span(freeze: Freeze) -> tuple[datetime, datetime]:
    zone = _clocks(freeze)
    begin, end = (datetime.fromisoformat(one) for one in (freeze.begin, freeze.end))
    return _shown(begin.replace(tzinfo=zone)), _shown(end.replace(tzinfo=zone))


def _clocks(of: Window | Freeze) -> tzinfo:
    """Return the time zone of a window; UTC needs no machine that knows any."""
    if of.timezone == "UTC":
        return UTC
    try:
        return ZoneInfo(of.timezone)
    except (KeyError, ValueError, OSError):  # the run was planned elsewhere
        raise RefusedError(
            f"there is no time zone {of.timezone!r} on this machine, so nobody can tell whether"
            " changes may be made now",
            where=of.place,
            hint="install the time zones of the system (tzdata), or go on from another machine",
        ) from None


def _spans(
    window: Window, at: datetime, *, back: int, days: int
) -> Iterator[tuple[datetime, datetime]]:
    """Yield when the window is open around a time, from so many days before that."""
    zone = _clocks(window)
    first = at.astimezone(zone).date() - timedelta(days=back)
    for each in (first + timedelta(days=n) for n in range(days)):
        if each.weekday() in window.days:
            over = window.end <= window.begin
            yield (
                _clock(each, window.begin, zone),
                _clock(each + timedelta(days=1) if over else each, window.end, zone),
            )


def _clock(day: date, minute: int, zone: tzinfo) -> datetime:
    """Return when a clock there shows that; where it is set, the first time that it does."""
    whole, rest = divmod(minute, 24 * 60)
    return _shown(datetime.combine(day + timedelta(days=whole), time(*divmod(rest, 60)), zone))


def _shown(at: datetime) -> datetime:
    """Take what a clock never shows, as it is set forward, for the time that it jumps over to."""
    return at.astimezone(UTC).astimezone(at.tzinfo)


def written(window: Window) -> str:
    """Write a window as `mon-fri 09:00-17:00 Europe/Berlin`."""
    return (
        f"{_runs(window.days)} {window.begin // 60:02}:{window.begin % 60:02}"
        f"-{window.end // 60:02}:{window.end % 60:02} {window.timezone}"
    )


def _runs(days: tuple[int, ...]) -> str:
    runs: list[list[int]] = []
    for day in days:
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(
        DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs
    )
