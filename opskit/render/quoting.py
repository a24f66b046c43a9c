"""How a value is written where it stands: as itself, as one shell word, inside a URL."""

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from urllib.parse import quote

from opskit.model.text import Context

WORD_LIMIT = 64 * 1024
"""Bytes that one rendered shell word may have; larger values go through `stdin` or `upload`."""


class TemplateError(ValueError):
    """A template can't be rendered; the message says why and what to write."""


class Raw(str):
    """Text that its author vouches for (`| raw`); lint reports every use."""

    __slots__ = ()


def plain(value: object) -> str:
    """Write a value as a person would: booleans as YAML has them, nothing for lists and None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        raise TemplateError("a value that is null stands in a text → give it a default(...)")
    written = str(value)  # an undefined name raises here, and says which
    if "\0" in written:
        raise TemplateError("a value has a NUL character, which no command or file name can carry")
    return written


def word(value: object) -> str:
    """Write a value as exactly one shell word, whatever is in it."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, (list, tuple, Mapping)):
        kind = "mapping" if isinstance(value, Mapping) else "list"
        cure = (
            "take a value out of it"
            if kind == "mapping"
            else "write `{{ … | words }}`, a word for each"
        )
        raise TemplateError(f"a {kind} stands in shell text → {cure}")
    written = plain(value)
    if len(written.encode(errors="surrogateescape")) > WORD_LIMIT:
        raise TemplateError(
            f"a value of more than {WORD_LIMIT // 1024} KiB stands in shell text "
            "→ pass it through `stdin:` or `upload`"
        )
    return shlex.quote(written)


def words(values: object) -> Raw:
    """Write each value of a list as one shell word (the filter `words`)."""
    if not isinstance(values, (list, tuple)):
        raise TemplateError("`words` wants a list")
    return Raw(" ".join(word(value) for value in values))


def url(value: object) -> str:
    """Write a value as a piece of a URL; an IPv6 address gets its brackets."""
    if isinstance(value, Raw):
        return str(value)
    written = plain(value)
    if ":" in written:
        try:
            return f"[{ipaddress.IPv6Address(written)}]"
        except ValueError:
            pass
    return quote(written, safe="")


_BASE = r"https?://[!-~]+"


def base(value: str) -> str:
    """Check what an expression at the very start of a URL came to: scheme and host at least."""
    if not re.fullmatch(_BASE, value):
        raise TemplateError(f"{value[:80]!r} is not the beginning of an http:// or https:// URL")
    return value


FINALIZERS: Mapping[Context, Callable[[object], str]] = {
    "plain": plain,
    "word": word,
    "url": url,
    "condition": plain,
}
