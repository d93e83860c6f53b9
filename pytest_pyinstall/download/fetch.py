"""Turns a build into an archive whose size and sha256 match, from the cache, a server or a mirror directory.

The digest in the catalogue decides what an archive is. Servers, mirrors, proxies and the cache only transport bytes. So
`fetch` may try hard (it retries, resumes, and uses what is cached), and is strict about two things: it returns only an
archive whose size and sha256 match, and no secret reaches another server, a message or a log.

These files below the cache belong to this module::

    CACHE/archives/<sha256>/<file name>             a verified archive; verified again at each use
    CACHE/archives/<sha256>/<file name>.part        a running download, or one that can be resumed
    CACHE/archives/<sha256>/<file name>.part.json   its URL, and the validator to resume it with
    CACHE/archives/<sha256>/.<random>.part          a download of a process that could not get the lock
    CACHE/archives/<sha256>/.lock                   held by the process that writes the .part; it only saves work
    CACHE/catalogues/<sha256 of the URL>.json       a catalogue, and beside it .meta with ETag and digest
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, BinaryIO, Protocol

from pytest_pyinstall.download._partial import ArchiveSink, PartialDownload, SharedPartError
from pytest_pyinstall.download._response import (
    HINT_PAGE,
    HINT_RETRY,
    MissingFileError,
    Response,
    TransientError,
    looks_like_a_page,
    with_hosts,
)
from pytest_pyinstall.download.cache import archive_path, lock_archive, open_cached
from pytest_pyinstall.download.client import Client, retry
from pytest_pyinstall.download.local import open_file_url
from pytest_pyinstall.errors import DigestMismatchError, FetchError, IntegrityError, OfflineError, SizeMismatchError
from pytest_pyinstall.request.identity import Archive, Build
from pytest_pyinstall.system.log import StepLogger
from pytest_pyinstall.system.urls import is_local, redacted

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "HINT_RETRY",
    "ArchiveSink",
    "DownloadProgress",
    "MissingFileError",
    "ProgressReporter",
    "download_into",
    "fetch",
]


class DownloadProgress(Protocol):
    """Receives the progress of downloads, in the thread that downloads. Archives from the cache are not reported.

    If it also has a method ``waiting(build, reason)``, that is called when nothing arrives for now: before a retry, or
    while another process downloads the same file. A method ``busy(sentence)`` returns a context manager for an
    installation from the cache. An exception from `advanced` ends the download; it can be resumed.
    """

    def started(self, build: Build, total: int | None) -> None:
        """The first bytes are about to arrive. `total` is in bytes, or None if it is unknown. Once for each `fetch`."""

    def advanced(self, build: Build, count: int) -> None:
        """`count` more bytes are there, including those of a resumed download. Negative if it starts over."""

    def finished(self, build: Build) -> None:
        """The download has ended or failed. Once after each `started`."""


class ProgressReporter:
    """Calls a `DownloadProgress`, if there is one, once for each event."""

    def __init__(self, build: Build, progress: DownloadProgress | None) -> None:
        self._build = build
        self._progress = progress
        self._is_started = False
        self._reported = 0

    def at(self, size: int, total: int | None) -> None:
        """The download has `size` bytes now."""
        if self._progress is None:
            return
        if not self._is_started:
            self._is_started = True
            self._progress.started(self._build, total)
        if size != self._reported:
            self._progress.advanced(self._build, size - self._reported)
            self._reported = size

    def waiting(self, reason: str) -> None:
        if (waiting := getattr(self._progress, "waiting", None)) is not None:
            waiting(self._build, reason)

    def finished(self) -> None:
        if self._is_started and self._progress is not None:
            self._progress.finished(self._build)


def download_into(
    part: PartialDownload, build: Build, url: str, client: Client, deadline: float, listener: ProgressReporter
) -> None:
    """Fill `part` with the archive of `build`. If it turns out to be another file, fetch it once more."""

    def attempt() -> None:
        if is_local(url):
            _copy(part, build, url, client, listener)
            return
        retry(
            lambda: _receive(part, build, url, client, deadline, listener),
            client=client,
            deadline=deadline,
            attempts=client.limits.attempts,
            what=_what(build),
            waiting=listener.waiting,
            reached=lambda: part.size,
        )

    try:
        attempt()
    except IntegrityError as error:
        wrong = error
    else:
        return
    part.restart()
    flaw = wrong.message.partition("\n")[0].removeprefix(f"{_what(build)}: ")
    pause = 0 if is_local(url) else client.limits.backoff
    if client.is_news(flaw, pause):
        listener.waiting(f"{flaw}; downloading it again")
    client.pause(pause)
    attempt()


def _receive(
    part: PartialDownload, build: Build, url: str, client: Client, deadline: float, listener: ProgressReporter
) -> None:
    if part.size and part.sha256 == build.sha256:
        return  # the process that wrote it ended after the last byte
    headers = {}
    if part.is_continued_by(url) and (build.size is None or part.size < build.size):
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    elif part.size:
        part.restart()
    accept = {200, 206, 416} if headers else {200}
    with client.get(url, headers, deadline=deadline, accept=accept, what=_what(build)) as response:
        if response.status == 206 and response.range_start != part.size:
            part.restart()
            msg = f"the server sent another part of the file than requested, {redacted(url)}"
            raise TransientError(msg)
        if response.status == 200:
            part.restart(url=url, validator=response.validator)
        if response.status != 416:
            most = build.size if build.size is not None else client.limits.archive_size
            if response.total is not None and (response.total > most or build.size not in {None, response.total}):
                raise _wrong_size(build, url, str(response.total), most, response)
            total = response.total if build.size is None else build.size
            listener.at(part.size, total)
            for chunk in response.iter_body(client.limits, deadline):
                if part.size + len(chunk) > most:
                    raise _wrong_size(build, url, f"more than {most}", most, response)
                part.append(chunk)
                listener.at(part.size, total)
            _check(part, build, url, response)
            return
    part.restart()  # 416: the requested part no longer exists
    _receive(part, build, url, client, deadline, listener)


def _copy(part: PartialDownload, build: Build, url: str, client: Client, listener: ProgressReporter) -> None:
    if part.size:
        part.restart()
    with open_file_url(url) as source:
        most = build.size if build.size is not None else client.limits.archive_size
        size = os.fstat(source.fileno()).st_size
        if size > most or (build.size is not None and size != build.size):
            raise _wrong_size(build, url, str(size), most, None)
        listener.at(0, size)
        while True:
            try:
                chunk = source.read(1 << 20)
            except OSError as error:
                msg = f"cannot read {redacted(url)}: {error.strerror}"
                raise FetchError(msg, hint=HINT_RETRY) from error
            if not chunk:
                break
            if part.size + len(chunk) > most:  # the file grows while we read it
                raise _wrong_size(build, url, f"more than {most}", most, None)
            part.append(chunk)
            listener.at(part.size, size)
    _check(part, build, url, None)


def _check(part: PartialDownload, build: Build, url: str, response: Response | None) -> None:
    is_page = (response is not None and response.is_page) or looks_like_a_page(part.head)
    if build.size is not None and part.size != build.size:
        if response is not None and response.total is None and not is_page:
            # The server did not say how long it is, so an early end looks like any other end.
            msg = f"the connection ended after {part.size} of {build.size} bytes, {redacted(url)}"
            raise TransientError(msg)
        raise _wrong_size(build, url, str(part.size), build.size, response)
    if part.sha256 != build.sha256:
        msg = _mismatch("sha256", build, url, part.sha256, build.sha256, is_page=is_page)
        raise DigestMismatchError(msg, hint=HINT_PAGE if is_page else _WRONG_HINT)


def _wrong_size(build: Build, url: str, size: str, most: int, response: Response | None) -> IntegrityError:
    is_page = response is not None and response.is_page
    expected = f"{'' if build.size is not None else 'at most '}{most} bytes"
    msg = _mismatch("size", build, url, f"{size} bytes", expected, is_page=is_page)
    return SizeMismatchError(msg, hint=HINT_PAGE if is_page else _WRONG_HINT)


def _mismatch(kind: str, build: Build, url: str, found: str, expected: str, *, is_page: bool) -> str:
    place = redacted(url)
    wrong = f"an HTML page instead of the archive from {place}" if is_page else f"wrong {kind} from {place}"
    if is_local(url):
        wrong = f"wrong {kind}"
    first = with_hosts(f"{_what(build)}: {wrong}")
    return f"{first}\n  {kind} {found}, expected {expected}\n  {place}"


_WRONG_HINT = "the server has another file; use another server: --python-mirror URL, or --python-catalogue URL"


def _what(build: Build) -> str:
    name = build.key.display_name
    return f"cannot download {f'Python {name}' if name[0].isdigit() else name}"


_LOGGER = StepLogger(__name__)


def fetch(
    build: Build,
    *,
    url: str,
    cache: Path,
    client: Client,
    offline: bool = False,
    progress: DownloadProgress | None = None,
    sink: ArchiveSink | None = None,
) -> Archive:
    """Return the archive of `build`, from the cache or from `url` (https, http, file, a path). The caller closes it.

    `sink` receives the bytes as they arrive, from the network, a partial download or the cache, and is restarted
    if they begin again. When `fetch` returns, it has received exactly the bytes of the archive. When `fetch` raises,
    what it received is worthless.

    Afterwards it is at ``archive_path(cache, build)`` with mode 0644, and no partial download is left. After a network
    failure the partial download is kept, so that it can be resumed. A file of a mirror directory is copied into the
    cache while it is hashed, because such a directory can be on a network filesystem, be writable by others, or
    disappear. If a cached archive fails its check, it is deleted and fetched again. If a download fails the check, it
    is fetched once more.

    Raises `OfflineError` if it needs a connection and `offline` is set, `FetchError` if the network, a server or a
    mirror directory fails, `SizeMismatchError` or `DigestMismatchError` if they have another file, and `StoreError` if
    the cache cannot be written or is full. Then nothing new is left in it.

    Threads and processes can call it for the same build at once: one downloads, the others wait while it makes
    progress. Without locks (no flock, a deleted lock file), each downloads into a file of its own.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", build.sha256):
        msg = f"{build.key}: no sha256 to check {redacted(url)} against"
        raise IntegrityError(msg, hint="use a catalogue that has one: --python-catalogue URL")
    path = archive_path(cache, build)
    if file := open_cached(path, build, client, sink):
        _LOGGER.info("%s: the archive is in the cache, with the right sha256: %s", build.key, path)
        return Archive(build=build, file=file)
    if offline and not is_local(url):
        msg = f"{build.key} is not in the cache, and downloads are switched off: {redacted(url)}"
        raise OfflineError(msg, hint=f"UV_OFFLINE=0 allows them; or put the file there yourself: {path}")
    deadline = client.limits.clock() + client.limits.total
    listener = ProgressReporter(build, progress)
    try:
        with lock_archive(path, client, deadline, listener.waiting) as locked:
            # The process that held the lock before has probably downloaded it.
            if file := open_cached(path, build, client, sink):
                _LOGGER.info("%s: another process fetched the archive meanwhile: %s", build.key, path)
                return Archive(build=build, file=file)
            _LOGGER.info("%s: the archive is not in the cache; fetching %s", build.key, redacted(url))

            def download(name: str) -> BinaryIO:
                place = path.with_name(name)
                try:
                    with PartialDownload.open(place, sink) as part:
                        download_into(part, build, url, client, deadline, listener)
                        _LOGGER.info("%s: size and sha256 match the catalogue; cached as %s", build.key, path)
                        return part.publish(path)
                except BaseException:
                    client.has_partial |= place.exists()  # it stays only if it can be resumed
                    raise

            if locked:
                with contextlib.suppress(SharedPartError):
                    return Archive(build=build, file=download(f"{path.name}.part"))
            return Archive(build=build, file=download(f".{os.urandom(8).hex()}.part"))
    finally:
        listener.finished()
