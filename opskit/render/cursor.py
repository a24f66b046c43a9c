"""A place in the tokens of a statement, and how to go on from it."""

from collections.abc import Iterator, Sequence

from opskit.render.sql import Token


class Cursor:
    """Reads the tokens of a statement in their order."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.place = 0

    @property
    def key(self) -> str:
        """The keyword or mark that comes next; "" for a quoted name, and at the end."""
        return self._key(self.place)

    def _key(self, place: int) -> str:
        if place >= len(self.tokens):
            return ""
        token = self.tokens[place]
        return token.key or (token.text if token.kind == "other" else "")

    def next(self) -> str:
        """Go past the next token; return its keyword or mark."""
        found = self.key
        self.place += 1
        return found

    def take(self, *keys: str) -> bool:
        """Go past these keywords if they are what comes next."""
        if any(self._key(self.place + n) != key for n, key in enumerate(keys)):
            return False
        self.place += len(keys)
        return True

    def name(self) -> str:
        """Go past a name, with its schema where it has one; `public` is left out."""
        parts = [self._word()]
        while self.key == ".":
            self.place += 1
            parts.append(self._word())
        return ".".join(parts[1:] if parts[0] == "public" and len(parts) > 1 else parts)

    def names(self) -> list[str]:
        """Go past names with commas between."""
        found = []
        while True:
            self.take("only")
            found.append(self.name())
            self.take("*")
            if not self.take(","):
                return found

    def seek(self, key: str) -> None:
        """Go past the next of a keyword; to the end where there is none."""
        while self.place < len(self.tokens) and self.next() != key:
            pass

    def bracket(self) -> None:
        """Go past what stands in a pair of brackets."""
        depth = 0
        while self.place < len(self.tokens):
            depth += {"(": 1, ")": -1}.get(self.tokens[self.place].text, 0)
            self.place += 1
            if not depth:
                return

    @property
    def rest(self) -> Sequence[Token]:
        """What comes from here."""
        return self.tokens[self.place :]

    def _word(self) -> str:
        word = self.tokens[self.place].word if self.place < len(self.tokens) else ""
        self.place += 1
        return word

    def has(self, *keys: str) -> bool:
        """Tell whether one of these keywords comes anywhere from here."""
        return any(token.key in keys for token in self.tokens[self.place :])

    def has_words(self, *keys: str) -> bool:
        """Tell whether these keywords come anywhere from here, side by side and in no brackets."""
        depth = 0
        for place in range(self.place, len(self.tokens)):
            depth += {"(": 1, ")": -1}.get(self.tokens[place].text, 0)
            if not depth and all(self._key(place + n) == key for n, key in enumerate(keys)):
                return True
        return False

    def parts(self) -> Iterator["Cursor"]:
        """Cut what comes from here at the commas that stand in no brackets."""
        depth, start = 0, self.place
        for place in range(self.place, len(self.tokens)):
            text = self.tokens[place].text
            depth += {"(": 1, ")": -1}.get(text, 0)
            if text == "," and not depth:
                yield Cursor(self.tokens[start:place])
                start = place + 1
        yield Cursor(self.tokens[start:])

    def not_null(self) -> str:
        """Return the column of `(COLUMN IS NOT NULL)`, if that is all that comes; else ""."""
        inner = [token for token in self.tokens[self.place :] if token.text not in "()"]
        said = [token.key for token in inner[1:4]]
        rest = [token.key for token in inner[4:]]
        whole = said == ["is", "not", "null"] and rest in ([], ["not", "valid"])
        return inner[0].word if inner and whole else ""
