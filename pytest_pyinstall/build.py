"""A row of the catalogue, and the archive that it becomes once its bytes were checked."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pytest_pyinstall.key import Key

__all__ = ["Archive", "Build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Something that can be installed: where it is, and the digest that decides whether it is the right thing.

    `size` is in bytes and None where the catalogue does not know it. `attestation` is where the catalogue says that
    the archive's Sigstore bundle is. `tag` is the release it came with
    (``20261021``), empty where there is none. A build without a digest never becomes one of these.
    """

    key: Key
    url: str
    sha256: str
    size: int | None = None
    tag: str = ""
    attestation: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of the URL's path, percent-decoded: ``cpython-3.12.4+20261021-….tar.gz``."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file whose size and sha256 were checked. Only `fetch` makes one.

    `file` is open for reading, at offset 0, and is the very descriptor that was hashed: nobody can swap the
    content between the check and the unpacking by renaming something over the path.
    """

    build: Build
    file: BinaryIO
