"""One thing that an archive wants to have made."""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

__all__ = ["Kind", "Member"]


class Kind(Enum):
    FILE = "a file"
    DIRECTORY = "a directory"
    SYMLINK = "a symlink"
    HARDLINK = "a hardlink"


class Member(NamedTuple):
    """One thing that an archive wants to have made. `pieces` can be read once, before the next member is asked for."""

    name: str
    kind: Kind
    executable: bool = False
    target: str = ""
    pieces: Iterator[bytes | memoryview] = iter(())
