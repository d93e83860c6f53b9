"""What a directory stands on: is it there, can we write to it, which volume is it, and how much room is left."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place", "Volume", "place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A filesystem. `device` tells two apart; `filesystem` is its kind, empty where the system does not tell it."""

    device: int
    mount_point: Path
    filesystem: str
    free: int

    def __str__(self) -> str:
        kind = f"{self.filesystem} on " if self.filesystem else ""
        return f"{kind}{self.mount_point}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A directory that may not be there yet; `volume` and `is_writable` are then those of the nearest that is."""

    path: Path
    exists: bool
    is_writable: bool
    volume: Volume | None


def place(path: Path) -> Place:
    """What `path` stands on. Nothing is created; where nothing can be known, `volume` is None."""
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
    while not mount_point.is_mount() and mount_point != mount_point.parent:
        mount_point = mount_point.parent
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
    # What was mounted last on one place is what one sees there.
    for line in reversed(lines):
        fields, _, rest = line.partition(" - ")
        where = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split(" ")[4])
        if where == str(mount_point):
            return rest.split(" ")[0]
    return ""
