"""Turns a build into an archive. The only module that opens URLs.

The digest in the catalogue decides what an archive is; servers, mirrors, proxies and the cache only move bytes. So
everything here is free to be stubborn about the network (retry, resume, use what is cached) and has to be strict about
two things only: nobody reads a byte before size and sha256 match, and no secret leaves for a place, a message or a
log where it does not belong.

Below the cache this module owns::

    CACHE/archives/<sha256>/<file name>             a verified archive; verified again at each use
    CACHE/archives/<sha256>/<file name>.part        a download under way, or one that can be resumed
    CACHE/archives/<sha256>/<file name>.part.json   from where it came, and the validator to resume it with
    CACHE/archives/<sha256>/.<random>.part          a download by somebody who could not have the lock
    CACHE/archives/<sha256>/.lock                   held by whoever writes the .part; saves work, decides nothing
    CACHE/catalogues/<sha256 of the URL>.json       a catalogue, and beside it .meta with ETag and digest
"""

import base64
import contextlib
import errno
import hashlib
import ipaddress
import json
import logging
import os
import random
import re
import secrets
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from io import BufferedReader
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from pytest_pyinstall.build import Archive, Build
from pytest_pyinstall.errors import (
    CatalogueError,
    DigestMismatchError,
    FetchError,
    IntegrityError,
    OfflineError,
    SizeMismatchError,
    StoreError,
)

if TYPE_CHECKING:
    import httpx2

__all__ = [
    "CachedFile",
    "Client",
    "Limits",
    "Progress",
    "archive_path",
    "cached_archives",
    "clear",
    "fetch",
    "fetch_text",
    "open_client",
    "prune",
    "redacted",
]

T = TypeVar("T")


class Progress(Protocol):
    """Hears how downloads go, from the thread that downloads; an archive that was cached is not talked about.

    One that also has ``waiting(build, reason)`` hears why nothing comes for now: a retry, or another process that is
    downloading the same file. An exception out of `advanced` ends the download; what came is kept to be resumed.
    """

    def started(self, build: Build, total: int | None) -> None:
        """The first bytes are about to come; `total` in bytes, None where nobody knows. Once for each `fetch`."""

    def advanced(self, build: Build, count: int) -> None:
        """So many bytes more are there. What a resumed download already had counts; negative when it starts over."""

    def finished(self, build: Build) -> None:
        """Nothing more will come, for better or worse. Once after each `started`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop hoping. Times in seconds, sizes in bytes; the last four are seams for tests.

    `total` bounds one `fetch` with all its retries, `connect` one connection, `headers` the time from a request to
    the end of its answer's headers, `read` a silence in the body. An answer that brings less than `slow_bytes` in
    `slow_time` is given up. `attempts` failures in a row end it; one that brought `worth` bytes further begins the
    count anew. `abandoned`: how long another process's download may stand still before we download beside it.
    """

    total: float = 1800.0
    connect: float = 10.0
    headers: float = 60.0
    read: float = 30.0
    slow_bytes: int = 60 * 1024
    slow_time: float = 60.0
    attempts: int = 5
    worth: int = 64 * 1024
    backoff: float = 0.5
    longest_backoff: float = 20.0
    longest_retry_after: float = 60.0
    redirects: int = 5
    abandoned: float = 90.0
    archive_size: int = 2 * 1024**3
    catalogue_size: int = 64 * 1024**2
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], object] | None = None


def fetch(
    build: Build,
    *,
    url: str,
    cache: Path,
    client: "Client",
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
    if file := _cached(path, build, client):
        return Archive(build=build, file=file)
    if offline and not _is_local(url):
        msg = f"{build.key} is not in the cache, and downloads are switched off: {redacted(url)}"
        raise OfflineError(msg, hint=f"UV_OFFLINE=0 allows them; or put the file there yourself: {path}")
    until = client.limits.clock() + client.limits.total
    listener = _Listener(build, progress)
    try:
        with _lock(path, client, until, listener.waiting) as locked:
            # Whoever held the lock before us has probably left it here.
            if file := _cached(path, build, client):
                return Archive(build=build, file=file)
            name = f"{path.name}.part" if locked else f".{secrets.token_hex(8)}.part"
            with _Part.open(path.with_name(name)) as part:
                _fill(part, build, url, client, until, listener)
                return Archive(build=build, file=part.publish(path))
    finally:
        listener.finished()


def fetch_text(url: str, *, client: "Client", cache: Path, offline: bool = False) -> bytes:
    """What is at `url` (https, http, file, or a path), at most 64 MiB of it: for catalogues.

    What came over http(s) is kept below the cache and asked for again with its ETag; when the server cannot be
    reached, or `offline` is set, the kept copy is used (the former with a warning). A cache that cannot be written is
    no obstacle. Raises `OfflineError`, `FetchError`, and `CatalogueError` for a document that is too long. Safe to
    call at once from several processes.
    """
    if _is_local(url):
        return _read_local(url, client.limits)
    kept = _Kept.load(cache, url)
    if offline:
        if kept.body is None:
            msg = f"this catalogue is not in the cache, and downloads are switched off: {redacted(url)}"
            raise OfflineError(msg, hint="UV_OFFLINE=0, or --python-catalogue FILE")
        return kept.body
    until = client.limits.clock() + client.limits.total
    attempts = client.limits.attempts if kept.body is None else min(2, client.limits.attempts)
    try:
        return _persist(
            lambda: _revalidated(kept, url, client, until),
            client=client,
            until=until,
            attempts=attempts,
            what=_CATALOGUE,
            waiting=lambda reason: client.warn(f"catalogue: {reason}"),
        )
    except _UnreachableError as error:
        if kept.body is None:
            raise
        client.warn(f"{error.message}; using the copy of {kept.age(client.limits.wall_clock())} in the cache")
        return kept.body


def archive_path(cache: Path, build: Build) -> Path:
    """Where the archive of `build` lies in the cache, once it is there."""
    name = build.file_name
    # The name comes out of a URL. One that could mean something else here than a plain file gets a plain name.
    if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9_+.~@=-]{0,199}", name) or name.endswith(".part"):
        name = "archive"
    return cache / "archives" / build.sha256 / name


def redacted(url: str) -> str:
    """`url` as it may be shown: password and query are ``***``, so is a lone user name, the fragment is gone."""
    match = re.match(r"([a-z][a-z0-9+.-]*://)([^/?#]*)([^?#]*)(\?[^#]*)?", url, re.IGNORECASE | re.DOTALL)
    if not match:
        return url
    scheme, authority, path, query = match.groups()
    userinfo, _, host = authority.rpartition("@")
    if not re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", host):
        return f"{scheme}***"  # a password with an unescaped / or ? in it: nobody can tell where it ends
    if userinfo:
        user, colon, _ = userinfo.partition(":")
        userinfo = f"{user}:***@" if colon else "***@"
    return f"{scheme}{userinfo}{host}{path}{'?***' if query else ''}"


# ---- the cache, for the command line -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """A file in the cache. `used` is when it was last handed out, in seconds since the epoch."""

    path: Path
    sha256: str
    size: int
    used: float


def cached_archives(cache: Path) -> list[CachedFile]:
    """The archives below the cache, least recently used first, unchecked; partial downloads are not among them."""
    found = [file for directory in _directories(cache) for file in _files(directory) if not _is_partial(file.path)]
    return sorted(found, key=lambda file: (file.used, file.path))


def prune(cache: Path, *, now: float | None = None) -> list[CachedFile]:
    """Remove partial downloads that nobody is writing, and archives that fail their check; returns what was removed.

    What a running download holds stays. A partial download without a lock counts as dead an hour after its last byte,
    twice as long as any download may take. Raises `StoreError` naming the file that cannot be removed.
    """
    horizon = (time.time() if now is None else now) - 3600

    def is_unwanted(file: CachedFile, ours: bool) -> bool:
        if not _is_partial(file.path):
            return _is_bad(file)
        # Under the lock nobody writes the resumable one. The others' writers never had a lock.
        return (ours and not file.path.name.startswith(".")) or file.used < horizon

    removed = _sweep(cache, is_unwanted)
    for file in _files(cache / "catalogues"):
        if _is_partial(file.path) and file.used < horizon:
            _remove(file.path)
            removed.append(file)
    return removed


def clear(cache: Path) -> list[CachedFile]:
    """Remove every archive, partial download and catalogue that no running download holds; returns what was removed."""
    removed = _sweep(cache, lambda _file, _ours: True)
    for file in _files(cache / "catalogues"):
        _remove(file.path)
        removed.append(file)
    return removed


def _sweep(cache: Path, is_unwanted: Callable[[CachedFile, bool], bool]) -> list[CachedFile]:
    removed = []
    for directory in _directories(cache):
        with _lock_now(directory) as ours:
            if ours is False:
                continue  # somebody is downloading into it
            for file in _files(directory):
                if is_unwanted(file, bool(ours)):
                    _remove(file.path)
                    removed.append(file)
            # The lock file goes last, while we hold it: whoever waits for it finds that it has no name any more and
            # starts over. A directory in which somebody has begun again meanwhile is not empty, and stays.
            if not _files(directory):
                with contextlib.suppress(OSError):
                    for note in (*directory.glob(f"*{_NOTE}"), directory / _LOCK):
                        note.unlink(missing_ok=True)
                    directory.rmdir()
    return removed


def _directories(cache: Path) -> list[Path]:
    try:
        entries = sorted((cache / "archives").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _storage_error(cache / "archives", error) from error
    return [entry for entry in entries if re.fullmatch(r"[0-9a-f]{64}", entry.name) and entry.is_dir()]


def _files(directory: Path) -> list[CachedFile]:
    """What lies in one directory of the cache, except the lock and the notes beside partial downloads."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(directory.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # somebody was faster
                facts = path.lstat()
                if path.name != _LOCK and not path.name.endswith(_NOTE) and not stat.S_ISDIR(facts.st_mode):
                    found.append(CachedFile(path=path, sha256=directory.name, size=facts.st_size, used=facts.st_mtime))
    return found


def _is_partial(path: Path) -> bool:
    return path.name.endswith(".part")


def _is_bad(file: CachedFile) -> bool:
    try:
        with _open_regular(file.path, _OPEN_FLAGS) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256
    except OSError:
        return True


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".json").unlink(missing_ok=True)
    except OSError as error:
        raise _storage_error(path, error) from error


# ---- an entry of the cache -----------------------------------------------------------------------------------------

_LOCK = ".lock"
_NOTE = ".part.json"
# O_NOFOLLOW: a planted link is not an archive. O_NONBLOCK: opening a planted fifo must not wait for a writer.
_OPEN_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def _open_regular(path: Path, flags: int) -> BufferedReader:
    """Open a file for reading; an `OSError` for anything else that may lie there."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file")
    return os.fdopen(descriptor, "rb")


def _cached(path: Path, build: Build, client: "Client") -> BinaryIO | None:
    """The entry of the cache, open and checked; one that fails its check is gone afterwards, as far as we may."""
    try:
        file = _open_regular(path, _OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}:
            raise _storage_error(path, error) from error
        flaw = error.strerror or "unreadable"
    else:
        flaw = _flaw(file, build)
        if not flaw:
            with contextlib.suppress(OSError):  # a cache that is not ours, or read-only, works all the same
                os.utime(path)
            return file
        file.close()
    client.warn(f"the cached {path} is damaged ({flaw}): fetching it anew")
    with contextlib.suppress(OSError):  # if it matters, writing the new one fails too, and says why
        path.unlink()
    return None


def _flaw(file: BufferedReader, build: Build) -> str:
    """What is wrong with an open file; nothing, if it is the archive of `build`. Leaves it at offset 0."""
    try:
        size = os.fstat(file.fileno()).st_size
        if build.size is not None and size != build.size:
            return f"{size} instead of {build.size} bytes"
        if hashlib.file_digest(file, "sha256").hexdigest() != build.sha256:
            return "another sha256"
        file.seek(0)
    except OSError as error:
        return error.strerror or "unreadable"
    return ""


def _storage_error(path: Path, error: OSError) -> StoreError:
    reason = error.strerror or type(error).__name__
    return StoreError(
        f"cannot use the cache: {path}: {reason}",
        hint="another directory, or another disk: --python-cache DIR, or PYTEST_PYINSTALL_CACHE=DIR",
    )


def _make_directory(directory: Path) -> None:
    """Make it and its parents, mode 0755 whatever the umask lets through: others may read a cache, never write it."""
    path = directory
    try:
        for path in reversed(list(takewhile(lambda path: not path.is_dir(), (directory, *directory.parents)))):
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o755)
    except OSError as error:
        raise _storage_error(path, error) from error


@contextlib.contextmanager
def _lock(path: Path, client: "Client", until: float, waiting: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of the archive's directory, which is made; False where it could not be had.

    Whoever holds it gets as long as it takes, provided that its download grows: a process that was stopped, or that
    runs on another host where the lock never ends, keeps nobody.
    """
    part = path.with_name(f"{path.name}.part")
    clock, size, since = client.limits.clock, -1, client.limits.clock()
    told = False
    while True:
        _make_directory(path.parent)
        with _lock_now(path.parent) as ours:
            if ours is not False:
                yield bool(ours)
                return
        if not told:
            waiting("another process is downloading it")
            told = True
        try:
            grown = part.stat().st_size
        except OSError:
            grown = -1
        now = clock()
        if grown != size:
            size, since = grown, now
        if now - since >= client.limits.abandoned or now >= until:
            yield False
            return
        client.nap(0.02)


@contextlib.contextmanager
def _lock_now(directory: Path) -> Iterator[bool | None]:
    """True while we hold the lock, False if somebody else does, None where locks do not work."""
    from filelock import lock_descriptor

    descriptor, ours = None, None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | _OPEN_FLAGS, 0o666)
            with contextlib.suppress(OSError, AttributeError):  # another user's, who did the same; Windows
                os.fchmod(descriptor, 0o666)
            ours = lock_descriptor(descriptor, blocking=False)
            # Without a name it excludes nobody: `clear` removed it between our opening and our locking.
            ours = ours and os.fstat(descriptor).st_nlink > 0
        yield ours
    finally:
        if descriptor is not None:
            os.close(descriptor)


# ---- a partial download --------------------------------------------------------------------------------------------


_HEAD = 256
_RENAMES_OPEN_FILES = os.name != "nt"


class _Part:
    """A file that is being filled, and the digest of what it holds so far."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = 0
        self.url = ""
        self.validator = ""
        self._descriptor = descriptor
        self.head = b""
        self._hash = hashlib.sha256()

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator["_Part"]:
        """The partial download at `path`, new or as it was left. What cannot be resumed is removed at the end."""
        descriptor = _open_part(path)
        if not path.name.startswith(".") and not _is_ours_alone(descriptor):
            # Somebody writes it although we hold the lock, which then was deleted: two may not fill one file.
            os.close(descriptor)
            path = path.with_name(f".{secrets.token_hex(8)}.part")
            descriptor = _open_part(path)
        part = cls(path, descriptor)
        try:
            with part._storing():
                part._load()
            yield part
        except (StoreError, IntegrityError):
            part._forget(remove=True)
            raise
        except BaseException:
            # Keep what the next attempt can build on, and nothing else.
            if not part.is_resumable:
                part._forget(remove=True)
            raise
        finally:
            part._close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def is_continued_by(self, url: str) -> bool:
        """Whether the server of `url` can be asked for the rest."""
        return bool(self.size and self.validator) and self.url == redacted(url)

    @property
    def is_resumable(self) -> bool:
        """Whether a later `fetch` can go on from here. One without a lock has a name that nobody looks for."""
        return bool(self.size and self.validator) and not self.path.name.startswith(".")

    def append(self, chunk: bytes) -> None:
        with self._storing():
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._count(chunk)

    def restart(self, *, url: str = "", validator: str = "") -> None:
        """Empty it, and remember what the bytes to come can be resumed with."""
        with self._storing():
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.ftruncate(self._descriptor, 0)
            self._forget(remove=False)
            if validator and not self.path.name.startswith("."):
                self._note.write_text(json.dumps({"url": redacted(url), "validator": validator}), encoding="utf-8")
        self.size, self.url, self.validator = 0, redacted(url), validator
        self.head = b""
        self._hash = hashlib.sha256()

    def publish(self, path: Path) -> BinaryIO:
        """Give the checked file its name. Gives the open file, at offset 0."""
        with self._storing():
            if os.fstat(self._descriptor).st_size != self.size:
                raise OSError(errno.EBUSY, "somebody else writes it, too")
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            if not _RENAMES_OPEN_FILES:
                return self._publish_closed(path)
            # If it has lost its name (`cache clear`, or a lock that does not exclude), the bytes are still good, and
            # another one's bytes must not be published in their place.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self.path.lstat()):
                    self.path.replace(path)
            self._forget(remove=False)
            descriptor, self._descriptor = self._descriptor, -1
            return os.fdopen(descriptor, "rb")

    def _publish_closed(self, path: Path) -> BinaryIO:
        """The same where what is open cannot be renamed: let go, and check again what has the name then."""
        self._close()
        self.path.replace(path)
        self._forget(remove=False)
        file = path.open("rb")
        if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
            file.close()
            msg = f"{path} changed while it was being published"
            raise DigestMismatchError(msg, hint="try again")
        file.seek(0)
        return file

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _count(self, chunk: bytes) -> None:
        # The descriptor stands behind the last of these bytes, always: nobody seeks in between.
        if len(self.head) < _HEAD:
            self.head += chunk[: _HEAD - len(self.head)]
        self._hash.update(chunk)
        self.size += len(chunk)

    def _load(self) -> None:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            url, validator = str(note["url"]), str(note["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            url = validator = ""
        if validator:
            self.url, self.validator = url, validator
            while chunk := os.read(self._descriptor, 1 << 20):
                self._count(chunk)
        elif os.fstat(self._descriptor).st_size:
            self.restart()

    def _forget(self, *, remove: bool) -> None:
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)
            if remove:
                self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _storage_error(self.path, error) from error


def _open_part(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | _OPEN_FLAGS
    for last in (False, True):
        try:
            descriptor = os.open(path, flags, 0o644)
            facts = os.fstat(descriptor)
            # A second name for it would be written through, too.
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink <= 1:
                with contextlib.suppress(AttributeError):  # Windows
                    os.fchmod(descriptor, 0o644)  # whatever the umask
                return descriptor
            os.close(descriptor)
            path.unlink()
        except FileNotFoundError:
            _make_directory(path.parent)  # `cache clear` took the directory
        except OSError as error:
            if last or error.errno not in {errno.ELOOP, errno.EMLINK}:
                raise _storage_error(path, error) from error
            path.unlink(missing_ok=True)
    raise _storage_error(path, OSError(errno.EBUSY, "somebody keeps changing it"))


def _is_ours_alone(descriptor: int) -> bool:
    """Whether nobody else fills this very file, as far as the system can tell; ours until the descriptor is closed."""
    if _RENAMES_OPEN_FILES:  # elsewhere a lock file cannot be deleted while somebody holds it
        from filelock import lock_descriptor

        with contextlib.suppress(OSError):
            return lock_descriptor(descriptor, blocking=False)
    return True


class _Listener:
    """Tells a `Progress`, if there is one, each thing once."""

    def __init__(self, build: Build, progress: Progress | None) -> None:
        self._build = build
        self._progress = progress
        self._is_started = False
        self._told = 0

    def at(self, size: int, total: int | None) -> None:
        """So many bytes are there now."""
        if self._progress is None:
            return
        if not self._is_started:
            self._is_started = True
            self._progress.started(self._build, total)
        if size != self._told:
            self._progress.advanced(self._build, size - self._told)
            self._told = size

    def waiting(self, reason: str) -> None:
        if (waiting := getattr(self._progress, "waiting", None)) is not None:
            waiting(self._build, reason)

    def finished(self) -> None:
        if self._is_started and self._progress is not None:
            self._progress.finished(self._build)


# ---- filling it ----------------------------------------------------------------------------------------------------


def _fill(part: _Part, build: Build, url: str, client: "Client", until: float, listener: _Listener) -> None:
    """Make `part` the archive of `build`. One that is something else in the end is fetched anew, once."""

    def attempt() -> None:
        if _is_local(url):
            _copy(part, build, url, client, listener)
            return
        _persist(
            lambda: _receive(part, build, url, client, until, listener),
            client=client,
            until=until,
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
    listener.waiting(f"{wrong.message}; fetching it anew")
    client.pause(0 if _is_local(url) else client.limits.backoff)
    attempt()


def _receive(part: _Part, build: Build, url: str, client: "Client", until: float, listener: _Listener) -> None:
    if part.size and part.sha256 == build.sha256:
        return  # it broke, or its writer died, after the last byte
    headers = {}
    if part.is_continued_by(url) and (build.size is None or part.size < build.size):
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    elif part.size:
        part.restart()
    accept = {200, 206, 416} if headers else {200}
    with client.answer(url, headers, until=until, accept=accept, what=_what(build)) as answer:
        if answer.status == 206 and answer.range_start != part.size:
            part.restart()
            msg = f"another part of the file came than was asked for, from {redacted(url)}"
            raise _PassingError(msg)
        if answer.status == 200:
            part.restart(url=url, validator=answer.validator)
        if answer.status != 416:
            most = build.size if build.size is not None else client.limits.archive_size
            if answer.total is not None and (answer.total > most or build.size not in {None, answer.total}):
                raise _wrong_size(build, url, str(answer.total), most, answer)
            total = answer.total if build.size is None else build.size
            listener.at(part.size, total)
            for chunk in answer.steady(client.limits, until):
                if part.size + len(chunk) > most:
                    raise _wrong_size(build, url, f"more than {most}", most, answer)
                part.append(chunk)
                listener.at(part.size, total)
            _check(part, build, url, answer)
            return
    part.restart()  # 416: there is no such part any more
    _receive(part, build, url, client, until, listener)


def _what(build: Build) -> str:
    return f"cannot download {build.key}"


def _check(part: _Part, build: Build, url: str, answer: "_Answer | None") -> None:
    is_page = (answer is not None and answer.is_page) or _looks_like_a_page(part.head)
    if build.size is not None and part.size != build.size:
        if answer is not None and answer.total is None and not is_page:
            # Nobody said how long it would be, so an early end looks like any other.
            msg = f"the connection ended after {part.size} of {build.size} bytes, {redacted(url)}"
            raise _PassingError(msg)
        raise _wrong_size(build, url, str(part.size), build.size, answer)
    if part.sha256 != build.sha256:
        msg = f"{build.key}: what came from {redacted(url)} is not what the catalogue promises: "
        msg += "an HTML page, " if is_page else ""
        msg += f"sha256 {part.sha256}, expected {build.sha256}"
        raise DigestMismatchError(msg, hint=_page_hint(url) if is_page else _wrong_hint())


def _wrong_size(build: Build, url: str, size: str, most: int, answer: "_Answer | None") -> IntegrityError:
    is_page = answer is not None and answer.is_page
    msg = f"{build.key}: what came from {redacted(url)} is not what the catalogue promises: "
    msg += "an HTML page, " if is_page else ""
    msg += f"{size} bytes, expected {'' if build.size is not None else 'at most '}{most}"
    return SizeMismatchError(msg, hint=_page_hint(url) if is_page else _wrong_hint())


def _looks_like_a_page(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def _page_hint(url: str) -> str:
    return f"a login page or a proxy answered; open it in a browser: {redacted(url)}"


def _wrong_hint() -> str:
    return "the server has another file; ask another one: --python-mirror URL, or --python-catalogue URL"


def _persist(
    attempt: Callable[[], T],
    *,
    client: "Client",
    until: float,
    attempts: int,
    what: str,
    waiting: Callable[[str], None],
    reached: Callable[[], int] = lambda: 0,
) -> T:
    """The result of `attempt`, which is repeated for as long as its failures may pass by themselves."""
    limits = client.limits
    failures, tries, furthest = 0, 0, reached()
    while True:
        tries += 1
        try:
            return attempt()
        except _PassingError as error:
            fault = error
        failures += 1
        if reached() >= furthest + limits.worth:
            failures, furthest = 1, reached()
        pause = min(limits.backoff * 2 ** (failures - 1), limits.longest_backoff) * (0.5 + limits.jitter() / 2)
        if fault.retry_after is not None:
            pause = max(pause, min(fault.retry_after, limits.longest_retry_after))
        if failures >= attempts:
            break
        if limits.clock() + pause >= until:
            fault.reason += f"; gave up after {limits.total:g} s in all"
            break
        waiting(f"{fault.reason}; trying again in {pause:.1f} s")
        client.pause(pause)
    msg = f"{what}: {fault.reason}" + (f" ({tries} attempts)" if tries > 1 else "")
    raise _UnreachableError(msg, hint=fault.hint or _OTHERWISE) from fault.__cause__


_OTHERWISE = (
    "try again later; behind a proxy, HTTPS_PROXY=http://host:port; from another server, --python-mirror URL or DIR"
)


class _PassingError(Exception):
    """A failure that may pass by itself."""

    def __init__(self, reason: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.hint = hint


class _UnreachableError(FetchError):
    """Such failures went on for too long."""


# ---- files and directories -----------------------------------------------------------------------------------------


def _is_local(url: str) -> bool:
    return url.lower().startswith("file:") or "://" not in url


def _open_local(url: str) -> BinaryIO:
    """Open what a file URL or a path names. Mirrors keep a ``+`` of the release's names as ``+`` or as ``%2B``."""
    paths = _local_paths(url)
    flaw = "no such file"
    for path in paths:
        try:
            return _open_regular(path, _OPEN_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            flaw = getattr(error, "strerror", None) or str(error)
    msg = f"cannot read {paths[0]}: {flaw}"
    raise FetchError(
        msg, hint="pytest-pyinstall mirror pull DIR REQUEST fills a mirror directory; or --python-mirror URL"
    )


def _local_paths(url: str) -> list[Path]:
    if not url.lower().startswith("file:"):
        path = Path(url)
        return list(dict.fromkeys([path, path.parent / unquote(path.name)]))
    parts = urlsplit(url)
    if os.name == "nt":  # pragma: no cover  # needs drive letters
        from urllib.request import url2pathname

        host = f"//{parts.netloc}" if parts.netloc.lower() not in {"", "localhost"} else ""
        return [Path(url2pathname(host + parts.path)), Path(url2pathname(host + parts.path.replace("%", "%25")))]
    if parts.netloc.lower() not in {"", "localhost"}:
        msg = f"a file URL of another host cannot be read: {redacted(url)}"
        raise FetchError(msg, hint=f"file://{parts.path}")
    # The name of a file may have a ? or a # in it.
    raw = re.sub(r"^file:(//[^/]*)?", "", url, flags=re.IGNORECASE)
    return list(dict.fromkeys([Path(unquote(raw)), Path(unquote(raw)).parent / raw.rpartition("/")[2]]))


def _copy(part: _Part, build: Build, url: str, client: "Client", listener: _Listener) -> None:
    if part.size:
        part.restart()
    with _open_local(url) as source:
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
                raise FetchError(msg, hint=_OTHERWISE) from error
            if not chunk:
                break
            if part.size + len(chunk) > most:  # it grows under our hands
                raise _wrong_size(build, url, f"more than {most}", most, None)
            part.append(chunk)
            listener.at(part.size, size)
    _check(part, build, url, None)


def _read_local(url: str, limits: Limits) -> bytes:
    with _open_local(url) as source:
        try:
            body = source.read(limits.catalogue_size + 1)
        except OSError as error:
            msg = f"cannot read {redacted(url)}: {error.strerror}"
            raise FetchError(msg, hint="--python-catalogue FILE") from error
    if len(body) > limits.catalogue_size:
        raise _too_long(url, limits)
    return body


# ---- catalogues ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Kept:
    """A document that was fetched before, if it was and is still what it was then."""

    path: Path
    body: bytes | None = None
    etag: str = ""
    modified: str = ""
    since: float = 0.0

    @classmethod
    def load(cls, cache: Path, url: str) -> "_Kept":
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

    def save(self, body: bytes, answer: "_Answer", now: float) -> None:
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
                _make_directory(path.parent)
                scratch.write_bytes(content)
                scratch.replace(path)
            except (OSError, StoreError):
                with contextlib.suppress(OSError):
                    scratch.unlink()
                return

    def age(self, now: float) -> str:
        hours = max(0.0, now - self.since) / 3600
        return f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"

    @property
    def _meta(self) -> Path:
        return self.path.with_suffix(".meta")


def _revalidated(kept: _Kept, url: str, client: "Client", until: float) -> bytes:
    headers = {}
    if kept.body is not None and kept.etag:
        headers = {"If-None-Match": kept.etag}
    elif kept.body is not None and kept.modified:
        headers = {"If-Modified-Since": kept.modified}
    limits, accept = client.limits, {200, 304} if headers else {200}
    with client.answer(url, headers, until=until, accept=accept, what=_CATALOGUE) as answer:
        if answer.status == 304 and kept.body is not None:
            return kept.body
        body = bytearray()
        for chunk in answer.steady(limits, until):
            body += chunk
            if len(body) > limits.catalogue_size:
                raise _too_long(url, limits)
        if answer.is_page or _looks_like_a_page(bytes(body[:256])):
            msg = f"an HTML page came instead of a catalogue from {redacted(url)}"
            raise CatalogueError(msg, hint=_page_hint(url))
        kept.save(bytes(body), answer, limits.wall_clock())
        return bytes(body)


_CATALOGUE = "cannot download the catalogue"


def _too_long(url: str, limits: Limits) -> CatalogueError:
    msg = f"more than {limits.catalogue_size} bytes cannot be a catalogue: {redacted(url)}"
    return CatalogueError(msg, hint="--python-catalogue URL")


# ---- HTTP ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_client(
    *,
    environ: Mapping[str, str],
    insecure_hosts: frozenset[str] = frozenset(),
    limits: Limits | None = None,
    warn: Callable[[str], None] | None = None,
) -> Iterator["Client"]:
    """A `Client` for as long as the ``with`` block lasts. Opens no connection and imports nothing by itself."""
    client = Client(environ=environ, insecure_hosts=insecure_hosts, limits=limits or Limits(), warn=warn)
    try:
        yield client
    finally:
        client.stop()


class Client:
    """How we talk to servers. One is enough for all threads of a session; each `fetch` of theirs runs on its own.

    From `environ` come the proxies (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``, in lower or upper
    case) and ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``; otherwise the certificates are the system's. Nothing is read from
    the process's own environment, and no netrc and no token is ever used: a server gets the user and password that its
    own URL holds. Loopback is never asked through a proxy.

    `insecure_hosts` (``host`` or ``host:port``) may be asked over plain http, which `warn` hears about once for each.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        insecure_hosts: frozenset[str] = frozenset(),
        limits: Limits,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.limits = limits
        self._environ = environ
        self._insecure_hosts = frozenset(host.lower() for host in insecure_hosts)
        self._warn = warn
        self._warned: set[str] = set()
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._context: ssl.SSLContext | None = None
        self._transports: dict[tuple[str | None, bool], httpx2.HTTPTransport] = {}
        self._calls: set[_Call] = set()

    def warn(self, text: str) -> None:
        """Say something aloud, once."""
        with self._guard:
            is_new = text not in self._warned
            self._warned.add(text)
        if is_new and self._warn is not None:
            self._warn(text)

    def warm_up(self, url: str) -> None:
        """Begin, in a thread, with what the first request for `url` has to wait for: 80 ms of imports, certificates."""

        def begin() -> None:
            with contextlib.suppress(FetchError):  # whoever downloads hears it
                self.transport(None, encrypted=url.startswith("https:"))

        if not _is_local(url):
            threading.Thread(target=begin, name="pytest-pyinstall-http", daemon=True).start()

    def stop(self) -> None:
        """End every download under way, in whichever thread, at once: each raises `FetchError`. For Ctrl-C."""
        self._stopped.set()
        with self._guard:
            calls = list(self._calls)
        for call in calls:
            call.cut()

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, unless somebody stops us. Raises `FetchError` then."""
        if self.limits.sleep is not None:
            self.limits.sleep(seconds)
        else:
            self._stopped.wait(seconds)
        self._check_stopped()

    def nap(self, seconds: float) -> None:
        """Wait for another process, in real time."""
        self._stopped.wait(seconds)
        self._check_stopped()

    @contextlib.contextmanager
    def answer(
        self, url: str, headers: Mapping[str, str], *, until: float, accept: set[int], what: str
    ) -> Iterator["_Answer"]:
        """The answer to a GET, after at most five redirects, with a status out of `accept`; its body is unread.

        Raises `_PassingError` for what may pass by itself, `FetchError` for everything else, its message beginning
        with `what`. No exception of the HTTP library comes out of here, nor its words: both hold URLs as they are, and
        those hold secrets.
        """
        parts = self._permitted(url, None, what)
        home, authorization = _origin(parts), _authorization(parts)
        for hop in range(self.limits.redirects + 1):
            bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
            call = _Call(self, bare, _proxy_for(parts, self._environ), what, hidden=url)
            with self._guard:
                self._calls.add(call)
            try:
                answer = call.send({**headers, **({"Authorization": authorization} if authorization else {})}, until)
                location = answer.headers.get("location", "")
                if answer.status not in {301, 302, 303, 307, 308} or not location:
                    if answer.status not in accept:
                        raise _refused(answer, self.limits)
                    yield answer
                    return
            finally:
                call.close()
                with self._guard:
                    self._calls.discard(call)
            if hop < self.limits.redirects:
                parts = self._permitted(_joined(bare, location), parts, what)
                if _origin(parts) != home:
                    authorization = ""  # and it does not come back if a later hop does
        msg = f"{what}: more than {self.limits.redirects} redirects from {redacted(url)}"
        raise FetchError(msg, hint=_ELSEWHERE)

    def transport(self, proxy: str | None, *, encrypted: bool) -> "httpx2.HTTPTransport":
        """Connections to where `proxy` leads, directly if None. Not `httpx2.Client`: cookies, environment, its log."""
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

    def _permitted(self, url: str, previous: SplitResult | None, what: str) -> SplitResult:
        """The parts of a URL that we may ask."""
        whence = f"{redacted(urlunsplit(previous))} redirects to " if previous is not None else ""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            host = ""
        if not host or parts.scheme not in {"https", "http"}:
            msg = f"{what}: this is no place to download from: {whence}{redacted(url)}"
            raise FetchError(msg, hint="only https:// URLs, directories and file:// URLs can be used")
        if parts.scheme == "http":
            named = bool({host, f"{host}:{port or 80}"} & self._insecure_hosts)
            if not named and ((previous is not None and previous.scheme == "https") or not _is_loopback(host)):
                msg = f"{what}: unencrypted http is refused: {whence}{redacted(url)}"
                hint = f"if {host} is to be trusted all the same: PYTEST_PYINSTALL_INSECURE_HOST={host}"
                raise FetchError(msg, hint=hint)
            if named and not _is_loopback(host):
                self.warn(f"{host} is asked over unencrypted http (PYTEST_PYINSTALL_INSECURE_HOST)")
        return parts

    def _check_stopped(self) -> None:
        if self.is_stopped:
            raise FetchError(_STOPPED)


_STOPPED = "stopped while downloading"
_ELSEWHERE = "another server: --python-mirror URL or DIR"


class _Call:
    """One request on one connection, which can be cut from another thread."""

    def __init__(self, client: Client, url: str, proxy: str | None, what: str, *, hidden: str) -> None:
        self.client = client
        self.url = url
        self.what = what
        self._proxy = proxy
        self._hidden = _secrets(url, hidden, proxy or "")
        self._stream: Any = None
        self._response: httpx2.Response | None = None
        self._is_late = False

    def send(self, headers: Mapping[str, str], until: float) -> "_Answer":
        limits = self.client.limits
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
            response = self.foreign(lambda: self._handle(transport, headers, timeout))
        finally:
            alarm.cancel()
        self._response = response
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return _Answer(call=self, status=response.status_code, headers=lowered, response=response)

    def close(self) -> None:
        if self._response is not None:
            with contextlib.suppress(Exception), _quietly():  # what is left of its body is of no interest any more
                self._response.close()

    def cut(self) -> None:
        """End it. Whoever waits for its bytes wakes up; closing would leave them waiting."""
        with contextlib.suppress(OSError, AttributeError):
            # Not the method of an SSLSocket: that would go on in clear text.
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def foreign(self, call: Callable[[], T]) -> T:
        """The result of a call into the HTTP library, its exceptions turned into ours."""
        import httpx2

        try:
            with _quietly():
                return call()
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
            fault = self._fault(error)
        raise fault  # outside of the handler: the context would keep what the cause must not show

    def _transport(self) -> "httpx2.HTTPTransport":
        import httpx2

        with contextlib.suppress(ValueError, ImportError, httpx2.InvalidURL):
            encrypted = self.url.startswith("https:") or (self._proxy or "").lower().startswith("https:")
            return self.client.transport(self._proxy, encrypted=encrypted)
        msg = f"{self.what}: this proxy cannot be used: {redacted(self._proxy or '')}"
        raise FetchError(msg, hint='HTTPS_PROXY=http://host:port; socks5:// needs: pip install "httpx2[socks]"')

    def _handle(
        self, transport: "httpx2.HTTPTransport", headers: Mapping[str, str], timeout: dict[str, float]
    ) -> "httpx2.Response":
        import httpx2

        request = httpx2.Request(
            "GET",
            self.url,
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "pytest-pyinstall", **headers},
            extensions={"timeout": timeout, "trace": self._trace},
        )
        return transport.handle_request(request)

    def _trace(self, _: str, event: dict[str, Any]) -> None:
        if hasattr(stream := event.get("return_value"), "get_extra_info"):
            self._stream = stream
        if self.client.is_stopped or self._is_late:
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

        where = redacted(self.url) + (f" through the proxy {redacted(self._proxy)}" if self._proxy else "")
        links = list(_chain(error))
        untrusted = next((link for link in links if isinstance(link, ssl.SSLCertVerificationError)), None)
        if self.client.is_stopped:
            return FetchError(_STOPPED)
        if isinstance(error, httpx2.ProxyError):
            return _proxy_refused(str(error)[:3], where, self.what)
        if untrusted is not None:
            return FetchError(
                f"{self.what}: the certificate of {where} is not trusted: {untrusted.verify_message}",
                hint="SSL_CERT_FILE=FILE names the certificates to trust, such as those of a company's proxy",
            )
        if isinstance(error, (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, OSError)):
            spelled = next((_spelled(link) for link in links if isinstance(link, OSError)), "")
            return _PassingError(f"{self._symptom(error, spelled)}, {where}")
        return FetchError(f"{self.what}: cannot ask {where}: {type(error).__name__}", hint=_ELSEWHERE)

    def _symptom(self, error: Exception, spelled: str) -> str:
        import httpx2

        limits = self.client.limits
        if self._is_late:
            return f"no complete answer within {limits.headers:g} s"
        if isinstance(error, httpx2.ConnectTimeout):
            return f"no connection within {limits.connect:g} s"
        if isinstance(error, httpx2.ConnectError):
            return f"no connection: {spelled or 'refused'}"
        if isinstance(error, httpx2.TimeoutException):
            return f"nothing came for {limits.read:g} s"
        return f"the connection broke: {spelled or 'it ended early'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Status and headers of an answer; iterating gives the bytes of its body as they come."""

    call: _Call
    status: int
    headers: Mapping[str, str]
    response: "httpx2.Response" = field(repr=False)

    def __iter__(self) -> Iterator[bytes]:
        # Without a chunk size: with one it would collect a trickle for hours before we saw the first byte.
        chunks = self.response.iter_raw()
        while (chunk := self.call.foreign(lambda: next(chunks, None))) is not None:
            yield chunk

    def steady(self, limits: Limits, until: float) -> Iterator[bytes]:
        """The same, for as long as it comes fast enough and the deadline has not passed."""
        since, count = limits.clock(), 0
        for chunk in self:
            yield chunk
            count += len(chunk)
            now = limits.clock()
            if now >= until:
                msg = f"it was not complete in time, {redacted(self.call.url)}"
                raise _PassingError(msg)
            if now - since >= limits.slow_time:
                if count < limits.slow_bytes:
                    msg = f"only {count} bytes came in {now - since:.0f} s from {redacted(self.call.url)}"
                    raise _PassingError(msg)
                since, count = now, 0

    @property
    def total(self) -> int | None:
        """How long the whole file is, as far as the server says."""
        if self.status == 206:
            text = self.headers.get("content-range", "").rpartition("/")[2]
        else:
            text = self.headers.get("content-length", "")
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None

    @property
    def range_start(self) -> int | None:
        match = re.match(r"bytes (\d{1,18})-", self.headers.get("content-range", ""))
        return int(match[1]) if match else None

    @property
    def validator(self) -> str:
        """What `If-Range` takes: a strong ETag, else a date (RFC 9110, section 13.1.5); nothing where there is none."""
        etag = self.headers.get("etag", "")
        if etag.startswith('"'):
            return etag
        return "" if etag else self.headers.get("last-modified", "")

    @property
    def is_page(self) -> bool:
        return self.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:
        return location


def _refused(answer: _Answer, limits: Limits) -> Exception:
    status, where, what = answer.status, redacted(answer.call.url), answer.call.what
    reason = f"HTTP {status} from {where}"
    if status in {408, 425, 429} or status >= 500:
        return _PassingError(reason, retry_after=_retry_after(answer.headers, limits.wall_clock))
    if status in {404, 410}:
        return FetchError(f"{what}: {reason}", hint=f"this server does not have it; {_ELSEWHERE}")
    if status in {401, 403}:
        hint = "a mirror's user and password belong into its URL: --python-mirror https://user:password@host/path"
        return FetchError(f"{what}: {reason}", hint=hint)
    if status == 407:
        return _proxy_refused("407", where, what)
    return FetchError(f"{what}: unexpected answer, {reason}", hint=_ELSEWHERE)


def _proxy_refused(status: str, where: str, what: str) -> Exception:
    if status == "407":
        hint = "HTTPS_PROXY=http://user:password@host:port"
        return FetchError(f"{what}: the proxy wants a user and a password (407): {where}", hint=hint)
    if status.isdigit() and status.startswith("4") and status not in {"408", "425", "429"}:
        return FetchError(f"{what}: the proxy refuses it ({status}): {where}", hint="NO_PROXY=host goes without it")
    return _PassingError(f"the proxy fails ({status if status.isdigit() else 'no answer'}): {where}")


def _retry_after(headers: Mapping[str, str], wall_clock: Callable[[], float]) -> float | None:
    """Seconds to wait, if the server says so, in seconds or as a date; by its own clock, if it tells the time."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        then = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        now = wall_clock()
    return max(0.0, then - now)


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


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return (parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80))


def _authorization(parts: SplitResult) -> str:
    if parts.username is None and parts.password is None:
        return ""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _secrets(*urls: str) -> frozenset[str]:
    """The parts of these URLs that must not be shown, in each form in which they might turn up."""
    found = set()
    for url in urls:
        try:
            parts = urlsplit(url)
        except ValueError:  # a proxy's; nothing can be told apart in it
            found.add(url)
            continue
        userinfo = parts.netloc.rpartition("@")[0]
        for text in (userinfo, *userinfo.split(":", 1), parts.query, *parts.query.split("&"), parts.fragment):
            found |= {text, unquote(text), text.partition("=")[2]}
        if userinfo:
            found.add(base64.b64encode(unquote(userinfo).encode()).decode())
    return frozenset(text for text in found if text)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _proxy_for(parts: SplitResult, environ: Mapping[str, str]) -> str | None:
    """The proxy to ask, by the conventions of curl; None for directly."""
    host = (parts.hostname or "").lower()
    if _is_loopback(host):
        return None
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    for name in names:
        # Where we are started by a web server, HTTP_PROXY is a header of whoever asked it (https://httpoxy.org).
        upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper(), "")
        if proxy := (environ.get(name) or upper).strip():
            port = parts.port or (443 if parts.scheme == "https" else 80)
            if _is_bypassed(host, port, environ.get("no_proxy") or environ.get("NO_PROXY", "")):
                return None
            return proxy if "://" in proxy else f"http://{proxy}"
    return None


def _is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False):
                return True
        name, _, number = entry.rpartition(":") if re.search(r":\d+$", entry) else (entry, "", "")
        name = name.strip("[]").removeprefix("*").lstrip(".")
        if name and number in {"", str(port)} and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _proxy(url: str | None, context: ssl.SSLContext) -> "httpx2.Proxy | None":
    import httpx2

    if url is None:
        return None
    return httpx2.Proxy(url, ssl_context=context if url.lower().startswith("https:") else None)


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


class _Silence(threading.local):
    is_wanted = False


_silence = _Silence()
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


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    before, _silence.is_wanted = _silence.is_wanted, True
    try:
        yield
    finally:
        _silence.is_wanted = before
