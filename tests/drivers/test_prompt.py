import socket
import threading
import time
from collections.abc import Iterator

import pytest

from opskit.drivers.prompt import Calls, Prompt, dial


@pytest.fixture
def pair() -> Iterator[tuple[Prompt, socket.socket]]:
    """A connection over loopback: our end, and theirs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = dial("127.0.0.1", server.getsockname()[1], timeout=5, calls=Calls())
        theirs, _ = server.accept()
        with ours, theirs:
            yield ours, theirs


def test_what_has_come_at_once_is_given_in_pieces(pair: tuple[Prompt, socket.socket]) -> None:
    ours, theirs = pair
    data = bytes(range(256)) * 600

    def send() -> None:
        theirs.sendall(data)
        theirs.close()

    sender = threading.Thread(target=send)
    sender.start()

    got = [ours.recv(1), ours.recv(4)]
    while piece := ours.recv(7919):
        got.append(piece)

    sender.join(5)
    assert (len(got[0]), len(got[1])) == (1, 4)
    assert b"".join(got) == data


def fill(sock: socket.socket) -> None:
    """Send until nothing more goes in: nobody reads."""
    while True:
        sock.send(bytes(1 << 20))


def test_waiting_ends_in_time(pair: tuple[Prompt, socket.socket]) -> None:
    ours, _ = pair
    ours.settimeout(0.2)
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        ours.recv(1)
    with pytest.raises(TimeoutError):
        fill(ours)

    assert time.monotonic() - began < 5


def test_shutting_it_down_wakes_who_reads(pair: tuple[Prompt, socket.socket]) -> None:
    ours, _ = pair
    ours.settimeout(30)
    threading.Timer(0.1, lambda: ours.shutdown(socket.SHUT_RDWR)).start()

    began = time.monotonic()

    assert ours.recv(1) == b""
    assert time.monotonic() - began < 5


def hung_up(server: socket.socket) -> float:
    """Dial where nobody answers, hang up, and return how long that took."""
    calls, failed = Calls(), threading.Event()

    def call() -> None:
        try:
            sock = dial("127.0.0.1", server.getsockname()[1], 30, calls)
            with sock, calls.waiting(sock):
                assert sock.recv(1) == b""
        except OSError:
            pass
        failed.set()

    threading.Thread(target=call, daemon=True).start()
    time.sleep(0.3)
    assert not failed.is_set()
    began = time.monotonic()
    calls.hang_up()
    assert failed.wait(10)
    return time.monotonic() - began


def test_a_call_that_nobody_answers_can_be_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert hung_up(server) < 2


def test_a_call_that_does_not_get_through_can_be_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        waiting = []
        for _ in range(4):  # they fill the queue: the next one is not let in
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
            waiting.append(sock)
        try:
            assert hung_up(server) < 2
        finally:
            for sock in waiting:
                sock.close()
