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
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_pyinstall.download._response import ELSEWHERE, STOPPED, Answer, Limits, PassingError, proxy_refused
from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.system.urls import redacted, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx2

__all__ = ["Connection", "Transports", "quietly"]


class Transports:
    """Connections to where a proxy leads, made when first asked for.

    Not `httpx2.Client`, which brings cookies, the process's environment and a log. From `environ` come
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``; otherwise the certificates are the system's. Threads may share it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._guard = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._transports: dict[tuple[str | None, bool], httpx2.HTTPTransport] = {}

    def through(self, proxy: str | None, *, encrypted: bool) -> httpx2.HTTPTransport:
        """The one that leads through `proxy`, directly if None. Raises `FetchError` for certificates that are none."""
        import httpx2

        _hush()
        with self._guard:
            if (proxy, encrypted) not in self._transports:
                context = self._context if self._context and encrypted else _ssl_context(self._environ, encrypted)
                if encrypted:
                    self._context = context
                self._transports[proxy, encrypted] = httpx2.HTTPTransport(
                    verify=context,
                    trust_env=False,
                    # Each request has a connection of its own, so that its socket is known and can be cut.
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
                    proxy=_proxy(proxy, context),
                )
            return self._transports[proxy, encrypted]


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
    import httpx2

    if not encrypted:  # trusts nobody; loading the system's certificates takes 25 ms
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, directory = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    if not file and not directory:
        return httpx2.create_ssl_context(trust_env=False)  # the system's certificates
    try:
        return ssl.create_default_context(cafile=file, capath=directory)
    except (OSError, ssl.SSLError) as error:
        msg = f"SSL_CERT_FILE={file or ''} SSL_CERT_DIR={directory or ''}: cannot load these certificates"
        raise FetchError(msg, hint="unset SSL_CERT_FILE SSL_CERT_DIR") from error


def _proxy(url: str | None, context: ssl.SSLContext) -> httpx2.Proxy | None:
    import httpx2

    if url is None:
        return None
    return httpx2.Proxy(url, ssl_context=context if url.lower().startswith("https:") else None)


_LOGGERS = (
    "httpx2",
    "httpcore2",
    *(f"httpcore2.{name}" for name in ("connection", "http11", "http2", "proxy", "socks")),
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

    `hidden` is a URL whose secrets must not be shown either; `stopped` is set when nobody wants the answer any more.
    """

    def __init__(
        self,
        *,
        url: str,
        proxy: str | None,
        transports: Transports,
        limits: Limits,
        stopped: threading.Event,
        what: str,
        hidden: str,
    ) -> None:
        self._url = url
        self._proxy = proxy
        self._transports = transports
        self._limits = limits
        self._stopped = stopped
        self._what = what
        self._hidden = secrets_in(url, hidden, proxy or "")
        self._stream: Any = None
        self._response: httpx2.Response | None = None
        self._is_late = False

    def send(self, headers: Mapping[str, str], until: float) -> Answer:
        limits = self._limits
        left = max(0.001, until - limits.clock())
        timeout = {
            "connect": min(limits.connect, left),
            "read": min(limits.read, left),
            "write": min(limits.read, left),
        }
        transport = self._transport()
        # The read time-out begins anew with each byte of the headers; this one does not.
        alarm = threading.Timer(min(limits.headers, left), self._expire)
        alarm.daemon = True
        alarm.start()
        try:
            response = self._foreign(lambda: self._handle(transport, headers, timeout))
        finally:
            alarm.cancel()
        self._response = response
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(url=self._url, status=response.status_code, headers=lowered, chunks=self._chunks(response))

    def close(self) -> None:
        if self._response is not None:
            with contextlib.suppress(Exception), quietly():  # what is left of its body is of no interest any more
                self._response.close()

    def cut(self) -> None:
        """End it. Whoever waits for its bytes wakes up; closing would leave them waiting."""
        with contextlib.suppress(OSError, AttributeError):
            # Not the method of an SSLSocket: that would go on in clear text.
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        # Without a chunk size: with one it would collect a trickle for hours before we saw the first byte.
        chunks = response.iter_raw()
        while (chunk := self._foreign(lambda: next(chunks, None))) is not None:
            yield chunk

    def _foreign(self, call: Callable[[], T]) -> T:
        """The result of a call into the HTTP library, its exceptions turned into ours."""
        import httpx2

        try:
            with quietly():
                return call()
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
            fault = self._fault(error)
        raise fault  # outside of the handler: the context would keep what the cause must not show

    def _transport(self) -> httpx2.HTTPTransport:
        import httpx2

        with contextlib.suppress(ValueError, ImportError, httpx2.InvalidURL):
            encrypted = self._url.startswith("https:") or (self._proxy or "").lower().startswith("https:")
            return self._transports.through(self._proxy, encrypted=encrypted)
        msg = f"{self._what}: this proxy cannot be used: {redacted(self._proxy or '')}"
        raise FetchError(msg, hint='HTTPS_PROXY=http://host:port; socks5:// needs: pip install "httpx2[socks]"')

    def _handle(
        self, transport: httpx2.HTTPTransport, headers: Mapping[str, str], timeout: dict[str, float]
    ) -> httpx2.Response:
        import httpx2

        request = httpx2.Request(
            "GET",
            self._url,
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "pytest-pyinstall", **headers},
            extensions={"timeout": timeout, "trace": self._trace},
        )
        return transport.handle_request(request)

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
        if not any(hidden in texts for hidden in self._hidden):
            fault.__cause__ = error
        return fault

    def _named(self, error: Exception) -> Exception:
        """What happened, in our words: the library's may hold the URL, a header or the proxy's password."""
        import httpx2

        where = redacted(self._url) + (f" through the proxy {redacted(self._proxy)}" if self._proxy else "")
        links = list(_chain(error))
        untrusted = next((link for link in links if isinstance(link, ssl.SSLCertVerificationError)), None)
        if self._stopped.is_set():
            return FetchError(STOPPED)
        if isinstance(error, httpx2.ProxyError):
            return proxy_refused(str(error)[:3], where, self._what)
        if untrusted is not None:
            return FetchError(
                f"{self._what}: the certificate of {where} is not trusted: {untrusted.verify_message}",
                hint="SSL_CERT_FILE=FILE names the certificates to trust, such as those of a company's proxy",
            )
        if isinstance(error, (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, OSError)):
            spelled = next((_spelled(link) for link in links if isinstance(link, OSError)), "")
            # Without a network no name is known, and a name that is wrong stays so: whoever waits is told soon.
            is_nameless = any(isinstance(link, socket.gaierror) for link in links)
            return PassingError(f"{self._symptom(error, spelled)}, {where}", attempts=2 if is_nameless else None)
        return FetchError(f"{self._what}: cannot ask {where}: {type(error).__name__}", hint=ELSEWHERE)

    def _symptom(self, error: Exception, spelled: str) -> str:
        import httpx2

        limits = self._limits
        if self._is_late:
            return f"no complete answer within {limits.headers:g} s"
        if isinstance(error, httpx2.ConnectTimeout):
            return f"no connection within {limits.connect:g} s"
        if isinstance(error, httpx2.ConnectError):
            return f"no connection: {spelled or 'refused'}"
        if isinstance(error, httpx2.TimeoutException):
            return f"nothing came for {limits.read:g} s"
        return f"the connection broke: {spelled or 'it ended early'}"


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
