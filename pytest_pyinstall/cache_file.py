"""Files of the cache: opened so that what somebody planted there does no harm."""

import contextlib
import errno
import os
import shutil
import stat
from io import BufferedReader
from pathlib import Path

from pytest_pyinstall import directory as directories
from pytest_pyinstall.errors import StoreError

__all__ = ["OPEN_FLAGS", "make_directory", "open_regular", "remove", "storage_error"]

# O_NOFOLLOW: a planted link is not an archive. O_NONBLOCK: opening a planted fifo must not wait for a writer.
OPEN_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path, flags: int) -> BufferedReader:
    """Open a file for reading; an `OSError` for anything else that may lie there."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file")
    return os.fdopen(descriptor, "rb")


def make_directory(directory: Path) -> None:
    """Make it and its parents: others may read a cache, never write it. Raises `StoreError`."""
    try:
        directories.make_directory(directory)
    except OSError as error:
        raise storage_error(Path(error.filename or directory), error) from error


def remove(path: Path) -> None:
    """Remove what lies at `path`, if anything does: a file, a link, or a directory with all that is in it."""
    try:
        is_directory = stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not is_directory:
        path.unlink(missing_ok=True)
        return
    for parent, folders, _ in os.walk(_writable(path)):
        for name in folders:
            if not (folder := Path(parent, name)).is_symlink():
                _writable(folder)
    while os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):  # somebody else is at it too
            shutil.rmtree(path)


def _writable(directory: Path) -> Path:
    with contextlib.suppress(OSError):  # another user's: if it matters, removing it fails and says why
        directory.chmod(0o700)
    return directory


def storage_error(path: Path, error: OSError) -> StoreError:
    """What the reader of an `OSError` in the cache can do about it."""
    reason = error.strerror or type(error).__name__
    return StoreError(
        f"cannot use the cache: {path}: {reason}",
        hint="another directory, or another disk: --python-cache DIR, or PYTEST_PYINSTALL_CACHE=DIR",
    )
