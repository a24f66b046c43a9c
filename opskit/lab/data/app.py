"""The practice service: a small web application with the habits of a real one.

    python3 app.py ADDRESS PORT SHARED

Runs in its release's directory and takes its release id from the file RELEASE there (and what is
wrong with it from FAULT). SHARED holds switches.json, read anew for each request, and the logs:
one of requests, and one of the ids of POSTs, so that whoever was delivered twice is seen there.
Needs nothing but the standard library, because hosts need not have anything else.
"""

import contextlib
import itertools
import json
import os
import random
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.dont_write_bytecode = True  # a release's folder stays as it was shipped
sys.path.insert(0, str(Path(__file__).parent))

# Hosts run this with -I, so that only now what lies beside it is found.
from websocket import Socket, accept  # type: ignore[import-not-found]  # noqa: E402

IDLE_AFTER_STOP = 0.5  # seconds in which a kept connection may still send one more request
DEFAULT_START = 0.3
SLOW_FAULT_MS = 2500
SO_ATTACH_FILTER = 26
LIBC_DROP_ALL = struct.pack("HBBI", 6, 0, 0, 0)  # one BPF instruction: return 0 bytes
CHECKS = ("database", "cache", "queue")
ID = "Idempotency-Key"  # the header by which a POST is known
MINE = "X-Request-Id"  # told back, so that a client can tell its own answer
SOCKET_SECONDS = 2.0  # how long WebSockets live on after a stop, where no switch says otherwise

connections = itertools.count(1)


class Service:
    """What all connections share: release, fault, switches, log, and the wish to stop."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self.release = _first_line(Path("RELEASE"), "unknown")
        self.fault = _first_line(Path("FAULT"), "")
        if self.fault == "wrong-release":
            self.release = f"{self.release}-wrong"
        (shared / "log").mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self.log = os.open(shared / "log" / "access.log", flags, 0o644)
        self.posts = os.open(shared / "log" / "posts.log", flags, 0o644)
        self.stopping = False
        self.stopped_at = 0.0
        self.stop_read, self.stop_write = os.pipe()

    def stop(self, *_: object) -> None:
        """Wake every thread that waits for bytes, and let each finish what it has begun."""
        if not self.stopping:
            self.stopping, self.stopped_at = True, time.monotonic()
            os.close(self.stop_write)

    def switches(self) -> Mapping[str, object]:
        """The switches of this moment; a file that is missing or half written switches nothing."""
        try:
            found = json.loads((self.shared / "switches.json").read_bytes())
        except (OSError, ValueError):
            found = {}
        values = dict(found) if isinstance(found, dict) else {}
        if self.fault == "unhealthy":
            values["unhealthy"] = True
        elif self.fault == "slow":
            values["slow_ms"] = SLOW_FAULT_MS
        elif self.fault == "errors":
            values["error_share"] = 0.5
        return values

    def socket_seconds(self) -> float:
        """How much longer WebSockets may live, once the service is to stop."""
        told = self.switches().get("socket_seconds")
        seconds = float(told) if isinstance(told, int | float) else SOCKET_SECONDS
        return max(0.0, self.stopped_at + seconds - time.monotonic())

    def deliver(self, number: str) -> None:
        """Note a POST by its id before it is answered; it survives a restart."""
        os.write(self.posts, f"{number}\n".encode())

    def delivered(self) -> Mapping[str, object]:
        """How many POSTs with an id were delivered here, and which of them more than once."""
        size = os.fstat(self.posts).st_size
        counts = Counter(os.pread(self.posts, size, 0).decode().split())
        twice = {number: count for number, count in counts.items() if count > 1}
        return {"ids": len(counts), "deliveries": counts.total(), "twice": twice}

    def write_log(
        self, status: int, method: str, path: str, *, connection: int, begun: float, more: str = ""
    ) -> None:
        """One line a request, in one write, so that lines of many threads can't mix."""
        now = time.time()
        line = (
            f"time={now:.3f} release={self.release} status={status} method={method} path={path} "
            f"connection={connection} ms={(time.monotonic() - begun) * 1000:.1f}{more}\n"
        )
        os.write(self.log, line.encode())


class Connection(BaseHTTPRequestHandler):
    """One client's connection, kept open between requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment

    def __init__(self, peer: socket.socket, address: object, service: Service) -> None:
        self.service = service
        self.number = next(connections)
        super().__init__(peer, address, service)  # type: ignore[arg-type]  # no server object here

    def handle(self) -> None:
        """Requests until the client leaves, or the service stops and one more was answered."""
        self.close_connection = False
        with contextlib.suppress(OSError):
            while not self.close_connection and self._wait_for_request():
                self.handle_one_request()

    def _wait_for_request(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ, "request")
            selector.register(self.service.stop_read, selectors.EVENT_READ, "stop")
            if "request" in [key.data for key, _ in selector.select()]:
                return True
            # A request may be on its way already: closing now would lose it.
            selector.unregister(self.service.stop_read)
            return bool(selector.select(IDLE_AFTER_STOP))

    def do_GET(self) -> None:  # http.server's name
        upgrade = self.headers.get("Upgrade", "").lower() == "websocket"
        if upgrade and urlsplit(self.path).path == "/ws":
            self._open_socket()
        else:
            self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        received = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        number = self.headers.get(ID, "").strip()
        if number and not any(sign.isspace() for sign in number):
            self.service.deliver(number)
        self._answer(received)

    def _open_socket(self) -> None:
        """Become a WebSocket, until one of the two sides closes it."""
        begun, key = time.monotonic(), self.headers.get("Sec-WebSocket-Key", "")
        self.close_connection = True
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept(key))
        self.send_header("X-Release", self.service.release)
        self.end_headers()
        self.wfile.flush()
        closed = Socket(self.connection, self.service).serve()
        self._log(101, "/ws", begun, f" closed={closed}")

    def _answer(self, received: bytes) -> None:
        begun = time.monotonic()
        url = urlsplit(self.path)
        switches = self.service.switches()
        _sleep_ms(switches.get("slow_ms"))
        if url.path == "/slow":
            _sleep_ms(parse_qs(url.query).get("ms", ["1000"])[0])
        status, value = answer(url.path, self.service, switches, len(received))
        sent = self._send(status, json.dumps(value).encode() + b"\n")
        self._log(sent, url.path, begun)

    def _log(self, status: int, path: str, begun: float, more: str = "") -> None:
        told = (status, self.command, path)
        self.service.write_log(*told, connection=self.number, begun=begun, more=more)

    def _send(self, status: int, body: bytes) -> int:
        """The status for the log: 499 when the client had gone."""
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Release", self.service.release)
            if number := " ".join(self.headers.get(MINE, "").split()):
                self.send_header(MINE, number)
            if self.service.stopping:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return 499
        return status

    def log_message(self, *_: object) -> None:
        """The service writes its own log."""


def answer(
    path: str, service: Service, switches: Mapping[str, object], received: int
) -> tuple[int, Mapping[str, object]]:
    """Status and body for a path, with the switches as they stand."""
    unhealthy = switches.get("unhealthy")
    status = 503 if unhealthy and unhealthy != "quiet" else 200
    state = "unhealthy" if unhealthy else "healthy"
    match path:
        case "/alive/":
            return 200, {"status": "alive"}
        case "/health/" | "/ready/":
            return status, {"status": "ready" if path == "/ready/" and not unhealthy else state}
        case "/health/detailed/":
            return status, {"status": state, "checks": _checks(switches)}
        case "/posts":
            return 200, service.delivered()
    share = switches.get("error_share")
    if isinstance(share, int | float) and random.random() < share:
        return 500, {"error": "this release fails a share of its requests"}
    if path in ("/", "/slow"):
        return 200, {"release": service.release, "received": received}
    return 404, {"error": f"no page {path}"}


def _checks(switches: Mapping[str, object]) -> Mapping[str, object]:
    """The checks of what the service stands on; switch `checks` sets single ones by name."""
    single = switches.get("checks")
    chosen = single if isinstance(single, dict) else {}
    rest = "unhealthy" if switches.get("unhealthy") else "healthy"
    return {
        name: {"status": chosen.get(name, rest), "ms": round(random.uniform(0.3, 2.0), 2)}
        for name in CHECKS
    }


def serve(address: str, port: int, service: Service) -> None:
    """Listen until told to stop; then answer all that was accepted, and only then return."""
    listener = bind(address, port)
    if cut_off():
        say_ready()
        wait_while_cut(service)
        listener.listen(512)
    else:
        listener.listen(512)
        say_ready()
    threads: list[threading.Thread] = []
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(service.stop_read, selectors.EVENT_READ)
        while not service.stopping:
            selector.select()
            threads = [thread for thread in threads if thread.is_alive()]
            threads += [_start(peer, service) for peer in _waiting(listener)]
    # New connections are held off first: one that completed between the last accept and the
    # close would be reset, though its client believes it was accepted.
    with contextlib.suppress(OSError):  # some kernels let only root filter
        _drop_packets(listener)
    threads += [_start(peer, service) for peer in _waiting(listener)]
    listener.close()
    for thread in threads:
        thread.join()


def bind(address: str, port: int) -> socket.socket:
    """The service's address, taken but not yet open."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.setblocking(False)
    return listener


def say_ready() -> None:
    """Tell the supervisor, which must know it even where the network is cut."""
    ready = os.environ.get("READY_FILE")
    if ready:
        Path(ready).write_text(f"{os.getpid()}\n", encoding="ascii")


def wait_while_cut(service: Service) -> None:
    """A service that starts while its host is cut off must not be reachable either."""
    while cut_off() and not service.stopping:
        time.sleep(0.05)


def cut_off() -> bool:
    """Whether the lab has taken this host off the net."""
    flag = os.environ.get("OPSKIT_LAB_CUT")
    return bool(flag) and Path(str(flag)).exists()


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    while True:
        try:
            yield listener.accept()[0]
        except BlockingIOError:
            return
        except OSError:
            time.sleep(0.05)  # out of descriptors, or a lab that has cut the listener off
            return


def _start(peer: socket.socket, service: Service) -> threading.Thread:
    def run() -> None:
        peer.setblocking(True)
        with peer, contextlib.suppress(OSError):
            Connection(peer, None, service)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _drop_packets(listener: socket.socket) -> None:
    import ctypes

    program = ctypes.create_string_buffer(LIBC_DROP_ALL)
    filter_ = struct.pack("HL", 1, ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)


def _sleep_ms(value: object) -> None:
    with contextlib.suppress(TypeError, ValueError):
        time.sleep(min(float(str(value)), 60_000) / 1000)


def _first_line(file: Path, otherwise: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip().split("\n")[0] or otherwise
    except OSError:
        return otherwise


def main(words: list[str]) -> int:
    """Start slowly, as real services do, and serve until a TERM."""
    address, port, shared = words
    service = Service(Path(shared))
    signal.signal(signal.SIGTERM, service.stop)
    signal.signal(signal.SIGINT, service.stop)
    if service.fault == "crash":
        sys.stderr.write(f"release {service.release} can't start: no module named 'settings'\n")
        return 1
    time.sleep(float(os.environ.get("START_SECONDS") or DEFAULT_START))
    if not service.stopping:
        serve(address, int(port), service)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
