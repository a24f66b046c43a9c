"""Running a program that prints an inventory: in bounded time, with bounded output, by no shell."""

import os
import selectors
import signal
import stat
import subprocess
import time
from pathlib import Path

from opskit.model.problem import Place, Problem

LARGEST = 16 * 1024 * 1024
_SHOWN = 2000


class Program:
    """A program and how long it may take, over all calls; problems are collected."""

    def __init__(self, path: Path, patience: float, problems: list[Problem]) -> None:
        self.path = path.absolute()
        self.place = Place(file=str(path))
        self.patience = patience
        self.problems = problems
        self._until = time.monotonic() + patience

    def trusted(self) -> bool:
        """Refuse what anybody on this machine may have written."""
        try:
            folder, own = self.path.parent.stat().st_mode, self.path.stat().st_mode
        except OSError as error:
            self._error(f"it can't be looked at: {error.strerror}", "")
            return False
        if own & stat.S_IWOTH:
            self._error("everybody may write to this program", f"chmod o-w {self.path.name}")
        elif folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
            self._error("everybody may put another program in its place", "chmod o-w its folder")
        else:
            return True
        return False

    def output(self, *words: str) -> str | None:
        """Run it and return what it prints; None, and a problem, where it fails."""
        try:
            process = subprocess.Popen(
                [str(self.path), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self._error(f"it can't be run: {error.strerror}", "see its first line")
            return None
        out, err = bytearray(), bytearray()
        try:
            why = self._followed(process, out, err)
            if not why:
                process.wait(max(0.1, self._until - time.monotonic()))
        except subprocess.TimeoutExpired:
            why = self._late()
        finally:
            _end(process)
        if why or process.returncode:
            self._error(f"`{words[0]}` {why or _ended(process.returncode)}{_said(err)}", "")
            return None
        return self._text(bytes(out))

    def _followed(self, process: subprocess.Popen[bytes], out: bytearray, err: bytearray) -> str:
        """Take what it prints until it has no more; say why not all of it was taken."""
        assert process.stdout is not None
        assert process.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, out)
            selector.register(process.stderr, selectors.EVENT_READ, err)
            while selector.get_map():
                left = self._until - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    return self._late()
                for key, _ in ready:
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.data is out:
                        out += data
                    else:
                        err[:] = (err + data)[-_SHOWN:]
                if len(out) > LARGEST:
                    return f"printed more than {LARGEST >> 20} MiB"
        return ""

    def _late(self) -> str:
        return f"took longer than {self.patience:g} s"

    def _text(self, raw: bytes) -> str | None:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self._error("what it printed is not UTF-8", "print JSON in UTF-8")
            return None

    def _error(self, what: str, write: str) -> None:
        self.problems.append(Problem(place=self.place, what=what, write=write))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of it behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        process.kill()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


def _ended(status: int) -> str:
    return f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"


def _said(err: bytearray) -> str:
    """Return its last words."""
    text = bytes(err).decode("utf-8", "replace").strip()
    return f"; it said: {text}" if text else ""
