"""One connection to a PostgreSQL server, at the level of its protocol; every wait has an end."""

import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import make_conninfo
from psycopg.pq import abc

from opskit.drivers.relay import Relay
from opskit.errors import OpskitError
from opskit.model.frozen import mutable

_LOOK = 100
"""How often a wait looks whether it shall go on; milliseconds."""

Row = Sequence[bytes | None]
Cells = tuple[bytes | None, ...]
Watch = Callable[[], None]
"""Called while something is waited for; what it raises ends the wait."""


class ServerError(OpskitError):
    """The server refused a statement; the connection is whole. `code` is the SQLSTATE."""

    def __init__(self, what: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.code = code


class BrokenError(OpskitError):
    """The connection is gone; what was sent over it may have been done.

    `code` is what the server said before it closed it, if it did.
    """

    def __init__(self, what: str, *, code: str = "") -> None:
        super().__init__(what)
        self.code = code


class EndedError(OpskitError):
    """The wait was ended: out of time, or stopped."""


@mutable
class Result:
    """What one statement came to; its rows went to whoever took them."""

    columns: tuple[str, ...] = ()
    types: tuple[int, ...] = ()
    rows: int = 0
    tag: str = ""


@mutable
class Taker:
    """Takes the rows of a statement: first what they look like, then each."""

    begin: Callable[[Result], None] = field(default=lambda _: None)
    row: Callable[[Row], None] = field(default=lambda _: None)
    rows: Callable[[Sequence[Cells]], None] | None = None
    """Takes all of a result instead, as it came, which is several times as quick."""


class Connection:
    """Used by one thread at a time. `watch` is asked while something is waited for."""

    def __init__(self, raw: abc.PGconn, relay: Relay | None) -> None:
        self._raw = raw
        self._relay = relay
        self.watch: Watch = lambda: None
        raw.nonblocking = 1

    @property
    def claimed_pid(self) -> int:
        """The process that whoever answered the connection says it is."""
        return self._raw.backend_pid

    @property
    def version(self) -> int:
        return self._raw.server_version

    @property
    def idle(self) -> bool:
        return self._raw.transaction_status == pq.TransactionStatus.IDLE

    @property
    def alive(self) -> bool:
        return self._raw.status == pq.ConnStatus.OK

    def on_notice(self, tell: Callable[[str], None]) -> None:
        self._raw.notice_handler = lambda result: tell(_text(result.error_message))

    def own(self, text: str) -> None:
        """Carry out statements of opskit's own, several at once, that return nothing of use."""
        with _broken():
            self._raw.send_query(text.encode())
        self._collect(Taker())

    def one(self, text: str, *values: str | None) -> tuple[str | None, ...]:
        """Return the first row of a query of opskit's own; () where there is none."""
        rows: list[tuple[str | None, ...]] = []
        self.run(text, values, Taker(row=lambda row: rows.append(tuple(map(_maybe, row)))))
        return rows[0] if rows else ()

    def run(self, text: str, values: Sequence[str | None], taker: Taker) -> Result:
        """Carry out exactly one statement, its values beside it.

        The extended protocol takes one statement only: the server refuses more.
        """
        if "\0" in text:
            raise ServerError("the statement has a NUL character in it")
        sent = [None if value is None else value.encode() for value in values]
        with _broken():
            self._raw.send_query_params(text.encode(), sent)
            self._raw.set_single_row_mode()
        return self._collect(taker)

    def ask(self, text: str) -> None:
        """Send a query of opskit's own, to do something else until its rows are fetched."""
        with _broken():
            self._raw.send_query_params(text.encode(), [])
            self._raw.flush()

    def fetched(self) -> tuple[tuple[str, ...], list[Cells]] | None:
        """Return the columns and all rows of the query that was sent; None where there is none.

        They come as a whole, which is several times as quick as one by one.
        """
        rows: list[Cells] = []
        found = self._collect(Taker(rows=rows.extend))
        return (found.columns, rows) if rows else None

    def close(self) -> None:
        with suppress(Exception):
            self._raw.finish()
        if self._relay is not None:
            self._relay.close()

    def _collect(self, taker: Taker) -> Result:
        """Take in everything that the server answers, up to where it is ready for more."""
        found, wrong = Result(), ""
        code = ""
        while True:
            self._until_ready()
            result = self._raw.get_result()
            if result is None:
                break
            match result.status:
                case pq.ExecStatus.SINGLE_TUPLE | pq.ExecStatus.TUPLES_OK:
                    _take(result, found, taker)
                case pq.ExecStatus.COMMAND_OK | pq.ExecStatus.EMPTY_QUERY:
                    found.tag = _text(result.command_status or b"")
                case pq.ExecStatus.FATAL_ERROR | pq.ExecStatus.NONFATAL_ERROR:
                    wrong = wrong or _message(result)
                    code = code or _field(result, pq.DiagnosticField.SQLSTATE)
                case _:
                    raise BrokenError("the server wants to copy data, and nobody has any")
        if not self.alive:
            said = wrong or _text(self._raw.error_message) or "the connection broke"
            raise BrokenError(said, code=code)
        if wrong:
            raise ServerError(wrong, code=code)
        return found

    def _until_ready(self) -> None:
        """Wait until a result can be taken without waiting.

        Where the line is gone there is one, too: what the server said last, if it did.
        """
        with _last_words(self._raw):
            while self._raw.flush():
                self._ready(select.POLLIN | select.POLLOUT)
                self._raw.consume_input()
            while self._raw.is_busy():
                self._ready(select.POLLIN)
                self._raw.consume_input()

    def _ready(self, events: int) -> None:
        poller = select.poll()
        poller.register(self._raw.socket, events)
        while not poller.poll(_LOOK):
            self.watch()
        self.watch()


@contextmanager
def _broken() -> Iterator[None]:
    """What the library raises where it should only report says that the connection is gone."""
    try:
        yield
    except psycopg.Error as error:
        raise BrokenError(" ".join(str(error).split())) from None


@contextmanager
def _last_words(raw: abc.PGconn) -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        if raw.status != pq.ConnStatus.BAD:
            raise BrokenError(" ".join(str(error).split())) from None


def connect(
    url: str, *, timeout: float, watch: Watch, relay: Relay | None = None, **options: str | int
) -> Connection:
    """Connect within `timeout` seconds; BrokenError says why not."""
    if relay is not None:
        options |= {"hostaddr": "127.0.0.1", "port": relay.port}
    with _broken():
        raw = pq.PGconn.connect_start(make_conninfo(url, **options).encode())
    try:
        _greet(raw, timeout, watch, relay)
    except BaseException as error:
        raw.finish()
        if relay is not None:
            relay.close()
        if isinstance(error, OSError):
            raise BrokenError(f"the host can't reach it ({error})") from None
        raise
    return Connection(raw, relay)


def _greet(raw: abc.PGconn, timeout: float, watch: Watch, relay: Relay | None) -> None:
    end = time.monotonic() + timeout
    state: int = pq.PollingStatus.WRITING
    while state != pq.PollingStatus.OK:
        if raw.status == pq.ConnStatus.BAD or state == pq.PollingStatus.FAILED:
            raise BrokenError(_text(raw.error_message))
        if time.monotonic() > end:
            raise BrokenError(f"no answer within {timeout:g} s")
        watch()
        poller = select.poll()
        poller.register(raw.socket, _EVENTS[state])
        poller.poll(_LOOK if relay is None else _SOON)
        if relay is not None:
            relay.admit(raw.socket)
        state = raw.connect_poll()


_SOON = 5
_BYTES = 17
"""The number of the type `text`: as that every cell is read."""
_EVENTS: Mapping[int, int] = {
    pq.PollingStatus.READING: select.POLLIN,
    pq.PollingStatus.WRITING: select.POLLOUT,
}


def _take(result: abc.PGresult, found: Result, taker: Taker) -> None:
    if not found.columns and result.nfields:
        count = range(result.nfields)
        found.columns = tuple(_text(result.fname(n) or b"") for n in count)
        found.types = tuple(result.ftype(n) for n in count)
        taker.begin(found)
    if taker.rows is not None:
        found.rows += result.ntuples
        taker.rows(_cells(result))
        return
    for number in range(result.ntuples):
        found.rows += 1
        taker.row([result.get_value(number, n) for n in range(result.nfields)])
    if result.status == pq.ExecStatus.TUPLES_OK:
        found.tag = _text(result.command_status or b"")


def _cells(result: abc.PGresult) -> list[Cells]:
    """Return all rows, each cell as the server has written it."""
    found = Transformer()
    found.set_pgresult(result, set_loaders=False)
    found.set_loader_types([_BYTES] * result.nfields, pq.Format.BINARY)  # takes bytes as they are
    return found.load_rows(0, result.ntuples, tuple)


def _message(result: abc.PGresult) -> str:
    """Say what the server said, with the detail and the hint that it has."""
    fields = pq.DiagnosticField
    words = [_field(result, fields.MESSAGE_PRIMARY) or _text(result.error_message)]
    words += [_field(result, f) for f in (fields.MESSAGE_DETAIL, fields.MESSAGE_HINT)]
    code = _field(result, fields.SQLSTATE)
    return "; ".join(w for w in words if w) + (f" (SQLSTATE {code})" if code else "")


def _field(result: abc.PGresult, which: pq.DiagnosticField) -> str:
    return _text(result.error_field(which) or b"")


def _text(raw: bytes) -> str:
    return " ".join(raw.decode(errors="replace").split())


def _maybe(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")
