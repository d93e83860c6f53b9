"""Unpacks an archive while its bytes arrive: from the network, or from a cached file that is being hashed.

The tree is in scratch, where nothing is run, finished or linked. Only `StreamedUnpack.tree` returns it, and it takes an
`Archive`, which only `fetch` makes after size and digest matched. Until then the symlinks do not exist either: they are
made at the end of the archive, which `StreamedUnpack.tree` announces.

The first archive is unpacked in a thread. Archives that arrive at the same time are unpacked in processes of their own,
because the threads of one process share its interpreter lock.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

from pytest_pyinstall.archive._members import read_error
from pytest_pyinstall.archive.unpack import tar_suffix, unpack, unpack_arriving
from pytest_pyinstall.archive.unpack_process import UnpackProcess, can_start_processes
from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.system.files import children, delete
from pytest_pyinstall.system.processes import thread_limit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_pyinstall.request.identity import Archive, Build
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["StreamedUnpack"]


_MOST = 16 << 20
"""How many bytes of an archive may wait for a slow disk, before the download must wait."""


_thread_turn = Lock()
"""Held while an archive is unpacked in a thread of this process."""


class StreamedUnpack:
    """The tree of one archive, made in the empty directory `into` while its bytes are written here.

    Pass it to `fetch` as `sink`. The digests of the files are added to `known`. A zip has its directory at the end, so
    it is unpacked after it has arrived.

    If unpacking fails, the download goes on, because the bytes may turn out to be wrong anyway; `tree` raises the
    error. Use it as a context manager: when the block ends, its thread or process has ended. What was written by then
    stays in `into`, and its owner deletes it.

    Once `is_stopped` returns True, as after Ctrl-C, `write` and `tree` raise `FetchError`.
    """

    def __init__(
        self, build: Build, *, into: Path, known: FileDigests, is_stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._build = build
        self._into = into
        self._known = known
        self._is_stopped = is_stopped
        self._size = 0
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def write(self, chunk: bytes) -> None:
        """Unpack the next bytes of the archive. They may still turn out to be wrong."""
        self._check()
        if self._running is None:
            if tar_suffix(self._build.file_name) is None:
                return
            self._running = self._start()
        self._size += len(chunk)
        self._running.write(chunk)

    def restart(self) -> None:
        """Delete what was unpacked so far: the archive begins again."""
        self._stop()
        self._clear()

    def tree(self, archive: Archive) -> Path:
        """The top folder of the tree, once the archive was checked. Raises what `unpack` raises."""
        if self._size != _size_of(archive.file):
            self.restart()
        tree = self._running.complete() if self._running else None
        if tree is None:
            self._check()
            self._clear()
            tree = unpack(archive, into=self._into, known=self._known)
        return tree

    def _start(self) -> _Running:
        turn = _thread_turn if _thread_turn.acquire(blocking=False) else None
        if turn is None and can_start_processes():
            with suppress(OSError, ImportError):  # too many processes or open files
                return UnpackProcess(self._build, into=self._into, known=self._known, check=self._check)
        try:
            return _UnpackThread(self._build, into=self._into, known=self._known, turn=turn)
        except BaseException:
            if turn is not None:
                turn.release()
            raise

    def _check(self) -> None:
        if self._is_stopped():
            msg = "stopped while unpacking"
            raise FetchError(msg)

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _clear(self) -> None:
        if self._size:
            for left in children(self._into):
                delete(left)
        self._known.clear()
        self._size = 0


class _Running(Protocol):
    """A thread or a process that unpacks."""

    def write(self, chunk: bytes, /) -> None: ...

    def complete(self) -> Path | None:
        """The top folder, once the archive was checked and has ended. None if a process has ended without an answer."""

    def stop(self) -> None:
        """End it, and wait for its end."""


class _UnpackThread:
    def __init__(self, build: Build, *, into: Path, known: FileDigests, turn: Lock | None) -> None:
        self._build = build
        self._into = into
        self._known = known
        self._turn = turn
        self._feed = _Feed()
        self._tree: Path | None = None
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="unpack-stream", daemon=True)
        with thread_limit():
            self._thread.start()

    def write(self, chunk: bytes) -> None:
        self._feed.write(chunk)

    def complete(self) -> Path | None:
        self._feed.complete()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._tree

    def stop(self) -> None:
        self._feed.close()
        self._thread.join()
        if self._turn is not None:
            self._turn.release()
            self._turn = None

    def _run(self) -> None:
        try:
            self._tree = unpack_arriving(
                self._feed, self._build.file_name, size=self._build.size, into=self._into, known=self._known
            )
        except BaseException as error:  # noqa: BLE001  # `complete` raises it
            self._error = error
        finally:
            self._feed.close()  # nothing reads it, so the download must not wait for room


def _size_of(file: BinaryIO) -> int:
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    except OSError as error:
        raise read_error(error, file) from error
    return size


class _AbandonedError(Exception):
    """The rest of the archive will not arrive."""


class _Feed:
    """The bytes of an archive that have arrived so far, as a file that is read once."""

    def __init__(self) -> None:
        self.size = 0
        self.given = 0
        self._chunks: deque[bytes] = deque()
        self._changed = Condition()
        self._is_complete = False
        self._is_closed = False

    def write(self, chunk: bytes) -> None:
        with self._changed:
            self.size += len(chunk)
            while self.size - self.given > _MOST and self._chunks and not self._is_closed:
                self._changed.wait()
            if not self._is_closed and chunk:
                self._chunks.append(chunk)
                self._changed.notify_all()

    def complete(self) -> None:
        """The archive has ended, and was checked."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing reads the rest."""
        with self._changed:
            self._is_closed = True
            self._chunks.clear()
            self._changed.notify_all()

    def read(self, _: int = -1) -> bytes:
        """The next chunk; empty at the end of the archive. Waits for it, or for `complete`."""
        with self._changed:
            while not (self._chunks or self._is_complete or self._is_closed):
                self._changed.wait()
            if self._is_closed:
                raise _AbandonedError
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            self.given += len(chunk)
            self._changed.notify_all()
            return chunk
