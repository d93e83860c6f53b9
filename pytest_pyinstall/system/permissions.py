"""Checks which other users can write to a directory, and so change what we run. Describes the volume of a directory."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import stat
import struct
import sys
from pathlib import Path

from pytest_pyinstall.system.values import Value

__all__ = [
    "Other",
    "OtherWriter",
    "Place",
    "Volume",
    "is_noexec",
    "is_ours_alone",
    "other_writer",
    "place",
    "user_name",
    "who_else_can_write",
]


def is_ours_alone(directory: Path, *, below: Path) -> bool:
    """Whether only this user and root can write to `directory` and those up to `below`, and rename one above.

    False on Windows, where this is not checked."""
    if sys.platform == "win32":
        return False
    real = Path(os.path.realpath(directory))
    own = {directory, *(parent for parent in directory.parents if parent == below or below in parent.parents)}
    try:
        return all(
            who_else_can_write(path.stat(), is_parent=path not in own, path=path) is None
            for path in dict.fromkeys((directory, *directory.parents, *real.parents))
        )
    except OSError:
        return False


class Other(Value):
    """Another user or group that can write to a path; `flag` is the letter that chmod uses, empty for an owner."""

    name: str
    flag: str


class OtherWriter(Value):
    """Which other user can write to `directory`; as text, the beginning of a sentence."""

    directory: Path
    other: Other

    def __str__(self) -> str:
        if self.other.flag:
            return f"{self.other.name} can write to {self.directory}"
        return f"{self.directory} belongs to {self.other.name}"

    @property
    def way_out(self) -> str:
        """The command that takes the right away, if there is one."""
        return f"chmod {self.other.flag}-w {shlex.quote(str(self.directory))}" if self.other.flag else ""


def other_writer(directory: Path) -> OtherWriter | None:
    """Another user, except root, that can write to `directory` or replace it. None if there is none.

    If `directory` does not exist, the one above it is checked. None on Windows, where this is not checked.
    """
    if sys.platform == "win32":
        return None
    real = Path(os.path.realpath(directory))
    for path in dict.fromkeys((directory, real, *directory.parents, *real.parents)):
        try:
            status = path.stat()
        except OSError:
            continue
        if other := who_else_can_write(status, is_parent=path not in {directory, real}, path=path):
            return OtherWriter(directory=path, other=other)
    return None


def who_else_can_write(status: os.stat_result, *, is_parent: bool, path: Path | None = None) -> Other | None:
    """Another user, except root, that can write to a directory, or, if it `is_parent`, rename its entries.

    With `path`, its access control list is read too, if it has one.
    """
    mode = status.st_mode
    if sys.platform == "win32" or (is_parent and mode & stat.S_ISVTX):
        return None  # as in /tmp: others can add files, but not rename ours
    if mode & stat.S_IWOTH:
        return Other(name="everyone", flag="o")
    if mode & stat.S_IWGRP:
        # With an access control list, this bit is its mask: without it, no entry can write.
        users, groups = _acl_writers(path, status) if path else (set(), {status.st_gid})
        for uid in users - {0, os.geteuid()}:
            return Other(name=f"user {user_name(uid)}", flag="g")
        for gid in groups:
            if not _is_ours_alone(gid, os.geteuid()):
                return Other(name=f"group {_group_name(gid)}", flag="g")
    if not is_parent and status.st_uid not in {0, os.geteuid()}:
        return Other(name=f"user {user_name(status.st_uid)}", flag="")
    return None


def _acl_writers(path: Path, status: os.stat_result) -> tuple[set[int], set[int]]:
    """The users and groups that can write by the access control list of `path` (acl(5), linux/posix_acl_xattr.h)."""
    if sys.platform != "linux":
        return set(), {status.st_gid}
    try:
        raw = os.getxattr(path, "system.posix_acl_access")
    except OSError:  # it has none, or this filesystem has none
        return set(), {status.st_gid}
    users, groups = set(), set()
    for tag, permissions, number in struct.iter_unpack("<HHI", raw[4:]):
        if permissions & 2:
            if tag == 0x02:
                users.add(number)
            elif tag == 0x04:
                groups.add(status.st_gid)
            elif tag == 0x08:
                groups.add(number)
    return users, groups


@functools.cache
def _is_ours_alone(gid: int, uid: int) -> bool:
    """Whether only this user and root are in the group. Many systems give each user such a group and a umask of 002."""
    if sys.platform == "win32":
        return True
    import grp
    import pwd

    try:
        names = {pwd.getpwuid(uid).pw_name, "root"}
        members = {*grp.getgrgid(gid).gr_mem}
    except KeyError:  # a container without that user or group: no other user can be in it
        return gid == os.getegid()
    return members <= names and all(user.pw_uid in {0, uid} for user in pwd.getpwall() if user.pw_gid == gid)


def _group_name(gid: int) -> str:
    if sys.platform == "win32":
        return str(gid)
    import grp

    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)


def user_name(uid: int) -> str:
    """The name of a user, or the number if there is no name."""
    if sys.platform == "win32":
        return str(uid)
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def is_noexec(directory: Path) -> bool:
    """Whether the volume of `directory` is mounted so that nothing can be started from it."""
    if sys.platform == "win32":
        return False
    try:
        return bool(os.statvfs(directory).f_flag & getattr(os, "ST_NOEXEC", 8))
    except OSError:
        return False


class Volume(Value):
    """A filesystem. `device` identifies it; `filesystem` is its kind, empty if it is unknown."""

    device: int
    mount_point: Path
    filesystem: str
    free: int

    def __str__(self) -> str:
        kind = f"{self.filesystem} on " if self.filesystem else ""
        return f"{kind}{self.mount_point}"


class Place(Value):
    """A directory. If it does not exist, `volume` and `is_writable` are those of the nearest one above that does."""

    path: Path
    exists: bool
    is_writable: bool
    volume: Volume | None


def place(path: Path) -> Place:
    """Describe the directory `path`. Creates nothing; `volume` is None if it is unknown."""
    exists = os.path.lexists(path)
    for nearest in (path, *path.parents):
        try:
            device = nearest.stat().st_dev
        except OSError:
            continue
        is_writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
        return Place(path=path, exists=exists, is_writable=is_writable, volume=_volume(nearest.resolve(), device))
    return Place(path=path, exists=exists, is_writable=False, volume=None)


def _volume(directory: Path, device: int) -> Volume:
    mount_point = directory
    while not os.path.ismount(mount_point) and mount_point != mount_point.parent:
        mount_point = mount_point.parent
    import shutil

    try:
        free = shutil.disk_usage(directory).free
    except OSError:
        free = 0
    return Volume(device=device, mount_point=mount_point, filesystem=_filesystem(mount_point), free=free)


def _filesystem(mount_point: Path) -> str:
    """Source: proc_pid_mountinfo(5)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    # The last mount on a directory is the one that is visible.
    for line in reversed(lines):
        fields, _, rest = line.partition(" - ")
        where = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split(" ")[4])
        if where == str(mount_point):
            return rest.split(" ")[0]
    return ""
