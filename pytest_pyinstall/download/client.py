"""The HTTP client: the only module that opens URLs.

It retries what can succeed later, and lets no secret reach another server, a message or a log.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pytest_pyinstall.download._http import ClientOfTheCaller, Connection, HttpClient, Transport, Transports
from pytest_pyinstall.download._response import (
    HINT_OTHER_SERVER,
    HINT_RETRY,
    STOPPED,
    Response,
    RetryPolicy,
    TransientError,
    UnreachableError,
    error_for_status,
    in_short,
    with_hosts,
)
from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.system.log import StepLogger
from pytest_pyinstall.system.urls import (
    basic_authorization,
    is_local,
    is_loopback,
    origin,
    proxy_for,
    redacted,
    resolve_redirect,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Client", "HttpClient", "open_client", "retry"]


T = TypeVar("T")


_RETRY_LOGGER = StepLogger(__name__)


def retry(
    attempt: Callable[[], T],
    *,
    client: Client,
    deadline: float,
    attempts: int,
    what: str,
    waiting: Callable[[str], None],
    reached: Callable[[], int] = lambda: 0,
) -> T:
    """Call `attempt`, and repeat it while it fails with a `TransientError`."""
    limits = client.limits
    failures, tries, furthest = 0, 0, reached()
    while True:
        tries += 1
        try:
            return attempt()
        except TransientError as error:
            fault = error
        failures += 1
        if reached() >= furthest + limits.worth:
            failures, furthest = 1, reached()
        import random  # most processes see no failure

        jitter = limits.jitter or random.random
        pause = min(limits.backoff * 2 ** (failures - 1), limits.longest_backoff) * (0.5 + jitter() / 2)
        if fault.retry_after is not None:
            pause = max(pause, min(fault.retry_after, limits.longest_retry_after))
        if failures >= min(attempts, fault.attempts or attempts):
            break
        if limits.clock() + pause >= deadline:
            fault.reason += f"; gave up after {limits.total:g} s in all"
            break
        reason = with_hosts(fault.reason)
        if client.is_news(reason, pause):
            waiting(f"{reason}; trying again in {pause:.1f} s")
        _RETRY_LOGGER.info("%s: %s; attempt %d follows in %.1f s", what, fault.reason, tries + 1, pause)
        client.pause(pause)
    first, *more = in_short(f"{what}: {fault.reason}").split("\n")
    first += f" ({tries} attempts)" if tries > 1 else ""
    raise UnreachableError("\n".join([first, *more]), hint=fault.hint or HINT_RETRY) from fault.__cause__


_LOGGER = StepLogger(__name__)


@contextlib.contextmanager
def open_client(
    *,
    environ: Mapping[str, str],
    insecure_hosts: frozenset[str] = frozenset(),
    limits: RetryPolicy | None = None,
    warn: Callable[[str], None] | None = None,
    http: HttpClient | None = None,
) -> Iterator[Client]:
    """A `Client` for the ``with`` block. Opens no connection and imports nothing until the first request."""
    client = Client(
        environ=environ, insecure_hosts=insecure_hosts, limits=limits or RetryPolicy(), warn=warn, http=http
    )
    try:
        yield client
    finally:
        client.stop()


class Client:
    """Sends requests for all threads of a session, which can download at the same time.

    `environ` has the proxies (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``, in lower or upper case),
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``; without the last two, the system's certificates are used. Nothing is read
    from the process's own environment. No netrc and no token is used: a server receives only the user and password of
    its own URL. Requests to loopback use no proxy.

    `insecure_hosts` (``host`` or ``host:port``) are allowed over plain http; `warn` is called once for each.

    If `http` is given, that `httpx.Client` or `httpx2.Client` sends the requests, with its own proxies, certificates
    and authentication instead of those in `environ`. It is not closed.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        insecure_hosts: frozenset[str] = frozenset(),
        limits: RetryPolicy,
        warn: Callable[[str], None] | None = None,
        http: HttpClient | None = None,
    ) -> None:
        self.limits = limits
        self.has_partial = False
        """Whether a download has ended early, and its partial file is kept so that it can be resumed."""
        self._environ = environ
        self._insecure_hosts = frozenset(host.lower() for host in insecure_hosts)
        self._warn = warn
        self._warned: set[str] = set()
        self._quiet_until: dict[str, float] = {}
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._transport: Transport | Transports = ClientOfTheCaller(http) if http else Transports(environ)
        self._connections: set[Connection] = set()

    def warn(self, text: str) -> None:
        """Warn, once for each text."""
        with self._guard:
            is_new = text not in self._warned
            self._warned.add(text)
        if is_new and self._warn is not None:
            self._warn(text)

    def is_news(self, reason: str, seconds: float) -> bool:
        """Whether no other thread waits for the same `reason` now. Then the caller's wait of `seconds` is said."""
        now = self.limits.clock()
        with self._guard:
            is_new = now >= self._quiet_until.get(reason, now)
            if is_new:
                self._quiet_until[reason] = now + seconds
        return is_new

    def warm_up(self, url: str) -> None:
        """Start a thread that imports the HTTP library and loads the certificates for the first request to `url`."""
        transports = self._transport
        if not isinstance(transports, Transports) or is_local(url):
            return

        def begin() -> None:
            with contextlib.suppress(Exception):  # the request itself will raise it
                transports.through(None, encrypted=url.startswith("https:"))

        with contextlib.suppress(RuntimeError):  # the limit of processes is reached
            threading.Thread(target=begin, name="pytest-pyinstall-http", daemon=True).start()

    def stop(self) -> None:
        """End all running downloads, in any thread, at once: each raises `FetchError`. For Ctrl-C."""
        self._stopped.set()
        with self._guard:
            connections = list(self._connections)
        for connection in connections:
            connection.cut()

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def pause(self, seconds: float) -> None:
        """Wait. Raises `FetchError` if `stop` is called meanwhile."""
        if self.limits.sleep is not None:
            self.limits.sleep(seconds)
        else:
            self._stopped.wait(seconds)
        self._check_stopped()

    def wait_for_peer(self, seconds: float) -> None:
        """Wait for another process, in real time."""
        self._stopped.wait(seconds)
        self._check_stopped()

    @contextlib.contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], *, deadline: float, accept: set[int], what: str
    ) -> Iterator[Response]:
        """The response to a GET, after at most five redirects, with a status in `accept`. Its body is not read yet.

        Raises `TransientError` if a retry can help, otherwise `FetchError`, whose message begins with `what`. Neither
        exceptions nor messages of the HTTP library leave this method: they contain URLs with their secrets.
        """
        parts = self._permitted(url, None, what)
        home, authorization, is_home = origin(parts), basic_authorization(parts), True
        for hop in range(self.limits.redirects + 1):
            bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
            connection = Connection(
                url=bare,
                proxy=proxy_for(parts, self._environ) if isinstance(self._transport, Transports) else None,
                transport=self._transport,
                is_home=is_home,
                limits=self.limits,
                stopped=self._stopped,
                what=what,
                hidden=url,
            )
            with self._guard:
                self._connections.add(connection)
            try:
                response = connection.send(
                    {**headers, **({"Authorization": authorization} if authorization else {})}, deadline
                )
                location = response.headers.get("location", "")
                _LOGGER.debug("GET %s: %d", redacted(bare), response.status)
                if response.status not in {301, 302, 303, 307, 308} or not location:
                    if response.status not in accept:
                        raise error_for_status(response, what, self.limits)
                    yield response
                    return
            finally:
                connection.close()
                with self._guard:
                    self._connections.discard(connection)
            if hop < self.limits.redirects:
                parts = self._permitted(resolve_redirect(bare, location), parts, what)
                if origin(parts) != home:
                    authorization, is_home = "", False  # even if a later hop leads back
        msg = in_short(f"{what}: more than {self.limits.redirects} redirects from {redacted(url)}")
        raise FetchError(msg, hint=HINT_OTHER_SERVER)

    def _permitted(self, url: str, previous: SplitResult | None, what: str) -> SplitResult:
        """The parts of a URL, if it is allowed."""
        redirect = f"{redacted(urlunsplit(previous))} redirects to " if previous is not None else ""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            host = ""
        if not host or parts.scheme not in {"https", "http"} or redacted(url).endswith("://***"):
            msg = f"{what}: this is not a URL to download from: {redirect}{redacted(url)}"
            raise FetchError(msg, hint="only https:// URLs, directories and file:// URLs can be used")
        if parts.scheme == "http":
            named = bool({host, f"{host}:{port or 80}"} & self._insecure_hosts)
            if not named and ((previous is not None and previous.scheme == "https") or not is_loopback(host)):
                msg = f"{what}: unencrypted http is not allowed: {redirect}{redacted(url)}"
                hint = f"to trust {host} anyway: PYTEST_PYINSTALL_INSECURE_HOST={host}"
                raise FetchError(msg, hint=hint)
            if named and not is_loopback(host):
                self.warn(f"using unencrypted http for {host} (PYTEST_PYINSTALL_INSECURE_HOST)")
        return parts

    def _check_stopped(self) -> None:
        if self.is_stopped:
            raise FetchError(STOPPED)
