"""How a value is written where it stands: as itself, as one shell word, inside a URL."""

import ipaddress
import json
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


class Identifier(str):
    """The quoted name of a table or column (`| identifier`), which stands in SQL as it is."""

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


MARK = "\0"
"""Around each bound value in rendered SQL; nothing else there can have it."""
BOUND_LIMIT = 16 * 1024 * 1024
"""Bytes of one bound value."""


def sql(value: object) -> str:
    """Write a value as one that is bound: between marks, as JSON."""
    if isinstance(value, (Raw, Identifier)):
        return plain(str(value))
    written = _as_sql(value)
    if written is not None and len(written.encode(errors="surrogateescape")) > BOUND_LIMIT:
        raise TemplateError(
            f"a value of more than {BOUND_LIMIT // 2**20} MiB stands in SQL → load it by `run`"
        )
    return f"{MARK}{json.dumps(written)}{MARK}"


def _as_sql(value: object) -> str | None:
    """Return a value as the text from which PostgreSQL reads one; lists are arrays."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return "{" + ",".join(map(_element, value)) + "}"
    if isinstance(value, Mapping):
        return _json(value)
    return _utf8(plain(value))


def _element(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "{" + ",".join(map(_element, value)) + "}"
    written = _as_sql(value)
    if written is None:
        return "NULL"
    return '"' + written.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: Mapping[object, object]) -> str:
    try:
        return _utf8(plain(json.dumps(value, ensure_ascii=False, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise TemplateError(f"a mapping can't be written as JSON: {error}") from error


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateError("a value is not UTF-8, which is what goes to a database") from None
    return text


def identifier(value: object) -> Identifier:
    """Quote the name of a table or column; a list is a name with its schema before it."""
    if isinstance(value, (list, tuple)):
        return Identifier(".".join(identifier(one) for one in value))
    written = _utf8(plain(value))
    if not written or len(written.encode()) > _NAME_LIMIT:
        raise TemplateError(
            f"{written[:70]!r} can't be an identifier → 1 to {_NAME_LIMIT} bytes; a schema goes"
            " before it as {{ [schema, table] | identifier }}"
        )
    return Identifier('"' + written.replace('"', '""') + '"')


_NAME_LIMIT = 63
"""Bytes that PostgreSQL keeps of a name; the rest it drops, so that another may be meant."""


def no_words(_: object) -> Raw:
    """Refuse `words` where shell words mean nothing."""
    raise TemplateError("`words` is for shell text → write = ANY({{ list }})")


def argument(value: object) -> str:
    """Write a value as (a piece of) one argument of a command, which may have any character."""
    if isinstance(value, (Raw, Identifier)):
        raise TemplateError("an argument is one whatever is in it → write the expression alone")
    if isinstance(value, (list, tuple, Mapping)):
        raise TemplateError(
            "a list or a mapping stands in an argument → take a value out of it, or use for_each"
        )
    if value is None:
        raise TemplateError("a value that is null stands in an argument → give it a default(...)")
    written = str(value) if not isinstance(value, bool) else plain(value)
    if len(written.encode(errors="surrogatepass")) > BOUND_LIMIT:
        raise TemplateError(
            f"a value of more than {BOUND_LIMIT // 2**20} MiB stands in an argument → load it by"
            " `run`"
        )
    return written


_WILD = re.compile(r"([*?\[\]\\])")


def glob(value: object) -> str:
    """Write a value as itself in a pattern of Redis: nothing in it stands for anything else."""
    return str(value) if isinstance(value, Raw) else _WILD.sub(r"\\\1", argument(value))


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
    "sql": sql,
    "argument": argument,
    "glob": glob,
    "condition": plain,
}
