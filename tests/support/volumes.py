"""Real filesystems for tests that fill them or cut their power. A test is skipped if the machine cannot mount one."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["image", "loop", "tmpfs"]


@contextlib.contextmanager
def tmpfs(where: Path, options: str) -> Iterator[Path]:
    """A filesystem in memory."""
    with _mounted(where, "-t", "tmpfs", "-o", options, "tmpfs"):
        yield where


@contextlib.contextmanager
def loop(backing: Path, where: Path, options: str = "") -> Iterator[Path]:
    """The filesystem in the file `backing`."""
    with _mounted(where, "-o", ",".join(filter(None, ("loop", options))), str(backing)):
        yield where


def image(backing: Path, kind: str, size: int) -> Path:
    """An empty filesystem of `kind` in the new file `backing`."""
    tool = shutil.which(f"mkfs.{kind}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if tool is None:
        pytest.skip(f"needs mkfs.{kind}")
    with backing.open("wb") as file:
        file.truncate(size)
    subprocess.run([tool, "-q", str(backing)], check=True, capture_output=True)
    return backing


@contextlib.contextmanager
def _mounted(where: Path, *arguments: str) -> Iterator[None]:
    where.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(["mount", *arguments, str(where)], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"needs mount: {error}")
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(where)], check=False, capture_output=True)
