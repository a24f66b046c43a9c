"""Connections: who is trusted, what is refused, and what a broken one leaves."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import paramiko
import pytest

from opskit.errors import UnreachableError
from opskit.model.text import text
from opskit.model.work import Upload
from tests.drivers.kit import RUN, Kit, kit
from tests.support import ports
from tests.support.sshd import Sshd, keygen, sshd

pytestmark = pytest.mark.acceptance


def refused(made: Kit) -> UnreachableError:
    with pytest.raises(UnreachableError) as caught:
        made.targets.open(made.host.name, writes=False)
    made.targets.close()
    assert made.host.name in caught.value.where
    assert caught.value.hint
    return caught.value


def test_a_host_key_that_nobody_pinned_is_refused(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    error = refused(kit(server.host(known_hosts=str(tmp_path / "empty"))))
    assert "not known" in error.what
    assert "opskit hosts trust" in error.hint
    assert "SHA256:" in error.what
    assert (tmp_path / "empty").read_text() == ""


def test_a_host_key_that_has_changed_is_refused(server: Sshd, tmp_path: Path) -> None:
    keygen(tmp_path / "other")
    known = tmp_path / "known"
    public = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    known.write_text(f"[127.0.0.1]:{server.port} {public}\n")
    error = refused(kit(server.host(known_hosts=str(known))))
    assert "CHANGED" in error.what
    assert "opskit hosts trust" in error.hint


def test_a_key_that_is_not_let_in_is_refused(server: Sshd, tmp_path: Path) -> None:
    keygen(tmp_path / "other")
    error = refused(kit(server.host(key=str(tmp_path / "other"))))
    assert f"login was refused as {server.user}" in error.what
    assert "does not exist" in refused(kit(server.host(key=str(tmp_path / "none")))).what


def test_a_port_where_nobody_listens_is_refused_at_once(server: Sshd) -> None:
    began = time.monotonic()
    made = server.host(port=ports.free())
    error = refused(kit(made))
    assert f"127.0.0.1 port {made.connection.port} refused" in error.what
    assert "does sshd run there" in error.hint
    assert time.monotonic() - began < 9


def test_a_frozen_host_is_waited_for_in_bounded_time(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd") as server:
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        refused(kit(server.host(connect_timeout=2.0)))
        assert time.monotonic() - began < 25


def test_waiting_for_a_frozen_host_can_be_given_up(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd") as server:
        server.signal(signal.SIGSTOP)
        made = kit(server.host(connect_timeout=30.0))
        threading.Timer(0.5, made.targets.hang_up).start()
        began = time.monotonic()
        refused(made)
        assert time.monotonic() - began < 25


def test_settings_of_ssh_are_obeyed(server: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host web1.example\n HostName 127.0.0.1\n Port {server.port}\n User {server.user}\n"
        f" IdentityFile {server.key}\n UserKnownHostsFile {server.known_hosts}\n"
    )
    from dataclasses import replace

    host = replace(
        server.host(user=None, port=None, key=None, known_hosts=None, ssh_config=str(config)),
        address="web1.example",
    )
    made = kit(host)
    assert made.do("echo x").out == b"x\n"
    made.targets.close()
    assert "does not exist" in refused(kit(server.host(ssh_config=str(tmp_path / "none")))).what


def test_a_host_behind_another_is_reached_through_it(server: Sshd, tmp_path: Path) -> None:
    with sshd(tmp_path / "behind") as behind:
        both = tmp_path / "both"
        both.write_text(server.known_hosts.read_text() + behind.known_hosts.read_text())
        keys = (tmp_path / "behind" / "authorized_keys", tmp_path / "behind" / "user_key.pub")
        keys[0].write_text((server.folder / "user_key.pub").read_text())
        jump = f"{server.user}@127.0.0.1:{server.port}"
        host = behind.host(jump=jump, key=str(server.key), known_hosts=str(both))
        made = kit(host)
        assert made.do("echo $SSH_CONNECTION").out.split()[3] == str(behind.port).encode()
        assert made.do("echo x", effect="change").out == b"x\n"
        made.targets.close()
        config = tmp_path / "config"
        config.write_text(f"Host 127.0.0.1\n ProxyJump {jump}\n")
        (tmp_path / "unknown").write_text(behind.known_hosts.read_text())
        error = refused(kit(behind.host(jump=jump, known_hosts=str(tmp_path / "unknown"))))
        assert "not known" in error.what


def test_one_that_greets_and_then_falls_silent_is_said_to_be(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            with listening.accept()[0] as peer:
                peer.sendall(b"be welcome\r\n")
                peer.recv(1000)
                peer.recv(1)  # until the other side has had enough

        _later(threading.Timer(0, greet))
        made = kit(server.host(port=listening.getsockname()[1]))
        assert "takes the connection, and then says nothing in time" in str(refused(made))


def _later(act: "threading.Timer") -> None:
    act.daemon = True
    act.start()


def _come(path: Path) -> None:
    """Wait until something stands in a file."""
    end = time.monotonic() + 60
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end, path
        time.sleep(0.002)


def test_a_broken_line_is_a_failed_read_and_an_unknown_change(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd") as server:
        made = kit(server.host())
        begun, mark = tmp_path / "begun", tmp_path / "mark"

        def cut() -> None:
            _come(begun)
            begun.unlink()
            for pid in server._below():
                if pid not in (server.pid,):
                    os.kill(pid, signal.SIGKILL)

        _later(threading.Timer(0.2, cut))
        got = made.do(f"echo x >{begun}; sleep 20; echo x")
        assert (got.outcome, got.output.sent) == ("failed", True)
        assert "broke" in got.output.reason or "ended" in got.output.reason
        _later(threading.Timer(0.2, cut))
        got = made.do(f"echo x >{begun}; sleep 3; echo x >{mark}", effect="change")
        assert (got.outcome, got.output.sent) == ("unknown", True)
        assert "may go on" in got.output.reason
        assert made.do("echo back", effect="change").out == b"back\n"
        end = time.monotonic() + 60
        while not mark.exists() and time.monotonic() < end:
            time.sleep(0.1)
        assert mark.exists(), "a change goes on without us"
        made.targets.close()


@pytest.fixture
def slow_to_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection that breaks close its channels a while before it says so of itself.

    Its own thread does the one after the other; another thread can look in between.
    """
    unlink = paramiko.Channel._unlink  # type: ignore[attr-defined]

    def slowly(self: paramiko.Channel) -> None:
        unlink(self)
        time.sleep(0.3)

    monkeypatch.setattr(paramiko.Channel, "_unlink", slowly)


@pytest.mark.usefixtures("slow_to_notice")
def test_a_line_that_breaks_is_known_as_broken_at_once(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd") as server:
        made = kit(server.host(state_dir=str(tmp_path / "state")))

        def cut() -> None:
            for pid in server._below():
                os.kill(pid, signal.SIGKILL)

        made.do("true")
        _later(threading.Timer(0.3, cut))
        got = made.do("sleep 20")
        assert got.output.lost, got.output.reason  # so it is made again, once the host is back
        assert "broke" in got.output.reason
        large = Upload(content=text("x" * 80_000_000), dest=text(f"{tmp_path}/it"))
        under_way = tmp_path / f".it.opskit.{RUN}"

        def cut_then() -> None:
            _come(under_way)
            cut()

        cutter = threading.Thread(target=cut_then)
        cutter.start()
        sent = made.perform(large).output
        cutter.join()
        assert (sent.outcome, sent.lost, sent.sent) == ("failed", True, False), sent.reason
        made.do("true")
        cut()  # and what needs a shell of its own then gets one, over another connection
        assert made.targets._target(made.host.name).spare(None, writes=False).usable
        made.targets.close()


def test_a_host_that_freezes_is_bounded_by_the_time_out(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd") as server:
        for effect, outcome in (("read", "failed"), ("change", "unknown")):
            made = kit(server.host(connect_timeout=4.0))
            made.do("true", effect=effect)  # type: ignore[arg-type]
            _later(threading.Timer(0.3, server.signal, [signal.SIGSTOP]))
            began = time.monotonic()
            got = made.do("sleep 30", effect=effect, timeout=2)  # type: ignore[arg-type]
            assert got.outcome == outcome
            assert "can't tell" in got.output.reason
            assert time.monotonic() - began < 28
            server.signal(signal.SIGCONT)
            made.targets.close()


def test_a_host_that_is_gone_between_two_steps_is_unreachable(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd") as server:
        made = kit(server.host())
        made.do("true", effect="change")
        (line,) = (made.targets._target(made.host.name)._link,)
    # What is sent before this end has heard of it would be unknown.
    end = time.monotonic() + 60
    while line is not None and line.alive:
        assert time.monotonic() < end
        time.sleep(0.02)
    got = made.do("true", effect="change")
    assert (got.outcome, got.output.sent, got.output.unreachable) == ("failed", False, True)
    began = time.monotonic()
    made.targets.close()
    assert time.monotonic() - began < 16


def test_first_contact_tells_what_the_record_keeps(server: Sshd, tmp_path: Path) -> None:
    made = kit(server.host(state_dir=str(tmp_path / "state")))
    opened = made.targets.open(made.host.name, writes=True)
    assert opened.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert opened.state_dir == str(tmp_path / "state")
    assert (opened.user, opened.address) == (server.user, f"127.0.0.1:{server.port}")
    again = kit(server.host(state_dir=str(tmp_path / "state")))
    assert again.targets.open(again.host.name, writes=True).nonce == opened.nonce
    made.targets.close()
    again.targets.close()
