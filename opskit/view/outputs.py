"""What hosts printed, compared: who said the same, and how the others differ."""

from collections.abc import Iterator, Mapping

from opskit.view import names, safe
from opskit.view.paint import PLAIN, Paint
from opskit.view.readings import difference


def compared(outputs: Mapping[str, str], *, paint: Paint = PLAIN, full: bool = False) -> str:
    """Show the output that most hosts share, then for every other the difference to it."""
    if not outputs:
        return "No output.\n"
    groups: dict[str, list[str]] = {}
    for host, output in outputs.items():
        groups.setdefault(output, []).append(host)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    (common, most), *others = ordered
    what = "the same output" if len(most) > 1 else "this output"
    lines = [paint.bold(f"{names.listed(most)}: {what}"), *_rows(common)]
    for output, hosts in others:
        verb = "differ" if len(hosts) > 1 else "differs"
        lines += ["", paint.bold(f"{names.listed(hosts)} {verb}:")]
        labels = (names.listed(most, 40), names.listed(hosts, 40))
        diff = difference(common, output, full=full, labels=labels)
        lines += [_coloured(row, paint) for row in diff]
    return "\n".join(lines) + "\n"


def joined(out: str, err: str) -> str:
    """Put what a step wrote to standard error below what it wrote to standard output."""
    if out and err and not out.endswith("\n"):
        out += "\n"
    return out + "".join(f"stderr| {line}" for line in err.splitlines(keepends=True))


def _rows(output: str) -> Iterator[str]:
    rows = safe.stripped(output).rstrip("\n").split("\n")
    yield from ("  " + row for row in rows if rows != [""])
    if rows == [""]:
        yield "  (nothing)"


def _coloured(row: str, paint: Paint) -> str:
    return paint.good(row) if row[:1] == "+" else paint.bad(row) if row[:1] == "-" else row
