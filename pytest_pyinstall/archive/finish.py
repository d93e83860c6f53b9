"""Makes a tree ready for its final place."""

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from glob import escape
from pathlib import Path

from pytest_pyinstall.archive.relocate import (
    BUILT_PREFIX,
    FILES_WITH_PREFIX,
    read_variables,
    relocate_text,
    standard_library,
)
from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.system.files import is_plain_file, matching, write_atomically

__all__ = ["EXTERNALLY_MANAGED", "finish", "run_tool"]


EXTERNALLY_MANAGED = """\
[externally-managed]
Error=This Python installation is managed by uv and should not be modified.
"""
"""Exactly what uv writes (PEP 668).

In a shared store, uv rewrites this file in place in each installation that it looks at. With another text, both tools
would overwrite each other again and again, and a reader could find an empty file. With the same text, nothing changes.
"""


_log = logging.getLogger(__name__)


Run = Callable[[Sequence[str]], None]


def run_tool(command: Sequence[str]) -> None:
    """Run a tool of the machine. Raises `OSError` or `subprocess.SubprocessError` when it fails."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def finish(tree: Path, *, key: Key, home: Path, tag: str, prefixes: Iterable[str] = (), run: Run = run_tool) -> None:
    """Make the unpacked `tree` of `key` ready to be renamed to `home`.

    Afterwards sysconfig data, the Makefile, config scripts and the scripts in ``bin`` contain `home`; ``.pc`` files
    contain no path. The tree has ``EXTERNALLY-MANAGED``, the names ``python``, ``python3`` and ``python3.X`` beside the
    interpreter and, if `tag` is not empty, the file ``BUILD`` from which uv reads the release. Files that the tree
    lacks are skipped, as in PyPy and GraalPy; on Windows no text contains a path.

    Each file is replaced by a new one and never written in place, because the tree can consist of hardlinks into a
    cache. Finishing a tree twice changes nothing. Raises `StoreError` if the disk fails. Two callers must not finish
    one tree at once.

    Source: uv's ``ensure_*`` methods of ``ManagedPythonInstallation``, which do less (they leave ``-L/install/lib``,
    the Makefile and ``libdir`` of ``.pc`` files as they are) and do it after publishing.
    """
    try:
        if key.target.os != "windows":
            _relocate(tree, key, home, prefixes)
        for directory in standard_library(key):
            if (tree / directory).is_dir():
                _replace(tree / directory / "EXTERNALLY-MANAGED", EXTERNALLY_MANAGED.encode())
                break
        if tag:
            _replace(tree / "BUILD", tag.encode())
        _add_canonical_names(tree, key)
        if key.target.os == "macos" and key.implementation == "cpython":
            _name_dylibs(tree, home, run)
    except OSError as error:
        from pytest_pyinstall.archive._tree_writer import store_error

        msg = f"cannot finish {key} in {tree}: {error}"
        raise StoreError(msg, hint=store_error(error, str(tree)).hint) from error


def _relocate(tree: Path, key: Key, home: Path, more: Iterable[str]) -> None:
    prefixes = {BUILT_PREFIX, *more}
    for path in matching(tree, "lib/*/_sysconfigdata_*.py"):
        recorded = read_variables(path.read_text("utf-8", "surrogateescape"))
        prefix = recorded.get("prefix")
        if isinstance(prefix, str) and len(prefix) > 1 and prefix.startswith("/"):
            prefixes.add(prefix)
    for path in (
        *_scripts(tree / "bin"),
        *(path for pattern in FILES_WITH_PREFIX for path in matching(tree, pattern)),
    ):
        if not is_plain_file(path):
            continue
        content = path.read_bytes()
        relative = path.relative_to(tree).as_posix()
        changed = relocate_text(relative, content, prefixes=prefixes, home=str(home), python=key.executable)
        if changed is not content and _replace(path, changed):
            _forget_bytecode(path)


def _scripts(directory: Path) -> Iterable[Path]:
    for path in matching(directory, "*"):
        if is_plain_file(path):
            with path.open("rb") as file:
                if file.read(2) == b"#!":
                    yield path


def _replace(path: Path, content: bytes) -> bool:
    """Put a new file with `content` at `path`, with the same mode. Returns False if it had that content already."""
    mode = 0o644
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content and not path.is_symlink():
            return False
        mode = path.stat().st_mode & 0o777
    write_atomically(path, content, mode=mode, ignore_umask=True)
    return True


def _forget_bytecode(path: Path) -> None:
    """If all times in a tree are equal, a stale ``.pyc`` whose source has the same size would pass for current."""
    for stale in matching(path.parent, f"__pycache__/{escape(path.stem)}.*.pyc"):
        stale.unlink()


def _add_canonical_names(tree: Path, key: Key) -> None:
    executable = tree / key.executable
    if not executable.is_file():
        return
    suffix = ".exe" if key.target.os == "windows" else ""
    minor = key.minor_version
    for name in ("python",) if suffix else ("python", "python3", f"python{minor}"):
        path = executable.with_name(name + suffix)
        if path == executable or os.path.lexists(path):
            continue
        if suffix:
            shutil.copy2(executable, path)
        else:
            path.symlink_to(executable.name)


def _name_dylibs(tree: Path, home: Path, run: Run) -> None:
    """Extensions in Rust or C that link libpython record its id, so the id must be its final path.

    Source: https://github.com/astral-sh/uv/issues/10598. It needs Xcode's tools; most users never need the id.
    """
    for path in matching(tree, "lib/libpython3*.dylib"):
        if path.is_symlink():
            continue
        new = path.with_name(f".{path.name}.new")
        try:
            shutil.copy2(path, new)
            run(["install_name_tool", "-id", str(home / "lib" / path.name), str(new)])
            new.replace(path)
        except (OSError, subprocess.SubprocessError) as error:
            new.unlink(missing_ok=True)
            _log.warning("cannot set the install name of %s: %s", home / "lib" / path.name, error)
