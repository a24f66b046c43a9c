"""SQL that may be shown: what its values were, nobody sees."""

from collections.abc import Iterator

from opskit.render.sql import Token, tokens

MASK = "?"
_HIDDEN = frozenset({"string", "escaped", "dollar", "number"})
_BLANK = frozenset({"space", "comment", "block"})
_LONGEST = 300


def masked(text: str, longest: int = _LONGEST) -> str:
    """Write a statement on one line, each literal as `?`, less its comments.

    The text may be cut anywhere. Where a string has a backslash, nobody but the session knows where
    it ends, so the rest is left out. What SET gives a setting needs no quotes, and is left out too.
    """
    shown = " ".join("".join(_pieces(text)).split())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _pieces(text: str) -> Iterator[str]:
    words = 0
    setting = False
    for token in tokens(text):
        if token.kind in _BLANK:
            yield " "
            continue
        words += 1
        setting = token.key == "set" if words == 1 else setting
        if setting and (token.text == "=" or (token.key == "to" and words > 2)):
            yield f"{token.text} {MASK}"
            return
        yield MASK if token.kind in _HIDDEN else _plain(token)
        if token.kind == "string" and "\\" in token.text:
            yield " …"
            return


def _plain(token: Token) -> str:
    return token.text if token.text.isprintable() else " "
