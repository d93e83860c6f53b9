"""Directories that others make, fill and delete at the same time."""

import contextlib
import errno
import os
from pathlib import Path

__all__ = ["children", "delete", "make_directory"]


def make_directory(path: Path) -> None:
    """Make the directory `path` and what is missing above it, with no more rights than 0755, whatever the umask.

    Raises `OSError`. Safe beside others who make or remove it.
    """
    missing = []
    for directory in (path, *path.parents):
        if directory.is_dir():
            break
        missing.append(directory)
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=0o755, exist_ok=True)
        except FileExistsError as error:
            if os.path.lexists(directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from error
            raise  # somebody made and removed it


def children(directory: Path) -> list[Path]:
    """What lies in `directory`, by name; nothing where it is not there or cannot be read."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def delete(path: Path) -> None:
    """Delete `path`, whatever it is, as far as that is possible. Raises nothing."""
    import shutil

    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            if os.path.lexists(path):
                _delete_with_one_descriptor(path)
        else:
            path.unlink(missing_ok=True)


def _delete_with_one_descriptor(directory: Path) -> None:
    """`shutil.rmtree` needs one for each level, and there may be too many open files."""
    for parent, folders, names in os.walk(directory, topdown=False):
        for name in (*names, *folders):
            path = Path(parent, name)
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()
    directory.rmdir()
