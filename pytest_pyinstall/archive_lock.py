"""The lock of one directory of the archive cache: it saves work, and decides nothing."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pytest_pyinstall import lock
from pytest_pyinstall.cache_file import OPEN_FLAGS, make_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_pyinstall.client import Client

__all__ = ["LOCK", "lock_archive", "lock_now"]

LOCK = ".lock"


@contextlib.contextmanager
def lock_archive(path: Path, client: Client, until: float, waiting: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of the archive's directory, which is made; False where it could not be had.

    Whoever holds it gets as long as it takes, provided that its download grows: a process that was stopped, or that
    runs on another host where the lock never ends, keeps nobody.
    """
    part = path.with_name(f"{path.name}.part")
    clock, size, since = client.limits.clock, -1, client.limits.clock()
    told = False
    while True:
        make_directory(path.parent)
        with lock_now(path.parent) as ours:
            if ours is not False:
                yield bool(ours)
                return
        if not told:
            waiting("another process is downloading it")
            told = True
        try:
            grown = part.stat().st_size
        except OSError:
            grown = -1
        now = clock()
        if grown != size:
            size, since = grown, now
        if now - since >= client.limits.abandoned or now >= until:
            yield False
            return
        client.nap(0.02)


@contextlib.contextmanager
def lock_now(directory: Path) -> Iterator[bool | None]:
    """True while we hold the lock, False if somebody else does, None where locks do not work."""
    descriptor, ours = None, None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o666)
            with contextlib.suppress(OSError, AttributeError):  # another user's, who did the same; Windows
                os.fchmod(descriptor, 0o666)
            ours = lock.lock_descriptor(descriptor)
            # Without a name it excludes nobody: `clear` removed it between our opening and our locking.
            ours = ours and os.fstat(descriptor).st_nlink > 0
        yield ours
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # the lock is gone whatever the disk says
                os.close(descriptor)
