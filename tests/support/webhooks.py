"""A server that takes messages as chats do: well, late, never, refusing, or sending elsewhere."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.nginx import certificate

TOKEN = "T0KEN/b0xes-xyzzy"
"""What every address has in it, and nothing else may."""


@dataclass(kw_only=True)
class Chats:
    """What came, by the first word of the path: `ok`, `hang`, `500`, `busy`, `moved`, `echo`.

    What is at `hang` is answered once it is `over`.
    """

    port: int = 0
    tls: int = 0
    """Where the same speaks TLS, with a certificate that nobody trusts."""
    came: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}/{TOKEN}"

    def at(self, name: str) -> list[dict[str, Any]]:
        return [body for path, body, _ in list(self.came) if path == name]

    def until(self, name: str, count: int = 1) -> None:
        end = time.monotonic() + 60
        while len(self.at(name)) < count:
            assert time.monotonic() < end, f"nothing came at {name}: {self.came}"
            time.sleep(0.01)


@contextmanager
def chats(folder: Path) -> Iterator[Chats]:
    """Serve on two ports of loopback; a certificate is made in `folder`."""
    found = Chats()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.path.split("/")[1]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            before = len(found.at(name))
            found.came.append((name, body, dict(self.headers)))
            if name == "hang":
                found.over.wait(30)
            status = {"500": 500, "echo": 404, "moved": 307}.get(name, 200)
            status = 429 if name == "busy" and not before else status
            self.send_response(status)
            if name == "moved":
                self.send_header(
                    "Location", found.url("elsewhere").replace("127.0.0.1", "localhost")
                )
            said = f"{self.path} was not found" if name == "echo" else "ok"
            self.send_header("Content-Length", str(len(said)))
            with suppress(OSError):  # whoever asked may have gone
                self.end_headers()
                self.wfile.write(said.encode())

        def handle(self) -> None:
            with suppress(OSError):  # who does not trust the certificate is gone
                super().handle()

        def log_message(self, *_: object) -> None:
            """A test's output is for the test."""

    with serving(Take) as found.port, serving(Take, certificate(folder)) as found.tls:
        try:
            yield found
        finally:
            found.over.set()


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Serve on a port of loopback, which is returned."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
