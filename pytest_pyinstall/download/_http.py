"""The HTTP library: connections to where a proxy leads, certificates, and silence in its log.

One request on one connection, and its failures in our words.
"""

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
    proxy_refused,
)
from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.system.urls import redacted, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import httpcore2

__all__ = ["ClientOfTheCaller", "Connection", "HttpClient", "RawResponse", "Transport", "Transports", "quietly"]


class HttpClient(Protocol):
    """What we use of an `httpx.Client` or an `httpx2.Client`."""

    def build_request(self, method: str, url: str, /) -> Any: ...
    def send(self, request: Any, /) -> Any: ...


class RawResponse(NamedTuple):
    """The start of a response; `chunks` is its body as it comes, and `close` ends it."""

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    chunks: Iterable[bytes]
    close: Callable[[], object]


class Transport(Protocol):
    """Sends one GET request. Its exceptions are those of its HTTP library."""

    def get(
        self, url: str, headers: Mapping[str, str], extensions: dict[str, Any], *, is_home: bool
    ) -> RawResponse: ...


class Transports:
    """The ways to the servers, made when first asked for: a pool of `httpcore2` for each proxy.

    From `environ` come ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``; otherwise the certificates are the system's. Threads may
    share it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._guard = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._transports: dict[tuple[str | None, bool], Transport] = {}

    def through(self, proxy: str | None, *, encrypted: bool) -> Transport:
        """The one that leads through `proxy`, directly if None.

        Raises `FetchError` for certificates that cannot be loaded, and `ValueError` or `ImportError` for a proxy that
        cannot be used.
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

    Redirects are ours to follow. To another origin than the first (`is_home` is false) go our own headers alone:
    whatever of the client's could be a secret stays behind.
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
        is_home: bool,  # noqa: ARG002  # nothing of ours goes along to anyone
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
"""What may are in a URL's path and query as it is; what is percent-encoded already stays so."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what this thread does in the ``with`` block out of the library's log."""
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

    if not encrypted:  # trusts no one; loading the system's certificates takes 25 ms
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, directory = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    if not file and not directory:
        # The system's certificates; not those that the process's own environment names.
        return httpcore2.default_ssl_context(_trust_env=False)
    try:
        return ssl.create_default_context(cafile=file, capath=directory)
    except (OSError, ssl.SSLError) as error:
        msg = f"SSL_CERT_FILE={file or ''} SSL_CERT_DIR={directory or ''}: cannot load these certificates"
        raise FetchError(msg, hint="unset SSL_CERT_FILE SSL_CERT_DIR") from error


def _pool(proxy: str | None, context: ssl.SSLContext) -> httpcore2.ConnectionPool:
    import httpcore2

    # Each request has a connection of its own, so that its socket is known and can be cut.
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
        import socksio  # noqa: F401  # raises ImportError now, not in the middle of a request

        return httpcore2.SOCKSProxy(url, proxy_auth=auth, **limits)
    msg = f"{scheme} is no kind of proxy"
    raise ValueError(msg)


def _host(name: str) -> bytes:
    """A host's name as it goes over the wire. Raises `ValueError` for one that cannot."""
    return name.encode("ascii") if name.isascii() else name.encode("idna")


_LIBRARIES = ("httpcore2", "httpx2", "httpcore", "httpx")


_LOGGERS = (
    *_LIBRARIES,
    *(f"{name}.{part}" for name in _LIBRARIES[::2] for part in ("connection", "http11", "http2", "proxy", "socks")),
)


def _hush() -> None:
    """Let our own requests leave no word in the HTTP library's log, which has URLs and headers as they are.

    A filter on its loggers, for what happens in our threads during our calls: others who use the library keep theirs.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_not_ours)


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _silence.is_wanted


T = TypeVar("T")


class Connection:
    """One request on one connection, which can be cut from another thread.

    `hidden` is a URL whose secrets must not be shown either; `stopped` is set when no one wants the answer any more.
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

    def send(self, headers: Mapping[str, str], until: float) -> Response:
        limits = self._limits
        left = max(0.001, until - limits.clock())
        timeout = {
            "connect": min(limits.connect, left),
            "read": min(limits.read, left),
            "write": min(limits.read, left),
        }
        transport = self._opened()
        # The read time-out begins anew with each byte of the headers; this one does not.
        alarm = threading.Timer(min(limits.headers, left), self._expire)
        alarm.daemon = True
        alarm.start()
        all_headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "pytest-pyinstall", **headers}
        extensions = {"timeout": timeout, "trace": self._trace}
        try:
            response = self._foreign(lambda: transport.get(self._url, all_headers, extensions, is_home=self._is_home))
        finally:
            alarm.cancel()
        self._response = response
        lowered = _joined(response.headers)
        return Response(url=self._url, status=response.status, headers=lowered, chunks=self._chunks(response))

    def close(self) -> None:
        if self._response is not None:
            with contextlib.suppress(Exception), quietly():  # what is left of its body is of no interest any more
                self._response.close()

    def cut(self) -> None:
        """End it. The process that waits for its bytes wakes up; closing would leave them waiting."""
        with contextlib.suppress(OSError, AttributeError):
            # Not the method of an SSLSocket: that would go on in clear text.
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def _chunks(self, response: RawResponse) -> Iterator[bytes]:
        # Without a chunk size: with one it would collect a trickle for hours before we saw the first byte.
        chunks = iter(response.chunks)
        while (chunk := self._foreign(lambda: next(chunks, None))) is not None:
            yield chunk

    def _foreign(self, call: Callable[[], T]) -> T:
        """The result of a call into the HTTP library, its exceptions turned into ours."""
        try:
            with quietly():
                return call()
        except Exception as error:  # noqa: BLE001  # a caller's client has hooks and transports of its own
            fault = self._fault(error)
        raise fault  # outside of the handler: the context would keep what the cause must not show

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
        # What a caller's client holds that must not be shown, we cannot know.
        if isinstance(self._transport, Transports) and not any(hidden in texts for hidden in self._hidden):
            fault.__cause__ = error
        return fault

    def _named(self, error: Exception) -> Exception:
        """What happened, in our words: the library's may hold the URL, a header or the proxy's password."""
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
                f"{self._what}: the certificate of {where} is not trusted: {untrusted.verify_message}",
                hint="SSL_CERT_FILE=FILE names the certificates to trust, such as those of a company's proxy",
            )
        if isinstance(error, OSError) or kinds & {"TimeoutException", "NetworkError", "RemoteProtocolError"}:
            spelled = next((_spelled(link) for link in links if isinstance(link, OSError)), "")
            # Without a network no name is known, and a name that is wrong stays so: the process that waits is told
            # soon.
            is_nameless = any(isinstance(link, socket.gaierror) for link in links)
            return TransientError(f"{self._symptom(error, spelled)}, {where}", attempts=2 if is_nameless else None)
        return FetchError(f"{self._what}: cannot ask {where}: {type(error).__name__}", hint=HINT_OTHER_SERVER)

    def _symptom(self, error: Exception, spelled: str) -> str:
        limits, kinds = self._limits, _kinds(error)
        if self._is_late:
            return f"no complete answer within {limits.headers:g} s"
        if "ConnectTimeout" in kinds:
            return f"no connection within {limits.connect:g} s"
        if "ConnectError" in kinds:
            return f"no connection: {spelled or 'refused'}"
        if "TimeoutException" in kinds:
            return f"nothing came for {limits.read:g} s"
        return f"the connection broke: {spelled or 'it ended early'}"


def _kinds(error: Exception) -> set[str]:
    """What kind of failure it is: `httpcore2`, `httpx2` and `httpx` have the same names for them."""
    return {kind.__name__ for kind in type(error).__mro__}


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names in lower case; the values of one that comes several times, as one list (RFC 9110, section 5.3)."""
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
