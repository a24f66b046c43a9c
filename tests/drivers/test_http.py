"""HTTP requests: what is expected of an answer, and what a lost one means."""

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opskit.model.job import Output
from opskit.model.text import text
from opskit.model.value import Secret, SecretRef
from opskit.model.work import Expect, Request
from tests.drivers.kit import Kit

DOCUMENT = {
    "status": "healthy",
    "n": 3,
    "ok": True,
    "checks": [{"state": "up"}],
    "a.b": None,
}


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says; remembers what it was asked."""

    asked: list[tuple[str, str, Mapping[str, str], bytes]] = []  # noqa: RUF012  # shared on purpose
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, dict(self.headers), body))
        match self.path.split("/")[1]:
            case "status":
                self.say(int(self.path.split("/")[2]), b"as you said")
            case "json":
                document = {
                    "status": "healthy",
                    "n": 3,
                    "ok": True,
                    "checks": [{"state": "up"}],
                    "a.b": None,
                }
                self.say(200, json.dumps(document).encode())
            case "moved":
                self.say(302, b"", Location="/status/200")
            case "slow":
                time.sleep(float(self.path.split("/")[2]))
                self.say(200, b"slow")
            case "drip":
                self.drip()
            case "vanish":
                self.connection.shutdown(socket.SHUT_RDWR)
            case "half":
                self.say(200, b"half", announced=100)
                self.connection.shutdown(socket.SHUT_RDWR)
            case "big":
                self.say(200, b"x" * 20_000_000)
            case _:
                self.say(
                    200, b"hello", X_Release="1.2", X_Query_Count="15",
                    Set_Cookie="a=1; Secure; HttpOnly", set_cookie="b=2; Secure",
                )  # fmt: skip

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = answer  # noqa: N815  # as the library calls them

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def say(self, status: int, body: bytes, *, announced: int = -1, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if announced < 0 else announced))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as where:
        yield where


def ask(
    made: Kit,
    url: str,
    method: str = "GET",
    *,
    timeout: float = 10,
    secrets: Mapping[str, Secret] | None = None,
    **more: object,
) -> Output:
    work = Request(url=text(url), method=method, **more)  # type: ignore[arg-type]
    effect = "read" if method in {"GET", "HEAD"} else "change"
    return made.perform(work, effect=effect, timeout=timeout, secrets=secrets).output  # type: ignore[arg-type]


def expecting(**what: object) -> Expect:
    return Expect(**what)  # type: ignore[arg-type]


def test_an_answer_is_evidence_and_output(local: Kit, url: str) -> None:
    got = ask(local, f"{url}/")
    assert (got.outcome, got.stdout) == ("succeeded", b"hello")
    assert got.evidence["status"] == 200
    assert got.evidence["body"] == "hello"
    latency = got.evidence["latency_ms"]
    assert isinstance(latency, float)
    assert 0 < latency < 5000


def test_without_expectation_any_2xx_is_good(local: Kit, url: str) -> None:
    assert ask(local, f"{url}/status/204").outcome == "succeeded"
    got = ask(local, f"{url}/status/503")
    assert (got.outcome, got.reason) == ("failed", "status 503, expected 2xx")
    assert got.evidence["status"] == 503
    assert (
        ask(local, f"{url}/status/503", expect=expecting(status=(500, 503))).outcome == "succeeded"
    )


def test_a_redirect_is_an_answer(local: Kit, url: str) -> None:
    Handler.asked.clear()
    assert ask(local, f"{url}/moved").reason == "status 302, expected 2xx"
    assert ask(local, f"{url}/moved", expect=expecting(status=(302,))).outcome == "succeeded"
    assert [path for _, path, _, _ in Handler.asked] == ["/moved", "/moved"]


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        (expecting(headers={"x-release": text("1.2")}), ""),
        (
            expecting(headers={"X-Release": text("1.3")}),
            'header X-Release is "1.2", expected "1.3"',
        ),
        (expecting(headers={"X-None": text("1")}), 'header X-None is missing, expected "1"'),
        (expecting(has={"Set-Cookie": text("secure"), "X-Release": text("1.")}), ""),
        (
            expecting(has={"Set-Cookie": text("HttpOnly")}),
            'header Set-Cookie is "b=2; Secure", which has no "HttpOnly"',
        ),
        (expecting(has={"X-None": text("1")}), 'header X-None is missing, and must have "1"'),
        (expecting(at_most={"X-Query-Count": 20.0}), ""),
        (expecting(at_most={"X-Query-Count": 14.0}), "is 15, expected at most 14"),
        (expecting(at_most={"Set-Cookie": 1.0}), "expected a number up to 1"),
        (expecting(at_most={"X-None": 1.0}), "X-None is missing, expected a number up to 1"),
        (expecting(at_least={"X-Release": 1.2, "X-Query-Count": 1.0}), ""),
        (expecting(at_least={"X-Query-Count": 16.0}), 'is "15", expected at least 16'),
        (expecting(at_least={"X-None": 1.0}), "X-None is missing, expected a number from 1 on"),
        (expecting(body=text("ell")), ""),
        (expecting(body=text("bye")), 'the body does not contain "bye"'),
        (expecting(json={"a": 1}), "the body is not JSON"),
        (expecting(latency=30.0), ""),
        (expecting(latency=0.0000001), "expected at most"),
        (expecting(status=(500,), body=text("bye")), "expected 500; the body does not"),
    ],
)
def test_every_expectation_is_checked(local: Kit, url: str, expect: Expect, reason: str) -> None:
    got = ask(local, f"{url}/", expect=expect)
    assert got.outcome == ("failed" if reason else "succeeded")
    assert reason in got.reason


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("status", text("healthy"), ""),
        ("status", "healthy", ""),
        ("status", "sick", 'status is "healthy", expected "sick"'),
        ("n", 3, ""),
        ("n", 3.0, ""),
        ("n", text("3"), ""),
        ("n", "3", 'n is 3, expected "3"'),
        ("ok", True, ""),
        ("ok", 1, "ok is true, expected 1"),
        ("ok", text("true"), ""),
        ("checks.0.state", "up", ""),
        ("checks", [{"state": "up"}], ""),
        ("checks.1.state", "up", "the body has no checks.1.state"),
        ("a.b", None, ""),
        ("a.c", None, "the body has no a.c"),
        ("status.x", "y", "the body has no status.x"),
    ],
)
def test_json_is_looked_at_by_path(
    local: Kit, url: str, path: str, value: object, reason: str
) -> None:
    got = ask(local, f"{url}/json", expect=expecting(json={path: value}))
    assert got.outcome == ("failed" if reason else "succeeded"), got.reason
    assert reason in got.reason


def test_a_request_carries_headers_body_and_secrets(local: Kit, url: str) -> None:
    Handler.asked.clear()
    got = ask(
        local,
        f"{url}/x?a=b%20c",
        "POST",
        headers={"X-A": text("ä"), "Authorization": SecretRef(name="token")},
        body=text('{"a": "ö"}'),
        secrets={"token": Secret("token", "Bearer geheim")},
    )
    assert got.outcome == "succeeded"
    method, path, headers, body = Handler.asked[-1]
    assert (method, path, body) == ("POST", "/x?a=b%20c", '{"a": "ö"}'.encode())
    assert headers["Authorization"] == "Bearer geheim"
    assert "Idempotency-Key" not in headers


def test_the_idempotency_key_is_the_same_for_every_attempt(local: Kit, url: str) -> None:
    Handler.asked.clear()
    work = Request(url=text(f"{url}/"), method="POST", idempotency_key=True)
    for key, attempt in (("a", 1), ("a", 2), ("b", 1)):
        local.perform(work, key=key, attempt=attempt)
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in Handler.asked]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("path", ["/vanish", "/half", "/slow/2", "/drip"])
def test_a_lost_answer_is_a_failed_read_and_an_unknown_change(
    local: Kit, url: str, path: str
) -> None:
    began = time.monotonic()
    got = ask(local, url + path, timeout=0.6)
    assert (got.outcome, got.sent) == ("failed", True)
    got = ask(local, url + path, "POST", timeout=0.6)
    assert (got.outcome, got.sent) == ("unknown", True)
    assert "may have done it" in got.reason
    got = ask(local, url + path, "POST", timeout=0.6, idempotency_key=True)
    assert (got.outcome, got.sent) == ("failed", True)
    assert "Idempotency-Key" in got.reason
    assert time.monotonic() - began < 8


def test_what_a_proxy_lost_is_unknown_for_a_change(local: Kit, url: str) -> None:
    assert ask(local, f"{url}/status/504", "POST").outcome == "unknown"
    assert ask(local, f"{url}/status/504").outcome == "failed"
    assert ask(local, f"{url}/status/503", "POST").outcome == "failed"
    assert ask(local, f"{url}/status/504", "POST", idempotency_key=True).outcome == "failed"


def test_what_can_not_be_connected_was_not_sent(local: Kit) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        got = ask(local, f"http://127.0.0.1:{taken.getsockname()[1]}/", "POST")
    assert (got.outcome, got.sent) == ("failed", False)
    assert "no connection" in got.reason


@pytest.mark.parametrize("name", ["...", "a" * 64 + ".invalid"])
def test_a_name_that_no_host_can_have_is_not_looked_up(local: Kit, name: str) -> None:
    got = ask(local, f"http://{name}/", "POST")
    assert (got.outcome, got.sent) == ("failed", False)
    assert got.reason == f"{name!r} can't name a host"


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "http://", "/path", "http://[::1", "http://x:99999/"]
)
def test_what_is_no_url_is_not_sent(local: Kit, url: str) -> None:
    got = ask(local, url)
    assert (got.outcome, got.sent) == ("failed", False)


def test_a_header_that_can_not_be_sent_is_not_shown(local: Kit, url: str) -> None:
    secret = {"t": Secret("t", "geheim\r\nX-Evil: 1")}
    got = ask(local, f"{url}/", headers={"Authorization": SecretRef(name="t")}, secrets=secret)
    assert (got.outcome, got.sent) == ("failed", False)
    assert "geheim" not in got.reason


def test_a_large_body_is_cut(local: Kit, url: str) -> None:
    got = ask(local, f"{url}/big")
    assert got.outcome == "succeeded"
    assert len(got.stdout) == 1024 * 1024
    assert got.evidence["cut"] == ["stdout"]
    assert len(str(got.evidence["body"])) == 2048


def test_a_person_can_stop_waiting_for_an_answer(local: Kit, url: str) -> None:
    found: dict[str, str] = {}
    timer = threading.Timer(0.4, lambda: found.update(local.targets.stop(1)))
    timer.start()
    began = time.monotonic()
    got = ask(local, f"{url}/slow/5", "POST", timeout=30)
    timer.join()
    assert got.outcome == "unknown"
    assert list(found.values()) == ["can't tell"]
    assert time.monotonic() - began < 4


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.mark.parametrize("via", ["controller", "host"])
def test_tls_is_verified_with_what_this_machine_trusts(
    local: Kit, certificate: tuple[Path, Path], via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with serving(context) as url:
        got = ask(local, f"{url}/", "POST", via=via)
        assert (got.outcome, got.sent) == ("failed", False)
        assert "certificate" in got.reason.lower()
    local.targets.close()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with serving(context) as url:
        got = ask(local, f"{url}/big", via=via)
        assert got.outcome == "succeeded", got.reason
        assert got.stdout == b"x" * 1024 * 1024


@pytest.mark.acceptance
def test_a_request_goes_through_the_host(remote: Kit, url: str) -> None:
    got = ask(remote, f"{url}/json", via="host", expect=expecting(json={"status": "healthy"}))
    assert (got.outcome, got.reason) == ("succeeded", "")
    assert ask(remote, f"{url}/big", via="host").stdout == b"x" * 1024 * 1024
    assert ask(remote, f"{url}/vanish", "POST", via="host").outcome == "unknown"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        got = ask(remote, f"http://127.0.0.1:{taken.getsockname()[1]}/", "POST", via="host")
    assert (got.outcome, got.sent) == ("failed", False)
    got = ask(remote, f"{url}/slow/5", "POST", via="host", timeout=1)
    assert got.outcome == "unknown"
