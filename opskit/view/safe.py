"""Text from outside, made harmless for a terminal, and measured in terminal columns."""

import re
import unicodedata
from functools import lru_cache

# Characters that move the cursor, hide text or turn its direction. Newline and tab are kept;
# zero-width joiners too, because scripts and emoji need them and they hide nothing.
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_HARMFUL = f"[{_UNSEEN}]"

# A string sequence (title, clipboard, hyperlink) counts only when it ends on its own line:
# otherwise one stray ESC could swallow everything that follows.
_SEQUENCE = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)


def stripped(text: str) -> str:
    """Return output of a host without escape sequences and control characters."""
    if text.isascii() and text.isprintable():
        return text
    text = re.sub(_SEQUENCE, "", text.replace("\r\n", "\n")).replace("\r", "\n")
    return re.sub(_HARMFUL, "", text)


def visible(text: str) -> str:
    """Return text with every harmful character spelt out, so that a reader sees it is there."""
    if text.isascii() and text.isprintable():
        return text
    return re.sub(_HARMFUL, _spelt, text)


def _spelt(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """Return text as one harmless line: line ends are spelt out too."""
    return visible(text.strip()).replace("\n", "\\n").replace("\t", " ")


def decoded(data: bytes) -> str:
    """Return output as harmless text, whatever its bytes are."""
    return stripped(data.decode("utf-8", "replace"))


@lru_cache(maxsize=1024)
def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def width(text: str) -> int:
    """Count the terminal columns that a line takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, columns: int) -> str:
    """Shorten a line to some columns; an ellipsis says that something is missing."""
    if width(text) <= columns:
        return text
    kept: list[str] = []
    room = columns - 1
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + "…" if columns > 0 else ""


def padded(text: str, columns: int) -> str:
    """Bring a line to exactly some columns."""
    short = cut(text, columns)
    return short + " " * (columns - width(short))
