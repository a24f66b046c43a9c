"""What is put into a cache, as text."""

from collections.abc import Iterator

from opskit.model.warm import Source, Warm
from opskit.steps.units import duration
from opskit.view import amounts, blocks, safe


def warming(work: Warm, *, full: bool) -> list[str]:
    """Describe it: from where rows come, what becomes of them, and what bounds that."""
    if work.do == "restore":
        told = "remove the keys that were written, where they are as they were written"
        return [f"{told}, and put back what they have overwritten"]
    if work.do == "hits":
        return [f"count lookups for {duration(work.window)}", *_judged(work)]
    source = work.source
    assert source is not None
    verb = {"show": "list", "fill": "write what is not there yet of", "refresh": "write"}[work.do]
    found = [safe.one_line(f"{verb} {_rows(source)}")]
    if source.query is not None:
        found += blocks.block("sql> ", str(source.query), full=full)
    return [*found, *_made(source), " · ".join(_bounds(work))]


def _judged(work: Warm) -> list[str]:
    said = [f"under {work.warn:g} % of them hits is told of"] if work.warn else []
    said += [f"under {work.crit:g} % fails"] if work.crit else []
    return [" · ".join(said)] if said else []


def _rows(source: Source) -> str:
    if source.query is not None:
        return f"the rows of a query of database {source.database}"
    return f"the rows of {source.path} ({amounts.size(source.size)}, sha256 {source.sha256[:12]})"


def _made(source: Source) -> Iterator[str]:
    ttl = source.ttl if "{" in source.ttl else duration(float(source.ttl))
    yield safe.one_line(f"each as {source.key} = {source.value}, for {ttl}")


def _bounds(work: Warm) -> Iterator[str]:
    yield safe.one_line(f"only under {', '.join(work.allow)}")
    yield f"at most {amounts.count(work.most, 'key')}"
    if work.format != "seen":
        yield "values are JSON" if work.format == "json" else "values as they are, for any reader"
    yield f"{work.jitter:.0%} longer or shorter, by lot"
    if work.rate:
        yield f"{work.rate:g} keys a second, fewer where it slows others down"
    if work.do == "refresh" and not work.keep:
        yield "what is overwritten is NOT kept"
    if work.override:
        yield safe.one_line(f"over 30 days, too, because: {work.override}")
    if work.digest:
        yield safe.one_line(f"only if their digest is {work.digest}")
