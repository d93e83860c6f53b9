"""Turns a build into an archive.

The digest in the catalogue decides what an archive is; servers, mirrors, proxies and the cache only move bytes. So
fetching is free to be stubborn about the network (retry, resume, use what is cached) and has to be strict about
two things only: nobody reads a byte before size and sha256 match, and no secret leaves for a place, a message or a
log where it does not belong.

Below the cache, fetching owns::

    CACHE/archives/<sha256>/<file name>             a verified archive; verified again at each use
    CACHE/archives/<sha256>/<file name>.part        a download under way, or one that can be resumed
    CACHE/archives/<sha256>/<file name>.part.json   from where it came, and the validator to resume it with
    CACHE/archives/<sha256>/.<random>.part          a download by somebody who could not have the lock
    CACHE/archives/<sha256>/.lock                   held by whoever writes the .part; saves work, decides nothing
    CACHE/catalogues/<sha256 of the URL>.json       a catalogue, and beside it .meta with ETag and digest
"""

import logging
import re
import secrets
from pathlib import Path

from pytest_pyinstall.archive_lock import lock_archive
from pytest_pyinstall.build import Archive, Build
from pytest_pyinstall.cached_archive import archive_path, open_cached
from pytest_pyinstall.client import Client
from pytest_pyinstall.download import fill
from pytest_pyinstall.errors import FetchError, IntegrityError, OfflineError
from pytest_pyinstall.fault import UnreachableError
from pytest_pyinstall.kept import CATALOGUE, Kept, revalidated, too_long
from pytest_pyinstall.limits import Limits
from pytest_pyinstall.listener import Listener, Progress
from pytest_pyinstall.local_file import open_local
from pytest_pyinstall.partial import Part
from pytest_pyinstall.persist import persist
from pytest_pyinstall.url import is_local, redacted

__all__ = ["fetch", "fetch_text"]

_LOGGER = logging.getLogger(__name__)


def fetch(
    build: Build,
    *,
    url: str,
    cache: Path,
    client: Client,
    offline: bool = False,
    progress: Progress | None = None,
) -> Archive:
    """The archive of `build`, from the cache, else from `url` (https, http, file, a path). The caller closes its file.

    Afterwards ``archive_path(cache, build)`` holds it, mode 0644, and no partial download is left; after a network
    failure the partial download stays, to be resumed. A file of a mirror directory is copied into the cache while it
    is hashed: such a directory may be on a network filesystem, writable by others, or gone tomorrow, and then the same
    descriptor would not give the same bytes twice. An entry of the cache that fails its check is thrown away and
    fetched anew; so is, once, a download that does.

    Raises `OfflineError` when it would need a connection and `offline` is set, `FetchError` when the network, a server
    or a mirror directory does not give it, `SizeMismatchError` or `DigestMismatchError` when what it gives is something
    else, `StoreError` when the cache cannot be written, or is full (then nothing new is left in it).

    Threads and processes may ask for the same build at once: one downloads, the others wait for it, as long as it
    gets on. Without locks (no flock, a deleted lock file) they download beside each other, each into its own file.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", build.sha256):
        msg = f"{build.key}: no sha256 to check {redacted(url)} against"
        raise IntegrityError(msg, hint="use a catalogue that has one: --python-catalogue URL")
    path = archive_path(cache, build)
    if file := open_cached(path, build, client):
        _LOGGER.info("%s: the archive is in the cache, with the right sha256: %s", build.key, path)
        return Archive(build=build, file=file)
    if offline and not is_local(url):
        msg = f"{build.key} is not in the cache, and downloads are switched off: {redacted(url)}"
        raise OfflineError(msg, hint=f"UV_OFFLINE=0 allows them; or put the file there yourself: {path}")
    until = client.limits.clock() + client.limits.total
    listener = Listener(build, progress)
    try:
        with lock_archive(path, client, until, listener.waiting) as locked:
            # Whoever held the lock before us has probably left it here.
            if file := open_cached(path, build, client):
                _LOGGER.info("%s: somebody else fetched the archive meanwhile: %s", build.key, path)
                return Archive(build=build, file=file)
            _LOGGER.info("%s: the archive is not in the cache; fetching %s", build.key, redacted(url))
            name = f"{path.name}.part" if locked else f".{secrets.token_hex(8)}.part"
            with Part.open(path.with_name(name)) as part:
                fill(part, build, url, client, until, listener)
                _LOGGER.info("%s: size and sha256 are those of the catalogue; kept as %s", build.key, path)
                return Archive(build=build, file=part.publish(path))
    finally:
        listener.finished()


def fetch_text(url: str, *, client: Client, cache: Path, offline: bool = False, what: str = CATALOGUE) -> bytes:
    """What is at `url` (https, http, file, or a path), at most 64 MiB of it: for catalogues.

    `what` begins the sentence of an error.

    What came over http(s) is kept below the cache and asked for again with its ETag; when the server cannot be
    reached, or `offline` is set, the kept copy is used (the former with a warning). A cache that cannot be written is
    no obstacle. Raises `OfflineError`, `FetchError`, and `CatalogueError` for a document that is too long. Safe to
    call at once from several processes.
    """
    _LOGGER.debug("reading the catalogue %s", redacted(url))
    if is_local(url):
        return _read_local(url, client.limits)
    kept = Kept.load(cache, url)
    if offline:
        if kept.body is None:
            msg = f"this catalogue is not in the cache, and downloads are switched off: {redacted(url)}"
            raise OfflineError(msg, hint="UV_OFFLINE=0, or --python-catalogue FILE")
        return kept.body
    until = client.limits.clock() + client.limits.total
    attempts = client.limits.attempts if kept.body is None else min(2, client.limits.attempts)
    try:
        return persist(
            lambda: revalidated(kept, url, client, until, what),
            client=client,
            until=until,
            attempts=attempts,
            what=what,
            waiting=lambda reason: client.warn(f"catalogue: {reason}"),
        )
    except UnreachableError as error:
        if kept.body is None:
            raise
        client.warn(f"{error.message}; using the copy of {kept.age(client.limits.wall_clock())} in the cache")
        return kept.body


def _read_local(url: str, limits: Limits) -> bytes:
    try:
        with open_local(url) as source:
            body = source.read(limits.catalogue_size + 1)
    except OSError as error:  # an error on closing, too
        msg = f"cannot read {redacted(url)}: {error.strerror}"
        raise FetchError(msg, hint="--python-catalogue FILE") from error
    if len(body) > limits.catalogue_size:
        raise too_long(url, limits)
    return body
