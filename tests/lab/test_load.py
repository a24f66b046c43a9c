"""The load counts what happened, no better and no worse."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from opskit.errors import InputError
from opskit.lab import load
from tests.lab.conftest import Start

OK = b"HTTP/1.1 200 OK\r\nX-Release: A\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that treats each connection as the test says."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                serve(peer)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ask(url: str, times: int, *, keep: bool) -> list[tuple[int, str, bool]]:
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    peer = load.Peer((host, int(port)), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answers = [peer.ask(keep=keep) for _ in range(times)]
    peer.close()
    return answers


def test_an_idle_kept_connection_that_was_closed_is_asked_again_and_said_so() -> None:
    def once(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(OK)

    with server(once) as url:
        answers = ask(url, 3, keep=True)
    assert [reconnected for _, _, reconnected in answers] == [False, True, True]


def test_an_answer_that_breaks_off_is_a_failure_also_on_a_kept_connection() -> None:
    def half(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(OK)
        peer.recv(1000)
        peer.sendall(OK[:-1])

    with server(half) as url, pytest.raises(ConnectionError):
        ask(url, 2, keep=True)


def test_a_fresh_connection_that_gets_no_answer_is_a_failure() -> None:
    with server(lambda peer: peer.close()) as url, pytest.raises(ConnectionError):
        ask(url, 1, keep=False)


def test_refused_connections_and_error_statuses_are_all_counted(start_service: Start) -> None:
    service = start_service("A")
    (service.shared / "switches.json").write_text('{"error_share": 1}')
    report = load.run(service.url, 0.3, rate=100)
    assert report.failures == report.requests == report.by_release["A"]["500"]
    assert report.requests >= 20
    service.process.kill()
    service.process.wait()
    refused = load.run(service.url, 0.2, rate=100)
    assert refused.failures == refused.requests == refused.errors["ConnectionRefusedError"]


def test_every_request_is_in_the_services_own_log(start_service: Start) -> None:
    service = start_service("A")
    report = load.run(service.url, 0.5, threads=4)
    assert report.failures == report.reconnects == 0
    service.process.terminate()
    service.process.wait(10)
    lines = (service.shared / "log" / "access.log").read_text().splitlines()
    assert len(lines) == report.requests == report.by_release["A"]["200"]
    assert report.ms["p50"] <= report.ms["p99"] <= report.ms["slowest"]


def test_a_slow_answer_counts_against_all_that_were_due_meanwhile(start_service: Start) -> None:
    service = start_service("A")
    (service.shared / "switches.json").write_text('{"slow_ms": 100}')
    report = load.run(service.url, 0.5, rate=100, threads=1)
    assert report.ms["slowest"] > 300


def test_what_is_no_http_address_is_refused() -> None:
    with pytest.raises(InputError, match="not an http"):
        load.run("https://127.0.0.1/", 0.1)
