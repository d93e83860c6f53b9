"""Checks that an environment is as it was made: no file lost, emptied, changed or added, no byte code cut off.

``content.json`` lists its files with size, time and digest. A file with the same size and time counts as unchanged. If
the time differs, the content is compared. After a reboot all files are compared, because a power cut leaves files that
are empty or full of zeros. Byte code is written later, when modules are imported. The environment's own Python loads
each new file of byte code once, and ``bytecode.json`` lists the files that it could load.
"""

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import current_boot, write_atomically

__all__ = ["find_damage", "record_contents"]

_CONTENT, _BYTECODE = "content.json", "bytecode.json"
_NOT_LISTED = {_CONTENT, _BYTECODE, "suite.json", ".lock"}
_PLUGIN_DIRECTORY = "pytest-pyinstall"
"""The directory of the worker plugin, which `run.prepare_plugin` checks."""
_BYTECODE_DIRECTORY = "__pycache__"

_CHECK = """\
import marshal, sys
for name in sys.stdin.buffer.read().split(b"\\0"):
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError:
        continue
    for header in (16,) if sys.version_info >= (3, 7) else (12, 16):
        try:
            marshal.loads(data[header:])
        except Exception:
            continue
        break
    else:
        sys.stdout.buffer.write(name + b"\\0")
"""


def record_contents(environment: Path) -> None:
    """Write ``content.json``, the list of what is in `environment`, which must be whole now. Raises `OSError`."""
    files = []
    links = []
    for path in _entries(environment):
        name = os.path.relpath(path, environment)
        if os.path.islink(path):  # noqa: PTH114  # text, in a hot loop
            links.append([name, os.readlink(path)])
        else:
            status = os.lstat(path)
            files.append([name, status.st_size, status.st_mtime_ns, _digest(path)])
    document = {"boot": current_boot(), "files": files, "links": links, "importable": _importable(environment)}
    _write(environment / _CONTENT, document)


def find_damage(environment: Path, python: Path) -> str | None:
    """Describe the first damage to `environment`, whose Python is `python`; None if there is none.

    Raises `OSError`, `ValueError`, `KeyError` or `TypeError` if ``content.json`` cannot be read. Tries to update the
    times in it, and ``bytecode.json``.
    """
    document = parse_json((environment / _CONTENT).read_bytes())
    times = [row[2] for row in document["files"]]
    is_same_boot: bool = document["boot"] == current_boot()
    document["boot"] = current_boot()
    bad = _bad_file(environment, document["files"], is_same_boot=is_same_boot)
    bad = bad or next(
        filter(None, (_bad_link(f"{environment}{os.sep}{row[0]}", *row) for row in document["links"])), None
    )
    if bad is None and (added := sorted(set(_importable(environment)) - set(document["importable"]))):
        bad = f"{added[0]} was added to it"
    bad = bad or _bad_bytecode(environment, python, document["files"], is_same_boot=is_same_boot)
    if bad is None and not (is_same_boot and times == [row[2] for row in document["files"]]):
        with contextlib.suppress(OSError):
            _write(environment / _CONTENT, document)
    return bad


def _bad_file(environment: Path, files: list[Any], *, is_same_boot: bool) -> str | None:
    """Describe the first changed file. Updates the times in `files`."""
    for row in files:
        name, size, time, digest = row
        path = f"{environment}{os.sep}{name}"
        try:
            status = os.lstat(path)
        except OSError:
            return f"{name} is missing"
        if status.st_size != size:
            return f"{name} has {status.st_size} bytes instead of {size}"
        if status.st_mtime_ns != time or not is_same_boot:
            if _digest(path) != digest:
                return f"{name} was changed"
            row[2] = status.st_mtime_ns
    return None


def _bad_link(path: str, name: str, target: str) -> str | None:
    try:
        return None if os.readlink(path) == target else f"{name} was changed"
    except OSError:
        return f"{name} is missing"


def _bad_bytecode(environment: Path, python: Path, files: list[Any], *, is_same_boot: bool) -> str | None:
    known: dict[str, Any] = {}
    if is_same_boot:
        with contextlib.suppress(OSError, ValueError):
            known = parse_json((environment / _BYTECODE).read_bytes())
    found: dict[str, Any] = {}
    unknown: list[str] = []
    for directory in dict.fromkeys(row[0].rpartition(os.sep)[0] for row in files if row[0].endswith(".py")):
        cache = f"{environment}{os.sep}{directory}{os.sep}{_BYTECODE_DIRECTORY}"
        try:
            time = os.stat(cache).st_mtime_ns  # noqa: PTH116  # text, in a hot loop
        except OSError:
            continue
        before = known.get(directory) or [None, {}]
        names = before[1] if before[0] == time else [name for name in os.listdir(cache) if name.endswith(".pyc")]  # noqa: PTH208  # as above
        rows: dict[str, list[int]] = {}
        for name in names:
            path = f"{cache}{os.sep}{name}"
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                rows[name] = [status.st_size, status.st_mtime_ns]
                if rows[name] != before[1].get(name):
                    unknown.append(path)
        found[directory] = [time, rows]
    if not unknown:
        return None
    command = [str(python), "-I", "-S", "-c", _CHECK]
    text = b"\0".join(map(os.fsencode, unknown))
    done = subprocess.run(command, input=text, capture_output=True, check=False, timeout=120)
    if done.returncode:
        return f"{os.path.relpath(python, environment)} does not start"
    if done.stdout:
        return f"{os.path.relpath(os.fsdecode(done.stdout.split(bytes(1))[0]), environment)} is damaged"
    with contextlib.suppress(OSError):
        _write(environment / _BYTECODE, found)
    return None


def _entries(environment: Path) -> Iterator[str]:
    for parent, directories, files in os.walk(environment):
        is_top = parent == str(environment)
        directories[:] = [
            name for name in directories if name != _BYTECODE_DIRECTORY and not (is_top and name == _PLUGIN_DIRECTORY)
        ]
        links = [name for name in directories if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118  # text
        for name in [*links, *files]:
            if not (is_top and name in _NOT_LISTED) and not name.endswith((".pyc", ".pyo")):
                yield os.path.join(parent, name)  # noqa: PTH118  # as above


def _importable(environment: Path) -> list[str]:
    """The modules, packages, distributions and ``.pth`` files in site-packages.

    Without the ``.pth`` file that coverage 7.10 with ``patch = subprocess`` writes, and deletes at its end.
    """
    places = (*environment.glob("lib/*/site-packages"), *environment.glob("Lib/site-packages"))
    names = (name for place in places for name in os.listdir(place))  # noqa: PTH208  # text
    return sorted(name for name in names if name != _BYTECODE_DIRECTORY and not name.startswith((".", "subcover_")))


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, document: object) -> None:
    write_atomically(path, json.dumps(document).encode("utf-8", "surrogateescape"))
