import socket
import threading
import time
from collections.abc import Iterator

import pytest

from opskit.drivers.prompt import Prompt, dial


@pytest.fixture
def pair() -> Iterator[tuple[Prompt, socket.socket]]:
    """A connection over loopback: our end, and theirs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = dial("127.0.0.1", server.getsockname()[1], timeout=5)
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
