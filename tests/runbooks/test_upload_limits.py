"""The shipped upload-limits, on a small service that takes files, rightly and wrongly."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opskit.cli.root import call

pytestmark = pytest.mark.acceptance

Capture = pytest.CaptureFixture[str]
LOGIN = "Authorization: Token abcdef-xyzzy"
MB = 1048576


@dataclass
class Service:
    """What it takes, besides images of so many bytes, and what it took: name and size."""

    port: int = 0
    most: int = MB
    wrongly: tuple[str, ...] = ()
    took: list[tuple[str, int]] = field(default_factory=list)

    def answer(self, login: str | None, body: bytes) -> int:
        found = re.search(rb'filename="([^"]*)".*?\r\n\r\n(.*)\r\n--', body, re.DOTALL)
        assert found is not None
        name, data = found[1].decode(), found[2]
        if login != LOGIN.partition(": ")[2]:
            return 401
        ending = name.rpartition(".")[2]
        if ending not in self.wrongly:
            if len(data) > self.most:
                return 413
            if ending != "jpg":
                return 415
            if not data.startswith(b"\xff\xd8") and "text" not in self.wrongly:
                return 400
        self.took.append((name, len(data)))
        return 201


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(made.answer(self.headers["Authorization"], body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def words(tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    (tmp_path / "opskit.yaml").write_text("inventory: i.yaml\nstore: store.db\n")
    (tmp_path / "i.yaml").write_text(
        "opskit: 1\nhosts: {web1: 127.0.0.1}\nvars: {environment: staging}\n"
    )
    (tmp_path / "a cat.jpg").write_bytes(b"\xff\xd8\xff\xe0 a cat")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPSKIT_PARAM_LOGIN", LOGIN)
    monkeypatch.delenv("OPSKIT_STORE", raising=False)
    given = {"url": f"http://127.0.0.1:{service.port}/up", "sample": "a cat.jpg", "most": "1"}
    given["blocked"] = ".exe .js"
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield ["upload-limits", *(f"-p{name}={value}" for name, value in given.items())]


def test_one_is_taken_and_all_others_are_refused(
    service: Service, words: list[str], capsys: Capture
) -> None:
    assert call(["plan", *words]) == 0
    assert service.took == [], "a plan sends nothing"
    assert call(["run", "--yes", *words]) == 0
    said = capsys.readouterr().out
    for what in ("what must be taken: taken (201)", "too large: refused (413)",
                 "another type than it says: refused (400)", ".exe: refused (415)",
                 ".js: refused (415)"):  # fmt: skip
        assert f"OK upload: {what}" in said
    assert service.took == [("sample.jpg", 10)]
    assert LOGIN not in said


@pytest.mark.parametrize(
    ("wrongly", "told"),
    [
        ("large", f"too large sample.jpg {MB + 1}"),
        ("js", ".js sample.js 10"),
        ("text", "another type than it says sample.jpg 22"),
    ],
)
def test_what_is_taken_and_must_not_be_is_critical_and_nothing_more_is_sent(
    service: Service, words: list[str], capsys: Capture, wrongly: str, told: str
) -> None:
    service.wrongly, service.most = (wrongly,), MB + (wrongly == "large")
    assert call(["run", "--yes", *words]) == 1
    what, name, size = told.rsplit(maxsplit=2)
    said = capsys.readouterr().out
    assert f"CRIT upload: {what}: not refused (201): it may be there now [P2]" in said
    assert service.took == [("sample.jpg", 10), (name, int(size))]


def test_where_all_is_refused_no_refusal_says_anything(
    service: Service, words: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSKIT_PARAM_LOGIN", "Authorization: nobody")
    assert call(["run", "--yes", *words]) == 1
    assert "CRIT upload: what must be taken: refused (401), and" in capsys.readouterr().out
    Path("i.yaml").write_text(
        "opskit: 1\nhosts: {web1: 127.0.0.1}\nvars: {environment: production}\n"
    )
    assert call(["run", "--yes", *words]) == 5
    assert service.took == []
