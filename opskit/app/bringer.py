"""The command that brings a secret: in bounded time, with bounded output, ended with all it began.

It has a session of its own, and so no terminal: a command that asks somebody gets no answer.
"""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

LARGEST = 1024 * 1024
"""Bytes; what prints more is no secret."""
_PIECE = 64 * 1024
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NothingError(Exception):
    """A command that brought nothing; its text says why."""


def brought(command: str, seconds: float) -> str:
    """Return what a command prints, less its last newline; NothingError where it fails."""
    end = time.monotonic() + seconds
    with _begun(command) as process:
        printed = _printed(process, end, seconds)
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
def _begun(command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Begin it, and end it where opskit is ended meanwhile: a terminal that closes does not
    reach it."""
    with _signals() as known:
        process = subprocess.Popen(  # noqa: S602 - the inventory's owner wrote this line for a shell
            command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            known(process)
            yield process
        except BaseException:  # Ctrl-C, too
            _end(process)
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def _signals() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    """Hold signals back until what has been begun is known, so that nobody leaves it behind."""
    began: list[subprocess.Popen[bytes]] = []
    came: list[int] = []

    def arrived(number: int, frame: FrameType | None) -> None:
        former = before[number]
        if not began:
            came.append(number)
        elif callable(former):
            former(number, frame)
        else:
            _end(began[0])
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def known(process: "subprocess.Popen[bytes]") -> None:
        began.append(process)
        while came:
            signal.raise_signal(came.pop(0))

    main = threading.current_thread() is threading.main_thread()
    found = {int(number): signal.getsignal(number) for number in _ENDING if main}
    before = {
        number: former
        for number, former in found.items()
        if former is signal.SIG_DFL or callable(former)
    }
    for number in before:
        signal.signal(number, arrived)
    try:
        yield known
    finally:
        for number, former in before.items():
            signal.signal(number, former)
        while came:  # it could not be begun
            signal.raise_signal(came.pop(0))
