"""What must hold before a run may begin; where it does not, nothing is sent anywhere."""

import os
import pwd
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

from opskit.errors import LockedError, RefusedError, StoreError
from opskit.execute import Stop
from opskit.model.payouts import Payouts
from opskit.model.plan import Plan
from opskit.plan import reads_only

_ACCOUNTS = ("SUDO_USER", "LOGNAME", "USER")
"""Where the environment says who somebody is, or was before sudo."""


@contextmanager
def beginning() -> Iterator[None]:
    """Refuse a run whose record can't be begun: nothing has been sent by then."""
    try:
        yield
    except StoreError as error:
        what = f"{error.what}; nothing was sent anywhere"
        raise RefusedError(what, where=error.where, hint=error.hint) from error


def approved(plan: Plan, who: str, environ: Mapping[str, str]) -> None:
    """Refuse a run where whoever begins it has approved of it himself; `who`: name and machine.

    Who has become root by sudo is no second person as root.
    """
    given = [a for a in plan.actions if isinstance(a.work, Payouts) and not a.work.probe]
    given = [action for action in given if cast(Payouts, action.work).approved]
    if not given:
        return
    accounts = [who, *(environ.get(name, "") for name in _ACCOUNTS), _account()]
    names = {name for one in accounts if one for name in _names(one)}
    for action in given:
        by = cast(Payouts, action.work).approved
        if _names(by) & names:
            raise RefusedError(
                f"{by} begins this run and has approved of it: that takes two",
                where=str(plan.stages[action.position].place),
                hint="name somebody else who has looked at the report under `approved_by`",
            )


def _names(account: str) -> set[str]:
    """Return the names that an account goes by; how its letters are written is all the same."""
    import unicodedata  # few plans have an approver

    folded = unicodedata.normalize("NFKC", account).casefold()
    plain = "".join(letter for letter in folded if letter.isprintable() and not letter.isspace())
    return {plain, plain.partition("@")[0]}


def _account() -> str:
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    return ""


def in_hours(plan: Plan, override: str) -> str:
    """Refuse a run whose changes may not be made now, unless somebody has said why it must be.

    Returns why, where that has let the run through.
    """
    if not (plan.windows or plan.freezes) or reads_only(plan):
        return ""
    from opskit.plan.windows import shut  # few inventories have any

    now = shut(plan, time.time())
    if now is None:
        return ""
    if override.strip():
        return override.strip()
    raise RefusedError(
        f"{now.why}; nothing was sent anywhere",
        where=now.where,
        hint=f"{now.again}; in an emergency: --override-window REASON, which is recorded",
    )


T = TypeVar("T")

_LOOK = 2.0
"""How often it is tried again to get a lock; seconds."""


def waiting_for_locks(begin: Callable[[], T], patience: float, stop: Stop | None) -> T:
    """Begin a run; while another has one of its locks, try again for `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            return begin()
        except LockedError:
            left = end - time.monotonic()
            waited = stop.soft.wait if stop is not None else _slept
            if left <= 0 or waited(min(left, _LOOK)):
                raise


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def acquainted(plan: Plan) -> Any:  # noqa: ANN401 - of the SSH library, which is loaded late
    """Refuse a run that changes something where more hosts than may fail have no known key.

    Returns what knows the keys, for the connections to come.
    """
    vias = [one.via for one in plan.servers if one.via]
    names = dict.fromkeys([*(a.target for a in plan.actions), *vias])
    hosts = {name: plan.hosts[name] for name in names if name in plan.hosts}
    if not hosts or reads_only(plan):
        return None
    from opskit.drivers.targets import connector

    found = connector()
    strangers = {n: why for n, host in hosts.items() if (why := found.stranger(host)) is not None}
    if len(strangers) > plan.max_failures:
        name, why = next(iter(strangers.items()))
        more = f", and of {len(strangers) - 1} more hosts" if len(strangers) > 1 else ""
        raise RefusedError(
            f"{why}{more}; nothing was sent anywhere",
            where=f"host {name}",
            hint="compare fingerprints with a trusted source and pin them: `opskit hosts trust "
            f"{','.join([*strangers][:8])}`",
        )
    return found
