"""Reads files in place of downloads: the archives of a mirror directory, and catalogues. Imports no HTTP library."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pytest_pyinstall.download._response import MissingFileError, RetryPolicy
from pytest_pyinstall.errors import CatalogueError, FetchError
from pytest_pyinstall.system.files import OPEN_FLAGS, limit_hint, open_regular
from pytest_pyinstall.system.urls import redacted

__all__ = ["CATALOGUE", "open_file_url", "read_local", "too_long"]


_MIRROR_HINT = "to fill a mirror directory: pytest-pyinstall mirror pull DIR REQUEST; or --python-mirror URL"


def open_file_url(url: str, *, hint: str = _MIRROR_HINT, what: str = "cannot read") -> BinaryIO:
    """Open a file URL or a path. In a mirror directory, a ``+`` of a file name may be stored as ``+`` or ``%2B``."""
    paths = _local_paths(url)
    flaw = "no such file"
    limit = ""
    for path in paths:
        try:
            return open_regular(path, OPEN_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            flaw = getattr(error, "strerror", None) or str(error)
            limit = limit_hint(error) if isinstance(error, OSError) else ""
    kind = MissingFileError if flaw == "no such file" else FetchError
    if kind is MissingFileError:
        absent = [parent for parent in paths[0].parents if not os.path.exists(parent)]  # noqa: PTH110  # it never raises
        # A mirror has a directory for each release, so one that is absent is usual.
        flaw += f"; there is no directory {absent[-1]}" if len(absent) > 1 else ""
    raise kind(f"{what} {paths[0]}: {flaw}", hint=limit or hint)


def _local_paths(url: str) -> list[Path]:
    if not url.lower().startswith("file:"):
        return _spellings(Path(url))
    parts = urlsplit(url)
    if os.name == "nt":  # pragma: no cover  # needs drive letters
        from urllib.request import url2pathname

        host = f"//{parts.netloc}" if parts.netloc.lower() not in {"", "localhost"} else ""
        return [Path(url2pathname(host + parts.path)), Path(url2pathname(host + parts.path.replace("%", "%25")))]
    if parts.netloc.lower() not in {"", "localhost"}:
        msg = f"a file URL of another host cannot be read: {redacted(url)}"
        raise FetchError(msg, hint=f"file://{parts.path}")
    # A file name may contain a ? or a #.
    raw = re.sub(r"^file:(//[^/]*)?", "", url, flags=re.IGNORECASE)
    return list(dict.fromkeys([*_spellings(Path(unquote(raw))), Path(unquote(raw)).parent / raw.rpartition("/")[2]]))


def _spellings(path: Path) -> list[Path]:
    """`path`, and the other names that downloaders and web servers give to a file with a ``+`` in its name."""
    name = unquote(path.name)
    names = (path.name, name, name.replace("+", "%2B"), name.replace("+", "%2b"))
    return [path.with_name(each) for each in dict.fromkeys(names)] if path.name else [path]


CATALOGUE = "cannot download the catalogue"


def too_long(url: str, limits: RetryPolicy) -> CatalogueError:
    """The error for a document that is longer than a catalogue can be."""
    msg = f"more than {limits.catalogue_size} bytes cannot be a catalogue: {redacted(url)}"
    return CatalogueError(msg, hint="--python-catalogue URL")


def read_local(url: str, limits: RetryPolicy = RetryPolicy(), what: str = CATALOGUE) -> bytes:  # noqa: B008  # frozen
    """The catalogue in the file at `url`, a path or a file URL. `what` is the beginning of error messages.

    Raises `FetchError`, and `CatalogueError` if it is longer than `limits` allow.
    """
    try:
        reading = "cannot read the catalogue" if what == CATALOGUE else f"{what}: cannot read"
        hint = "--python-catalogue FILE, or URL" if what == CATALOGUE else _MIRROR_HINT
        with open_file_url(url, what=reading, hint=hint) as source:
            body = bytearray()
            while len(body) <= limits.catalogue_size and (chunk := source.read(1 << 20)):
                body += chunk
    except OSError as error:  # also when closing it
        msg = f"cannot read {redacted(url)}: {error.strerror}"
        raise FetchError(msg, hint="--python-catalogue FILE") from error
    if len(body) > limits.catalogue_size:
        raise too_long(url, limits)
    return bytes(body)
