"""The commands that a hint names, so that they can be pasted: with the options that were given."""

import re
import shlex
from collections.abc import Mapping, Sequence

_COMMAND = re.compile(r"`(opskit ([a-z]+)[^`]*)`")
_GIVEN: Mapping[str, tuple[str, ...]] = {
    "--store": ("--store",),
    "-i": ("-i", "--inventory"),
}
_TAKES: Mapping[str, frozenset[str]] = {
    "--store": frozenset({"status", "runs", "output", "note", "report", "audit", "resume",
                          "retry", "abort", "undo"}),
    "-i": frozenset({"hosts"}),
}  # fmt: skip
"""The commands that a hint names and that make no sense without these options."""


def pasted(hint: str, argv: Sequence[str]) -> str:
    """Put the options that were given into the commands of a hint, so that these can be pasted."""

    def filled(match: re.Match[str]) -> str:
        more = ""
        for option, spellings in _GIVEN.items():
            value = _value_of(argv, spellings)
            if value and match[2] in _TAKES[option] and f" {option} " not in match[1]:
                more += f" {option} {shlex.quote(value)}"
        return f"`{match[1]}{more}`"

    return _COMMAND.sub(filled, hint)


def _value_of(argv: Sequence[str], spellings: Sequence[str]) -> str:
    words = before_dashes(argv)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in spellings:
            return following
        for long in (name for name in spellings if word.startswith(f"{name}=")):
            return word.removeprefix(f"{long}=")
    return ""


def before_dashes(argv: Sequence[str]) -> list[str]:
    """Return the words that are ours: after `--` come those of another command."""
    words = list(argv)
    return words[: words.index("--")] if "--" in words else words
