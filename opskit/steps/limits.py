"""How libraries name the counters of their rate limits: an identity → the keys of it.

Django REST framework: `PREFIXthrottle_SCOPE_IDENT`. Flask-Limiter (limits):
`LIMITS:LIMITER/IDENT/…`, before version 4 without `LIMITS:`. django-ratelimit: a digest of
group, rate, identity, window and methods, so that an identity is found by computing it only.
"""

import hashlib
import ipaddress
import re
import zlib
from collections.abc import Iterator

from opskit.model.keys import Rate, Windows
from opskit.steps.globs import unwritten

SCOPES = ("anon", "user", "auth", "password_reset")
WIDEST = 256
"""So many addresses of a network are named one by one."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"([0-9]{1,9})/([0-9]{0,6})([smhd])[a-z]*")


class IdentityError(ValueError):
    """An identity or a rate is none; the message says why, and after ` → ` what to write.

    `key` is what it was written under.
    """

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


def rate(written: str, head: str = "") -> Rate:
    """Read `100/hour`, `5/m` or `3/10m`."""
    found = _RATE.fullmatch(written.strip())
    if found is None or not int(found[1]) or found[2].strip("0") == "" != found[2]:
        raise IdentityError("rate", f"{written[:60]!r} is no rate → 100/hour, 5/m, 3/10m")
    return Rate(head=head, count=int(found[1]), seconds=int(found[2] or 1) * _UNITS[found[3]])


def user(written: str) -> str:
    """Check the name or number of a user."""
    if wrong := unwritten(written):
        raise IdentityError("user", f"the user: {wrong} → name it exactly as the application does")
    return written


def addresses(written: str) -> tuple[str, ...]:
    """Return the identities of an address, of a small network, or of a chain of proxies."""
    if "," in written:
        chain = [_address(one.strip()) for one in written.split(",")]
        return (",".join(chain),)
    if "/" not in written:
        return (_address(written),)
    try:
        network = ipaddress.ip_network(written)
    except ValueError as error:
        raise IdentityError(
            "ip", f"{written[:60]!r} is no network: {error} → 10.1.2.0/24"
        ) from None
    least = 24 if network.version == 4 else 64
    if network.prefixlen < least:
        told = f"{written} is wider than /{least}: too many would be let in"
        raise IdentityError("ip", f"{told} → name the addresses that are meant")
    if network.num_addresses > WIDEST:
        told = f"{written} has more than {WIDEST} addresses, whose keys can't be named"
        raise IdentityError("ip", f"{told} → name the addresses that are meant")
    return tuple(str(one) for one in network)


def _address(written: str) -> str:
    try:
        return str(ipaddress.ip_address(written))
    except ValueError:
        raise IdentityError("ip", f"{written[:60]!r} is no IP address → 10.1.2.3") from None


def throttles(prefix: str, scopes: tuple[str, ...], idents: tuple[str, ...]) -> Iterator[str]:
    """Yield the keys of Django REST framework."""
    for ident in idents:
        # The cache key is what has no blanks: the framework takes them out of a chain of proxies.
        yield from (f"{prefix}throttle_{scope}_{ident}" for scope in scopes)


def window(now: int, value: str, seconds: int) -> int:
    """Return the end of the window that django-ratelimit counts in at `now`."""
    if seconds == 1:
        return now
    found = now - now % seconds + zlib.crc32(value.encode()) % seconds
    return found + seconds if found < now else found


def names(windows: Windows, now: float) -> tuple[str, ...]:
    """Return the keys that django-ratelimit uses at a time; around an edge those on both sides."""
    found = []
    for moment in range(int(now) - 1, int(now) + 2):
        end = str(window(moment, windows.value, windows.seconds))
        text = "".join([*windows.parts, end, windows.methods])
        found.append(windows.head + hashlib.sha256(text.encode()).hexdigest())
    return tuple(dict.fromkeys(found))


def counted(head: str, group: str, limit: Rate, value: str, methods: str) -> Windows:
    """Return the counter of one identity in one group, as django-ratelimit has it.

    An IPv6 address counts together with its /64, as it does there.
    """
    masked = value
    try:
        address = ipaddress.ip_address(value)
        if address.version == 6:
            network = ipaddress.ip_network(f"{value}/64", strict=False)
            masked = str(network.network_address)
    except ValueError:
        pass
    return Windows(
        head=head,
        parts=(group, f"{limit.count}/{limit.seconds}s", masked),
        value=masked,
        seconds=limit.seconds,
        methods=methods,
    )
