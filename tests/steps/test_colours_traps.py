"""Traps of HAProxy for a switch of colours: several processes, what a file of states brings."""

import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.steps.test_colours_haproxy import BLUE, Balancer, balancer, shared
from tests.support import haproxy as support
from tests.support.haproxy import Haproxy
from tests.support.nginx import wait_until

__all__ = ["balancer", "shared"]
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(support.program() is None, reason="needs haproxy (scripts/setup)"),
]
GREEN = ["100 DRAIN", "100 DRAIN", "100 UP", "100 UP"]


@contextmanager
def twin(haproxy: Haproxy) -> Iterator[None]:
    """Run another HAProxy with the same configuration beside it, on the same port."""
    conf, pid = haproxy.top / "twin.cfg", haproxy.top / "twin.pid"
    text = haproxy.conf.read_text().replace("admin.sock", "twin.sock").replace("/pid", "/twin.pid")
    conf.write_text(text.replace("    master-worker\n", ""))
    subprocess.run([str(support.program()), "-D", "-f", str(conf)], check=True, capture_output=True)
    try:
        yield
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@contextmanager
def held(haproxy: Haproxy) -> Iterator[socket.socket]:
    """Keep a request under way with a server of blue."""
    for member in haproxy.members[:2]:
        member.slow = 60.0
    host, _, port = haproxy.listen.partition(":")
    try:
        with socket.create_connection((host, int(port))) as peer:
            peer.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: sum(haproxy.sessions()) == 1)
            yield peer
    finally:
        for member in haproxy.members[:2]:
            member.go_on.set()
            member.go_on = type(member.go_on)()
            member.slow = 1.0


def test_another_process_that_has_half_of_the_connections_is_seen_by_who_answers(
    balancer: Balancer,
) -> None:
    """Its socket is another one, so it is told nothing; HAProxy and its states look well."""
    haproxy = balancer.haproxy
    (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
    with twin(haproxy):
        assert balancer(show=True)[1].startswith("blue 100\n")
        status, said = balancer(to="green")
        assert status == 4, said
        assert "HAProxy has it, but of 60 fresh connections" in said
        assert "came to green (60 expected)" in said
        assert "states and weights are as before: blue 100" in said
        assert haproxy.state() == BLUE
    status, said = balancer(to="green")
    assert (status, "backend app has green 100" in said) == (0, True), said


def test_what_a_process_from_before_a_reload_still_has_of_a_colour_is_waited_for(
    balancer: Balancer,
) -> None:
    """The socket tells of the new process alone, which has no session with blue."""
    haproxy = balancer.haproxy
    (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
    with held(haproxy) as peer:
        haproxy.reload()
        assert balancer(to="green")[0] == 0
        assert sum(haproxy.sessions()) == 0
        status, said = balancer(alone="green", drain_timeout=1)
        assert status == 1, said
        assert re.search(r"still has (\d) sessions with blue; \1 of another process of", said), said
        haproxy.members[0].go_on.set()
        haproxy.members[1].go_on.set()
        assert peer.recv(12) == b"HTTP/1.1 200", "it was not cut off"
        assert "no session with blue any more" in balancer(alone="green")[1]


class Drains(socketserver.BaseRequestHandler):
    """Tells HAProxy, as an agent beside a server may, that the server wants no requests."""

    def handle(self) -> None:
        self.request.sendall(b"drain\n")


def test_what_haproxy_was_told_and_says_nothing_against_is_looked_at_all_the_same(
    balancer: Balancer,
) -> None:
    """Each order is obeyed, and answered by nothing; an agent of green undoes it at once."""
    haproxy = balancer.haproxy
    (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drains) as agent:
        threading.Thread(target=agent.serve_forever, kwargs={"poll_interval": 0.05}).start()
        port = agent.server_address[1]
        asks = f"    agent-check agent-addr 127.0.0.1 agent-port {port} agent-inter 20"
        lines = haproxy.conf.read_text().split("\n")
        lines = [f"{line}{asks}" if "server green" in line else line for line in lines]
        haproxy.conf.write_text("\n".join(lines))
        haproxy.reload()
        status, said = balancer(to="green")
        agent.shutdown()
    haproxy.write()
    haproxy.reload()
    assert status == 4, said
    assert re.search(r"not done it: green1|no server of backend app|has it, but of", said), said
    assert "states and weights are as before: blue 100" in said


RELOAD = """
import os, signal, socket, sys, time

def answers():
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(sys.argv[1])
        except OSError:
            return ""
        peer.sendall(b"show info\\n")
        told = b""
        while more := peer.recv(65536):
            told += more
    return next((line for line in told.decode().splitlines() if line.startswith("Pid:")), "")

before, end = answers(), time.monotonic() + 40
os.kill(int(open(sys.argv[2]).read()), signal.SIGUSR2)
while time.monotonic() < end and any(answers() in ("", before) for _ in range(8)):
    time.sleep(0.02)
"""


def test_states_of_one_process_and_counts_of_another_are_not_put_together(
    balancer: Balancer,
) -> None:
    """A reload comes between the first question and the second; the way back asks once more."""
    haproxy = balancer.haproxy
    (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
    assert balancer(to="green")[0] == 0
    before, pid = haproxy.info("Pid"), haproxy.top / "pid"
    script = haproxy.top / "reload.py"
    script.write_text(RELOAD)
    reload = f"{sys.executable} -IS {script} {haproxy.top}/admin.sock {pid}"
    balancer.entry["test"] = f"{balancer.entry['test']} ; {reload}"
    status, said = balancer(show=True)
    assert status == 3, said
    now = haproxy.info("Pid")
    assert now != before
    assert f"HAProxy was reloaded meanwhile (process {before}, now {now})" in said
    status, said = balancer(back=True)
    assert (status, haproxy.info("Pid") != now, haproxy.state()) == (0, True, BLUE), said


def test_a_change_that_was_cut_off_before_a_reload_would_know_of_it_is_noticed(
    balancer: Balancer,
) -> None:
    haproxy, states = balancer.haproxy, balancer.haproxy.top / "states"
    states.write_text("1\n")
    status, said = balancer(show=True)
    assert (status, said.count("is drained with weight 100 and would be ready")) == (0, 2), said
    states.write_text(haproxy.talk("show servers state"))
    assert "would be" not in balancer(show=True)[1]
    old, then = states.read_text(), states.stat().st_mtime
    assert balancer(to="green")[0] == 0
    for _ in range(2):
        assert "would be" not in balancer(ready="green")[1]
        haproxy.reload()  # what is kept comes back
    states.write_text(old)  # as a kill leaves it, between the orders and the file
    os.utime(states, (then, then))
    for look in ({"show": True}, {"ready": "green"}):
        said = balancer.refuses(**look)
        assert f"was cut off before {states} was written, so a reload would undo it: blue1" in said
        assert "green2 is ready with weight 100 and would be drained with weight 100" in said
        assert f"opskit resume {balancer.run}" in said
    status, said = balancer(found=balancer.run)
    assert (status, said.startswith("blue 100\n")) == (0, True), "what is put back is kept, too"
    assert "already" in balancer(to="green")[1]
    assert balancer(show=True)[1].startswith("green 100\n")
    haproxy.reload()
    assert haproxy.state() == GREEN


def test_an_address_that_the_configuration_has_no_more_is_noticed(balancer: Balancer) -> None:
    """HAProxy takes ports, and who a name is, from its file of states: 503, or another machine."""
    haproxy, states = balancer.haproxy, balancer.haproxy.top / "states"
    where = haproxy.members[3].where
    host, _, port = where.rpartition(":")
    states.write_text(haproxy.talk("show servers state"))
    for now in (f"{host}:1", f"localhost:{port}"):
        haproxy.conf.write_text(haproxy.conf.read_text().replace(where, now))
        haproxy.reload()
        assert haproxy.address("green2") == where, "it has the old one"
        wrong = f"server green2 is at {where}, and the configuration says {now}"
        for look in ({"ready": "green"}, {"to": "green", "share": 50}):
            assert wrong in balancer.refuses(**look)
        status, said = balancer(show=True)
        assert (status, said.startswith("blue 100\n"), wrong in said) == (0, True, True), said
        assert "blue can have traffic" in balancer(ready="blue")[1], "green can be left"
        haproxy.write()
    haproxy.reload()
    assert balancer(show=True)[1].startswith("blue 100\n")


def test_the_way_back_is_not_refused_for_what_only_a_reload_would_do(balancer: Balancer) -> None:
    """Somebody edits the configuration while a switch is watched: its undo needs no reload."""
    haproxy = balancer.haproxy
    (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
    first, where = balancer.run, haproxy.members[1].where
    host, _, _ = where.rpartition(":")
    later = time.time() + 60
    for of in ({}, {"of": first}):
        assert balancer(to="green")[0] == 0
        conf = haproxy.conf.read_text().replace(where, f"{host}:1")
        haproxy.conf.write_text(f"{conf}    nonsense\n")
        os.utime(haproxy.conf, (later, later))
        assert "configuration is not valid" in balancer.refuses(ready="blue")
        if of:
            balancer.run = "later"
            status, said = balancer(found=first)
            assert (status, said.startswith("blue 100\n")) == (0, True), said
        status, said = balancer(back=True, **of)
        assert (status, "found it: blue 100 (before: green 100)" in said) == (0, True), said
        for told in ("configuration is not valid", "was changed after HAProxy loaded it"):
            assert told in said
        assert (f"blue2 is at {where}, and the configuration says {host}:1" in said) == bool(of)
        assert haproxy.state() == BLUE
        haproxy.write()
        os.utime(haproxy.conf, (1, 1))


def test_traffic_goes_back_also_where_nothing_can_be_written(balancer: Balancer) -> None:
    """A disk that is full is no reason to leave it where it fails; that a reload would is told."""
    haproxy, states = balancer.haproxy, balancer.haproxy.top / "states"
    states.write_text(haproxy.talk("show servers state"))
    assert balancer(to="green")[0] == 0
    full = haproxy.top / "states.opskit-new"
    full.mkdir()
    try:
        status, said = balancer(back=True)
        assert (status, haproxy.state()) == (5, BLUE), said
        assert f"the traffic is back, but {states} can't be written, so a reload would" in said
    finally:
        full.rmdir()
    assert "was cut off before" in balancer.refuses(show=True), "as after a kill in the middle"
    assert "as this run found it: blue 100" in balancer(back=True)[1]
    haproxy.reload()
    assert haproxy.state() == BLUE
