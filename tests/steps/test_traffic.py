"""The traffic step: its shell text against a real nginx, its reading of nginx's configuration."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.errors import InputError
from opskit.model.problem import Place
from opskit.model.runbook import Effect, Step
from opskit.model.text import text
from opskit.steps import traffic
from opskit.steps.base import Value
from tests.support import nginx as support
from tests.support.nginx import Nginx

PLACE = Place(file="book.yaml", line=7, column=3)
AWK = Path(traffic.__file__).with_name("nginx.awk")
WORDS = AWK.with_name("words.awk")
AWKS = [words for words in (["awk"], ["busybox", "awk"], ["gawk"]) if shutil.which(words[0])]


def step(args: Mapping[str, object], effect: Effect = "change") -> Step:
    return Step(
        position="1", name="", kind="traffic", place=PLACE, args=dict(args), effect=effect  # type: ignore[arg-type]
    )  # fmt: skip


def words(values: Mapping[str, object]) -> dict[str, Value]:
    return {k: text(v) if isinstance(v, str) else v for k, v in values.items()}  # type: ignore[misc]


class Balancer:
    """Runs the kind's shell text as the driver would: `sh -eu`, standard input empty."""

    def __init__(self, nginx: Nginx, shell: str = "sh") -> None:
        self.nginx = nginx
        self.shell = shell.split()
        self.entry: dict[str, object] = {
            "type": "nginx",
            "port": 0,
            "file": str(nginx.pool),
            "test": f"{nginx.command} -t",
            "reload": f"{nginx.command} -s reload",
            "pid": f"{nginx.top}/nginx.pid",
            "error_log": f"{nginx.top}/error.log",
        }

    def text(self, action: str, member: int | None = None, **more: object) -> str:
        """The shell text for a member by its place in the pool, named web1, web2, ..."""
        members = self.nginx.members
        name = f"web{(member or 0) + 1}"
        where = members[member or 0].where
        address, _, port = where.rpartition(":")
        args: dict[str, object] = {"pool": "web", **more}
        args[action] = True if action == "check" else name
        entry = {**self.entry, "port": int(port)}
        found = {**words(args), "balancer": words(entry), "addresses": words({name: address})}
        return traffic.work(found, step(args)).text.fixed()

    def start(
        self, action: str, member: int | None = None, **more: object
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.shell, "-euc", self.text(action, member, **more)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, action: str, member: int | None = None, **more: object) -> tuple[int, str]:
        process = self.start(action, member, **more)
        out, err = process.communicate(timeout=30)
        return process.returncode, out + err


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    nginx = support.make(tmp_path_factory.mktemp("nginx"), members=3)
    yield nginx
    nginx.stop()
    for member in nginx.members:
        member.close()


@pytest.fixture
def nginx(shared: Nginx) -> Iterator[Nginx]:
    """The shared nginx, with its pool as it was before once a test is over."""
    before = shared.pool.read_bytes()
    yield shared
    for extra in shared.pool.parent.iterdir():
        if extra != shared.pool:
            extra.unlink()
    old = time.time() - 60
    shared.pool.write_bytes(before)
    was = shared.workers()
    shared.run("-s", "reload")
    support.wait_until(lambda: bool(shared.workers()) and not shared.workers() & was)
    os.utime(shared.pool, (old, old))


@pytest.fixture
def balancer(nginx: Nginx) -> Balancer:
    return Balancer(nginx)


def leftovers(nginx: Nginx) -> list[str]:
    return sorted(f.name for f in nginx.pool.parent.iterdir() if f != nginx.pool)


# --- against a real nginx -----------------------------------------------------------------------


@pytest.mark.acceptance
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_a_drained_member_gets_no_requests_and_comes_back_with_the_file_as_it_was(
    nginx: Nginx, shell: str
) -> None:
    if not shutil.which(shell.split(maxsplit=1)[0]):
        pytest.skip(f"no {shell} here")
    balancer = Balancer(nginx, shell)
    before = nginx.pool.read_bytes()
    first = nginx.members[0].where
    status, said = balancer("drain", 0)
    assert (status, f"{first}) is out of pool web: nginx loaded it in" in said) == (0, True), said
    assert f"200 {first}" not in nginx.seen()
    assert nginx.pool.read_text().count(f"server {first} down;") == 1
    status, said = balancer("ready", 0)
    assert (status, "is in pool web" in said) == (0, True), said
    assert f"200 {first}" in nginx.seen()
    assert nginx.pool.read_bytes() == before
    assert leftovers(nginx) == []


@pytest.mark.acceptance
def test_what_is_so_already_is_not_done_again(balancer: Balancer) -> None:
    assert balancer("drain", 1)[0] == 0
    workers = balancer.nginx.workers()
    status, said = balancer("drain", 1)
    assert (status, "was out of pool web already, nginx was not reloaded" in said) == (0, True)
    assert balancer.nginx.workers() == workers
    assert balancer("ready", 1)[0] == 0
    workers = balancer.nginx.workers()
    status, said = balancer("ready", 1)
    assert (status, "was in pool web already, nginx was not reloaded" in said) == (0, True)
    assert balancer.nginx.workers() == workers


@pytest.mark.acceptance
def test_a_drain_waits_for_the_request_that_is_under_way(balancer: Balancer) -> None:
    nginx = balancer.nginx
    answers: list[str] = []
    # Three at once: round robin gives one to each member.
    clients = [
        threading.Thread(target=lambda: answers.append(nginx.get("/slow"))) for _ in range(3)
    ]
    for client in clients:
        client.start()
    time.sleep(0.2)
    begun = time.monotonic()
    draining = balancer.start("drain", 2)
    # While it waits it holds no lock: what lies there by now is another's, who changes the file.
    while " down;" not in nginx.pool.read_text() or "opskit-old" in str(
        [*nginx.pool.parent.iterdir()]
    ):
        assert time.monotonic() - begun < 20
        time.sleep(0.01)
    others = nginx.pool.parent / f".{nginx.pool.name}.opskit-new"
    others.write_text("another's")
    said, _ = draining.communicate(timeout=30)
    assert draining.returncode == 0, said
    assert time.monotonic() - begun > 0.5
    assert others.read_text() == "another's"
    others.unlink()
    for client in clients:
        client.join()
    assert sorted(answers) == sorted(f"200 {member.where}" for member in nginx.members)


@pytest.mark.acceptance
def test_a_drain_that_takes_too_long_fails_and_breaks_no_connection(balancer: Balancer) -> None:
    nginx = balancer.nginx
    answers: list[str] = []
    clients = [
        threading.Thread(target=lambda: answers.append(nginx.get("/slow"))) for _ in range(3)
    ]
    for member in nginx.members:
        member.slow = 600.0
    try:
        for client in clients:
            client.start()
        support.wait_until(lambda: all(member.held for member in nginx.members))
        status, said = balancer("drain", 2, drain_timeout=1)
        assert status == 6
        assert (
            "is marked down in pool web, but after 1 s nginx still has 1 connection to it" in said
        )
        assert not answers
    finally:
        for member in nginx.members:
            member.go_on.set()
        for client in clients:
            client.join()
        for member in nginx.members:
            member.go_on.clear()
            member.slow = 1.0
    assert sorted(answers) == sorted(f"200 {member.where}" for member in nginx.members)


@pytest.mark.acceptance
def test_only_connections_of_nginx_count(balancer: Balancer) -> None:
    address, _, port = balancer.nginx.members[0].where.rpartition(":")
    with socket.create_connection((address, int(port))):
        status, said = balancer("drain", 0, drain_timeout=1)
    assert status == 0, said


@pytest.mark.acceptance
def test_the_last_server_is_not_drained(balancer: Balancer) -> None:
    assert balancer("drain", 0)[0] == 0
    assert balancer("drain", 1)[0] == 0
    before, workers = balancer.nginx.pool.read_bytes(), balancer.nginx.workers()
    status, said = balancer("drain", 2)
    assert status == 3
    assert "can't leave pool web: 0 of 3 servers would be up, at least 1 must be" in said
    assert (balancer.nginx.pool.read_bytes(), balancer.nginx.workers()) == (before, workers)


@pytest.mark.acceptance
def test_min_up_and_backup_servers_hold_the_floor(balancer: Balancer) -> None:
    status, said = balancer("drain", 0, min_up=3)
    assert (status, "2 of 3 servers would be up, at least 3 must be" in said) == (3, True)
    status, said = balancer("drain", 0, min_up="67%")
    assert (status, "2 of 3 servers would be up, at least 3 must be" in said) == (3, True)
    assert balancer("spare", 0, min_up="66%")[0] == 0
    pool, last = balancer.nginx.pool, balancer.nginx.members[2].where
    pool.write_text(pool.read_text().replace(f"{last};", f"{last} backup;"))
    balancer.nginx.run("-s", "reload")
    assert balancer("drain", 0)[0] == 0
    status, said = balancer("drain", 1)
    assert (status, "0 of 3 servers would be up" in said) == (3, True), said
    assert balancer("drain", 2)[0] == 0, "a backup may leave: it carries no traffic"


@pytest.mark.acceptance
def test_two_drains_at_once_both_happen_and_never_empty_the_pool(balancer: Balancer) -> None:
    running = [balancer.start("drain", n) for n in range(3)]
    ends = [(process.communicate(timeout=30), process.returncode) for process in running]
    assert sorted(status for _, status in ends) == [0, 0, 3], ends
    assert balancer.nginx.pool.read_text().count(" down;") == 2
    assert len(balancer.nginx.seen()) == 1


@pytest.mark.acceptance
def test_a_member_that_is_not_there_is_refused_by_name(balancer: Balancer) -> None:
    before = balancer.nginx.pool.read_bytes()
    balancer.nginx.members.append(balancer.nginx.members[0])
    try:
        entry = balancer.text("drain", 3).replace(balancer.nginx.members[0].where, "127.0.0.9:1")
    finally:
        balancer.nginx.members.pop()
    done = subprocess.run(["sh", "-euc", entry], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "refused, nothing changed" in done.stderr
    assert "member web4 (127.0.0.9:1) is not in it; it has 127.0.0.2:" in done.stderr
    assert balancer.nginx.pool.read_bytes() == before


@pytest.mark.acceptance
def test_a_configuration_that_nginx_refuses_is_put_back_before_any_reload(
    balancer: Balancer,
) -> None:
    pool, workers = balancer.nginx.pool, balancer.nginx.workers()
    pool.write_text(pool.read_text() + "no_such_directive on;\n")
    before, inode = pool.read_bytes(), pool.stat().st_ino
    status, said = balancer("drain", 0)
    assert status == 4
    assert 'unknown directive "no_such_directive"' in said
    assert "the old file is back, nginx was not reloaded" in said
    assert "nginx's configuration was broken before" in said
    assert (pool.read_bytes(), pool.stat().st_ino) == (before, inode)
    assert balancer.nginx.workers() == workers
    assert leftovers(balancer.nginx) == []


@pytest.mark.acceptance
def test_a_reload_that_nginx_does_not_take_is_noticed_though_every_exit_status_is_0(
    balancer: Balancer,
) -> None:
    """`nginx -t` and the reload exit 0 when a port is taken, and the old configuration lives on."""
    nginx, before = balancer.nginx, balancer.nginx.pool.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = nginx.pool.with_name("busy.conf")
        busy.write_text(f"server {{ listen 127.0.0.1:{taken.getsockname()[1]}; return 204; }}\n")
        subprocess.run([*nginx.command.split(), "-t"], check=True, capture_output=True)
        status, said = balancer("drain", 0, reload_timeout=5)
    assert status == 5, said
    assert "[emerg]" in said
    assert "the old file is back" in said
    assert nginx.pool.read_bytes() == before
    assert f"200 {nginx.members[0].where}" in nginx.seen()
    busy.unlink()


@pytest.mark.acceptance
def test_a_reload_that_does_nothing_is_noticed_and_taken_back(balancer: Balancer) -> None:
    nginx, before = balancer.nginx, balancer.nginx.pool.read_bytes()
    once = nginx.top / "once"
    reload = str(balancer.entry["reload"])
    balancer.entry["reload"] = f"if [ -e {once} ]; then {reload}; else touch {once}; fi"
    status, said = balancer("drain", 0, reload_timeout=1)
    once.unlink()
    assert status == 4, said
    assert "nginx has no new workers 1 s after the reload" in said
    assert "the old configuration is back and loaded" in said
    assert nginx.pool.read_bytes() == before
    assert leftovers(nginx) == []


@pytest.mark.acceptance
def test_a_reload_command_that_fails_is_told_with_its_words(balancer: Balancer) -> None:
    before = balancer.nginx.pool.read_bytes()
    balancer.entry["reload"] = "echo a password is required >&2; exit 1"
    status, said = balancer("drain", 0)
    assert (status, "a password is required" in said) == (5, True), said
    assert balancer.nginx.pool.read_bytes() == before


@pytest.mark.acceptance
def test_a_file_that_says_down_but_was_never_loaded_is_loaded(balancer: Balancer) -> None:
    nginx, where = balancer.nginx, balancer.nginx.members[0].where
    nginx.pool.write_text(nginx.pool.read_text().replace(where, f"{where} down"))
    later = time.time() + 60
    os.utime(nginx.pool, (later, later))
    status, said = balancer("drain", 0)
    assert (status, "nginx had not loaded it" in said) == (0, True), said
    assert f"200 {where}" not in nginx.seen()


@pytest.mark.acceptance
def test_a_change_that_was_cut_off_is_loaded_by_the_next_one(balancer: Balancer) -> None:
    nginx, where = balancer.nginx, balancer.nginx.members[0].where
    nginx.pool.with_name(".web.conf.opskit-old").write_bytes(nginx.pool.read_bytes())
    nginx.pool.write_text(nginx.pool.read_text().replace(where, f"{where} down"))
    status, said = balancer("drain", 0)
    assert (status, "nginx had not loaded it" in said) == (0, True), said
    assert f"200 {where}" not in nginx.seen()
    assert leftovers(nginx) == []


@pytest.mark.acceptance
def test_an_interrupted_change_is_taken_back(balancer: Balancer) -> None:
    nginx, before = balancer.nginx, balancer.nginx.pool.read_bytes()
    hold = nginx.top / "hold"
    reload = str(balancer.entry["reload"])
    balancer.entry["reload"] = f"if [ -e {hold} ]; then {reload}; else touch {hold}; sleep 0.5; fi"
    process = balancer.start("drain", 0)
    support.wait_until(hold.exists)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    hold.unlink()
    assert process.returncode == 143, out + err
    assert "interrupted; the old configuration is back and loaded" in err
    assert nginx.pool.read_bytes() == before


@pytest.mark.acceptance
def test_a_file_that_nginx_does_not_read_is_refused(balancer: Balancer) -> None:
    other = balancer.nginx.top / "elsewhere.conf"
    other.write_bytes(balancer.nginx.pool.read_bytes())
    balancer.entry["file"] = str(other)
    status, said = balancer("drain", 0)
    assert (status, f"nginx does not read {other}" in said) == (3, True), said


@pytest.mark.acceptance
def test_a_linked_file_stays_a_link(balancer: Balancer, tmp_path: Path) -> None:
    pool = balancer.nginx.pool
    real = tmp_path / "available" / "web.conf"
    real.parent.mkdir()
    real.write_bytes(pool.read_bytes())
    os.utime(real, (0, 0))
    pool.unlink()
    pool.symlink_to(real)
    try:
        assert balancer("drain", 0)[0] == 0
        assert pool.is_symlink()
        assert " down;" in real.read_text()
    finally:
        pool.unlink()
        pool.write_bytes(real.read_bytes())


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("file", "/no/such/file", "/no/such/file: no such file"),
        ("pid", "/no/such/pid", "/no/such/pid holds no process number; is nginx running?"),
        ("upstream", "other", "it has no upstream other but web"),
    ],
)
def test_what_the_inventory_has_wrong_is_refused(
    balancer: Balancer, key: str, value: str, said: str
) -> None:
    balancer.entry[key] = value
    status, told = balancer("drain", 0)
    assert (status, said in told) == (3, True), told


@pytest.mark.acceptance
def test_a_pid_file_of_another_program_is_refused(balancer: Balancer, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    pid.write_text(f"{os.getpid()}\n")
    balancer.entry["pid"] = str(pid)
    status, told = balancer("drain", 0)
    assert (status, "has no nginx worker" in told) == (3, True), told


@pytest.mark.acceptance
def test_the_check_tells_every_member_and_fails_when_one_is_out(balancer: Balancer) -> None:
    members = balancer.nginx.members
    status, said = balancer("check")
    assert status == 0, said
    assert said.splitlines() == [f"- {member.where} up" for member in members]
    assert balancer("drain", 0)[0] == 0
    status, said = balancer("check")
    assert status == 1
    assert f"- {members[0].where} down" in said
    assert "not every member of pool web is in service" in said


@pytest.mark.acceptance
def test_the_check_fails_when_too_few_are_in_service(balancer: Balancer) -> None:
    assert balancer("check", min_up=3)[0] == 0
    status, said = balancer("check", min_up=4)
    assert (status, "pool web has 3 servers in service, but at least 4 must be" in said) == (
        1,
        True,
    )


@pytest.mark.acceptance
def test_the_check_refuses_a_file_that_nginx_has_not_loaded(balancer: Balancer) -> None:
    later = time.time() + 60
    os.utime(balancer.nginx.pool, (later, later))
    status, said = balancer("check")
    assert (status, "was changed after nginx loaded it" in said) == (3, True), said


# --- asking the members ---------------------------------------------------------------------------


@pytest.fixture
def asking(balancer: Balancer) -> Iterator[Balancer]:
    """A balancer whose members are asked; one that a test has closed is there again afterwards."""
    balancer.entry["health"] = "/health/"
    before = list(balancer.nginx.members)
    yield balancer
    for place, member in enumerate(before):
        if not member.thread.is_alive():
            host, _, port = member.where.rpartition(":")
            balancer.nginx.members[place] = support.Member(host, int(port))


def without_bash(folder: Path) -> str:
    """A PATH with all programs but bash; nc is busybox's."""
    for place in ("/bin", "/usr/bin", "/usr/sbin"):
        for program in Path(place).iterdir():
            if program.name not in ("bash", "nc") and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    (folder / "nc").symlink_to(str(shutil.which("busybox")))
    return str(folder)


@pytest.mark.acceptance
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_the_last_member_that_answers_is_not_drained(asking: Balancer, shell: str) -> None:
    if not shutil.which(shell.split(maxsplit=1)[0]):
        pytest.skip(f"no {shell} here")
    asking.shell = shell.split()
    members, before = asking.nginx.members, asking.nginx.pool.read_bytes()
    members[1].close()
    status, said = asking("spare", 0)
    assert (status, "pool web can spare web1" in said) == (0, True), said
    members[2].close()
    for action in ("spare", "drain"):
        status, said = asking(action, 0)
        assert status == 3, said
        assert "can't leave pool web: it is healthy, and of the others 0 would be" in said
        assert f"{members[1].where}: no answer, {members[2].where}: no answer" in said
    assert asking.nginx.pool.read_bytes() == before
    assert leftovers(asking.nginx) == []
    assert asking("drain", 1)[0] == 0
    assert asking("drain", 0, healthy="none")[0] == 0
    assert asking("ready", 0)[0] == 0
    members[0].close()
    status, said = asking("drain", 0)
    assert (status, "it was not healthy itself: no answer" in said) == (0, True), said


@pytest.mark.acceptance
def test_the_members_are_asked_without_bash_too(
    asking: Balancer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("busybox"):
        pytest.skip("no busybox here")
    monkeypatch.setenv("PATH", without_bash(tmp_path))
    assert asking("spare", 0)[0] == 0
    (tmp_path / "nc").unlink()
    status, said = asking("spare", 0)
    assert (status, "neither bash nor nc" in said) == (3, True), said


@pytest.mark.acceptance
def test_a_check_asks_every_member_but_those_that_look_at_themselves(asking: Balancer) -> None:
    members = asking.nginx.members
    assert asking("check")[0] == 0
    members[1].close()
    status, said = asking("check")
    assert (status, "not every member of pool web is healthy" in said) == (1, True), said
    assert f"- {members[1].where} up, no answer" in said
    port = int(members[1].where.rpartition(":")[2])
    asking.entry.update(members="ignored")
    entry = {**asking.entry, "port": port, "members": None}
    found: dict[str, Value] = {
        **words({"pool": "web", "healthy": "others"}),
        "check": True,
        "balancer": words(entry),
        "members": (text("web2"),),
        "about": (text("web2"),),
        "addresses": words({"web2": members[1].where.rpartition(":")[0]}),
    }
    script = traffic.work(found, step({})).text.fixed()
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"web2 {members[1].where} up\n" in done.stdout


@pytest.mark.acceptance
def test_a_member_that_hangs_holds_nobody_up(asking: Balancer) -> None:
    asking.nginx.members[1].slow = 30.0
    asking.entry["health"] = "/slow"
    began = time.monotonic()
    try:
        asking.nginx.members[2].slow = asking.nginx.members[0].slow = 0.0
        assert asking("spare", 0)[0] == 0
    finally:
        for member in asking.nginx.members:
            member.slow = 1.0
    assert time.monotonic() - began < 25


GOOD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (GOOD + '{"status": "healthy"}', "healthy"),
        (GOOD + '{"checks": [{"status": "x{\\"]"}], "status" : "UP"}', "healthy"),
        (GOOD + '{"status": "unhealthy", "db": {"status": "healthy"}}', "status is unhealthy"),
        (GOOD + '{"db": {"status": "healthy"}, "a": "status", "status": "bad"}', "status is bad"),
        (GOOD + '{\n "status":\n 0}', "status is no text"),
        (GOOD + '{"db": {"status": "down"}}', "healthy"),
        (GOOD + "fine", "healthy"),
        ("HTTP/1.0 204 No Content\r\n\r\n", "healthy"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n" + '{"status": "healthy"}', "status 503"),
        ("HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "status 301"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "half an answer"),
        ("SSH-2.0-OpenSSH\r\n", "no HTTP answer"),
        ("", "no answer"),
    ],
)
def test_healthy_is_a_good_status_in_the_answer_and_in_its_json(
    answer: str, what: str, awk: list[str]
) -> None:
    program = AWK.with_name("members.awk")
    done = subprocess.run(
        [*awk, "-f", str(program)], input=answer.encode(), capture_output=True, check=True
    )
    assert done.stdout.decode() == what + "\n"


# --- reading nginx's configuration ----------------------------------------------------------------


def read(content: str, awk: list[str], **values: str) -> list[str]:
    """The answer's fields for a file's text."""
    given = {"pool": "web", "name": "web1", "action": "drain", **values}
    options = [word for name, value in given.items() for word in ("-v", f"{name}={value}")]
    done = subprocess.run(
        [*awk, *options, "-f", str(WORDS), "-f", str(AWK)],
        input=content.encode(),
        capture_output=True,
        check=True,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )
    return done.stdout.decode().rstrip("\n").split("\t")


def toggled(content: str, member: str, awk: list[str]) -> str:
    """The text with the member's state turned over, as pool.sh would write it."""
    found, state, begin, end, *_ = read(content, awk, member=member)
    assert found == "found", state
    raw = content.encode()
    word = b" down" if state == "up" else b""
    return (raw[: int(begin)] + word + raw[int(end) :]).decode()


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("server 10.0.0.1:8000;", "server 10.0.0.1:8000 down;"),
        ("server 10.0.0.1:8000 ;", "server 10.0.0.1:8000 down ;"),
        ("server\t10.0.0.1:8000   weight=3;# x", "server\t10.0.0.1:8000   weight=3 down;# x"),
        ("server '10.0.0.1:8000' backup;", "server '10.0.0.1:8000' backup down;"),
        ("server 10.0.0.1:8000 # a; b {\n ;", "server 10.0.0.1:8000 down # a; b {\n ;"),
        ("server 10.0.0.1:8000;\r\nkeepalive 4;", "server 10.0.0.1:8000 down;\r\nkeepalive 4;"),
        ("# server 10.0.0.1:8000;\nserver 10.0.0.1:8000;",
         "# server 10.0.0.1:8000;\nserver 10.0.0.1:8000 down;"),
        ("server 10.0.0.1:8000;server 10.0.0.2:8000;",
         "server 10.0.0.1:8000 down;server 10.0.0.2:8000;"),
        ("server 10.0.0.1:80000; server 10.0.0.1:8000;",
         "server 10.0.0.1:80000; server 10.0.0.1:8000 down;"),
        ("zone é 1m; server 10.0.0.1:8000;", "zone é 1m; server 10.0.0.1:8000 down;"),
    ],
)  # fmt: skip
def test_down_is_written_at_its_place_and_goes_again(
    before: str, after: str, awk: list[str]
) -> None:
    content = f"upstream web {{\n{before}\n}}\n"
    changed = toggled(content, "10.0.0.1:8000", awk)
    assert changed == f"upstream web {{\n{after}\n}}\n"
    assert toggled(changed, "10.0.0.1:8000", awk) == content


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("server 10.0.0.1:8000 down weight=2;", "server 10.0.0.1:8000 weight=2;"),
        ("server 10.0.0.1:8000   down  ;", "server 10.0.0.1:8000  ;"),
        ("server 10.0.0.1:8000 # why\ndown;", "server 10.0.0.1:8000 # why\n;"),
        ("server 10.0.0.1:8000 'down';", "server 10.0.0.1:8000;"),
    ],
)
def test_down_that_people_wrote_goes_wherever_it_stands(
    before: str, after: str, awk: list[str]
) -> None:
    assert toggled(f"upstream web {{ {before} }}", "10.0.0.1:8000", awk) == (
        f"upstream web {{ {after} }}"
    )


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
@pytest.mark.parametrize(
    ("member", "line"),
    [
        ("[::1]:8000", "server [0:0:0:0:0:0:0:1]:8000;"),
        ("[2001:db8::a:0:1]:8000", "server [2001:0DB8:0:0:0:A::1]:8000;"),
        ("10.0.0.1:80", "server 10.0.0.1;"),
        ("[fe80::1]:80", "server [FE80::1];"),
    ],
)
def test_an_address_is_found_however_it_is_written(member: str, line: str, awk: list[str]) -> None:
    assert read(f"upstream web {{ {line} }}", awk, member=member)[:2] == ["found", "up"]


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("upstream web { server a:1; server a:1 weight=2; }", "stands in it more than once"),
        ("upstream web { server b:1; }", "member web1 (a:1) is not in it; it has b:1 (line 1)"),
        ("upstream web { }", "is not in it; it has no server"),
        ("upstream x { server a:1; }\nupstream y { server a:1; }", "(x, y) is called web"),
        ("upstream web { server a:1;", "a brace, quote or semicolon is missing"),
        ("upstream web { server a:1; } }", "line 1 has a } too many"),
        ('upstream web { server "a:1; }', "a brace, quote or semicolon is missing"),
        ("upstream web { server a:1 down down; }", "line 1 says down more than once"),
        ("upstream web { server a:1; balancer_by_lua_block { x = '}' } }", "a block of Lua"),
        ("", "is not in it; it has no server"),
    ],
)
def test_what_is_not_plain_is_refused(content: str, said: str, awk: list[str]) -> None:
    verdict, message = read(content, awk, member="a:1")
    assert (verdict, said in message) == ("fault", True), message


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_the_pools_own_upstream_is_taken_and_others_are_named(awk: list[str]) -> None:
    content = "upstream ws { server a:1; }\nupstream web { server a:1; server b:1 backup; }\n"
    found, state, begin, _, up, total, backup, others = read(content, awk, member="a:1")
    assert (found, state, up, total, backup, others) == ("found", "up", "1", "2", "0", "ws")
    assert int(begin) > content.index("web {")
    at = read(content, awk, member="a:1", upstream="ws")
    assert (at[0], int(at[2]) < content.index("web {"), at[7]) == ("found", True, "web")


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_bare_server_lines_of_an_included_file_are_a_pool(awk: list[str]) -> None:
    assert toggled("server a:1;\nserver b:1;\n", "a:1", awk) == "server a:1 down;\nserver b:1;\n"


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_the_server_blocks_of_sites_are_no_members(awk: list[str]) -> None:
    content = (
        "http { upstream web { server a:1; }\n server { listen 80; set $x '${y};{'; return 204 '}';"
        " location ~ '^/[0-9]{2}/' { proxy_pass http://web; } location / { return 200 ${z}; } } }"
    )
    assert read(content, awk, member="a:1")[4:6] == ["1", "1"]


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_the_check_knows_members_that_are_absent_and_servers_that_are_not_ours(
    awk: list[str],
) -> None:
    content = "upstream web { server a:1; server b:1 down; server spare:1 down; }"
    members = "web1=a:1 web2=b:1 web3=c:1"
    verdict, state, rest = read(content, awk, action="check", members=members)
    assert (verdict, state, rest.splitlines()) == (
        "pool",
        "bad",
        ["1", "web1 a:1 up", "web2 b:1 down", "web3 c:1 absent", "- spare:1 down"],
    )
    assert read(content, awk, action="check", members="web1=a:1")[1] == "good"


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_addresses_are_written_as_the_kernel_does(awk: list[str]) -> None:
    with socket.create_server(("127.0.0.3", 0)) as v4:
        port = v4.getsockname()[1]
        client = socket.create_connection(("127.0.0.3", port))
        table = Path("/proc/net/tcp").read_text()
        client.close()
    little = "1" if (1).to_bytes(2, "little") == socket.htons(256).to_bytes(2, "little") else "0"
    [written] = read("127.0.0.3\n", awk, action="remote", port=str(port), little=little)
    assert f" {written} 01" in table


SPACE = st.sampled_from([" ", "  ", "\t", " \n ", " # note; {\n"])
OPTIONS = st.lists(
    st.sampled_from(["weight=2", "max_fails=0", "backup", "'fail_timeout=3s'"]), max_size=3
)


@settings(max_examples=25, deadline=None)
@given(
    servers=st.lists(st.tuples(SPACE, OPTIONS, SPACE), min_size=1, max_size=4),
    chosen=st.integers(0, 3),
)
def test_turning_a_member_over_twice_gives_the_same_bytes(
    servers: list[tuple[str, list[str], str]], chosen: int
) -> None:
    lines = [
        f"server{before}10.0.0.{n}:8000{''.join(before + option for option in options)}{after};"
        for n, (before, options, after) in enumerate(servers)
    ]
    content = "upstream web {\n" + "\n".join(lines) + "\n}"
    member = f"10.0.0.{chosen % len(servers)}:8000"
    once = toggled(content, member, AWKS[0])
    assert len(once) == len(content) + 5
    assert once.replace(" down", "", 1) == content
    assert toggled(once, member, AWKS[0]) == content


# --- the kind itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "effect", "what"),
    [
        ({"pool": "web"}, "change", "one of drain, ready, check and spare is needed, not none"),
        ({"drain": "a", "ready": "a"}, "change", "is needed, not drain and ready"),
        ({"check": True}, "change", "looking at a pool changes nothing"),
        ({"drain": "a"}, "read", "drain changes the balancer"),
        ({"spare": "a"}, "change", "looking at a pool changes nothing"),
    ],
)
def test_a_step_asks_for_one_thing(args: Mapping[str, object], effect: Effect, what: str) -> None:
    [found] = traffic.check(step(args, effect))
    assert what in found.what


def test_a_good_step_has_no_problems() -> None:
    assert list(traffic.check(step({"drain": "{{ host }}", "pool": "web"}))) == []
    assert list(traffic.check(step({"check": True, "pool": "web"}, "read"))) == []


def planned(**entry: object) -> dict[str, Value]:
    balancer = {"type": "nginx", "file": "/etc/nginx/web.conf", "port": 8000, **entry}
    return {
        **words({"drain": "web1", "pool": "web"}),
        "balancer": words(balancer),
        "addresses": words({"web1": "10.0.0.1", "web6": "2001:db8::1", "named": "web.example"}),
    }


def test_the_plan_shows_a_summary_and_becomes_the_balancers_user() -> None:
    work = traffic.work(planned(sudo="root"), step({}))
    assert (work.summary, work.sudo) == ("drain web1 in pool web", "root")
    assert traffic.work({**planned(sudo="root"), "sudo": text("ops")}, step({})).sudo == "ops"
    assert traffic.work(planned(), step({})).sudo is None


@pytest.mark.parametrize(
    ("host", "member"),
    [("web1", "10.0.0.1:8000"), ("web6", "'[2001:db8::1]:8000'"), ("named", "web.example:8000")],
)
def test_the_member_is_the_hosts_address_with_the_pools_port(host: str, member: str) -> None:
    work = traffic.work({**planned(), "drain": text(host)}, step({}))
    assert f"\nmember={member}\n" in work.text.fixed()


def test_hostile_values_stay_words() -> None:
    evil = "x'; touch /tmp/pwned; echo '$(id)`id`\n\"\\"
    work = traffic.work(planned(reload=evil, pid=evil), step({}))
    script = work.text.fixed().partition("# Take one member")[0] + 'printf %s "$reload$pid"'
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout == evil + evil
    assert shlex.quote(evil) in work.text.fixed()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"balancer": words({"type": "caddy", "file": "/x"})}, "of type 'caddy'"),
        ({"balancer": words({"type": "haproxy"})}, "has no socket"),
        ({"balancer": words({"type": "haproxy", "socket": "/x"})}, "has no state_file"),
        ({"balancer": words({"type": "nginx"})}, "has no file"),
        ({"drain": text("web9")}, "'web9' is no host of the inventory"),
        ({"drain_timeout": text("soon")}, "`drain_timeout` came to 'soon'"),
        ({"healthy": text("some")}, "`healthy` came to 'some'"),
        ({"min_up": text("101%")}, "`min_up` came to '101%'"),
        ({"min_up": text("0")}, "`min_up` came to '0'"),
        ({"page": text("/x\r\nEvil: 1")}, "can't be asked for their health: health is"),
    ],
)
def test_what_can_not_be_planned_is_an_input_error(change: Mapping[str, Value], what: str) -> None:
    with pytest.raises(InputError, match=what):
        traffic.work({**planned(), **change}, step({}))


# --- what HAProxy says ----------------------------------------------------------------------------

STATES = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight
3 web 1 a 10.0.0.1 2 0 100 100
3 web 2 b 10.0.0.2 2 8 40 100
3 web 3 c 10.0.0.3 0 1 100 100
"""
STAT = """\
# pxname,svname,qcur,scur,status,weight,bck,check_status,addr
web,FRONTEND,,9,OPEN,,,,
web,a,1,2,UP,100,0,* L7OK,10.0.0.1:8000
web,b,0,0,DRAIN,40,0,L7OK,10.0.0.2:8000
web,c,0,0,MAINT,100,1,,10.0.0.3:8000
web,BACKEND,1,3,UP,140,0,,
other,a2,0,4,UP,100,0,L4OK,10.0.0.1:8000
"""


def servers(awk: list[str], states: str, stat: str = STAT) -> list[list[str]]:
    program = Path(traffic.__file__).with_name("haproxy.awk")
    done = subprocess.run(
        [*awk, "-v", "action=servers", "-v", "backend=web", "-f", str(program)],
        input=f"{states}\n=\n{stat}".encode(),
        capture_output=True,
        check=True,
    )
    return [line.split("\t") for line in done.stdout.decode().splitlines()]


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_servers_of_haproxy_are_read_by_the_names_of_columns(awk: list[str]) -> None:
    told = servers(awk, STATES)
    assert told == [
        ["a", "ready", "100", "100", "UP", "L7OK", "3", "4", "10.0.0.1:8000", "main"],
        ["b", "drain", "40", "100", "DRAIN", "L7OK", "0", "0", "10.0.0.2:8000", "main"],
        ["c", "maint", "100", "100", "MAINT", "-", "0", "0", "10.0.0.3:8000", "backup"],
    ]
    turned = STATES.replace("srv_uweight srv_iweight", "srv_iweight srv_uweight")
    assert servers(awk, turned)[1][2:4] == ["100", "40"]
    assert servers(awk, "Can't find backend.\n") == [
        ["fault", "HAProxy answers: Can't find backend."]
    ]
    assert servers(awk, STATES, STAT.replace("web,", "app,")) == [
        ["fault", "backend web has no server"]
    ]
