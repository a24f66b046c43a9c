"""Standard output and standard error: what may be written to them, and how."""

import codecs
import errno
import os
import sys
from contextlib import suppress
from typing import TextIO

from opskit.view.paint import Paint

_ASCII = {"→": "->", "…": "...", "·": "-", "✓": "+", "✗": "X", "▸": ">", "↶": "u"}


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Spell what the terminal's encoding can't say, instead of failing in the middle of a run."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_ASCII.get(char, f"\\u{ord(char):04x}") for char in bad), error.end


_lost: list[OSError] = []
"""Why output did not arrive where somebody wanted it: a full disk, say."""


def prepare() -> None:
    """Make both streams take any text, also where they were closed before we began (`>&-`)."""
    _lost.clear()
    _fill_gaps()
    codecs.register_error("opskit", _replaced)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="opskit")


def _fill_gaps() -> None:
    """Open what is closed; else the next file or line to a host would be our standard output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def lost() -> OSError | None:
    """Pass on what still waits to be written; return why some of it did not arrive."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # it is closed
            _write(stream, "")
    return _lost[0] if _lost else None


def out(text: str) -> None:
    """Write to standard output, at once. A reader that has gone away is no error."""
    _write(sys.stdout, text)


def err(text: str) -> None:
    """Write to standard error, at once."""
    _write(sys.stderr, text)


def raw(data: bytes, *, error: bool = False) -> None:
    """Write bytes as they are to standard output, or to standard error."""
    stream = sys.stderr if error else sys.stdout
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except OSError as why:
        _gone(stream, why)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _gone(stream, error)


def _gone(stream: TextIO, error: OSError) -> None:
    """Go on without it. A reader that went away, or a terminal that was closed, is no error.

    All else is one (`lost`), but none that may end a run in its middle.
    """
    if error.errno not in (errno.EPIPE, errno.EIO):
        _lost.append(error)
    _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """Send what comes later nowhere: a run goes on although nobody reads its output any more."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, stream.fileno())
    os.close(sink)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Tell whether a stream (by default standard output) is a terminal."""
    try:
        return (stream or sys.stdout).isatty()
    except ValueError:  # closed
        return False


def can_draw() -> bool:
    """Tell whether a picture can be drawn: a terminal that knows how to move its cursor."""
    return is_terminal() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def paint(stream: TextIO | None = None) -> Paint:
    """Return colour for terminals, and none where NO_COLOR is set."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Paint(colour=wanted and is_terminal(stream))


def columns(stream: TextIO | None = None) -> int:
    """Return how wide a stream (by default standard output) is; 80 where it is no terminal."""
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def margin(stream: TextIO | None = None) -> int | None:
    """Return where lines for a person are broken; None where a program reads them."""
    return columns(stream) if is_terminal(stream) else None


def unicode() -> bool:
    """Tell whether standard output can show more than ASCII."""
    return "utf" in (sys.stdout.encoding or "").lower()
