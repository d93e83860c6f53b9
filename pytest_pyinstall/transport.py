"""The HTTP library: connections to where a proxy leads, certificates, and silence in its log."""

import contextlib
import logging
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import FetchError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Transports", "quietly"]


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

    def through(self, proxy: str | None, *, encrypted: bool) -> "httpx2.HTTPTransport":
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


def _proxy(url: str | None, context: ssl.SSLContext) -> "httpx2.Proxy | None":
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
