"""The lock of one directory of the archive cache: it saves work, and decides nothing.

An archive in the cache: where it is, and whether it is still what it was.

What is in the cache, and what of it may go: for the command line.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from typing import TYPE_CHECKING, BinaryIO

from pytest_pyinstall.system.files import OPEN_FLAGS, make_cache_directory, open_regular, remove, storage_error
from pytest_pyinstall.system.locks import LOCK, lock_now
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

    from pytest_pyinstall.download._partial import ArchiveSink
    from pytest_pyinstall.download.client import Client
    from pytest_pyinstall.request.identity import Build

__all__ = ["CachedFile", "archive_path", "cached_archives", "clear", "lock_archive", "open_cached", "prune"]


@contextlib.contextmanager
def lock_archive(path: Path, client: Client, until: float, waiting: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of the archive's directory, which is made; False if it could not be had.

    the process that holds it gets as long as it takes, provided that its download grows: a process that was stopped, or
    that runs on another host where the lock never ends, keeps no one.
    """
    part = path.with_name(f"{path.name}.part")
    clock, size, since = client.limits.clock, -1, client.limits.clock()
    told = False
    while True:
        make_cache_directory(path.parent)
        with lock_now(path.parent) as ours:
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


def archive_path(cache: Path, build: Build) -> Path:
    """Where the archive of `build` is in the cache, once it is there."""
    name = build.file_name
    # The name comes out of a URL. One that could mean something else here than a plain file gets a plain name.
    if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9_+.~@=-]{0,199}", name) or name.endswith(".part"):
        name = "archive"
    return cache / "archives" / build.sha256 / name


def open_cached(path: Path, build: Build, client: Client, sink: ArchiveSink | None = None) -> BinaryIO | None:
    """The entry of the cache, open and checked; one that fails its check is gone afterwards, as far as we may.

    `sink` receives the bytes while they are hashed.
    """
    try:
        file = open_regular(path, OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}:
            raise storage_error(path, error) from error
        flaw = error.strerror or "unreadable"
    else:
        flaw = _flaw(file, build, sink)
        if not flaw:
            with contextlib.suppress(OSError):  # a cache that is not ours, or read-only, works all the same
                os.utime(path)
            return file
        with contextlib.suppress(OSError):
            file.close()
    client.warn(f"the cached {path} is damaged ({flaw}): fetching it anew")
    with contextlib.suppress(OSError):  # if it matters, writing the new one fails too, and says why
        remove(path)
    return None


_READ = 1 << 18


def _flaw(file: BufferedReader, build: Build, sink: ArchiveSink | None) -> str:
    """What is wrong with an open file; nothing, if it is the archive of `build`. Leaves it at offset 0."""
    try:
        size = os.fstat(file.fileno()).st_size
        if build.size is not None and size != build.size:
            return f"{size} instead of {build.size} bytes"
        if sink is None:
            digest = hashlib.file_digest(file, "sha256")
        else:
            digest = hashlib.sha256()
            sink.restart()
            while chunk := file.read(_READ):
                digest.update(chunk)
                sink.write(chunk)
        if digest.hexdigest() != build.sha256:
            return "another sha256"
        file.seek(0)
    except OSError as error:
        return error.strerror or "unreadable"
    return ""


class CachedFile(Value):
    """What is in the cache. `used` is when it was last handed out, in seconds since the epoch."""

    path: Path
    sha256: str
    size: int
    used: float
    is_directory: bool = False


def cached_archives(cache: Path) -> list[CachedFile]:
    """The archives below the cache, least recently used first, unchecked; partial downloads are not among them."""
    files = [file for directory in _directories(cache) for file in _files(directory)]
    found = [file for file in files if not _is_partial(file.path) and not file.is_directory]
    return sorted(found, key=lambda file: (file.used, file.path))


def prune(cache: Path, *, now: float | None = None) -> list[CachedFile]:
    """Remove partial downloads that no one is writing, and archives that fail their check; returns what was removed.

    A directory in an archive's place is removed with all that is in it.

    What a running download holds stays. A partial download without a lock counts as dead an hour after its last byte,
    twice as long as any download may take. Raises `StoreError` naming the file that cannot be removed.
    """
    horizon = (time.time() if now is None else now) - 3600

    def is_unwanted(file: CachedFile, ours: bool) -> bool:
        if file.is_directory:  # no one of ours writes into one
            return True
        if not _is_partial(file.path):
            return _is_bad(file)
        # Under the lock no one writes the resumable one. The others' writers never had a lock.
        return (ours and not file.path.name.startswith(".")) or file.used < horizon

    removed = _sweep(cache, is_unwanted)
    for file in _documents(cache):
        if file.is_directory or (_is_partial(file.path) and file.used < horizon):
            _remove(file.path)
            removed.append(file)
    return removed


def clear(cache: Path) -> list[CachedFile]:
    """Remove every archive, partial download and catalogue that no running download holds; returns what was removed."""
    removed = _sweep(cache, lambda _file, _ours: True)
    for file in _documents(cache):
        _remove(file.path)
        removed.append(file)
    return removed


def _sweep(cache: Path, is_unwanted: Callable[[CachedFile, bool], bool]) -> list[CachedFile]:
    removed = []
    for directory in _directories(cache):
        with lock_now(directory) as ours:
            if ours is False:
                continue  # another process is downloading into it
            for file in _files(directory):
                if is_unwanted(file, bool(ours)):
                    _remove(file.path)
                    removed.append(file)
            # The lock file goes last, while we hold it: the process that waits for it finds that it has no name any
            # more and starts over. A directory in which another process has begun again meanwhile is not empty, and
            # stays.
            if not _files(directory):
                with contextlib.suppress(OSError):
                    for note in (*directory.glob(f"*{_NOTE}"), directory / LOCK):
                        remove(note)
                    directory.rmdir()
    return removed


def _directories(cache: Path) -> list[Path]:
    try:
        entries = sorted((cache / "archives").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise storage_error(cache / "archives", error) from error
    return [entry for entry in entries if _is_ours(entry)]


def _is_ours(entry: Path) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", entry.name) is not None and entry.is_dir() and not entry.is_symlink()


def _documents(cache: Path) -> list[CachedFile]:
    form = re.compile(r"[0-9a-f]{64}\.(json|meta)|\.[0-9a-f]+.*\.part")
    return [file for file in _files(cache / "catalogues") if form.fullmatch(file.path.name)]


_NOTE = ".part.json"


def _files(directory: Path) -> list[CachedFile]:
    """What is in one directory of the cache, except the lock and the notes beside partial downloads."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(directory.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                facts = path.lstat()
                if path.name != LOCK and not path.name.endswith(_NOTE):
                    found.append(
                        CachedFile(
                            path=path,
                            sha256=directory.name,
                            size=facts.st_size,
                            used=facts.st_mtime,
                            is_directory=stat.S_ISDIR(facts.st_mode),
                        )
                    )
    return found


def _is_partial(path: Path) -> bool:
    return path.name.endswith(".part")


def _is_bad(file: CachedFile) -> bool:
    try:
        with open_regular(file.path, OPEN_FLAGS) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256
    except OSError:
        return True


def _remove(path: Path) -> None:
    try:
        remove(path)
        remove(path.with_name(path.name + ".json"))
    except OSError as error:
        raise storage_error(path, error) from error
