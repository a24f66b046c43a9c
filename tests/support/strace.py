"""What a process of opskit does to its store, seen and (where wanted) spoilt from outside."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_LINE = re.compile(r"(?P<pid>\d+) +(?P<at>\d+\.\d+) (?P<call>.*)")
_WRITE = re.compile(r'pwrite64\(\d+<(?P<file>[^>]*)>, "(?P<data>[^"]*)"')
_SYNC = re.compile(r"f(?:data)?sync\(\d+<(?P<file>[^>]*)>")
_TOOK = re.compile(r"= 0 .*<(?P<seconds>[\d.]+)>$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """Bytes for a file, at a time (seconds since 1970) when they are not on the disk yet."""

    thread: int
    file: str
    at: float
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Sync:
    """A file was brought to the disk; began and ended in seconds since 1970."""

    thread: int
    file: str
    began: float
    ended: float


def program() -> str:
    """Return the path of strace: installed if that can be done here, else the test is skipped."""
    if shutil.which("strace") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        words = ["apt-get", "install", "-y", "-qq", "strace"]
        subprocess.run(words, capture_output=True, timeout=120, check=False)
    found = shutil.which("strace")
    if found is None:
        pytest.skip("there is no strace here, and only root could install it")
    return found


def words(log: Path, *more: str) -> list[str]:
    """Return what stands before a command whose writes and syncs are to be logged."""
    calls = "trace=pwrite64,fdatasync,fsync"
    how = ["-f", "--seccomp-bpf", "-qq", "-y", "-ttt", "-T", "-xx", "-s", "70000", "-e", calls]
    return [program(), *how, "-o", str(log), *more]


def read(log: Path) -> Iterator[Write | Sync]:
    """Yield writes and syncs that succeeded, in the order in which they began."""
    begun: dict[str, tuple[float, str]] = {}
    found: list[Write | Sync] = []
    for line in log.read_text().splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        at, call, pid = float(match["at"]), match["call"], match["pid"]
        if call.endswith("<unfinished ...>"):
            begun[pid] = at, call
            continue
        if "resumed>" in call and pid in begun:
            at, first = begun.pop(pid)
            call = first.removesuffix("<unfinished ...>") + call.partition("resumed>")[2]
        found += _call(int(pid), at, call)
    yield from sorted(found, key=lambda one: one.began if isinstance(one, Sync) else one.at)


def _call(thread: int, at: float, call: str) -> Sequence[Write | Sync]:
    if write := _WRITE.match(call):
        file, data = _text(write["file"]).decode(), _text(write["data"])
        return [Write(thread=thread, file=file, at=at, data=data)]
    sync, took = _SYNC.match(call), _TOOK.search(call)
    if sync and took:
        file = _text(sync["file"]).decode()
        ended = at + float(took["seconds"])
        return [Sync(thread=thread, file=file, began=at, ended=ended)]
    return []


def _text(hexed: str) -> bytes:
    return bytes.fromhex(hexed.replace("\\x", ""))
