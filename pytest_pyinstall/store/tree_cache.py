"""Unpacked archives in the cache, from which an installation is made with links.

    CACHE/trees/<sha256 of the archive>/list.json    the entries of the tree, with the digest of every file
    CACHE/trees/<sha256 of the archive>/<top>/       the unpacked tree
    CACHE/trees/.<place>-<pid>-<start>-<random>.new/ a tree that is being added
    CACHE/trees/.lock                                held by the process that adds a tree, to save work

A tree is kept from the second installation of its archive on, because most Pythons are installed once. Its files share
their blocks with the installation (reflinks, if the volume has them) or are hardlinks to it, so it takes little room. A
program that writes in place into a hardlink changes the kept tree too. So the digest of every file is compared before
each use, and a kept tree with a file that differs is deleted.
"""

# ruff: noqa: PTH101, PTH102, PTH108, PTH211, S103 (plain names cost a third of pathlib's; 0o755 is what we promise)

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.store.manifest import Entry, may_change, take_manifest
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import (
    FileDigests,
    children,
    discard,
    is_abandoned,
    make_cache_directory,
    remove,
    scratch_name,
)
from pytest_pyinstall.system.locks import has_shared_locks, lock_now
from pytest_pyinstall.system.permissions import is_ours_alone
from pytest_pyinstall.system.processes import thread_limit

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_pyinstall.request.identity import Build

__all__ = ["add_tree", "cached_trees", "link_tree", "stale_trees", "trees_directory"]


if sys.platform == "linux":
    from fcntl import ioctl

_SHARES_BLOCKS = sys.platform == "linux"
"""macOS has clonefile(2) and Windows has ReFS, but Python has no function for them: hardlinks are used there."""


_FORMAT = 1


_LIST = "list.json"


_NEW = ".new"


def trees_directory(cache: Path) -> Path:
    return cache / "trees"


def cached_trees(cache: Path) -> list[Path]:
    """The trees in the cache. Empty if the cache does not exist. Raises nothing."""
    return [path for path in children(trees_directory(cache)) if _is_ours(path, r"[0-9a-f]{64}")]


def stale_trees(cache: Path) -> list[Path]:
    """The trees that killed processes left."""
    directory = trees_directory(cache)
    if not any(path.name.endswith((_NEW, ".gone")) for path in children(directory)):
        return []
    with lock_now(directory) as ours:
        return _left_over(directory, is_locked=bool(ours))


_OLD_NAME = re.compile(r"\.[0-9a-f]{16}\.new")
"""The temporary names of the first version, which do not contain the process."""


def _left_over(directory: Path, *, is_locked: bool) -> list[Path]:
    """The trees that killed processes left, by their names. For other machines, containers and versions, the lock
    decides."""
    found = []
    for path in children(directory):
        is_old = _OLD_NAME.fullmatch(path.name) is not None
        is_dead = None if is_old else is_abandoned(path)
        if is_dead is None:
            is_dead = is_locked and has_shared_locks(directory)
        found += [path] * is_dead
    return found


def _is_ours(path: Path, form: str) -> bool:
    return re.fullmatch(form, path.name) is not None and path.is_dir() and not path.is_symlink()


def link_tree(cache: Path, build: Build, *, into: Path) -> tuple[Path, FileDigests] | None:
    """Link the cached tree of the archive of `build` into the empty directory `into`. Returns its path and digests.

    None, and `into` is empty, if no tree is kept, if other users can write to it, or if it is on another volume; then
    the archive has to be unpacked. A damaged tree is deleted. Safe in any number of processes at once. Raises `OSError`
    if the disk is full.
    """
    kept = trees_directory(cache) / build.sha256
    try:
        document = parse_json((kept / _LIST).read_bytes())
        if not is_ours_alone(kept, below=cache) or kept.stat().st_dev != into.stat().st_dev:
            return None
        top = document["top"]
        if document["format"] != _FORMAT or not _is_plain(top):
            raise ValueError(top)
        entries = [Entry.from_json(row) for row in document["tree"]]
        known = _laid(kept / top, into / top, entries)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        _clear(into)
        discard(kept)
        return None
    except OSError as error:
        _clear(into)
        if error.errno in _NO_ROOM:
            raise
        if error.errno not in _NO_LINKS:
            discard(kept)
        return None
    return into / top, known


def add_tree(cache: Path, build: Build, tree: Path, known: FileDigests) -> bool:
    """Add `tree`, which was just unpacked from the archive of `build`, to the cache. False if that is impossible.

    If several processes call this at once, one of them adds it. Raises nothing.
    """
    directory = trees_directory(cache)
    kept = directory / build.sha256
    new = directory / scratch_name(_NEW)
    try:
        make_cache_directory(directory)
        if os.path.lexists(kept) or not is_ours_alone(directory, below=cache):
            return False
        with lock_now(directory) as ours:
            if not ours:
                return False
            for left in _left_over(directory, is_locked=True):
                remove(left)
            try:
                new.mkdir(mode=0o755)
                entries = take_manifest(tree, known)
                _linked(tree, new / tree.name, entries)
                document = {"format": _FORMAT, "top": tree.name, "tree": [entry.to_json() for entry in entries]}
                descriptor = os.open(
                    new / _LIST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644
                )  # regardless of the umask
                with open(descriptor, "w", encoding="utf-8") as file:
                    json.dump(document, file, separators=(",", ":"))
                new.rename(kept)
            finally:
                remove(new)
    except (OSError, PyinstallError):
        return False  # the installation works without it
    return True


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS}


_NO_LINKS = {errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP}


_NO_SHARING = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.EPERM, errno.ENOSYS, errno.EBADF}


_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


_FICLONE = 0x40049409  # ioctl_ficlone(2); `fcntl` names it from Python 3.14 on


def _laid(source: Path, destination: Path, entries: list[Entry]) -> FileDigests:
    """Create the links, and compare the files. Raises `ValueError` for a file that differs, and `OSError`."""
    for entry in entries:
        if not _is_plain(entry.name):
            raise ValueError(entry.name)
    _linked(source, destination, entries)
    files = [entry for entry in entries if entry.kind == "file"]
    known: FileDigests = {}
    from concurrent.futures import ThreadPoolExecutor

    # Reading and hashing both release the GIL most of the time.
    with thread_limit(), ThreadPoolExecutor(2) as executor:
        for part in executor.map(lambda half: _compared(destination, half), (files[::2], files[1::2])):
            known |= part
    return known


def _linked(source: Path, destination: Path, entries: tuple[Entry, ...] | list[Entry]) -> None:
    """Create the `entries`. Symlinks come last, so that nothing is written through one."""
    there, here = f"{source}{os.sep}", f"{destination}{os.sep}"
    _mkdir(os.fspath(destination))
    may_share = _SHARES_BLOCKS
    for entry in entries:
        if entry.kind == "directory":
            _mkdir(here + entry.name)
        elif entry.kind == "file":
            if may_change(entry.name):
                _copy(there + entry.name, here + entry.name, entry.mode)
                continue
            may_share = may_share and _copy(there + entry.name, here + entry.name, entry.mode, share_blocks=True)
            if not may_share:
                os.link(there + entry.name, here + entry.name, follow_symlinks=False)
    for entry in entries:
        if entry.kind == "link":
            os.symlink(entry.digest, here + entry.name)


def _mkdir(path: str) -> None:
    os.mkdir(path, 0o755)
    os.chmod(path, 0o755)  # the umask


def _copy(source: str, destination: str, mode: int, *, share_blocks: bool = False) -> bool:
    """Copy `source` to a new file. False, and no file, if blocks should be shared but cannot be."""
    with open(os.open(source, os.O_RDONLY | _NO_FOLLOW), "rb") as original:
        descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, mode)
        with open(descriptor, "wb") as copy:
            if hasattr(os, "fchmod"):
                os.fchmod(copy.fileno(), mode)
            if sys.platform == "linux" and share_blocks:
                try:
                    ioctl(copy.fileno(), _FICLONE, original.fileno())
                except OSError as error:
                    if error.errno not in _NO_SHARING:
                        raise
                    os.unlink(destination)
                    return False
            else:
                copy.write(original.read())
    return True


def _compared(directory: Path, entries: list[Entry]) -> FileDigests:
    known: FileDigests = {}
    prefix = f"{directory}{os.sep}"
    for entry in entries:
        descriptor = os.open(prefix + entry.name, os.O_RDONLY | _NO_FOLLOW)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
                raise ValueError(entry.name)
            if stat.S_IMODE(status.st_mode) != entry.mode:
                raise ValueError(entry.name)
            digest = sha256()
            while chunk := os.read(descriptor, 1 << 20):
                digest.update(chunk)
            if digest.hexdigest() != entry.digest:
                raise ValueError(entry.name)
        finally:
            os.close(descriptor)
        known[status.st_ino] = status.st_size, status.st_mtime_ns, entry.digest
    return known


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith("/") and not {"", ".", ".."} & set(name.split("/"))


def _clear(into: Path) -> None:
    for path in children(into):
        remove(path)
