"""Shell text → simple commands: their words and redirections, with offsets.

It knows POSIX quoting, substitutions, here-documents and reserved words, and nothing of expansion:
`$x` stays as it is. Enough to tell a verb from an argument; not a proof of anything.
"""

import re
from typing import NamedTuple

_META = " \t\n;&|()<>"
_REDIRECT = re.compile(r"(\d*)(<<-|<<|<>|<&|>>|>\||>&|&>>|&>|<|>)")
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_BLANKS = re.compile(r"[ \t]+")
_PLAIN = re.compile(r"""[^ \t\n;&|()<>'"\\$`]+""")
_PLAIN_QUOTED = re.compile(r'[^"\\$`]+')
_OPENS = frozenset({"if", "then", "else", "elif", "while", "until", "do", "!", "{", "time"})
_CLOSES = frozenset({"fi", "done", "esac", "}"})
_RESERVED = _OPENS | _CLOSES
DEEPEST = 16


class Word(NamedTuple):
    """A word without its quotes. `quoted`: it stood in quotes as a whole, from `inner` on."""

    text: str
    offset: int
    quoted: bool = False


class Simple:
    """A simple command: its words, and where its output goes."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self.outputs: list[tuple[str, Word]] = []


def simple_commands(text: str) -> list[Simple]:
    """Split shell text into its simple commands, those in substitutions included.

    Template expressions count as plain letters, template tags as blanks.
    """
    parser = _Parser(_EXPRESSION.sub(_blank, text))
    parser.commands("")
    return [one for one in parser.found if one.words or one.outputs]


def _blank(match: re.Match[str]) -> str:
    fill = "x" if match[0].startswith("{{") else " "
    return re.sub(r"[^\n]", fill, match[0]) if fill == " " else fill * len(match[0])


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: list[Simple] = []
        self.pending: list[tuple[str, bool]] = []
        self.depth = 0
        self.closing = ""

    def commands(self, end: str) -> None:
        """Take in commands up to the closing character (or the end of the text)."""
        current = Simple()
        cases: list[bool] = []
        outer, self.closing = self.closing, end
        self.depth += 1
        while self.at < len(self.text) and self.depth <= DEEPEST:
            char = self.text[self.at]
            if char == end and not (char == ")" and cases and cases[-1]):
                break
            if blanks := _BLANKS.match(self.text, self.at):
                self.at = blanks.end()
            elif char == "#":
                self._comment()
            elif redirect := _REDIRECT.match(self.text, self.at):
                self._redirect(redirect, current)
            elif char in "\n;&|()":
                current = self._separator(current, cases)
            else:
                current = self._word_in(current, cases)
        self.found.append(current)
        self.closing = outer
        self.depth -= 1

    def _comment(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _separator(self, current: Simple, cases: list[bool]) -> Simple:
        """End a simple command. `cases`: for each open `case`, whether a pattern comes next."""
        char = self.text[self.at]
        self.at += 1
        if char == "\n":
            self._heredocs()
        if cases and cases[-1]:
            if char == ")":
                cases[-1] = False
            return Simple() if char == ")" else current
        if cases and char == ";" and self.text.startswith(";", self.at):
            self.at += 1
            cases[-1] = True
        if char == "(" and self.depth <= DEEPEST:
            self.commands(")")
            self.at += 1
        self.found.append(current)
        return Simple()

    def _word_in(self, current: Simple, cases: list[bool]) -> Simple:
        word = self.word()
        first = not current.words
        if cases and cases[-1]:
            if word.text == "esac":
                cases.pop()
            return Simple()
        if first and not word.quoted and word.text in _RESERVED:
            if word.text == "esac" and cases:
                cases.pop()
            return current
        current.words.append(word)
        if word.text == "in" and current.words[0].text == "case" and len(current.words) == 3:
            cases.append(True)
            return Simple()
        return current

    def _redirect(self, match: re.Match[str], current: Simple) -> None:
        start, self.at = self.at, match.end()
        operator = match[2]
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        target = self.word()
        if operator in ("<<", "<<-"):
            self.pending.append((target.text, operator == "<<-"))
        elif ">" in operator:
            current.outputs.append((operator, Word(target.text, start)))

    def _heredocs(self) -> None:
        """Step over the bodies of here-documents: they are data."""
        for delimiter, dash in self.pending:
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line = self.text[self.at : end]
                self.at = end + 1
                if (line.lstrip("\t") if dash else line) == delimiter:
                    break
        self.pending = []

    def word(self) -> Word:
        """Take in one word, and the commands substituted in it."""
        start = self.at
        parts: list[str] = []
        quotes = ""
        stop = _META + "`" if self.closing == "`" else _META
        while self.at < len(self.text) and self.text[self.at] not in stop:
            if plain := _PLAIN.match(self.text, self.at):
                parts.append(plain[0])
                self.at = plain.end()
                continue
            char = self.text[self.at]
            if char in "'\"":
                quotes += char
                parts.append(self._quoted(char))
            elif char == "\\":
                parts.append(self.text[self.at + 1 : self.at + 2].replace("\n", ""))
                self.at += 2
            elif not self._substitution(parts):
                parts.append(char)
                self.at += 1
        written = self.text[start : self.at]
        whole = len(quotes) == 1 and written[:1] == quotes and written[-1:] == quotes
        if self.at == start:  # a metacharacter where a word was due: never stand still
            self.at += 1
        return Word("".join(parts), start, whole)

    def _quoted(self, quote: str) -> str:
        self.at += 1
        if quote == "'":
            end = self.text.find("'", self.at)
            end = len(self.text) if end < 0 else end
            inside = self.text[self.at : end]
            self.at = end + 1
            return inside
        parts: list[str] = []
        while self.at < len(self.text) and self.text[self.at] != '"':
            if plain := _PLAIN_QUOTED.match(self.text, self.at):
                parts.append(plain[0])
                self.at = plain.end()
            elif self.text[self.at] == "\\":
                parts.append(self.text[self.at + 1 : self.at + 2])
                self.at += 2
            elif not self._substitution(parts):
                parts.append(self.text[self.at])
                self.at += 1
        self.at += 1
        return "".join(parts)

    def _substitution(self, parts: list[str]) -> bool:
        """Take in `$(…)`, backquotes, `${…}` or `$((…))`, if one begins here."""
        start = self.at
        if self.text.startswith("$((", start):
            end = self.text.find("))", start)
            self.at = len(self.text) if end < 0 else end + 2
        elif self.text.startswith("${", start):
            end = self.text.find("}", start)
            self.at = len(self.text) if end < 0 else end + 1
        elif self.text.startswith("$(", start) and self.depth <= DEEPEST:
            self.at += 2
            self.commands(")")
            self.at += 1
        elif self.text[start] == "`" and self.depth <= DEEPEST:
            self.at += 1
            self.commands("`")
            self.at += 1
        else:
            return False
        parts.append(self.text[start : self.at])
        return True
