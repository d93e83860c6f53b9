"""Decompresses an archive's file: gzip, bzip2, xz and zstd, a few chunks ahead of who reads them.

Source: RFC 1952 (gzip).

Turns an archive into a tree, trusting nothing in it.

The readers (`tarball`, `zipball`) say what an archive wants to have made; `new_tree` judges it and makes it.
"""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib import import_module
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from pytest_pyinstall.archive._members import (
    CHUNK,
    LIMITS,
    BrokenError,
    RejectedError,
    corrupt,
    read_some,
    reject,
    unpack_limit_for,
)
from pytest_pyinstall.archive._readers import Stream, tar_members, zip_members
from pytest_pyinstall.archive._tree_writer import TreeWriter
from pytest_pyinstall.errors import IntegrityError, StoreError, UnsafeArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from pytest_pyinstall.archive._members import ArchiveMember
    from pytest_pyinstall.request.identity import Archive
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["ahead", "archive_members", "decompressed", "tar_suffix", "unpack", "unpack_file", "unpack_members"]


@contextmanager
def ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """`chunks`, made in a thread, up to four before they are asked for.

    Decompressing and writing both leave the interpreter to others: on two cores, this is a quarter of the time saved.
    The thread has ended when the block is left, however it is left.
    """
    made: SimpleQueue[bytes | BaseException] = SimpleQueue()
    room = Semaphore(4)
    left = Event()

    def make() -> None:
        try:
            for chunk in chunks:
                made.put(chunk)
                room.acquire()
                if left.is_set():
                    return
            made.put(b"")
        except BaseException as error:  # noqa: BLE001 (it is raised where the chunk is asked for)
            made.put(error)

    def ask() -> Iterator[bytes]:
        while chunk := made.get():
            if isinstance(chunk, BaseException):
                raise chunk
            room.release()
            yield chunk

    thread = Thread(target=make, name="unpack", daemon=True)
    thread.start()
    try:
        yield ask()
    finally:
        left.set()
        room.release()
        thread.join()


def decompressed(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """All streams of `file` as one. What is no stream is refused, and so is one that does not come to its end.

    Without a `suffix` it is not compressed.
    """
    if not suffix:
        yield from iter(lambda: read_some(file), b"")
        return
    new, damage = _decompressor(suffix)
    decompressor, data = new(), read_some(file)
    while True:
        try:
            chunk = decompressor.decompress(data, CHUNK)
        except damage as error:
            corrupt(f"it cannot be decompressed: {error}")
        if chunk:
            yield chunk
        if decompressor.eof:
            data = decompressor.unused_data or read_some(file)
            if not data:
                return
            decompressor = new()
        else:
            data = read_some(file) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                corrupt("it is cut off")


class _Decompressor(Protocol):
    """What `bz2`, `lzma`, `compression.zstd` and `isal` agree on."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _decompressor(suffix: str) -> tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]:
    """What makes a decompressor for one stream, and the errors that mean that the stream is broken."""
    if suffix == ".bz2":
        return _module("bz2").BZ2Decompressor, (OSError, ValueError)
    if suffix == ".xz":
        lzma = _module("lzma")
        return partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, LIMITS.window), (lzma.LZMAError, MemoryError)
    if suffix == ".zst":
        zstd = _module("compression.zstd", "backports.zstd")
        return zstd.ZstdDecompressor, (zstd.ZstdError,)
    with suppress(ImportError):  # a dependency where it has wheels: less than half of zlib's time
        igzip = import_module("isal.igzip_lib")
        return partial(igzip.IgzipDecompressor, flag=igzip.DECOMP_GZIP), (igzip.error, ValueError)
    zlib = _module("zlib_ng.zlib_ng", "zlib")
    return partial(_Inflater, zlib), (zlib.error,)


def _module(*names: str) -> Any:
    """The first of these modules that is here: a Python is not always built with all of its own."""
    for name in names:
        with suppress(ImportError):
            return import_module(name)
    msg = f"this Python cannot read such an archive: it has no {' and no '.join(names)}"
    needed = names[-1]
    hint = f"run pytest with a Python that has the module {needed}"
    raise StoreError(msg, f"{sys.executable} -m pip install {needed}" if "backports" in needed else hint)


class _Inflater:
    """zlib's decompressor for one gzip stream, in the shape of the others."""

    def __init__(self, zlib: Any) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inflate.unused_data)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return bytes(self._inflate.decompress(data or self._inflate.unconsumed_tail, max_length))


def unpack(archive: Archive, *, into: Path, known: FileDigests | None = None) -> Path:
    """The top folder of the archive's tree, inside the empty directory `into`.

    The file is read to its end from where it stands. The digests of its files go into
    `known`. Of a "full" archive of python-build-standalone (one with a
    ``PYTHON.json``), only ``install`` is written and given back.

    Afterwards `into` holds regular files, directories and symlinks, and nothing outside it was touched. Files are
    0o755 where the archive lets anyone execute them and 0o644 otherwise, directories 0o755, regardless of the umask;
    owners, times and extended attributes are not kept. Hardlinks are links, or copies where the volume has none.

    An archive may hold regular files, directories, symlinks and hardlinks below one top folder. Symlinks are relative
    and stay inside it, both as written and as followed through the other links; they may lead to nothing there, which
    terminfo's do. Directories may come twice, symlinks twice if they agree, anything else once; a hardlink names an
    earlier regular file. Names that the volume takes for one name are refused by the volume itself: whatever we make
    must not have been there. Compressed streams may be several, one after the other, but behind the tar's end there may
    be nothing but zeros. Size, ratio, count, depth and names are bounded.

    Raises `UnsafeArchiveError` for what must not be unpacked, `IntegrityError` for what is broken or cut off, and
    `StoreError` where the disk or the machine refuses. What was written until then stays in `into`: it is scratch, and
    its owner sweeps it. Not safe with two calls on one `into`; any number of others may run at once.
    """
    return unpack_file(archive.file, archive.build.file_name, into=into, known=known)


def unpack_file(file: BinaryIO, name: str, *, into: Path, known: FileDigests | None = None) -> Path:
    """As `unpack`, for an archive of that `name` that is our own; `file` is at its beginning."""
    return unpack_members(lambda: archive_members(file, name), name, into=into, known=known)


def unpack_members(
    open_members: Callable[[], Generator[ArchiveMember]], name: str, *, into: Path, known: FileDigests | None
) -> Path:
    """The top folder of the tree that the members of the archive `name` make; with its errors, which name it."""
    tree = TreeWriter(into, known)
    try:
        with closing(open_members()) as members:
            for member in members:
                tree.add(member)
        return tree.complete()
    except RejectedError as refusal:
        msg = f"{name} was refused: {refusal}"
        raise UnsafeArchiveError(msg, _ANOTHER_BUILD) from refusal
    except BrokenError as damage:
        msg = f"{name} is broken, although its digest is the expected one: {damage}"
        raise IntegrityError(msg, _ANOTHER_BUILD) from damage


_ANOTHER_BUILD = "nothing of it is used; choose another build: pytest-pyinstall list --all"


def archive_members(file: BinaryIO, name: str) -> Generator[ArchiveMember]:
    """The members of an archive of that name, from where `file` is."""
    suffix = tar_suffix(name)
    if suffix:
        budget = unpack_limit_for(file)
        with ahead(decompressed(file, suffix)) as chunks:
            yield from tar_members(Stream(chunks, budget=budget))
    elif suffix is not None:
        yield from tar_members(Stream(decompressed(file, suffix), budget=unpack_limit_for(file)))
    elif name.lower().endswith(".zip"):
        yield from zip_members(file)
    else:
        reject("its name ends in none of .tar.gz, .tgz, .tar.bz2, .tar.xz, .tar.zst, .tar, .zip")


def tar_suffix(name: str) -> str | None:
    """The compression of a tar of that name, ``.gz`` to ``.zst``; empty if there is none, None if it is no tar."""
    lower = name.lower()
    for suffix in (".gz", ".bz2", ".xz", ".zst"):
        if lower.endswith((f".tar{suffix}", f".t{suffix[1:]}")):
            return suffix
    return "" if lower.endswith(".tar") else None
