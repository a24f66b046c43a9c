"""Never the output of one step in another, never a false outcome: over a real sshd."""

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.drivers.session import Session
from opskit.drivers.wire import Stream
from opskit.errors import UnreachableError
from opskit.model.runbook import Effect
from tests.drivers.kit import Kit, kit
from tests.support.sshd import Sshd, sshd

pytestmark = pytest.mark.acceptance
effects = pytest.mark.parametrize("effect", ["read", "change"])
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
MB = 1024 * 1024


@contextmanager
def served(tmp_path: Path, *options: str, connect_timeout: float = 10.0) -> Iterator[Kit]:
    with sshd(tmp_path / "sshd", *options) as server:
        made = kit(server.host(connect_timeout=connect_timeout))
        try:
            yield made
        finally:
            made.targets.close()


def login(tmp_path: Path, text: str) -> str:
    """Return the option that makes every login run a text of ours first."""
    script = tmp_path / "login"
    script.write_text(text)
    script.chmod(0o755)
    return f"ForceCommand {script}"


@effects
def test_a_command_that_prints_the_end_of_earlier_answers_ends_nothing(
    remote: Kit, effect: Effect, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[str] = []
    begin = Session._expect

    def note(self: Session, mark: str) -> None:
        marks.append(mark)
        begin(self, mark)

    monkeypatch.setattr(Session, "_expect", note)
    for _ in range(5):
        remote.do("echo first", effect=effect)
    forged = "".join(f"{mark} 1 0 clean\n{mark} 0 done 0\n{mark}" for mark in marks)
    got = remote.do("cat; cat >&2 <<E\nx\nE\nexit 9", effect=effect, stdin=forged)
    assert got.output.status == 9
    assert got.out == forged.encode()
    assert remote.do("echo next", effect=effect).out == b"next\n"


@effects
def test_the_mark_of_its_own_answer_is_nowhere_that_a_command_looks(
    remote: Kit, effect: Effect, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[str] = []
    begin = Session._expect

    def note(self: Session, mark: str) -> None:
        marks.append(mark)
        begin(self, mark)

    monkeypatch.setattr(Session, "_expect", note)
    look = "set; env; cat /proc/self/environ /proc/$$/cmdline /proc/$PPID/cmdline; ps -ef; alias"
    got = remote.do(look, effect=effect)
    assert len(got.out) > 100
    for mark in marks:
        assert mark.encode() not in got.out + got.err


def test_children_in_the_background_never_write_into_the_next_answer(remote: Kit) -> None:
    for start in (
        "(sleep 0.4; echo LATE) &",
        "(sleep 0.4; echo LATE) 9>&- &",
        "setsid sh -c 'sleep 0.4; echo LATE' 9>&- &",
        "nohup sh -c 'sleep 0.4; echo LATE; echo LATE >&2' 9>&- &",
        "sudo -n sh -c '(sleep 0.4; echo LATE) &'",
        "sudo -n sh -c '(sleep 0.4; echo LATE >&2) >/dev/null &'",
        "(setsid sh -c 'sleep 0.2; (sleep 0.2; echo LATE) & ' 9>&- &)",
    ):
        remote.do(f"{start}\necho first")
        for _ in range(4):
            got = remote.do("sleep 0.2; echo next; echo next >&2")
            assert (got.out, got.err, got.outcome) == (b"next\n", b"next\n", "succeeded"), start


@effects
def test_bytes_of_all_kinds_arrive(remote: Kit, effect: Effect) -> None:
    got = remote.do("head -c 200000 /dev/urandom | tee /dev/fd/2", effect=effect)
    assert len(got.out) == 200_000
    assert got.out == got.err


@effects
def test_100_mb_pass_through_in_bounded_memory(remote: Kit, effect: Effect) -> None:
    remote.do("true", effect=effect)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0

    def weigh(stream: Stream, data: bytes) -> None:
        nonlocal count
        count += len(data)

    began = time.monotonic()
    got = remote.do(f"head -c {100 * MB} /dev/zero", effect=effect, heard=weigh, timeout=120)
    spent = time.monotonic() - began
    assert (got.outcome, count) == ("succeeded", 100 * MB)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 60, f"{grown:.0f} MB more"
    assert spent < 60


@effects
def test_a_slow_reader_holds_the_command_up_and_not_the_memory(remote: Kit, effect: Effect) -> None:
    remote.do("true", effect=effect)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def slow(stream: Stream, data: bytes) -> None:
        time.sleep(0.0002)

    got = remote.do(f"head -c {50 * MB} /dev/zero", effect=effect, heard=slow, timeout=120)
    assert got.outcome == "succeeded"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 60


@effects
def test_rc_files_that_print_are_not_heard(tmp_path: Path, effect: Effect) -> None:
    noisy = login(
        tmp_path,
        "#!/bin/sh\necho 'Welcome! 0123456789abcdef'\necho noise >&2\nprintf 'no newline'\n"
        'eval "$SSH_ORIGINAL_COMMAND"\n',
    )
    with served(tmp_path, noisy) as made:
        got = made.do("echo mine; echo mine >&2", effect=effect)
        assert (got.out, got.err) == (b"mine\n", b"mine\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#!/bin/sh\necho 'This account is currently not available.'; exit 1\n", "not available"),
        ("#!/bin/sh\nexit 0\n", "ended"),
        ("#!/bin/sh\nexec cat\n", "no POSIX shell"),
        ("#!/bin/sh\nexec sleep 60\n", "no answer"),
        ("#!/bin/sh\nexec yes\n", "prints without end"),
        ("#!/usr/bin/env python3\nimport code; code.interact()\n", "POSIX"),
        ("#!/bin/sh\nexec tr a-z A-Z\n", "no POSIX shell"),
    ],
    ids=["nologin", "silent", "cat", "hangs", "floods", "python", "shouts"],
)
def test_what_is_no_shell_is_unreachable_in_bounded_time(
    tmp_path: Path, text: str, says: str
) -> None:
    with served(tmp_path, login(tmp_path, text), connect_timeout=3.0) as made:
        began = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            made.targets.open(made.host.name, writes=True)
        assert says in str(caught.value)
        assert "POSIX shell" in str(caught.value)
        assert made.host.name in caught.value.where
        got = made.do("echo x", effect="change")
        assert (got.outcome, got.output.sent, got.output.unreachable) == ("failed", False, True)
        assert time.monotonic() - began < 30


@effects
def test_one_session_for_each_connection_is_enough(tmp_path: Path, effect: Effect) -> None:
    with served(tmp_path, "MaxSessions 1") as made:
        got = made.do("for i in 1 2; do echo $i; sleep 0.7; done", effect=effect)
        assert (got.outcome, got.out) == ("succeeded", b"1\n2\n")
        late = made.do("sleep 60", effect=effect, timeout=1)
        assert late.output.reason == "timed out after 1 s, confirmed gone"
        assert made.do("echo next", effect=effect).out == b"next\n"


def test_one_session_for_each_connection_is_enough_for_reads_at_once(tmp_path: Path) -> None:
    with served(tmp_path, "MaxSessions 1") as made, ThreadPoolExecutor(8) as pool:
        assert made.do("true").outcome == "succeeded"
        found = list(pool.map(lambda n: made.do(f"sleep 0.2; echo {n}"), range(8)))
        assert [one.out for one in found] == [b"%d\n" % n for n in range(8)], [
            one.output.reason for one in found
        ]


@effects
def test_the_login_shell_may_be_any_that_runs_a_command(tmp_path: Path, effect: Effect) -> None:
    """Only what every shell has is asked of it: `exec sh`."""
    with served(
        tmp_path,
        login(
            tmp_path,
            '#!/bin/sh\n[ "$SSH_ORIGINAL_COMMAND" = "exec sh" ] || exit 99\nexec busybox sh\n',
        ),
    ) as made:
        assert made.do("echo x", effect=effect).out == b"x\n"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@root_only
def test_without_room_nothing_is_started(server: Sshd, small: Path, tmp_path: Path) -> None:
    made = kit(server.host(state_dir=str(small / "state")))
    assert made.do("echo x", effect="change").out == b"x\n"
    subprocess.run(["dd", "if=/dev/zero", f"of={small}/ballast", "bs=4k"], check=False)
    for _ in range(3):
        got = made.do(f"touch {tmp_path}/mark", effect="change")
        assert (got.outcome, got.output.sent) == ("failed", False)
        assert "not started" in got.output.reason
    assert made.do("echo read").out == b"read\n"
    (small / "ballast").unlink()
    assert made.do("echo again", effect="change").out == b"again\n"
    assert not (tmp_path / "mark").exists()
    made.targets.close()


@root_only
def test_a_disk_that_fills_while_a_command_runs_does_not_change_its_outcome(
    server: Sshd, small: Path
) -> None:
    made = kit(server.host(state_dir=str(small / "state")))
    got = made.do(f"head -c 5000000 /dev/zero >{small}/ballast || exit 5", effect="change")
    assert (got.outcome, got.output.status) == ("failed", 5)
    got = made.do("exit 0", effect="change")
    assert (got.outcome, got.output.sent) == ("failed", False)
    (small / "ballast").unlink()
    made.targets.close()


@root_only
def test_a_home_that_can_only_be_read_refuses_changes(server: Sshd, small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    made = kit(server.host(state_dir=str(small / "state")))
    opened = made.targets.open(made.host.name, writes=True)
    assert opened.nonce == ""
    got = made.do("echo x", effect="change")
    assert (got.outcome, got.output.sent) == ("failed", False)
    assert "Read-only" in got.output.reason
    assert made.do("echo read").out == b"read\n"
    made.targets.close()


def test_many_short_commands_answer_in_their_order(remote: Kit) -> None:
    for number in range(150):
        effect: Effect = "change" if number % 3 == 0 else "read"
        got = remote.do(f"echo {number}; echo {number} >&2; exit {number}", effect=effect)
        assert (got.out, got.err) == (f"{number}\n".encode(), f"{number}\n".encode())
        assert got.output.status == number
