"""Reads a zip: the members of its directory, in the order in which they lie in the file.

Source: PKWARE's APPNOTE 4.5 with Info-ZIP's external attributes.
"""

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from pytest_pyinstall.archive_file import budget_of, read_error
from pytest_pyinstall.bounds import BOUNDS, CHUNK, TOO_MUCH
from pytest_pyinstall.member import Kind, Member
from pytest_pyinstall.member_name import decoded
from pytest_pyinstall.refusal import give_up, refuse

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

__all__ = ["zip_members"]


def zip_members(file: BinaryIO) -> Iterator[Member]:
    """The members of the zip in `file`; of each, `pieces` before the next is asked for.

    Raises `RefusedError` for what must not be unpacked, `BrokenError` for what cannot be read, and `StoreError` where
    the disk does not give it.
    """
    from zipfile import ZipFile

    budget = budget_of(file)
    with _zip_errors(file), ZipFile(file) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        if infos and infos[0].header_offset:
            refuse("something stands before its first member")
        for count, info in enumerate(infos, 1):
            if count > BOUNDS.members:
                refuse(f"more than {BOUNDS.members} members", info.orig_filename)
            budget -= info.file_size
            if budget < 0:
                refuse(f"{info.file_size} bytes, {TOO_MUCH}", info.orig_filename)
            yield _zip_member(file, archive, info)


def _zip_member(file: BinaryIO, archive: "ZipFile", info: "ZipInfo") -> Member:
    from zipfile import ZIP_DEFLATED, ZIP_STORED

    name = info.orig_filename  # `filename` has lost what stood after a NUL, and Windows' backslashes
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = stat.S_IFMT(mode)
    if info.flag_bits & 0x1 or info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        refuse("encrypted, or compressed otherwise than by deflate", name)
    if name.endswith("/") and kind in {0, stat.S_IFDIR}:
        if info.file_size:
            refuse(f"a directory with {info.file_size} bytes of content", name)
        return Member(name, Kind.DIRECTORY)
    if name.endswith("/") or kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
        refuse(f"its name and its type {kind:#o} do not make a file, a directory or a symlink", name)
    if kind != stat.S_IFLNK:
        return Member(name, Kind.FILE, executable=bool(mode & 0o111), pieces=_zip_content(file, archive, info))
    if info.file_size > BOUNDS.target:
        refuse(f"a symlink with a target of {info.file_size} bytes", name)
    return Member(name, Kind.SYMLINK, target=decoded(b"".join(_zip_content(file, archive, info)), name))


_UNIX = 3


def _zip_content(file: BinaryIO, archive: "ZipFile", info: "ZipInfo") -> Iterator[bytes]:
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
        # zipfile hides some errors of the disk behind its own; and it goes to any offset that it is told (EINVAL).
        disk = error if isinstance(error, OSError) else error.__context__
        if isinstance(disk, OSError) and disk.errno != errno.EINVAL:
            raise read_error(disk, file) from error
        give_up(f"it cannot be read: {error}")
