"""The load counts what happened, no better and no worse."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from opskit.errors import InputError
from opskit.lab import load
from opskit.lab.load import Load
from opskit.lab.peer import Peer, StrayBytesError
from tests.lab.conftest import Start
from tests.support.database import until

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


found_closed: list[int] = []


def ask(url: str, times: int, *, keep: bool) -> list[tuple[int, str, bool]]:
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    peer = Peer((host, int(port)), keep=keep)
    answers = []
    for _ in range(times):
        reply = peer.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answers.append((reply.status, reply.release, reply.again))
        time.sleep(0.02)
    found_closed.append(peer.found_closed)
    peer.close()
    return answers


def test_a_kept_connection_that_is_closed_under_a_request_is_asked_again_and_said_so() -> None:
    def once(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(OK)
        peer.recv(1000)  # and closes without an answer

    with server(once) as url:
        answers = ask(url, 3, keep=True)
    assert [reconnected for _, _, reconnected in answers] == [False, True, True]
    assert found_closed.pop() == 0


def test_a_kept_connection_that_is_found_closed_is_opened_anew_before_anything_is_sent() -> None:
    def once(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(OK)

    with server(once) as url:
        answers = ask(url, 3, keep=True)
    assert [reconnected for _, _, reconnected in answers] == [False, False, False]
    assert found_closed.pop() == 2


def test_an_answer_that_breaks_off_is_a_failure_also_on_a_kept_connection() -> None:
    def half(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(OK)
        peer.recv(1000)
        peer.sendall(OK[:-1])

    with server(half) as url, pytest.raises(ConnectionError):
        ask(url, 2, keep=True)


def test_bytes_behind_an_answer_are_a_failure() -> None:
    def more(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(OK + b"x")

    with server(more) as url, pytest.raises(StrayBytesError):
        ask(url, 1, keep=False)


def test_what_a_kept_connection_says_unasked_is_a_failure_and_no_close() -> None:
    def twice(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(OK)
        time.sleep(0.01)
        peer.sendall(OK)

    with server(twice) as url, pytest.raises(StrayBytesError):
        ask(url, 2, keep=True)


@pytest.mark.parametrize(
    ("number", "body", "errors"),
    [
        ("of another", b"{}", "AnswerToAnother"),
        ("", b'{"release": "B"}', "BodyOfAnother"),
        ("", b'{"release": "A", "received": 1}', "BodyNotWhole"),
        ("", b"[nothing", "JSONDecodeError"),
        ("", b'{"release": "A", "received": 2}', ""),
    ],
)
def test_an_answer_to_somebody_else_is_a_failure(number: str, body: bytes, errors: str) -> None:
    def answer(peer: socket.socket) -> None:
        while received := peer.recv(1000):
            asked = dict(
                line.split(": ") for line in received.decode().split("\r\n") if ": " in line
            )
            told = f"X-Release: A\r\n{load.MINE}: {number or asked[load.MINE]}\r\n"
            head = f"HTTP/1.1 200 OK\r\n{told}Content-Length: {len(body)}\r\n\r\n"
            peer.sendall(head.encode() + body)

    with server(answer) as url:
        report = load.run(Load(url=url, rate=100, threads=1, posts=1.0), 0.05)
    assert report.requests > 0
    assert report.failures == (report.requests if errors else 0)
    assert report.errors == ({errors: report.requests} if errors else {})
    assert report.known == (0 if errors else report.requests)


def test_a_fresh_connection_that_gets_no_answer_is_a_failure() -> None:
    with server(lambda peer: peer.close()) as url, pytest.raises(ConnectionError):
        ask(url, 1, keep=False)


def test_refused_connections_and_error_statuses_are_all_counted(start_service: Start) -> None:
    service = start_service("A")
    (service.shared / "switches.json").write_text('{"error_share": 1}')
    report = load.run(Load(url=service.url, rate=100), 0.3)
    assert report.failures == report.requests == report.by_release["A"]["500"]
    assert report.requests >= 20
    service.process.kill()
    service.process.wait()
    refused = load.run(Load(url=service.url, rate=100), 0.2)
    assert refused.failures == refused.requests == refused.errors["ConnectionRefusedError"]


def test_every_request_is_in_the_services_own_log(start_service: Start) -> None:
    service = start_service("A")
    report = load.run(Load(url=service.url, threads=4), 0.5)
    assert report.failures == report.reconnects == 0
    service.process.terminate()
    service.process.wait(10)
    lines = (service.shared / "log" / "access.log").read_text().splitlines()
    assert len(lines) == report.requests == report.by_release["A"]["200"]
    assert report.known == report.requests, "each was told its own id"
    kept = sum(n["requests"] for way, n in report.by_way.items() if "kept" in way)
    assert report.reused == kept - 2, "all but the first of each thread"
    assert report.ms["p50"] <= report.ms["p99"] <= report.ms["slowest"]


def test_a_slow_answer_counts_against_all_that_were_due_meanwhile(start_service: Start) -> None:
    service = start_service("A")
    (service.shared / "switches.json").write_text('{"slow_ms": 100}')
    report = load.run(Load(url=service.url, rate=100, threads=1), 0.5)
    assert report.ms["slowest"] > 300
    unsent = report.rate["unsent"] or 0
    assert unsent > 30
    assert report.requests + unsent == pytest.approx(50, abs=5), "told, though nobody sent them"


def test_what_is_no_http_address_is_refused() -> None:
    with pytest.raises(InputError, match="not an http"):
        load.run(Load(url="https://127.0.0.1/"), 0.1)


@pytest.mark.acceptance
def test_whether_the_rate_was_held_is_told_and_the_slowest_are_shown(start_service: Start) -> None:
    service = start_service("A")
    held = load.run(Load(url=service.url, rate=50, threads=4), 1.1)
    assert held.rate["asked"] == 50
    assert 40 <= float(held.rate["worst_second"] or 0) <= 50
    (service.shared / "switches.json").write_text('{"slow_ms": 200}')
    late = load.run(Load(url=service.url, rate=50, threads=2), 1.1)
    assert float(late.rate["mean"] or 50) < 15
    assert late.slowest[0]["ms"] == round(late.ms["slowest"], 1)
    assert late.slowest[0]["way"] in ("fresh GET", "kept GET")


def test_posts_carry_ids_and_what_is_delivered_twice_is_seen(start_service: Start) -> None:
    service = start_service("A")
    report = load.run(Load(url=service.url, rate=200, threads=4, posts=0.5), 0.5)
    sent = {way: count["requests"] for way, count in report.by_way.items()}
    assert set(sent) == {"fresh GET", "kept GET", "fresh POST", "kept POST"}
    posts = sent["fresh POST"] + sent["kept POST"]
    assert posts == pytest.approx(report.requests / 2, abs=4)

    def asked(method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
        with contextlib.closing(http.client.HTTPConnection(service.address, service.port)) as one:
            one.request(method, path, headers=headers or {})
            return one.getresponse().read()

    def delivered() -> dict[str, object]:
        return dict(json.loads(asked("GET", "/posts")))

    assert delivered() == {"ids": posts, "deliveries": posts, "twice": {}}
    for _ in range(2):
        asked("POST", "/", {load.ID: "one-and-the-same"})
    assert delivered()["twice"] == {"one-and-the-same": 2}


@pytest.mark.acceptance
def test_sockets_are_held_and_go_at_a_stop_only_after_their_time(start_service: Start) -> None:
    service = start_service("A")
    (service.shared / "switches.json").write_text('{"socket_seconds": 0.6}')
    with Load(url=service.url, rate=20, threads=2, sockets=4) as running:
        until(lambda: running._held is not None and running._held.opened == 4)
        stopped = time.time()
        service.process.terminate()
        service.process.wait(10)
        ended = time.time()
        report = running.stop()
    closings = report.sockets["closings"]
    assert isinstance(closings, list)
    assert [(one["by"], one["code"], one["unanswered"]) for one in closings] == [
        ("service", 1001, 0)
    ] * 4
    assert all(stopped + 0.55 <= one["at"] for one in closings)
    assert ended - stopped < 6, "the service does not wait for long"
    assert report.sockets["not_opened"], "it tries to come back, and is told so"
    log = (service.shared / "log" / "access.log").read_text()
    assert log.count("status=101 method=GET path=/ws") == log.count("closed=service") == 4


@pytest.mark.acceptance
def test_a_socket_that_is_held_long_enough_is_closed_by_its_client(start_service: Start) -> None:
    service = start_service("A")
    report = load.run(Load(url=service.url, rate=1, sockets=2, hold=0.2), 0.5)
    closed = report.sockets["closed_by"]
    assert isinstance(closed, dict)
    assert list(closed) == ["client"]
    assert closed["client"] >= 4
    assert (report.sockets["open"], report.sockets["unanswered"]) == (0, 0)


@pytest.mark.acceptance
def test_a_socket_that_breaks_off_is_closed_by_nobody(start_service: Start) -> None:
    service = start_service("A")
    with Load(url=service.url, rate=1, sockets=1) as running:
        held = running._held
        assert held is not None
        until(lambda: held.opened == 1)
        service.process.kill()
        service.process.wait()
        until(lambda: held.closings)
        report = running.stop()
    assert report.sockets["closed_by"] == {"nobody": 1}
