"""What takes back a change of which opskit can tell from its traces what it has done."""

from dataclasses import replace

from opskit.model.keys import Keys
from opskit.model.payouts import Payouts
from opskit.model.queues import Messages
from opskit.model.rows import Rows
from opskit.model.warm import Warm
from opskit.model.work import Remove, Repair, Upload, Work


def taken_back(work: Work, key: str) -> Work | None:
    """Return what takes back what a work has done, where opskit can tell from its traces."""
    match work:
        case Upload():
            return Remove(dest=work.dest, of=key, sudo=work.sudo)
        case Repair(do="create" | "drop"):
            return replace(work, do="undo", of=key, free=None)
        case Payouts(do="hold"):
            return replace(work, do="release", of=key)
        case Payouts(do="freeze"):
            return replace(work, do="thaw", of=key)
        case Payouts(do="guard"):
            return replace(work, do="unguard", of=key)
        case Rows(do="remove", archive=True):
            return replace(work, do="restore", of=key)
        case Keys(do="remove", archive=True) | Warm(do="fill" | "refresh"):
            return replace(work, do="restore", of=key)
        case Messages(do="park" | "replay"):
            return replace(work, do="unpark" if work.do == "park" else "unreplay", of=key)
        case _:
            return None
