"""Decompresses an archive's file: gzip, bzip2, xz and zstd, a few chunks ahead of who reads them.

Source: RFC 1952 (gzip).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any, BinaryIO, Protocol

from pytest_pyinstall.archive_file import read_some
from pytest_pyinstall.bounds import BOUNDS, CHUNK
from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.refusal import give_up

__all__ = ["ahead", "decompressed"]


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
    """All streams of `file` as one. What is no stream is refused, and so is one that does not come to its end."""
    new, damage = _decompressor(suffix)
    decompressor, data = new(), read_some(file)
    while True:
        try:
            chunk = decompressor.decompress(data, CHUNK)
        except damage as error:
            give_up(f"it cannot be decompressed: {error}")
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
                give_up("it is cut off")


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
        return partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, BOUNDS.window), (lzma.LZMAError, MemoryError)
    if suffix == ".zst":
        zstd = _module("compression.zstd", "backports.zstd")
        return zstd.ZstdDecompressor, (zstd.ZstdError,)
    with suppress(ImportError):  # the extra `speed`: less than half of zlib's time
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
