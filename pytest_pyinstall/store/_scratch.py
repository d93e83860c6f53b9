"""The scratch directories of the store. In each, one process installs one key.

SCRATCH/<key>/.<place>-<pid>-<start>-<random>/         the directory
SCRATCH/<key>/.<place>-<pid>-<start>-<random>.alive    locked as long as its process lives
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TYPE_CHECKING

from pytest_pyinstall.system.files import children, delete, is_abandoned, make_directory, scratch_name
from pytest_pyinstall.system.locks import has_shared_locks, hold, seize
from pytest_pyinstall.system.log import StepLogger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


__all__ = ["own_directory", "stale_directories", "sweep"]


_LOGGER = StepLogger(__name__)


@contextlib.contextmanager
def own_directory(scratch: Path, name: str, *, timeout: float, setting: str) -> Iterator[Path]:
    """A new, empty directory below ``scratch/name`` that is deleted when the block ends, however it ends.

    Also deletes what killed processes left in `scratch`. Safe in any number of processes at once. Raises `OSError`, and
    what `locks.hold` raises.
    """
    directory = scratch / name / scratch_name("")
    alive = _alive(directory)
    try:
        _require_directory(scratch / name)
        with hold(alive, timeout=timeout, purpose=f"for scratch of {name}", setting=setting):
            sweep(scratch)
            directory.mkdir(mode=0o755)  # its parent holds `alive`
            _drop_default_acl(directory)
            yield directory
    finally:
        try:
            _clear(directory)
        except BaseException:  # a signal arrived while this ran
            _clear(directory)
            raise


def _drop_default_acl(directory: Path) -> None:
    """Remove what `directory` inherited for everything that is created in it (acl(5)), and that replaces the umask.

    Otherwise the others of the list could write to the byte code that Python saves, and so the tree would be refused.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it has none, or this filesystem has none
            os.removexattr(directory, "system.posix_acl_default")


def _require_directory(path: Path) -> None:
    """Create the directory `path`. A link in its place is replaced, because another program planted it."""
    if path.is_symlink():
        path.unlink()
    make_directory(path)


def sweep(scratch: Path) -> None:
    """Delete what killed processes left for any key, so that many kills leave no more than one does.

    Only directories with names of ours are deleted, and no link is followed. The name shows which process made a
    directory; for those of another machine or container the lock decides. The lock file is deleted first, while we hold
    it, so that a process that has just opened it notices and creates another.
    """
    for parent in children(scratch):
        if parent.is_symlink() or not parent.is_dir():
            continue
        for path in _made_here(parent):
            with _abandoned(path) as is_abandoned:
                if is_abandoned:
                    _LOGGER.debug("deleted the scratch directory of a dead process: %s", path)
                    delete(_alive(path))
                    delete(path)
        with contextlib.suppress(OSError):
            parent.rmdir()


def stale_directories(scratch: Path) -> list[Path]:
    """The directories that killed processes left. Holds no lock afterwards."""
    found = []
    for parent in children(scratch):
        if not parent.is_symlink():
            for path in _made_here(parent):
                with _abandoned(path) as is_abandoned:
                    found += [path] * is_abandoned
    return found


_OLD_NAME = r"\d+-[0-9a-f]{8}"
"""The names that the first version used."""


def _made_here(parent: Path) -> list[Path]:
    """The scratch directories in `parent`, and those of which only the lock file is left."""
    paths = {path.with_suffix("") if path.suffix == ".alive" else path for path in children(parent)}
    return sorted(path for path in paths if is_abandoned(path) is not False or re.fullmatch(_OLD_NAME, path.name))


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    if is_abandoned(path):
        yield True
        return
    # Another machine, another container or the first version made it. If the lock is free, its maker is dead, provided
    # that the locks of this volume reach every machine that mounts it.
    if not re.fullmatch(_OLD_NAME, path.name) and not has_shared_locks(path.parent):
        yield False
        return
    with seize(_alive(path)) as is_dead:
        yield is_dead


def _alive(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.alive")


def _clear(directory: Path) -> None:
    delete(directory)
    delete(_alive(directory))
    with contextlib.suppress(OSError):
        directory.parent.rmdir()
