"""The right word nearest to a wrong one."""

from collections.abc import Iterable


def nearest(wrong: str, right: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the word that was probably meant, or None when nothing is near enough."""
    from difflib import get_close_matches

    words = list(right)
    folded = {word.lower(): word for word in words}
    key = wrong.lower().replace("-", "_")
    if key in folded:
        return folded[key]
    close = get_close_matches(key, folded, n=3, cutoff=cutoff)
    swapped = [word for word in close if sorted(word) == sorted(key)]
    return folded[(swapped or close)[0]] if close else None


def advice(wrong: str, right: Iterable[str], most: int = 12, cutoff: float = 0.6) -> str:
    """Say what to write instead: the nearest word, or all of them when they are few."""
    words = list(right)
    near = nearest(wrong, words, cutoff)
    if near is not None:
        return near
    return "one of " + ", ".join(words) if 0 < len(words) <= most else ""
