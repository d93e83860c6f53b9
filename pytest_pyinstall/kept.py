"""A catalogue that was fetched before, kept with its ETag."""

import contextlib
import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from pytest_pyinstall.answer import Answer, looks_like_a_page, page_hint
from pytest_pyinstall.cache_file import make_directory
from pytest_pyinstall.client import Client
from pytest_pyinstall.errors import CatalogueError, StoreError
from pytest_pyinstall.limits import Limits
from pytest_pyinstall.url import redacted

__all__ = ["CATALOGUE", "Kept", "revalidated", "too_long"]


@dataclass(slots=True, kw_only=True)
class Kept:
    """A document that was fetched before, if it was and is still what it was then."""

    path: Path
    body: bytes | None = None
    etag: str = ""
    modified: str = ""
    since: float = 0.0

    @classmethod
    def load(cls, cache: Path, url: str) -> "Kept":
        """What is kept of `url` below `cache`; without a body if nothing whole is there."""
        kept = cls(path=cache / "catalogues" / f"{hashlib.sha256(url.encode()).hexdigest()}.json")
        try:
            body = kept.path.read_bytes()
            meta = json.loads(kept._meta.read_text(encoding="utf-8"))
            if meta["sha256"] == hashlib.sha256(body).hexdigest():
                kept.etag, kept.modified, kept.since = str(meta["etag"]), str(meta["modified"]), float(meta["since"])
                kept.body = body
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return kept

    def save(self, body: bytes, answer: Answer, now: float) -> None:
        """Keep `body`; where the cache cannot be written, nothing is kept."""
        meta = {
            "etag": answer.headers.get("etag", ""),
            "modified": answer.headers.get("last-modified", ""),
            "sha256": hashlib.sha256(body).hexdigest(),
            "since": now,
        }
        # Two files, renamed one after the other: the digest in the second says whether they belong together.
        for path, content in ((self.path, body), (self._meta, json.dumps(meta).encode())):
            scratch = path.with_name(f".{secrets.token_hex(8)}.part")
            try:
                make_directory(path.parent)
                scratch.write_bytes(content)
                scratch.replace(path)
            except (OSError, StoreError):
                with contextlib.suppress(OSError):
                    scratch.unlink()
                return

    def age(self, now: float) -> str:
        """How long ago it was fetched, in words."""
        hours = max(0.0, now - self.since) / 3600
        return f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"

    @property
    def _meta(self) -> Path:
        return self.path.with_suffix(".meta")


def revalidated(kept: Kept, url: str, client: Client, until: float, what: str) -> bytes:
    """The document as the server has it now, which is kept; the kept one where the server says that it is the same."""
    headers = {}
    if kept.body is not None and kept.etag:
        headers = {"If-None-Match": kept.etag}
    elif kept.body is not None and kept.modified:
        headers = {"If-Modified-Since": kept.modified}
    limits, accept = client.limits, {200, 304} if headers else {200}
    with client.answer(url, headers, until=until, accept=accept, what=what) as answer:
        if answer.status == 304 and kept.body is not None:
            return kept.body
        body = bytearray()
        for chunk in answer.steady(limits, until):
            body += chunk
            if len(body) > limits.catalogue_size:
                raise too_long(url, limits)
        if answer.is_page or looks_like_a_page(bytes(body[:256])):
            msg = f"{what}: an HTML page came instead of it from {redacted(url)}"
            raise CatalogueError(msg, hint=page_hint(url))
        kept.save(bytes(body), answer, limits.wall_clock())
        return bytes(body)


CATALOGUE = "cannot download the catalogue"


def too_long(url: str, limits: Limits) -> CatalogueError:
    """The error for a document that is longer than any catalogue."""
    msg = f"more than {limits.catalogue_size} bytes cannot be a catalogue: {redacted(url)}"
    return CatalogueError(msg, hint="--python-catalogue URL")
