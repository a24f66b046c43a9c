"""What must hold before a run may begin; where it does not, nothing is sent anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opskit.errors import RefusedError, StoreError
from opskit.model.inventory import CONTROLLER
from opskit.model.plan import Plan
from opskit.plan import reads_only


@contextmanager
def beginning() -> Iterator[None]:
    """Refuse a run whose record can't be begun: nothing has been sent by then."""
    try:
        yield
    except StoreError as error:
        what = f"{error.what}; nothing was sent anywhere"
        raise RefusedError(what, where=error.where, hint=error.hint) from error


def acquainted(plan: Plan) -> Any:  # noqa: ANN401 - of the SSH library, which is loaded late
    """Refuse a run that changes something where more hosts than may fail have no known key.

    Returns what knows the keys, for the connections to come.
    """
    hosts = {a.target: plan.hosts[a.target] for a in plan.actions if a.target != CONTROLLER}
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
