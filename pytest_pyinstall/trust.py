"""Who else can write to a directory of ours, and so decide what we run."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["Other", "is_ours_alone", "who_else_can_write"]


def is_ours_alone(directory: Path, *, below: Path) -> bool:
    """Whether nobody but us and root can write to `directory`, to those up to `below`, or rename one above. Never on
    Windows, where nobody can tell so easily."""
    if sys.platform == "win32":
        return False
    real = Path(os.path.realpath(directory))
    own = {directory, *(parent for parent in directory.parents if parent == below or below in parent.parents)}
    try:
        return all(
            who_else_can_write(path.stat(), is_parent=path not in own) is None
            for path in dict.fromkeys((directory, *directory.parents, *real.parents))
        )
    except OSError:
        return False


class Other(NamedTuple):
    """Somebody who can write where only we should; `flag` is chmod's name for how, empty for an owner."""

    name: str
    flag: str


def who_else_can_write(status: os.stat_result, *, is_parent: bool) -> Other | None:
    """Somebody besides us and root who can write to a directory, or, where it `is_parent`, rename what is in it."""
    mode = status.st_mode
    if is_parent and mode & stat.S_ISVTX:
        return None  # as in /tmp, others can add there, and rename nothing of ours
    if mode & stat.S_IWOTH:
        return Other("everyone", "o")
    if mode & stat.S_IWGRP and not _is_ours_alone(status.st_gid, os.geteuid()):
        return Other(f"group {_group_name(status.st_gid)}", "g")
    if not is_parent and status.st_uid not in {0, os.geteuid()}:
        return Other(f"user {_user_name(status.st_uid)}", "")
    return None


@functools.cache
def _is_ours_alone(gid: int, uid: int) -> bool:
    """Whether nobody but us and root is in the group. Many systems give every user such a one, and a umask of 002."""
    import grp
    import pwd

    try:
        names = {pwd.getpwuid(uid).pw_name, "root"}
        members = {*grp.getgrgid(gid).gr_mem}
    except KeyError:  # a container that knows neither: nobody else is there who could be in it
        return gid == os.getegid()
    return members <= names and all(user.pw_uid in {0, uid} for user in pwd.getpwall() if user.pw_gid == gid)


def _group_name(gid: int) -> str:
    import grp

    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)


def _user_name(uid: int) -> str:
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)
