"""Reads the members of tar and zip archives, and never more bytes than the archive's budget.

The tar reader is our own, because `tarfile` takes three times as long and its filters are not a boundary: on CPython
3.11.7 the ``data`` filter lets a known archive write outside. It reads ustar with the extensions of pax and GNU.

Sources: POSIX.1-2024 ``pax`` (ustar and pax interchange formats), the GNU tar manual's "Basic Tar Format", PKWARE's
APPNOTE 4.5 with Info-ZIP's external attributes.
"""

from __future__ import annotations

import errno
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO
from zlib import adler32

from pytest_pyinstall.archive._members import (
    CHUNK,
    LIMITS,
    TOO_MUCH,
    ArchiveMember,
    MemberKind,
    corrupt,
    decoded,
    quoted,
    read_error,
    reject,
    unpack_limit_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zipfile import ZipFile, ZipInfo

__all__ = ["BLOCK", "Stream", "tar_members", "zip_members"]


BLOCK = 512


class Stream:
    """The unpacked bytes of an archive, in order and within a budget."""

    def __init__(self, chunks: Iterator[bytes], *, budget: int) -> None:
        self._chunks = chunks
        self._budget = budget
        self._chunk = memoryview(b"")
        self._at = 0
        self._unread = 0  # of the current member's content
        self._padding = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        piece = bytes(self._take(size)) if size else b""
        while len(piece) < size:
            piece += self._take(size - len(piece))
        return piece

    def begin_content(self, size: int, member: str) -> None:
        if size > self._budget + len(self._chunk) - self._at:
            reject(f"{size} bytes, {TOO_MUCH}", member)
        self._unread, self._padding = size, -size % BLOCK

    def content(self) -> Iterator[memoryview]:
        """The rest of the current member's content."""
        while self._unread:
            piece = self._take(self._unread)
            self._unread -= len(piece)
            yield piece

    def skip_content(self) -> None:
        """Skip the rest of the current member, and its padding."""
        for _ in self.content():
            pass
        self.read(self._padding)
        self._padding = 0

    def expect_zeros(self) -> None:
        """Read to the end of the file, so that what follows the archive is checked too."""
        rest = bytes(self._chunk[self._at :]) or self._next()
        while rest:
            if rest.count(0) != len(rest):
                reject("there is data after its end")
            rest = self._next()

    def _take(self, limit: int) -> memoryview:
        """Some of the next bytes: at least one, at most `limit`."""
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(self._next()), 0
            if not self._chunk:
                corrupt("it is cut off")
        piece = self._chunk[self._at : self._at + limit]
        self._at += len(piece)
        return piece

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._budget -= len(chunk)
        if self._budget < 0:
            reject(f"{len(chunk)} bytes, {TOO_MUCH}")
        return chunk


def tar_members(stream: Stream) -> Iterator[ArchiveMember]:
    """The members of the tar in `stream`, which is read to its end. Read `pieces` of each before the next member.

    Raises `RejectedError` for what must not be unpacked and `BrokenError` for what cannot be read.
    """
    extended: dict[str, str] = {}  # the fields of the next member in extension headers
    headers = 0
    while (header := stream.read(BLOCK)) != _ZEROS:
        headers += 1
        _check_header(header)
        kind = header[156:157]
        if headers > LIMITS.members:
            reject(f"more than {LIMITS.members} members", _near(header))
        if kind in _EXTENSIONS:
            _extend(extended, kind, _extension(stream, header), _near(header))
            continue
        yield _tar_member(header, kind, extended, stream)
        stream.skip_content()
        extended.clear()
    if extended:
        corrupt("it ends after an extension header")
    if stream.read(BLOCK) != _ZEROS:
        corrupt("its end is marked by one block of zeros instead of two")
    stream.expect_zeros()


def _tar_member(header: bytes, kind: bytes, extended: dict[str, str], stream: Stream) -> ArchiveMember:
    name = extended.get("path") or _header_name(header)
    size = _number(header[124:136], "size", name)
    if kind == b"S" or "sparse" in extended:
        reject("a sparse file", name)
    if "size" in extended and extended["size"] != str(size):
        # Two readers can take the size from two places, and so a member can hide in another one (CVE-2025-62518). Only
        # files of 8 GiB and more need the second place, and they are too large anyway.
        reject(f"two sizes, {size} and {quoted(extended['size'])}", name)
    if kind == b"\0":  # tars from before POSIX
        kind = b"5" if name.endswith("/") else b"0"
    if kind == b"0":
        if name.endswith("/"):
            reject("a file with a folder's name", name)
        stream.begin_content(size, name)
        executable = bool(_number(header[100:108], "mode", name) & 0o111)
        return ArchiveMember(name, MemberKind.FILE, executable=executable, pieces=stream.content())
    if kind not in _KINDS:
        reject(_REFUSED_KINDS.get(kind, f"of the unknown type {ascii(kind)[1:]}"), name)
    if size:
        reject(f"{_KINDS[kind].value} with {size} bytes of content", name)
    target = "" if kind == b"5" else extended.get("linkpath") or decoded(_until_nul(header[157:257]), name)
    return ArchiveMember(name, _KINDS[kind], target=target)


_ZEROS = bytes(BLOCK)


_USTAR, _GNU, _V7 = b"ustar\x0000", b"ustar  \0", bytes(8)


_EXTENSIONS = {b"x": "pax", b"g": "global pax", b"L": "path", b"K": "linkpath"}


_KINDS = {b"1": MemberKind.HARDLINK, b"2": MemberKind.SYMLINK, b"5": MemberKind.DIRECTORY}


_REFUSED_KINDS = {b"3": "a character device", b"4": "a block device", b"6": "a fifo"}


def _check_header(header: bytes) -> None:
    # The low half of adler32 is the sum of the bytes plus one, and takes a tenth of the time of sum().
    total = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:]) & 0xFFFF) - 2
    field = header[148:156]
    if _octal(field) != total - sum(field) + 8 * ord(" "):
        corrupt(f"the checksum of a tar header is wrong, near {quoted(_near(header))}")
    if header[257:265] not in {_USTAR, _GNU, _V7}:
        corrupt(f"a tar header is neither POSIX's nor GNU's, near {quoted(_near(header))}")


def _header_name(header: bytes) -> str:
    name = _until_nul(header[:100])
    if header[257:265] == _USTAR and header[345]:
        name = _until_nul(header[345:500]) + b"/" + name
    return decoded(name, _near(header))


def _near(header: bytes) -> str:
    """The name in the header, for messages only."""
    return _until_nul(header[:100]).decode(errors="backslashreplace")


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes) -> int | None:
    digits = _until_nul(field).strip(b" ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _number(field: bytes, what: str, member: str) -> int:
    """A number in a tar header: octal digits, or GNU's base 256 for larger ones."""
    number = _octal(field)
    if number is not None:
        return number
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    if field[0] == 0xFF:
        reject(f"a negative {what}", member)
    if field.strip(b" \0"):
        reject(f"a {what} that is not a number, {ascii(field)[1:]}", member)
    return 0


def _extension(stream: Stream, header: bytes) -> bytes:
    size = _number(header[124:136], "size", _near(header))
    if size > LIMITS.header:
        reject(f"an extension header of {size} bytes, more than {LIMITS.header}", _near(header))
    return stream.read(size + -size % BLOCK)[:size]


def _extend(extended: dict[str, str], kind: bytes, content: bytes, member: str) -> None:
    """Add the fields of an extension header to `extended`. None may occur twice: readers disagree on which is valid."""
    if kind in {b"L", b"K"}:
        records = [(_EXTENSIONS[kind], content.rstrip(b"\0"))]
    else:
        records = list(_pax_records(content, member))
    for key, value in records:
        if key.startswith("GNU.sparse."):
            extended["sparse"] = key
        elif key in {"path", "linkpath", "size"}:
            if kind == b"g":
                reject(f"a global header that gives all members one {key}", member)
            if key in extended:
                reject(f"its {key} is given twice", member)
            if not value:
                reject(f"its {key} is empty", member)
            extended[key] = decoded(value, member)


def _pax_records(content: bytes, member: str) -> Iterator[tuple[str, bytes]]:
    """The records of a pax header, ``<length> <key>=<value>\\n``. Each length must be exactly right."""
    at = 0
    while at < len(content):
        digits = content[at : at + 20].partition(b" ")[0]
        end = at + int(digits) if digits.isdigit() else 0
        record = content[at + len(digits) + 1 : end]  # empty if the length ends before it
        key, equals, value = record[:-1].partition(b"=")
        if not (key and equals and record.endswith(b"\n") and end <= len(content)):
            corrupt(f"a pax header cannot be read, near {quoted(member)}")
        yield key.decode(errors="backslashreplace"), value
        at = end


def zip_members(file: BinaryIO) -> Iterator[ArchiveMember]:
    """The members of the zip in `file`, in their order in the file. Read `pieces` of each before the next member.

    Raises `RejectedError` for what must not be unpacked, `BrokenError` for what cannot be read, and `StoreError` if
    the disk fails.
    """
    from zipfile import ZipFile

    budget = unpack_limit_for(file)
    with _zip_errors(file), ZipFile(file) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        if infos and infos[0].header_offset:
            reject("there is data before its first member")
        for count, info in enumerate(infos, 1):
            if count > LIMITS.members:
                reject(f"more than {LIMITS.members} members", info.orig_filename)
            budget -= info.file_size
            if budget < 0:
                reject(f"{info.file_size} bytes, {TOO_MUCH}", info.orig_filename)
            yield _zip_member(file, archive, info)


def _zip_member(file: BinaryIO, archive: ZipFile, info: ZipInfo) -> ArchiveMember:
    from zipfile import ZIP_DEFLATED, ZIP_STORED

    name = info.orig_filename  # `filename` lacks what follows a NUL, and Windows' backslashes
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = stat.S_IFMT(mode)
    if info.flag_bits & 0x1 or info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        reject("encrypted, or not compressed with deflate", name)
    if name.endswith("/") and kind in {0, stat.S_IFDIR}:
        if info.file_size:
            reject(f"a directory with {info.file_size} bytes of content", name)
        return ArchiveMember(name, MemberKind.DIRECTORY)
    if name.endswith("/") or kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
        reject(f"its name and its type {kind:#o} are not those of a file, a directory or a symlink", name)
    if kind != stat.S_IFLNK:
        return ArchiveMember(
            name, MemberKind.FILE, executable=bool(mode & 0o111), pieces=_zip_content(file, archive, info)
        )
    if info.file_size > LIMITS.target:
        reject(f"a symlink with a target of {info.file_size} bytes", name)
    return ArchiveMember(name, MemberKind.SYMLINK, target=decoded(b"".join(_zip_content(file, archive, info)), name))


_UNIX = 3


def _zip_content(file: BinaryIO, archive: ZipFile, info: ZipInfo) -> Iterator[bytes]:
    with _zip_errors(file), archive.open(info) as content:
        while piece := content.read(CHUNK):
            yield piece


@contextmanager
def _zip_errors(file: BinaryIO) -> Iterator[None]:
    from zipfile import BadZipFile
    from zlib import error as zlib_error

    try:
        yield
    except (OSError, BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib_error) as error:
        # zipfile hides some errors of the disk in its own, and seeks to any offset in the file (EINVAL).
        disk = error if isinstance(error, OSError) else error.__context__
        if isinstance(disk, OSError) and disk.errno != errno.EINVAL:
            raise read_error(disk, file) from error
        corrupt(f"it cannot be read: {error}")
