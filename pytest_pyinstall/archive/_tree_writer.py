"""Writes the tree of an archive, member by member. Checks all symlinks before it creates any of them.

It never looks up on disk where a name leads: the tree contains only what we created, and we remember all of it.
"""

# ruff: noqa: PTH101, PTH102, PTH211, S103 (plain names cost a third of pathlib's; 0o755 is what we promise)

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyinstall.archive._members import (
    CHUNK,
    LIMITS,
    ArchiveMember,
    MemberKind,
    check_characters,
    check_for_windows,
    check_length,
    parts_of,
    quoted,
    reject,
)
from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.system.files import limit_hint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyinstall.system.files import FileDigests

__all__ = ["LinkTarget", "TreeWriter", "check_as_written", "resolve_link", "store_error"]


class LinkTarget(NamedTuple):
    """Where a symlink leads, how many links were followed on the way, and whether a folder is there."""

    path: str
    links: int
    is_folder: bool


def check_as_written(path: str, target: str, *, home: int) -> None:
    """Reject a target that leaves the tree if `..` is taken literally, as ``os.path.normpath`` and installers do."""
    if not target:
        reject("a symlink with an empty target", path)
    if target.startswith("/"):
        reject(f"a symlink to the absolute {quoted(target)}", path)
    check_characters(target, path)
    check_length(target, path, limit=LIMITS.target)
    parts = target.split("/")
    check_for_windows([part for part in parts if part not in {"", ".", ".."}], path)
    here = path.count("/")
    for part in parts:
        if part == "..":
            here -= 1
        elif part not in {"", "."}:
            here += 1
        if here < home:
            reject(f"its target {quoted(target)} leaves the top folder", path)


def resolve_link(
    path: str,
    *,
    targets: Mapping[str, str],
    made: Mapping[str, MemberKind],
    home: int,
    led: dict[str, LinkTarget],
    depth: int = 0,
) -> LinkTarget:
    """Where the symlink `path` leads, if it is followed as the kernel does, through the other links of the archive.

    This uses what we remember of the tree and not the disk, so no path is too long to be checked. Each link is followed
    only once, so the number of links does not matter.
    """
    if path in led:
        return led[path]
    if depth > LIMITS.links:
        reject(_CIRCLE, path)
    here, links, is_folder = path.split("/")[:-1], 1, True
    for part in targets[path].split("/"):
        if part in {"", "."}:
            continue
        if part == "..":
            # A volume that ignores case may find a name that we do not, and so lead to another place.
            if not is_folder:
                reject(f"its target {quoted(targets[path])} goes through something that is not a folder", path)
            here.pop()
            if len(here) < home:
                reject(f"its target {quoted(targets[path])} leaves the top folder through a link", path)
            continue
        here.append(part)
        name = "/".join(here)
        if is_folder and name in targets:
            other = resolve_link(name, targets=targets, made=made, home=home, led=led, depth=depth + 1)
            here, links, is_folder = other.path.split("/"), links + other.links, other.is_folder
            if links > LIMITS.links:
                reject(_CIRCLE, path)
        else:
            is_folder = is_folder and made.get(name) is MemberKind.DIRECTORY
    led[path] = LinkTarget("/".join(here), links, is_folder)
    return led[path]


_CIRCLE = f"leads in a circle, or over more than {LIMITS.links} links"


class TreeWriter:
    """Writes a tree below `root`, and remembers everything in it. The digests of its files are added to `known`.

    Nothing that exists is opened (``O_EXCL``), everything is created in directories that we created, and symlinks are
    created after the last file. So nothing can be written outside.
    """

    def __init__(self, root: Path, known: FileDigests | None = None) -> None:
        self._root = os.fspath(root)
        self._known = known
        self._made: dict[str, MemberKind] = {}
        self._targets: dict[str, str] = {}
        self._led: dict[str, LinkTarget] = {}
        self._top = ""
        self._is_full = False
        try:
            with os.scandir(root) as entries:
                left_over = next(entries, None)
        except OSError as error:
            raise store_error(error, self._root) from error
        if left_over is not None:
            msg = f"cannot unpack into {self._root}: it is not empty"
            raise StoreError(msg, f"remove it and try again: {self._root}")

    def add(self, member: ArchiveMember) -> None:
        """Write `member`, or keep a symlink for `complete`. Raises `RejectedError` and `StoreError`."""
        parts = parts_of(member.name)
        if not self._wants(parts, member):
            return
        path = "/".join(parts)
        if member.kind is MemberKind.DIRECTORY:
            self._make_directory(path, member.name)
            return
        self._make_directory("/".join(parts[:-1]), member.name)
        known = self._made.get(path)
        if known is not None and not (
            known is member.kind is MemberKind.SYMLINK and self._targets[path] == member.target
        ):
            reject(f"occurs twice, first as {known.value}", member.name)
        if member.kind is MemberKind.FILE:
            self._write(path, member)
        elif member.kind is MemberKind.HARDLINK:
            self._link(path, member)
        else:
            self._targets[path] = member.target
        self._made[path] = MemberKind.FILE if member.kind is MemberKind.HARDLINK else member.kind

    def _wants(self, parts: list[str], member: ArchiveMember) -> bool:
        """Whether to write it. The top folder is that of the first member; everything outside it is rejected."""
        if len(parts) <= 1 and member.kind is not MemberKind.DIRECTORY:
            reject(f"{member.kind.value} beside the top folder", member.name)
        if not parts:  # "./"
            return False
        self._top = self._top or parts[0]
        if parts[0] != self._top:
            reject(f"a second top folder, beside {quoted(self._top)}", member.name)
        if parts[1:] == ["PYTHON.json"]:
            # PBS puts it first, so its build objects, several times the size of the rest, are never written.
            self._is_full = True
        return not self._is_full or parts[1:2] == ["install"]

    def complete(self) -> Path:
        """Check the symlinks against everything else, and create them. Returns the home of the tree."""
        if not self._top:
            reject("it is empty")
        home = f"{self._top}/install" if self._is_full else self._top
        if self._made.get(home) is not MemberKind.DIRECTORY:
            reject("there is no such folder", home)
        # If PYTHON.json does not come first, files beside install exist already. Links beside it are not needed.
        links = {path: target for path, target in self._targets.items() if path.startswith(f"{home}/")}
        depth = home.count("/") + 1
        for path, target in links.items():
            check_as_written(path, target, home=depth)
            resolve_link(path, targets=self._targets, made=self._made, home=depth, led=self._led)
        for path, target in links.items():
            where = f"{self._root}/{path}"
            try:
                os.symlink(target.replace("/", os.sep), where, target_is_directory=self._led[path].is_folder)
            except FileExistsError:
                reject(_SAME_NAME, path)
            except OSError as error:
                raise store_error(error, where) from error
        return Path(self._root, home)

    def _make_directory(self, path: str, member: str) -> None:
        known = self._made.get(path)
        if known is MemberKind.DIRECTORY:
            return
        if known is not None:
            reject(f"{quoted(path)} is {known.value}, and cannot be replaced or contain other members", member)
        parent = path.rpartition("/")[0]
        if parent:
            self._make_directory(parent, member)
        if len(self._made) >= LIMITS.members:
            reject(f"with it there are more than {LIMITS.members} files and folders", member)
        where = f"{self._root}/{path}"
        try:
            os.mkdir(where, 0o755)
            os.chmod(where, 0o755)  # the umask, and a parent's setgid bit
        except FileExistsError:
            reject(_SAME_NAME, member)
        except OSError as error:
            raise store_error(error, where) from error
        self._made[path] = MemberKind.DIRECTORY

    def _write(self, path: str, member: ArchiveMember) -> None:
        where = f"{self._root}/{path}"
        mode = 0o755 if member.executable else 0o644
        descriptor = self._create(where, mode, member)
        try:
            digest = sha256()
            for piece in member.pieces:
                _write_all(descriptor, piece, where)
                digest.update(piece)
            status = os.fstat(descriptor)
            if _fchmod is not None and stat.S_IMODE(status.st_mode) != mode:  # the umask
                try:
                    _fchmod(descriptor, mode)
                except OSError as error:
                    raise store_error(error, where) from error
            if self._known is not None:
                self._known[status.st_ino] = status.st_size, status.st_mtime_ns, digest.hexdigest()
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        try:
            os.close(descriptor)  # only here NFS reports that the disk is full
        except OSError as error:
            raise store_error(error, where) from error

    def _create(self, where: str, mode: int, member: ArchiveMember) -> int:
        try:
            descriptor = os.open(where, _CREATE, mode)
        except FileExistsError:
            reject(_SAME_NAME, member.name)
        except OSError as error:
            raise store_error(error, where) from error
        return descriptor

    def _link(self, path: str, member: ArchiveMember) -> None:
        source = "/".join(parts_of(member.target, of=member.name))
        if self._made.get(source) is not MemberKind.FILE:
            reject(f"a hardlink to {quoted(member.target)}, which is not an earlier file of this archive", member.name)
        there, where = f"{self._root}/{source}", f"{self._root}/{path}"
        try:
            os.link(there, where)
        except FileExistsError:
            reject(_SAME_NAME, member.name)
        except OSError as error:
            if error.errno not in _NO_HARDLINKS:
                raise store_error(error, where) from error
        else:
            return
        try:
            with open(there, "rb") as original:
                executable = bool(os.fstat(original.fileno()).st_mode & 0o100)
                self._write(
                    path, member._replace(executable=executable, pieces=iter(lambda: original.read(CHUNK), b""))
                )
        except OSError as error:
            raise store_error(error, there) from error


_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


_fchmod = getattr(os, "fchmod", None)  # Windows has it from 3.13 on, and no umask that matters


_SAME_NAME = "this volume does not distinguish its name from another member's"


_NO_HARDLINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def _write_all(descriptor: int, piece: bytes | memoryview, where: str) -> None:
    try:
        written = os.write(descriptor, piece)
        while written < len(piece):  # a signal, or a disk that has just become full: the next call fails
            written += os.write(descriptor, piece[written:])
    except OSError as error:
        raise store_error(error, where) from error


def store_error(error: OSError, path: str) -> StoreError:
    hint = limit_hint(error) or {
        errno.ENOSPC: "make room, or unpack elsewhere: export PYTEST_PYINSTALL_STORE=/somewhere/with/room",
        errno.EDQUOT: "make room, or unpack elsewhere: export PYTEST_PYINSTALL_STORE=/somewhere/with/room",
        errno.EACCES: "name a directory that is yours: export PYTEST_PYINSTALL_STORE=/somewhere/of/yours",
        errno.EPERM: "name a directory that is yours: export PYTEST_PYINSTALL_STORE=/somewhere/of/yours",
        errno.EROFS: "name a directory that is yours: export PYTEST_PYINSTALL_STORE=/somewhere/of/yours",
        errno.ENAMETOOLONG: "name a directory with a shorter path: export PYTEST_PYINSTALL_STORE=/short",
    }.get(error.errno or 0, "see what the disk says, or unpack elsewhere: export PYTEST_PYINSTALL_STORE=/another/disk")
    # The reason first: the path is that of a scratch directory, and tables cut long lines.
    return StoreError(f"{error.strerror or error}: cannot write {path}", hint)
