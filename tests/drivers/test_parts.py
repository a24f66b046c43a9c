"""Parts of the drivers that touch nothing outside."""

import base64
import hashlib
import hmac
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.drivers import archive
from opskit.drivers.capture import Capture
from opskit.drivers.known import KnownHosts
from opskit.drivers.session import Scanner, tail
from opskit.drivers.stop import Process, members, processes
from opskit.drivers.words import words
from opskit.errors import InputError
from opskit.model.job import Job
from opskit.model.text import text
from opskit.model.value import Secret, SecretRef
from opskit.model.work import Command
from tests.drivers.kit import here

MARK = b"0123456789abcdef0123456789abcdef"


@given(
    st.lists(st.sampled_from([MARK[:1], MARK[:5], MARK[:31], b"x", b"", b"0", MARK[1:]])),
    st.lists(st.integers(min_value=1, max_value=40)),
    st.binary(max_size=60),
)
def test_a_scanner_gives_what_stands_before_the_mark_however_it_is_cut(
    parts: list[bytes], cuts: list[int], rest: bytes
) -> None:
    before = b"".join(parts)
    if MARK in before + MARK[:-1]:
        return
    stream = before + MARK + b" 1 0 clean\n" + rest
    scanner = Scanner(MARK)
    got = b""
    for size in [*cuts, len(stream)]:
        got += scanner.feed(stream[:size])
        stream = stream[size:]
    assert got == before
    assert scanner.found
    assert scanner.line == b" 1 0 clean"


def test_a_scanner_holds_nothing_back_that_can_not_be_the_mark() -> None:
    scanner = Scanner(MARK)
    assert scanner.feed(b"progress 1%") == b"progress 1%"
    assert scanner.feed(b"01") == b""
    assert scanner.feed(b"2x") == b"012x"


def test_a_capture_passes_on_each_byte_once_up_to_its_limit() -> None:
    heard: list[bytes] = []
    capture = Capture(lambda _, data: heard.append(data), limit=10, keep=4)
    capture("stdout", b"abcdef")
    capture.rewind(beginning=True)
    capture("stdout", b"abcd")
    capture("stdout", b"efgh")
    assert b"".join(heard) == b"abcdefgh"
    capture.rewind(beginning=False)
    capture("stdout", b"ijklm")
    assert b"".join(heard) == b"abcdefghij"
    assert capture.stdout == b"abcd"
    assert capture.cut == {"stdout"}


def test_the_last_lines_that_say_something_are_fit_to_be_shown() -> None:
    noise = b"Welcome\n\n  this is\n\n  no shell \x1b[1m here\n\n"
    assert tail(noise) == "this is / no shell ?[1m here"
    assert tail(b"\n") == ""
    assert tail("nicht „gefunden“ ✗".encode()) == "nicht „gefunden“ ✗"
    assert tail("a\u202eb".encode()) == "a?b"


def test_processes_are_read_whatever_their_name_is() -> None:
    line = b"7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0\n"
    assert processes(line + b"broken\n") == {
        7: Process(pid=7, parent=1, session=7, start=4242, zombie=False)
    }


def _process(pid: int, parent: int, session: int, *, zombie: bool = False) -> Process:
    return Process(pid=pid, parent=parent, session=session, start=1, zombie=zombie)


def test_what_is_to_be_ended_is_the_session_and_the_tree_less_who_asked() -> None:
    all_ = {
        p.pid: p
        for p in (
            _process(1, 0, 1),
            _process(10, 1, 10),  # sudo, above the shell
            _process(11, 10, 10),  # the shell
            _process(12, 11, 10),  # its child
            _process(13, 12, 13),  # left the session, is still in the tree
            _process(14, 1, 10),  # left the tree, is still in the session
            _process(15, 11, 10, zombie=True),
            _process(16, 1, 16),  # somebody else
            _process(17, 14, 17),  # below what left the tree, with a session of its own
        )
    }
    assert {p.pid for p in members(all_, 11, 10)} == {12, 13, 14, 17}


def _job(work: Command, **secrets: str) -> Job:
    known = {name: Secret(name, value) for name, value in secrets.items()}
    return Job(
        run="r", key="k", attempt=1, host=here("/nowhere"), work=work, effect="read",
        timeout=1, secrets=known,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("/bin/true", "exec"),
        ("systemctl is-active nginx", "exec"),
        ("readlink -e current\n", "exec"),
        ("ls", "exec"),
        ("cd /tmp", "sh"),
        ("echo hello", "sh"),
        ("test -e x", "sh"),
        ("a && b", "sh"),
        ("A=b c", "sh"),
        ("ls *.c", "sh"),
        ("ls ~", "sh"),
        ("ls $HOME", "sh"),
        ("ls\nid", "sh"),
        ("-x y", "sh"),
        ("ls > x", "sh"),
        ("! true", "sh"),
        ("", "sh"),
    ],
)
def test_only_a_program_with_plain_words_runs_without_a_shell(command: str, kind: str) -> None:
    work = Command(text=text(command))
    assert words(_job(work), work)[3] == kind


def test_what_no_shell_can_be_given_is_refused() -> None:
    work = Command(text=text("a\0b"))
    with pytest.raises(ValueError, match="NUL"):
        words(_job(work), work)
    work = Command(text=text("x"), secrets={"A B": "s"})
    with pytest.raises(ValueError, match="no name"):
        words(_job(work, s="geheim"), work)


def test_secrets_stand_in_environment_and_input_only() -> None:
    work = Command(text=text("x"), secrets={"TOKEN": "s"}, stdin=SecretRef(name="p"))
    given_words = words(_job(work, s="geheim1", p="geheim2"), work)
    assert given_words == ("", "1", "geheim2", "exec", "x", "1", "TOKEN=geheim1")


# --- known_hosts ---

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIJDyzNh0zbBbSZFCQHhC9L1w0R3SLhLFqxkG9J9RJqTT"


def _known(tmp_path: Path, *lines: str) -> KnownHosts:
    path = tmp_path / "known_hosts"
    path.write_text("\n".join(lines) + "\n")
    return KnownHosts(str(path))


def test_a_host_is_known_by_name_address_port_and_pattern(tmp_path: Path) -> None:
    known = _known(
        tmp_path,
        "# a remark",
        f"web1,10.0.0.1 ssh-ed25519 {KEY} a remark",
        f"[web2]:2222 ssh-ed25519 {KEY}",
        f"*.example.org,!bad.example.org ssh-ed25519 {KEY}",
        "broken",
        "web9 ssh-ed25519 notakey",
    )
    for name in ("web1", "WEB1", "10.0.0.1", "[web2]:2222", "a.example.org"):
        assert known.lookup(name)["ssh-ed25519"].get_base64() == KEY
    for name in ("web2", "bad.example.org", "w", "web9", "example.org", "2"):
        assert not known.lookup(name)


def test_a_hashed_name_is_known(tmp_path: Path) -> None:
    salt = os.urandom(20)
    made = hmac.new(salt, b"web1", hashlib.sha1).digest()
    field = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(made).decode()}"
    known = _known(tmp_path, f"{field} ssh-ed25519 {KEY}", f"|1|x ssh-ed25519 {KEY}")
    assert known.lookup("web1")
    assert not known.lookup("web2")


def test_a_revoked_key_is_not_known(tmp_path: Path) -> None:
    known = _known(tmp_path, f"web1 ssh-ed25519 {KEY}", f"@revoked * ssh-ed25519 {KEY}")
    assert not known.lookup("web1")


def test_no_file_is_no_known_host(tmp_path: Path) -> None:
    assert not KnownHosts(str(tmp_path / "none")).lookup("web1")


# --- archives ---


def _tar(path: Path, *members_: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for member in members_:
            made.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    member.size = 1 if kind == tarfile.REGTYPE else 0
    return member


@pytest.mark.parametrize(
    "bad",
    [
        [_member("/etc/passwd")],
        [_member("../x")],
        [_member("a/../../x")],
        [_member("..")],
        [_member("a/../../b/../x")],
        [_member("l", tarfile.SYMTYPE, "/etc")],
        [_member("l", tarfile.SYMTYPE, "../x")],
        [_member("d/l", tarfile.SYMTYPE, "../../x")],
        [_member("l", tarfile.SYMTYPE, "d"), _member("l/x")],
        [_member("h", tarfile.LNKTYPE, "/etc/passwd")],
        [_member("h", tarfile.LNKTYPE, "../x")],
        [_member("h", tarfile.LNKTYPE, "nosuch")],
        [_member("dev", tarfile.CHRTYPE)],
        [_member("pipe", tarfile.FIFOTYPE)],
        [_member("a\nb")],
        [_member("a\\b")],
    ],
    ids=lambda bad: " ".join(repr(m.name) for m in bad),
)
def test_an_archive_that_reaches_out_of_its_tree_is_refused(
    tmp_path: Path, bad: list[tarfile.TarInfo]
) -> None:
    path = _tar(tmp_path / "bad.tgz", _member("good"), *bad)
    with pytest.raises(InputError, match="must not be unpacked"):
        archive.inspect(path, "bad" + str(bad))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="can't be read"):
        archive.inspect(path, "x")
    _tar(path, *(_member(f"f{i}") for i in range(400)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError):
        archive.inspect(path, "y")


def test_links_inside_of_the_tree_are_fine(tmp_path: Path) -> None:
    path = _tar(
        tmp_path / "good.tgz",
        _member("./d", tarfile.DIRTYPE),
        _member("./d/f"),
        _member("l", tarfile.SYMTYPE, "d/f"),
        _member("d/up", tarfile.SYMTYPE, "../d/f"),
        _member("h", tarfile.LNKTYPE, "./d/f"),
    )
    assert archive.inspect(path, "good").files == 2
