"""Checks of pages as the shipped files have them: what is in the answer counts, not its status."""

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from opskit.load.checks import check_file
from opskit.model.job import Output
from opskit.model.problem import Place, Problem
from opskit.model.runbook import Step
from opskit.model.text import text
from opskit.model.work import Request
from opskit.steps import health
from tests.drivers.kit import Kit

pytestmark = pytest.mark.acceptance

SHIPPED = Path(__file__).parents[2] / "inventories" / "checks"
STEP = Step(
    position="1", name="Check", kind="health", place=Place(file="x"), args={}, effect="read"
)
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Page(BaseHTTPRequestHandler):
    """Answers 200 whatever it finds; speaks WebSocket where it is asked to."""

    state = "unhealthy"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/ws/tickets/" and self.headers.get("Upgrade") == "websocket":
            key = (self.headers["Sec-WebSocket-Key"] + GUID).encode()
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            accept = base64.b64encode(hashlib.sha1(key).digest()).decode()
            self.send_header("Sec-WebSocket-Accept", accept)
            self.end_headers()
            self.connection.recv(1)  # it stays open until the other side leaves
            self.close_connection = True
            return
        body = json.dumps({"status": self.state}).encode()
        packed = self.path != "/plain" and "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(body) if packed else body
        self.send_response(200)
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shipped(file: str) -> Mapping[str, dict[str, Any]]:
    path = SHIPPED / f"{file}.yaml"
    problems: list[Problem] = []
    checks, _ = check_file(path, path.read_bytes(), problems)
    assert problems == []
    return {one["label"]: one for one in checks}


def asked(kit: Kit, base: str, check: Mapping[str, Any]) -> Output:
    args = {"spec": text(json.dumps(check)), "base": text(base)}
    work = health.work(health.opened(args, STEP), STEP)
    assert isinstance(work, Request)
    return health.judge(work, kit.perform(work, timeout=10.0).output)


@pytest.mark.parametrize(
    ("file", "label"), [("youtility", "page, in detail"), ("teams", "page"), ("site", "page")]
)
def test_f2_a_page_that_answers_200_and_says_unhealthy_is_critical(
    local: Kit, base: str, file: str, label: str
) -> None:
    found = asked(local, base, shipped(file)[label])
    severity = shipped(file)[label]["severity"]
    said = f'CRIT {label}: status is "unhealthy", expected "healthy" [{severity}]'
    assert (found.outcome, found.reason) == ("failed", said)
    assert found.evidence["severity"] == severity
    blind = asked(local, base, {"label": label, "path": "/health/"})
    assert blind.reason == f"OK {label}", "the status alone tells nothing"


def test_a_websocket_is_one_and_a_page_is_none(local: Kit, base: str) -> None:
    check = shipped("tickets")["WebSocket"]
    assert asked(local, base, check).reason == "OK WebSocket"
    other = asked(local, base, {**check, "path": "/health/"})
    assert other.reason.startswith(
        "CRIT WebSocket: status 200, expected 101; header Sec-WebSocket-"
    )


def test_whether_answers_are_compressed_is_asked_as_a_browser_does(local: Kit, base: str) -> None:
    check = shipped("tickets")["answers are compressed"]
    assert asked(local, base, check).reason == "OK answers are compressed"
    plain = asked(local, base, {**check, "path": "/plain"})
    assert plain.reason.startswith("CRIT answers are compressed: ")
