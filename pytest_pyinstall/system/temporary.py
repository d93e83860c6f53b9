"""Temporary directories that are deleted even if the process that made them is killed.

Each has a lock file that its process holds. A later command deletes the directories whose lock is free.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.system.locks import seize, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["sweep_temporary", "temporary_directory"]

_PREFIX = "pytest-pyinstall-"
_ALIVE = ".alive"
_AN_HOUR = 3600.0


@contextlib.contextmanager
def temporary_directory(parent: Path | None = None) -> Iterator[Path]:
    """A new directory in `parent`, or in the system's temporary directory, that is deleted when the block ends.

    It holds a file ``.alive``; everything else in it is yours. Raises `OSError` if it cannot be made.
    """
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with share(directory / _ALIVE):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep_temporary(environ: Mapping[str, str]) -> None:
    """Delete the temporary directories that killed processes of this user left. Never raises."""
    # Not `tempfile.gettempdir`: it writes a file to try the directory, and a process that is killed then leaves it.
    parents = dict.fromkeys([*map(environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp"])  # noqa: S108  # only read
    for directory in (path for parent in parents if parent for path in Path(parent).glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if directory.is_symlink() or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
                continue
            alive = directory / _ALIVE
            if alive.is_file():
                with seize(alive) as is_dead:
                    if is_dead:
                        import shutil

                        shutil.rmtree(directory, ignore_errors=True)
            elif time.time() - status.st_mtime > _AN_HOUR:
                directory.rmdir()  # its maker was killed before it made the lock; anything else is not empty
