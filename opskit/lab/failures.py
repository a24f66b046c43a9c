"""What the servers themselves wrote about requests: the balancers' logs, and the service's own."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from opskit.lab import ground, texts
from opskit.lab.layout import Host, Layout, Role

MARK = "failures.mark"
LOGS = {
    Role.LB: "var/log/nginx/access.log",
    Role.WEB: f"{texts.SERVICE_ROOT.lstrip('/')}/shared/log/access.log",
}


def mark(layout: Layout) -> None:
    """Count from here on: remember how long each log is now."""
    sizes = {host.name: _size(_log(layout, host)) for host in layout.hosts}
    (layout.folder / "run" / MARK).write_text(json.dumps(sizes), encoding="ascii")


def read(layout: Layout) -> Mapping[str, object]:
    """Requests and failures (5xx) since the mark, by the balancers' logs and by the hosts' own.

    `failed` is the sum of all `failures`. A balancer counts what it sent to each host, too.
    """
    since: Mapping[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        since = json.loads((layout.folder / "run" / MARK).read_bytes())
    names = {host.address: host.name for host in layout.hosts}
    balancers = {
        host.name: _count(_balancer_lines(_log(layout, host), since.get(host.name, 0), names))
        for host in layout.of(Role.LB)
    }
    hosts = {
        host.name: _count(_service_lines(_log(layout, host), since.get(host.name, 0)))
        for host in layout.of(Role.WEB)
    }
    counts = [*balancers.values(), *hosts.values()]
    failed = sum(int(str(count["failures"])) for count in counts)
    return {"failed": failed, "balancers": balancers, "hosts": hosts}


Line = tuple[int, str, str]
"""Status, release and host of one request."""


def _count(lines: Iterator[Line]) -> Mapping[str, object]:
    statuses: Counter[str] = Counter()
    releases: Counter[str] = Counter()
    hosts: Counter[str] = Counter()
    for status, release, host in lines:
        statuses[str(status)] += 1
        releases[release] += 1
        hosts[host] += bool(host)
    return {
        "requests": statuses.total(),
        "failures": sum(count for status, count in statuses.items() if int(status) >= 500),
        "by_status": dict(statuses),
        "by_release": dict(releases),
        "by_host": {host: count for host, count in hosts.items() if host},
    }


def _balancer_lines(log: Path, since: int, names: Mapping[str, str]) -> Iterator[Line]:
    """`$status $upstream_addr $upstream_status $request_time $sent_http_x_release …`"""
    for line in _lines(log, since):
        fields = line.split()
        if len(fields) > 4:
            address = fields[1].partition(":")[0]
            yield int(fields[0]), fields[4], names.get(address, address)


def _service_lines(log: Path, since: int) -> Iterator[Line]:
    for line in _lines(log, since):
        fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
        yield int(fields["status"]), fields["release"], ""


def _lines(log: Path, since: int) -> Iterator[str]:
    """Whole lines from an offset on; one that is still being written is left for next time."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(since)
        for line in file:
            if line.endswith(b"\n"):
                yield line.decode(errors="replace")


def _log(layout: Layout, host: Host) -> Path:
    return ground.of(layout).files(layout, host) / LOGS[host.role]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def describe(counts: Mapping[str, object]) -> str:
    """The counts for a person."""
    lines = [f"failed requests since the mark: {counts['failed']}"]
    for kind in ("balancers", "hosts"):
        entries = counts[kind]
        assert isinstance(entries, dict)
        for name, count in entries.items():
            statuses = ", ".join(f"{k}: {v}" for k, v in sorted(count["by_status"].items()))
            lines.append(f"  {name:8} {count['requests']:7} requests   {statuses}")
    return "\n".join(lines)
