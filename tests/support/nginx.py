"""A real nginx of a test's own, on loopback, and members for its pool."""

import http.client
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support import ports

CONF = """\
worker_processes 2;
daemon on;
pid {top}/nginx.pid;
error_log {top}/error.log notice;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {top}/tmp; proxy_temp_path {top}/tmp; fastcgi_temp_path {top}/tmp;
    uwsgi_temp_path {top}/tmp; scgi_temp_path {top}/tmp;
    include {top}/pools/*.conf;
    server {{
        listen {listen};
        location / {{
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""


class Member(ThreadingHTTPServer):
    """A member of the pool: answers with its own name; `/slow` takes a second, or until `go_on`.

    `held`: who has asked for it. With `site` it is as strict as a Django site that only speaks TLS.
    """

    daemon_threads = True
    slow = 1.0
    refused: tuple[str, ...] = ()
    site = release = ""

    def __init__(
        self, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__((address, port), Answer)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.go_on = threading.Event()
        self.held: list[str] = []
        self.where = f"{address}:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A health check that hangs up is no error."""

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment

    def do_GET(self) -> None:
        assert isinstance(self.server, Member)
        if self.path == "/slow":
            self.server.held.append(f"{self.client_address}")
            self.server.go_on.wait(self.server.slow)
        body = self.server.where.encode()
        self.send_response(self.status())
        if self.server.release:
            self.send_header("X-Release", self.server.release)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def status(self) -> int:
        assert isinstance(self.server, Member)
        if self.server.site and self.headers["Host"] != self.server.site:
            return 400  # ALLOWED_HOSTS
        if self.server.site and self.headers["X-Forwarded-Proto"] != "https":
            return 301  # SECURE_SSL_REDIRECT
        return 503 if self.path in self.server.refused else 200

    def log_message(self, *_: object) -> None:
        """A test's output is for the test."""


def certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate that only its maker trusts, in `folder`: cert.pem, key.pem."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]
    subprocess.run(
        ["openssl", "req", "-x509", *made, "-keyout", str(key), "-out", str(cert), "-days", "2"],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


@dataclass(kw_only=True)
class Nginx:
    """nginx with its files in `top`; `pool` is the file with the server lines."""

    top: Path
    listen: str
    members: list[Member] = field(default_factory=list)

    @property
    def conf(self) -> Path:
        return self.top / "nginx.conf"

    @property
    def pool(self) -> Path:
        return self.top / "pools" / "web.conf"

    @property
    def command(self) -> str:
        return f"nginx -p {self.top} -e {self.top}/error.log -c {self.conf}"

    def run(self, *words: str) -> None:
        subprocess.run([*self.command.split(), *words], check=True, capture_output=True)

    def start(self) -> None:
        self.run()
        wait_until(lambda: bool(self.workers()))

    def master(self) -> int:
        return int((self.top / "nginx.pid").read_text())

    def workers(self) -> set[int]:
        """The workers that take new requests."""
        master = self.master()
        found = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return {int(pid) for pid in found if "shutting" not in _title(pid)}

    def everyone(self) -> set[int]:
        master = self.master()
        found = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return {master, *map(int, found)}

    def stop(self) -> None:
        """End it and every worker, whatever state a test left it in."""
        if not (self.top / "nginx.pid").exists():
            return
        os.kill(self.master(), signal.SIGSTOP)  # it would start another worker for each that ends
        pids = self.everyone()
        for pid in pids:
            _kill(pid)
        wait_until(lambda: not any(_alive(pid) for pid in pids))

    def get(self, path: str = "/") -> str:
        """What one request through the balancer, on a connection of its own, is answered with."""
        host, _, port = self.listen.partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return f"{answer.status} {answer.read().decode()}"
        finally:
            connection.close()

    def seen(self, requests: int = 12) -> set[str]:
        return {self.get() for _ in range(requests)}


def make(top: Path, members: int = 2) -> Nginx:
    """Lay out and start an nginx with a pool of real members."""
    assert shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), "this test needs nginx"
    for folder in ("pools", "tmp"):
        (top / folder).mkdir(parents=True)
    nginx = Nginx(top=top, listen=f"127.0.0.1:{ports.free()}")
    nginx.members += [Member(f"127.0.0.{n + 2}") for n in range(members)]
    servers = "".join(f"    server {member.where};\n" for member in nginx.members)
    nginx.pool.write_text(f"upstream web {{\n    zone web 64k;\n{servers}    keepalive 8;\n}}\n")
    nginx.conf.write_text(CONF.format(top=top, listen=nginx.listen))
    nginx.start()
    return nginx


def wait_until(true: Callable[[], bool], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def _title(pid: str | int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
