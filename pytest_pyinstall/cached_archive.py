"""An archive in the cache: where it lies, and whether it is still what it was."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from typing import TYPE_CHECKING, BinaryIO

from pytest_pyinstall.cache_file import OPEN_FLAGS, open_regular, remove, storage_error

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

    from pytest_pyinstall.build import Build
    from pytest_pyinstall.client import Client

__all__ = ["archive_path", "open_cached"]


def archive_path(cache: Path, build: Build) -> Path:
    """Where the archive of `build` lies in the cache, once it is there."""
    name = build.file_name
    # The name comes out of a URL. One that could mean something else here than a plain file gets a plain name.
    if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9_+.~@=-]{0,199}", name) or name.endswith(".part"):
        name = "archive"
    return cache / "archives" / build.sha256 / name


def open_cached(path: Path, build: Build, client: Client) -> BinaryIO | None:
    """The entry of the cache, open and checked; one that fails its check is gone afterwards, as far as we may."""
    try:
        file = open_regular(path, OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}:
            raise storage_error(path, error) from error
        flaw = error.strerror or "unreadable"
    else:
        flaw = _flaw(file, build)
        if not flaw:
            with contextlib.suppress(OSError):  # a cache that is not ours, or read-only, works all the same
                os.utime(path)
            return file
        with contextlib.suppress(OSError):
            file.close()
    client.warn(f"the cached {path} is damaged ({flaw}): fetching it anew")
    with contextlib.suppress(OSError):  # if it matters, writing the new one fails too, and says why
        remove(path)
    return None


def _flaw(file: BufferedReader, build: Build) -> str:
    """What is wrong with an open file; nothing, if it is the archive of `build`. Leaves it at offset 0."""
    try:
        size = os.fstat(file.fileno()).st_size
        if build.size is not None and size != build.size:
            return f"{size} instead of {build.size} bytes"
        if hashlib.file_digest(file, "sha256").hexdigest() != build.sha256:
            return "another sha256"
        file.seek(0)
    except OSError as error:
        return error.strerror or "unreadable"
    return ""
