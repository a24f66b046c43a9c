"""What runs have left on hosts."""

from collections.abc import Mapping

from opskit.model.frozen import frozen


@frozen
class Leftover:
    """The directory of one run on one host. `kept`: why it stays, empty where it may go."""

    host: str
    run: str
    kib: int
    kept: str = ""


@frozen
class Leftovers:
    """What was found, and why hosts could not be looked at."""

    found: tuple[Leftover, ...]
    failed: Mapping[str, str]
