"""What runs have left on hosts, as text and as objects."""

from opskit.model.leftover import Leftover, Leftovers
from opskit.model.value import Json
from opskit.view import safe


def text(left: Leftovers, *, done: bool = False) -> str:
    """Show what there is, a line each; `done`: what may go has been removed."""
    lines = [
        f"{safe.one_line(one.host):<12} {safe.one_line(one.run):<22} {one.kib:>8} KiB  "
        + (f"stays: {one.kept}" if one.kept else "removed" if done else "may go")
        for one in left.found
    ]
    lines += [
        f"{safe.one_line(host):<12} {safe.one_line(why)}" for host, why in left.failed.items()
    ]
    return "".join(line + "\n" for line in lines) or "Nothing is left on these hosts.\n"


def as_json(one: Leftover) -> dict[str, Json]:
    """Return one as an object."""
    return {"host": one.host, "run": one.run, "kib": one.kib, "kept": one.kept}
