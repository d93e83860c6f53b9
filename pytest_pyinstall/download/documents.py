"""Downloads catalogues. A cached copy is used if the server confirms it, or cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyinstall.download._response import HINT_PAGE, HINT_RETRY, UnreachableError, looks_like_a_page
from pytest_pyinstall.download.client import Client, retry
from pytest_pyinstall.download.document_cache import CachedDocument
from pytest_pyinstall.download.local import CATALOGUE, read_local, too_long
from pytest_pyinstall.errors import CatalogueError, FetchError, OfflineError
from pytest_pyinstall.system.log import StepLogger
from pytest_pyinstall.system.urls import is_local, redacted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["fetch_text", "revalidate"]


_LOGGER = StepLogger(__name__)


_HINT_OTHER = "another catalogue: --python-catalogue FILE or URL"


_HINT_RETRY = f"try again later; {_HINT_OTHER}; a proxy: HTTPS_PROXY=http://host:port"


def revalidate(kept: CachedDocument, url: str, client: Client, deadline: float, what: str) -> bytes:
    """The server's current document, which is cached, or the cached copy if the server says that it is the same."""
    headers = {}
    if kept.body is not None and kept.etag:
        headers = {"If-None-Match": kept.etag}
    elif kept.body is not None and kept.modified:
        headers = {"If-Modified-Since": kept.modified}
    limits, accept = client.limits, {200, 304} if headers else {200}
    with client.get(url, headers, deadline=deadline, accept=accept, what=what) as response:
        if response.status == 304 and kept.body is not None:
            kept.confirm(limits.wall_clock())
            return kept.body
        body = bytearray()
        for chunk in response.iter_body(limits, deadline):
            body += chunk
            if len(body) > limits.catalogue_size:
                raise too_long(url, limits)
        if response.is_page or looks_like_a_page(bytes(body[:256])):
            msg = f"{what}: {redacted(url)} returned an HTML page instead"
            raise CatalogueError(msg, hint=HINT_PAGE)
        kept.save(bytes(body), response, limits.wall_clock())
        return bytes(body)


def fetch_text(
    url: str,
    *,
    client: Client,
    cache: Path,
    offline: bool = False,
    what: str = CATALOGUE,
    max_age: float = 0.0,
    attempts: int | None = None,
    on_retry: Callable[[], object] = lambda: None,
) -> bytes:
    """Read a catalogue from `url` (https, http, file, or a path), at most 64 MiB.

    `what` is the beginning of error messages. `on_retry` is called before the message about each other attempt.

    A document from http(s) is kept below the cache. If the copy is older than `max_age` seconds, it is requested
    with its ETag, at most `attempts` times. If the server cannot be reached, the copy is used with a warning; if
    `offline` is set, without one. The cache need not be writable. Raises `OfflineError`, `FetchError`, and
    `CatalogueError` for a document that is too long. Several processes can call it at once.
    """
    _LOGGER.debug("reading the catalogue %s", redacted(url))
    if is_local(url):
        return read_local(url, client.limits, what)
    kept = CachedDocument.load(cache, url, warn=client.warn)
    if offline:
        if kept.body is None:
            msg = f"this catalogue is not in the cache, and downloads are switched off: {redacted(url)}"
            raise OfflineError(msg, hint="UV_OFFLINE=0, or --python-catalogue FILE")
        return kept.body
    if kept.body is not None and 0 <= client.limits.wall_clock() - kept.since < max_age:
        return kept.body
    deadline = client.limits.clock() + client.limits.total
    attempts = min(attempts or client.limits.attempts, client.limits.attempts)
    attempts = attempts if kept.body is None else min(2, attempts)

    def waiting(reason: str) -> None:
        on_retry()
        client.warn(f"catalogue: {reason}")

    try:
        return retry(
            lambda: revalidate(kept, url, client, deadline, what),
            client=client,
            deadline=deadline,
            attempts=attempts,
            what=what,
            waiting=waiting,
        )
    except FetchError as error:
        if not isinstance(error, UnreachableError) or kept.body is None:
            if "--python-mirror" in error.hint and not what.startswith("cannot download the attestation"):
                # A mirror has archives; the catalogue is configured on its own.
                hint = _HINT_RETRY if error.hint == HINT_RETRY else _HINT_OTHER
                raise type(error)(error.message, hint=hint) from error
            raise
        reason = error.message.splitlines()[0]
        client.warn(f"{reason}; using the copy of {kept.age(client.limits.wall_clock())} in the cache")
        return kept.body
