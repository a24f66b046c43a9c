"""What the servers themselves wrote about requests: the balancers' logs, and the services' own."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from opskit.lab import ground, texts
from opskit.lab.layout import Layout, Role
from opskit.model.frozen import frozen

MARK = "failures.mark"
LOGS = f"{texts.SERVICE_ROOT.lstrip('/')}/shared/log"
CHECK = ("HEAD", "/health/")  # how HAProxy asks, by itself: no request of anybody's
FAULTS = tuple("SsPRIDUK")
"""How HAProxy's %ts begins where a request ended badly, and not by its client."""
_NGINX, _HAPROXY, _SERVICE, _POSTS = "nginx", "haproxy", "service", "posts"


@frozen
class Line:
    """One request, as a server wrote it down."""

    status: int
    release: str
    host: str
    method: str
    path: str
    ended: str = ""  # how, where that was not well: HAProxy's %ts, or `retried`

    @property
    def failed(self) -> bool:
        """A server's error, or (at HAProxy, below 0, or by how it ended) no whole answer."""
        cut = self.status != 101 and self.ended.startswith(FAULTS)
        return self.status >= 500 or self.status <= 0 or cut

    @property
    def answer(self) -> str:
        """Such as `GET / 200 A`."""
        ended = f"/{self.ended}" if self.ended else ""
        return f"{self.method} {self.path} {self.status}{ended} {self.release}"


def mark(layout: Layout) -> None:
    """Count from here on: remember how long each log is now."""
    sizes = {name: _size(path) for name, _, path in _logs(layout)}
    (layout.folder / "run" / MARK).write_text(json.dumps(sizes), encoding="ascii")


def read(layout: Layout) -> Mapping[str, object]:
    """Requests and failures (5xx) since the mark, by the balancers' logs and by the hosts' own.

    `failed` is the sum of all `failures`. A balancer counts what it sent to each host, too.
    `posts` are POSTs with an id, and those that were delivered more than once, to whomever.
    """
    since: Mapping[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        since = json.loads((layout.folder / "run" / MARK).read_bytes())
    names = {host.address: host.name for host in layout.hosts}
    balancers, hosts, posts = {}, {}, Counter[str]()
    for name, kind, path in _logs(layout):
        lines = _lines(path, since.get(name, 0))
        if kind == _POSTS:
            posts.update(line.strip() for line in lines)
        elif kind == _SERVICE:
            hosts[name] = _count(line for line in _keyed(lines, {}) if not _is_check(line))
        elif kind == _NGINX:
            balancers[name] = _count(_nginx(lines, names))
        else:
            balancers[name] = _count(_keyed(lines, names))
    counts = [*balancers.values(), *hosts.values()]
    failed = sum(int(str(count["failures"])) for count in counts)
    return {"failed": failed, "balancers": balancers, "hosts": hosts, "posts": _delivered(posts)}


def _logs(layout: Layout) -> Iterator[tuple[str, str, Path]]:
    """Each log's name, kind and path."""
    for host in layout.hosts:
        disk = ground.of(layout).files(layout, host)
        if host.role is Role.WEB:
            yield host.name, _SERVICE, disk / LOGS / "access.log"
            yield f"{host.name}/posts", _POSTS, disk / LOGS / "posts.log"
        else:
            yield host.name, _NGINX, disk / "var/log/nginx/access.log"
            if layout.haproxy:
                log = disk / texts.HAPROXY_LOG.lstrip("/")
                yield f"{host.name}/haproxy", _HAPROXY, log


def _delivered(posts: Counter[str]) -> Mapping[str, object]:
    twice = {number: count for number, count in posts.items() if count > 1}
    return {"ids": len(posts), "deliveries": posts.total(), "twice": twice}


def _count(lines: Iterator[Line]) -> Mapping[str, object]:
    statuses: Counter[str] = Counter()
    releases: Counter[str] = Counter()
    hosts: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    failed = 0
    for line in lines:
        statuses[str(line.status)] += 1
        releases[line.release] += 1
        hosts[line.host] += bool(line.host)
        paths[f"{line.method} {line.path}"] += 1
        answers[line.answer] += 1
        failed += line.failed
    return {
        "requests": statuses.total(),
        "failures": failed,
        "by_status": dict(statuses),
        "by_release": dict(releases),
        "by_host": {host: count for host, count in hosts.items() if host},
        "by_path": dict(paths),
        "by_answer": dict(answers),
    }


def _nginx(lines: Iterator[str], names: Mapping[str, str]) -> Iterator[Line]:
    """`$status $upstream_addr $upstream_status $request_time $sent_http_x_release … "$request"`"""
    for line in lines:
        head, _, request = line.partition('"')
        fields = head.replace(", ", ",").split()  # who was tried one after the other is one field
        if len(fields) > 4:
            *before, last = fields[1].split(",")
            address = last.partition(":")[0]
            method, path, *_ = *request.split(), "-", "-"
            yield Line(
                status=int(fields[0]),
                release=fields[4],
                host=names.get(address, address),
                method=method,
                path=path.partition("?")[0],
                ended="retried" if before else "",
            )


def _keyed(lines: Iterator[str], names: Mapping[str, str]) -> Iterator[Line]:
    """`status= release= method= path=`, and at HAProxy `upstream=`; it writes other lines, too."""
    for line in lines:
        fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
        if "status" in fields and "path" in fields:
            yield Line(
                status=int(fields["status"]),
                release=fields["release"],
                host=names.get(fields.get("upstream", ""), ""),
                method=fields["method"],
                path=fields["path"],
                ended=fields.get("ended", "").removeprefix("--"),
            )


def _is_check(line: Line) -> bool:
    return (line.method, line.path) == CHECK


def _lines(log: Path, since: int) -> Iterator[str]:
    """Whole lines from an offset on; one that is still being written is left for next time."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(since)
        for line in file:
            if line.endswith(b"\n"):
                yield line.decode(errors="replace")


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
            lines.append(f"  {name:12} {count['requests']:7} requests   {statuses}")
    posts = counts["posts"]
    assert isinstance(posts, dict)
    if posts["ids"]:
        lines.append(
            f"POSTs with an id: {posts['ids']}, delivered twice or more: {len(posts['twice'])}"
        )
    return "\n".join(lines)
