"""What is done with a set of keys of a Redis server, as text."""

from collections.abc import Iterator

from opskit.model.keys import Keys
from opskit.view import amounts, safe

_SHOWN = 8


def deed_on_keys(work: Keys, *, full: bool) -> list[str]:
    """Describe it: which keys are meant, and how many they may be."""
    if work.do == "restore":
        return ["put the keys back that were removed, where nothing stands in their place by now"]
    names = [f"  {safe.one_line(name)}" for name in work.names]
    if len(names) > _SHOWN and not full:
        more = amounts.count(len(names) - _SHOWN + 1, "more key")
        names = [*names[: _SHOWN - 1], f"  … {more} (--full shows them)"]
    verb = "look at" if work.do == "show" else "remove"
    said = [f"{verb} {_what(work)}", *names, *_bounds(work)]
    if work.do == "remove" and not work.archive:
        said.append("THERE IS NO UNDO: names are kept, and no values (archive: false)")
    return said


def _what(work: Keys) -> str:
    if work.pattern:
        return safe.one_line(f"every key that fits {work.pattern}")
    if work.windows:
        return f"the counters of {amounts.count(len(work.windows), 'identity', 'identities')}"
    return "the keys that are there of:" if len(work.names) > 1 else "the key, if it is there:"


def _bounds(work: Keys) -> Iterator[str]:
    said = [f"at most {amounts.count(work.most, 'key')}"]
    if work.pattern:
        said.append(f"at most {work.share:g} % of all")
    if work.override:
        said = [safe.one_line(f"no matter how many, because: {work.override}")]
    if work.digest:
        said.append(safe.one_line(f"only if their digest is {work.digest}"))
    yield " · ".join(said)
