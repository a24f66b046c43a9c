"""The gate's shell text: what it reads of logs, counts and a real HAProxy, and when it can't."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opskit.lab.load import Load
from tests.steps.test_colours import Balancer
from tests.steps.test_gate import shell_text
from tests.support import colours
from tests.support import haproxy as support
from tests.support.haproxy import Haproxy
from tests.support.nginx import Member

pytestmark = pytest.mark.acceptance
NEW, OLD = "10.0.0.1:8000", "10.0.0.2:8000"
QUICK: Mapping[str, object] = {
    "pool": "web",
    "for": "3s",
    "window": "1s",
    "sample": 60,
    "old_sample": 60,
}


@dataclass(kw_only=True)
class Traffic:
    """Writes an access log as a balancer would: of each `every` lines of the new side one fails."""

    log: Path
    every: int = 0
    ms: int = 20
    new: bool = True
    line: str = "{side} {status} {time}"
    then: Callable[["Traffic"], None] | None = None
    number: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.log.write_text("")
        self.open = self.log.open("a", buffering=1)
        self.thread = threading.Thread(target=self.go)
        self.thread.start()

    def write(self, side: str, status: int, ms: int) -> None:
        words = self.line.format(side=side, status=status, time=ms / 1000)
        self.open.write(f"{words} n{self.number}\n" if "up" not in words else words + "\n")

    def go(self) -> None:
        while not self.over.wait(0.02):
            for _ in range(4):
                self.number += 1
                if self.new:
                    bad = self.every and self.number % self.every == 0
                    self.write(NEW, 502 if bad else 200, self.ms)
                self.write(OLD, 200, 20)
            if self.number == 240 and self.then:
                self.then(self)


def rotate(traffic: Traffic) -> None:
    """As logrotate does: the new file is there before whoever writes has noticed."""
    traffic.log.rename(traffic.log.with_suffix(".1"))
    traffic.log.write_text("")
    time.sleep(0.2)
    traffic.write(NEW, 200, 20)
    traffic.open.close()
    traffic.open = traffic.log.open("a", buffering=1)


def cut(traffic: Traffic) -> None:
    """As copytruncate does."""
    os.truncate(traffic.log, 0)


def garble(traffic: Traffic) -> None:
    traffic.line = "{side} {time}"


def fall_silent(traffic: Traffic) -> None:
    traffic.over.set()


def entry(log: Path, **more: object) -> Mapping[str, object]:
    return {"type": "nginx", "log": str(log), "health": None, "port": 8000, **more}


def start(
    entry: Mapping[str, object],
    args: Mapping[str, object],
    shell: str = "sh",
    path: str = os.environ["PATH"],
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*shell.split(), "-euc", shell_text(entry, {**QUICK, **args})],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def poor(folder: Path) -> str:
    """Return a PATH whose awk is that of busybox, which is often built without mathematics."""
    awk = folder / "bin" / "awk"
    awk.parent.mkdir()
    awk.write_text('#!/bin/sh\nexec busybox awk "$@"\n')
    awk.chmod(0o755)
    return f"{awk.parent}:{os.environ['PATH']}"


def test_what_is_read_of_a_log(tmp_path: Path) -> None:
    """All at once, as each takes three seconds."""
    named = '{{"up": "x/{side}", "status":{status}, "time": "0/0/1/3/{time}"}}'
    fields = {"side": "up", "status": "status", "time": "time"}
    tried = "{status} {time} 10.9.9.9:1, {side}"
    cases: list[tuple[str, dict[str, object], dict[str, object], str]] = [
        ("well", {}, {}, "PASS: web1 "),
        ("bad", {"every": 12}, {}, "FAIL: "),
        ("awful", {"every": 2}, {}, "FAIL: above the hard limit of 20.00 %"),
        ("slow", {"ms": 45}, {}, "FAIL: slow in 3 windows in a row"),
        ("rotated", {"then": rotate}, {}, "PASS: web1 "),
        ("cut", {"then": cut}, {}, "so not all of it was seen"),
        ("garbled", {"then": garble}, {}, "lines of the log can't be read"),
        ("silent", {"then": fall_silent}, {}, "INCONCLUSIVE: no request of web1 for "),
        ("idle", {"new": False}, {}, "INCONCLUSIVE: too few requests: web1 0 requests"),
        ("json", {"line": named}, {"log_fields": fields}, "PASS: web1 "),
        (
            "tries",
            {"line": tried},
            {"log_fields": {"side": 3, "status": 1, "time": 2}},
            "PASS: web1 ",
        ),
        ("other", {"line": "x {status} {time}"}, {}, "lines of neither side"),
        ("poor and well", {}, {}, "PASS: web1 "),
        ("poor and bad", {"every": 12}, {}, "FAIL: "),
        ("poor and slow", {"ms": 45}, {}, "FAIL: slow in 3 windows in a row"),
    ]
    if shutil.which("busybox") is None:
        cases = [case for case in cases if not case[0].startswith("poor")]
    usual = os.environ["PATH"]
    shells = [s for s in ("dash", "bash", "busybox sh") if shutil.which(s.split()[0])]
    traffic = [Traffic(log=tmp_path / name, **how) for name, how, _, _ in cases]  # type: ignore[arg-type]
    logs = [entry(tmp_path / name, **more) for name, _, more, _ in cases]
    without = poor(tmp_path)
    gates = [
        start(one, {}, shells[n % len(shells)], without if name.startswith("poor") else usual)
        for n, (one, (name, *_)) in enumerate(zip(logs, cases, strict=True))
    ]
    gates.append(start(entry(tmp_path / "nowhere"), {}))
    ended = [(gate.communicate(timeout=90)[0], gate.returncode) for gate in gates]
    for one in traffic:
        one.over.set()
        one.thread.join()
        one.open.close()
    for (name, _, _, says), (said, status) in zip(cases, ended, strict=False):
        assert says in said.splitlines()[-1], (name, said)
        assert status == {"P": 0, "F": 1}.get(says[0], 7), (name, said)
    assert ended[-1] == (f"INCONCLUSIVE: {tmp_path}/nowhere can't be read\n", 7)
    rotated = ended[4][0].splitlines()[-1]
    assert int(rotated.split()[2]) > 0.8 * int(ended[0][0].splitlines()[-1].split()[2]), "none lost"


LATE = """
log_format side '$app_pool $status $request_time';
access_log {top}/late.log side buffer=64k flush=1s;
access_log {top}/later.log side buffer=64k flush=1m30s;
access_log {top}/never.log side buffer=64k;
"""


def test_what_opskit_has_asked_to_count_shares_is_no_traffic(tmp_path: Path) -> None:
    """nginx may write of it when the gate has begun: nobody else has asked anything here."""
    nginx = colours.make(tmp_path / "nginx")
    try:
        nginx.active.with_name("late.conf").write_text(LATE.format(top=nginx.top))
        nginx.run("-s", "reload")
        assert Balancer(nginx)(to="green", share=50, sample=200)[0] == 0
        assert Balancer(nginx)(ready="green", sample=200)[0] == 0
        args = {"pool": "app", "new": "green", "for": "1s", "window": "1s"}
        said = []
        for name in ("late", "later", "never"):
            gate = start({**nginx.entry(), "log": f"{nginx.top}/{name}.log"}, args)
            said.append(gate.communicate(timeout=90)[0].splitlines()[-1])
        assert len((nginx.top / "late.log").read_text().splitlines()) >= 400
    finally:
        nginx.stop()
        for member in nginx.members:
            member.close()
    assert said[0].startswith("INCONCLUSIVE: too few requests: green 0 requests"), said
    assert f"INCONCLUSIVE: nginx keeps lines of {nginx.top}/later.log back for 90 s" in said[1]
    assert "until its buffer is full (buffer= without flush=)" in said[2], said


class Counts(BaseHTTPRequestHandler):
    """Tells counts that grow by a hundred at each look."""

    asked = 0

    def do_GET(self) -> None:
        Counts.asked += 1
        side = {"requests": 100 * Counts.asked, "errors": 0, "p95_ms": 20}
        told = {"web1": {**side, "p95_ms": 24}, "web2": side, "web9": {"requests": "?"}}
        body = json.dumps(told).encode() if self.path == "/counts?all" else b"{"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A test's output is for the test."""


def test_counts_that_somebody_else_tells(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Counts) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        gates = [
            start(entry(tmp_path, counts=base + page), {"for": "2s"})
            for page in ("/counts?all", "/")
        ]
        said = [gate.communicate(timeout=90)[0].splitlines()[-1] for gate in gates]
        server.shutdown()
    assert said[0].startswith("PASS: web1 "), said
    assert "p95 24 ms; web2 " in said[0]
    assert said[1] == "INCONCLUSIVE: what tells counts is no whole JSON"


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Haproxy]:
    found = support.make(tmp_path / "haproxy")
    for name in ("green1", "green2"):
        found.talk(f"set server app/{name} state ready")
    yield found
    found.stop()
    for member in found.members:
        member.close()


@pytest.mark.skipif(support.program() is None, reason="needs haproxy (scripts/setup)")
def test_haproxy_counts_itself_and_begins_anew_when_it_is_reloaded(haproxy: Haproxy) -> None:
    args = {"pool": "app", "new": "green", "for": "2s", "sample": 30, "old_sample": 30}
    with Load(url=f"http://{haproxy.listen}/", rate=200, threads=4):
        passed = start(haproxy.entry(), args)
        said = passed.communicate(timeout=90)[0]
        assert "PASS: green " in said
        assert said.endswith("; HAProxy tells no p95, so mean times were compared\n"), said
        reloaded = start(haproxy.entry(), {**args, "for": "4s"})
        assert reloaded.stdout is not None
        assert ": well" in reloaded.stdout.readline()
        haproxy.reload()
        said = reloaded.communicate(timeout=90)[0]
        assert "INCONCLUSIVE: HAProxy was reloaded, and its counters began anew" in said, said
        gone = start(haproxy.entry(), {**args, "for": "40s"})
        time.sleep(0.5)
        haproxy.servers["green1"].close()
        begun = time.monotonic()
        said = gone.communicate(timeout=90)[0]
        took = time.monotonic() - begun
    haproxy.members[2] = Member(*_place(haproxy.members[2]))
    assert "FAIL: " in said.splitlines()[-1], said
    assert took < 25


def _place(member: Member) -> tuple[str, int]:
    host, _, port = member.where.partition(":")
    return host, int(port)
