"""The store's scratch: where one key is filled, by one process, and swept after it when it dies.

SCRATCH/<key>/.<place>-<pid>-<start>-<random>/         what is being made
SCRATCH/<key>/.<place>-<pid>-<start>-<random>.alive    locked for as long as its maker lives
"""

from __future__ import annotations

import contextlib
import re
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
    """A new, empty directory below ``scratch/name``; what dead processes left in `scratch` is deleted.

    It is deleted when the block is left, however it is left. Any number of processes may have one each. Raises
    `OSError`, and what `locks.hold` raises.
    """
    directory = scratch / name / scratch_name("")
    alive = _alive(directory)
    try:
        _require_directory(scratch / name)
        with hold(alive, timeout=timeout, purpose=f"for scratch of {name}", setting=setting):
            sweep(scratch)
            directory.mkdir(mode=0o755)  # its parent holds `alive`
            yield directory
    finally:
        try:
            _clear(directory)
        except BaseException:  # a signal arrived while this ran
            _clear(directory)
            raise


def _require_directory(path: Path) -> None:
    """A link in the place of `path`, which only holds what anyone may delete, is replaced: nothing follows it."""
    if path.is_symlink():
        path.unlink()
    make_directory(path)


def sweep(scratch: Path) -> None:
    """Delete what dead processes left behind under every key, so that any number of kills leaves a bounded amount.

    Only directories with names of ours are deleted, and no link is followed. The name says which process made one; the
    lock decides about those of another machine or container. The lock file goes first and while it is held, so that
    anyone who just made it notices and makes another.
    """
    for parent in children(scratch):
        if parent.is_symlink() or not parent.is_dir():
            continue
        for path in _made_here(parent):
            with _abandoned(path) as is_abandoned:
                if is_abandoned:
                    _LOGGER.debug("deleted what a dead process left: %s", path)
                    delete(_alive(path))
                    delete(path)
        with contextlib.suppress(OSError):
            parent.rmdir()


def stale_directories(scratch: Path) -> list[Path]:
    """The directories that dead processes left behind. Holds no lock afterwards."""
    found = []
    for parent in children(scratch):
        if not parent.is_symlink():
            for path in _made_here(parent):
                with _abandoned(path) as is_abandoned:
                    found += [path] * is_abandoned
    return found


_OLD_NAME = re.compile(r"\d+-[0-9a-f]{8}")
"""How the first version named them."""


def _made_here(parent: Path) -> list[Path]:
    """The scratch directories in `parent`, also those of which only the lock file is left."""
    paths = {path.with_suffix("") if path.suffix == ".alive" else path for path in children(parent)}
    return sorted(path for path in paths if is_abandoned(path) is not False or _OLD_NAME.fullmatch(path.name))


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    if is_abandoned(path):
        yield True
        return
    # Made by another machine, another container or the first version: a lock that can be had has no owner, on a volume
    # whose locks reach every machine that mounts it.
    if not _OLD_NAME.fullmatch(path.name) and not has_shared_locks(path.parent):
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
