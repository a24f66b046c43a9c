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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opskit.lab import failures
from tests.support.fleet import Fleet

POOLS = {"app": "nginx", "edge": "HAProxy"}
COUNTERS = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")


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
    reloads: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        return float(self.load["rate"]["mean"])

    @property
    def closings(self) -> list[dict[str, Any]]:
        """Sockets that somebody else than their client has closed."""
        return list(self.load["sockets"]["closings"])

    def at_balancer(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.logs["balancers"][
            "lb1" if self.pool == "app" else "lb1/haproxy"
        ]
        return found

    def asked(self, count: Mapping[str, Any]) -> int:
        """How many of a log's requests were the load's, and not opskit's own."""
        return sum(count["by_path"].get(f"{method} /", 0) for method in ("GET", "POST"))

    def failures(self) -> dict[str, int]:
        """Everything that went wrong for somebody, by who has seen it."""
        hosts = self.logs["hosts"].values()
        found = {
            "client": self.load["failures"],
            "balancer": self.at_balancer()["failures"],
            "services": sum(count["failures"] for count in hosts),
            "POSTs twice": len(self.logs["posts"]["twice"]),
            "sockets refused": sum(self.load["sockets"]["not_opened"].values()),
            **{f"counter {name}": count for name, count in self.counters.items()},
        }
        return {name: count for name, count in found.items() if count}

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

    def row(self) -> str:
        """Return the figures of a round, on one line."""
        load, ways = self.load, self.load["by_way"]
        again = {way: count["reconnects"] for way, count in ways.items() if count["reconnects"]}
        closed = ", ".join(f"{who} {n}" for who, n in load["sockets"]["closed_by"].items())
        return (
            f"{POOLS[self.pool]}: {load['requests']} requests, {self.rate:.0f}/s "
            f"(worst second {load['rate']['worst_second']}), p99 {load['ms']['p99']:.0f} ms, "
            f"slowest {load['ms']['slowest']:.0f} ms; failed {self.failures() or 0}; "
            f"asked again {again or 0}, found closed {load['found_closed']}; "
            f"{load['sockets']['opened']} sockets, closed by {closed}"
        )


@contextmanager
def constant(
    fleet: Fleet, pool: str, *, rate: float, sockets: int = 50, hold: float | None = 6.0
) -> Iterator[Constant]:
    """Load a balancer from a process of its own while the block runs."""
    layout = fleet.lab.layout
    failures.mark(layout)
    before = _counters(fleet) if pool == "edge" else {}
    words = [sys.executable, "-m", "opskit", "lab", "load", "--json", "--dir", str(layout.folder)]
    words += ["--balancer", pool, "--rate", f"{rate:g}", "--threads", "24", "--posts", "0.3"]
    words += ["--sockets", str(sockets), "--seconds", "600"]
    words += [] if hold is None else ["--hold", f"{hold:g}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    found = Constant(pool=pool, began=time.time())
    try:
        time.sleep(1.5)  # its process begins, and opens its sockets
        yield found
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    found.load = json.loads(told)
    found.logs = _settled(fleet, found)
    found.reloads = tuple(at for at in _reloads(fleet) if at >= int(found.began))
    if before:
        found.counters = {name: count - before[name] for name, count in _counters(fleet).items()}


def _settled(fleet: Fleet, found: Constant) -> Mapping[str, Any]:
    """The logs, once the services have written their last lines: they answer first."""
    deadline = time.monotonic() + 5
    while True:
        logs: dict[str, Any] = dict(failures.read(fleet.lab.layout))
        hosts = sum(found.asked(count) for count in logs["hosts"].values())
        if hosts >= found.load["requests"] or time.monotonic() > deadline:
            return logs
        time.sleep(0.1)


def _counters(fleet: Fleet) -> dict[str, int]:
    """HAProxy's own counts of what went wrong with the servers of the colours."""
    lines = fleet.sh("lb1", asked("show stat")).removeprefix("# ").splitlines()
    rows = [row for row in csv.DictReader(lines) if row["pxname"] == "app"]
    servers = [row for row in rows if row["svname"] != "BACKEND"]
    return {name: sum(int(row[name] or 0) for row in servers) for name in COUNTERS}


def _reloads(fleet: Fleet) -> list[float]:
    """When nginx's workers were told to end with their last requests, in whole seconds."""
    log = fleet.sh("lb1", "cat /var/log/nginx/error.log; date +%z")
    zone = log.splitlines()[-1]
    times = re.findall(
        r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[notice\] .*: gracefully shutting down", log
    )
    return [
        datetime.strptime(f"{at} {zone}", "%Y/%m/%d %H:%M:%S %z").timestamp()
        for at in sorted(set(times))
    ]
