"""The list of what was published: taken once, compared ever after.

Nobody can tell from a directory's name whether what lies below it is whole. The list can: name, kind, size, mode and
digest of every entry. Comparing without reading the content costs one ``lstat`` for each entry.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pytest_pyinstall.layout import may_change

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Difference", "Entry", "Known", "added", "compare", "listed"]

Kind = Literal["file", "directory", "link"]
Known = dict[int, tuple[int, int, str]]
"""Of files that we wrote or read just now, by inode: size, time in nanoseconds, sha256."""

_KINDS: dict[object, Kind] = {"file": "file", "directory": "directory", "link": "link"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the list. `name` is relative, with ``/`` between its parts; `digest` is the sha256 of a file, the
    target of a link, and empty for a directory."""

    name: str
    kind: Kind
    mode: int
    size: int
    digest: str

    def to_json(self) -> list[str | int]:
        return [self.name, self.kind, self.mode, self.size, self.digest]

    @classmethod
    def from_json(cls, row: list[str | int]) -> Self:
        """Raises `ValueError`, `TypeError` or `KeyError` for anything that `to_json` did not make."""
        name, kind, mode, size, digest = row
        if not (isinstance(name, str) and isinstance(mode, int) and isinstance(size, int) and isinstance(digest, str)):
            msg = f"not a row of a tree's list: {row!r}"
            raise TypeError(msg)
        return cls(name, _KINDS[kind], mode, size, digest)


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it was published: ``missing``, ``changed`` (with a reason) or ``added``."""

    name: str
    what: Literal["missing", "changed", "added"]
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason or self.what}"


def listed(tree: Path, known: Known | None = None) -> tuple[Entry, ...]:
    """The list of `tree`, sorted by name, without the byte code caches. Reads every file once that is not `known`."""
    known = known or {}
    return tuple([_entry(name, path, known) for name, path in _walk(tree)])


def compare(tree: Path, entries: tuple[Entry, ...], *, content: bool) -> list[Difference]:
    """What of `entries` is missing below `tree` or not as it was; with `content`, every file is read.

    Files that an interpreter or uv may rewrite in place only need to be there and not empty. What goes away while we
    look is missing. Raises `OSError` where the process itself has no room to look.
    """
    prefix = f"{tree}{os.sep}"
    differences = []
    for entry in entries:
        path = prefix + entry.name
        try:
            reason = _changed(entry, path, os.lstat(path), content=content)
        except OSError as error:
            differences.append(_beyond_reach(entry, error))
            continue
        if reason:
            differences.append(Difference(entry.name, "changed", reason))
    return differences


_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def _beyond_reach(entry: Entry, error: OSError) -> Difference:
    if error.errno in _NO_ROOM:  # says nothing about the tree
        raise error
    if error.errno in _GONE:
        return Difference(entry.name, "missing")
    return Difference(entry.name, "changed", f"cannot be read ({error.strerror})")


def added(tree: Path, entries: tuple[Entry, ...]) -> list[str]:
    """The names below `tree` that are not in `entries`, without byte code caches; of a new directory only its own."""
    known = {entry.name for entry in entries}
    names: list[str] = []
    below: set[str] = set()
    for name, _ in _walk(tree):
        if name.rpartition("/")[0] in below:
            below.add(name)
        elif name not in known:
            below.add(name)
            names.append(name)
    return names


def _walk(tree: Path) -> Iterator[tuple[str, str]]:
    """Every entry below `tree` with its path, parents first, by name. No recursion: a hostile tree may be deep."""
    stack = [""]
    while stack:
        directory = stack.pop()
        with os.scandir(os.path.join(tree, directory)) as entries:  # noqa: PTH118  # hot: 1500 entries
            found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        below = []
        for entry in reversed(found):
            if entry.name == "__pycache__":
                continue
            name = f"{directory}/{entry.name}" if directory else entry.name
            yield name, entry.path
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
        stack.extend(reversed(below))


def _entry(name: str, path: str, known: Known) -> Entry:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, "directory", mode, 0, "")
    if stat.S_ISLNK(status.st_mode):
        return Entry(name, "link", 0, 0, os.readlink(path))
    size, changed, digest = known.get(status.st_ino, (-1, 0, ""))
    if size != status.st_size or changed != status.st_mtime_ns:
        digest = _sha256(path)
    return Entry(name, "file", mode, status.st_size, digest)


def _changed(entry: Entry, path: str, status: os.stat_result, *, content: bool) -> str:  # noqa: PLR0911  # one for each reason
    mode = status.st_mode
    if entry.kind == "directory":
        if not stat.S_ISDIR(mode):
            return "is no directory any more"
        return _changed_mode(entry, mode)
    if entry.kind == "link":
        if not stat.S_ISLNK(mode):
            return "is no link any more"
        target = os.readlink(path)
        return "" if target == entry.digest else f"leads to {target} instead of {entry.digest}"
    if not stat.S_ISREG(mode):
        return "is no regular file any more"
    reason = _changed_content(entry, path, status, content=content) or _changed_mode(entry, mode)
    if reason and may_change(entry.name):
        return "is empty" if entry.size and not status.st_size else ""
    return reason


def _changed_content(entry: Entry, path: str, status: os.stat_result, *, content: bool) -> str:
    if status.st_size != entry.size:
        return f"has {status.st_size} bytes instead of {entry.size}"
    if content and _sha256(path) != entry.digest:
        return "has other content"
    return ""


def _changed_mode(entry: Entry, mode: int) -> str:
    """A store may be made read-only; nobody may gain a right, and nobody lose that of reading or running."""
    mode = stat.S_IMODE(mode)
    if mode == entry.mode or os.name == "nt" or (mode | _WRITE == entry.mode | _WRITE and not mode & ~entry.mode):
        return ""
    return f"has mode {mode:o} instead of {entry.mode:o}"


_WRITE = 0o222


def _sha256(path: str) -> str:
    try:
        import hashlib

        with open(path, "rb", buffering=0) as file:  # hot: 1500 files
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        return "unreadable"
