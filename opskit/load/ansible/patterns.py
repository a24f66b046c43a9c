"""Hosts as Ansible's inventories write them: `web[01:20:2].example.org:2222`, `[2001:db8::1]:22`.

The expansion of ranges is Ansible's: from the left to the right, ends included, padded with zeros
where the beginning is. What Ansible makes of a mistake (an empty range gives no host, a bound of
two letters is cut) is refused instead.
"""

import re
import string
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

MOST = 10_000
"""So many hosts one inventory may have."""
_BRACKETED = re.compile(r"\[(.+)\]:([0-9]{1,9})")
_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]{1,9})")
_RANGE = re.compile(r"\[([^\[\]]*)\]")
_NUMBERS = re.compile(r"([0-9]{0,9}):([0-9]{1,9})(?::([0-9]{1,9}))?")
_LETTERS = re.compile(r"([A-Za-z]):([A-Za-z])(?::([0-9]{1,9}))?")


class PatternError(ValueError):
    """A host can't be read; `write` says what to write instead."""

    def __init__(self, what: str, write: str) -> None:
        super().__init__(what)
        self.what = what
        self.write = write


class Pattern(NamedTuple):
    """The hosts that one pattern stands for, and the port that it says."""

    names: tuple[str, ...]
    port: int | None


def expand(written: str) -> Pattern:
    """Return the hosts that a pattern stands for; raises PatternError."""
    text, port = _split(written)
    parts = _RANGE.split(text)
    if any(mark in part for part in parts[::2] for mark in "[]"):
        raise PatternError("a bracket without its other half", "write a range as [01:20]")
    choices = [range_of(part) for part in parts[1::2]]
    count = 1
    for choice in choices:
        count *= len(choice)
        if count > MOST:
            raise PatternError(f"it stands for more than {MOST} hosts", "write a smaller range")
    names = [parts[0]]
    for choice, tail in zip(choices, parts[2::2], strict=True):
        names = [f"{name}{one}{tail}" for name in names for one in choice]
    return Pattern(tuple(names), port)


def _split(written: str) -> tuple[str, int | None]:
    """Take the port off; an IPv6 address has one only behind brackets."""
    match = _BRACKETED.fullmatch(written)
    if match is None and is_ipv6(_RANGE.sub("1", written)):
        return written, None
    if match is None and re.fullmatch(r"\[[0-9A-Fa-f:.]*::?[0-9A-Fa-f:.]*\]", written):
        address = written[1:-1]
        if is_ipv6(address):
            raise PatternError("an address in brackets must have a port", f"[{address}]:22")
    match = match or _PORT.fullmatch(written)
    if match is None:
        return written, None
    port = int(match[2])
    if not 0 < port < 65536:
        raise PatternError("the port is none", "a number from 1 to 65535")
    return match[1], port


def range_of(text: str) -> Sequence[str]:
    """Return what stands for a range such as `01:20`, `1:9:2` or `a:f`; raises PatternError."""
    if match := _LETTERS.fullmatch(text):
        first, last = (string.ascii_letters.index(letter) for letter in match.group(1, 2))
        numbers = range(first, last + 1, _step(match[3]))
        found: Sequence[str] = [string.ascii_letters[number] for number in numbers]
    elif match := _NUMBERS.fullmatch(text):
        begin, end = match[1] or "0", match[2]
        width = len(begin) if begin[0] == "0" and len(begin) > 1 else 0
        if width and width != len(end):
            raise PatternError("the ends of a padded range differ in length", "as in [01:20]")
        counted = range(int(begin), int(end) + 1, _step(match[3]))
        if len(counted) > MOST:
            raise PatternError(f"it stands for more than {MOST} hosts", "write a smaller range")
        found = [str(number).zfill(width) for number in counted]
    else:
        raise PatternError("this is no range", "[FIRST:LAST] or [FIRST:LAST:STEP], as in [01:20]")
    if not found:
        raise PatternError("an empty range", "write the smaller end first")
    return found


def _step(written: str | None) -> int:
    step = int(written or "1")
    if step < 1:
        raise PatternError("a range with a step of 0", "write a step of 1 or more")
    return step


def is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
