"""Downloads catalogues, and keeps each with its ETag."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from pytest_pyinstall.download._response import Response, RetryPolicy, UnreachableError, looks_like_a_page, page_hint
from pytest_pyinstall.download.client import Client, retry
from pytest_pyinstall.download.fetch import LOGGER, open_file_url
from pytest_pyinstall.errors import CatalogueError, FetchError, OfflineError, StoreError
from pytest_pyinstall.system.files import make_cache_directory, write_atomically
from pytest_pyinstall.system.permissions import other_writer
from pytest_pyinstall.system.urls import is_local, redacted, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["CATALOGUE", "CachedDocument", "fetch_text", "kept_since", "revalidate", "too_long"]


class CachedDocument:
    """The cached copy of a document. `body` is None if there is none, or if it was damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.body: bytes | None = None
        self.etag = ""
        self.modified = ""
        self.since = 0.0

    @classmethod
    def load(cls, cache: Path, url: str, *, warn: Callable[[str], None] = lambda _: None) -> CachedDocument:
        """The copy of `url` below `cache`.

        A catalogue decides what is installed, so a copy that others can write is not used, and `warn` is called.
        """
        kept = cls(cache / "catalogues" / f"{hashlib.sha256(url.encode()).hexdigest()}.json")
        if other := other_writer(kept.path.parent):
            warn(f"{other}: the catalogues that are kept there are not used")
            return kept
        try:
            body = kept.path.read_bytes()
            meta = json.loads(kept._meta.read_text(encoding="utf-8"))
            if meta["sha256"] == hashlib.sha256(body).hexdigest():
                kept.etag, kept.modified, kept.since = str(meta["etag"]), str(meta["modified"]), float(meta["since"])
                kept.body = body
                if not f"{kept.etag}{kept.modified}".isascii():  # it could not be sent back
                    kept.etag = kept.modified = ""
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return kept

    def save(self, body: bytes, answer: Response, now: float) -> None:
        """Keep `body`. If the cache cannot be written, nothing is kept.

        Users, passwords and queries of the URLs in it are removed, because caches are copied between machines. The
        ETag does not fit such a copy, so it is used only if the server cannot be reached.
        """
        kept = _URL.sub(_without_secrets, body)
        if kept == body:
            self._write(body, answer.entity_tag, answer.headers.get("last-modified", ""), now)
        else:
            self._write(kept, "", "", now)

    def _write(self, body: bytes, etag: str, modified: str, now: float) -> None:
        meta = {"etag": etag, "modified": modified, "sha256": hashlib.sha256(body).hexdigest(), "since": now}
        # Two files, renamed one after the other: the digest in the second says whether they belong together.
        for path, content in ((self.path, body), (self._meta, json.dumps(meta).encode())):
            try:
                make_cache_directory(path.parent)
                write_atomically(path, content)
            except (OSError, StoreError):
                return

    def confirm(self, now: float) -> None:
        """The server says that it has not changed."""
        if self.body is not None:
            self._write(self.body, self.etag, self.modified, now)

    def age(self, now: float) -> str:
        """How long ago it was fetched, in words."""
        hours = max(0.0, now - self.since) / 3600
        return f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"

    @property
    def _meta(self) -> Path:
        return self.path.with_suffix(".meta")


_URL = re.compile(rb"https?:(?:\\?/){2}[^\s\"<>]+", re.IGNORECASE)
"""Also as JSON may write it: ``https:\\/\\/``."""


def _without_secrets(match: re.Match[bytes]) -> bytes:
    text = match[0].decode("utf-8", "surrogateescape")
    plain = text.replace("\\/", "/")
    bare = without_secrets(plain)
    return match[0] if bare == plain.partition("#")[0] else bare.encode("utf-8", "surrogateescape")


def revalidate(kept: CachedDocument, url: str, client: Client, until: float, what: str) -> bytes:
    """The document as the server has it now, which is kept; the kept copy if the server says that it is the same."""
    headers = {}
    if kept.body is not None and kept.etag:
        headers = {"If-None-Match": kept.etag}
    elif kept.body is not None and kept.modified:
        headers = {"If-Modified-Since": kept.modified}
    limits, accept = client.limits, {200, 304} if headers else {200}
    with client.answer(url, headers, until=until, accept=accept, what=what) as answer:
        if answer.status == 304 and kept.body is not None:
            kept.confirm(limits.wall_clock())
            return kept.body
        body = bytearray()
        for chunk in answer.iter_body(limits, until):
            body += chunk
            if len(body) > limits.catalogue_size:
                raise too_long(url, limits)
        if answer.is_page or looks_like_a_page(bytes(body[:256])):
            msg = f"{what}: an HTML page came instead of it from {redacted(url)}"
            raise CatalogueError(msg, hint=page_hint(url))
        kept.save(bytes(body), answer, limits.wall_clock())
        return bytes(body)


CATALOGUE = "cannot download the catalogue"


def too_long(url: str, limits: RetryPolicy) -> CatalogueError:
    """The error for a document that is longer than a catalogue can be."""
    msg = f"more than {limits.catalogue_size} bytes cannot be a catalogue: {redacted(url)}"
    return CatalogueError(msg, hint="--python-catalogue URL")


def kept_since(cache: Path, url: str) -> float | None:
    """When the copy of `url` below `cache` was last compared with the server's; None without a copy."""
    kept = CachedDocument.load(cache, url)
    return None if kept.body is None else kept.since


def fetch_text(
    url: str,
    *,
    client: Client,
    cache: Path,
    offline: bool = False,
    what: str = CATALOGUE,
    max_age: float = 0.0,
    attempts: int | None = None,
) -> bytes:
    """Read a catalogue from `url` (https, http, file, or a path), at most 64 MiB.

    `what` is the beginning of error messages.

    A document from http(s) is kept below the cache. If the copy is older than `max_age` seconds, the server is asked
    with its ETag, at most `attempts` times. If the server cannot be reached, the copy is used with a warning; if
    `offline` is set, without one. The cache need not be writable. Raises `OfflineError`, `FetchError`, and
    `CatalogueError` for a document that is too long. Several processes can call it at once.
    """
    LOGGER.debug("reading the catalogue %s", redacted(url))
    if is_local(url):
        return _read_local(url, client.limits, what)
    kept = CachedDocument.load(cache, url, warn=client.warn)
    if offline:
        if kept.body is None:
            msg = f"this catalogue is not in the cache, and downloads are switched off: {redacted(url)}"
            raise OfflineError(msg, hint="UV_OFFLINE=0, or --python-catalogue FILE")
        return kept.body
    if kept.body is not None and 0 <= client.limits.wall_clock() - kept.since < max_age:
        return kept.body
    until = client.limits.clock() + client.limits.total
    attempts = min(attempts or client.limits.attempts, client.limits.attempts)
    attempts = attempts if kept.body is None else min(2, attempts)
    try:
        return retry(
            lambda: revalidate(kept, url, client, until, what),
            client=client,
            until=until,
            attempts=attempts,
            what=what,
            waiting=lambda reason: client.warn(f"catalogue: {reason}"),
        )
    except FetchError as error:
        if not isinstance(error, UnreachableError) or kept.body is None:
            if "--python-mirror" in error.hint and not what.startswith("cannot download the attestation"):
                # A mirror has archives; the catalogue is configured on its own.
                raise type(error)(error.message, hint="--python-catalogue FILE") from error
            raise
        client.warn(f"{error.message}; using the copy of {kept.age(client.limits.wall_clock())} in the cache")
        return kept.body


def _read_local(url: str, limits: RetryPolicy, what: str) -> bytes:
    try:
        reading = "cannot read the catalogue" if what == CATALOGUE else f"{what}: cannot read"
        hint = "--python-catalogue FILE, or URL" if what == CATALOGUE else ""
        with open_file_url(url, what=reading, hint=hint) as source:
            body = source.read(limits.catalogue_size + 1)
    except OSError as error:  # an error on closing, too
        msg = f"cannot read {redacted(url)}: {error.strerror}"
        raise FetchError(msg, hint="--python-catalogue FILE") from error
    if len(body) > limits.catalogue_size:
        raise too_long(url, limits)
    return body
