"""Secrets that are planted, every way in which they may show, and whoever looks for them."""

import base64
import json
import os
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus


@cache
def spellings(value: str) -> Mapping[str, bytes]:
    """Return the ways to write a value that must not be found, each under its name."""
    data = value.encode()
    found = {
        "plain": value,
        "url": quote(value, safe=""),
        "url in lower case": re.sub("%..", lambda m: m[0].lower(), quote(value, safe="")),
        "path of a url": quote(value),
        "form": quote_plus(value),
        "json": json.dumps(value)[1:-1],
        "json in utf-8": json.dumps(value, ensure_ascii=False)[1:-1],
        "json in json": json.dumps(json.dumps(value))[3:-3],
        "shell": value.replace("'", "'\\''"),
        "shell by double quotes": value.replace("'", "'\"'\"'"),
        "hex": data.hex(),
        "HEX": data.hex().upper(),
    }
    ways = {name: text.encode() for name, text in found.items()}
    for shift in range(3):
        first, end = (0, 2, 3)[shift], (8 * (shift + len(data))) // 6
        core = base64.b64encode(b"\0" * shift + data)[first:end]
        ways[f"base64 {shift}"] = core
        ways[f"base64 for urls {shift}"] = core.translate(bytes.maketrans(b"+/", b"-_"))
    for number, line in enumerate(value.splitlines()[1:] and value.splitlines()):
        ways[f"line {number}"] = line.encode()
    return ways


def found_in(data: bytes, values: Iterable[str]) -> list[str]:
    """Say which spellings of which values stand in some bytes, also where lines were folded.

    What has no end of a line in it stands in what is folded, too, wherever it stands in the bytes.
    """
    folded = data.replace(b"\r", b"").replace(b"\n", b"")
    there: dict[bytes, bool] = {}  # many are spelt alike
    found = []
    for value in values:
        for name, way in spellings(value).items():
            if way not in there:
                there[way] = way in (data if b"\n" in way or b"\r" in way else folded)
            if there[way]:
                found.append(f"{value[:6]}… as {name}")
    return found


SPELL = r'''#!{python} -IS
"""Print a secret in every way, across the borders of pipes and buffers: spell NAME (or -)."""
import base64, json, os, re, sys, time
from urllib.parse import quote, quote_plus
name = sys.argv[1]
value = sys.stdin.read() if name == "-" else os.environ[name]
data = value.encode()
lower = re.sub("%..", lambda m: m[0].lower(), quote(value, safe=""))
ways = [value, quote(value, safe=""), quote(value), quote_plus(value), lower, json.dumps(value),
        json.dumps(value, ensure_ascii=False), json.dumps(json.dumps(value)), data.hex(),
        data.hex().upper(), "'" + value.replace("'", "'\\''") + "'",
        "'" + value.replace("'", "'\"'\"'") + "'"]
ways += [base64.b64encode(b"abc"[:n] + data + b"z").decode() for n in range(3)]
ways += [base64.urlsafe_b64encode(b"abc"[:n] + data).decode() for n in range(3)]
ways += [base64.encodebytes(b"header: " + data * 2).decode()]
for stream in (sys.stdout.buffer, sys.stderr.buffer):
    for number, way in enumerate(ways):
        text = way.encode()
        cut = (number * 7) % max(1, len(text))
        stream.write(b"." * (1024 * (number + 1) - cut) + text[:cut])
        stream.flush()
        time.sleep(0.01)
        stream.write(text[cut:] + b"\n")
        stream.flush()
    stream.write(b"." * (65536 - len(data) // 2) + data + b"\n")
    stream.flush()
time.sleep(0.3)
'''
"""A program for the hosts."""


def _bytes(path: str) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while more := os.read(handle, 1 << 17):
            data += more
        return data
    finally:
        os.close(handle)


@dataclass(kw_only=True)
class Watch:
    """Looks at every process of this machine, hosts' included, again and again."""

    values: list[str]
    words: list[str] = field(default_factory=list)
    environs: dict[tuple[int, str, str], str] = field(default_factory=dict)
    """(pid, command, variable) → the value that was seen in the environment."""
    rounds: int = 0

    def __post_init__(self) -> None:
        self.ways = [*{way for value in self.values for way in spellings(value).values()}]

    def look(self) -> None:
        self.rounds += 1
        seen: list[tuple[int, bytes, bytes]] = []
        for name in os.listdir("/proc"):  # noqa: PTH208 - as quickly as it goes
            if name.isdigit() and int(name) != os.getpid():
                with suppress(OSError):
                    words = _bytes(f"/proc/{name}/cmdline")
                    seen.append((int(name), words, b""))
                    seen[-1] = (int(name), words, _bytes(f"/proc/{name}/environ"))
        if self._stands_in(b"\0\0".join(part for _, *parts in seen for part in parts)):
            for pid, words, environ in seen:
                self._process(pid, words, environ)

    def _stands_in(self, data: bytes) -> bool:
        return any(way in data for way in self.ways)

    def _process(self, pid: int, words: bytes, environ: bytes) -> None:
        if self._stands_in(words):
            self.words.append(words.replace(b"\0", b" ").decode(errors="replace")[:300])
        if self._stands_in(environ):
            command = words.replace(b"\0", b" ").decode(errors="replace")
            for item in environ.split(b"\0"):
                for value in self.values:
                    if found_in(item, [value]):
                        name = item.partition(b"=")[0].decode(errors="replace")
                        self.environs[pid, command, name] = value


@contextmanager
def watching(values: Iterable[str]) -> Iterator[Watch]:
    """Look at all processes for as long as this lasts."""
    watch, stop = Watch(values=list(values)), threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            watch.look()
            time.sleep(0.02)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


def store_contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every value of a store, inflated where it was deflated, and the files as they are."""
    for file in sorted(path.parent.glob(f"{path.name}*")):
        if file.is_file():
            yield str(file), file.read_bytes()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        tables = [row[0] for row in connection.execute("select name from sqlite_master "
                                                       "where type = 'table'")]  # fmt: skip
        for table in tables:
            outputs: dict[object, bytes] = {}
            for row in connection.execute(f'select * from "{table}"'):
                for value in row:
                    data = _inflated(value)
                    outputs[row[:4]] = outputs.get(row[:4], b"") + data
                    yield f"{table} of the store", data
    finally:
        connection.close()


def _inflated(value: object) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    with suppress(zlib.error):
        return zlib.decompress(data)
    return data


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a folder on its own file system, with its content."""
    device = folder.lstat().st_dev
    for path in folder.iterdir():
        with suppress(OSError):
            info = path.lstat()
            if path.is_symlink():
                yield str(path), os.fsencode(path.readlink())
            elif path.is_dir() and info.st_dev == device:
                yield str(path), os.fsencode(path.name)
                yield from files_below(path)
            elif path.is_file():
                yield str(path), path.read_bytes()
