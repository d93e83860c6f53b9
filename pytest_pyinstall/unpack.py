"""Turns an archive into a tree, trusting nothing in it.

The readers (`tarball`, `zipball`) say what an archive wants to have made; `new_tree` judges it and makes it.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO

from pytest_pyinstall.archive_file import budget_of, read_some
from pytest_pyinstall.decompress import ahead, decompressed
from pytest_pyinstall.errors import IntegrityError, UnsafeArchiveError
from pytest_pyinstall.new_tree import NewTree
from pytest_pyinstall.refusal import BrokenError, RefusedError, refuse
from pytest_pyinstall.tar_stream import Stream
from pytest_pyinstall.tarball import tar_members
from pytest_pyinstall.zipball import zip_members

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from pytest_pyinstall.build import Archive
    from pytest_pyinstall.member import Member
    from pytest_pyinstall.tree import Known

__all__ = ["unpack", "unpack_file"]


def unpack(archive: Archive, *, into: Path, known: Known | None = None) -> Path:
    """The top folder of the archive's tree, inside the empty directory `into`.

    The file is read to its end from where it stands. The digests of its files go into
    `known`. Of a "full" archive of python-build-standalone (one with a
    ``PYTHON.json``), only ``install`` is written and given back.

    Afterwards `into` holds regular files, directories and symlinks, and nothing outside it was touched. Files are
    0o755 where the archive lets anyone execute them and 0o644 otherwise, directories 0o755, whatever the umask; owners,
    times and extended attributes are not kept. Hardlinks are links, or copies where the volume has none.

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


def unpack_file(file: BinaryIO, name: str, *, into: Path, known: Known | None = None) -> Path:
    """As `unpack`, for an archive of that `name` whose digest somebody compared; `file` stands at its beginning."""
    tree = NewTree(into, known)
    try:
        with closing(_members(file, name)) as members:
            for member in members:
                tree.add(member)
        return tree.complete()
    except RefusedError as refusal:
        msg = f"{name} was refused: {refusal}"
        raise UnsafeArchiveError(msg, _ANOTHER_BUILD) from refusal
    except BrokenError as damage:
        msg = f"{name} is broken, although its digest is the expected one: {damage}"
        raise IntegrityError(msg, _ANOTHER_BUILD) from damage


_ANOTHER_BUILD = "nothing of it is used; choose another build: pytest-pyinstall list --all"


def _members(file: BinaryIO, name: str) -> Generator[Member]:
    lower = name.lower()
    for suffix in (".gz", ".bz2", ".xz", ".zst"):
        if lower.endswith((f".tar{suffix}", f".t{suffix[1:]}")):
            budget = budget_of(file)
            with ahead(decompressed(file, suffix)) as chunks:
                yield from tar_members(Stream(chunks, budget=budget))
            return
    if lower.endswith(".tar"):
        yield from tar_members(Stream(iter(lambda: read_some(file), b""), budget=budget_of(file)))
    elif lower.endswith(".zip"):
        yield from zip_members(file)
    else:
        refuse("its name ends in none of .tar.gz, .tgz, .tar.bz2, .tar.xz, .tar.zst, .tar, .zip")
