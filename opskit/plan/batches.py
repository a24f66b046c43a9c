"""How hosts are split into batches, and how many may fail."""

from collections.abc import Sequence

from opskit.errors import InputError


def amount(written: str, of: int, *, least: int) -> int:
    """Return what `3` or `25%` means for `of` hosts: rounded down, but not under `least`."""
    number = written.strip()
    if number.endswith("%"):
        return max(least, of * int(number[:-1]) // 100)
    return max(least, int(number))


def split(hosts: Sequence[str], sizes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Split hosts into batches of the sizes given; the last size repeats."""
    if not sizes:
        raise InputError("a runbook needs at least one batch size", hint="batches: [100%]")
    batches: list[tuple[str, ...]] = []
    rest = list(hosts)
    while rest:
        size = amount(sizes[min(len(batches), len(sizes) - 1)], len(hosts), least=1)
        batches.append(tuple(rest[:size]))
        rest = rest[size:]
    return tuple(batches)
