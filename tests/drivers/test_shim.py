"""The shim by itself, in every sh that hosts have."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opskit.drivers import session as session_module
from opskit.drivers.session import Session, quote
from opskit.drivers.wire import Stream
from tests.drivers.kit import SHELLS, session

shells = pytest.mark.parametrize("shell", list(SHELLS))
HOSTILE = [
    "$(id)",
    "`id`",
    "'",
    '"',
    "''",
    "a'b\"c",
    "\n",
    "a\nb\n",
    ";",
    "; id",
    "-n",
    "--",
    "-e \\n",
    "\\",
    "\\n\\0",
    "*",
    "~",
    "$HOME",
    "${IFS}",
    "!",
    "#",
    "a b  c",
    " lead",
    "trail ",
    "\t",
    "\r\n",
    "\x7f\x1b[0m",
    "äöü €",
    "\U0001f600",
    "\u0081\u0088\u00a0",
    "%s%d%%",
    "}",
    "; }",
    "&& id",
    "x" * 65536,
    "ä'$(id)" * 8000,
]
PYTHON = f"{sys.executable} -S -E"
values = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200),
)
many = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def made(shell: str, tmp_path: Path) -> Iterator[Session]:
    started = session(shell, (str(tmp_path / "state"), "run1", "nonce1"))
    yield started
    started.close()


def mask() -> bytes:
    return subprocess.run(["sh", "-c", "umask"], capture_output=True, check=True).stdout.strip()


def call(
    made: Session, function: str, *words: str, timeout: float = 20
) -> tuple[tuple[str, ...], bytes, bytes]:
    heard: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    answer = made.call(
        function, *words, timeout=timeout, write=lambda stream, data: heard[stream].extend(data)
    )
    return answer, bytes(heard["stdout"]), bytes(heard["stderr"])


def read(
    made: Session,
    text: str,
    *,
    stdin: str | None = None,
    env: tuple[str, ...] = (),
    args: tuple[str, ...] = (),
    kind: str = "sh",
) -> tuple[tuple[str, ...], bytes, bytes]:
    given_in = ("0", "") if stdin is None else ("1", stdin)
    return call(made, "_o_read", "", *given_in, kind, text, str(len(env)), *env, *args)


def change(
    made: Session,
    name: str,
    text: str,
    *,
    stdin: str | None = None,
    env: tuple[str, ...] = (),
    args: tuple[str, ...] = (),
    kind: str = "sh",
) -> tuple[tuple[str, ...], bytes, bytes]:
    given_in = ("0", "") if stdin is None else ("1", stdin)
    return call(
        made, "_o_change", name, "65536", "", *given_in, kind, text, str(len(env)), *env, *args
    )


@shells
def test_a_read_gives_both_streams_and_the_status(made: Session) -> None:
    answer, out, err = read(made, "echo out; echo err >&2; exit 7")
    assert (answer[0], out, err) == ("7", b"out\n", b"err\n")


@shells
def test_a_shell_stops_at_the_first_failure_and_at_unset_names(made: Session) -> None:
    assert read(made, "false; echo never")[:2] == (("1", "clean"), b"")
    assert read(made, "echo $nosuch; echo never")[1] == b""
    assert change(made, "e", "false; echo never")[:2] == (("done", "1"), b"")


@shells
def test_what_is_no_shell_text_fails_alone(made: Session) -> None:
    answer, _, err = read(made, "echo $(")
    assert answer[0] == "2"
    assert err
    assert read(made, "echo still here")[1] == b"still here\n"


@shells
def test_a_command_can_end_its_shell_but_not_ours(made: Session) -> None:
    for text in (
        "exit 3",
        "kill -9 $$ || :",
        "exec false",
        "set -- a; shift 9",
        "trap 'exit 4' EXIT",
    ):
        with suppress(Exception):
            read(made, text)
        if not made.wire.alive:
            return  # it shot the shell that it ran under, which the driver calls a failure
    assert read(made, "echo still here")[1] == b"still here\n"


@shells
def test_a_command_cannot_change_what_the_next_one_meets(made: Session) -> None:
    read(made, "cd /; umask 0; PATH=/nowhere; export X=1; _o_m=x; trap '' TERM; set -f")
    out = read(made, "pwd; umask; echo ${X-unset}; ls -d /")[1]
    assert out.splitlines()[1:] == [mask(), b"unset", b"/"]
    assert out.splitlines()[0] == bytes(Path.cwd())


@shells
def test_a_child_in_the_background_is_waited_for_while_it_can_write(made: Session) -> None:
    answer, out, _ = read(made, "(sleep 0.3; echo late) & echo early")
    assert out == b"early\nlate\n"
    assert answer == ("0", "clean")


@shells
@pytest.mark.parametrize(
    "text",
    [
        "setsid sleep 2 9>&- &",
        "(setsid sh -c 'sleep 2' 9>&- &)",
        "setsid sh -c 'sleep 2' 9>&- >/dev/null &",
        f'{PYTHON} -c \'import subprocess as s; s.Popen(["sleep", "2"], start_new_session=True)\'',
        f'{PYTHON} -c \'import subprocess as s; s.Popen(["sleep", "2"])\'',
    ],
)
def test_what_hides_in_the_background_and_can_write_makes_the_channel_dirty(
    made: Session, text: str
) -> None:
    answer, out, _ = read(made, text + "\necho x")
    assert answer == ("0", "dirty")
    assert out == b"x\n"


@shells
def test_a_daemon_that_can_not_write_leaves_the_channel_clean(made: Session) -> None:
    text = (
        f'{PYTHON} -c \'import subprocess as s; s.Popen(["sleep", "1"], stdin=s.DEVNULL, '
        "stdout=s.DEVNULL, stderr=s.DEVNULL, start_new_session=True)'; echo x"
    )
    assert read(made, text)[0] == ("0", "clean")


@shells
def test_output_is_passed_on_byte_by_byte(made: Session) -> None:
    raw = bytes(range(256)) * 40
    text = (
        f"{PYTHON} -c 'import sys; b = bytes(range(256)) * 40; sys.stdout.buffer.write(b); "
        "sys.stderr.buffer.write(b)'"
    )
    assert read(made, text)[1:] == (raw, raw)
    assert change(made, "bytes", text)[1:] == (raw, raw)


@shells
def test_a_value_arrives_unharmed_as_argument_environment_and_input(
    shell: str, tmp_path: Path
) -> None:
    made = session(shell, (str(tmp_path / "state"), "run1", "nonce1"))
    count = 0

    @many
    @given(value=values, other=values)
    def arrives(value: str, other: str) -> None:
        nonlocal count
        count += 1
        show = 'printf "%s|%s|" "$X" "$1"; cat'
        want = f"{value}|{other}|{value}".encode()
        assert read(made, show, stdin=value, env=(f"X={value}",), args=(other,))[1] == want
        answer = change(made, f"v{count}", show, stdin=value, env=(f"X={value}",), args=(other,))
        assert answer[0] == ("done", "0")
        assert len(want) > 65536 or answer[1] == want

    arrives()
    made.close()


@shells
def test_a_quoted_value_is_one_word_of_shell_text(shell: str, tmp_path: Path) -> None:
    made = session(shell, (str(tmp_path / "state"), "run1", "nonce1"))

    @many
    @given(value=values)
    def stands(value: str) -> None:
        assert read(made, f"printf %s {quote(value)}")[1] == value.encode()

    stands()
    made.close()


@shells
def test_a_text_may_be_longer_than_an_argument(made: Session) -> None:
    text = ": " + "x" * 300_000 + "\necho end"
    assert read(made, text)[1] == b"end\n"
    assert change(made, "long", text)[1] == b"end\n"


ASTRAY = (
    "(setsid sleep 20 >/dev/null 2>&1 </dev/null 9>&- &)\n"
    "(env -i setsid sleep 20 >/dev/null 2>&1 </dev/null 9>&- &)\nsleep 0.2"
)


def kin(made: Session, name: str, nonce: str) -> list[int]:
    """Return the processes that are known as an action's own, less those that only wait."""
    found = call(made, "_o_kin", f"run1/{name}", nonce)[1].split()
    pids = {int(path.split(b"/")[2]) for path in found}
    return sorted(p for p in pids if Path(f"/proc/{p}/cmdline").read_bytes() == b"sleep\x0020\x00")


@shells
@pytest.mark.parametrize("effect", ["read", "change"])
def test_what_leaves_session_and_tree_is_known_without_its_environment_too(
    shell: str, tmp_path: Path, effect: str
) -> None:
    name, nonce = secrets.token_hex(16), secrets.token_hex(16)
    made = session(shell, (str(tmp_path / "state"), "run1", nonce))
    if effect == "read":
        assert read(made, ASTRAY, env=(f"OPSKIT_ACTION=run1/{name}",))[0] == ("0", "clean")
        nonce = ""
    else:
        assert change(made, name, ASTRAY)[0] == ("done", "0")
    found = kin(made, name, nonce)
    others = kin(made, secrets.token_hex(16), nonce) + kin(made, name, secrets.token_hex(16))
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    made.close()
    assert len(found) == 2
    assert set(others) < set(found)  # only the one that has the whole mark in its environment


@shells
def test_a_change_is_started_once_only(made: Session, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert change(made, "d", f"echo x >>{mark}")[0] == ("done", "0")
    assert change(made, "d", f"echo x >>{mark}")[0] == ("exists", "done", "0")
    assert mark.read_text() == "x\n"


@shells
def test_an_end_that_is_read_while_it_arrives_is_never_another_end(
    made: Session, tmp_path: Path
) -> None:
    room = tmp_path / "state/runs/run1/torn.rc"
    before = b"p123456 ?\n"
    for status in (b"0", b"7", b"127"):
        after = status + b" .\n"
        for at in range(1, len(after)):  # the first bytes were read before the end was written
            room.write_bytes(before[:at] + after[at:] + before[len(after) :] + b" " * 64)
            assert call(made, "_o_ask", "torn")[0][0] == "gone", room.read_bytes()
        room.write_bytes(after + before[len(after) :] + b" " * 64)
        assert call(made, "_o_ask", "torn")[0] == ("done", status.decode())


@shells
def test_another_process_with_the_same_number_is_not_the_change(
    made: Session, tmp_path: Path
) -> None:
    room = tmp_path / "state/runs/run1/d.rc"
    with subprocess.Popen(["sleep", "30"]) as other:
        try:
            room.write_text(f"p{other.pid} ?\n" + " " * 64)
            assert call(made, "_o_ask", "d")[0] == ("gone", str(other.pid))
        finally:
            other.kill()


@shells
def test_of_two_that_start_the_same_change_one_does(shell: str, tmp_path: Path) -> None:
    mine = (str(tmp_path / "state"), "run1", "nonce1")
    both = [session(shell, mine) for _ in range(2)]
    for turn in range(20):
        for one in both:
            one.begin(
                "_o_change", f"d{turn}", "100", "", "0", "", "sh",
                f"echo x >>{tmp_path}/mark{turn}", "0",
            )  # fmt: skip
        answers = [one.wait(lambda stream, data: None, 20) for one in both]
        assert sorted(answer[0] for answer in answers) == ["done", "exists"]
        assert (tmp_path / f"mark{turn}").read_text() == "x\n"
    for one in both:
        one.close()


@shells
def test_a_change_outlives_its_shell(made: Session, tmp_path: Path) -> None:
    made.begin(
        "_o_change", "d", "100", "", "0", "", "sh", f"sleep 0.5; echo x >{tmp_path}/mark", "0"
    )
    time.sleep(0.2)
    made.close()
    end = time.monotonic() + 10
    rc = tmp_path / "state" / "runs" / "run1" / "d.rc"
    while not rc.read_text().startswith("0 .") and time.monotonic() < end:
        time.sleep(0.05)
    assert rc.read_text().split()[:2] == ["0", "."]
    assert (tmp_path / "mark").read_text() == "x\n"


@shells
def test_what_a_change_leaves_running_does_not_hold_it_up(made: Session) -> None:
    began = time.monotonic()
    answer, out, _ = change(made, "d", "sleep 5 & echo started")
    assert (answer, out) == (("done", "0"), b"started\n")
    assert time.monotonic() - began < 3


@shells
def test_a_change_has_its_own_session_and_default_signals(made: Session) -> None:
    out = change(made, "d", "cat /proc/self/stat; grep Sig /proc/self/status")[1].decode()
    session_of = int(out.rpartition(") ")[2].split()[3])
    assert session_of != os.getsid(0)
    assert session_of != made.pid
    ignored = next(line for line in out.splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) == 0


@shells
def test_the_environment_is_the_same_for_reads_and_changes(made: Session) -> None:
    text = 'echo "$LC_ALL"; umask; case :$PATH: in *:/usr/sbin:*) echo sbin ;; esac; cat'
    want = f"C.UTF-8\n{mask().decode()}\nsbin\n".encode()
    assert read(made, text)[1] == want
    assert change(made, "d", text)[1] == want


@shells
def test_files_of_a_run_are_nobody_elses(made: Session, tmp_path: Path) -> None:
    change(made, "d", "echo x; echo y >&2")
    found = list((tmp_path / "state").rglob("*"))
    assert found
    for path in [tmp_path / "state", *found]:
        assert path.stat().st_mode & 0o077 == 0, path


@shells
def test_a_line_that_was_cut_short_is_not_carried_out(shell: str, tmp_path: Path) -> None:
    whole = session_module._line(
        "_o mark _o_read", ("", "0", "", "sh", f"echo x >>{tmp_path}/mark", "0")
    )
    for length in range(1, len(whole) - 2):
        if length % 3:
            continue
        made = subprocess.run(  # noqa: PLW1510  # ends with an error
            SHELLS[shell],
            input=session_module.shim() + b"_o_hello a b ''\n" + whole[:length],
            capture_output=True,
            timeout=20,
        )
        assert b"mark 1" not in made.stdout
    assert not (tmp_path / "mark").exists()


@shells
def test_raw_bytes_are_never_taken_for_requests(made: Session, tmp_path: Path) -> None:
    hostile = f"\ntouch {tmp_path}/pwned\n".encode() * 5000
    assert made.give(str(tmp_path / "data"), iter([hostile]), len(hostile), 20) == ""
    assert (tmp_path / "data").read_bytes() == hostile
    why = made.give(str(tmp_path / "no" / "data"), iter([hostile]), len(hostile), 20)
    assert why
    assert made.give("/dev/full/x", iter([hostile]), len(hostile), 20)
    assert read(made, "echo still here")[1] == b"still here\n"
    assert not (tmp_path / "pwned").exists()


@shells
def test_a_run_that_may_not_write_still_reads(shell: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = session(shell, (str(tmp_path / "file" / "state"), "run1", "nonce1"))
    assert made.nonce == ""
    assert made.why_closed
    assert read(made, "echo x")[1] == b"x\n"
    made.close()


@shells
def test_without_leave_to_write_nothing_is_made(shell: str, tmp_path: Path) -> None:
    made = session(shell)
    read(made, "echo x")
    made.close()
    assert list(tmp_path.iterdir()) == []


@shells
def test_the_nonce_of_a_run_is_the_first_one(shell: str, tmp_path: Path) -> None:
    first = session(shell, (str(tmp_path), "run1", "one"))
    second = session(shell, (str(tmp_path), "run1", "two"))
    assert (first.nonce, second.nonce) == ("one", "one")
    assert first.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    first.close()
    second.close()


@shells
def test_sessions_that_begin_together_agree_on_the_nonce(shell: str, tmp_path: Path) -> None:
    for turn in range(8):
        with ThreadPoolExecutor(6) as pool:
            mine = [(str(tmp_path / "state"), f"run{turn}", f"nonce{n}") for n in range(6)]
            made = list(pool.map(lambda words: session(shell, words), mine))
        assert len({one.nonce for one in made}) == 1
        assert made[0].nonce
        for one in made:
            one.close()


@shells
def test_a_run_directory_without_room_is_closed_and_can_be_opened_later(
    shell: str, tmp_path: Path
) -> None:
    folder = tmp_path / "state/runs/run1"
    folder.mkdir(parents=True)
    (folder / "nonce").touch()  # as a full disk leaves it
    made = session(shell, (str(tmp_path / "state"), "run1", "nonce1"))
    assert made.nonce == ""
    assert "no room on its disk" in made.why_closed
    made.close()
    made = session(shell, (str(tmp_path / "state"), "run1", "nonce1"))
    assert made.nonce == "nonce1"
    made.close()
