"""A constant load on one of a lab's balancers while something is done, and all that is known of it:
by the client, by the balancer's log and counters, and by the services' own logs.
"""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opskit.lab import failures
from tests.support.fleet import Fleet

POOLS = {"app": "nginx", "edge": "HAProxy"}
COUNTERS = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")
ERROR_LOG = "/var/log/nginx/error.log"


def asked(command: str) -> str:
    """Return the shell line that asks HAProxy by its socket."""
    peer = "IO::Socket::UNIX->new(Peer => q(/run/haproxy.sock)) or die"
    return f"perl -MIO::Socket::UNIX -e '$s = {peer}; print $s qq({command}\\n); print while <$s>'"


@dataclass(kw_only=True)
class Constant:
    """What became of a load; all but `pool` and `began` is there once it has ended."""

    pool: str
    began: float
    load: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    told: Mapping[str, int] = field(default_factory=dict)
    reloads: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        return float(self.load["rate"]["mean"])

    @property
    def well(self) -> int:
        """How many requests the client saw end well."""
        return sum(statuses.get("200", 0) for statuses in self.load["by_release"].values())

    @property
    def closings(self) -> list[dict[str, Any]]:
        """Sockets that somebody else than their client has closed."""
        return list(self.load["sockets"]["closings"])

    @property
    def posts(self) -> int:
        """How many POSTs were sent."""
        return sum(n["requests"] for way, n in self.load["by_way"].items() if "POST" in way)

    def at_balancer(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.logs["balancers"][
            "lb1" if self.pool == "app" else "lb1/haproxy"
        ]
        return found

    def answers(self, count: Mapping[str, Any]) -> Counter[tuple[str, str]]:
        """How the load's requests, and not opskit's own, ended in a log: status and release."""
        found: Counter[tuple[str, str]] = Counter()
        for answer, number in count["by_answer"].items():
            method, path, status, release = answer.split(" ")
            if path == "/" and method in ("GET", "POST"):
                found[(status, release)] += number
        return found

    def asked(self, count: Mapping[str, Any]) -> int:
        """How many of a log's requests were the load's."""
        return self.answers(count).total()

    def answered(self, count: Mapping[str, Any]) -> dict[str, int]:
        """By whom the load's good answers came, as a log has it."""
        found: Counter[str] = Counter()
        for (status, release), number in self.answers(count).items():
            found[release] += number if status == "200" else 0
        return dict(found)

    def failures(self) -> dict[str, int]:
        """Everything that went wrong for somebody, by who has seen it and how it ended."""
        found: Counter[str] = Counter()
        for error, number in self.load["errors"].items():
            found[f"client: {error}"] += number
        for statuses in self.load["by_release"].values():
            for status, number in statuses.items():
                found[f"client: {status}"] += number if status != "200" else 0
        views = {"balancer": [self.at_balancer()], "services": self.logs["hosts"].values()}
        for view, counts in views.items():
            for count in counts:
                for (status, _), number in self.answers(count).items():
                    found[f"{view}: {status}"] += number if status != "200" else 0
        found["POSTs twice"] += len(self.logs["posts"]["twice"])
        for how, number in self.load["sockets"]["not_opened"].items():
            found[f"socket refused: {how}"] += number
        for kind, number in {**self.told, **self.counters}.items():
            found[f"balancer tells: {kind}"] += number
        return {name: number for name, number in found.items() if number}

    def closed_early(self, drain: float, stopped: tuple[float, ...]) -> list[dict[str, Any]]:
        """Sockets that were not left their time: after a reload of nginx, or after a stop.

        nginx's log tells whole seconds: workers were told to end at the beginning of theirs.
        """
        early = []
        for one in self.closings:
            opened = one["at"] - one["lived"]
            if one["by"] == "service":
                ends = [at + drain for at in stopped if at <= one["at"]][-1:]
            else:
                ends = [at + drain for at in self.reloads if at + 1 > opened][:1]
            if not ends or one["at"] < ends[0]:
                early.append(one)
        return early

    def again(self) -> dict[str, int]:
        """Requests on kept connections that were reset unanswered, and asked again, by kind."""
        ways = self.load["by_way"].items()
        return {way: count["reconnects"] for way, count in ways if count["reconnects"]}

    def row(self) -> str:
        """Return the figures of a round, on one line."""
        load, rate = self.load, self.load["rate"]
        closed = ", ".join(f"{who} {n}" for who, n in load["sockets"]["closed_by"].items())
        return (
            f"{POOLS[self.pool]}: {load['requests']} requests, {self.rate:.0f}/s "
            f"(worst second {rate['worst_second']}, not sent {rate['unsent']}), "
            f"p99 {load['ms']['p99']:.0f} ms, "
            f"slowest {load['ms']['slowest']:.0f} ms; failed {self.failures() or 0}; "
            f"asked again {self.again() or 0}, found closed {load['found_closed']}; "
            f"{load['sockets']['opened']} sockets, closed by {closed}"
        )


@contextmanager
def constant(
    fleet: Fleet,
    pool: str,
    *,
    rate: float,
    sockets: int = 50,
    hold: float | None = 6.0,
    afterwards: float = 0.0,
) -> Iterator[Constant]:
    """Load a balancer from a process of its own while the block runs.

    It goes on for some seconds `afterwards`: what was done last may still do harm.
    """
    layout = fleet.lab.layout
    failures.mark(layout)
    before = _counters(fleet) if pool == "edge" else {}
    lines = _errors(fleet) if pool == "app" else []
    words = [sys.executable, "-m", "opskit", "lab", "load", "--json", "--dir", str(layout.folder)]
    words += ["--balancer", pool, "--rate", f"{rate:g}", "--threads", "24", "--posts", "0.3"]
    words += ["--sockets", str(sockets), "--seconds", "600"]
    words += [] if hold is None else ["--hold", f"{hold:g}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    found = Constant(pool=pool, began=time.time())
    try:
        time.sleep(1.5)  # its process begins, and opens its sockets
        yield found
        time.sleep(afterwards)
        assert process.poll() is None, "the load ended before what it was beside"
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    found.load = json.loads(told)
    found.logs = _settled(fleet, found)
    if pool == "app":
        found.reloads = tuple(at for at in _reloads(fleet) if at >= int(found.began))
        found.told = Counter(_errors(fleet)[len(lines) :])
    else:
        found.counters = _since(before, _counters(fleet))


def _settled(fleet: Fleet, found: Constant) -> Mapping[str, Any]:
    """The logs, once the services have written their last lines: they answer first."""
    deadline = time.monotonic() + 30
    while True:
        logs: dict[str, Any] = dict(failures.read(fleet.lab.layout))
        hosts = [found.answered(count) for count in logs["hosts"].values()]
        written = sum(sum(by_release.values()) for by_release in hosts)
        if written >= found.well or time.monotonic() > deadline:
            return logs
        time.sleep(0.1)


def _since(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What counters have come to; another process (after a reload) has begun anew, at 0."""
    kept = before if before["pid"] == after["pid"] else dict.fromkeys(before, 0)
    return {f"counter {name}": after[name] - kept[name] for name in COUNTERS}


def _counters(fleet: Fleet) -> dict[str, int]:
    """HAProxy's own counts of what went wrong with the servers of the colours."""
    told, _, stat = fleet.sh("lb1", asked("show info;show stat")).partition("# pxname")
    pid = next(line for line in told.splitlines() if line.startswith("Pid: "))
    rows = [row for row in csv.DictReader(f"pxname{stat}".splitlines()) if row["pxname"] == "app"]
    servers = [row for row in rows if row["svname"] != "BACKEND"]
    counts = {name: sum(int(row[name] or 0) for row in servers) for name in COUNTERS}
    return {**counts, "pid": int(pid.split()[1])}


def _errors(fleet: Fleet) -> list[str]:
    """What nginx has complained of so far, from the level `error` on, without addresses."""
    log = fleet.sh("lb1", f"cat {ERROR_LOG}")
    lines = re.findall(r"\[((?:error|crit|alert|emerg)\]) \d+#\d+: (?:\*\d+ )?([^,\n]*)", log)
    return [f"[{level} {re.sub(r'[0-9.:]{9,}', '…', what)}" for level, what in lines]


def _reloads(fleet: Fleet) -> list[float]:
    """When nginx's workers were told to end with their last requests, in whole seconds."""
    log = fleet.sh("lb1", f"cat {ERROR_LOG}; date +%z")
    zone = log.splitlines()[-1]
    times = re.findall(
        r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[notice\] .*: gracefully shutting down", log
    )
    return [
        datetime.strptime(f"{at} {zone}", "%Y/%m/%d %H:%M:%S %z").timestamp()
        for at in sorted(set(times))
    ]
