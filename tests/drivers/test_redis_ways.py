"""Ways to a Redis: through a host, with a password, over TLS, and what answers instead of one."""

import datetime as dt
import ipaddress
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from opskit.drivers.targets import Targets
from opskit.errors import UnreachableError
from opskit.model.inventory import Redis
from opskit.model.value import Secret
from tests.support.redis import Keys, Server, keys
from tests.support.redis import server as started
from tests.support.sshd import Sshd

pytestmark = pytest.mark.acceptance
SECRET = "correct-horse-battery"
_runs = itertools.count(1)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with started(user=f"app on >{SECRET} ~* &* +@all") as found:
        yield found


def entry(one: Server, **how: object) -> Redis:
    known: dict[str, object] = {
        "name": "main", "url": f"redis://app@127.0.0.1:{one.port}/0", "password": "word", **how
    }  # fmt: skip
    return Redis(**known)  # type: ignore[arg-type]


def behind(one: Server, **how: object) -> Keys:
    return Keys(one, f"ways{next(_runs)}", entry(one, **how))


def test_a_server_is_reached_through_a_host(guarded: Server, server: Sshd) -> None:
    db = behind(guarded)
    targets = Targets(
        db.run,
        {"web1": server.host()},
        redis={"main": entry(guarded, via="web1")},
        marked={"main"},
        secrets={"word": Secret("word", SECRET)},
        runbook="books",
    )
    try:
        contact = targets.open("redis:main", writes=True)
        assert contact.user == "app"
        printed = bytearray()
        job = db.job("SET k {{ x }}\nGET k", given={"x": "y" * 300_000}, kept=True)
        found = targets.perform(job, lambda _stream, data: printed.extend(data))
        assert (found.outcome, len(found.stdout)) == ("succeeded", 300_001), found
    finally:
        targets.close()


def test_a_host_that_leads_nowhere_is_said(guarded: Server, server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    lost = entry(guarded, via="web1", url=f"redis://127.0.0.1:{port}")
    targets = Targets("ways", {"web1": server.host()}, redis={"main": lost}, runbook="books")
    try:
        with pytest.raises(UnreachableError, match="it can't be reached"):
            targets.open("redis:main", writes=True)
        found = targets.perform(behind(guarded).job("GET k", "read"), lambda *_: None)
    finally:
        targets.close()
    assert (found.outcome, found.sent, found.unreachable) == ("failed", False, True)


@pytest.mark.parametrize(
    ("given", "said"), [("wrong-password", "WRONGPASS"), ("", "NOAUTH Authentication required")]
)
def test_a_password_that_is_wrong_or_missing_is_said_and_not_shown(
    guarded: Server, given: str, said: str
) -> None:
    db = behind(guarded)
    if given:
        db.use(db.redis, word=given)
    with started(requirepass=SECRET) as one:
        if not given:
            db.use(Redis(name="main", url=f"redis://127.0.0.1:{one.port}"))
        with pytest.raises(UnreachableError) as caught:
            db.open()
    assert said in caught.value.line
    assert "see the user in `url`, and the secret" in (caught.value.hint or "")
    assert "wrong-password" not in repr(caught.value)
    db = behind(guarded).use(entry(guarded), word=SECRET)
    assert db.do("SET k v").outcome == "succeeded"
    assert SECRET not in Path("/proc/self/cmdline").read_text()


def test_a_user_with_the_rights_of_the_page_can_do_it_all(guarded: Server) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "redis.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("ACL SETUSER opskit"))
    with guarded.peer() as admin:
        admin.call("AUTH", "app", SECRET)
        admin.call("FLUSHALL")
        admin.call(*line.replace("…", SECRET).split())
        db = behind(guarded, url=f"redis://opskit@127.0.0.1:{guarded.port}")
        db.use(db.redis, word=SECRET)
        found = db.do("SET :1:throttle_user_1 x\nUNLINK :1:throttle_user_1", kept=True)
        assert (found.outcome, found.stdout) == ("succeeded", b"1\n"), found
        assert db.find("UNLINK k", contact=db.open(), key="2/").again
        assert db.read("SCAN 0 MATCH :1:throttle_*\nPTTL :1:throttle_user_1").status == 0
        found = db.do("UNLINK other", key="3/")
        assert (found.outcome, "No permissions to access a key" in found.reason) == ("failed", True)


# --- TLS


def certificate(folder: Path) -> Path:
    """Make a key and a certificate for the loopback that proves itself; return their file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "both.pem"
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


class Front:
    """Speaks TLS before a server that does not."""

    def __init__(self, port: int, file: Path) -> None:
        self._upstream = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                with suppress(OSError):
                    client = self._context.wrap_socket(raw, server_side=True)
                    upstream = socket.create_connection(("127.0.0.1", self._upstream))
                    threading.Thread(target=_both, args=(client, upstream), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _both(client: ssl.SSLSocket, upstream: socket.socket) -> None:
    """Carry bytes both ways, in one thread: one TLS socket is not for two."""
    client.settimeout(0.01)
    upstream.settimeout(0.01)
    with suppress(OSError), client, upstream:
        while True:
            for source, target in ((client, upstream), (upstream, client)):
                with suppress(TimeoutError):
                    data = source.recv(65536)
                    if not data:
                        return
                    target.settimeout(10)
                    target.sendall(data)
                    target.settimeout(0.01)


def test_a_server_is_reached_over_tls(redis: Server, tmp_path: Path) -> None:
    file = certificate(tmp_path)
    db = keys(redis)
    with closing(Front(redis.port, file)) as front:
        db.changed(url=f"rediss://127.0.0.1:{front.port}/0", ca=str(file))
        found = db.do("SET k {{ x }}\nGET k", given={"x": "y" * 200_000}, kept=True)
        assert (found.outcome, len(found.stdout)) == ("succeeded", 200_001), found
        db.changed(ca=None)
        with pytest.raises(UnreachableError, match="certificate"):
            db.open()
    db.changed(url=f"rediss://127.0.0.1:{redis.port}/0", ca=str(file), connect_timeout=0.5)
    with pytest.raises(UnreachableError, match="it can't be reached"):
        db.open()


# --- what is no Redis


def answering(said: bytes) -> Callable[[socket.socket], None]:
    def answer(peer: socket.socket) -> None:
        with suppress(OSError), peer:
            while data := peer.recv(65536):
                peer.sendall(said * (b"\r\n" + data).count(b"\r\n*"))  # to each command

    return answer


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak as Redis does"),
        (b"+OK\r\n", "the server is Redis (not told)"),
        (b"$46\r\nredis_version:6.2.14\r\nrole:master\r\nrun_id:abc\r\n\r\n", "Redis 6.2.14"),
        (b"$44\r\nredis_version:7.0.0\r\nrole:master\r\nloading:1\r\n\r\n", "still loading"),
        (b"$43\r\nredis_version:7.0.0\r\nredis_mode:sentinel\r\n\r\n", "a sentinel answers"),
        (b"-LOADING Redis is loading\r\n", "LOADING"),
    ],
)
def test_what_is_not_the_server_that_is_meant_is_refused(
    redis: Server, said: bytes, told: str
) -> None:
    head, _, body = said.partition(b"\r\n")
    if head.startswith(b"$"):  # with its true length
        body = body.removesuffix(b"\r\n")
        said = b"$%d\r\n%s\r\n" % (len(body), body)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve = answering(said)
        threading.Thread(target=lambda: serve(listener.accept()[0]), daemon=True).start()
        db = keys(redis).changed(url=f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(UnreachableError) as caught:
            db.open()
    assert told in caught.value.line


def test_nobody_there_is_said(redis: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    db = keys(redis).changed(url=f"redis://127.0.0.1:{port}")
    found = db.read("GET k")
    assert (found.outcome, found.sent, found.unreachable) == ("failed", False, True)
    assert "it can't be reached (Connection refused)" in found.reason
