"""The command that brings a secret: in bounded time, with bounded output, ended with all it began.

It has a session of its own, and so no terminal: a command that asks somebody gets no answer.
"""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

LARGEST = 1024 * 1024
"""Bytes; what prints more is no secret."""
_PIECE = 64 * 1024


class NothingError(Exception):
    """A command that brought nothing; its text says why."""


def brought(command: str, seconds: float) -> str:
    """Return what a command prints, less its last newline; NothingError where it fails."""
    end = time.monotonic() + seconds
    process = subprocess.Popen(  # noqa: S602 - the inventory's owner wrote this line for a shell
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        with _ended_with_us(process):
            printed = _printed(process, end, seconds)
    except BaseException:  # Ctrl-C, too
        _end(process)
        raise
    finally:
        assert process.stdout is not None
        process.stdout.close()
    if process.returncode != 0:
        raise NothingError(f"its command ended with status {process.returncode}")
    try:
        return printed.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise NothingError("what its command prints is not UTF-8") from None


def _printed(process: "subprocess.Popen[bytes]", end: float, seconds: float) -> bytes:
    assert process.stdout is not None
    printed = bytearray()
    late = f"its command took longer than {seconds:.3g} s"
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(printed) <= LARGEST:
            left = end - time.monotonic()
            if left <= 0 or not selector.select(left):
                if process.poll() is not None:
                    late += " (it has ended; what it began keeps its output open)"
                raise NothingError(late)
            piece = os.read(process.stdout.fileno(), _PIECE)
            if not piece:
                break
            printed += piece
        else:
            raise NothingError(f"its command prints more than {LARGEST >> 20} MiB")
    try:
        process.wait(max(0.1, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise NothingError(late) from None
    return bytes(printed)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it, and all that it began and that has not left its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def _ended_with_us(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End it where opskit is ended meanwhile: a terminal that closes does not reach it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, _: FrameType | None) -> None:
        _end(process)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    ours = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, ended)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
