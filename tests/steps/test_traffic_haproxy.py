"""The traffic step with HAProxy: its shell text against a real one, its socket, its traps."""

import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.steps import traffic
from opskit.steps.base import Value
from tests.steps.test_traffic import step, words
from tests.support import haproxy as support
from tests.support.haproxy import Haproxy
from tests.support.nginx import Member, wait_until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(support.program() is None, reason="needs haproxy (scripts/setup)"),
]
UP = ["100 UP"] * 4


class Balancer:
    """Runs the kind's shell text as the driver would; web1 to web4 are the backend's servers."""

    def __init__(self, haproxy: Haproxy, home: Path) -> None:
        self.haproxy = haproxy
        self.home = home
        self.entry = haproxy.entry()

    def start(self, action: str, member: int = 1, **more: object) -> subprocess.Popen[str]:
        where = [one.where.rpartition(":") for one in self.haproxy.members]
        addresses = {f"web{n}": host for n, (host, _, _) in enumerate(where, 1)}
        args: dict[str, object] = {"pool": "web", "up_timeout": 15, **more}
        args[action] = True if action == "check" else f"web{member}"
        entry = {**self.entry, "port": int(where[member - 1][2])}
        given: dict[str, Value] = {**words(args), "balancer": words(entry)}
        given["addresses"] = words(addresses)
        return subprocess.Popen(
            ["sh", "-euc", traffic.work(given, step(args)).text.fixed()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(self.home)},
        )

    def __call__(self, action: str, member: int = 1, **more: object) -> tuple[int, str]:
        process = self.start(action, member, **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def refuses(self, action: str, member: int = 1, **more: object) -> str:
        """What is said; nothing may have been touched."""
        before = self.haproxy.state()
        status, said = self(action, member, **more)
        assert status == 3, said
        assert self.haproxy.state() == before
        return said

    def order(self, member: int, what: str) -> None:
        name = [*self.haproxy.servers][member - 1]
        assert not self.haproxy.talk(f"set server app/{name} {what}").strip()

    def seen(self) -> set[str]:
        return {self.get() for _ in range(12)}

    def get(self, path: str = "/", **headers: str) -> str:
        host, _, port = self.haproxy.listen.partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def hold(self, member: int) -> threading.Thread:
        """Keep a request under way with one member until its `go_on` is set."""
        others = [n for n in range(1, 5) if n != member]
        one = self.haproxy.members[member - 1]
        one.slow = 20.0
        for n in others:
            self.order(n, "weight 0")
        thread = threading.Thread(target=self.get, args=("/slow",))
        thread.start()
        wait_until(lambda: self.haproxy.sessions()[member - 1] == 1)
        for n in others:
            self.order(n, "weight 100")
        return thread

    def let_go(self, member: int, thread: threading.Thread) -> None:
        one = self.haproxy.members[member - 1]
        one.go_on.set()
        thread.join()
        one.go_on.clear()
        one.slow = 1.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haproxy]:
    haproxy = support.make(tmp_path_factory.mktemp("haproxy"))
    yield haproxy
    haproxy.stop()
    for member in haproxy.members:
        member.close()


@pytest.fixture
def balancer(shared: Haproxy, tmp_path: Path) -> Iterator[Balancer]:
    """The shared HAProxy with all of its servers up, before a test and after it."""
    _all_up(shared)
    yield Balancer(shared, tmp_path)
    _all_up(shared)


def _all_up(shared: Haproxy) -> None:
    for place, member in enumerate(shared.members):
        if not member.thread.is_alive():
            host, _, port = member.where.rpartition(":")
            shared.members[place] = Member(host, int(port))
    for name in shared.servers:
        shared.talk(f"set server app/{name} weight 100")
        shared.talk(f"set server app/{name} state ready")
    wait_until(lambda: shared.state() == UP)


def test_a_drained_server_gets_no_requests_and_comes_back_with_its_weight(
    balancer: Balancer,
) -> None:
    haproxy = balancer.haproxy
    process, where = haproxy.info("Pid"), haproxy.members[0].where
    balancer.order(1, "weight 40")
    status, said = balancer("spare")
    assert (status, f"backend app can spare web1 ({where})" in said) == (0, True), said
    assert haproxy.state()[0] == "40 UP"
    status, said = balancer("drain")
    assert (status, f"web1 ({where}) is out of backend app, in maintenance" in said) == (0, True)
    assert haproxy.state() == ["40 MAINT", *UP[1:]]
    assert where not in balancer.seen()
    assert "was out of backend app already" in balancer("drain")[1]
    haproxy.reload()
    assert haproxy.info("Pid") != process
    assert haproxy.state() == ["100 MAINT", *UP[1:]], "HAProxy itself forgets its weight"
    status, said = balancer("ready")
    assert (status, f"web1 ({where}) is in backend app: UP, check L7OK" in said) == (0, True), said
    assert haproxy.state() == ["40 UP", *UP[1:]]
    assert where in balancer.seen()
    assert "was in backend app already" in balancer("ready")[1], "an undo may come twice"


def test_a_server_that_nobody_has_checked_since_gets_no_request(balancer: Balancer) -> None:
    """Out of maintenance, HAProxy counts a server as up by a check from before."""
    haproxy = balancer.haproxy
    assert balancer("drain")[0] == 0
    haproxy.members[0].close()
    status, said = balancer("ready", up_timeout=1)
    assert status == 4, said
    assert "after 1 s checks do not say that blue1 is up: DOWN" in said
    assert "blue1 is MAINT, as before" in said
    assert haproxy.state()[0] == "100 MAINT"
    host, _, port = haproxy.members[0].where.rpartition(":")
    haproxy.members[0] = Member(host, int(port))
    assert balancer("ready")[0] == 0


def test_a_drain_waits_for_what_is_under_way_and_cuts_nothing(balancer: Balancer) -> None:
    under_way = balancer.hold(1)
    status, said = balancer("drain", drain_timeout=1)
    assert status == 6, said
    assert "is drained in backend app, but after 1 s HAProxy still has 1 session with it" in said
    assert balancer.haproxy.state()[0] == "100 DRAIN"
    assert under_way.is_alive()
    again = balancer.start("drain")
    time.sleep(0.5)
    assert again.poll() is None
    balancer.let_go(1, under_way)
    out, err = again.communicate(timeout=20)
    assert (again.returncode, "in maintenance: no session" in out) == (0, True), out + err
    assert balancer("ready")[0] == 0
    assert balancer.haproxy.state() == UP, "its first drain had found it in service"


@pytest.mark.soak
def test_what_a_process_from_before_a_reload_still_has_is_waited_for(balancer: Balancer) -> None:
    under_way = balancer.hold(1)
    balancer.haproxy.reload()
    assert balancer.haproxy.sessions()[0] == 0
    status, said = balancer("drain", drain_timeout=1)
    balancer.let_go(1, under_way)
    assert status == 6, said
    assert "HAProxy still has 1 session with it; 1 of another process of HAProxy" in said
    assert balancer("drain")[0] == 0


@pytest.mark.soak
def test_a_reload_in_the_middle_of_a_drain_is_noticed(balancer: Balancer) -> None:
    under_way = balancer.hold(1)
    draining = balancer.start("drain")
    states = balancer.haproxy.top / "states"
    wait_until(lambda: " blue1 127.0.0.2 2 8 " in states.read_text())
    time.sleep(0.3)
    balancer.haproxy.reload()
    out, err = draining.communicate(timeout=20)
    balancer.let_go(1, under_way)
    assert draining.returncode == 6, out + err
    assert "what is left of its sessions is not known: HAProxy was reloaded meanwhile" in err
    assert balancer.haproxy.state()[0] == "100 DRAIN"


@pytest.mark.soak
def test_neither_the_last_that_is_up_nor_one_below_the_floor_is_drained(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    said = balancer.refuses("drain", min_up=4)
    assert "can't leave pool web: 3 of 4 servers would be up, at least 4 must be" in said
    said = balancer.refuses("spare", min_up="76%")
    assert "can't leave pool web: 3 of 4 servers would be up, at least 4 must be" in said
    assert balancer("spare", min_up="75%")[0] == 0
    balancer.order(2, "state drain")
    balancer.order(3, "weight 0")
    haproxy.members[3].close()
    wait_until(lambda: haproxy.state()[3] == "100 DOWN")
    for action in ("spare", "drain"):
        said = balancer.refuses(action)
        assert "can't leave pool web: 0 of 4 servers would be up, at least 1 must be" in said
    status, said = balancer("drain", 4)
    assert (status, "it was not up itself: DOWN" in said) == (0, True), said
    status, said = balancer("ready", 4, up_timeout=1)
    assert (status, "it was down before, too" in said) == (0, True), said
    assert haproxy.state()[3] == "100 DOWN"


@pytest.mark.soak
def test_the_page_of_the_others_counts_besides_haproxys_own_check(balancer: Balancer) -> None:
    balancer.entry["health"] = "/nowhere"
    for member in balancer.haproxy.members[1:]:
        member.refused = ("/nowhere",)
    try:
        said = balancer.refuses("drain")
        assert "it is healthy, and of the others 0 would be, at least 1 must be" in said
        status, said = balancer("check")
        assert (status, "is healthy (asked for /nowhere)" in said) == (1, True), said
    finally:
        for member in balancer.haproxy.members:
            member.refused = ()


@pytest.mark.soak
@pytest.mark.parametrize("state", ["drain", "maint"])
def test_who_was_out_before_stays_out(balancer: Balancer, state: str) -> None:
    assert balancer("drain")[0] == 0
    if state == "maint":
        assert balancer("ready")[0] == 0  # else it would be as opskit itself has left it
    balancer.order(1, "state ready")
    balancer.order(1, f"state {state}")
    assert balancer("drain")[0] == 0
    assert balancer.haproxy.state()[0] == "100 MAINT"
    status, said = balancer("ready")
    told = f"stays out of backend app, in state {state} as it was found"
    assert (status, told in said) == (0, True), said
    assert balancer.haproxy.state()[0] == f"100 {state.upper()}"
    assert balancer("ready")[0] == 0, "said twice, it is meant"
    assert balancer.haproxy.state() == UP


@pytest.mark.soak
def test_two_drains_at_once_never_empty_the_backend(balancer: Balancer) -> None:
    balancer.order(3, "state maint")
    balancer.order(4, "state maint")
    running = [balancer.start("drain", n) for n in (1, 2)]
    ends = [(process.communicate(timeout=30), process.returncode) for process in running]
    assert sorted(status for _, status in ends) == [0, 3], ends
    assert sorted(balancer.haproxy.state()[:2]) == ["100 MAINT", "100 UP"]


@pytest.mark.soak
def test_the_check_tells_every_server_and_what_is_wrong(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    where = [member.where for member in haproxy.members]
    status, said = balancer("check", min_up=4)
    assert (status, said.splitlines()) == (0, [f"- {one} up, healthy" for one in where]), said
    assert balancer("check", min_up=5)[0] == 1
    balancer.order(2, "state drain")
    status, said = balancer("check")
    assert status == 1, said
    assert f"not every member of backend app is in service: - {where[1]} down (DRAIN" in said
    balancer.order(2, "state ready")
    haproxy.members[3].close()
    wait_until(lambda: haproxy.state()[3] == "100 DOWN")
    assert balancer("check")[0] == 1
    assert balancer("check", healthy="none", min_up=4)[0] == 0


def test_an_error_that_the_socket_tells_as_text_is_one(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    balancer.entry["backend"] = "nope"
    assert "HAProxy answers: Can't find backend" in balancer.refuses("drain")
    balancer.entry["backend"] = "app"
    balancer.entry["socket"] = "/nowhere/sock"
    assert "/nowhere/sock does not answer" in balancer.refuses("drain")
    balancer.entry = haproxy.entry()
    haproxy.conf.write_text(haproxy.conf.read_text() + "    nonsense\n")
    assert "HAProxy's configuration is not valid" in balancer.refuses("drain")
    haproxy.write()
    later = time.time() + 60
    os.utime(haproxy.conf, (later, later))
    assert "was changed after HAProxy loaded it" in balancer.refuses("drain")
    os.utime(haproxy.conf, (1, 1))


@pytest.mark.soak
def test_a_state_file_that_can_not_be_written_is_no_drain(balancer: Balancer) -> None:
    balancer.entry["state_file"] = "/nowhere/states"
    assert "/nowhere can't be written, where /nowhere/states is" in balancer.refuses("drain")


@pytest.mark.soak
def test_a_server_without_a_check_or_of_another_address_is_refused(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    (haproxy.top / "states").write_text("1\n")
    extra = f"    server bare {haproxy.members[0].where} no-check\n"
    haproxy.extra = extra
    haproxy.write()
    haproxy.reload(settled=False)
    assert "is in backend app more than once" in balancer.refuses("drain", 1)
    haproxy.extra = ""
    haproxy.check = ""
    haproxy.write()
    haproxy.reload(settled=False)
    try:
        assert "server blue1 has no check" in balancer.refuses("drain", 1)
        status, said = balancer("check", healthy="none")
        assert (status, "whether these servers of backend app are up: blue1, blue2" in said) == (
            1,
            True,
        )
    finally:
        haproxy.check = "check"
        haproxy.write()
        haproxy.reload()


@pytest.mark.soak
def test_killed_at_any_moment_it_can_be_put_back(balancer: Balancer) -> None:
    for after in (0.15, 0.45):
        process = balancer.start("drain")
        time.sleep(after)
        process.kill()
        process.communicate()
        status, said = balancer("ready")
        assert status == 0, said
        assert balancer.haproxy.state() == UP


@pytest.mark.soak
def test_a_stop_in_the_middle_takes_it_back(balancer: Balancer) -> None:
    assert balancer("drain")[0] == 0
    balancer.haproxy.members[0].close()
    process = balancer.start("ready", up_timeout=20)
    wait_until(lambda: balancer.haproxy.state()[0] == "100 DOWN")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, "interrupted; blue1 is MAINT, as before" in err) == (143, True), out
    assert balancer.haproxy.state()[0] == "100 MAINT"
