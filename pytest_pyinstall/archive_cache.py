"""What lies in the cache, and what of it may go: for the command line."""

import contextlib
import hashlib
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_pyinstall.archive_lock import LOCK, lock_now
from pytest_pyinstall.cache_file import OPEN_FLAGS, open_regular, remove, storage_error

__all__ = ["CachedFile", "cached_archives", "clear", "prune"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """What lies in the cache. `used` is when it was last handed out, in seconds since the epoch."""

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
    """Remove partial downloads that nobody is writing, and archives that fail their check; returns what was removed.

    A directory in an archive's place is removed with all that is in it.

    What a running download holds stays. A partial download without a lock counts as dead an hour after its last byte,
    twice as long as any download may take. Raises `StoreError` naming the file that cannot be removed.
    """
    horizon = (time.time() if now is None else now) - 3600

    def is_unwanted(file: CachedFile, ours: bool) -> bool:
        if file.is_directory:  # nobody of ours writes into one
            return True
        if not _is_partial(file.path):
            return _is_bad(file)
        # Under the lock nobody writes the resumable one. The others' writers never had a lock.
        return (ours and not file.path.name.startswith(".")) or file.used < horizon

    removed = _sweep(cache, is_unwanted)
    for file in _files(cache / "catalogues"):
        if file.is_directory or (_is_partial(file.path) and file.used < horizon):
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
        with lock_now(directory) as ours:
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
    return [entry for entry in entries if re.fullmatch(r"[0-9a-f]{64}", entry.name) and entry.is_dir()]


_NOTE = ".part.json"


def _files(directory: Path) -> list[CachedFile]:
    """What lies in one directory of the cache, except the lock and the notes beside partial downloads."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(directory.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # somebody was faster
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
