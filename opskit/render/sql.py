"""SQL text: its tokens, its statements, and what they may do."""

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from opskit.model.frozen import frozen

_TOKENS = re.compile(
    r"""
    (?P<space>[ \t\n\r\f\v]+)
  | (?P<comment>--[^\n\r]*)
  | (?P<block>/\*)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
  | (?P<parameter>\$\d+)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*'?(?:[ \t\f\v\r]*\n\s*'(?:[^'\\]|\\.|'')*')*)
  | (?P<string>'(?:[^']|'')*'?)
  | (?P<quoted>"(?:[^"]|"")*"?)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
  | (?P<number>\d[\w.]*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_SILENT = frozenset({"space", "comment", "block"})


@frozen
class Token:
    """A piece of SQL text; `kind` is the name of its group above."""

    kind: str
    text: str
    start: int

    @property
    def word(self) -> str:
        """The name or keyword that it is, as the server reads it; "" for anything else."""
        if self.kind == "word":
            return self.text.lower()
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"')
        return ""

    @property
    def key(self) -> str:
        """The keyword that it may be: what stands in quotes is none."""
        return self.text.lower() if self.kind == "word" else ""


def places(text: str) -> set[str]:
    """Return the places for values in a text: $1, $2 …"""
    return {token.text for token in tokens(text) if token.kind == "parameter"}


def tokens(text: str) -> Iterator[Token]:
    """Cut a text as PostgreSQL does with standard_conforming_strings on."""
    position = 0
    while position < len(text):
        found = _TOKENS.match(text, position)
        assert found is not None
        assert found.lastgroup is not None
        end = found.end()
        if found.lastgroup == "block":
            end = _end_of_comment(text, end)
        elif found.lastgroup == "dollar":
            closed = text.find(found[0], end)
            end = len(text) if closed < 0 else closed + len(found[0])
        yield Token(kind=found.lastgroup, text=text[position:end], start=position)
        position = end


def _end_of_comment(text: str, position: int) -> int:
    """Comments between `/*` and `*/` hold others."""
    depth = 1
    while depth:
        mark = _COMMENT.search(text, position)
        if mark is None:
            return len(text)
        depth += 1 if mark[0] == "/*" else -1
        position = mark.end()
    return position


@frozen
class Statement:
    """One statement: where it stands in the text, and its tokens less space and comments."""

    start: int
    end: int
    tokens: Sequence[Token]

    @property
    def words(self) -> tuple[str, ...]:
        """The first keywords, which say what it is."""
        return tuple(token.key for token in self.tokens[:4])

    @property
    def verb(self) -> str:
        """The first keyword, also where brackets stand before it."""
        return next((token.key for token in self.tokens if token.text != "("), "")


def statements(text: str) -> list[Statement]:
    """Split a text at the semicolons that end statements; empty ones are none."""
    found: list[Statement] = []
    current: list[Token] = []
    start = brackets = body = 0
    for token in tokens(text):
        if token.kind in _SILENT:
            continue
        if token.text == ";" and not brackets and not body:
            _add(found, start, token.start, current)
            current, start, brackets = [], token.start + 1, 0
            continue
        brackets = max(0, brackets + {"(": 1, ")": -1}.get(token.text, 0))
        current.append(token)
        body = max(0, body + _opens(current, body))
    _add(found, start, len(text), current)
    return found


def _add(found: list[Statement], start: int, end: int, current: Sequence[Token]) -> None:
    if current:
        found.append(Statement(start=start, end=end, tokens=tuple(current)))


def _opens(current: Sequence[Token], body: int) -> int:
    """Tell whether the last token opens (1) or closes (-1) a body `BEGIN ATOMIC … END`."""
    key, first = current[-1].key, [token.key for token in current[:4]]
    routine = first[0] == "create" and bool({"function", "procedure"} & set(first))
    if not routine or key not in ("begin", "case", "end"):
        return 0
    if key == "begin":
        return 1
    return (1 if key == "case" else -1) if body else 0


Slip: TypeAlias = tuple[int, str, str]
"""What is wrong in a text: where, what, and what to write."""
READING = frozenset({"select", "with", "values", "table", "explain", "show"})
"""What a read may begin with."""
_CONTROL = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"}
)
_DENIED = re.compile(
    r"pg_(?:terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile\w*|pg_promote"
    r"|pg_switch_(?:wal|xlog)|pg_create_restore_point|pg_(?:wal|xlog)_replay_\w+"
    r"|pg_(?:start|stop)_backup|pg_backup_\w+|pg_log_\w+|pg_logical_\w+"
    r"|pg_replication_\w+|pg_(?:create|drop|copy|sync)_\w*slots?\w*"
    r"|pg_read_(?:binary_)?file\w*|pg_ls_\w+|pg_file_\w+|pg_stat_file|pg_(?:current_)?logfile"
    r"|pg_(?:try_)?advisory_\w+|pg_notify|pg_\w*stat\w*_reset\w*|pg_import_system_collations"
    r"|pg_(?:restore|clear)_\w+_stats|lo_\w+|loread|lowrite|dblink\w*|set_config|set_limit"
    r"|gin_clean_pending_list|brin_(?:de)?summarize_\w+|heap_force_\w+"
    r"|pg_truncate_visibility_map|pg_buffercache_(?:evict|mark_dirty)\w*|pg_background_\w+"
    r"|(?:query|cursor)_to_xml\w*|ts_stat|ts_rewrite|crosstab\w*|connectby|xpath_table"
)
"""Functions that act outside of the transaction, or that run text which nobody has looked at."""


def control(statement: Statement) -> str:
    """Return the words of a statement that begins, ends or alters a transaction; "" for others."""
    words = statement.words
    if words and words[0] in _CONTROL:
        return words[0].upper()
    if words[:2] == ("prepare", "transaction") or words[:2] == ("set", "transaction"):
        return " ".join(words[:2]).upper()
    if words[:2] in (("set", "session"), ("set", "local")) and words[2:3] in (
        ("characteristics",),
        ("transaction",),
    ):
        return " ".join(words[:3]).upper()
    return ""


def lonely(statement: Statement) -> str:
    """Return the words of a statement that the server refuses in a transaction; "" for others."""
    keys = [token.key for token in statement.tokens[:9]]
    first, second = keys[0], keys[1] if len(keys) > 1 else ""
    if first == "vacuum" or (first, second) in _LONELY:
        return f"{first} {second}".upper() if first != "vacuum" else "VACUUM"
    index = second == "index" or (first, *keys[1:3]) == ("create", "unique", "index")
    if "concurrently" in keys and (first == "reindex" or (index and first in ("create", "drop"))):
        return f"{first} {'' if first == 'reindex' else 'index '}concurrently".upper()
    return ""


_LONELY = frozenset(
    (verb, what) for verb in ("create", "drop") for what in ("database", "tablespace")
) | {("alter", "system"), ("reindex", "database"), ("reindex", "system"), ("reindex", "schema")}


def writes(text: str) -> tuple[int, str, str] | None:
    """Return why a text is not one harmless read, as offset, what and what to write; None: it is.

    The server has the last word: it refuses writes in a transaction that only reads. This is for
    what it would let pass.
    """
    found = statements(text)
    if not found:
        return 0, "there is no statement", "write one SELECT"
    first = found[0]
    if control(first) or first.verb not in READING:
        verb = control(first) or first.verb.upper() or first.tokens[0].text
        told = f"a read can't begin with {verb[:40]}"
        return first.tokens[0].start, told, "say effect: change, or write a SELECT"
    if len(found) > 1:
        told = "a read is one statement, and this has several"
        return found[1].tokens[0].start, told, "make a step of each"
    return _carried_out(first) or _denied(first)


_EXPLAINED = frozenset(
    {"select", "with", "values", "table", "insert", "update", "delete", "merge", "create",
     "declare", "execute", "refresh"}
)  # fmt: skip
_QUERIES = frozenset({"select", "with", "values", "table"})


def _carried_out(statement: Statement) -> Slip | None:
    """Return why an EXPLAIN is no read: ANALYZE carries out what it explains.

    The server does not ask whether a transaction may write before it makes a table that way.
    """
    keys = [token.key for token in statement.tokens]
    if statement.verb != "explain" or not {"analyze", "analyse"} & set(keys):
        return None
    verb = next((key for key in keys if key in _EXPLAINED), "")
    if verb in _QUERIES and "into" not in keys:
        return None
    what = "SELECT INTO" if verb in _QUERIES else verb.upper() or "what follows"
    told = f"EXPLAIN ANALYZE carries out {what}"
    return statement.tokens[0].start, told, "leave ANALYZE out, or say effect: change"


def _full(words: Sequence[Token]) -> bool:
    """Tell whether these words after VACUUM have FULL among them, wherever that stands."""
    if not words or words[0].text != "(":
        return any(word.key == "full" for word in words)  # as a name it would be in quotes
    options = [word.text.strip('"').lower() for word in words]
    options = options[: options.index(")")] if ")" in options else options
    return any(
        word == "full" and after not in ("false", "off", "0")
        for word, after in zip(options, [*options[1:], ""], strict=True)
    )


def rewrites(statement: Statement) -> str:
    """Return the words of a statement that writes a whole table anew and lets nobody in meanwhile.

    It is "" for all others.
    """
    keys = [token.key for token in statement.tokens]
    if keys[0] == "vacuum":
        return "VACUUM FULL" if _full(statement.tokens[1:]) else ""
    concurrent = keys[0] == "repack" and "concurrently" in keys
    return keys[0].upper() if keys[0] in ("cluster", "repack") and not concurrent else ""


def judged(
    text: str, *, read: bool, alone: bool, locks_out: bool = False
) -> tuple[int, str, str] | None:
    """Return what is wrong with the statements of a step, as `writes` does.

    `alone`: a change whose one statement can't be in a transaction; `locks_out`: it may keep
    everybody out of a table while it writes that anew.
    """
    if read:
        return writes(text)
    found = statements(text)
    if not found:
        return 0, "there is no statement", "write one"
    for statement in found:
        at = statement.tokens[0].start
        if not locks_out and (verb := rewrites(statement)):
            told = f"{verb} locks everybody out, readers too, until the table is written anew"
            return at, told, "use pg_repack; or add lock_out: true if nobody needs the table"
        if not alone and (verb := lonely(statement)):
            told = f"{verb} can't be in a transaction"
            return at, told, "add transaction: none, and done_when; or use an `index` step"
        if verb := control(statement):
            told = f"{verb} has no place here: opskit begins and ends the transaction"
            return at, told, "take it out; a step is one transaction"
        if statement.verb == "copy" and {"stdin", "stdout"} & {t.key for t in statement.tokens}:
            return at, "COPY has nobody to talk to here", "use INSERT, or a `run` step with psql"
    if alone and len(found) > 1:
        told = "`transaction: none` is for one statement, and this has several"
        return found[1].tokens[0].start, told, "make a step of each"
    return None


def denied(text: str) -> Slip | None:
    """Return why a part of a statement is not harmless; None where it is."""
    return next((slip for one in statements(text) if (slip := _denied(one))), None)


def _denied(statement: Statement) -> tuple[int, str, str] | None:
    for token, following in zip(statement.tokens, statement.tokens[1:], strict=False):
        called = following.text == "("
        if called and _DENIED.fullmatch(token.word.lower()):
            told = f"{token.word[:60]}() acts beyond what a read may do"
            return token.start, told, "say effect: change, with all that follows from it"
        if token.key == "u" and following.text == "&":
            return token.start, "a read can't have U& in it", "write the name as it is"
    return None
