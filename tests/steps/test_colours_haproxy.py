"""The colours step with HAProxy: its shell text against a real one, its socket, its traps."""

import fcntl
import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.lab.load import Load
from tests.steps.test_colours import AWKS, HERE, shell_text
from tests.support import haproxy as support
from tests.support.haproxy import Haproxy
from tests.support.nginx import Member, wait_until

BLUE = ["100 UP", "100 UP", "100 DRAIN", "100 DRAIN"]
real = pytest.mark.skipif(support.program() is None, reason="needs haproxy (scripts/setup)")


class Balancer:
    """Runs the kind's shell text as the driver would: `sh -eu`, standard input empty."""

    def __init__(self, haproxy: Haproxy, home: Path) -> None:
        self.haproxy = haproxy
        self.home = home
        self.entry = haproxy.entry()
        self.run = f"run-{home.name}"
        self.shell = ["sh"]
        self.path = os.environ["PATH"]

    def start(self, **args: object) -> subprocess.Popen[str]:
        given = {"pool": "app", "sample": 60, **args}
        return subprocess.Popen(
            [*self.shell, "-euc", shell_text(self.entry, self.run, given)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(self.home), "PATH": self.path},
        )

    def __call__(self, **args: object) -> tuple[int, str]:
        process = self.start(**args)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def refuses(self, **args: object) -> str:
        """What is said; nothing may have been touched."""
        before = self.haproxy.state()
        status, said = self(**args)
        assert status == 3, said
        assert self.haproxy.state() == before
        return said


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haproxy]:
    haproxy = support.make(tmp_path_factory.mktemp("haproxy"))
    yield haproxy
    haproxy.stop()
    for member in haproxy.members:
        member.close()


@pytest.fixture
def balancer(shared: Haproxy, tmp_path: Path) -> Iterator[Balancer]:
    """The shared HAProxy, with all traffic on blue again once a test is over."""
    yield Balancer(shared, tmp_path)
    plain = Haproxy(top=shared.top, listen=shared.listen)
    changed = [
        name
        for name in ("level", "check", "load", "weights", "extra")
        if getattr(shared, name) != getattr(plain, name)
    ]
    for name in changed:
        setattr(shared, name, getattr(plain, name))
    if changed:
        shared.write()
        (shared.top / "states").write_text("1\n")
        shared.reload()
    for name in shared.servers:
        shared.talk(f"set server app/{name} weight 100")
        shared.talk(f"set server app/{name} state {'ready' if 'blue' in name else 'drain'}")
    assert shared.state() == BLUE


@real
@pytest.mark.acceptance
def test_stages_to_green_and_back_need_no_reload_and_survive_one(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    process = haproxy.info("Pid")
    assert balancer(show=True)[1].startswith("blue 100\n")
    with Load(url=f"http://{haproxy.listen}/", rate=200, threads=4) as load:
        for share, now in ((10, "blue 90 green 10"), (50, "blue 50 green 50"), (100, "green 100")):
            status, said = balancer(to="green", share=share)
            assert (status, said.startswith(f"backend app has {now} (before")) == (0, True), said
        assert haproxy.state() == ["256 DRAIN", "256 DRAIN", "100 UP", "100 UP"]
        assert "already" in balancer(to="green")[1]
        assert haproxy.info("Pid") == process
        status, said = balancer(alone="green")
        assert (status, "no session with blue any more" in said) == (0, True), said
        haproxy.reload()
        assert haproxy.info("Pid") != process
        assert haproxy.state() == ["256 DRAIN", "256 DRAIN", "100 UP", "100 UP"]
        assert balancer(show=True)[1].startswith("green 100\n")
        status, said = balancer(back=True)
        assert (status, "as this run found it: blue 100" in said) == (0, True), said
    report = load.report()
    assert report.failures == 0, report.describe()
    assert haproxy.state() == BLUE
    assert "as this run found it" in balancer(back=True)[1], "an undo may come twice"


@real
@pytest.mark.acceptance
@pytest.mark.parametrize("talker", ["perl", pytest.param("python3", marks=pytest.mark.soak)])
def test_the_socket_is_talked_to_by_what_there_is(balancer: Balancer, talker: str) -> None:
    if not shutil.which(talker):
        pytest.skip(f"no {talker} here")
    programs = balancer.home / "programs"
    programs.mkdir()
    for folder in [*os.environ["PATH"].split(":"), "/usr/sbin"]:
        for program in Path(folder).glob("*"):
            others = {"socat", "perl", "python3"} - {talker}
            if program.name not in others and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    balancer.path = str(programs)
    balancer.shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]
    status, said = balancer(to="green", share=50)
    assert (status, "backend app has blue 50 green 50" in said) == (0, True), said


@real
@pytest.mark.acceptance
def test_an_error_that_the_socket_tells_as_text_is_one(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    balancer.entry["colours"] = {"blue": ["blue1", "blue2"], "green": ["green1", "green9"]}
    assert "backend app has no server green9" in balancer.refuses(to="green")
    balancer.entry = {**haproxy.entry(), "backend": "nope"}
    assert "Can't find backend" in balancer.refuses(to="green")
    balancer.entry = {**haproxy.entry(), "socket": f"{haproxy.top}/none.sock"}
    assert "none.sock does not answer: No such file or directory" in balancer.refuses(to="green")
    balancer.entry = haproxy.entry()
    haproxy.level = "operator"
    haproxy.write()
    (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
    haproxy.reload()
    status, said = balancer(to="green", share=50)
    assert status in (4, 5), said
    assert "ermission denied" in said
    assert haproxy.state() == BLUE


@real
@pytest.mark.acceptance
def test_what_makes_a_switch_unsafe_is_refused(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    entry = haproxy.entry()
    balancer.entry = {**entry, "colours": {"blue": ["blue1"], "green": ["green1", "green2"]}}
    assert "server blue2 of backend app is of neither colour" in balancer.refuses(to="green")
    balancer.entry = entry
    assert "purple is no colour of pool app" in balancer.refuses(to="purple")
    haproxy.talk("set server app/green1 state maint")
    said = balancer.refuses(to="green")
    assert "green can't have traffic: not all of it is up: green1: MAINT" in said
    haproxy.talk("set server app/green1 state ready")
    haproxy.talk("set server app/green1 state drain")
    wait_until(lambda: haproxy.state() == BLUE)
    haproxy.conf.write_text(haproxy.conf.read_text() + "    nonsense\n")
    assert "HAProxy's configuration is not valid" in balancer.refuses(to="green")
    haproxy.write()
    later = time.time() + 60
    os.utime(haproxy.conf, (later, later))
    assert "was changed after HAProxy loaded it" in balancer.refuses(to="green")
    os.utime(haproxy.conf, (1, 1))
    haproxy.conf.write_text(haproxy.conf.read_text().replace(haproxy.load, ""))
    os.utime(haproxy.conf, (1, 1))
    said = balancer.refuses(to="green")
    assert "no load-server-state-from-file for backend app, so a reload would undo" in said
    haproxy.write()
    os.utime(haproxy.conf, (1, 1))
    balancer.entry["state_file"] = f"{haproxy.top}/other"
    said = balancer.refuses(to="green")
    assert f"reads the states of backend app from {haproxy.top}/states and not from" in said
    assert "write that as state_file of the inventory" in said
    balancer.entry["state_file"] = f"{haproxy.top}/./states"
    assert balancer(show=True)[0] == 0, "the same file under another name"
    haproxy.write()


@real
@pytest.mark.acceptance
def test_servers_without_a_check_and_with_the_weight_0_are_refused(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    haproxy.check = ""
    haproxy.write()
    (haproxy.top / "states").write_text("1\n")
    before = haproxy.info("Pid")
    os.kill(int((haproxy.top / "pid").read_text()), signal.SIGUSR2)
    haproxy.wait_for_another(before)
    assert "server blue1 has no check" in balancer.refuses(to="green")
    haproxy.check, haproxy.weights = "check", (1, 1, 1, 1)
    haproxy.write()
    haproxy.reload()
    for name in ("green1", "green2"):
        haproxy.talk(f"set server app/{name} state drain")
    status, said = balancer(to="green", share=10)
    assert (status, "backend app has blue 90 green 10" in said) == (0, True), said
    assert haproxy.state() == ["256 UP", "256 UP", "28 UP", "28 UP"], "10% of 1 would be 0"
    status, said = balancer(to="green")
    assert (status, "backend app has green 100" in said) == (0, True), said
    assert haproxy.state() == ["256 DRAIN", "256 DRAIN", "1 UP", "1 UP"]
    assert balancer(back=True)[0] == 0
    assert haproxy.state() == ["1 UP", "1 UP", "1 DRAIN", "1 DRAIN"]


@real
@pytest.mark.acceptance
def test_a_colour_that_is_down_gets_nothing(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    host, _, port = haproxy.members[3].where.rpartition(":")
    haproxy.members[3].close()
    try:
        wait_until(lambda: haproxy.state()[3] == "100 DOWN")
        said = balancer.refuses(to="green", share=50)
        assert "green can't have traffic: not all of it is up: green2: " in said
        haproxy.talk("set server app/green1 state maint")
        haproxy.talk("set server app/green2 state ready")
        wait_until(lambda: haproxy.state()[2:] == ["100 MAINT", "100 DOWN"])
        assert "green2: down, and not drained" in balancer.refuses(show=True)
    finally:
        haproxy.talk("set server app/green1 state ready")
        for name in ("green1", "green2"):
            haproxy.talk(f"set server app/{name} state drain")
        haproxy.members[3] = Member(host, int(port))
        wait_until(lambda: haproxy.state() == BLUE)


@real
@pytest.mark.acceptance
def test_a_colour_that_dies_with_all_the_traffic_can_be_left(balancer: Balancer) -> None:
    """Nobody answers, so no share is known: that is when going back matters most."""
    haproxy = balancer.haproxy
    states = haproxy.top / "states"
    assert balancer(to="green")[0] == 0
    states.unlink()  # as if it had been killed before it was written
    assert "already" in balancer(to="green")[1]
    assert "green1" in states.read_text()
    where = [member.where.rpartition(":") for member in haproxy.members[2:]]
    for member in haproxy.members[2:]:
        member.close()
    try:
        wait_until(lambda: haproxy.state()[2:] == ["100 DOWN"] * 2)
        status, said = balancer(show=True)
        assert (status, said.startswith("green 100\n")) == (0, True), said
        assert "green1, green2: down, and not drained" in said
        assert "blue can have traffic" in balancer(ready="blue")[1]
        said = balancer.refuses(to="blue", share=50)
        assert "it can be left for the other colour with a share of 100" in said
        mine, balancer.run = (
            balancer.run,
            f"{balancer.run}-2",
        )  # somebody else, who did not bring it there
        status, said = balancer(to="blue")
        assert (status, "backend app has blue 100 (before: green 100)" in said) == (0, True), said
        status, said = balancer(back=True)
        assert status == 4, said
        assert "down, and not drained; states and weights are as before: blue 100" in said
        balancer.run = mine
        assert "as this run found it: blue 100" in balancer(back=True)[1]
        assert haproxy.state()[:2] == BLUE[:2]
        for name in ("green1", "green2"):
            haproxy.talk(f"set server app/{name} state ready")
        wait_until(lambda: haproxy.state()[2:] == ["100 DOWN"] * 2)
        assert "green1, green2: down, and not drained" in balancer.refuses(to="blue", share=50)
        status, said = balancer(to="blue")
        assert (status, "backend app has blue 100 (before: blue 50 green 50)" in said) == (0, True)
        assert haproxy.talk("show servers state app").count(" 8 100 ") == 2, "both are drained"
    finally:
        for name in ("green1", "green2"):
            haproxy.talk(f"set server app/{name} state drain")
        haproxy.members[2:] = [Member(host, int(port)) for host, _, port in where]
        wait_until(lambda: haproxy.state()[2:] == BLUE[2:])


@real
@pytest.mark.acceptance
def test_weights_that_do_not_show_in_the_answers_are_taken_back(balancer: Balancer) -> None:
    """A client that is always sent to the same server can't measure a share."""
    haproxy = balancer.haproxy
    for extra, why in (
        ("    balance source\n", "Backend is using a static LB algorithm"),
        ("    balance source\n    hash-type consistent\n", "HAProxy has it, but of 60 fresh"),
    ):
        haproxy.extra = extra
        haproxy.write()
        (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
        haproxy.reload()
        status, said = balancer(to="green", share=50)
        assert status == 4, said
        assert why in said
        assert "states and weights are as before: blue 100" in said
        assert haproxy.state() == BLUE


@real
@pytest.mark.acceptance
def test_clients_with_a_cookie_stay_with_a_drained_colour_and_that_is_told(
    balancer: Balancer,
) -> None:
    haproxy = balancer.haproxy
    haproxy.extra = "    cookie STAY insert dynamic\n    dynamic-cookie-key secret\n"
    haproxy.write()
    (haproxy.top / "states").write_text(haproxy.talk("show servers state"))
    haproxy.reload()
    host, _, port = haproxy.listen.partition(":")
    client = http.client.HTTPConnection(host, int(port), timeout=10)
    client.request("GET", "/")
    with client.getresponse() as answer:
        cookie, first = str(answer.headers["Set-Cookie"]).split(";")[0], answer.headers["X-Pool"]
    status, said = balancer(to="green")
    assert (status, "; clients that have the cookie STAY stay with a drained" in said) == (0, True)
    client.close()
    client.request("GET", "/", headers={"Cookie": cookie})
    with client.getresponse() as answer:
        assert answer.headers["X-Pool"] == first, "as HAProxy has it"
    client.close()
    assert balancer(back=True)[0] == 0


@real
@pytest.mark.acceptance
def test_who_is_in_maintenance_stays_there_whatever_its_colour_gets(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    haproxy.talk("set server app/blue2 state maint")
    wait_until(lambda: haproxy.state()[1] == "100 MAINT")
    before = haproxy.state()
    for share in (10, 100):
        status, said = balancer(to="green", share=share)
        assert status == 0, said
        assert haproxy.state()[1].endswith("MAINT")
    status, said = balancer(back=True)
    assert status == 0, said
    assert haproxy.state() == before


@real
@pytest.mark.acceptance
def test_what_somebody_else_has_set_since_is_not_overwritten(balancer: Balancer) -> None:
    haproxy = balancer.haproxy
    assert balancer(to="green", share=10)[0] == 0
    haproxy.talk("set server app/green1 weight 77")
    haproxy.talk("set server app/green2 weight 77")
    said = balancer.refuses(back=True)
    assert "somebody has changed it since: green1 has weight 77 and is ready" in said
    haproxy.talk("set server app/green1 weight 28")
    haproxy.talk("set server app/green2 weight 28")
    assert balancer(back=True)[0] == 0
    assert haproxy.state() == BLUE


@real
@pytest.mark.acceptance
def test_another_run_takes_back_what_a_run_has_done_if_all_is_as_it_was_then(
    balancer: Balancer,
) -> None:
    haproxy, first = balancer.haproxy, balancer.run
    blue = haproxy.members[0]
    assert balancer(to="green")[0] == 0
    after = haproxy.state()
    balancer.run = f"{first}-2"
    assert f"what run {first}-0 found is not kept in" in balancer.refuses(found=f"{first}-0")
    status, said = balancer(found=first)
    assert (status, said.startswith("blue 100\n"), haproxy.state()) == (0, True, after), said
    blue.release = "B"
    assert f"{blue.where} was release -, and is B" in balancer.refuses(back=True, of=first)
    blue.release = ""
    status, said = balancer(back=True, of=first)
    assert (status, f"is as run {first} found it: blue 100" in said) == (0, True), said
    assert haproxy.state() == BLUE
    assert "found it already: blue 100" in balancer.refuses(found=first)
    assert balancer(back=True)[0] == 0, "its own undo goes forward again"
    assert haproxy.state() == after
    haproxy.talk("set server app/green1 weight 77")
    assert "somebody has changed it since: green1 has weight 77" in balancer.refuses(found=first)
    haproxy.talk("set server app/green1 weight 100")


@real
@pytest.mark.acceptance
def test_what_a_later_run_has_set_is_not_overwritten_where_this_one_had_set_the_like(
    balancer: Balancer,
) -> None:
    haproxy, first = balancer.haproxy, balancer.run
    for share in (50, 100):
        assert balancer(to="green", share=share)[0] == 0
    balancer.run = f"{first}-later"
    assert balancer(to="blue", share=50)[0] == 0
    balancer.run = first
    assert f"somebody has changed it since: run {first}-later" in balancer.refuses(back=True)
    balancer.run = f"{first}-later"
    assert balancer(back=True)[0] == 0
    balancer.run = first
    assert balancer(back=True)[0] == 0
    assert haproxy.state() == BLUE


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


@real
@pytest.mark.acceptance
def test_two_users_at_once_do_not_meet_and_find_what_each_other_kept(
    balancer: Balancer, tmp_path: Path
) -> None:
    """Two logins have two homes; the socket and the file of states are one."""
    haproxy, homes = balancer.haproxy, (tmp_path / "one", tmp_path / "two")
    running = []
    for home in homes:
        balancer.home = home
        running.append(balancer.start(to="green", share=50))
    ends = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [status for _, status in ends] == [0, 0], ends
    assert sorted("already" in out for (out, _), _ in ends) == [False, True], ends
    socket = Path(str(balancer.entry["socket"]))
    with locked(socket.parent):
        said = balancer.refuses(to="green", lock_timeout=1)
    assert f"another change of {socket.parent} has held its lock for 1 s" in said
    balancer.home = tmp_path / "three"
    status, said = balancer(back=True)
    assert (status, "as this run found it: blue 100" in said) == (0, True), said
    assert haproxy.state() == BLUE
    assert not [home for home in homes if home.exists()]


@real
@pytest.mark.acceptance
@pytest.mark.parametrize("after", [pytest.param(0.4, marks=pytest.mark.soak), 0.8])
def test_killed_at_any_moment_it_can_be_put_back(balancer: Balancer, after: float) -> None:
    process = balancer.start(to="green", share=50)
    time.sleep(after)
    process.kill()
    process.communicate()
    status, said = balancer(back=True)
    assert status == 0, said
    assert balancer.haproxy.state() == BLUE


# --- what its configuration says of states --------------------------------------------------------

GLOBAL = "global\n  server-state-file /var/s\n"
LOAD = "  load-server-state-from-file"


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
@pytest.mark.parametrize(
    ("conf", "says"),
    [
        (f"{GLOBAL}defaults\n{LOAD} global\nbackend app\n", "file /var/s"),
        (f"{GLOBAL}backend app\n{LOAD} global\nbackend other\n{LOAD} none\n", "file /var/s"),
        (f"{GLOBAL}defaults\n{LOAD} global\nbackend app\n{LOAD} none\n", "fault no load-server"),
        (f"{GLOBAL}defaults\n{LOAD} global\ndefaults\nbackend app\n", "fault no load-server"),
        (f"{GLOBAL}defaults a\n{LOAD} global\ndefaults b\nbackend app from a\n", "file /var/s"),
        (f"{GLOBAL}backend app # {LOAD} global\n", "fault no load-server-state-from-file"),
        (f"defaults\n{LOAD} global\nbackend app\n", "fault no server-state-file"),
        (f"global\n server-state-base '/b c'\n server-state-file s\nlisten app\n{LOAD} global\n",
         "file /b c/s"),
        (f"global\n server-state-base /b/\ndefaults\n{LOAD} local\nbackend app\n", "file /b//app"),
        (f"global\n server-state-base /b\nbackend app\n{LOAD} local\n  server-state-file-name x\n",
         "file /b/x"),
        (f'global\n server-state-file "$HOME/s"\nbackend app\n{LOAD} global\n', ""),
        (f"{GLOBAL}defaults\n{LOAD} none\nbackend other\n", ""),
    ],
)  # fmt: skip
def test_where_states_are_read_from_is_found_in_the_configuration(
    awk: list[str], conf: str, says: str
) -> None:
    done = subprocess.run(
        [*awk, "-v", "backend=app", "-f", str(HERE / "reloads.awk")],
        input=conf.encode(), capture_output=True, check=True,
    )  # fmt: skip
    told = " ".join(done.stdout.decode().replace("HAProxy's configuration has ", "").split("\t"))
    assert told.strip() == says or (says.startswith("fault") and told.startswith(says)), told


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_where_servers_are_is_read_of_the_configuration(awk: list[str]) -> None:
    conf = (
        "defaults\n default-server resolvers own\nbackend other\n server x 10.0.0.9:1\n"
        "listen app\n server 'a 1' 10.0.0.1:80 check # server z y\n server b web.internal:81\n"
    )
    program = [*awk, "-v", "backend=app", "-v", "want=servers", "-f", str(HERE / "reloads.awk")]
    told = []
    for text in (
        conf,
        conf.replace("81", "81 resolvers own").replace("resolvers own\nb", "check\nb"),
    ):
        done = subprocess.run(program, input=text.encode(), capture_output=True, check=True)
        told.append(done.stdout.decode().splitlines())
    assert told[0] == ["a 1\t10.0.0.1:80\t1", "b\tweb.internal:81\t1"]
    assert told[1] == ["a 1\t10.0.0.1:80\t0", "b\tweb.internal:81\t1"]


# --- its arithmetic -------------------------------------------------------------------------------


def told(awk: list[str], lines: str, **given: object) -> str:
    options = [word for key, value in given.items() for word in ("-v", f"{key}={value}")]
    done = subprocess.run(
        [*awk, *options, "-f", str(HERE / "haproxy.awk")],
        input=lines.replace(" ", "\t").encode(),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode()


ROWS = "b1 1 0 1 1 UP L7OK 0 a:1\nb2 1 0 3 3 UP L7OK 0 a:2\ng1 2 8 5 5 DRAIN L7OK 0 a:3\n"


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_weights_keep_what_servers_are_to_each_other(awk: list[str]) -> None:
    sides: Mapping[str, str] = {"first": "b1 b2", "second": "g1", "backend": "app"}
    assert told(awk, ROWS, action="share", **sides).split() == ["0", "0"]
    little = ROWS.replace("b1 1 0 1", "b1 1 0 256").replace("g1 2 8 5 5", "g1 2 0 1 5")
    assert told(awk, little, action="share", **sides).startswith("fault\tthe weights give 0.38")
    tenth = told(awk, ROWS, action="weights", share=10, **sides).split("\n")[:-1]
    assert [line.split("\t") for line in tenth] == [
        ["b1", "85", "ready"], ["b2", "256", "ready"], ["g1", "38", "ready"]
    ]  # fmt: skip
    whole = told(awk, ROWS, action="weights", share=100, **sides).split("\n")[:-1]
    assert [line.split("\t") for line in whole] == [
        ["b1", "1", "drain"], ["b2", "3", "drain"], ["g1", "5", "ready"]
    ]  # fmt: skip
    uneven = ROWS.replace("b1 1 0 1 1", "b1 1 0 1 256").replace("b2 1 0 3 3", "b2 1 0 1 1")
    assert told(awk, uneven, action="weights", share=50, **sides).split("\n")[:-1] == [
        "b1\t255\tready",
        "b2\t1\tready",
        "g1\t256\tready",
    ]
    rests = ROWS.replace("b2 1 0 3 3 UP", "b2 1 1 3 3 MAINT")
    tenth = told(awk, rests, action="weights", share=10, **sides).split("\n")[:-1]
    assert tenth == ["b1\t256\tready", "b2\t3\tmaint", "g1\t28\tready"]
    none = rests.replace("b1 1 0 1 1 UP", "b1 1 1 1 1 MAINT")
    assert told(awk, none, action="weights", share=0, **sides).startswith("fault\tall servers of")
    was_disabled = ROWS.replace("g1 2 8 5 5 DRAIN", "g1 2 4 4 5 UP")  # in the configuration
    assert told(awk, was_disabled, action="share", **sides).split() == ["50", "50"]
    dead = ROWS.replace("UP", "DOWN")
    assert told(awk, dead, action="share", **sides).split("\t")[:3] == ["0", "0", "1"]
    mixed = ROWS.replace("5 5 DRAIN", "4 5 DOWN").replace("g1 2 8", "g1 2 0")
    assert told(awk, mixed, action="share", **sides).split("\t")[:3] == ["50", "50", "2"]
    both = mixed.replace("UP", "DOWN")
    assert told(awk, both, action="share", **sides).startswith("fault\tno server of backend")
    few = "".join(f"g{n} 2 0 1 1 UP L7OK 0 a:{n}\n" for n in range(9))
    many = {"first": "b1", "second": " ".join(f"g{n}" for n in range(9)), "backend": "app"}
    rows = "b1 1 0 1 1 UP L7OK 0 b:1\n" + few
    said = told(awk, rows, action="weights", share=1, **many)
    assert said.startswith("fault\tserver g0 would get the weight 0, and no traffic")
