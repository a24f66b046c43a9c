"""Colour: five meanings, and none at all where nobody wants it."""

import re

from opskit.model.frozen import frozen

_SGR = re.compile(r"\x1b\[[0-9;]*m")

_STYLES = {
    "succeeded": "32",
    "ok": "32",
    "done": "32",
    "holds": "32",
    "failed": "1;31",
    "FAILED": "1;31",
    "unreachable": "1;31",
    "undo failed": "1;31",
    "unknown": "1;35",
    "UNKNOWN": "1;35",
    "waiting": "33",
    "WAITING": "33",
    "STOPPED": "33",
    "SILENT": "33",
    "begun": "33",
    "excluded": "33",
    "undone": "36",
    "running": "34",
    "aborted": "33",
    "change": "33",
}


@frozen
class Paint:
    """Puts colour on words; with `colour` off it returns them as they are."""

    colour: bool = False

    def _sgr(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colour and text else text

    def bold(self, text: str) -> str:
        return self._sgr(text, "1")

    def dim(self, text: str) -> str:
        return self._sgr(text, "2")

    def warn(self, text: str) -> str:
        return self._sgr(text, "33")

    def bad(self, text: str) -> str:
        return self._sgr(text, "1;31")

    def good(self, text: str) -> str:
        return self._sgr(text, "32")

    def state(self, text: str, word: str | None = None) -> str:
        """Colour a text by the state that it (or `word`) names."""
        return self._sgr(text, _STYLES.get((word or text).strip(), ""))


PLAIN = Paint()


def bare(text: str) -> str:
    """Return a painted text without its colour."""
    return _SGR.sub("", text)
