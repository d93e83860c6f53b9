"""The cache of archives: the path of each, its check and its lock, and what `cache list`, `prune` and `clear` do."""

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
def lock_archive(path: Path, client: Client, deadline: float, waiting: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of the archive's directory, which is created. Yields False if it cannot be acquired.

    The lock only saves work. Its holder gets as much time as it needs while its download grows. A process that was
    stopped, or one on another host whose lock never ends, does not block the others.
    """
    part = path.with_name(f"{path.name}.part")
    clock, size, since = client.limits.clock, -1, client.limits.clock()
    is_announced = False
    while True:
        _require_directory(path.parent)
        with lock_now(path.parent) as ours:
            if ours is not False:
                yield bool(ours)
                return
        if not is_announced:
            waiting("another process is downloading it")
            is_announced = True
        try:
            grown = part.stat().st_size
        except OSError:
            grown = -1
        now = clock()
        if grown != size:
            size, since = grown, now
        if now - since >= client.limits.abandoned or now >= deadline:
            yield False
            return
        client.wait_for_peer(0.02)


def _require_directory(directory: Path) -> None:
    """Make `directory`. Anything else in its place is not ours, and is replaced: nothing may be written through it."""
    try:
        if not stat.S_ISDIR(directory.lstat().st_mode):
            directory.unlink()
    except (FileNotFoundError, NotADirectoryError):
        pass  # another process was faster, or `make_cache_directory` says what is wrong
    except OSError as error:
        raise storage_error(directory, error) from error
    make_cache_directory(directory)


def archive_path(cache: Path, build: Build) -> Path:
    """The path of the archive of `build` in the cache."""
    name = build.file_name
    # The name comes from a URL. If it could be anything but a plain file name, use a plain one.
    if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9_+.~@=-]{0,199}", name) or name.endswith(".part"):
        name = "archive"
    return cache / "archives" / build.sha256 / name


def open_cached(path: Path, build: Build, client: Client, sink: ArchiveSink | None = None) -> BinaryIO | None:
    """Open the cached archive and check it. If it fails the check, it is deleted, as far as permissions allow.

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
        try:
            flaw = _flaw(file, build, sink)
        except BaseException:  # such as one of `sink`
            file.close()
            raise
        if not flaw:
            with contextlib.suppress(OSError):  # a read-only cache, or one of another user, works too
                os.utime(path)
            return file
        with contextlib.suppress(OSError):
            file.close()
    client.warn(f"the cached {path} is damaged ({flaw}): downloading it again")
    with contextlib.suppress(OSError):  # if it matters, writing the new one fails too, and says why
        remove(path)
    return None


_READ = 1 << 18


def _flaw(file: BufferedReader, build: Build, sink: ArchiveSink | None) -> str:
    """What is wrong with an open file. Empty if it is the archive of `build`. Leaves it at offset 0."""
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
    """A file in the cache. `used` is the time of its last use, in seconds since the epoch."""

    path: Path
    sha256: str
    size: int
    used: float
    is_directory: bool = False


def cached_archives(cache: Path) -> list[CachedFile]:
    """The archives below the cache, least recently used first, unchecked, without partial downloads."""
    files = [file for directory in _directories(cache) for file in _files(directory)]
    found = [file for file in files if not _is_partial(file.path) and not file.is_directory]
    return sorted(found, key=lambda file: (file.used, file.path))


def prune(cache: Path, *, now: float | None = None) -> list[CachedFile]:
    """Remove abandoned partial downloads and archives that fail their check. Returns what was removed.

    A directory in the place of an archive is removed with its content. The files of a running download are kept. A
    partial download without a lock is abandoned an hour after its last byte, twice the time that a download can take.
    Raises `StoreError`, which names the file that cannot be removed.
    """
    horizon = (time.time() if now is None else now) - 3600

    def is_unwanted(file: CachedFile, ours: bool) -> bool:
        if file.is_directory:  # we never create one here
            return True
        if not _is_partial(file.path):
            return _is_bad(file)
        # While we hold the lock, no process writes the resumable file. The others are written without a lock.
        return (ours and not file.path.name.startswith(".")) or file.used < horizon

    removed = _sweep(cache, is_unwanted)
    for file in _documents(cache):
        if file.is_directory or (_is_partial(file.path) and file.used < horizon):
            _remove(file.path)
            removed.append(file)
    return removed


def clear(cache: Path) -> list[CachedFile]:
    """Remove every archive, partial download and catalogue, except those of running downloads. Returns them."""
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
            # Remove the lock file last, while we hold it. A process that waits for it notices that the file is deleted,
            # and starts over. If another process has begun a download meanwhile, the directory is not empty, and stays.
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
    """The files in one directory of the cache, without the lock and the notes beside partial downloads."""
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
