"""Temporary directories that are deleted even if the process that made them is killed.

The name of each says which process made it. A later command deletes those whose process is gone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.system.files import TEMPORARY_PREFIX, is_abandoned, scratch_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["sweep_temporary", "temporary_directory"]


@contextlib.contextmanager
def temporary_directory(parent: Path | None = None) -> Iterator[Path]:
    """A new directory in `parent`, or in the system's temporary directory, that is deleted when the block ends.

    Only this user can read it. Raises `StoreError` if it cannot be made.
    """
    import shutil
    import tempfile

    try:
        place = parent or Path(tempfile.gettempdir())
        directory = place / f"{TEMPORARY_PREFIX}{scratch_name('').removeprefix('.')}"
        directory.mkdir(mode=0o700)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""  # if there is none, `tempfile` lists what it tried
        msg = f"cannot make a temporary directory: {where}{error.strerror or error}"
        raise StoreError(msg, hint="another directory for temporary files: TMPDIR=DIR") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep_temporary(environ: Mapping[str, str]) -> None:
    """Delete the temporary directories that killed processes of this user left. Never raises.

    No lock decides: on a filesystem without locks, each directory would look abandoned.
    """
    # Not `tempfile.gettempdir`: it writes a file to try the directory, and a process that is killed then leaves it.
    parents = dict.fromkeys([*map(environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp"])  # noqa: S108  # only read
    for directory in (path for parent in parents if parent for path in Path(parent).glob(f"{TEMPORARY_PREFIX}*")):
        with contextlib.suppress(OSError):
            is_ours = not hasattr(os, "geteuid") or directory.lstat().st_uid == os.geteuid()
            if is_ours and not directory.is_symlink() and directory.is_dir() and is_abandoned(directory):
                import shutil  # a command that has nothing to sweep does not need it

                shutil.rmtree(directory, ignore_errors=True)
