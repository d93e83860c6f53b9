"""Makes a whole tree from a broken installation, and copies what the user added to it.

A store that a CI cache or a backup restored may be in another place, and may have lost modes, links and empty
directories. The record lists them, so nothing has to be downloaded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import TYPE_CHECKING

from pytest_pyinstall.store._distributions import Distribution, Packages, is_same_project
from pytest_pyinstall.store.manifest import may_change, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_pyinstall.store.manifest import Difference, Entry
    from pytest_pyinstall.system.files import FileDigests

    Relocate = Callable[[str, bytes], bytes]

__all__ = ["bring_along", "rebuild"]

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def rebuild(home: Path, entries: Iterable[Entry], tree: Path) -> FileDigests | None:
    """Build the new directory `tree` with `entries` from the files at `home`. None if a file's content is lost.

    Raises `OSError`.
    """
    entries = tuple(entries)
    if any(entry.name.startswith("/") or {"", ".", ".."} & set(entry.name.split("/")) for entry in entries):
        return None
    known: FileDigests = {}
    tree.mkdir(mode=0o755)
    for entry in entries:
        path = tree / entry.name
        if entry.kind == "directory":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.chmod(entry.mode | 0o700)
        elif entry.kind == "file" and not _take(home / entry.name, path, entry, known):
            shutil.rmtree(tree, ignore_errors=True)
            return None
    for entry in entries:
        if entry.kind == "link":
            (tree / entry.name).symlink_to(entry.digest)
    return known


def _take(source: Path, path: Path, entry: Entry, known: FileDigests) -> bool:
    """Copy, not link: the old file may belong to another user, or another process may still write to it."""
    import hashlib

    try:
        with open(os.open(source, _READ), "rb") as file:
            content = file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except OSError:
        return False
    if content is None or (entry.size and not content):
        return False
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.digest and not may_change(entry.name):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(entry.mode)
    status = path.lstat()
    known[status.st_ino] = (status.st_size, status.st_mtime_ns, digest)
    return True


def bring_along(
    home: Path,
    tree: Path,
    *,
    entries: tuple[Entry, ...],
    published: tuple[Distribution, ...],
    differences: Iterable[Difference],
    relocate: Relocate,
) -> tuple[str, ...]:
    """Copy what the user added to the installation at `home` into `tree`, and return the added names.

    `tree` is as published. `entries` list what was published at `home`, and `differences` what has changed there. Each
    distribution is afterwards either the published one or the user's. Byte code is not copied, because nothing shows
    whether it is whole.
    """
    differences = tuple(differences)
    packages = Packages(home, published, differences, content=True)
    for each in packages.gone:
        _remove(tree, each)
    names = {difference.name for difference in differences}
    restored = [
        each for each in published if each not in packages.gone and not names.isdisjoint({*each.files, *each.folders})
    ]
    theirs = {each.info for each in packages.theirs}
    taken = []
    for name in unexpected(home, entries):
        is_in_restored = any(f"{name}/".startswith(f"{folder}/") for each in restored for folder in each.folders)
        is_rival = name not in theirs and any(is_same_project(name, each) for each in restored)
        if not is_in_restored and not is_rival and _copy(home / name, tree / name, tree):
            taken.append(name)
    for name in sorted(packages.claimed):
        if (tree / name).is_file() or (tree / name).is_symlink():
            (tree / name).unlink()
        with contextlib.suppress(OSError):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if _copy(home / name, tree / name, tree):
            taken.append(name)
    for name in taken:
        if name.startswith("bin/") and (tree / name).is_file() and not (tree / name).is_symlink():
            content = (tree / name).read_bytes()
            if (changed := relocate(name, content)) is not content:
                (tree / name).write_bytes(changed)
    return tuple(taken)


def _remove(tree: Path, distribution: Distribution) -> None:
    for name in distribution.files:
        (tree / name).unlink(missing_ok=True)
    for folder in distribution.folders:
        for parent, _, _ in os.walk(tree / folder, topdown=False):
            if os.path.basename(parent) == "__pycache__":  # noqa: PTH119  # a str from os.walk
                shutil.rmtree(parent, ignore_errors=True)  # saved by the run that proved `tree`
            with contextlib.suppress(OSError):
                os.rmdir(parent)  # noqa: PTH106  # a str from os.walk


def _copy(source: Path, path: Path, tree: Path) -> bool:
    """Copy without writing through a link, and without replacing anything."""
    if os.path.lexists(path) or not path.parent.is_dir():
        return False
    if path.parent.resolve() != tree.resolve() / path.parent.relative_to(tree):
        return False
    kind = stat.S_IFMT(source.lstat().st_mode)
    if kind == stat.S_IFDIR:
        shutil.copytree(source, path, symlinks=True, ignore=_unwanted)
    elif kind in {stat.S_IFREG, stat.S_IFLNK}:
        shutil.copy2(source, path, follow_symlinks=False)
    else:
        return False
    return True


def _unwanted(directory: str, names: list[str]) -> set[str]:
    """Whether it is byte code, or cannot be copied: a pipe, a socket or a device."""
    with os.scandir(directory) as entries:
        special = {
            entry.name
            for entry in entries
            if not (entry.is_symlink() or entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False))
        }
    return special | ({"__pycache__"} & set(names))
