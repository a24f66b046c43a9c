"""Where a PostgreSQL store is: its URL, less what nobody may read in a message."""

from urllib.parse import parse_qsl, unquote

from opskit.errors import InputError
from opskit.model.frozen import frozen

SCHEMES = ("postgresql://", "postgres://")
PATIENCE = 120.0
"""Seconds for which a run waits for a store that is away: a restart, a switch to a standby."""

_PASSWORDS = ("password", "sslpassword")
_HINT = (
    "keep it out of there: a password file (~/.pgpass, PGPASSFILE), a service (PGSERVICEFILE, "
    "?service=NAME), or PGPASSWORD"
)


@frozen
class Address:
    """`url` is for libpq and may hold a password; `location` is for everybody."""

    url: str
    location: str
    patience: float
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Address({self.location})"


def is_address(place: str) -> bool:
    """Tell whether a place names a PostgreSQL store; every other one is a file."""
    return place.startswith(SCHEMES)


def refuse_password(place: str, where: str) -> None:
    """Refuse a password that others can read: in a list of processes, in a file of a project."""
    if is_address(place) and parse(place).secrets:
        raise InputError(f"the address of the store in {where} has a password in it", hint=_HINT)


def parse(place: str) -> Address:
    """Take the URL of a store apart. InputError; no message shows what might be a password."""
    rest = place.partition("://")[2]
    body, _, query = rest.partition("?")
    authority, _, database = body.partition("/")
    login, _, hosts = authority.rpartition("@")
    options = parse_qsl(query, keep_blank_values=True)
    named = dict(options)
    # In a query libpq takes what it takes before it, too.
    host = named.get("host", hosts)
    beside = {"host": host if "/" in host else "", "service": named.get("service", "")}
    shown = f"postgresql://{'' if beside['host'] else host}/"
    shown += unquote(named.get("dbname", database))
    more = "&".join(f"{name}={value}" for name, value in beside.items() if value)
    shown += f"?{more}" if more else ""
    kept = "&".join(part for part in query.split("&") if part.split("=")[0] != "patience")
    secrets = [unquote(login.partition(":")[2]), *(named.get(name, "") for name in _PASSWORDS)]
    return Address(
        url=f"postgresql://{body}" + (f"?{kept}" if kept else ""),
        location=shown,
        patience=_patience(named.get("patience"), shown),
        secrets=tuple(secret for secret in secrets if secret),
    )


def _patience(text: str | None, location: str) -> float:
    if text is None:
        return PATIENCE
    if not text.isascii() or not text.isdigit() or int(text) > 86_400:
        raise InputError(
            "`patience` in the address of the store is not a number of seconds up to 86400",
            where=location,
            hint="write ?patience=120",
        )
    return float(text)
