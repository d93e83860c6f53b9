"""Uses the HTTP library: proxies, certificates, one request on one connection, and our own messages for its errors."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

from pytest_pyinstall.download._response import (
    HINT_OTHER_SERVER,
    STOPPED,
    Response,
    RetryPolicy,
    TransientError,
    in_short,
    proxy_refused,
)
from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.system.processes import thread_limit
from pytest_pyinstall.system.urls import redacted, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import httpcore2

__all__ = ["ClientOfTheCaller", "Connection", "HttpClient", "RawResponse", "Transport", "Transports", "quietly"]


class HttpClient(Protocol):
    """The methods that we use of an `httpx.Client` or an `httpx2.Client`."""

    def build_request(self, method: str, url: str, /) -> Any: ...
    def send(self, request: Any, /) -> Any: ...


class RawResponse(NamedTuple):
    """A response whose headers have arrived. `chunks` is its body as it arrives. `close` ends the request."""

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    chunks: Iterable[bytes]
    close: Callable[[], object]


class Transport(Protocol):
    """Sends one GET request. Raises the exceptions of its HTTP library."""

    def get(
        self, url: str, headers: Mapping[str, str], extensions: dict[str, Any], *, is_home: bool
    ) -> RawResponse: ...


class Transports:
    """A pool of `httpcore2` for each proxy, created when it is first used. Threads can share it.

    Trusts the certificates of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` in `environ`, otherwise those of the system.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._guard = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._transports: dict[tuple[str | None, bool], Transport] = {}

    def through(self, proxy: str | None, *, encrypted: bool) -> Transport:
        """The transport through `proxy`, or without a proxy if it is None.

        Raises `FetchError` if the certificates cannot be loaded, and `ValueError` or `ImportError` if the proxy cannot
        be used.
        """
        _hush()
        with self._guard:
            if (proxy, encrypted) not in self._transports:
                context = self._context if self._context and encrypted else _ssl_context(self._environ, encrypted)
                if encrypted:
                    self._context = context
                self._transports[proxy, encrypted] = _Pool(_pool(proxy, context))
            return self._transports[proxy, encrypted]


class ClientOfTheCaller:
    """An `httpx.Client` or `httpx2.Client`, with its authentication, proxies, certificates and HTTP/2.

    We follow redirects ourselves. If a redirect leads to another origin (`is_home` is false), only our own headers are
    sent, because those of the client may contain secrets.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client: Any = client

    def get(self, url: str, headers: Mapping[str, str], extensions: dict[str, Any], *, is_home: bool) -> RawResponse:
        client = self._client
        _hush()
        request = client.build_request("GET", url, headers=dict(headers), extensions=extensions)
        if is_home:
            response = client.send(request, stream=True, follow_redirects=False)
        else:
            ours = {"host", *(name.lower() for name in headers)}
            for name in [name for name in request.headers if name.lower() not in ours]:
                del request.headers[name]
            response = client.send(request, stream=True, follow_redirects=False, auth=None)
        return RawResponse(response.status_code, response.headers.raw, response.iter_raw(), response.close)


class _Pool:
    """A pool of httpcore2."""

    def __init__(self, pool: httpcore2.ConnectionPool) -> None:
        self._pool = pool

    def get(
        self,
        url: str,
        headers: Mapping[str, str],
        extensions: dict[str, Any],
        *,
        is_home: bool,  # noqa: ARG002  # this pool adds no headers of its own
    ) -> RawResponse:
        import httpcore2

        if not url.isprintable():
            msg = "control characters"
            raise ValueError(msg)
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.encode(), _host(parts.hostname or ""), parts.port
        target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        name = b"[%b]" % host if b":" in host else host
        if port not in {None, {"http": 80, "https": 443}.get(parts.scheme)}:
            name += b":%d" % port
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(scheme=scheme, host=host, port=port, target=target.encode("ascii")),
            headers=[
                (b"Host", name),
                *((key.encode("ascii"), value.encode("latin-1")) for key, value in headers.items()),
            ],
            extensions=extensions,
        )
        response = self._pool.handle_request(request)
        stream: Any = response.stream
        return RawResponse(response.status, response.headers, stream, response.close)


_SAFE = "!$%&'()*+,/:;=?@[]~"
"""Characters that stay as they are in the path and query of a URL. Percent-encoded ones stay encoded."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Suppress the HTTP library's log messages of this thread in the ``with`` block."""
    before, _silence.is_wanted = _silence.is_wanted, True
    try:
        yield
    finally:
        _silence.is_wanted = before


class _Silence(threading.local):
    is_wanted = False


_silence = _Silence()


def _ssl_context(environ: Mapping[str, str], encrypted: bool) -> ssl.SSLContext:
    import httpcore2

    if not encrypted:  # needs no certificates, and loading those of the system takes 25 ms
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, directory = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    if not file and not directory:
        # The system's certificates, not those of the process's own environment variables.
        try:
            return httpcore2.default_ssl_context(_trust_env=False)
        except (OSError, ssl.SSLError) as error:
            msg = f"cannot load the certificates of the system: {error.strerror or error}"
            raise FetchError(msg, hint="SSL_CERT_FILE=FILE names the certificates to trust") from error
    try:
        return ssl.create_default_context(cafile=file, capath=directory)
    except (OSError, ssl.SSLError) as error:
        msg = f"SSL_CERT_FILE={file or ''} SSL_CERT_DIR={directory or ''}: cannot load these certificates"
        raise FetchError(msg, hint="unset SSL_CERT_FILE SSL_CERT_DIR") from error


def _pool(proxy: str | None, context: ssl.SSLContext) -> httpcore2.ConnectionPool:
    import httpcore2

    # Each request has its own connection, so that its socket is known and can be shut down.
    limits: dict[str, Any] = {"max_connections": None, "max_keepalive_connections": 0, "ssl_context": context}
    if proxy is None:
        return httpcore2.ConnectionPool(**limits)
    parts = urlsplit(proxy)
    scheme, host, port = parts.scheme.lower(), _host(parts.hostname or ""), parts.port
    if not host:
        msg = "a proxy without a host"
        raise ValueError(msg)
    auth = None
    if parts.username or parts.password:
        auth = unquote(parts.username or "").encode(), unquote(parts.password or "").encode()
    url = httpcore2.URL(scheme=scheme.encode(), host=host, port=port, target=b"/")
    if scheme in {"http", "https"}:
        own = context if scheme == "https" else None
        return httpcore2.HTTPProxy(url, proxy_auth=auth, proxy_ssl_context=own, **limits)
    if scheme in {"socks5", "socks5h"}:
        import socksio  # noqa: F401  # so that ImportError is raised now, not during a request

        return httpcore2.SOCKSProxy(url, proxy_auth=auth, **limits)
    msg = f"{scheme} is not a kind of proxy"
    raise ValueError(msg)


def _host(name: str) -> bytes:
    """The host name as it is sent. Raises `ValueError` if it cannot be encoded."""
    return name.encode("ascii") if name.isascii() else name.encode("idna")


_LIBRARIES = ("httpcore2", "httpx2", "httpcore", "httpx")


_LOGGERS = (
    *_LIBRARIES,
    *(f"{name}.{part}" for name in _LIBRARIES[::2] for part in ("connection", "http11", "http2", "proxy", "socks")),
)


def _hush() -> None:
    """Filter our own requests out of the HTTP library's log, which contains URLs and headers with their secrets.

    The filter applies only to our calls, in the thread that makes them. Other users of the library keep their log.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_not_ours)


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _silence.is_wanted


T = TypeVar("T")


class Connection:
    """One request on one connection, which another thread can `cut`.

    `hidden` is a further URL whose secrets must not be shown. `stopped` is set when the response is no longer needed.
    """

    def __init__(
        self,
        *,
        url: str,
        proxy: str | None,
        transport: Transport | Transports,
        is_home: bool,
        limits: RetryPolicy,
        stopped: threading.Event,
        what: str,
        hidden: str,
    ) -> None:
        self._url = url
        self._proxy = proxy
        self._transport = transport
        self._is_home = is_home
        self._limits = limits
        self._stopped = stopped
        self._what = what
        self._hidden = secrets_in(url, hidden, proxy or "")
        self._stream: Any = None
        self._response: RawResponse | None = None
        self._is_late = False

    def send(self, headers: Mapping[str, str], deadline: float) -> Response:
        limits = self._limits
        left = max(0.001, deadline - limits.clock())
        timeout = {
            "connect": min(limits.connect, left),
            "read": min(limits.read, left),
            "write": min(limits.read, left),
        }
        transport = self._opened()
        # Each byte of the headers restarts the read timeout. This timer limits the time for all of them.
        alarm = threading.Timer(min(limits.headers, left), self._expire)
        alarm.daemon = True
        with thread_limit():
            alarm.start()
        all_headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "pytest-pyinstall", **headers}
        extensions = {"timeout": timeout, "trace": self._trace}
        try:
            response = self._guarded(lambda: transport.get(self._url, all_headers, extensions, is_home=self._is_home))
        finally:
            alarm.cancel()
        self._response = response
        lowered = _joined(response.headers)
        return Response(url=self._url, status=response.status, headers=lowered, chunks=self._chunks(response))

    def close(self) -> None:
        if self._response is not None:
            with contextlib.suppress(Exception), quietly():  # the rest of its body is not needed
                self._response.close()

    def cut(self) -> None:
        """End the connection. This wakes a thread that waits for its bytes, which closing the socket would not."""
        with contextlib.suppress(OSError, AttributeError):
            # Not `shutdown` of SSLSocket, after which the connection could continue unencrypted.
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def _chunks(self, response: RawResponse) -> Iterator[bytes]:
        # Without a chunk size, because a slow server would need hours for the first whole chunk.
        chunks = iter(response.chunks)
        while (chunk := self._guarded(lambda: next(chunks, None))) is not None:
            yield chunk

    def _guarded(self, call: Callable[[], T]) -> T:
        """The result of a call to the HTTP library. Its exceptions are converted to ours."""
        try:
            with quietly():
                return call()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # the hooks and transports of a caller's client can raise anything
            fault = self._fault(error)
        raise fault  # outside of the handler, because `__context__` would keep an error that may contain secrets

    def _opened(self) -> Transport:
        if not isinstance(self._transport, Transports):
            return self._transport
        with contextlib.suppress(ValueError, ImportError):
            encrypted = self._url.startswith("https:") or (self._proxy or "").lower().startswith("https:")
            return self._transport.through(self._proxy, encrypted=encrypted)
        msg = f"{self._what}: this proxy cannot be used: {redacted(self._proxy or '')}"
        raise FetchError(msg, hint='HTTPS_PROXY=http://host:port; socks5:// needs: pip install "httpcore2[socks]"')

    def _trace(self, _: str, event: dict[str, Any]) -> None:
        if hasattr(stream := event.get("return_value"), "get_extra_info"):
            self._stream = stream
        if self._stopped.is_set() or self._is_late:
            self.cut()

    def _expire(self) -> None:
        self._is_late = True
        self.cut()

    def _fault(self, error: Exception) -> Exception:
        fault = self._named(error)
        texts = " ".join(str(link) for link in _chain(error))
        # A caller's client may have secrets that we do not know.
        if isinstance(self._transport, Transports) and not any(hidden in texts for hidden in self._hidden):
            fault.__cause__ = error
        return fault

    def _named(self, error: Exception) -> Exception:
        """Our own error for `error`, whose message may contain the URL, a header or the proxy's password."""
        where = redacted(self._url) + (f" through the proxy {redacted(self._proxy)}" if self._proxy else "")
        links = list(_chain(error))
        untrusted = next((link for link in links if isinstance(link, ssl.SSLCertVerificationError)), None)
        if self._stopped.is_set():
            return FetchError(STOPPED)
        kinds = _kinds(error)
        if "ProxyError" in kinds:
            return proxy_refused(str(error)[:3], where, self._what)
        if untrusted is not None:
            return FetchError(
                in_short(f"{self._what}: the certificate of {where} is not trusted: {untrusted.verify_message}"),
                hint="SSL_CERT_FILE=FILE names the certificates to trust, such as those of a company's proxy",
            )
        if isinstance(error, OSError) or kinds & {"TimeoutException", "NetworkError", "RemoteProtocolError"}:
            spelled = next((_spelled(link) for link in links if isinstance(link, OSError)), "")
            # Without a network no name can be resolved, and a wrong name stays wrong: report it soon.
            is_nameless = any(isinstance(link, socket.gaierror) for link in links)
            # A server without TLS, or another service on that port.
            is_plain = any(isinstance(link, ssl.SSLError) and link.reason in _NO_TLS for link in links)
            return TransientError(
                f"{self._symptom(error, spelled)}, {where}",
                hint="the server does not speak https; is http:// meant?" if is_plain and not self._proxy else "",
                attempts=2 if is_nameless or is_plain else None,
            )
        msg = in_short(f"{self._what}: cannot request {where}: {type(error).__name__}")
        return FetchError(msg, hint=HINT_OTHER_SERVER)

    def _symptom(self, error: Exception, spelled: str) -> str:
        limits, kinds = self._limits, _kinds(error)
        if self._is_late:
            return f"no complete response within {limits.headers:g} s"
        if "ConnectTimeout" in kinds:
            return f"no connection within {limits.connect:g} s"
        if "ConnectError" in kinds:
            return f"no connection: {spelled or 'refused'}"
        if "TimeoutException" in kinds:
            return f"no data for {limits.read:g} s"
        return f"the connection broke: {spelled or 'it ended early'}"


_NO_TLS = {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"}
"""What the versions of OpenSSL say if the answer is not TLS."""


def _kinds(error: Exception) -> set[str]:
    """The names of the error's classes, which are the same in `httpcore2`, `httpx2` and `httpx`."""
    return {kind.__name__ for kind in type(error).__mro__}


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers by lower-case name. Several values of one name become a list (RFC 9110, section 5.3)."""
    joined: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _spelled(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host" if error.errno == socket.EAI_NONAME else "its name cannot be looked up"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'failed'}"
    return os.strerror(error.errno) if error.errno else ""
