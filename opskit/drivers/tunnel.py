"""HTTP through a host's SSH connection, for what only that host can reach."""

import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import httpcore
import httpx

from opskit.drivers.wire import Pipe

_CHUNK = 64 * 1024


Open = Callable[[str, int, float], Pipe]
"""Connect to host and port from the far end, within seconds; OSError when that fails."""


class _Stream(httpcore.NetworkStream):
    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._pipe.settimeout(timeout)
        try:
            return self._pipe.recv(max_bytes)
        except TimeoutError:
            raise httpcore.ReadTimeout from None
        except OSError as error:
            raise httpcore.ReadError(str(error)) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._pipe.settimeout(timeout)
        try:
            self._pipe.sendall(buffer)
        except TimeoutError:
            raise httpcore.WriteTimeout from None
        except OSError as error:
            raise httpcore.WriteError(str(error)) from None

    def close(self) -> None:
        self._pipe.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Tls(self, ssl_context, server_hostname, timeout)


class _Tls(httpcore.NetworkStream):
    """TLS over a stream that is no socket."""

    def __init__(
        self, inner: _Stream, context: ssl.SSLContext, name: str | None, timeout: float | None
    ) -> None:
        self._inner = inner
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        try:
            self._drive(self._tls.do_handshake, timeout)
        except (ssl.SSLError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            # Whatever goes wrong before the request is sent is no connection.
            inner.close()
            raise httpcore.ConnectError(str(error) or type(error).__name__) from None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: list[bytes] = []
        try:
            self._drive(lambda: data.append(self._tls.read(max_bytes)), timeout)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise httpcore.ReadError(str(error)) from None
        return data[0]

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        sent = 0

        def step() -> None:
            nonlocal sent
            sent += self._tls.write(buffer[sent : sent + _CHUNK])

        while sent < len(buffer):
            self._drive(step, timeout)

    def close(self) -> None:
        self._inner.close()

    def _drive(self, step: Callable[[], object], timeout: float | None) -> None:
        """Do a step of TLS, moving bytes both ways as long as it asks for them."""
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._flush(timeout)
                data = self._inner.read(_CHUNK, timeout)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
                continue
            self._flush(timeout)
            return

    def _flush(self, timeout: float | None) -> None:
        if self._out.pending:
            self._inner.write(self._out.read(), timeout)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, connect: Open) -> None:
        self._connect = connect

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> httpcore.NetworkStream:
        del local_address, socket_options
        try:
            return _Stream(self._connect(host, port, timeout if timeout is not None else 30.0))
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes], pool: httpcore.ConnectionPool) -> None:
        self._stream = stream
        self._pool = pool

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._stream

    def close(self) -> None:
        self._pool.close()


class HostTransport(httpx.BaseTransport):
    """Makes one request over a connection that the host opens."""

    def __init__(self, connect: Open, context: ssl.SSLContext | None) -> None:
        self._connect = connect
        self._context = context

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        pool = httpcore.ConnectionPool(
            ssl_context=self._context,
            network_backend=_Backend(self._connect),
            max_keepalive_connections=0,
        )
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = pool.handle_request(asked)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream, pool),
            extensions=answer.extensions,
        )


_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.TimeoutException, httpx.ReadTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError),
    (httpcore.ProtocolError, httpx.RemoteProtocolError),
    (httpcore.NetworkError, httpx.ReadError),
)


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for theirs, ours in _ERRORS:
            if isinstance(error, theirs):
                raise ours(str(error)) from None
        raise
