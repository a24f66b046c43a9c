"""Commands for a Redis server as they are written → the words of each, every one a template.

A text is cut before anything is rendered, so that no value is ever cut.
"""

from collections.abc import Iterator

from opskit.load.reading import Reader, Written
from opskit.load.yaml import Items, Node, Scalar
from opskit.model.frozen import mutable
from opskit.model.value import Json
from opskit.render import TemplateError
from opskit.render.bindings import neutral

_SPACE = " \t\r\n"
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}
_HEX = frozenset("0123456789abcdefABCDEF")
_EXAMPLE = "write a command such as SET greeting 'good morning', or a list of commands"


class _CutError(ValueError):
    """A text can't be cut into words."""


def read_commands(reader: Reader, node: Node, path: str) -> Json:
    """Read a command, or a list of them; None (and a problem) where there is none."""
    if isinstance(node, Scalar):
        return tuple(_of_text(reader, node, path)) or None
    if not isinstance(node, Items) or not node.nodes:
        reader.error(node, f"`{path}` is no command", _EXAMPLE)
        return None
    if _doubtful(node):
        told = "this may be one command in words, or several commands"
        words = ", ".join(one.text for one in node.nodes if isinstance(one, Scalar))
        reader.error(node, told, f"one: [[{words[:60]}]]; several: a list for each")
        return None
    return tuple(row for one in node.nodes for row in _of_item(reader, one, path)) or None


def _doubtful(node: Items) -> bool:
    """Tell whether a list of single words stands where commands are expected."""
    first = node.nodes[0]
    alone = all(isinstance(one, Scalar) for one in node.nodes) and len(node.nodes) > 1
    return alone and isinstance(first, Scalar) and not set(_SPACE) & set(first.text.strip())


def _of_item(reader: Reader, node: Node, path: str) -> Iterator[tuple[str, ...]]:
    if isinstance(node, Scalar):
        yield from _of_text(reader, node, path)
    elif isinstance(node, Items) and node.nodes:
        words = [_word(reader, one, path) for one in node.nodes]
        yield tuple(word for word in words if word is not None)
    else:
        reader.error(node, f"`{path}` has no command here", _EXAMPLE)


def _word(reader: Reader, node: Node, path: str) -> str | None:
    if not isinstance(node, Scalar) or node.empty:
        reader.error(
            node, "a word of a command must be a single value", 'write "" for an empty one'
        )
        return None
    reader.written.append(Written(path, "argument", node.text, node))
    return node.text


def _of_text(reader: Reader, node: Scalar, path: str) -> Iterator[tuple[str, ...]]:
    """Cut a text: each line is a command."""
    if node.empty or not node.text.strip():
        reader.error(node, f"`{path}` is empty", _EXAMPLE)
        return
    if "{%" in node.text or "{#" in node.text:
        told = "a command that is written as a text can't have {% … %} or {# … #}"
        reader.error(node, told, "write its words as a list: [[SET, KEY, '{% … %}']]")
        return
    reader.written.append(Written(path, "argument", node.text, node))
    try:
        yield from split(node.text)
    except _CutError as error:
        what, _, write = str(error).partition(" → ")
        reader.error(node, what, write)
    except TemplateError:
        return  # reported as a name problem already


def split(text: str) -> list[tuple[str, ...]]:
    """Cut a template into commands and their words, as redis-cli does; an expression is kept whole.

    In double quotes there are `\\n`, `\\r`, `\\t`, `\\"`, `\\\\` and `\\xHH`, in single ones `\\'`.
    """
    plain, holes = neutral(text)
    cutter = _Cutter(
        text=plain, holes={at: "{{" + expression + "}}" for at, (_, expression) in holes.items()}
    )
    return [tuple(row) for row in cutter.rows() if row]


@mutable
class _Cutter:
    """A text being cut; `at` is where."""

    text: str
    holes: dict[int, str]
    at: int = 0

    def rows(self) -> list[list[str]]:
        found: list[list[str]] = [[]]
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == "\n":
                found.append([])
            if letter in _SPACE:
                self.at += 1
            else:
                found[-1].append(self._word())
        return found

    def _word(self) -> str:
        if self.at not in self.holes and self.text[self.at] in "\"'":
            return self._quoted(self.text[self.at])
        pieces = []
        while self.at < len(self.text) and self.text[self.at] not in _SPACE:
            if self.at not in self.holes and self.text[self.at] in "\"'":
                raise _CutError("a quote stands within a word → put all of the word in quotes")
            pieces.append(self._take())
        return "".join(pieces)

    def _take(self) -> str:
        self.at += 1
        return self.holes.get(self.at - 1, self.text[self.at - 1])

    def _quoted(self, quote: str) -> str:
        self.at += 1
        pieces = []
        while self.at < len(self.text):
            letter = self.text[self.at]
            if self.at in self.holes:
                pieces.append(self._take())
            elif letter == quote:
                self.at += 1
                if self.at < len(self.text) and self.text[self.at] not in _SPACE:
                    raise _CutError("a word goes on after its closing quote → put a space there")
                return "".join(pieces)
            elif letter == "\\":
                pieces.append(self._escape(quote))
            else:
                pieces.append(self._take())
        raise _CutError(f"a word begins with {quote} and has no end → close it")

    def _escape(self, quote: str) -> str:
        following = self.text[self.at + 1 : self.at + 2]
        digits = self.text[self.at + 2 : self.at + 4]
        if quote == "'":
            self.at += 2 if following == "'" else 1
            return "'" if following == "'" else "\\"
        if following == "x" and len(digits) == 2 and set(digits) <= _HEX:
            self.at += 4
            return _letter(int(digits, 16))
        self.at += 2
        return _ESCAPES.get(following, following)


def _letter(number: int) -> str:
    """Return a byte as it stands in a template; a brace must not begin an expression there."""
    letter = bytes([number]).decode("utf-8", "surrogateescape")
    return '{{ "{" }}' if letter == "{" else letter
