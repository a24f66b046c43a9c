"""A tap on everything that is sent to hosts: each `sh` that a login asks for is heard and recorded.

A wrapper before the real sh in PATH passes on what comes, byte by byte, and keeps a copy with the
time. So a test sees what arrived at a host, not what opskit believes that it has sent.
"""

import base64
import json
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.drivers.session import shim
from opskit.lab import Lab

FOLDER = "/var/tmp/tap"
RECORDER = """\
import base64, json, os, subprocess, sys, time
words = sys.argv[2:]
shell = subprocess.Popen(["/bin/sh", *words], stdin=subprocess.PIPE)
with open(f"{sys.argv[1]}/{os.getpid()}.{time.time_ns()}", "w") as log:
    while True:
        data = os.read(0, 65536)
        said = {"at": time.time_ns(), "data": base64.b64encode(data).decode()}
        log.write(json.dumps(said) + "\\n")
        log.flush()
        if not data:
            break
        try:
            shell.stdin.write(data)
            shell.stdin.flush()
        except BrokenPipeError:
            break
try:
    shell.stdin.close()
except BrokenPipeError:
    pass
sys.exit(shell.wait())
"""
WRAPPER = """\
#!/bin/sh
[ "$#" = 0 ] || exec /bin/sh "$@"
exec {python} -IS {folder}/recorder.py {folder}/heard
"""
READS = frozenset({"_o_hello", "_o_read"})
"""What may be asked of a host that nothing is to be changed on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One request to a host's shell, `at` when (ns of this machine's clock, which hosts share).

    `shell` tells the shells of a host apart.
    """

    host: str
    shell: str
    at: int
    function: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is to be run, of a read or a change."""
        return self.words[4] if self.function == "_o_read" else self.words[6]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tap:
    """Wrappers on the hosts of a lab, and one for the shells of this machine in `folder`."""

    lab: Lab
    hosts: tuple[str, ...]
    folder: Path

    def clear(self) -> None:
        """Forget what was heard."""
        for host in self.hosts:
            self._on(host, f"rm -f {FOLDER}/heard/*")
        for file in (self.folder / "heard").iterdir():
            file.unlink()

    def frames(self) -> list[Frame]:
        """Return every request that was sent to any host, in the order of their ends."""
        found = [f for host in self.hosts for f in _frames(host, self._logs(host))]
        own = {p.name: p.read_text() for p in (self.folder / "heard").iterdir()}
        return sorted([*found, *_frames("controller", own)], key=lambda frame: frame.at)

    def _logs(self, host: str) -> Mapping[str, str]:
        logs: dict[str, str] = {}
        for line in self._on(host, f"cd {FOLDER}/heard && grep -H . * 2>/dev/null").splitlines():
            name, _, said = line.partition(":")
            logs[name] = logs.get(name, "") + said + "\n"
        return logs

    def _on(self, host: str, line: str) -> str:
        out = self.lab.exec(host, ["/bin/sh", "-c", line]).stdout
        return bytes(out).decode()


@contextmanager
def tapped(lab: Lab, folder: Path) -> Iterator[Tap]:
    """Listen on every host of a lab, and (with `folder`/bin before PATH) on this machine."""
    tap = Tap(lab=lab, hosts=tuple(host.name for host in lab.layout.hosts), folder=folder)
    own = WRAPPER.format(python=sys.executable, folder=folder)
    for path in (folder / "bin", folder / "heard"):
        path.mkdir(parents=True)
    (folder / "recorder.py").write_text(RECORDER)
    (folder / "bin" / "sh").write_text(own)
    (folder / "bin" / "sh").chmod(0o755)
    try:
        for host in tap.hosts:
            _install(lab, host)
        yield tap
    finally:
        for host in tap.hosts:
            with suppress(Exception):  # the host of a failed test may be down
                lab.exec(host, ["/bin/rm", "-rf", "/usr/local/bin/sh", FOLDER])
        shutil.rmtree(folder)


def _install(lab: Lab, host: str) -> None:
    wrapper = WRAPPER.format(python=lab.layout.python, folder=FOLDER)
    line = (
        f"mkdir -p {FOLDER}/heard && chmod 1777 {FOLDER}/heard && "
        f"printf %s {shlex.quote(RECORDER)} >{FOLDER}/recorder.py && "
        f"printf %s {shlex.quote(wrapper)} >/usr/local/bin/sh && chmod 755 /usr/local/bin/sh"
    )
    done = lab.exec(host, ["/bin/sh", "-c", line])
    assert done.returncode == 0, done.stderr


# ---- what was heard → requests


def _frames(host: str, logs: Mapping[str, str]) -> Iterator[Frame]:
    for shell, log in logs.items():
        heard = [json.loads(line) for line in log.splitlines()]
        yield from _requests(host, shell, [(h["at"], base64.b64decode(h["data"])) for h in heard])


def _requests(host: str, shell: str, heard: Sequence[tuple[int, bytes]]) -> Iterator[Frame]:
    data = b"".join(piece for _, piece in heard)
    assert not data or data.startswith(shim()), f"{host}: not the shim: {data[:200]!r}"
    at = len(shim())
    while at < len(data):
        end = _line_end(data, at)
        words = _words(data[at:end].decode("utf-8", "surrogateescape"))
        frame = _frame(host, shell, _when(heard, end), words)
        yield frame
        at = end + 1 + (int(frame.words[1]) if frame.function == "_o_take" else 0)


def _frame(host: str, shell: str, at: int, words: Sequence[str]) -> Frame:
    """Make a frame of `_o MARK FUNCTION WORD…`; the first request of a shell has no mark before."""
    if words[0] == "_o_hello":
        return Frame(host=host, shell=shell, at=at, function=words[0], words=tuple(words[1:]))
    assert words[0] == "_o", words[:3]
    return Frame(host=host, shell=shell, at=at, function=words[2], words=tuple(words[3:]))


def _line_end(data: bytes, at: int) -> int:
    """Return where the line ends that begins at `at`: not inside single quotes."""
    quoted = False
    while at < len(data):
        letter = data[at : at + 1]
        if letter == b"'":
            quoted = not quoted
        elif letter == b"\\" and not quoted:
            at += 1
        elif letter == b"\n" and not quoted:
            return at
        at += 1
    raise AssertionError("a request was cut short")


def _words(line: str) -> list[str]:
    """Split a request into its words, less the braces around it."""
    return shlex.split(line.removeprefix("{ ").removesuffix("; }"))


def _when(heard: Sequence[tuple[int, bytes]], end: int) -> int:
    seen = 0
    for at, piece in heard:
        seen += len(piece)
        if seen > end:
            return at
    return heard[-1][0]


# ---- what is on a host


def marks(lab: Lab, host: str) -> Mapping[str, tuple[Any, ...]]:
    """Every path on a host with all that a change of it, or of what is in it, would alter.

    Times of change are among it: a file made and removed again shows in its folder's.
    """
    from opskit.lab import ground

    found: dict[str, tuple[Any, ...]] = {}
    for prefix, folder in ground.of(lab.layout).written(lab.layout, lab.layout.host(host)):
        for path in [folder, *_below(folder)]:
            name = f"{prefix}/{path.relative_to(folder)}"
            if not name.startswith(FOLDER):
                with suppress(FileNotFoundError):
                    found[name] = _mark(path)
    return found


def _mark(path: Path) -> tuple[Any, ...]:
    info = path.lstat()
    if stat.S_ISDIR(
        info.st_mode
    ):  # an overlay notes on its folders what it saw when they were read
        return (info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns)
    return (
        info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_size,
        info.st_mtime_ns, info.st_ctime_ns,
    )  # fmt: skip


def _below(folder: Path) -> Iterator[Path]:
    device = folder.lstat().st_dev
    for path in folder.iterdir():
        yield path
        info = path.lstat()
        if path.is_dir() and not path.is_symlink() and info.st_dev == device:
            yield from _below(path)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Return the paths that are not as they were."""
    names = before.keys() | after.keys()
    return {name for name in names if before.get(name) != after.get(name)}
