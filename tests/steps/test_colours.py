"""The colours step: its shell text against a real nginx with two colours, and its arithmetic."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from math import comb
from pathlib import Path

import pytest

from opskit.errors import InputError
from opskit.lab.load import Load
from opskit.model.problem import Place
from opskit.model.runbook import Effect, Step
from opskit.model.text import Fixed, text
from opskit.steps import KINDS, colours
from opskit.steps.base import Value
from tests.support import colours as support
from tests.support import ports
from tests.support.colours import Colours
from tests.support.nginx import Member, certificate, wait_until

PLACE = Place(file="book.yaml", line=7, column=3)
HERE = Path(colours.__file__).parent
AWKS = [words for words in (["awk"], ["busybox", "awk"], ["gawk"]) if shutil.which(words[0])]
RARE = 1e-6


def words(values: Mapping[str, object]) -> dict[str, Value]:
    """What plan makes of what is written: strings become texts."""
    return {key: word(value) for key, value in values.items()}


def word(value: object) -> Value:
    match value:
        case str():
            return text(value)
        case list():
            return tuple(map(word, value))
        case dict():
            return words(value)
    return value  # type: ignore[return-value]


def step(args: Mapping[str, object], effect: Effect = "change") -> Step:
    return Step(
        position="1", name="", kind="colours", place=PLACE, args=dict(args), effect=effect  # type: ignore[arg-type]
    )  # fmt: skip


def shell_text(entry: Mapping[str, object], run: str, args: Mapping[str, object]) -> str:
    found = {**words(args), "balancer": words(entry)}
    parts = KINDS["colours"].work(found, step(args)).text.parts  # type: ignore[union-attr]
    return "".join(part.text if isinstance(part, Fixed) else run for part in parts)


class Balancer:
    """Runs the kind's shell text as the driver would: `sh -eu`, standard input empty."""

    def __init__(self, nginx: Colours, shell: str = "sh") -> None:
        self.nginx = nginx
        self.shell = shell.split()
        self.entry = nginx.entry()
        self.run = "run-1"

    def start(self, **args: object) -> subprocess.Popen[str]:
        given = {"pool": "app", "sample": 60, **args}
        return subprocess.Popen(
            [*self.shell, "-euc", shell_text(self.entry, self.run, given)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, **args: object) -> tuple[int, str]:
        process = self.start(**args)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    @property
    def state(self) -> tuple[bytes, set[int]]:
        return self.nginx.active.read_bytes(), self.nginx.workers()

    def refuses(self, **args: object) -> str:
        """What is said; nothing may have been touched."""
        before = self.state
        status, said = self(**args)
        assert status == 3, said
        assert self.state == before
        return said


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colours]:
    nginx = support.make(tmp_path_factory.mktemp("colours"))
    yield nginx
    nginx.stop()
    for member in nginx.members:
        member.close()


@pytest.fixture
def nginx(shared: Colours) -> Iterator[Colours]:
    """The shared nginx, with all traffic on blue again once a test is over."""
    yield shared
    for extra in shared.active.parent.iterdir():
        if extra not in (shared.active, shared.pool):
            extra.unlink()
    old = time.time() - 60
    shared.active.write_text(support.ACTIVE)
    os.utime(shared.active, (old, old))
    shared.patience, shared.retries = Colours.patience, Colours.retries
    shared.write()
    was = shared.workers()
    shared.run("-s", "reload")
    wait_until(lambda: bool(shared.workers()) and not shared.workers() & was)


@pytest.fixture
def balancer(nginx: Colours) -> Balancer:
    return Balancer(nginx)


def green_of(nginx: Colours, requests: int = 12) -> bool:
    return nginx.seen(requests) == {f"200 {nginx.members[1].where}"}


def blue_of(nginx: Colours, requests: int = 12) -> bool:
    return nginx.seen(requests) == {f"200 {nginx.members[0].where}"}


def kept(nginx: Colours) -> list[str]:
    names = (f.name for f in nginx.active.parent.iterdir())
    return sorted(name for name in names if name.startswith(".") and ".answered-" not in name)


# --- against a real nginx -----------------------------------------------------------------------


@pytest.mark.acceptance
@pytest.mark.parametrize("shell", [pytest.param("bash", marks=pytest.mark.soak), "busybox sh"])
def test_any_shell_does(nginx: Colours, shell: str) -> None:
    if not shutil.which(shell.split(maxsplit=1)[0]):
        pytest.skip(f"no {shell} here")
    balancer, before = Balancer(nginx, shell), nginx.active.read_bytes()
    status, said = balancer(to="green", share=50, sample=60)
    assert (status, said.startswith("pool app has blue 50 green 50")) == (0, True), said
    status, said = balancer(back=True, sample=30)
    assert (status, nginx.active.read_bytes()) == (0, before), said


@pytest.mark.acceptance
def test_stages_to_green_and_back_leave_the_file_byte_for_byte(balancer: Balancer) -> None:
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    assert balancer(show=True)[1].startswith("blue 100\n")
    with Load(url=f"http://{nginx.listen}/", rate=200, threads=4) as load:
        for share, now in ((10, "blue 90 green 10"), (50, "blue 50 green 50"), (100, "green 100")):
            status, said = balancer(to="green", share=share)
            assert (status, said.startswith(f"pool app has {now} (before: ")) == (0, True), said
        assert balancer(show=True)[1].startswith("green 100\n")
        assert green_of(nginx)
        assert nginx.active.read_text() == (
            "# Who gets which share; written whole by opskit, last in run run-1.\n"
            'split_clients "${remote_addr}${http_user_agent}" $app_pool {\n    * app_green;\n}\n'
        )
        workers = nginx.workers()
        assert "already, nginx was not reloaded" in balancer(to="green")[1]
        assert nginx.workers() == workers
        status, said = balancer(back=True)
        assert (status, "is as this run found it: blue 100" in said) == (0, True), said
    report = load.report()
    assert report.failures == 0, report.describe()
    assert report.requests > 100
    assert nginx.active.read_bytes() == before
    assert blue_of(nginx)
    workers = nginx.workers()
    assert "nginx was not reloaded" in balancer(back=True)[1], "an undo may come twice"
    assert nginx.workers() == workers
    assert kept(nginx) == [".active.conf.before-run-1"]


@pytest.mark.acceptance
def test_the_workers_of_a_reload_by_somebody_else_are_no_proof(balancer: Balancer) -> None:
    """One that began before ours has read the old file; nginx tries a taken port for 2.5 s."""
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = nginx.active.with_name("busy.conf")
        busy.write_text(f"server {{ listen 127.0.0.1:{taken.getsockname()[1]}; return 204; }}\n")
        nginx.run("-s", "reload")
        process = balancer.start(to="green")
        wait_until(lambda: nginx.active.read_bytes() != before)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, green_of(nginx)) == (0, True), out + err


@pytest.mark.acceptance
def test_f14_a_switch_that_nginx_does_not_take_fails_and_says_which_colour_answers(
    balancer: Balancer,
) -> None:
    """`nginx -t` and the reload exit 0 while a port is taken; the old configuration lives on."""
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = nginx.active.with_name("busy.conf")
        busy.write_text(f"server {{ listen 127.0.0.1:{taken.getsockname()[1]}; return 204; }}\n")
        nginx.run("-t")
        nginx.run("-s", "reload")
        status, said = balancer(to="green")
        assert status == 5, said
        assert "[emerg]" in said
        assert "the old file is back, but: nginx did not take the configuration" in said
        assert "what answers is blue 100 all the same: of 60 fresh connections 0 came" in said
        assert nginx.active.read_bytes() == before
        assert blue_of(nginx)
    busy.unlink()
    status, said = balancer(to="green")
    assert (status, green_of(nginx)) == (0, True), said


@pytest.mark.acceptance
def test_f14_a_reload_with_nothing_changed_is_no_switch(balancer: Balancer) -> None:
    """The seed's way back: nothing but a reload. What answers is measured, not assumed."""
    nginx = balancer.nginx
    nginx.active.write_text(support.ACTIVE.replace("app_blue", "app_green"))
    said = balancer.refuses(show=True)
    assert "says green 100, but of 60 fresh connections 0 came to green (60 expected)" in said
    assert "they disagree, so which colour is live is not known" in said
    assert "they disagree" in balancer.refuses(to="blue")


@pytest.mark.acceptance
def test_a_reload_that_does_nothing_is_noticed_and_taken_back(balancer: Balancer) -> None:
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    once, reload = nginx.top / "once", str(balancer.entry["reload"])
    balancer.entry["reload"] = f"if [ -e {once} ]; then {reload}; else touch {once}; fi"
    status, said = balancer(to="green", reload_timeout=1)
    once.unlink()
    assert status == 4, said
    assert "no new workers 1 s after the reload" in said
    assert "the old configuration is back and loaded" in said
    assert (nginx.active.read_bytes(), blue_of(nginx)) == (before, True)


@pytest.mark.acceptance
def test_f14_where_the_way_back_is_not_loaded_either_it_says_who_answers(
    balancer: Balancer,
) -> None:
    """The first reload loads another configuration than the one that was tried, the second none."""
    nginx, once = balancer.nginx, balancer.nginx.top / "once"
    green = "s/[$]app_pool;/app_green;/; s/X-Pool [$]app_pool/X-Pool app_green/"
    reload = f"touch {once}; sed -i '{green}' {nginx.conf}; {balancer.entry['reload']}"
    balancer.entry["reload"] = f"if [ ! -e {once} ]; then {reload}; fi"
    status, said = balancer(to="green", share=50, reload_timeout=1)
    assert status == 5, said
    assert "the old file is back, but: " in said
    assert "; and what answers is something else: of 60 fresh connections 60 came to green" in said


@pytest.mark.acceptance
def test_a_share_that_does_not_show_in_the_answers_is_taken_back(balancer: Balancer) -> None:
    """The file is read and loaded, but another variable decides."""
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    conf = nginx.conf.read_text().replace("listen ", "set $real_pool app_blue;\n        listen ")
    conf = conf.replace("proxy_pass http://$app_pool;", "proxy_pass http://$real_pool;")
    conf = conf.replace("X-Pool $app_pool", "X-Pool $real_pool")
    conf = conf.replace(
        "location / {", "location /x { proxy_pass http://$app_pool; }\nlocation / {"
    )
    nginx.conf.write_text(conf)
    was = nginx.workers()
    nginx.run("-s", "reload")
    wait_until(lambda: bool(nginx.workers()) and not nginx.workers() & was)
    status, said = balancer(to="green", share=50)
    assert status == 4, said
    assert "nginx has loaded it, but of 60 fresh connections 0 came to green (12 to 48" in said
    assert "the old configuration is back and loaded" in said
    assert nginx.active.read_bytes() == before


@pytest.mark.acceptance
def test_a_configuration_that_nginx_refuses_is_refused_before(balancer: Balancer) -> None:
    pool = balancer.nginx.pool
    pool.write_text(pool.read_text() + "no_such_directive on;\n")
    said = balancer.refuses(to="green")
    assert "nginx's configuration is not valid" in said
    assert 'unknown directive "no_such_directive"' in said


@pytest.mark.acceptance
def test_what_makes_a_switch_unsafe_is_refused(balancer: Balancer) -> None:
    nginx = balancer.nginx
    blue, green = (member.where for member in nginx.members)
    good = nginx.pool.read_text()

    def refused(pools: str = good, **args: object) -> str:
        nginx.pool.write_text(pools)
        return balancer.refuses(**(args or {"to": "green"}))

    both = good.replace(green, blue)
    assert f"{blue} is in app_blue and in app_green" in refused(both)
    assert f"{blue} is in app_blue and in app_green" in refused(both, ready="green")
    gone = good.replace("app_green", "app_red")
    assert "nginx has no upstream app_green but app_blue, app_red" in refused(gone)
    spare = good.replace(f"{green};", f"{green} backup; server 127.0.0.9:9 down;")
    said = refused(spare)
    assert "green has no server that is up, so it can't have traffic" in said
    assert "purple is no colour of pool app; it has blue and green" in refused(to="purple")
    nginx.pool.write_text(good)
    nginx.retries = "proxy_next_upstream error non_idempotent;"
    nginx.write()
    assert "proxy_next_upstream has non_idempotent" in refused()
    nginx.retries = "proxy_next_upstream off;"
    nginx.write()
    good_conf = nginx.conf.read_text()
    nginx.conf.write_text(good_conf.replace("http://$app_pool", "http://$app_pool/v1/"))
    said = balancer(ready="green")[1]
    assert "proxy_pass has /v1/ behind $app_pool: with a variable, nginx sends that instead" in said
    nginx.conf.write_text(good_conf.replace("http://$app_pool", "http://app_blue"))
    assert "passes requests to $app_pool; write for example" in refused()


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it has no split_clients"),
        ('split_clients "$request_id" $app_pool { 10% app_blue; }\n', "no share for the rest"),
        ('split_clients "$request_id" $app_pool { 10% app_red; * app_blue; }\n', "app_red, which"),
        ('split_clients "$request_id" $app_pool { 0.5% app_green; * app_blue; }\n', "0.5% is no"),
        ('split_clients "$request_id" $app_pool { * app_blue; }\nset $x 1;\n', "line 2 is no part"),
        ('split_clients "$request_id" $app_pool { * app_blue;\n', "a brace, quote or semicolon"),
        ('split_clients "$remote_addr" $app_pool { * app_blue; }\n', "the same for every request"),
    ],
)
def test_an_unknown_live_colour_is_refused(balancer: Balancer, content: str, why: str) -> None:
    balancer.nginx.active.write_text(content)
    assert why in balancer.refuses(to="green")


@pytest.mark.acceptance
def test_going_backwards_must_be_said(balancer: Balancer) -> None:
    assert balancer(to="green", share=50)[0] == 0
    said = balancer.refuses(to="green", share=10)
    assert "green has 50 % and would go back to 10 %; if that is meant: backwards: true" in said
    status, said = balancer(to="green", share=10, backwards=True)
    assert (status, "pool app has blue 90 green 10" in said) == (0, True), said
    assert balancer(to="blue")[0] == 0
    assert blue_of(balancer.nginx)


@pytest.mark.acceptance
def test_an_idle_colour_that_is_down_gets_nothing_and_a_broken_live_one_can_be_left(
    balancer: Balancer,
) -> None:
    nginx = balancer.nginx
    host, _, port = nginx.members[1].where.rpartition(":")
    nginx.members[1].close()
    try:
        said = balancer.refuses(to="green", share=10)
        assert f"green can't have traffic: not all of it is healthy (asked for /): {host}" in said
        assert "no answer" in balancer.refuses(ready="green")
    finally:
        nginx.members[1] = Member(host, int(port))
    nginx.members[1].slow = 1.2
    said = balancer.refuses(ready="green", smoke="/slow", answer_within=1)
    assert f"(asked for /slow): {nginx.members[1].where}: no answer" in said
    status, said = balancer(warm="green", smoke="/ /slow", answer_within=20)
    assert (status, "; each of its servers (1) answered 2 pages well" in said) == (0, True), said
    host, _, port = nginx.members[0].where.rpartition(":")
    nginx.members[0].close()
    try:
        status, said = balancer(to="green")
        assert (status, green_of(nginx)) == (0, True), said
        status, said = balancer(back=True)
        assert status == 0, said
        assert "is as this run found it: blue 100" in said, "an undo goes back to what was"
    finally:
        nginx.members[0] = Member(host, int(port))


@pytest.mark.acceptance
def test_long_requests_are_counted_and_need_a_worker_shutdown_timeout(balancer: Balancer) -> None:
    nginx = balancer.nginx
    nginx.members[0].slow = 600.0  # until go_on: how loaded the machine is must not matter
    host, _, port = nginx.listen.partition(":")
    held = [socket.create_connection((host, int(port))) for _ in range(3)]
    try:
        for peer in held:
            peer.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: len(nginx.members[0].held) == 3)
        nginx.patience = ""
        nginx.write()
        said = balancer.refuses(to="green")
        assert "up to 3 requests have been open" in said
        assert "nginx has no worker_shutdown_timeout" in said
        nginx.patience = "worker_shutdown_timeout 10m;"
        nginx.write()
        status, said = balancer(to="green")
        assert status == 0, said
        assert "before the reload, up to 3 requests had been open" in said
        assert (
            "3 connections stay with the workers before, until they end, at the longest for" in said
        )
        assert "more workers" not in said
        status, said = balancer(alone="green", drain_timeout=1)
        assert (status, "after 1 s nginx still has 3 connections to blue" in said) == (1, True), (
            said
        )
        assert (
            "blue has not all traffic of pool app, which has green 100" in balancer(alone="blue")[1]
        )
        refused = balancer.refuses(to="blue", max_old=0)
        assert "workers of earlier reloads still serve their last connections" in refused
        nginx.members[0].go_on.set()
        for peer in held:
            assert peer.recv(12) == b"HTTP/1.1 200", "no request was broken off"
        assert "no connection to blue any more" in balancer(alone="green")[1]
    finally:
        nginx.members[0].go_on.set()
        for peer in held:
            peer.close()
        nginx.members[0].slow = 1.0
        nginx.members[0].go_on.clear()


@pytest.mark.acceptance
def test_a_change_that_was_cut_off_is_taken_back_first(balancer: Balancer) -> None:
    """As a crash of the balancer leaves it: the new file in place, nginx not reloaded."""
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    nginx.active.with_name(".active.conf.opskit-old").write_bytes(before)
    nginx.active.write_text(support.ACTIVE.replace("app_blue", "app_green"))
    assert "a change of" in (said := balancer.refuses(show=True))
    assert "was cut off" in said
    status, said = balancer(to="green", share=10)
    assert (status, "had been cut off and was taken back first" in said) == (0, True), said
    assert "(before: blue 100)" in said
    assert balancer(back=True)[0] == 0
    assert nginx.active.read_bytes() == before


@pytest.mark.acceptance
def test_a_change_that_was_cut_off_can_be_undone_when_the_next_is_refused(
    balancer: Balancer,
) -> None:
    """As a kill after the reload leaves it: nginx runs the new file, the old one lies beside it."""
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    for n in range(5):  # earlier runs, all undone: what they found is as old as what this one finds
        shutil.copy2(nginx.active, nginx.active.with_name(f".active.conf.before-run-0{n}"))
    assert balancer(to="green", share=50)[0] == 0
    assert ".active.conf.before-run-1" in kept(nginx)
    shutil.copy2(
        nginx.active.with_name(".active.conf.before-run-1"),
        nginx.active.with_name(".active.conf.opskit-old"),
    )
    status, said = balancer(to="green", release="B")
    assert (status, "answers as release (none), not as B" in said) == (3, True), said
    assert "was cut off" in balancer.refuses(show=True)
    status, said = balancer(back=True)
    assert (status, nginx.active.read_bytes(), blue_of(nginx)) == (0, before, True), said
    assert balancer(show=True)[1].startswith("blue 100\n")


@pytest.mark.acceptance
def test_what_can_not_be_seen_is_not_taken_for_none(balancer: Balancer, tmp_path: Path) -> None:
    nginx = balancer.nginx
    for name, does in (
        ("timeout", "exit 124"),
        ("ls", "echo \"ls: cannot open directory '/proc/1/fd': Permission denied\" >&2; exit 2"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name / name).chmod(0o755)
    balancer.shell = ["env", f"PATH={tmp_path}/timeout:{os.environ['PATH']}", "sh"]
    said = balancer.refuses(show=True)
    assert "0 of 60 fresh connections were told of" in said
    balancer.shell = ["sh"]
    assert balancer(to="green")[0] == 0
    blue = nginx.members[0].where
    balancer.shell = ["env", f"PATH={tmp_path}/ls:{os.environ['PATH']}", "sh"]
    with socket.create_connection(tuple(blue.split(":")), timeout=5):  # type: ignore[arg-type]
        status, said = balancer(alone="green", drain_timeout=1)
    assert (status, "nginx still has 1 connections to blue" in said) == (1, True), said
    balancer.shell = ["sh"]
    text = nginx.pool.read_text()
    nginx.pool.write_text(text.replace(blue, f"{blue}; server unix:{nginx.top}/none backup"))
    said = balancer.refuses(alone="green")
    assert "nobody can tell whether connections to unix:" in said


@pytest.mark.acceptance
@pytest.mark.parametrize("after", [pytest.param(0.3, marks=pytest.mark.soak), 0.8])
def test_killed_at_any_moment_it_can_be_put_back(balancer: Balancer, after: float) -> None:
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    process = balancer.start(to="green")
    time.sleep(after)
    process.kill()
    process.communicate()
    status, said = balancer(back=True)
    assert status == 0, said
    assert (nginx.active.read_bytes(), blue_of(nginx)) == (before, True), said
    assert balancer(show=True)[1].startswith("blue 100\n")


@pytest.mark.acceptance
def test_a_stop_puts_the_file_back(balancer: Balancer) -> None:
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    begun = nginx.top / "begun"
    balancer.entry["reload"] = f"{balancer.entry['reload']}; touch {begun}; sleep 1"
    process = balancer.start(to="green")
    wait_until(begun.exists)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143, said
    assert "failed: interrupted; the old configuration is back and loaded" in said
    assert (nginx.active.read_bytes(), blue_of(nginx)) == (before, True)


@pytest.mark.acceptance
def test_what_somebody_else_has_written_since_is_not_overwritten(balancer: Balancer) -> None:
    nginx = balancer.nginx
    assert balancer(to="green", share=10)[0] == 0
    balancer.run = "run-2"
    assert balancer(to="green", share=50)[0] == 0
    balancer.run = "run-1"
    said = balancer.refuses(back=True)
    assert "is not as this run left it; somebody has changed it since" in said
    balancer.run = "run-3"
    status, said = balancer(back=True)
    assert (status, "this run has changed nothing here" in said) == (0, True), said
    balancer.run = "run-2"
    assert balancer(back=True)[0] == 0
    assert balancer(show=True)[1].startswith("blue 90 green 10\n")
    assert kept(nginx) == [".active.conf.before-run-1", ".active.conf.before-run-2"]


@pytest.mark.acceptance
def test_another_run_takes_back_what_a_run_has_done_if_all_is_as_it_was_then(
    balancer: Balancer,
) -> None:
    nginx, before = balancer.nginx, balancer.nginx.active.read_bytes()
    assert "what run run-0 found is not kept in" in balancer.refuses(found="run-0")
    assert balancer(to="green")[0] == 0
    after = nginx.active.read_bytes()
    balancer.run = "run-2"
    status, said = balancer(found="run-1")
    assert (status, nginx.active.read_bytes()) == (0, after), said
    assert said.startswith("blue 100\n")
    assert balancer.refuses(back=True, of="run-0").startswith("refused, nothing changed: what run")

    nginx.members[0].release = "B"
    said = balancer.refuses(found="run-1")
    where = nginx.members[0].where
    assert f"blue is not what it was when the traffic left it: {where} was release -, and" in said
    assert "and is B" in balancer.refuses(back=True, of="run-1")
    nginx.members[0].release = ""
    nginx.members[0].refused = ("/",)
    assert "blue can't have traffic: not all of it is healthy" in balancer.refuses(found="run-1")
    assert "not all of it is healthy" in balancer.refuses(back=True, of="run-1")
    nginx.members[0].refused = ()

    status, said = balancer(back=True, of="run-1")
    assert (status, "active.conf is as run run-1 found it: blue 100" in said) == (0, True), said
    assert (nginx.active.read_bytes(), blue_of(nginx)) == (before, True)
    assert "is as run run-1 found it already: blue 100" in balancer.refuses(found="run-1")
    assert balancer(back=True)[0] == 0, "its own undo goes forward again"
    assert (nginx.active.read_bytes(), green_of(nginx)) == (after, True)
    balancer.run = "run-3"
    assert balancer(to="blue", share=50)[0] == 0
    said = balancer.refuses(found="run-1")
    assert "is not as run run-1 left it; somebody has changed it since" in said


@pytest.mark.acceptance
def test_two_at_once_do_not_meet(balancer: Balancer) -> None:
    running = [balancer.start(to="green", share=share) for share in (50, 50)]
    ends = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [status for _, status in ends] == [0, 0], ends
    assert sorted("already" in out for (out, _), _ in ends) == [False, True], ends


@pytest.mark.acceptance
def test_answers_without_the_header_prove_nothing(balancer: Balancer) -> None:
    balancer.entry["header"] = "X-Colour"
    said = balancer.refuses(to="green")
    assert "60 of 60 answers of" in said
    assert "(header x-colour must tell, as by: add_header x-colour $app_pool always)" in said
    assert "status 200, no such header" in said


@pytest.mark.acceptance
@pytest.mark.soak
def test_without_bash_curl_asks(balancer: Balancer, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    programs_but("bash", tmp_path)
    (tmp_path / "nc").unlink(missing_ok=True)
    (tmp_path / "nc").symlink_to(str(shutil.which("busybox")))
    args = {"pool": "app", "to": "green", "share": 50, "sample": 20}
    given = shell_text(balancer.entry, "run-1", args)
    done = subprocess.run(
        [str(shutil.which("sh")), "-euc", given],
        capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pool app has blue 50 green 50" in done.stdout


def programs_but(one: str, folder: Path) -> None:
    """Have all programs of this machine in a folder, but one."""
    for each in [*os.environ["PATH"].split(":"), "/usr/sbin"]:
        for program in Path(each).glob("*"):
            if program.name != one and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)


TLS = """
server {{
    listen {plain} default_server;
    return 301 https://www.example.com$request_uri;
}}
server {{
    listen {tls} ssl default_server;
    ssl_certificate {top}/cert.pem; ssl_certificate_key {top}/key.pem;
    return 421;
}}
server {{
    listen {tls} ssl;
    server_name www.example.com;
    ssl_certificate {top}/cert.pem; ssl_certificate_key {top}/key.pem;
    location / {{
        proxy_pass {scheme}://$app_pool;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-Proto $scheme;
        add_header X-Pool $app_pool always;
    }}
}}
"""


@pytest.mark.acceptance
def test_a_site_that_only_speaks_tls_is_measured_and_its_members_are_asked(
    balancer: Balancer, tmp_path: Path
) -> None:
    """A certificate of one's own, other sites at the address, Django's redirect and its hosts."""
    nginx, site = balancer.nginx, "www.example.com"
    context = certificate(nginx.top)
    plain, tls = (f"127.0.0.1:{ports.free()}" for _ in range(2))
    before = nginx.members

    def listen(scheme: str) -> None:
        keys = {"plain": plain, "tls": tls, "top": nginx.top, "scheme": scheme}
        nginx.active.with_name("tls.conf").write_text(TLS.format(**keys))
        was = nginx.workers()
        nginx.run("-s", "reload")
        wait_until(lambda: bool(nginx.workers()) and not nginx.workers() & was)

    for member in before:
        member.site = site
    balancer.entry["listen"] = f"http://{plain}/"
    listen("http")
    said = balancer.refuses(to="green", share=50, site=site)
    assert "status 301, no such header; it sends clients elsewhere" in said
    balancer.entry["listen"] = f"https://{tls}/"
    said = balancer.refuses(to="green", share=50)
    assert "status 421, no such header" in said, "who it is asked as is what the members have"
    try:
        status, said = balancer(to="green", share=50, site=site)
        assert (status, said.startswith("pool app has blue 50 green 50")) == (0, True), said
        nginx.members = [Member(f"127.0.0.{n}", tls=context) for n in (4, 5)]
        for member in nginx.members:
            member.site = site
        nginx.write()
        listen("https")
        assert "no answer" in balancer.refuses(to="green", site=site)
        balancer.entry["scheme"] = "https"
        status, said = balancer(to="green", site=site)
        assert (status, "pool app has green 100" in said) == (0, True), said
        balancer.entry["listen"] = f"http://{nginx.listen}/"
        programs_but("curl", tmp_path)
        balancer.shell = ["env", f"PATH={tmp_path}", "sh"]
        assert "green can have traffic" in balancer(ready="green", site=site)[1], "by openssl"
        nginx.members[1].site = "other"
        assert "status 400" in balancer.refuses(ready="green", site=site)
    finally:
        for member in nginx.members if nginx.members is not before else []:
            member.close()
        nginx.members = before
        for member in before:
            member.site = ""


# --- how many answers prove a share ---------------------------------------------------------------


def bounds(awk: list[str], share: int, sample: int) -> tuple[int, int, int]:
    options = ("-v", "action=bounds", "-v", f"share={share}", "-v", f"sample={sample}")
    files = ("-f", str(HERE / "words.awk"), "-f", str(HERE / "colours.awk"))
    done = subprocess.run(
        [*awk, *options, *files], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    size, least, most = map(int, done.stdout.split())
    return size, least, most


def within(size: int, least: int, most: int, share: float) -> float:
    """The chance that so many of `size` come from a side with this share."""
    counts = range(least, most + 1)
    return sum(comb(size, k) * share**k * (1 - share) ** (size - k) for k in counts)


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
@pytest.mark.parametrize("share", [1, 5, 10, 25, 50, 90, 99])
def test_a_right_share_passes_and_none_at_all_does_not(awk: list[str], share: int) -> None:
    size, least, most = bounds(awk, share, 200)
    exact = share / 100
    assert size >= 200
    assert 1 - within(size, least, most, exact) <= 2 * RARE * 1.01
    assert 1 - within(size, least + 1, most - 1, exact) > 2 * RARE * 0.2, "no wider than need be"
    assert least > 0
    assert most < size


@pytest.mark.parametrize("awk", AWKS, ids=" ".join)
def test_a_whole_share_is_every_answer(awk: list[str]) -> None:
    assert bounds(awk, 0, 200) == (200, 0, 0)
    assert bounds(awk, 100, 30) == (30, 30, 30)


def test_a_stage_that_was_not_taken_is_told_from_the_next() -> None:
    """The chance to take the share of one stage for that of another, for the stages that ship."""
    for asked, real in ((10, 0), (10, 50), (50, 10), (50, 100), (100, 50), (0, 10)):
        size, least, most = bounds(AWKS[0], asked, 200)
        assert within(size, least, most, real / 100) < 1e-5, (asked, real)


# --- what a plan refuses --------------------------------------------------------------------------

ENTRY = {
    "type": "nginx",
    "file": "/etc/nginx/opskit/active.conf",
    "colours": {"blue": "app_blue", "green": "app_green"},
    "listen": "http://127.0.0.1:8080/health/",
    "health": "/health/",
}


@pytest.mark.parametrize(
    ("entry", "args", "what"),
    [
        ({}, {"to": "green", "share": 101}, "`share` came to 101, which is no percentage"),
        ({}, {"to": "green", "share": -1}, "`share` came to -1, which is no percentage"),
        ({}, {"to": "green", "share": 10.5}, "`share` came to 10.5, which is no percentage"),
        ({"type": "haproxy"}, {"to": "green"}, "balancers.app of the inventory has no socket"),
        ({"type": "haproxy", "socket": "/s"}, {"to": "green"}, "inventory has no state_file"),
        (
            {"type": "haproxy", "socket": "/s", "state_file": None, "backend": "*"},
            {"to": "green"},
            "'*' is no name of a backend",
        ),
        ({"type": "caddy"}, {"to": "green"}, "of type 'caddy', which opskit can't steer"),
        ({"file": None}, {"to": "green"}, "balancers.app of the inventory has no file"),
        ({"colours": {}}, {"to": "green"}, "balancers.app of the inventory has no two colours"),
        ({"colours": {"a": "x", "b": "x"}}, {"to": "a"}, "has no two colours"),
        ({"colours": {"a": "x", "b": "y;z"}}, {"to": "a"}, "'y;z' can't be the name of a colour"),
        ({"listen": "ftp://x/"}, {"to": "green"}, "balancers.app.listen is ftp://x/"),
        ({"listen": None}, {"to": "green"}, "balancers.app.listen is missing"),
        ({"header": "X Pool"}, {"to": "green"}, "'X Pool' is no name of a header"),
    ],
)
def test_what_can_never_be_right_is_refused_when_planning(
    entry: dict[str, object], args: dict[str, object], what: str
) -> None:
    with pytest.raises(InputError, match=r"\S") as raised:
        shell_text({**ENTRY, **entry}, "r", {"pool": "app", **args})
    assert what in str(raised.value)


def test_without_a_page_to_ask_it_must_be_said_that_nobody_is() -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "health"}
    with pytest.raises(InputError, match=r"balancers\.app of the inventory has no health"):
        shell_text(entry, "r", {"pool": "app", "to": "green"})
    assert "health=''" in shell_text({**entry, "health": None}, "r", {"pool": "app", "to": "green"})


@pytest.mark.parametrize(
    ("args", "effect", "what"),
    [
        ({}, "change", "one of to, back, show, ready, warm, alone and found is needed, not none"),
        ({"to": "a", "back": True}, "change", "is needed, not to and back"),
        ({"show": True}, "change", "looking at a pool changes nothing"),
        ({"to": "a"}, "read", "to changes the balancer"),
        ({"to": "a", "share": 101}, "change", "101 is no percentage"),
    ],
)
def test_a_step_says_one_thing(args: dict[str, object], effect: Effect, what: str) -> None:
    problems = [problem.what for problem in colours.check(step({"pool": "app", **args}, effect))]
    assert what in " ".join(problems)
