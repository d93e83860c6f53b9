"""What was published, written down beside the store's installations.

A record says which archive an installation came from and what its tree held when it was published. An installation
without a record is somebody else's (uv makes such ones in a shared store); one that does not match its record is
broken.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from packaging.version import Version

from pytest_pyinstall.attestation import Attestation
from pytest_pyinstall.build import Build
from pytest_pyinstall.key import Key
from pytest_pyinstall.tree import Entry

__all__ = ["Record"]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One ``records/<key>.json``.

    `home` is the final path that the tree was finished for. `inode` is the top directory's, `replaces` that of the
    tree which it took the place of, 0 where there was none: while a publication is under way they tell the new tree
    from the old. `boot` is the run of the machine in which the tree was written, `is_durable` whether a later run
    found it whole. `published` is UTC in ISO 8601, `by` the name and version of the writer. `attestation`
    is what was verified of the archive, where that was required.
    """

    build: Build
    home: str
    version_info: tuple[int, int, int, str, int]
    entries: tuple[Entry, ...]
    inode: int
    replaces: int
    boot: str
    is_durable: bool
    published: str
    by: str
    attestation: Attestation | None = None

    def write(self, path: Path, *, scratch_directory: Path | None = None) -> None:
        """Put the record under its name in one step; until then it is a file in `scratch_directory`, on the same
        filesystem (default: a name with a dot beside `path`). Raises `OSError`."""
        document = {
            "format": _FORMAT,
            "key": str(self.build.key),
            "url": self.build.url,
            "sha256": self.build.sha256,
            "size": self.build.size,
            "tag": self.build.tag,
            "bundle_url": self.build.attestation,
            "home": self.home,
            "version_info": list(self.version_info),
            "inode": self.inode,
            "replaces": self.replaces,
            "boot": self.boot,
            "durable": self.is_durable,
            "published": self.published,
            "by": self.by,
            "attestation": self.attestation and self.attestation.to_json(),
            "tree": [entry.to_json() for entry in self.entries],
        }
        scratch = (scratch_directory or path.parent) / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, separators=(",", ":"))
                file.flush()
                # An empty record after a power cut would make a whole tree look like somebody else's.
                os.fsync(file.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record at `path`; None where there is none that can be understood. Raises `OSError` where it cannot be
        read for another reason than that it is missing."""
        try:
            document: Any = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        try:
            if document["format"] != _FORMAT:
                return None
            return cls(
                build=Build(
                    key=Key.parse(document["key"]),
                    url=document["url"],
                    sha256=document["sha256"],
                    size=document["size"],
                    tag=document["tag"],
                    attestation=document.get("bundle_url"),
                ),
                home=document["home"],
                version_info=_version_info(document["version_info"]),
                entries=tuple([Entry.from_json(row) for row in document["tree"]]),
                inode=document["inode"],
                replaces=document["replaces"],
                boot=document["boot"],
                is_durable=document["durable"],
                published=document["published"],
                by=document["by"],
                attestation=_attestation(document.get("attestation")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def version(self) -> Version:
        return self.build.key.version


def _attestation(document: Any) -> Attestation | None:
    """One that cannot be understood, of another version of ours, proves nothing; the rest of the record is right."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return Attestation.from_json(document)
    return None


def _version_info(parts: Any) -> tuple[int, int, int, str, int]:
    major, minor, micro, level, serial = parts
    return (int(major), int(minor), int(micro), str(level), int(serial))
