"""How the value of a secret may look in output: as text, in base64, in hex."""

import base64
import re
from collections.abc import Iterator

from opskit.model.frozen import frozen

JOIN = bytes.maketrans(b"-_", b"+/")
"""Before anchors are looked for, output loses its line breaks and its URL-safe base64 letters: one
search then finds both alphabets, and base64 that a tool has folded into lines."""

SHORTEST_LINE = 6
_ALNUM = rb"[0-9A-Za-z]+"
_SHORTEST_ANCHOR = 4
_RARE = 8
"""Letters and digits that stand by chance in next to no output."""
_FOLD = rb"[\r\n]{0,2}"
_BASE64 = rb"[0-9A-Za-z+/_-]"
_JSON_LETTERS = {"\n": b"n", "\r": b"r", "\t": b"t", "\b": b"b", "\f": b"f"}


@frozen
class Form:
    """One way to write a secret.

    `pattern`: a regular expression for it. `width`: the most bytes that it can match. `anchors`:
    output in which none of these stands, once joined, has no match; empty where there are no such.
    """

    pattern: bytes
    width: int
    anchors: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Form(width={self.width})"  # the rest would show the secret


def unfolded(data: bytes) -> bytes:
    """Return bytes without their line breaks; `translate` would take four times as long."""
    return data.replace(b"\n", b"").replace(b"\r", b"")


def forms(value: str) -> Iterator[Form]:
    """Yield every form of a secret, those of its lines included (a key shows up line by line)."""
    yield from _whole(value)
    stripped = value.strip()
    if stripped not in ("", value):
        yield from _whole(stripped)
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (_text(line) for line in lines if len(line) >= SHORTEST_LINE)


def _whole(value: str) -> Iterator[Form]:
    data = value.encode("utf-8", "surrogateescape")
    yield _text(value)
    yield _hex(data)
    yield from (_base64(data, shift) for shift in range(3))


# ---- text: as it is, URL-encoded, quoted for a shell, escaped for JSON, also mixed


def _text(value: str) -> Form:
    parts = list(_characters(value))
    runs = re.findall(_ALNUM, value.encode("utf-8", "surrogateescape"))
    anchor = max(runs, key=len, default=b"")
    return Form(
        pattern=b"".join(pattern for pattern, _ in parts),
        width=sum(width for _, width in parts),
        # Letters and digits stand for themselves in every one of these encodings.
        anchors=(anchor,) if len(anchor) >= _SHORTEST_ANCHOR else (),
    )


def _characters(value: str) -> Iterator[tuple[bytes, int]]:
    """Yield a pattern and its greatest width for each character (or run of backslashes)."""
    for piece in re.findall(r"\\+|.", value, re.DOTALL):
        if piece[0] == "\\":
            yield _backslashes(len(piece))
        elif piece.isascii() and piece.isalnum():
            yield piece.encode(), 1
        else:
            yield _choice(_ways(piece))


def _backslashes(count: int) -> tuple[bytes, int]:
    # As one run: taken one by one, many of them would have too many ways to match.
    encoded = _choice([(rb"%(?:25)?5[cC]", 5), (rb"\\{1,3}u005[cC]", 8)])
    bare = rb"\\{%d,%d}" % (count, 4 * count)
    # The encoded one first: its own first character is a bare one.
    return rb"(?:%s|%s)" % (encoded[0] * count, bare), encoded[1] * count


def _choice(ways: list[tuple[bytes, int]]) -> tuple[bytes, int]:
    ordered = sorted(ways, key=lambda way: -way[1])
    return b"(?:" + b"|".join(p for p, _ in ordered) + b")", ordered[0][1]


def _ways(character: str) -> list[tuple[bytes, int]]:
    raw = character.encode("utf-8", "surrogateescape")
    ways = [(re.escape(raw), len(raw)), _percent(raw)]
    if raw.decode("utf-8", "replace") == character:
        ways.append(_unicode_escapes(character))
    if character.isascii():
        # \" in JSON or a shell, \\\" in JSON within JSON. A literal comes first: `re` skips fast.
        letter = _JSON_LETTERS.get(character) or re.escape(raw)
        ways.append((rb"\\\\{0,2}" + letter, 4))
    if character == " ":
        ways.append((rb"\+", 1))
    if character == "'":
        ways += [(rb"'\\''", 4), (rb"'\"'\"'", 5)]
    if character == "\n":
        ways += [(rb"\r\n", 2), (rb"%0[dD]%0[aA]", 6), (rb"\\r\\n", 4)]
    return ways


def _percent(raw: bytes) -> tuple[bytes, int]:
    return b"".join(rb"%(?:25)?" + _nibbles(b"%02x" % byte) for byte in raw), 5 * len(raw)


def _unicode_escapes(character: str) -> tuple[bytes, int]:
    units = character.encode("utf-16-be").hex().encode()
    codes = [units[i : i + 4] for i in range(0, len(units), 4)]
    return b"".join(rb"\\\\{0,2}u" + _nibbles(code) for code in codes), 8 * len(codes)


def _nibbles(digits: bytes) -> bytes:
    """Return a pattern for hex digits in either case."""
    return b"".join(
        b"[%c%c]" % (digit, digit - 32) if digit >= ord("a") else b"%c" % digit for digit in digits
    )


# ---- hex and base64


def _hex(data: bytes) -> Form:
    pairs = [data[i : i + 1].hex().encode() for i in range(len(data))]
    whole = b"".join(pairs)
    return Form(
        pattern=_FOLD.join(_nibbles(pair) for pair in pairs),
        width=4 * len(data),
        anchors=tuple({whole, whole.upper()}),
    )


def _base64(data: bytes, shift: int) -> Form:
    """Return the form of a secret that stands `shift` bytes after a border of three bytes."""
    first = (0, 2, 3)[shift]
    whole = (8 * (shift + len(data))) // 6
    core = base64.b64encode(bytes(shift) + data)[first:whole]
    run = max(re.findall(_ALNUM, core), key=len, default=b"")
    # The letters at both ends also hold bits of the neighbours: any will do, but they go too.
    before = rb"(?:%s%s)?" % (_BASE64, _FOLD) if shift else b""
    partial = (shift + len(data)) % 3
    after = rb"(?:%s%s)?(?:%s=){0,2}" % (_FOLD, _BASE64, _FOLD) if partial else b""
    letters = [{b"+": rb"[+-]", b"/": rb"[/_]"}.get(c, c) for c in _letters(core)]
    return Form(
        pattern=before + _FOLD.join(letters) + after,
        width=3 * (len(core) + 4),
        # If it can be, one that is the same in both alphabets: output need not be joined for it.
        anchors=(run if len(run) >= _RARE else core,),
    )


def _letters(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]
