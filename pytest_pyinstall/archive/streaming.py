"""Unpacks an archive while its bytes arrive: from the network, or from a cached file that is being hashed.

The tree is in scratch, where nothing is run, finished or linked. Only `StreamedUnpack.tree` returns it, and it takes an
`Archive`, which only `fetch` makes after size and digest matched. Until then the symlinks do not exist either: they are
made at the end of the archive, which `StreamedUnpack.tree` announces.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from pytest_pyinstall.archive._members import LIMITS, TOO_MUCH, read_error, reject, unpack_limit_of
from pytest_pyinstall.archive._readers import Stream, tar_members
from pytest_pyinstall.archive.unpack import decompressed, tar_suffix, unpack, unpack_members
from pytest_pyinstall.system.files import children, delete
from pytest_pyinstall.system.processes import thread_limit

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from pytest_pyinstall.archive._members import ArchiveMember
    from pytest_pyinstall.request.identity import Archive, Build
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["StreamedUnpack"]


_MOST = 16 << 20
"""How many bytes of an archive may wait for a slow disk, before the download must wait."""


class StreamedUnpack:
    """The tree of one archive, made in the empty directory `into` while its bytes are written here.

    Pass it to `fetch` as `sink`. The digests of the files are added to `known`. A zip has its directory at the end, so
    it is unpacked after it has arrived.

    If unpacking fails, the download goes on, because the bytes may turn out to be wrong anyway; `tree` raises the
    error. Use it as a context manager: when the block ends, its thread has ended. What was written by then stays in
    `into`, and its owner deletes it.
    """

    def __init__(self, build: Build, *, into: Path, known: FileDigests) -> None:
        self._build = build
        self._into = into
        self._known = known
        self._suffix = tar_suffix(build.file_name)
        self._feed = _Feed()
        self._thread: Thread | None = None
        self._tree: Path | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def write(self, chunk: bytes) -> None:
        """Unpack the next bytes of the archive. They may still turn out to be wrong."""
        if self._suffix is None:
            return
        if self._thread is None:
            thread = Thread(target=self._run, name="unpack-stream", daemon=True)
            with thread_limit():
                thread.start()
            self._thread = thread
        self._feed.write(chunk)

    def restart(self) -> None:
        """Delete what was unpacked so far: the archive begins again."""
        if self._thread is None:
            return
        self._stop()
        for left in children(self._into):
            delete(left)
        self._known.clear()
        self._feed, self._tree, self._error = _Feed(), None, None

    def tree(self, archive: Archive) -> Path:
        """The top folder of the tree, once the archive was checked. Raises what `unpack` raises."""
        if self._feed.size != _size_of(archive.file):
            self.restart()
        thread = self._thread
        if thread is None:
            return unpack(archive, into=self._into, known=self._known)
        self._feed.complete()
        thread.join()
        if self._error is not None:
            raise self._error
        assert self._tree is not None  # noqa: S101  # `_run` sets one of the two
        return self._tree

    def _run(self) -> None:
        try:
            self._tree = unpack_members(self._members, self._build.file_name, into=self._into, known=self._known)
        except BaseException as error:  # noqa: BLE001  # `tree` raises it
            self._error = error
        finally:
            self._feed.close()  # nothing reads it, so the download must not wait for room

    def _members(self) -> Generator[ArchiveMember]:
        size = self._build.size
        budget = LIMITS.unpacked if size is None else unpack_limit_of(size)
        yield from tar_members(Stream(self._chunks(), budget=budget))

    def _chunks(self) -> Iterator[bytes]:
        """The unpacked bytes, limited by the ratio to the bytes that have arrived so far."""
        made = 0
        for chunk in decompressed(cast("BinaryIO", self._feed), self._suffix or ""):
            made += len(chunk)
            if made > unpack_limit_of(self._feed.given):
                reject(f"{made} bytes, {TOO_MUCH}")
            yield chunk

    def _stop(self) -> None:
        self._feed.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


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
