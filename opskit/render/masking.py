"""SQL that may be shown: what its values were, nobody sees."""

from collections.abc import Iterator

from opskit.render.sql import Token, tokens

MASK = "?"
_HIDDEN = frozenset({"string", "escaped", "dollar", "number"})
_BLANK = frozenset({"space", "comment", "block"})
_GIVES = frozenset({"set", "alter", "create"})
_LONGEST = 300


def masked(text: str, longest: int = _LONGEST) -> str:
    """Write a statement on one line, each literal as `?`, less its comments.

    The text may be cut anywhere. Where a string has a backslash, nobody but the session knows where
    it ends, so the rest is left out. What a setting is given needs no quotes, and is left out too,
    whether SET gives it or ALTER and CREATE do for a role, a database or a function.
    """
    shown = " ".join("".join(_pieces(text)).split())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _pieces(text: str) -> Iterator[str]:
    verb = ""
    since = 0  # words after SET; 0 before it
    given = False
    for token in tokens(text):
        if token.kind in _BLANK:
            yield " "
            continue
        if token.text == ";":
            verb, since, given = "", 0, False
        if given:
            if token.kind == "string" and "\\" in token.text:
                return
            continue
        verb = verb or token.key
        if since or (token.key == "set" and verb in _GIVES):
            since += 1
        given = since > 1 and (token.text == "=" or (token.key == "to" and since > 2))
        yield MASK if token.kind in _HIDDEN else _plain(token)
        if given:
            yield f" {MASK}"
        elif token.kind == "string" and "\\" in token.text:
            yield " …"
            return


def _plain(token: Token) -> str:
    return token.text if token.text.isprintable() else " "
