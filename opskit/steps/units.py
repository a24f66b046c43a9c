"""Durations and sizes as people write them."""

import math
import re

_DURATION = r"(?a)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?"
_FACTORS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_SIZE = r"([0-9]{1,15})\s?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)?"
_UNITS = {
    "B": 1,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
}
LONGEST = 366 * 86400.0
"""Seconds. No wait, time-out or age is meant to be longer: it would be a slip, such as ms for s."""
SHORTER = "a duration of at most 366d; a longer one is taken for a slip, such as ms for seconds"


def seconds_of(written: str) -> float | None:
    """Read `10s`, `1h30m`, `250ms` or a number of seconds; None when it is none of these.

    Neither is what is too long: `instead_of` tells the two apart.
    """
    seconds = span_of(written)
    return seconds if seconds is not None and seconds <= LONGEST else None


def instead_of(written: str, usual: str) -> str:
    """Say what to write for something that is no duration: `usual`, or a shorter one."""
    return usual if span_of(written) is None else SHORTER


def span_of(written: str) -> float | None:
    """Read a duration, however long."""
    if re.fullmatch(_NUMBER, written):
        seconds = float(written)
    else:
        match = re.fullmatch(_DURATION, written)
        if not match or not written:
            return None
        seconds = sum(
            float(part) * factor
            for part, factor in zip(match.groups(), _FACTORS, strict=True)
            if part
        )
    return seconds if math.isfinite(seconds) else None


def amount_of(written: str) -> float | None:
    """Read a number of anything, however large, or a duration as its seconds."""
    return float(written) if re.fullmatch(_NUMBER, written) else seconds_of(written)


def bytes_of(written: str) -> int | None:
    """Read `64MiB`, `10kB` or a number of bytes; None when it is none of these."""
    match = re.fullmatch(_SIZE, written)
    return int(match[1]) * _UNITS[match[2] or "B"] if match else None


def figure(number: float) -> str:
    """Write a number in digits, however many it takes: `1249900000`, `80.5`; six if it is small."""
    whole = abs(number) >= 1e6 or number == int(number)
    return f"{number:.0f}" if whole and abs(number) < 1e21 else f"{number:g}"


def duration(seconds: float) -> str:
    """Write seconds the way a person would: `1h30m`, `10s`, `250ms`."""
    if seconds and seconds < 1:
        return f"{round(seconds * 1000)}ms"
    whole = int(seconds)
    if whole >= 2 * 86400 and not whole % 86400 and seconds == whole:
        return f"{whole // 86400}d"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]
    if rest or seconds != whole or not whole:
        parts.append(f"{rest + seconds - whole:g}s")
    return "".join(parts)
