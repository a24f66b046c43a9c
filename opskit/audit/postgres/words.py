"""What the server or the connection to it said, in words that help."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from opskit.audit.postgres.address import Address
from opskit.errors import DamagedError, OpskitError, StoreError

LOCAL = "`--store local` records on this machine meanwhile"


class AwayError(StoreError):
    """The store can't be reached at the moment; it may come back."""


@contextmanager
def told(address: Address) -> Iterator[None]:
    """Turn what psycopg raises into a StoreError without a password in it."""
    try:
        yield
    except psycopg.Error as error:
        raise explained(error, address) from None  # its text and its locals may show the password


def explained(error: psycopg.Error, address: Address) -> OpskitError:
    """Say in words that help what psycopg said."""
    text = _clean(str(error), address)
    code = error.sqlstate or ""
    if is_away(error):
        what = f"the record can't be reached: {text}"
        hint = f"see that the server runs and can be reached from here; {LOCAL}"
        return AwayError(what, where=address.location, hint=hint)
    for prefix, (what, hint) in _MEANINGS.items():
        if code.startswith(prefix):
            kind = DamagedError if prefix == "XX00" else StoreError
            return kind(f"{what} ({text})", where=address.location, hint=hint)
    return StoreError(
        f"the record can't be used: {text}",
        where=address.location,
        hint="`opskit store check` says what is wrong with it",
    )


_AWAY = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "25P03", "25P04")
"""Lost, shut down, crashed, starting, timed out, too many connections: all of it may pass."""


def is_away(error: psycopg.Error) -> bool:
    """Tell whether this says that the server is away, and not that it refuses something."""
    if error.sqlstate:
        return error.sqlstate.startswith(_AWAY)
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    # While connecting, libpq hands on what the server said as text alone.
    return not any(word in str(error) for word in _REFUSALS)


_REFUSALS = (
    "authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry",
    "permission denied", "is not permitted to log in", "definition of service", "invalid ",
    "certificate verify failed", "root certificate file", "missing ", "unsupported ",
)  # fmt: skip


def _clean(text: str, address: Address) -> str:
    for secret in address.secrets:
        text = text.replace(secret, "[secret]")
    return " ".join(text.split())


_MEANINGS = {
    "53100": (
        "the record can't be written: the server's disk is full",
        "make room there",
    ),
    "25006": (
        "the record can't be written: the server is a standby, or reads only",
        "name the primary in OPSKIT_STORE (target_session_attrs=read-write picks it)",
    ),
    "55P03": (
        "another process has kept the record to itself for too long",
        "find it in pg_stat_activity, then try again",
    ),
    "42501": (
        "the role has too few rights to the record",
        "`opskit store init --role ROLE`, as the owner of the record, grants them",
    ),
    "42P01": (
        "a table of the record is missing",
        "`opskit store check` says what is wrong with it",
    ),
    "XX00": (
        "the record is damaged",
        "don't restart the server before you have a copy of its files; then look at its log",
    ),
    "P0001": (
        "a guard of the record has refused a change",
        "`opskit audit verify` says whether the record is whole; please report this",
    ),
    "58": (
        "the record can't be read or written: the server's disk reports an error",
        "look at the server's log and at its free space; then `opskit audit verify`",
    ),
}
