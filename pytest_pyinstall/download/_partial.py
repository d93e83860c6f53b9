"""A running download, or one that can be resumed: a ``.part`` file, and a note beside it."""

import contextlib
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from pytest_pyinstall.download._response import is_sendable
from pytest_pyinstall.errors import DigestMismatchError, IntegrityError, StoreError
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import (
    OPEN_FLAGS,
    make_cache_directory,
    open_regular,
    remove,
    storage_error,
)
from pytest_pyinstall.system.urls import redacted

__all__ = ["ArchiveSink", "PartialDownload", "SharedPartError"]


class SharedPartError(Exception):
    """Another process has written to the same file, so the file is worthless: the volume has no working locks."""


class ArchiveSink(Protocol):
    """Receives the bytes of an archive while they arrive, before its digest was checked."""

    def write(self, chunk: bytes) -> None:
        """The next bytes."""

    def restart(self) -> None:
        """Discard what was written so far: the archive begins again with its first byte."""


_HEAD = 256


_MOST_OF_NOTE = 4096
"""Bytes. Servers reject requests with longer headers."""


_RENAMES_OPEN_FILES = os.name != "nt"


class PartialDownload:
    """A file that grows, and the digest of its content so far."""

    def __init__(self, path: Path, descriptor: int, sink: ArchiveSink | None = None) -> None:
        self.path = path
        self.url = ""
        self.validator = ""
        self._descriptor = descriptor
        self._sink = sink
        self._begin()

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, sink: ArchiveSink | None = None) -> Iterator["PartialDownload"]:
        """Open the partial download at `path`, or create it. If it cannot be resumed, it is removed at the end.

        `sink` receives its content, and then what is appended to it.
        """
        descriptor = _open_part(path)
        if not path.name.startswith(".") and not _is_ours_alone(descriptor):
            # We hold the lock, but another process writes this file: its lock file was deleted. Use a file of our own.
            with contextlib.suppress(OSError):
                os.close(descriptor)
            path = path.with_name(f".{os.urandom(8).hex()}.part")
            descriptor = _open_part(path)
        part = cls(path, descriptor, sink)
        try:
            with part._storing():
                part._load()
            yield part
        except (StoreError, IntegrityError, SharedPartError):
            part._forget(with_bytes=True)
            raise
        except BaseException:
            # Keep only what the next attempt can resume.
            if not part.is_resumable:
                part._forget(with_bytes=True)
            raise
        finally:
            part._close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def is_continued_by(self, url: str) -> bool:
        """Whether it came from `url` and the rest can be requested."""
        return bool(self.size and self.validator) and self.url == redacted(url)

    @property
    def is_resumable(self) -> bool:
        """Whether a later `fetch` can resume it. Without a lock its name is random, and no other process finds it."""
        return bool(self.size and self.validator) and not self.path.name.startswith(".")

    def append(self, chunk: bytes) -> None:
        with self._storing():
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._count(chunk)

    def restart(self, *, url: str = "", validator: str = "") -> None:
        """Empty it, and note the URL and the validator that the next bytes can be resumed with."""
        with self._storing():
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.ftruncate(self._descriptor, 0)
            self._forget(with_bytes=False)
            if validator and not self.path.name.startswith("."):
                note = json.dumps({"url": redacted(url), "validator": validator})
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS
                # Do not follow a link or open a file that another user of this cache has created meanwhile.
                with contextlib.suppress(FileExistsError), open(os.open(self._note, flags, 0o644), "wb") as file:
                    file.write(note.encode())
        self.url, self.validator = redacted(url), validator
        self._begin()

    def publish(self, path: Path) -> BinaryIO:
        """Rename the checked file to `path`. Returns it, open, at offset 0. Raises `SharedPartError`."""
        with self._storing():
            if os.fstat(self._descriptor).st_size != self.size:
                raise SharedPartError
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            if not _RENAMES_OPEN_FILES:
                return self._publish_closed(path)
            # The file may have lost its name (`cache clear`, or locks that do not work). Its bytes are still valid. If
            # another process's file has the name now, it must not be published.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self.path.lstat()):
                    self.path.replace(path)
            self._forget(with_bytes=False)
            descriptor, self._descriptor = self._descriptor, -1
            return os.fdopen(descriptor, "rb")

    def _publish_closed(self, path: Path) -> BinaryIO:
        """Publish if an open file cannot be renamed: close it, rename it, and check the renamed file again."""
        self._close()
        self.path.replace(path)
        self._forget(with_bytes=False)
        file = path.open("rb")
        if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
            file.close()
            msg = f"{path} changed while it was being published"
            raise DigestMismatchError(msg, hint="try again")
        file.seek(0)
        return file

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _begin(self) -> None:
        self.size, self.head = 0, b""
        self._hash = hashlib.sha256()
        if self._sink is not None:
            self._sink.restart()

    def _count(self, chunk: bytes) -> None:
        # The descriptor is always behind the last of these bytes: nothing else seeks in it.
        if len(self.head) < _HEAD:
            self.head += chunk[: _HEAD - len(self.head)]
        self._hash.update(chunk)
        self.size += len(chunk)
        if self._sink is not None:
            self._sink.write(chunk)  # exactly the bytes that were hashed

    def _load(self) -> None:
        url = validator = ""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open_regular(self._note, OPEN_FLAGS) as file:
                note = parse_json(file.read(_MOST_OF_NOTE))
            url, validator = str(note["url"]), str(note["validator"])
        # Another user of this cache may have written the note: it must not break the request.
        if validator and is_sendable(validator):
            self.url, self.validator = url, validator
            while chunk := os.read(self._descriptor, 1 << 20):
                self._count(chunk)
        elif os.fstat(self._descriptor).st_size:
            self.restart()

    def _forget(self, *, with_bytes: bool) -> None:
        with contextlib.suppress(OSError):
            remove(self._note)
            if with_bytes:
                remove(self.path)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self.path, error) from error


def _open_part(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | OPEN_FLAGS
    for last in (False, True):
        try:
            descriptor = os.open(path, flags, 0o644)
            facts = os.fstat(descriptor)
            # With a second name, we would write into another file, too.
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink <= 1:
                if sys.platform != "win32":
                    os.fchmod(descriptor, 0o644)  # regardless of the umask
                return descriptor
            os.close(descriptor)
            path.unlink()
        except FileNotFoundError:
            make_cache_directory(path.parent)  # `cache clear` took the directory
        except OSError as error:
            if last or _is_file(path):
                raise storage_error(path, error) from error
            try:
                remove(path)  # a link, a socket or a directory is not the beginning of an archive
            except OSError as unremovable:
                raise storage_error(path, unremovable) from unremovable
    raise storage_error(path, OSError(errno.EBUSY, "another process keeps changing it"))


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return True  # nothing is in the way


def _is_ours_alone(descriptor: int) -> bool:
    """Whether no other process writes this file, as far as the system can tell. True until the descriptor is closed."""
    if _RENAMES_OPEN_FILES:  # elsewhere a lock file cannot be deleted while another process holds it
        with contextlib.suppress(OSError):
            return locks.lock_descriptor(descriptor)
    return True
