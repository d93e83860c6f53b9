"""Packs a Python of the Linux distribution, below /usr among other programs: which files and texts belong to it.

Debian's CPython, its debug build and its PyPy find their files relative to their executable, as any other Python does.
Only two things do not move with them: libpython, which is in a directory of the system, and is found through a relative
search path in the packed copy, and the wheels of pip, which ensurepip takes from /usr/share.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from pytest_pyinstall.archive.relocate import BUILT_PREFIX
from pytest_pyinstall.request.identity import Key

__all__ = ["PREFIX", "files", "libpython", "relocated", "search_of_libpython", "wheels_in_place"]

PREFIX = Path("/usr")
_WHEELS = Path("/usr/share/python-wheels")
"""Where Debian and Fedora install the wheels of ensurepip."""


def libpython(mapped: Iterable[str]) -> Path | None:
    """The libpython among the files that a process has mapped."""
    found = (Path(name) for name in mapped if re.match(r"lib(?:python|pypy)[\d.]+\S*\.so", PurePosixPath(name).name))
    return next(found, None)


def files(executable: Path, key: Key, library: str, shared: Path | None) -> dict[str, Path]:
    """The files outside the directory of the standard library, by their path in the archive."""
    found = {key.executable: executable}
    if shared is not None:
        found[f"lib/{shared.name}"] = shared.resolve()
    found |= {f"{library}/ensurepip/_bundled/{path.name}": path for path in sorted(_WHEELS.glob("*.whl"))}
    return found


def search_of_libpython(relative: str) -> str:
    """The search path that leads from the file at `relative` to ``lib``."""
    up = "/".join([".."] * (len(PurePosixPath(relative).parts) - 1))
    return f"$ORIGIN/{up}/lib"


def relocated(content: bytes, library: str) -> bytes:
    """`content` with `BUILT_PREFIX` for every path in /usr that belongs to this Python.

    Other paths, such as ``/usr/bin/install``, are of the machine on which it will run, and stay.
    """
    text = content.decode("utf-8", "surrogateescape")
    name = re.escape(PurePosixPath(library).name)
    text = re.sub(rf"/usr/lib/[\w-]+/(?={name}\b)", f"{BUILT_PREFIX}/lib/", text)
    text = re.sub(rf"/usr(?=/(?:lib|include)/{name})", BUILT_PREFIX, text)
    text = text.replace(f"{_WHEELS}/", f"{BUILT_PREFIX}/{library}/ensurepip/_bundled/")
    # The prefix itself, and the directories of headers and programs.
    text = re.sub(r"(?<=['\"])/usr(?=(?:/bin|/include)?['\"])", BUILT_PREFIX, text)
    text = re.sub(r"(?m)^((?:exec_)?prefix\s*=\s*)/usr$", rf"\1{BUILT_PREFIX}", text)
    return text.encode("utf-8", "surrogateescape")


def wheels_in_place(selected: Mapping[str, Path], library: str) -> dict[str, bytes]:
    """The changed ensurepip of a PyPy, whose source contains the directory of the wheels."""
    name = f"{library}/ensurepip/__init__.py"
    path = selected.get(name)
    content = path.read_bytes() if path else b""
    literal = f"'{_WHEELS}".encode()
    if literal not in content:
        return {}
    return {name: content.replace(literal, b"os.path.dirname(os.path.abspath(__file__)) + '/_bundled")}
