"""The store's scratch: where one key is filled, by one process, and swept after it when it dies.

SCRATCH/<key>/<pid>-<random>/         what is being made
SCRATCH/<key>/<pid>-<random>.alive    locked for as long as its maker lives

The links ``cpython-3.12-…`` that lead to the newest patch, so that a path written down today is good tomorrow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from pytest_pyinstall.system.files import children, delete
from pytest_pyinstall.system.locks import hold, is_free, seize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_pyinstall.request.identity import Key

__all__ = ["left_over", "link_minor", "own_directory", "sweep"]


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


def link_minor(root: Path, key: Key, *, installed: Sequence[Key], scratch: Path) -> None:
    """Let the minor link of `key` in `root` lead to the newest of `installed` that has the same, or to nothing.

    Pre-releases only where there is nothing else. What is not a link is somebody's, and stays. Safe beside readers, not
    beside another writer. Raises `OSError`.
    """
    if key.implementation != "cpython":
        return
    link = root / key.minor_link
    peers = [peer for peer in installed if peer.minor_link == key.minor_link]
    stable = [peer for peer in peers if not peer.version.is_prerelease]
    best = max(stable or peers, default=None)
    if best is None:
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        return
    target = root / str(best)
    if sys.platform == "win32":
        import _winapi  # junctions: a symlink asks for a privilege that few have

        if os.path.lexists(link):
            link.rmdir()
        _winapi.CreateJunction(str(target), str(link))
        return
    if os.path.lexists(link) and (not link.is_symlink() or link.readlink() == target):
        return  # right already, or a directory or file of somebody's, and not ours to replace
    new = scratch / "link"
    new.symlink_to(target)
    try:
        new.replace(link)
    except OSError:
        new.unlink()
        raise
