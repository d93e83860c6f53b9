"""Digests of what in a project decides about the environments of its suite."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["metadata_digest", "tree_digest"]

_BUILD_FILES = (
    *("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "tox.toml", "uv.lock", "poetry.lock", "pdm.lock"),
    *("Pipfile.lock", "Cargo.toml", "Cargo.lock", "meson.build", "CMakeLists.txt"),
)
_COMPILED = re.compile(
    r"ext_modules|Extension\(|cffi_modules|maturin|scikit[-_]build|meson[-_]?python|mesonpy|setuptools[-_]rust|cython",
    re.IGNORECASE,
)
_SOURCES = {".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".pyx", ".pxd", ".pxi", ".rs", ".f", ".f90"}
_AT_THE_TOP = {".py", ".pyi", ".toml", ".cfg", ".in"}
_ROOTS = {"src", "lib", "python"}
"""Directories in which packages are."""
_NAMES_OF_TESTS = {"test", "tests", "testing"}
_NO_SOURCES = {"build", "dist", "node_modules", "__pycache__", "target", "docs"}


def metadata_digest(directory: Path, lines: Sequence[str], *, project: Path | None) -> str:
    """Changes with what decides about an environment: metadata, lock files, files that the requirements `lines` name.

    And with the sources of an extension of `project`: what is compiled when it is installed is not seen by an editable
    installation when it changes.
    """
    digest = hashlib.sha256()
    text = ""
    for name in (*_BUILD_FILES, *_locks(directory), *_referenced(directory, lines)):
        try:
            content = (directory / name).read_bytes()
        except OSError:
            continue
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
        if name in {"pyproject.toml", "setup.py", "setup.cfg"}:
            text += content.decode("utf-8", "replace")
    if project and _COMPILED.search(text):
        digest.update(tree_digest(project, _SOURCES).encode())
    return digest.hexdigest()


def _locks(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("pylock*.toml"))


def _referenced(directory: Path, requirements: Sequence[str]) -> list[str]:
    """Files that the requirements name, and those that these name."""
    found: list[str] = []
    waiting = list(requirements)
    while waiting:
        match = re.match(r"(?:-r|-c|--requirements?|--constraints?)[ =]*(\S+)", waiting.pop())
        if match is None or match[1] in found:
            continue
        found.append(match[1])
        path = directory / match[1]
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            inner = re.match(r"\s*(-r|-c|--requirement|--constraint)[ =]*(\S+)", line)
            waiting += [f"{inner[1]} {os.path.relpath(path.parent / inner[2], directory)}"] if inner else []
    return found


def tree_digest(directory: Path, suffixes: set[str] | None = None) -> str:
    """Changes with the size or the time of a file below `directory` that could be a source.

    With `suffixes`, of such a file alone; else of what a wheel could hold, which tests and what they write are not.
    """
    digest = hashlib.sha256()
    for parent, directories, files in os.walk(directory):
        is_top = parent == str(directory)
        directories[:] = sorted(name for name in directories if _is_of_sources(parent, name, suffixes, is_top=is_top))
        if "pyvenv.cfg" in files:
            directories.clear()
            continue
        wanted = _AT_THE_TOP if is_top and suffixes is None else suffixes
        for name in sorted(files):
            if wanted is None or os.path.splitext(name)[1] in wanted:  # noqa: PTH122  # text, in a hot loop
                path = os.path.join(parent, name)  # noqa: PTH118  # as above
                try:
                    state = os.stat(path)  # noqa: PTH116  # as above
                except OSError:
                    continue
                digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_of_sources(parent: str, name: str, suffixes: set[str] | None, *, is_top: bool) -> bool:
    if name.startswith(".") or name in _NO_SOURCES or "egg-info" in name:
        return False
    if suffixes is not None or not is_top or name in _ROOTS:
        return True
    try:
        return name not in _NAMES_OF_TESTS and any(
            found.endswith((".py", ".pyi"))
            for found in os.listdir(os.path.join(parent, name))  # noqa: PTH118, PTH208  # text
        )
    except OSError:
        return False
