"""Where in shell text an expression must not stand: its quoting would be wrong there."""

import re
from dataclasses import field
from functools import lru_cache

from opskit.model.frozen import frozen, mutable

_ADVICE = {
    "dq": ("inside double quotes", 'end the quotes around it: "text "{{ x }}" text"'),
    "sq": ("inside single quotes", "end the quotes around it: 'text '{{ x }}' text'"),
    "bq": ("inside backquotes", "use $( … ) instead of backquotes"),
    "arith": ("inside $(( … ))", "assign it to a variable first: n={{ x }}; echo $((n + 1))"),
    "brace": ("inside ${ … }", "assign it to a variable first: d={{ x }}; echo ${v:-$d}"),
    "comment": ("in a comment", "take it out: a line break in the value would end the comment"),
    "heredoc": ("in a here-document", "pass the text through `stdin:` or `upload`"),
    "escape": ("right after a backslash or a dollar sign", "put it in a word of its own"),
    "delimiter": ("as the delimiter of a here-document", "write a fixed word"),
}

_IN_COMMAND = re.compile(r"""[^\n<\\'"#()$`]+""")
_PLAIN = {
    "cmd": _IN_COMMAND,
    "paren": _IN_COMMAND,
    "dq": re.compile(r'[^\\"$`]+'),
    "sq": re.compile(r"[^']+"),
    "comment": re.compile(r"[^\n]+"),
    "heredoc": re.compile(r"[^\n]+"),
    "brace": re.compile(r"[^\\}]+"),
    "bq": re.compile(r"[^\\`]+"),
    "arith": re.compile(r"[^\\)]+"),
}
"""By state: characters that mean nothing there, to be taken in at once."""


@frozen
class ShellProblem:
    """An expression at `offset` of the template stands where it can't be quoted safely."""

    offset: int
    what: str
    write: str


@lru_cache(maxsize=1024)
def shell_problems(template: str) -> tuple[ShellProblem, ...]:
    """Find every expression of a shell template that stands where its quoting would be wrong."""
    from opskit.render import engine

    scanner = _Scanner()
    offset = 0
    inside = False
    for _, kind, value in engine.tokens(template):
        found = template.find(value, offset)
        offset = found if found >= 0 else offset
        if kind == "variable_begin":
            scanner.expression(offset)
            inside = True
        elif kind in ("variable_end", "block_end", "comment_end"):
            inside = False
        elif kind in ("block_begin", "comment_begin"):
            inside = True
        elif not inside:
            scanner.text(value)
        offset += len(value)
    return tuple(scanner.problems)


@mutable
class _Scanner:
    """A POSIX shell tokenizer that knows just enough: what kind of quoting a character is in."""

    problems: list[ShellProblem] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    pending: list[tuple[str, bool]] = field(default_factory=list)
    before: str = "\n"
    delimiter: str | None = None
    line: str = ""

    @property
    def state(self) -> str:
        return self.stack[-1] if self.stack else "cmd"

    def expression(self, offset: int) -> None:
        state = self.state
        if state in ("cmd", "paren"):
            state = (
                "delimiter"
                if self.delimiter is not None
                else "escape"
                if self.before in ("\\", "$")
                else ""
            )
        if state:
            what, write = _ADVICE[state]
            self.problems.append(
                ShellProblem(offset=offset, what=f"an expression stands {what}", write=write)
            )
        self.before = "x"
        self.line += "x"

    def text(self, value: str) -> None:
        position = 0
        while position < len(value):
            position += self._step(value, position)

    def _step(self, value: str, at: int) -> int:
        """Take in one token at `at`; return how many characters it had."""
        state = self.state
        plain = _PLAIN[state].match(value, at) if self.delimiter is None else None
        if plain is not None:
            return self._plain(plain[0], state)
        char = value[at]
        match state:
            case "heredoc":
                return self._heredoc(char)
            case "sq":
                return self._until(char, "'")
            case "comment":
                if char == "\n":
                    self.stack.pop()
                    return self._newline()
                return self._take(char)
            case "dq":
                return self._quoted(value, at)
            case "brace" | "bq" | "arith":
                return self._nested(value, at)
            case _:
                return self._command(value, at)

    def _plain(self, run: str, state: str) -> int:
        if state == "heredoc":
            self.line += run
        return self._take(run)

    def _take(self, text: str) -> int:
        self.before = text[-1]
        return len(text)

    def _until(self, char: str, end: str) -> int:
        if char == end:
            self.stack.pop()
        return self._take(char)

    def _escaped(self, value: str, at: int) -> int:
        pair = value[at : at + 2]
        self.before = "x" if len(pair) == 2 else "\\"
        return len(pair)

    def _quoted(self, value: str, at: int) -> int:
        if value[at] == "\\":
            return self._escaped(value, at)
        if value[at] == '"':
            return self._until('"', '"')
        return self._opened(value, at) or self._take(value[at])

    def _opened(self, value: str, at: int) -> int:
        """Enter `$((`, `$(`, `${` or a backquote, if one stands here."""
        for mark, state in (("$((", "arith"), ("$(", "paren"), ("${", "brace"), ("`", "bq")):
            if value.startswith(mark, at):
                self.stack.append(state)
                return self._take(mark)
        return 0

    def _nested(self, value: str, at: int) -> int:
        char = value[at]
        state = self.state
        if char == "\\":
            return self._escaped(value, at)
        if state == "arith" and value.startswith("))", at):
            self.stack.pop()
            return self._take("))")
        if (state, char) in (("brace", "}"), ("bq", "`")):
            return self._until(char, char)
        return self._take(char)

    def _command(self, value: str, at: int) -> int:
        char = value[at]
        if char == "\n":
            return self._newline()
        if self.delimiter is not None:
            return self._delimiter(char)
        if value.startswith("<<", at) and not value.startswith("<<<", at):
            dash = value.startswith("<<-", at)
            self.delimiter = "-" if dash else ""
            return self._take("<<-" if dash else "<<")
        if char == "\\":
            return self._escaped(value, at)
        if char in "'\"":
            self.stack.append("sq" if char == "'" else "dq")
            return self._take(char)
        if char == "#" and self.before in " \t\n;&|(":
            self.stack.append("comment")
            return self._take(char)
        return self._parenthesis(char) or self._opened(value, at) or self._take(char)

    def _parenthesis(self, char: str) -> int:
        if char == "(" and self.before != "$":
            self.stack.append("paren")
            return self._take(char)
        if char == ")" and self.state == "paren":
            self.stack.pop()
            return self._take(char)
        return 0

    def _delimiter(self, char: str) -> int:
        """Collect the word after `<<`; its quotes only say that the body is literal."""
        assert self.delimiter is not None
        word = self.delimiter.lstrip("-")
        if char in " \t" and not word:
            return self._take(char)
        if char in " \t;&|)<>":
            self.pending.append((word, self.delimiter.startswith("-")))
            self.delimiter = None
            return 0 if char != " " else self._take(char)
        if char not in "'\"\\":
            self.delimiter += char
        return self._take(char)

    def _newline(self) -> int:
        if self.delimiter is not None:
            self.pending.append((self.delimiter.lstrip("-"), self.delimiter.startswith("-")))
            self.delimiter = None
        if self.pending:
            self.stack.append("heredoc")
            self.line = ""
        return self._take("\n")

    def _heredoc(self, char: str) -> int:
        if char != "\n":
            self.line += char
            return self._take(char)
        word, dash = self.pending[0]
        if (self.line.lstrip("\t") if dash else self.line) == word:
            self.pending.pop(0)
            if not self.pending:
                self.stack.pop()
        self.line = ""
        return self._take("\n")
