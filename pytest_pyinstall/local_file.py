"""Opens what a path or a file URL of a mirror or a catalogue names."""

import os
import re
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pytest_pyinstall.cache_file import OPEN_FLAGS, open_regular
from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.url import redacted

__all__ = ["open_local"]


def open_local(url: str) -> BinaryIO:
    """Open what a file URL or a path names. Mirrors keep a ``+`` of the release's names as ``+`` or as ``%2B``."""
    paths = _local_paths(url)
    flaw = "no such file"
    for path in paths:
        try:
            return open_regular(path, OPEN_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            flaw = getattr(error, "strerror", None) or str(error)
    msg = f"cannot read {paths[0]}: {flaw}"
    raise FetchError(
        msg, hint="pytest-pyinstall mirror pull DIR REQUEST fills a mirror directory; or --python-mirror URL"
    )


def _local_paths(url: str) -> list[Path]:
    if not url.lower().startswith("file:"):
        path = Path(url)
        return list(dict.fromkeys([path, path.parent / unquote(path.name)]))
    parts = urlsplit(url)
    if os.name == "nt":  # pragma: no cover  # needs drive letters
        from urllib.request import url2pathname

        host = f"//{parts.netloc}" if parts.netloc.lower() not in {"", "localhost"} else ""
        return [Path(url2pathname(host + parts.path)), Path(url2pathname(host + parts.path.replace("%", "%25")))]
    if parts.netloc.lower() not in {"", "localhost"}:
        msg = f"a file URL of another host cannot be read: {redacted(url)}"
        raise FetchError(msg, hint=f"file://{parts.path}")
    # The name of a file may have a ? or a # in it.
    raw = re.sub(r"^file:(//[^/]*)?", "", url, flags=re.IGNORECASE)
    return list(dict.fromkeys([Path(unquote(raw)), Path(unquote(raw)).parent / raw.rpartition("/")[2]]))
