"""Caches downloaded catalogues, each with its ETag. Imports nothing that downloads, so that `dir` starts fast."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import make_cache_directory, write_atomically
from pytest_pyinstall.system.permissions import other_writer
from pytest_pyinstall.system.urls import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_pyinstall.download._response import Response

__all__ = ["CachedDocument", "kept_since"]


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
            warn(f"{other}: the catalogues cached there are not used")
            return kept
        try:
            body = kept.path.read_bytes()
            meta = parse_json(kept._meta.read_bytes())
            if meta["sha256"] == hashlib.sha256(body).hexdigest():
                kept.etag, kept.modified, kept.since = str(meta["etag"]), str(meta["modified"]), float(meta["since"])
                kept.body = body
                if not f"{kept.etag}{kept.modified}".isascii():  # cannot be sent to the server
                    kept.etag = kept.modified = ""
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            pass
        return kept

    def save(self, body: bytes, response: Response, now: float) -> None:
        """Keep `body`. If the cache cannot be written, nothing is kept.

        Users, passwords and queries of the URLs in it are removed, because caches are copied between machines. The
        ETag does not fit such a copy, so it is used only if the server cannot be reached.
        """
        kept = _URL.sub(_without_secrets, body)
        if kept == body:
            self._write(body, response.entity_tag, response.headers.get("last-modified", ""), now)
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
"""A URL, also in the spelling of some JSON writers: ``https:\\/\\/``."""


def _without_secrets(match: re.Match[bytes]) -> bytes:
    text = match[0].decode("utf-8", "surrogateescape")
    plain = text.replace("\\/", "/")
    bare = without_secrets(plain)
    return match[0] if bare == plain.partition("#")[0] else bare.encode("utf-8", "surrogateescape")


def kept_since(cache: Path, url: str) -> float | None:
    """When the copy of `url` below `cache` was last compared with the server's. None if there is no copy."""
    kept = CachedDocument.load(cache, url)
    return None if kept.body is None else kept.since
