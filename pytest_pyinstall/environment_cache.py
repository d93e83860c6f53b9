"""What lies in CACHE/environments, who uses it, and what of it may go.

CACHE/environments/<digest>             whole, or not there
                   <digest>/suite.json  what is in it; its time is when it was last used, to the day
                   .<digest>.lease      shared by the sessions that run in it
                   .<digest>.lock       held while it is made
                   .<digest>.new        scratch of whoever holds the lock
                   .wheel-<digest>/     the project as an editable wheel, for all Pythons
                   .<name>.gone         on its way out
"""

import contextlib
import json
import os
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from pytest_pyinstall import lock
from pytest_pyinstall.errors import StoreError

__all__ = ["directory_of", "environments", "lease", "throw_away", "touch", "unwanted"]

_DAY = 86400
_AGE = 30 * _DAY
"""Seconds without use, after which `unwanted` has it."""


def directory_of(cache: Path) -> Path:
    """Where the environments are."""
    return cache / "environments"


def lease(environment: Path) -> AbstractContextManager[bool]:
    """Hold `environment`, whether it is there or not: while anybody does, nobody throws it away."""
    return lock.share(_beside(environment, "lease"))


def touch(environment: Path) -> None:
    """Note that it is used now. Once a day is enough."""
    marker = environment / "suite.json"
    with contextlib.suppress(OSError):
        if time.time() - marker.stat().st_mtime > _DAY:
            os.utime(marker)


def environments(cache: Path) -> list[Path]:
    """Every directory there, scratch among them. Raises `StoreError`."""
    parent = directory_of(cache)
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"cannot read the cache {parent}: {error.strerror or error}"
        raise StoreError(message, hint="another directory: --python-cache DIR") from error


def unwanted(cache: Path, *, now: float | None = None) -> list[Path]:
    """What nobody will miss: leftovers, environments whose Python or project is gone, or unused for thirty days."""
    horizon = (time.time() if now is None else now) - _AGE
    return [path for path in environments(cache) if _is_unwanted(path, horizon)]


def throw_away(path: Path) -> Path | None:
    """Move it aside, so that nobody starts half an environment; the caller deletes what is returned.

    None where a session runs in it, or makes it. Raises `OSError`.
    """
    aside = path.with_name(f".{path.name.lstrip('.')}.{os.urandom(4).hex()}.gone")
    with ExitStack() as stack:
        if not all(stack.enter_context(lock.seize(guard)) for guard in _guards(path)):
            return None
        path.rename(aside)
    return aside


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")


def _guards(path: Path) -> list[Path]:
    """What is locked while somebody needs `path`: runs in it, or makes it."""
    # Scratch has a further ending, and an environment with a copy of the sources a part of its name that is about them.
    maker = path.name.lstrip(".").partition(".")[0].partition("-")[0]
    return [_beside(path, "lease"), path.with_name(f".{maker}.lock")]


def _is_unwanted(path: Path, horizon: float) -> bool:
    try:
        if path.name.startswith(".wheel-"):
            return path.stat().st_mtime < horizon
        if path.name.startswith("."):
            return path.name.endswith(".gone") or all(map(lock.is_free, _guards(path)))
        if not any((path / name).exists() for name in ("bin/python", "Scripts/python.exe")):
            return True
        marker = path / "suite.json"
        if marker.stat().st_mtime < horizon:
            return True
        project = json.loads(marker.read_bytes())["project"]
        return isinstance(project, str) and not Path(project).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False
