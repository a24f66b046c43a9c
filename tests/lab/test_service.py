"""The practice service behaves as the services that it stands for."""

import http.client
import json
import signal
import socket
import threading
import time

import pytest

from tests.lab.conftest import RunningService, Start


def get(service: RunningService, path: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection(service.address, service.port, timeout=10)
    connection.request(method, path, body=b"x" * 10 if method == "POST" else None)
    answer = connection.getresponse()
    value = json.loads(answer.read())
    connection.close()
    return answer.status, value | {"release": answer.headers["X-Release"]}


def test_health_endpoints_answer_in_their_shapes(start_service: Start) -> None:
    service = start_service("A")
    assert get(service, "/health/") == (200, {"status": "healthy", "release": "A"})
    assert get(service, "/ready/")[1]["status"] == "ready"
    assert get(service, "/alive/")[1]["status"] == "alive"
    status, detailed = get(service, "/health/detailed/")
    checks = detailed["checks"]
    assert isinstance(checks, dict)
    assert (status, detailed["status"], sorted(checks)) == (
        200,
        "healthy",
        ["cache", "database", "queue"],
    )
    assert all(check["status"] == "healthy" and check["ms"] > 0 for check in checks.values())


def test_post_is_taken_and_an_unknown_page_is_not_there(start_service: Start) -> None:
    service = start_service("A")
    assert get(service, "/", "POST") == (200, {"release": "A", "received": 10})
    assert get(service, "/nowhere")[0] == 404


def test_switches_take_effect_on_the_next_request(start_service: Start) -> None:
    service = start_service("A")
    switches = service.shared / "switches.json"
    switches.write_text('{"unhealthy": true}')
    assert get(service, "/health/") == (503, {"status": "unhealthy", "release": "A"})
    switches.write_text('{"unhealthy": "quiet"}')
    assert get(service, "/health/") == (200, {"status": "unhealthy", "release": "A"})
    switches.write_text('{"checks": {"cache": "degraded"}}')
    checks = get(service, "/health/detailed/")[1]["checks"]
    assert isinstance(checks, dict)
    assert checks["cache"]["status"] == "degraded"
    switches.write_text('{"error_share": 1}')
    assert get(service, "/")[0] == 500
    assert get(service, "/health/")[0] == 200
    switches.write_text('{"slow_ms": 150}')
    begun = time.monotonic()
    assert get(service, "/")[0] == 200
    assert time.monotonic() - begun >= 0.15
    switches.write_text('{"half written')
    assert get(service, "/")[0] == 200


@pytest.mark.parametrize(
    ("fault", "path", "status", "release"),
    [
        ("unhealthy", "/health/", 503, "B"),
        ("unhealthy", "/", 200, "B"),
        ("wrong-release", "/health/", 200, "B-wrong"),
    ],
)
def test_a_fault_is_baked_into_its_release(
    start_service: Start, fault: str, path: str, status: int, release: str
) -> None:
    found, value = get(start_service("B", fault), path)
    assert (found, value["release"]) == (status, release)


def test_release_with_errors_fails_a_share_of_its_requests(start_service: Start) -> None:
    service = start_service("B", "errors")
    found = {get(service, "/")[0] for _ in range(64)}
    assert found == {200, 500}


@pytest.mark.acceptance
def test_slow_release_takes_seconds(start_service: Start) -> None:
    service = start_service("B", "slow")
    begun = time.monotonic()
    assert get(service, "/")[0] == 200
    assert time.monotonic() - begun >= 2.5


def test_release_that_crashes_never_answers(start_service: Start) -> None:
    assert start_service("B", "crash").process.wait(10) == 1


def test_a_stop_lets_requests_end_and_answers_kept_connections_once_more(
    start_service: Start,
) -> None:
    service = start_service("A")
    kept = http.client.HTTPConnection(service.address, service.port, timeout=10)
    kept.request("GET", "/")
    kept.getresponse().read()
    slow: list[int] = []
    under_way = threading.Thread(target=lambda: slow.append(get(service, "/slow?ms=600")[0]))
    under_way.start()
    time.sleep(0.2)
    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    kept.request("GET", "/")
    answer = kept.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    answer.read()
    kept.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((service.address, service.port), 1)
    under_way.join()
    assert slow == [200]
    assert service.process.wait(10) == 0


def test_a_stop_does_not_wait_long_for_connections_that_lie_idle(start_service: Start) -> None:
    service = start_service("A")
    with socket.create_connection((service.address, service.port)):
        begun = time.monotonic()
        service.process.terminate()
        assert service.process.wait(10) == 0
        assert time.monotonic() - begun < 2


def test_access_log_has_a_line_for_each_request(start_service: Start) -> None:
    service = start_service("A")
    get(service, "/health/")
    get(service, "/nowhere", "POST")
    service.process.terminate()
    service.process.wait(10)
    lines = (service.shared / "log" / "access.log").read_text().splitlines()
    # Each connection has a thread, which writes its line once the answer is on its way.
    fields = [dict(part.split("=", 1) for part in line.split()) for line in lines]
    fields.sort(key=lambda line: int(line["connection"]))
    assert [(line["status"], line["method"], line["path"]) for line in fields] == [
        ("200", "GET", "/health/"),
        ("404", "POST", "/nowhere"),
    ]
    assert [line["connection"] for line in fields] == ["1", "2"]
    assert {line["release"] for line in fields} == {"A"}
