"""Puts into a fresh environment what was put into another one before, without asking the installer again.

A suite makes an environment for each test, and installs the same wheels into each. When the requirements are wheels on
this machine, and the installer needed nothing but them, the outcome is settled: it is kept in memory, for this process,
and written down again in a millisecond. Files are copies, so a test may do with them what it likes.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyinstall.key import Key

__all__ = ["Wheels", "recognise", "remember", "write_again"]

_MOST = 8 << 20
"""Bytes of one outcome, and four times that of all: the installer links what is larger, which copying does not beat."""

_Files = dict[str, tuple[int, bytes]]
_kept: dict[object, _Files] = {}
_guard = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """Wheels on their way into a fresh environment. `outcome` is what decides what will be there."""

    site_packages: Path
    outcome: object
    count: int
    outside: frozenset[tuple[str, int]]


def recognise(
    path: Path, requirements: Sequence[str], *, key: Key, base_executable: Path, environ: Mapping[str, str]
) -> Wheels | None:
    """None where what will be there depends on more than the requirements, or where something is there already."""
    library = "Lib" if key.target.os == "windows" else "lib/*"
    places = list(path.glob(f"{library}/site-packages"))
    try:
        if len(places) != 1 or any(places[0].iterdir()):
            return None
        wheels = tuple([_wheel(requirement) for requirement in requirements])
        outside = _outside(path, places[0])
    except (OSError, ValueError):
        return None
    settings = tuple(sorted((name, value) for name, value in environ.items() if name.startswith(("PIP_", "UV_"))))
    outcome = (str(key), str(base_executable), wheels, settings)
    return Wheels(site_packages=places[0], outcome=outcome, count=len(wheels), outside=outside)


def write_again(wheels: Wheels) -> bool:
    """Write what is known to be the outcome; False where it is not known. Raises `OSError`."""
    files = _kept.get(wheels.outcome)
    if files is None:
        return False
    made = {""}
    for name, (mode, content) in files.items():
        path = os.path.join(wheels.site_packages, name)  # noqa: PTH118  # hot
        parent = os.path.dirname(name)  # noqa: PTH120  # as above
        if parent not in made:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120  # as above
            made.add(parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(content)
    return True


def remember(path: Path, wheels: Wheels) -> None:
    """Keep what the installer has put there, if nothing but the wheels came, and only to where modules lie."""
    try:
        found = [Path(parent, name) for parent, _, names in os.walk(wheels.site_packages) for name in names]
        if sum(file.name == "METADATA" for file in found) != wheels.count:
            return  # it brought dependencies, which may be others tomorrow
        if _outside(path, wheels.site_packages) != wheels.outside:
            return  # scripts, which name the environment
        if sum(file.lstat().st_size for file in found) > _MOST:
            return
        here = os.fsencode(path)
        files: _Files = {}
        for file in found:
            content = file.read_bytes()
            if file.is_symlink() or here in content:
                return
            files[file.relative_to(wheels.site_packages).as_posix()] = file.stat().st_mode & 0o777, content
    except OSError:
        return
    with _guard:
        held = sum(len(content) for each in _kept.values() for _, content in each.values())
        if held < 4 * _MOST:
            _kept[wheels.outcome] = files


def _wheel(requirement: str) -> tuple[str, int, int, int]:
    """The file that it names, and by what to tell that it is another one. Raises `ValueError`, `OSError`."""
    if not requirement.endswith(".whl") or "://" in requirement or requirement.startswith("-"):
        raise ValueError(requirement)
    path = os.path.realpath(requirement)
    status = os.stat(path)  # noqa: PTH116  # text, as it came
    return path, status.st_size, status.st_mtime_ns, status.st_ino


def _outside(path: Path, site_packages: Path) -> frozenset[tuple[str, int]]:
    """Every file of the environment that is no module's, with its size."""
    found = set()
    for parent, folders, names in os.walk(path):
        if Path(parent) == site_packages:
            folders.clear()
            continue
        for name in names:
            file = Path(parent, name)
            if name == ".lock" and file.parent == path:  # uv's, empty
                continue
            found.add((str(file), file.lstat().st_size))
    return frozenset(found)
