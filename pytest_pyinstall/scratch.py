"""The store's scratch: where one key is filled, by one process, and swept after it when it dies.

SCRATCH/<key>/<pid>-<random>/         what is being made
SCRATCH/<key>/<pid>-<random>.alive    locked for as long as its maker lives
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from pytest_pyinstall.directory import children, delete
from pytest_pyinstall.lock import hold, is_free, seize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["left_over", "own_directory", "sweep"]

_LOGGER = logging.getLogger(__name__)


@contextlib.contextmanager
def own_directory(scratch: Path, name: str, *, timeout: float, setting: str) -> Iterator[Path]:
    """A new, empty directory below ``scratch/name``, and what the dead left in `scratch` is gone.

    It is gone when the block is left, however it is left. Any number of processes may have one each. Raises `OSError`,
    and what `lock.hold` raises.
    """
    directory = scratch / name / f"{os.getpid()}-{os.urandom(4).hex()}"
    alive = _alive(directory)
    try:
        with hold(alive, timeout=timeout, purpose=f"for scratch of {name}", setting=setting):
            sweep(scratch)
            directory.mkdir(mode=0o755)  # its parent holds `alive`
            yield directory
    finally:
        try:
            _clear(directory)
        except BaseException:  # a signal that came in the middle of it
            _clear(directory)
            raise


def sweep(scratch: Path) -> None:
    """Delete what the dead left behind, under every name: nothing else bounds what a thousand kills leave.

    A directory whose own lock can be had has no owner. The lock file goes first and while it is held, so that somebody
    who just made it notices and makes another.
    """
    for parent in children(scratch):
        for path in children(parent):
            directory = path.with_suffix("") if path.suffix == ".alive" else path
            with seize(_alive(directory)) as is_dead:
                if is_dead:
                    _LOGGER.debug("swept away what the dead left: %s", directory)
                    delete(_alive(directory))
                    delete(directory)
        with contextlib.suppress(OSError):
            parent.rmdir()


def left_over(scratch: Path) -> list[Path]:
    """The directories that the dead left behind. No lock."""
    return [
        path
        for parent in children(scratch)
        for path in children(parent)
        if path.suffix != ".alive" and is_free(_alive(path))
    ]


def _alive(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.alive")


def _clear(directory: Path) -> None:
    delete(directory)
    delete(_alive(directory))
    with contextlib.suppress(OSError):
        directory.parent.rmdir()
