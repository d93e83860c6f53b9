"""Follows the symlinks of an archive, before any of them is made."""

from collections.abc import Mapping
from typing import NamedTuple

from pytest_pyinstall.bounds import BOUNDS
from pytest_pyinstall.member import Kind
from pytest_pyinstall.member_name import check_characters, check_for_windows, check_length
from pytest_pyinstall.refusal import refuse, shown

__all__ = ["Led", "check_as_written", "follow"]


class Led(NamedTuple):
    """Where a symlink leads, how many links were followed on the way, and whether a folder is there."""

    path: str
    links: int
    is_folder: bool


def check_as_written(path: str, target: str, *, home: int) -> None:
    """Refuse a target that leaves when `..` is taken literally, as ``os.path.normpath`` and installers do."""
    if not target:
        refuse("a symlink to nowhere", path)
    if target.startswith("/"):
        refuse(f"a symlink to the absolute {shown(target)}", path)
    check_characters(target, path)
    check_length(target, path, limit=BOUNDS.target)
    parts = target.split("/")
    check_for_windows([part for part in parts if part not in {"", ".", ".."}], path)
    here = path.count("/")
    for part in parts:
        if part == "..":
            here -= 1
        elif part not in {"", "."}:
            here += 1
        if here < home:
            refuse(f"its target {shown(target)} leaves the top folder", path)


def follow(
    path: str, *, targets: Mapping[str, str], made: Mapping[str, Kind], home: int, led: dict[str, Led], depth: int = 0
) -> Led:
    """Where the symlink `path` leads: as the kernel goes, through the other links of the archive.

    In our memory of the tree and not on disk, so that no path can be too long to be judged; each link only once, so
    that no tangle of links can be too large.
    """
    if path in led:
        return led[path]
    if depth > BOUNDS.links:
        refuse(_CIRCLE, path)
    here, links, is_folder = path.split("/")[:-1], 1, True
    for part in targets[path].split("/"):
        if part in {"", "."}:
            continue
        if part == "..":
            # A volume that folds case may find what we miss, and then be elsewhere than we think.
            if not is_folder:
                refuse(f"its target {shown(targets[path])} comes back out of what is no folder", path)
            here.pop()
            if len(here) < home:
                refuse(f"its target {shown(targets[path])} leaves the top folder over a link", path)
            continue
        here.append(part)
        name = "/".join(here)
        if is_folder and name in targets:
            other = follow(name, targets=targets, made=made, home=home, led=led, depth=depth + 1)
            here, links, is_folder = other.path.split("/"), links + other.links, other.is_folder
            if links > BOUNDS.links:
                refuse(_CIRCLE, path)
        else:
            is_folder = is_folder and made.get(name) is Kind.DIRECTORY
    led[path] = Led("/".join(here), links, is_folder)
    return led[path]


_CIRCLE = f"leads in a circle, or over more than {BOUNDS.links} links"
