"""The distributions in the site-packages of an installation: those that were published, and those the user changed.

A distribution is kept or replaced as a whole. After ``pip install -U pip`` all of pip is the user's; a repair that put
single files of the published pip back would leave a mixture of two versions.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from typing import TYPE_CHECKING

from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_pyinstall.store.manifest import Difference, Entry

__all__ = ["Distribution", "Packages", "is_same_project", "read_distributions"]

_INFO = r"(?P<name>[A-Za-z0-9._]+?)-[^-/]+\.dist-info"
_MOST_BYTES = 16 << 20


class Distribution(Value):
    """`name` is normalized, `info` the path of its ``.dist-info`` and `files` those of its files, scripts included and
    byte code left out; all relative to the installation, with ``/``."""

    name: str
    info: str
    files: tuple[str, ...]

    @property
    def site(self) -> str:
        """The site-packages directory in which it is installed."""
        return posixpath.dirname(self.info)

    @property
    def folders(self) -> frozenset[str]:
        """The directories that, by their names, belong to it alone: its packages and its ``.dist-info``."""
        start = len(self.site) + 1
        inside = (name[start:].partition("/") for name in self.files if name.startswith(f"{self.site}/"))
        return frozenset(f"{self.site}/{top}" for top, slash, _ in inside if slash)


def read_distributions(tree: Path, entries: Iterable[Entry]) -> tuple[Distribution, ...]:
    """The distributions in `tree`, by the RECORD files in its list `entries`."""
    known = {entry.name for entry in entries if entry.kind != "directory"}
    found = []
    for name in sorted(each for each in known if each.endswith("/RECORD")):
        info = posixpath.dirname(name)
        if match := _matched(info):
            rows = _rows(tree, info)
            files = {row.name for row in rows or ()} | {each for each in known if each.startswith(f"{info}/")}
            found.append(Distribution(name=_normalized(match["name"]), info=info, files=tuple(sorted(files & known))))
    return tuple(found)


class Packages:
    """How the user changed the `published` distributions of the installation at `home`.

    `theirs` are the distributions that are complete by their own RECORD and not as published. `gone` are the published
    ones that the user replaced or uninstalled as a whole. `differences` are those between the tree and its list.
    With `content`, files are compared by digest and not by size.
    """

    def __init__(
        self, home: Path, published: Iterable[Distribution], differences: Iterable[Difference], *, content: bool
    ) -> None:
        published, differences = tuple(published), tuple(differences)
        names = {difference.name for difference in differences}
        as_published = {each.info for each in published if names.isdisjoint({each.info, *_inside(each)})}
        sites = dict.fromkeys(each.site for each in published)
        self.theirs = tuple(
            each for site in sites for each in _complete(home, site, leave_out=as_published, content=content)
        )
        self.claimed = frozenset(name for each in self.theirs for name in each.files)
        missing = {difference.name for difference in differences if difference.what == "missing"}
        replaced = {(each.site, each.name) for each in self.theirs}
        whole_site = {
            site for site in sites if not any(_is_unclaimed(name, site, published) for name in names - self.claimed)
        }
        self.gone = tuple(
            each
            for each in published
            if each.info not in as_published
            and all(name in missing or name in self.claimed for name in each.files)
            and ((each.site, each.name) in replaced or each.site in whole_site)
        )

    def damage(self, differences: Iterable[Difference]) -> list[Difference]:
        """The `differences` that the user did not make."""
        excused = {*self.claimed, *(name for each in self.gone for name in each.files)}
        folders = tuple(f"{folder}/" for each in self.gone for folder in each.folders)
        return [
            difference
            for difference in differences
            if difference.name not in excused
            and not (difference.what == "missing" and folders and f"{difference.name}/".startswith(folders))
        ]


def is_same_project(name: str, distribution: Distribution) -> bool:
    """Whether `name` is the ``.dist-info`` of another version of `distribution`, or one that pip was moving away."""
    site, _, last = name.rpartition("/")
    match = _matched(name)
    is_half = last.startswith("~") and last[1:].lower() in _normalized(distribution.name)
    return site == distribution.site and (
        is_half or (match is not None and _normalized(match["name"]) == distribution.name)
    )


def _inside(distribution: Distribution) -> Iterator[str]:
    return (name for name in distribution.files if name.startswith(f"{distribution.info}/"))


def _is_unclaimed(name: str, site: str, published: tuple[Distribution, ...]) -> bool:
    """Whether `name` is damage to `site` itself: to the directory, or to what belongs to none of its distributions."""
    if name == site or site.startswith(f"{name}/"):
        return True
    if not name.startswith(f"{site}/"):
        return False
    return not any(
        name in each.files or any(f"{name}/".startswith(f"{folder}/") for folder in each.folders)
        for each in published
        if each.site == site
    )


def _complete(home: Path, site: str, *, leave_out: set[str], content: bool) -> Iterator[Distribution]:
    """The distributions in `site` that have every file that their RECORD names."""
    try:
        names = sorted(os.listdir(home / site))  # noqa: PTH208  # names are enough
    except OSError:
        return
    for name in names:
        info = f"{site}/{name}"
        match = _matched(info)
        if match is None or info in leave_out or (rows := _rows(home, info)) is None:
            continue
        # pip rewrites the first line of a script, and so do we.
        if all(_is_there(home, row, content=content and row.name.startswith(f"{site}/")) for row in rows):
            files = tuple(sorted(row.name for row in rows))
            yield Distribution(name=_normalized(match["name"]), info=info, files=files)


class _Row(Value):
    name: str
    digest: str
    size: int
    is_inside: bool


def _rows(tree: Path, info: str) -> list[_Row] | None:
    """The rows of a RECORD. None if it is missing or empty, or has paths outside the installation."""
    import csv  # like base64 and hashlib below, imported only if something differs

    site = posixpath.dirname(info)
    rows = []
    try:
        with open(tree / info / "RECORD", encoding="utf-8", newline="") as file:
            for row in csv.reader(file.read(_MOST_BYTES).splitlines()):
                path, digest, size = (*row, "", "")[:3]
                name = posixpath.normpath(posixpath.join(site, path.replace("\\", "/")))
                if not path or name.startswith(("/", "../")):
                    return None
                if "__pycache__" not in name.split("/"):
                    rows.append(
                        _Row(name=name, digest=digest, size=int(size or -1), is_inside=name.startswith(f"{site}/"))
                    )
    except (OSError, ValueError, csv.Error):
        return None
    has_metadata = any(row.name == f"{info}/METADATA" for row in rows)
    return rows if has_metadata else None


def _is_there(home: Path, row: _Row, *, content: bool) -> bool:
    import base64
    import hashlib

    path = home / row.name
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return stat.S_ISLNK(status.st_mode) and path.exists()
        if not row.is_inside:
            return bool(status.st_size)
        if row.size >= 0 and status.st_size != row.size:
            return False
        kind, _, expected = row.digest.partition("=")
        if not content or not expected:
            return True
        digest = hashlib.new(kind, path.read_bytes()).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == expected.rstrip("=")


def _matched(info: str) -> re.Match[str] | None:
    site, _, name = info.rpartition("/")
    return re.fullmatch(_INFO, name) if posixpath.basename(site) == "site-packages" else None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
