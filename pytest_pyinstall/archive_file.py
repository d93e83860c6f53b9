"""Reads an archive's file, and says how much it may unpack to."""

import os
from typing import BinaryIO

from pytest_pyinstall.bounds import BOUNDS
from pytest_pyinstall.errors import StoreError

__all__ = ["budget_of", "read_error", "read_some"]

_READ = 128 << 10


def read_some(file: BinaryIO) -> bytes:
    """The next bytes of `file`, empty at its end. Raises `StoreError` where the disk does not give them."""
    try:
        return file.read(_READ)
    except OSError as error:
        raise read_error(error, file) from error


def read_error(error: OSError, file: BinaryIO) -> StoreError:
    """What to raise where `file` cannot be read."""
    msg = f"cannot read {getattr(file, 'name', 'the archive')}: {error.strerror or error}"
    return StoreError(msg, "fetch it anew after: pytest-pyinstall cache clear")


def budget_of(file: BinaryIO) -> int:
    """How many bytes an archive of this size may unpack to."""
    try:
        here = file.tell()
        size = file.seek(0, os.SEEK_END) - here
        file.seek(here)
    except OSError as error:
        raise read_error(error, file) from error
    return min(BOUNDS.unpacked, BOUNDS.ratio_free + BOUNDS.ratio * size)
