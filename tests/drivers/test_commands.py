"""Commands: reads and changes, their ends and their limits, here and over SSH."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from opskit.drivers.local import LocalLink, LocalWire
from opskit.drivers.wire import Stream
from opskit.model.runbook import Effect
from opskit.model.value import SecretRef
from tests.drivers.kit import RUN, Kit, here, kit
from tests.support.sshd import Sshd

effects = pytest.mark.parametrize("effect", ["read", "change"])
MB = 1024 * 1024


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.acceptance)])
def any_kit(request: pytest.FixtureRequest) -> Kit:
    made: Kit = request.getfixturevalue(request.param)
    return made


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def number_in(path: Path) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError, ValueError):
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"nothing in {path}")


@effects
def test_a_command_gives_its_streams_and_status(any_kit: Kit, effect: Effect) -> None:
    got = any_kit.do("echo out; echo err >&2", effect=effect)
    assert (got.outcome, got.output.status, got.out, got.err) == (
        "succeeded",
        0,
        b"out\n",
        b"err\n",
    )
    got = any_kit.do("exit 3", effect=effect)
    assert (got.outcome, got.output.status, got.output.reason) == ("failed", 3, "exit status 3")
    got = any_kit.do("printf 'no newline'", effect=effect)
    assert got.output.stdout == got.out == b"no newline"


@effects
def test_a_program_alone_is_run_like_any_text(any_kit: Kit, effect: Effect) -> None:
    assert any_kit.do("/bin/echo a  b", effect=effect).out == b"a b\n"
    assert any_kit.do("nosuchprogram x", effect=effect).output.status == 127
    assert any_kit.do("uname", effect=effect, cwd="/nowhere").outcome == "failed"


@effects
def test_folder_input_environment_and_arguments_arrive(
    any_kit: Kit, effect: Effect, tmp_path: Path
) -> None:
    got = any_kit.do(
        "pwd; cat; echo $S", effect=effect, cwd=str(tmp_path), stdin="in\n", secrets={"S": "sesam"}
    )
    assert got.out == f"{tmp_path}\nin\nsesam\n".encode()
    assert any_kit.do("cat", effect=effect).out == b""
    got = any_kit.do("cat", effect=effect, stdin=SecretRef(name="S"), secrets={"S": "sesam"})
    assert got.out == b"sesam"
    script = "#!/usr/bin/env bash\nprintf '%s|' \"$@\" <<<x; cat"
    got = any_kit.do(script, effect=effect, shell=False, args=("a b", "-x'"), stdin="y")
    assert got.out == b"a b|-x'|y"


@effects
def test_input_that_nobody_reads_does_no_harm(any_kit: Kit, effect: Effect) -> None:
    assert any_kit.do("true", effect=effect, stdin="x" * 200_000).outcome == "succeeded"
    assert any_kit.do("echo next", effect=effect).out == b"next\n"


@effects
def test_a_time_out_ends_what_runs_and_says_so(
    any_kit: Kit, effect: Effect, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    got = any_kit.do(
        f"echo $$ >{pid}.shell; sleep 60 & echo $! >{pid}; wait", effect=effect, timeout=1
    )
    assert got.outcome == "failed"
    assert got.output.reason == "timed out after 1 s, confirmed gone"
    assert not alive(number_in(pid))
    assert any_kit.do("echo next", effect=effect).out == b"next\n"


@pytest.mark.acceptance
@effects
def test_what_ignores_term_is_killed(any_kit: Kit, effect: Effect, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = f"trap '' TERM; sleep 60 & echo $! >{pid}; wait; sleep 60"
    got = any_kit.do(text, effect=effect, timeout=1)
    assert got.output.reason == "timed out after 1 s, confirmed gone"
    assert not alive(number_in(pid))


def test_a_change_that_ends_in_its_own_time_while_it_is_stopped_keeps_its_outcome(
    any_kit: Kit,
) -> None:
    got = any_kit.do("trap 'exit 0' TERM; sleep 60 & wait", effect="change", timeout=1)
    assert got.outcome == "failed"
    assert "confirmed gone" in got.output.reason


def test_what_left_session_and_tree_can_not_be_told(any_kit: Kit, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = f"(setsid sh -c 'echo $$ >{pid}; exec sleep 60' &) ; sleep 60"
    got = any_kit.do(text, effect="change", timeout=1)
    assert got.outcome == "unknown"
    assert got.output.reason == "timed out after 1 s, can't tell whether it still runs"
    os.kill(number_in(pid), 9)


@effects
def test_a_person_can_stop_what_runs(any_kit: Kit, effect: Effect, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    found: dict[str, str] = {}

    def stop() -> None:
        number_in(pid)
        found.update(any_kit.targets.stop(2))

    stopper = threading.Thread(target=stop)
    stopper.start()
    got = any_kit.do(f"sleep 60 & echo $! >{pid}; wait", effect=effect, key="it")
    stopper.join()
    assert found == {"it": "confirmed gone"}
    assert got.outcome == "failed"
    assert not alive(number_in(pid))
    assert any_kit.targets.stop(1) == {}


@effects
def test_one_attempt_can_be_ended_for_a_reason(
    any_kit: Kit, effect: Effect, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"

    def end() -> None:
        number_in(pid)
        any_kit.targets.end({("it", 2): "not this attempt", ("that", 1): "nor this"}, 2)
        assert alive(number_in(pid))
        any_kit.targets.end({("it", 1): "ended because of it"}, 2)

    ender = threading.Thread(target=end)
    ender.start()
    got = any_kit.do(f"sleep 60 & echo $! >{pid}; wait", effect=effect, key="it")
    ender.join()
    assert got.outcome == "failed"
    assert got.output.reason == "ended because of it, confirmed gone"
    assert got.output.evidence == {"ended": "confirmed gone"}
    assert not alive(number_in(pid))


def test_a_long_change_is_read_along(any_kit: Kit) -> None:
    any_kit.do("true", key="before")  # the connection is there
    heard: list[tuple[int, Stream, bytes]] = []
    text = "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 1.1; done"
    got = any_kit.do(
        text,
        effect="change",
        heard=lambda stream, data: heard.append((0, stream, data)),
    )
    assert got.outcome == "succeeded"
    assert b"".join(data for _, stream, data in heard if stream == "stdout") == b"1\n2\n3\n"
    assert b"".join(data for _, stream, data in heard if stream == "stderr") == b"e1\ne2\ne3\n"
    assert b"3" not in heard[0][2], "it was not heard before all of it was over"


@pytest.mark.acceptance
@effects
def test_what_is_beyond_the_limit_is_cut_and_the_command_goes_on(
    effect: Effect, tmp_path: Path
) -> None:
    made = kit(here(str(tmp_path / "state"), max_output=100_000))
    mark = tmp_path / "mark"
    text = f"head -c 3000000 /dev/zero; sleep 1.2; head -c 3000000 /dev/zero; echo x >{mark}"
    got = made.do(text, effect=effect)
    assert got.outcome == "succeeded"
    assert got.out == bytes(100_000)
    assert got.output.evidence["cut"] == ["stdout"]
    assert mark.exists()
    if effect == "change":
        kept = next((tmp_path / "state").rglob("*.out"))
        assert kept.stat().st_size <= 3_000_000
    made.targets.close()


@effects
def test_a_capture_keeps_the_beginning_for_the_caller(any_kit: Kit, effect: Effect) -> None:
    got = any_kit.do("head -c 3000000 /dev/zero", effect=effect)
    assert len(got.out) == 3_000_000
    assert got.output.stdout == bytes(MB)


def test_the_same_attempt_is_not_started_twice(any_kit: Kit, tmp_path: Path) -> None:
    text = f"echo x >>{tmp_path}/mark"
    assert any_kit.do(text, effect="change", key="k").outcome == "succeeded"
    again = any_kit.do(text, effect="change", key="k")
    assert again.outcome == "unknown"
    assert again.output.evidence["state"] == "done 0"
    assert any_kit.do(text, effect="change", key="k", attempt=2).outcome == "succeeded"
    assert (tmp_path / "mark").read_text() == "x\nx\n"


def test_a_command_that_kills_what_started_it_is_unknown(any_kit: Kit) -> None:
    got = any_kit.do("kill -9 $PPID; sleep 0.2", effect="change")
    assert (got.outcome, got.output.sent) == ("unknown", True)
    got = any_kit.do("kill -9 $$; sleep 0.2")
    assert got.outcome == "failed"
    assert any_kit.do("echo next").out == b"next\n"


def test_a_run_leaves_nothing_when_it_is_closed(tmp_path: Path) -> None:
    made = kit(here(str(tmp_path / "state")))
    made.do("echo x", effect="change")
    made.targets.close()
    assert list((tmp_path / "state" / "runs").iterdir()) == []
    made = kit(here(str(tmp_path / "state")))
    made.do("echo x", effect="change")
    made.targets.close(keep=[made.host.name])
    assert [path.name for path in (tmp_path / "state" / "runs").iterdir()] == [RUN]


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    made = kit(here(str(tmp_path / "state")))
    made.targets.open(made.host.name, writes=False)
    made.do("#!/bin/sh\necho x", shell=False)
    made.targets.close()
    assert not (tmp_path / "state").exists()


def test_what_the_shell_may_not_write_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = kit(here(str(tmp_path / "file" / "state")))
    got = made.do(f"touch {tmp_path}/mark", effect="change")
    assert (got.outcome, got.output.sent) == ("failed", False)
    assert "not started" in got.output.reason
    assert made.do("echo x").out == b"x\n"
    assert not (tmp_path / "mark").exists()
    made.targets.close()


def test_a_write_that_fails_is_the_callers_and_spoils_nothing(local: Kit) -> None:
    def full(stream: Stream, data: bytes) -> None:
        raise OSError("no room for output")

    for effect in get_args(Effect):
        with pytest.raises(OSError, match="no room for output"):
            local.do("echo lost", effect=effect, heard=full)
        assert local.do("echo next").out == b"next\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes others without a password")
@effects
def test_another_user_is_become_for_all_of_it(any_kit: Kit, effect: Effect) -> None:
    state = Path("/tmp/opskit-nobody")  # pytest's own folders are closed to others
    host = any_kit.host
    made = kit(replace(host, connection=replace(host.connection, state_dir=str(state))))
    got = made.do("id -un; cat", effect=effect, sudo="nobody", stdin="x")
    assert got.out == b"nobody\nx"
    if effect == "change":
        assert state.stat().st_uid != 0
    pid = made.do("sleep 60 & echo $!; wait", effect=effect, sudo="nobody", timeout=1)
    assert pid.output.reason == "timed out after 1 s, confirmed gone"
    assert not alive(int(pid.out))
    made.targets.close()
    made.do("rm -rf /tmp/opskit-nobody", effect="read")
    made.targets.close()


def test_a_user_that_can_not_be_become_is_unreachable_not_failed(local: Kit) -> None:
    for name in ("no such user", "$(id)", "nosuchuser-x"):
        got = local.do("id", sudo=name)
        assert (got.outcome, got.output.sent, got.output.unreachable) == ("failed", False, True)


@pytest.fixture
def quiet(server: Sshd, tmp_path: Path) -> Iterator[Kit]:
    made = kit(server.host(state_dir=str(tmp_path / "state"), read_user="nobody"))
    yield made
    made.targets.close()


@pytest.mark.acceptance
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes others without a password")
def test_reads_run_as_the_read_user_and_changes_do_not(quiet: Kit) -> None:
    assert quiet.do("id -un").out == b"nobody\n"
    assert quiet.do("id -un", effect="change").out != b"nobody\n"


@effects
def test_a_secret_is_in_no_process_list_and_in_no_file(
    local: Kit, effect: Effect, tmp_path: Path
) -> None:
    found: list[str] = []

    def search() -> None:
        number_in(tmp_path / "pid")
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"sesam-" in path.read_bytes():
                    found.append(str(path))
        for path in (tmp_path / "state").rglob("*"):
            if path.is_file() and b"sesam-" in path.read_bytes():
                found.append(str(path))

    searcher = threading.Thread(target=search)
    searcher.start()
    text = f"echo $$ >{tmp_path}/pid; sleep 0.6; cat >/dev/null; test $TOKEN = sesam''-öffne-dich"
    secrets = {"TOKEN": "sesam-öffne-dich"}
    got = local.do(text, effect=effect, secrets=secrets, stdin=SecretRef(name="TOKEN"))
    searcher.join()
    assert got.outcome == "succeeded"
    assert found == []


def test_a_short_change_takes_one_round_trip_and_few_forks(
    local: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    send = LocalWire.send

    def note(self: LocalWire, data: bytes, timeout: float) -> None:
        sent.append(data)
        send(self, data, timeout)

    monkeypatch.setattr(LocalWire, "send", note)
    local.do("true", effect="change")
    sent.clear()
    local.do("/bin/true; echo x; echo y >&2", effect="change")
    assert len(sent) == 1


@pytest.mark.skipif(shutil.which("strace") is None, reason="counts system calls with strace")
@pytest.mark.parametrize(
    ("effect", "command", "most"),
    [("read", "/bin/true", 1), ("change", "/bin/true", 2), ("change", "/bin/true; echo x; x=1", 4)],
)
def test_forks_on_the_host_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: Effect, command: str, most: int
) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setattr(
        LocalLink,
        "shell",
        lambda self, become: LocalWire(
            ("strace", "-f", "-qq", "-e", "trace=clone,clone3,fork,vfork", "-o", str(trace), "sh")
        ),
    )
    made = kit(here(str(tmp_path / "state")))
    made.do("/bin/true", effect=effect)
    before = trace.read_text().count("= ")
    for _ in range(5):
        assert made.do(command, effect=effect).outcome == "succeeded"
    after = trace.read_text().count("= ")
    made.targets.close()
    assert (after - before) / 5 <= most


@pytest.mark.parametrize("effect", get_args(Effect))
def test_a_stop_that_comes_before_the_command_began_is_one_too(
    any_kit: Kit, tmp_path: Path, effect: Effect
) -> None:
    any_kit.targets.open(any_kit.host.name, writes=True)
    for turn in range(4):
        mark = tmp_path / f"mark{turn}"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(any_kit.do, f"sleep 30; echo x >{mark}", effect=effect)
            target = any_kit.targets._targets[any_kit.host.name]
            while target.running is None:
                time.sleep(0)
            time.sleep(0.001 * (turn % 4))
            assert list(any_kit.targets.stop(0.5).values()) == ["confirmed gone"]
            began = time.monotonic()
            output = asked.result().output
            assert time.monotonic() - began < 20
        assert output.outcome == "failed"
        assert output.evidence["stopped"] == "confirmed gone"
        assert not mark.exists()
