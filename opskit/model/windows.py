"""When changes may be made: hours of the week that are open to them, and times that are not."""

from opskit.model.frozen import frozen

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@frozen
class Window:
    """Hours of some days in which changes may be made.

    `days` counts from Monday, 0; `begin` and `end` are minutes of the day, and an end that is not
    after the begin is one of the next day. `runbooks`: those that it is about (none: all).
    """

    days: tuple[int, ...]
    begin: int
    end: int
    timezone: str = "UTC"
    runbooks: tuple[str, ...] = ()
    place: str = ""


@frozen
class Freeze:
    """A time in which no changes may be made, and why; `begin` and `end` are local ISO times."""

    begin: str
    end: str
    reason: str
    timezone: str = "UTC"
    runbooks: tuple[str, ...] = ()
    place: str = ""
