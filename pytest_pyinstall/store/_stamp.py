"""A note that an installation was whole a moment ago, by which the next look costs less than a millisecond.

To compare every entry with the record takes 5 ms. Whatever is deleted, added or replaced changes the time of its
directory, and there are a twentieth as many directories as entries; what may also be emptied in place and without which
nothing starts is looked at by itself. So a seal holds those times, and those of the record. It saves work and decides
nothing: where it does not hold, everything is compared, and after an hour it holds no more.
"""

from __future__ import annotations

import json
import os
import stat
import time
from typing import TYPE_CHECKING

from pytest_pyinstall.store.manifest import compare

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_pyinstall.store.manifest import Record

__all__ = ["VersionInfo", "read_seal", "write_seal"]


VersionInfo = tuple[int, int, int, str, int]


_FORMAT = 1


_SECONDS = 3600.0


_RECENT = 50_000_000
"""Nanoseconds. A filesystem's clock may stand still for ten milliseconds: what changed in the same tick as we looked
could change again without a trace."""


_STARTING = frozenset(
    {
        *("os.py", "site.py", "codecs.py", "io.py", "abc.py", "stat.py", "posixpath.py", "ntpath.py", "genericpath.py"),
        *("_collections_abc.py", "_sitebuiltins.py", "encodings/__init__.py", "encodings/aliases.py"),
        *("encodings/utf_8.py", "types.py", "enum.py", "functools.py", "collections/__init__.py", "re/__init__.py"),
        *("importlib/__init__.py", "importlib/_bootstrap.py", "subprocess.py", "json/__init__.py", "venv/__init__.py"),
    }
)


_LARGE = 1 << 20


def read_seal(path: Path, *, home: Path, record: Path, boot: str) -> VersionInfo | None:
    """The version of the Python at `home`, if the seal at `path` still holds. No lock, no write; never raises."""
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != _FORMAT or document["home"] != str(home) or document["boot"] not in {"", boot}:
            return None
        if not 0 <= time.time() - document["taken"] < _SECONDS or document["record"] != _signature(record):
            return None
        prefix = f"{home}{os.sep}"
        if _signature(home) != document["top"]:
            return None
        for name, seen in document["tree"].items():
            if _signature(prefix + name) != seen:
                return None
        major, minor, micro, level, serial = document["version_info"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return major, minor, micro, level, serial


def write_seal(path: Path, *, home: Path, record: Record, record_path: Path, boot: str, is_new: bool = False) -> bool:
    """Seal the installation at `home`, if it is as `record` says; False if it is not, or if it changed just now.

    One that `is_new` was published just now by the caller, out of whose hands `record` comes.

    Raises `OSError` where the seal cannot be written. Safe beside others who do the same.
    """
    prefix = f"{home}{os.sep}"
    names = [*(entry.name for entry in record.entries if entry.kind == "directory")]
    names += [entry.name for entry in record.entries if entry.kind == "file" and _tells(entry.name, entry.size)]
    # First what is remembered and then what is compared: a change in between breaks the seal.
    taken = time.time()
    tree = {name: _signature(prefix + name) for name in names}
    top = _signature(home)
    document = {
        "format": _FORMAT,
        "home": str(home),
        "boot": "" if record.is_durable else boot,
        "taken": taken,
        "record": _signature(record_path),
        "top": top,
        "tree": tree,
        "version_info": list(record.version_info),
    }
    newest = max(signature[2] for signature in (top, *tree.values()))
    is_recent = taken * 1e9 - newest < _RECENT
    if not is_new and (is_recent or compare(home, record.entries, content=False)):
        return False
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)  # whatever the umask
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, separators=(",", ":"))
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return True


def _tells(name: str, size: int) -> bool:
    """Whether nothing starts without this file, so that it is worth a look of its own."""
    top, _, rest = name.partition("/")
    if top == "bin" or size >= _LARGE or not rest:
        return True
    # lib/python3.12/os.py, Lib/os.py
    return rest.partition("/")[2] in _STARTING or (top == "Lib" and rest in _STARTING)


def _signature(path: str | Path) -> list[int]:
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        return [status.st_ino, stat.S_IMODE(status.st_mode), status.st_mtime_ns]
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode]
