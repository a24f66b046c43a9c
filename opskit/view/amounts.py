"""Times, durations and sizes as people read them. All clock times are UTC, as run ids are."""

from datetime import UTC, datetime
from functools import lru_cache


def clock(at: float) -> str:
    """Return a time of day, such as 08:15:00Z."""
    return _clock(int(at))


@lru_cache(maxsize=16)
def _clock(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ")


def moment(at: float) -> str:
    """Return date and time to the second, such as 2026-11-22 08:15:00Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration(seconds: float) -> str:
    """Return a duration: 8ms, 0.3s, 42s, 1:32, 1:02:03."""
    if 0 < seconds < 0.0995:
        return f"{max(1, round(seconds * 1000))}ms"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(seconds: float) -> str:
    """Return how long ago something was, in one unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now" if seconds < 2 else f"{int(seconds)} s ago"


def size(count: int) -> str:
    """Return a number of bytes with a decimal unit."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5 or unit == "TB":
            break
    return f"{amount:.0f} {unit}" if amount >= 99.5 else f"{amount:.1f} {unit}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 host, 3 hosts."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
