"""Unpacks an archive into a tree, without trusting the archive.

`_readers` reads its members, `_tree_writer` checks and writes them. Compressed archives (gzip, bzip2, xz, zstd) are
decompressed in chunks. Source: RFC 1952 (gzip).
"""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from pytest_pyinstall.archive._members import (
    CHUNK,
    LIMITS,
    TOO_MUCH,
    BrokenError,
    RejectedError,
    corrupt,
    read_some,
    reject,
    unpack_limit_for,
    unpack_limit_of,
)
from pytest_pyinstall.archive._readers import Stream, tar_members, zip_members
from pytest_pyinstall.archive._tree_writer import TreeWriter, store_error
from pytest_pyinstall.errors import IntegrityError, StoreError, UnsafeArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from pytest_pyinstall.archive._members import ArchiveMember
    from pytest_pyinstall.request.identity import Archive
    from pytest_pyinstall.system.files import FileDigests

__all__ = [
    "ArrivingBytes",
    "archive_members",
    "decompressed",
    "tar_suffix",
    "unpack",
    "unpack_arriving",
    "unpack_file",
]


def decompressed(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """The content of all compressed streams in `file`. Anything else, and a truncated stream, is rejected.

    If `suffix` is empty, the file is not compressed.
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
    """The interface that `bz2`, `lzma`, `compression.zstd` and `isal` share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _decompressor(suffix: str) -> tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]:
    """A function that creates a decompressor for one stream, and the errors that it raises for a broken stream."""
    if suffix == ".bz2":
        return _module("bz2").BZ2Decompressor, (OSError, ValueError)
    if suffix == ".xz":
        lzma = _module("lzma")
        return partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, LIMITS.window), (lzma.LZMAError, MemoryError)
    if suffix == ".zst":
        zstd = _module("compression.zstd", "backports.zstd")
        return zstd.ZstdDecompressor, (zstd.ZstdError,)
    # A dependency where it has wheels: less than half of zlib's time. With `python -m`, a project's own package of that
    # name comes first, and can fail in any way.
    with suppress(Exception):
        igzip = import_module("isal.igzip_lib")
        return partial(igzip.IgzipDecompressor, flag=igzip.DECOMP_GZIP), (igzip.error, ValueError)
    zlib = _module("zlib_ng.zlib_ng", "zlib")
    return partial(_Inflater, zlib), (zlib.error,)


def _module(*names: str) -> Any:
    """The first of these modules that can be imported: a Python can be built without some of its own."""
    for name in names:
        with suppress(ImportError):
            return import_module(name)
    msg = f"this Python cannot read this kind of archive: it has no {' and no '.join(names)}"
    needed = names[-1]
    hint = f"run pytest with a Python that has the module {needed}"
    raise StoreError(msg, f"{sys.executable} -m pip install {needed}" if "backports" in needed else hint)


class _Inflater:
    """zlib's decompressor for one gzip stream, with the interface of the others."""

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
    """Unpack `archive` into the empty directory `into`. Returns the top folder of the tree.

    The file is read from its current position to its end. The digests of its files are added to `known`. For a "full"
    archive of python-build-standalone (one with a ``PYTHON.json``), only ``install`` is written and returned.

    Afterwards `into` contains regular files, directories and symlinks, and nothing outside it has changed. Files are
    0o755 if the archive makes them executable for any user, otherwise 0o644; directories are 0o755. The umask does not
    matter. Owners, times and extended attributes are not kept. Hardlinks are copied if the volume has none.

    An archive can contain regular files, directories, symlinks and hardlinks below one top folder. Symlinks must be
    relative and stay inside it, as written and if followed through the other links; their target need not exist, as
    with terminfo. A directory can occur twice, a symlink twice if both are the same, anything else once. A hardlink
    names an earlier regular file. If the volume takes two names for one, creating the second fails, because nothing
    that exists is opened. There can be several compressed streams in a row, but after the end of the tar only zeros.
    Size, ratio, count, depth and names are limited.

    Raises `UnsafeArchiveError` for content that must not be unpacked, `IntegrityError` for a broken or truncated
    archive, and `StoreError` if the disk or the machine fails. What was written by then stays in `into`, and its owner
    deletes it. Calls with different directories can run at once.
    """
    return unpack_file(archive.file, archive.build.file_name, into=into, known=known)


def unpack_file(file: BinaryIO, name: str, *, into: Path, known: FileDigests | None = None) -> Path:
    """Like `unpack`, for an archive that we have packed ourselves. `file` must be positioned at its start."""
    return unpack_members(lambda: archive_members(file, name), name, into=into, known=known)


def unpack_members(
    open_members: Callable[[], Generator[ArchiveMember]], name: str, *, into: Path, known: FileDigests | None
) -> Path:
    """Write the members of the archive `name`. Returns the top folder of the tree; errors contain `name`."""
    tree = TreeWriter(into, known)
    try:
        with closing(open_members()) as members:
            for member in members:
                tree.add(member)
        return tree.complete()
    except RejectedError as refusal:
        msg = f"{name} was rejected: {refusal}"
        raise UnsafeArchiveError(msg, _ANOTHER_BUILD) from refusal
    except BrokenError as damage:
        msg = f"{name} is broken, although it has the expected digest: {damage}"
        raise IntegrityError(msg, _ANOTHER_BUILD) from damage
    except OSError as error:  # such as ESTALE of a file that was just created
        raise store_error(error, error.filename or str(into)) from error


class ArrivingBytes(Protocol):
    """The compressed bytes of an archive, in the order in which they arrive."""

    @property
    def given(self) -> int:
        """How many bytes `read` has returned so far."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes. Empty at the end of the archive, and only if it was checked."""


def unpack_arriving(arriving: ArrivingBytes, name: str, *, size: int | None, into: Path, known: FileDigests) -> Path:
    """Like `unpack`, for a tar that is still `arriving`. `size` is what the catalogue says, None if it does not."""
    budget = LIMITS.unpacked if size is None else unpack_limit_of(size)

    def members() -> Generator[ArchiveMember]:
        yield from tar_members(Stream(_limited(arriving, tar_suffix(name) or ""), budget=budget))

    return unpack_members(members, name, into=into, known=known)


def _limited(arriving: ArrivingBytes, suffix: str) -> Iterator[bytes]:
    """The unpacked bytes, limited by the ratio to the bytes that have arrived so far."""
    made = 0
    for chunk in decompressed(cast("BinaryIO", arriving), suffix):
        made += len(chunk)
        if made > unpack_limit_of(arriving.given):
            reject(f"{made} bytes, {TOO_MUCH}")
        yield chunk


_ANOTHER_BUILD = "nothing was installed from it; choose another build: pytest-pyinstall list --all"


def archive_members(file: BinaryIO, name: str) -> Generator[ArchiveMember]:
    """The members of the archive `name`, from the current position of `file`."""
    suffix = tar_suffix(name)
    if suffix is not None:
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
